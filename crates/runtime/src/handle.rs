//! A running stage, from outside.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use jaiminho_core::{Demand, LinkError, Rejection, Subscribe, Versions};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    config::UpstreamSpec,
    handler::Info,
    inspection::{Inspection, Troubles, Usages},
    link::{LinkHalf, Serve},
    source::{Offer, SourceHandle},
    stage::{Answer, Refusal},
};

/// What others ask of a stage's task.
pub(crate) enum Command {
    Subscribe(Subscribe, oneshot::Sender<Result<LinkHalf, LinkError>>),
    Status(oneshot::Sender<StageStatus>),
    Inspect(oneshot::Sender<Box<Inspection>>),
    /// Instead of another one, if so.
    SubscribeTo(Box<UpstreamSpec>, Option<usize>, oneshot::Sender<usize>),
    Unsubscribe(usize),
    Info(Info, oneshot::Sender<bool>),
    SetDemand(Demand),
}

/// An offer, and where what becomes of it goes.
#[derive(Debug)]
pub(crate) struct OfferSlot {
    pub(crate) offer: Offer,
    /// Told once the offer is taken, where anybody wants to know.
    pub(crate) taken: Option<oneshot::Sender<()>>,
    /// Its one event was rejected by the source, and goes to the dead letters instead of the log.
    pub(crate) rejection: Option<Rejection>,
    /// Accounts for the body's memory until its events are the log's.
    pub(crate) reserved: Option<OwnedSemaphorePermit>,
    pub(crate) reply: Reply,
}

/// A refusal, or one answer an event.
pub(crate) type Reply = oneshot::Sender<Result<Vec<Answer>, Refusal>>;

impl OfferSlot {
    /// Nothing was taken. Who offered may be gone.
    pub(crate) fn refuse(self, refusal: Refusal) {
        let _gone = self.reply.send(Err(refusal));
    }
}

/// Why a stage's task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StageEnd {
    /// It was told to; `unsettled` events were given up at the deadline (their producers have them; for a source
    /// that acknowledged them as `accepted` they are lost).
    Drained {
        /// Inputs and log entries without a disposition.
        unsettled: u64,
    },
    /// A newer process has its name: exit, never retry.
    Fenced(String),
    /// It can't go on: its source ended in error (then what it had taken was drained first), or its task panicked.
    Failed(String),
}

/// How a stage is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StageStatus {
    /// Links from consumers.
    pub links_in: usize,
    /// Links to producers.
    pub links_out: usize,
    /// Each output's name, unsettled events and bytes.
    pub logs: Vec<(String, u64, u64)>,
    /// Inputs in work.
    pub inputs: u64,
    /// Required groups without a member.
    pub absent_groups: Vec<String>,
    /// What consumers want and nobody has brought yet.
    pub demand: u64,
    /// Events that wait for demand.
    pub waiting: u64,
    /// Output and instance of each producer.
    pub producers: Vec<(String, String)>,
    /// Group and instance of each consumer.
    pub consumers: Vec<(String, String)>,
}

/// A message that a stage has not taken: it has ended, has no handler, or too many wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stage does not take the message")]
pub struct NotTaken;

/// Handle of a running stage. Cheap to clone; the stage ends by `drain`, not by dropping handles.
#[derive(Clone, Debug)]
pub struct StageHandle {
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) offers: mpsc::Sender<OfferSlot>,
    pub(crate) room: watch::Receiver<bool>,
    pub(crate) drain: Arc<watch::Sender<Option<tokio::time::Instant>>>,
    pub(crate) draining: CancellationToken,
    pub(crate) end: watch::Receiver<Option<StageEnd>>,
    pub(crate) versions: Versions,
    pub(crate) troubles: Troubles,
    pub(crate) usages: Usages,
}

impl StageHandle {
    /// Takes nothing new, finishes what is in flight, leaves; by the deadline at the latest.
    pub async fn drain(&self, within: Duration) -> StageEnd {
        self.begin_drain(within);
        self.ended().await
    }

    /// Begins a drain, and does not wait for its end.
    pub fn begin_drain(&self, within: Duration) {
        self.drain.send_replace(Some(tokio::time::Instant::now() + within));
        self.draining.cancel();
    }

