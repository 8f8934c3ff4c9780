//! Looks at a pipeline, again and again.

use std::sync::Arc;

use jaiminho_observe::{Record, View, Watcher};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What is seen of a pipeline: the latest look, and those of the last 15 minutes.
pub(crate) struct Seen {
    pub(crate) views: watch::Receiver<Arc<View>>,
    pub(crate) record: Record,
}

impl Seen {
    /// Looks once a second until `stop`; `first` is what has been seen so far.
    pub(crate) fn by(watcher: Watcher, first: View, tasks: &TaskTracker, stop: CancellationToken) -> Self {
        let (sender, views) = watch::channel(Arc::new(first));
        let record = watcher.record();
        tasks.spawn(async move {
            tokio::select! {
                () = watcher.run(sender) => {}
                () = stop.cancelled() => {}
            }
        });
        Self { views, record }
    }
}
