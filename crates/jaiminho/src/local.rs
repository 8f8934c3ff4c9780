//! Stages of one process.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::future::BoxFuture;
use jaiminho_core::Instance;
use jaiminho_link::InProcess;
use jaiminho_runtime::{Address, Connect, Discover, StageHandle};
use tokio::sync::watch;

use crate::{
    Stage,
    instance::{incarnation, numbered},
    running::{Reach, Running, started},
};

/// The instances of each stage.
type Instances = BTreeMap<String, Vec<(Address, StageHandle)>>;

/// Starts stages in this process, and lets them find each other by name, in any order. Clones share them.
#[derive(Clone)]
pub struct Local {
    links: InProcess,
    instances: Arc<watch::Sender<Instances>>,
}

impl Default for Local {
    fn default() -> Self {
        Self { links: InProcess::new(), instances: Arc::new(watch::Sender::new(Instances::new())) }
    }
}

impl Local {
    /// No stages yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts an instance of a stage. Must be called within a tokio runtime.
    pub fn start(&self, stage: Stage) -> Running {
        let (name, chosen) = (stage.name.clone(), stage.instance.clone());
        let instance = Instance { name: chosen.unwrap_or_else(|| numbered(&name)), incarnation: incarnation() };
        let address = Address(instance.name.clone());
        let reach = self.reach();
        let handle = started(stage, instance, &reach);
        self.links.register(address.0.clone(), Arc::new(handle.clone()));
        self.instances.send_modify(|instances| {
            for others in instances.values_mut() {
                others.retain(|(other, running)| !running.has_ended() && *other != address);
            }
            instances.entry(name).or_default().push((address, handle.clone()));
        });
        Running { handle, reach, serving: None }
    }

    fn reach(&self) -> Reach {
        let (links, instances) = (self.links.clone(), self.instances.clone());
        Arc::new(move |stage| {
            let known = Known { stage: stage.to_owned(), instances: instances.subscribe(), last: None };
            let connect: Arc<dyn Connect> = Arc::new(links.clone());
            (Box::new(known), connect)
        })
    }
}

impl std::fmt::Debug for Local {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Local").field("stages", &self.instances.borrow().keys().collect::<Vec<_>>()).finish()
    }
}

/// The instances of one stage.
struct Known {
    stage: String,
    instances: watch::Receiver<Instances>,
    last: Option<Vec<Address>>,
}

impl Known {
    fn present(&mut self) -> Vec<Address> {
        let instances = self.instances.borrow_and_update();
        let of_stage = instances.get(&self.stage).into_iter().flatten();
        of_stage.map(|(address, _)| address.clone()).collect()
    }
}

impl Discover for Known {
    fn changed(&mut self) -> BoxFuture<'_, Vec<Address>> {
        Box::pin(async move {
            loop {
                let present = self.present();
                if self.last.as_ref() != Some(&present) {
                    self.last = Some(present.clone());
                    return present;
                }
                if self.instances.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        })
    }
}
