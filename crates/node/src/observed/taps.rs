//! The console's taps.

use std::sync::Arc;

use futures_util::{StreamExt as _, future::BoxFuture, stream};
use jaiminho_observe::{TapEvents, TapRequest, Tapped, Taps};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::Reached;
use crate::commands::tap::{as_json, refused};

/// Events a second that a page is sent.
const RATE: f64 = 10.0;

/// Opens taps on what was reached.
pub(crate) struct PipelineTaps {
    pub(crate) reached: watch::Receiver<Arc<Reached>>,
    /// Of the links.
    pub(crate) tasks: TaskTracker,
}

impl Taps for PipelineTaps {
    fn tap(&self, TapRequest { output, filter }: TapRequest) -> BoxFuture<'_, Result<TapEvents, String>> {
        Box::pin(async move {
            let reached = self.reached.borrow().clone();
            let tap = reached.tap(&output, &filter, RATE, self.tasks.clone()).map_err(|failure| failure.text)?;
            let open = tap.open().await.map_err(|error| refused(&output, &error).text)?;
            let events = stream::unfold(open, |mut open| async move {
                loop {
                    // A link that is lost is opened again.
                    if let Tapped::Event(_, event) = open.next().await {
                        return Some((Ok(as_json(&event)), open));
                    }
                }
            });
            Ok(events.boxed())
        })
    }
}
