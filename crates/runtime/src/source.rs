//! The door of a source into its stage.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::stage::{Acknowledge, Answer, NewEvent, Refusal, Source, SourceError};

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

/// A source without events of its own: they are offered from outside, through [`StageHandle::source`](crate::StageHandle::source).
#[derive(Clone, Copy, Debug)]
pub struct Outside;

impl Source for Outside {
    fn run(self: Box<Self>, handle: SourceHandle) -> BoxFuture<'static, Result<(), SourceError>> {
        Box::pin(async move {
            handle.draining().await;
            Ok(())
        })
    }
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

/// The other side of [`SourceHandle::for_test`]: a desk that a test scripts.
#[doc(hidden)]
#[derive(Debug)]
pub struct TestDesk {
    offers: mpsc::Receiver<(Offer, oneshot::Sender<Result<Pending, Refusal>>)>,
    room: tokio::sync::watch::Sender<bool>,
    draining: CancellationToken,
}

/// One offer at a [`TestDesk`], to be taken or refused. Dropped: refused as draining.
#[doc(hidden)]
#[derive(Debug)]
pub struct TestOffer {
    /// What the source offered.
    pub offer: Offer,
    reply: oneshot::Sender<Result<Pending, Refusal>>,
}

#[doc(hidden)]
impl SourceHandle {
    /// A handle without a stage, for tests of sources.
    pub fn for_test() -> (Self, TestDesk) {
        let (offers, received) = mpsc::channel(16);
        let (room, room_seen) = tokio::sync::watch::channel(true);
        let draining = CancellationToken::new();
        let desk = TestDesk { offers: received, room, draining: draining.clone() };
        (Self { offers, room: room_seen, draining }, desk)
    }
}

#[doc(hidden)]
impl TestDesk {
    /// The next offer; none when all handles are gone.
    pub async fn next(&mut self) -> Option<TestOffer> {
        let (offer, reply) = self.offers.recv().await?;
        Some(TestOffer { offer, reply })
    }

    /// Whether the log has room.
    pub fn set_room(&self, free: bool) {
        self.room.send_replace(free);
    }

    /// Begins the drain.
    pub fn drain(&self) {
        self.draining.cancel();
    }
}

#[doc(hidden)]
impl TestOffer {
    /// Nothing is taken.
    pub fn refuse(self, refusal: Refusal) {
        // The source may have given up waiting.
        let _gone = self.reply.send(Err(refusal));
    }

    /// All is taken; the answers are due later, through the sender.
    pub fn take(self) -> (Offer, oneshot::Sender<Vec<Answer>>) {
        let (answer, answers) = oneshot::channel();
        let pending = Pending { answers, count: self.offer.events.len() };
        // The source may have given up waiting.
        let _gone = self.reply.send(Ok(pending));
        (self.offer, answer)
    }

    /// All is taken and answered at once.
    pub fn answer(self, answers: Vec<Answer>) {
        let (_offer, sender) = self.take();
        // The source may have given up waiting.
        let _gone = sender.send(answers);
    }
}
