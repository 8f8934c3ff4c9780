//! How a sink reports what became of its events, from any thread.

use std::sync::{Arc, Mutex, PoisonError};

use jaiminho_core::Outcome;
use tokio::sync::Notify;

use crate::{inspection::Troubles, stage::Receipt};

/// A sink's way to settle. Cheap to clone; never blocks. Holds at most one entry for each unsettled receipt.
#[derive(Clone, Debug, Default)]
pub struct Settler(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    settled: Mutex<Vec<(Receipt, Outcome)>>,
    ready: Notify,
    troubles: Troubles,
}

impl Settler {
    /// Settles one event. A second time for one receipt changes nothing.
    pub fn settle(&self, receipt: Receipt, outcome: Outcome) {
        self.settle_all([(receipt, outcome)]);
    }

    /// Settles many with one wake-up.
    pub fn settle_all(&self, settled: impl IntoIterator<Item = (Receipt, Outcome)>) {
        self.0.settled.lock().unwrap_or_else(PoisonError::into_inner).extend(settled);
        self.0.ready.notify_one();
    }

    /// Where the sink says what keeps it from settling.
    pub fn troubles(&self) -> &Troubles {
        &self.0.troubles
    }

    /// Waits until something is settled, and takes all of it. For the stage's task, and for tests of sinks.
    pub async fn take(&self) -> Vec<(Receipt, Outcome)> {
        loop {
            let taken = std::mem::take(&mut *self.0.settled.lock().unwrap_or_else(PoisonError::into_inner));
            if !taken.is_empty() {
                return taken;
            }
            self.0.ready.notified().await;
        }
    }
}

impl Receipt {
    /// A receipt for tests of sinks.
    pub fn for_test(number: u64) -> Self {
        Self(number)
    }
}
