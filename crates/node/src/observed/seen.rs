//! Looks at a pipeline, again and again.

use std::sync::Arc;

use jaiminho_observe::{INTERVAL, Record, View, Watcher};
use tokio::{sync::watch, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::Reached;

/// What is seen of a pipeline: the latest look, and those of the last 15 minutes.
pub(crate) struct Seen {
    pub(crate) views: watch::Receiver<Arc<View>>,
    pub(crate) record: Record,
    /// Where it is looked at now.
    pub(crate) reached: watch::Receiver<Arc<Reached>>,
}

impl Seen {
    /// Looks once a second until `stop`; `first` is what has been seen so far. A `jaiminho up` that has started again is found.
    pub(crate) fn by(
        watcher: Watcher,
        first: View,
        reached: Reached,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let (sender, views) = watch::channel(Arc::new(first));
        let (turned, reached) = watch::channel(Arc::new(reached));
        let record = watcher.record();
        tasks.spawn(async move {
            tokio::select! {
                () = look_on(watcher, sender, turned) => {}
                () = stop.cancelled() => {}
            }
        });
        Self { views, record, reached }
    }
}

/// Until nobody is shown it any more.
async fn look_on(mut watcher: Watcher, views: watch::Sender<Arc<View>>, reached: watch::Sender<Arc<Reached>>) {
    while !views.is_closed() {
        watcher.wait_until(Instant::now() + INTERVAL).await;
        let view = watcher.look().await;
        let elsewhere = if view.is_unseen() { reached.borrow().elsewhere() } else { None };
        if let Some(elsewhere) = elsewhere {
            watcher.turn_to(elsewhere.plan.clone(), elsewhere.targets());
            reached.send_replace(Arc::new(elsewhere));
        }
        views.send_replace(Arc::new(view));
    }
}
