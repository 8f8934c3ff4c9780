//! Links between stages of one process: the stage's own channels, without a wire between.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use jaiminho_core::{LinkError, Subscribe};
use jaiminho_runtime::{Address, Connect, LinkHalf, Serve};

/// A stage that does not answer a `Subscribe` in this time is unavailable.
const SUBSCRIBED_DEADLINE: Duration = Duration::from_secs(10);

/// The stages of this process by name; an [`Address`] is such a name. Clones share them.
#[derive(Clone, Default)]
pub struct InProcess(Arc<RwLock<HashMap<String, Arc<dyn Serve>>>>);

impl InProcess {
    /// No stages yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a stage, or replaces the one of that name; links that are open stay.
    pub fn register(&self, name: impl Into<String>, stage: Arc<dyn Serve>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(name.into(), stage);
    }

    /// Where a registered stage is.
    pub fn address(name: impl Into<String>) -> Address {
        Address(name.into())
    }

    fn stage(&self, name: &str) -> Option<Arc<dyn Serve>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}

impl Connect for InProcess {
    fn connect<'a>(&'a self, address: &'a Address, subscribe: Subscribe) -> BoxFuture<'a, Result<LinkHalf, LinkError>> {
        async move {
            let stage = self
                .stage(&address.0)
                .ok_or_else(|| LinkError::Unavailable(format!("no stage {} in this process", address.0)))?;
            tokio::time::timeout(SUBSCRIBED_DEADLINE, stage.subscribe(subscribe))
                .await
                .unwrap_or_else(|_| Err(LinkError::Unavailable(format!("stage {} does not answer", address.0))))
        }
        .boxed()
    }
}
