//! The door of a source into its stage.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::stage::{Acknowledge, Answer, NewEvent, Refusal};

/// A body of events, taken whole or not at all.
#[derive(Debug)]
pub struct Offer {
    /// In order.
    pub events: Vec<NewEvent>,
    /// When the answer is due, from now; none: as long as it takes.
    pub deadline: Option<Duration>,
    /// What the answer means.
    pub acknowledge: Acknowledge,
}

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct SourceHandle {
    pub(crate) offers: mpsc::Sender<(Offer, oneshot::Sender<Result<Pending, Refusal>>)>,
    pub(crate) room: tokio::sync::watch::Receiver<bool>,
    pub(crate) draining: CancellationToken,
}

/// Events that were taken, until their answer.
#[derive(Debug)]
pub struct Pending {
    pub(crate) answers: oneshot::Receiver<Vec<Answer>>,
    pub(crate) count: usize,
}

impl SourceHandle {
    /// Asks for admission. `Err` means that nothing was taken.
    pub async fn offer(&self, offer: Offer) -> Result<Pending, Refusal> {
        let (reply, answer) = oneshot::channel();
        if self.offers.send((offer, reply)).await.is_err() {
            return Err(Refusal::Draining);
        }
        answer.await.unwrap_or(Err(Refusal::Draining))
    }

    /// Resolves when the log has room again (a new offer may still be refused).
    pub async fn room(&self) {
        let mut room = self.room.clone();
        // The sender's end means that the stage is gone: the next offer says so.
        let _gone = room.wait_for(|free| *free).await;
    }

    /// Resolves when the stage begins to drain.
    pub async fn draining(&self) {
        self.draining.cancelled().await;
    }

    /// Whether the stage drains.
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }
}

impl Pending {
    /// One answer an event, in the order of the offer; by the deadline at the latest.
    pub async fn answers(self) -> Vec<Answer> {
        let count = self.count;
        self.answers.await.unwrap_or_else(|_| vec![Answer::Unknown; count])
    }
}