    /// Whether the stage's task has ended.
    pub fn has_ended(&self) -> bool {
        self.end.borrow().is_some() || self.end.has_changed().is_err()
    }

    /// Sends a message to the stage's handler: handled after all events that are there before it.
    ///
    /// # Errors
    /// The stage has ended, has no handler, or too many messages wait.
    pub async fn info(&self, info: Info) -> Result<(), NotTaken> {
        let (reply, taken) = oneshot::channel();
        self.commands.send(Command::Info(info, reply)).await.map_err(|_| NotTaken)?;
        taken.await.ok().filter(|taken| *taken).map(drop).ok_or(NotTaken)
    }

    /// From now on what consumers ask for, and what is emitted, waits; or goes on.
    ///
    /// # Errors
    /// The stage has ended.
    pub async fn set_demand(&self, demand: Demand) -> Result<(), NotTaken> {
        self.commands.send(Command::SetDemand(demand)).await.map_err(|_| NotTaken)
    }

    /// The same for a stage that was just spawned, before anybody is told of it.
    ///
    /// # Errors
    /// Somebody was.
    pub fn begin_with(&self, demand: Demand) -> Result<(), NotTaken> {
        self.commands.try_send(Command::SetDemand(demand)).map_err(|_| NotTaken)
    }

    /// Subscribes to one more output; the subscription's number, after those that the stage was made with. None: it leaves.
    pub async fn subscribe_to(&self, spec: UpstreamSpec) -> Option<usize> {
        self.add_subscription(spec, None).await
    }

    /// Ends a subscription and begins another in its place, once all that the old one's links have brought is handled; the
    /// stage goes on, whatever the end of a link means for it otherwise. The new one's number. None: the stage leaves.
    pub async fn resubscribe(&self, old: usize, spec: UpstreamSpec) -> Option<usize> {
        self.add_subscription(spec, Some(old)).await
    }

    async fn add_subscription(&self, spec: UpstreamSpec, instead_of: Option<usize>) -> Option<usize> {
        let (reply, index) = oneshot::channel();
        self.commands.send(Command::SubscribeTo(Box::new(spec), instead_of, reply)).await.ok()?;
        index.await.ok()
    }

    /// Ends a subscription: what its links have brought is finished.
    pub async fn unsubscribe(&self, subscription: usize) {
        // A stage that has ended has no subscriptions.
        let _gone = self.commands.send(Command::Unsubscribe(subscription)).await;
    }

    /// Resolves when the stage's task has ended.
    pub async fn ended(&self) -> StageEnd {
        let mut end = self.end.clone();
        let ended = end.wait_for(Option::is_some).await.ok().and_then(|end| end.clone());
        ended.unwrap_or_else(|| StageEnd::Failed("its task has panicked".into()))
    }

    /// Whether it takes nothing new: it was told to leave, or its source has failed.
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// How the stage is just now; none when it has ended.
    pub async fn status(&self) -> Option<StageStatus> {
        let (reply, status) = oneshot::channel();
        self.commands.send(Command::Status(reply)).await.ok()?;
        status.await.ok()
    }

    /// All that the stage tells of itself; none when it has ended.
    pub async fn inspect(&self) -> Option<Box<Inspection>> {
        let (reply, inspection) = oneshot::channel();
        self.commands.send(Command::Inspect(reply)).await.ok()?;
        inspection.await.ok()
    }

    /// The door for a source that is driven from outside (tests, a program's own code).
    pub fn source(&self) -> SourceHandle {
        let Self { offers, room, draining, troubles, usages, .. } = self.clone();
        SourceHandle { offers, room, draining, troubles, usages }
    }
}

impl Serve for StageHandle {
    fn versions(&self) -> Versions {
        self.versions
    }

    fn subscribe(&self, subscribe: Subscribe) -> BoxFuture<'_, Result<LinkHalf, LinkError>> {
        Box::pin(async move {
            let gone = || LinkError::Unavailable("the stage has ended".into());
            let (reply, half) = oneshot::channel();
            self.commands.send(Command::Subscribe(subscribe, reply)).await.map_err(|_| gone())?;
            half.await.map_err(|_| gone())?
        })
    }
}
