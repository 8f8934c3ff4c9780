//! The door of a source into its stage.

use std::time::Duration;

use futures_util::future::BoxFuture;
use jaiminho_core::Rejection;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{
    handle::{OfferSlot, Reply},
    inspection::{Troubles, Usages},
    stage::{Acknowledge, Answer, NewEvent, Refusal, Source, SourceError},
};

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
    pub(crate) offers: mpsc::Sender<OfferSlot>,
    pub(crate) room: tokio::sync::watch::Receiver<bool>,
    pub(crate) draining: CancellationToken,
    pub(crate) troubles: Troubles,
    pub(crate) usages: Usages,
}

/// Events that were taken, until their answer.
#[derive(Debug)]
pub struct Pending {
    answers: oneshot::Receiver<Result<Vec<Answer>, Refusal>>,
    count: usize,
}

impl SourceHandle {
    /// Asks for admission. `Err` means that nothing was taken.
    pub async fn offer(&self, offer: Offer) -> Result<Pending, Refusal> {
        self.hand_over(offer, None).await
    }

    /// Rejects an event that nobody waits for with an answer of its own: its dead letter is stored where the stage has
    /// such an output with a group, else it is counted, logged, and gone. `Err` means that there is no room for the dead letter.
    pub async fn reject(&self, event: NewEvent, rejection: Rejection) -> Result<Pending, Refusal> {
        let offer = Offer { events: vec![event], deadline: None, acknowledge: Acknowledge::Published };
        self.hand_over(offer, Some(rejection)).await
    }

    async fn hand_over(&self, offer: Offer, rejection: Option<Rejection>) -> Result<Pending, Refusal> {
        let count = offer.events.len();
        let ((taken, is_taken), (reply, answers)) = (oneshot::channel(), oneshot::channel());
        let slot = OfferSlot { offer, taken: Some(taken), rejection, reserved: None, reply };
        self.offers.send(slot).await.map_err(|_| Refusal::Draining)?;
        match is_taken.await {
            Ok(()) => Ok(Pending { answers, count }),
            Err(_) => Err(answers.await.ok().and_then(Result::err).unwrap_or(Refusal::Draining)),
        }
    }

    /// Asks for admission and waits for the answers, with one wake-up: one answer an event, in their order, by the deadline
    /// at the latest. `Err` means that nothing was taken. What is `reserved` for the body's memory is given back when it is
    /// taken or refused.
    pub async fn complete(&self, offer: Offer, reserved: Option<OwnedSemaphorePermit>) -> Result<Vec<Answer>, Refusal> {
        let count = offer.events.len();
        let (reply, answers) = oneshot::channel();
        let slot = OfferSlot { offer, taken: None, rejection: None, reserved, reply };
        self.offers.send(slot).await.map_err(|_| Refusal::Draining)?;
        answers.await.unwrap_or_else(|_| Ok(vec![Answer::Unknown; count]))
    }

    /// Where the source says what keeps it from bringing events.
    pub fn troubles(&self) -> &Troubles {
        &self.troubles
    }

    /// Where the source says what bounds it.
    pub fn usages(&self) -> &Usages {
        &self.usages
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
        let answers = self.answers.await.ok().and_then(Result::ok);
        answers.unwrap_or_else(|| vec![Answer::Unknown; self.count])
    }
}

/// The other side of [`SourceHandle::for_test`]: a desk that a test scripts.
#[doc(hidden)]
#[derive(Debug)]
pub struct TestDesk {
    offers: mpsc::Receiver<OfferSlot>,
    room: tokio::sync::watch::Sender<bool>,
    draining: CancellationToken,
}

/// One offer at a [`TestDesk`], to be taken or refused. Dropped: as if the stage had died.
#[doc(hidden)]
#[derive(Debug)]
pub struct TestOffer {
    /// What the source offered.
    pub offer: Offer,
    /// Its one event is rejected by the source.
    pub rejection: Option<Rejection>,
    taken: Option<oneshot::Sender<()>>,
    reply: Reply,
}

/// Where the answers of a taken offer go.
#[doc(hidden)]
#[derive(Debug)]
pub struct TestAnswers(Reply);

#[doc(hidden)]
impl SourceHandle {
    /// A handle without a stage, for tests of sources.
    pub fn for_test() -> (Self, TestDesk) {
        let (offers, received) = mpsc::channel(16);
        let (room, room_seen) = tokio::sync::watch::channel(true);
        let draining = CancellationToken::new();
        let desk = TestDesk { offers: received, room, draining: draining.clone() };
        (Self { offers, room: room_seen, draining, troubles: Troubles::default(), usages: Usages::default() }, desk)
    }
}

#[doc(hidden)]
impl TestDesk {
    /// The next offer; none when all handles are gone.
    pub async fn next(&mut self) -> Option<TestOffer> {
        let OfferSlot { offer, taken, rejection, reserved: _given_back, reply } = self.offers.recv().await?;
        Some(TestOffer { offer, rejection, taken, reply })
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

    /// All is taken; the answers are due later.
    pub fn take(self) -> (Offer, TestAnswers) {
        // Not every source waits for it.
        let _gone = self.taken.map(|taken| taken.send(()));
        (self.offer, TestAnswers(self.reply))
    }

    /// All is taken and answered at once.
    pub fn answer(self, answers: Vec<Answer>) {
        self.take().1.send(answers);
    }
}

#[doc(hidden)]
impl TestAnswers {
    /// One answer an event.
    pub fn send(self, answers: Vec<Answer>) {
        // The source may have given up waiting.
        let _gone = self.0.send(Ok(answers));
    }
}
