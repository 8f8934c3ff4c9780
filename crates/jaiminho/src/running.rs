//! A stage that runs.

use std::{
    any::Any,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jaiminho_core::{Demand, Instance};
use jaiminho_runtime::{Connect, Discover, NotTaken, SourceHandle, StageEnd, StageHandle, StageStatus, spawn};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{Stage, Upstream, stage::spec};

/// How a running stage finds others.
pub(crate) type Reach = Arc<dyn Fn(&str) -> (Box<dyn Discover>, Arc<dyn Connect>) + Send + Sync>;

/// Spawns a stage, which nobody can reach yet.
pub(crate) fn started(stage: Stage, instance: Instance, reach: &Reach) -> StageHandle {
    let (demand, announces) = (stage.demand, stage.announces.clone());
    let handle = spawn(stage.config(instance, |stage| reach(stage)));
    // Nobody has told it anything yet: there is room.
    let _taken = handle.begin_with(demand);
    if let Some(slot) = announces {
        // A stage starts once.
        let _first = slot.set(handle.clone());
    }
    handle
}

/// Handle of a running stage. Cheap to clone; the stage goes on when all handles are dropped.
#[derive(Clone)]
pub struct Running {
    pub(crate) handle: StageHandle,
    pub(crate) reach: Reach,
    pub(crate) serving: Option<Arc<Serving>>,
}

/// The port of a running stage.
pub(crate) struct Serving {
    pub(crate) address: SocketAddr,
    pub(crate) stop: CancellationToken,
    pub(crate) task: Mutex<Option<JoinHandle<()>>>,
}

impl Running {
    /// Takes nothing new, finishes what is in flight, leaves; by the deadline at the latest.
    pub async fn drain(&self, within: Duration) -> StageEnd {
        self.handle.begin_drain(within);
        self.ended().await
    }

    /// Resolves when the stage has ended, and its port is closed.
    pub async fn ended(&self) -> StageEnd {
        let end = self.handle.ended().await;
        if let Some(serving) = &self.serving {
            serving.stop.cancel();
            let task = serving.task.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(task) = task {
                // It has no result: a panic in it is logged by the runtime.
                let _done = task.await;
            }
        }
        end
    }

    /// Runs until the stage ends or the process is told to (SIGTERM, SIGINT); then drains.
    ///
    /// # Errors
    /// Signals can't be heard here.
    pub async fn until_terminated(&self, drain: Duration) -> std::io::Result<StageEnd> {
        use tokio::signal::unix::{SignalKind, signal};
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::select! {
            end = self.ended() => return Ok(end),
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(self.drain(drain).await)
    }

    /// Sends a message to the stage's own handler, behind all events that are there before it.
    ///
    /// # Errors
    /// The stage has ended or has no handler, or 1,024 messages wait.
    pub async fn info(&self, info: impl Any + Send + Sync) -> Result<(), NotTaken> {
        self.handle.info(Arc::new(info)).await
    }

    /// From now on what consumers ask for, and what is emitted, waits.
    ///
    /// # Errors
    /// The stage has ended.
    pub async fn accumulate(&self) -> Result<(), NotTaken> {
        self.handle.set_demand(Demand::Accumulate).await
    }

    /// From now on demand and events go on again, and first what has waited.
    ///
    /// # Errors
    /// The stage has ended.
    pub async fn forward(&self) -> Result<(), NotTaken> {
        self.handle.set_demand(Demand::Forward).await
    }

    /// Subscribes to one more output while the stage runs. None: it leaves.
    pub async fn subscribe_to(&self, upstream: impl Into<Upstream>) -> Option<Subscribed> {
        let reach = self.reach.clone();
        let spec = spec(upstream.into(), &mut |stage: &str| reach(stage));
        self.handle.subscribe_to(spec).await.map(Subscribed)
    }

    /// Ends a subscription and begins another in its place: what the old one has brought is handled first, and its
    /// `handle_cancel` comes before the new one's `handle_subscribe`. The stage goes on, also where the old one is
    /// [permanent](Upstream::permanent). None: the stage leaves.
    pub async fn resubscribe(&self, old: Subscribed, upstream: impl Into<Upstream>) -> Option<Subscribed> {
        let reach = self.reach.clone();
        let spec = spec(upstream.into(), &mut |stage: &str| reach(stage));
        self.handle.resubscribe(old.0, spec).await.map(Subscribed)
    }

    /// Ends a subscription: what it has brought is finished.
    pub async fn unsubscribe(&self, subscribed: Subscribed) {
        self.handle.unsubscribe(subscribed.0).await;
    }

    /// How the stage is just now: its links, its logs, the demand for its events. None: it has ended.
    pub async fn status(&self) -> Option<StageStatus> {
        self.handle.status().await
    }

    /// Where it listens, if it does.
    pub fn address(&self) -> Option<SocketAddr> {
        self.serving.as_ref().map(|serving| serving.address)
    }

    /// The door of a stage whose events are offered from outside.
    pub fn source(&self) -> SourceHandle {
        self.handle.source()
    }
}

/// A subscription of a running stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribed(usize);

impl Subscribed {
    /// The `n`th that the stage was made with, from 0.
    pub fn of_stage(n: usize) -> Self {
        Self(n)
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("address", &self.address()).finish_non_exhaustive()
    }
}
