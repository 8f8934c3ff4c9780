//! What the author of a stage in GenStage's manner implements: a [`Handler`], which owns its state and is called for one
//! thing at a time. What it says in a call ([`Turn`]) takes effect when the call returns; a call that fails says nothing.

use std::{any::Any, fmt, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use jaiminho_core::{Event, Instance, KeyHash, LinkError, Outcome, Payload, Reason, Rejection};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::{peers::PeerId, stage::Failure, upstream::UpstreamLink};

/// A message to a stage's own handler.
pub type Info = Arc<dyn Any + Send + Sync>;

/// A stage that owns its state and works in batches.
///
/// One call at a time, in order. An error or a panic is retried with back-off: an event at which it fails `max_failures`
/// times alone is rejected as `exhausted`; a call without events that fails as often ends the stage.
pub trait Handler: Send + 'static {
    /// Answers `call`, through `turn`.
    fn handle<'a>(&'a mut self, call: &'a Call, turn: &'a mut Turn) -> BoxFuture<'a, Result<(), Failure>>;
}

/// What a [`Handler`] is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Is told of demand.
    Producer,
    /// Gets events while there is demand for its own.
    ProducerConsumer,
    /// Gets events.
    Consumer,
}

/// Why a handler is called.
#[derive(Clone, Debug)]
pub enum Call {
    /// A producer's consumers want so many events more than were asked for before. They are owed until they are emitted:
    /// now or in later calls.
    Demand(u64),
    /// Events of one producer, at most `max_demand - min_demand` of them; or a batch, see [`Batching`](crate::Batching).
    Events {
        /// Who sent them; the first of them, in a batch: the others may have come from other producers.
        from: Arc<Peer>,
        /// In order, as each producer sent them.
        events: Vec<Event>,
    },
    /// A message to the stage, after all events that were there before it; not those of a batch that is not complete.
    Info(Info),
    /// A link has opened.
    Subscribed(Arc<Peer>),
    /// A link has ended, and all that it brought is handled. Once for each `Subscribed`.
    Cancelled(Arc<Peer>, Left),
    /// The time of [`Turn::wake`] has come.
    Wake,
    /// The output had no room for so many events and has [discarded](jaiminho_core::Overflow) them.
    Discarded(u64),
    /// What became of the next events of those that it [tracks](Emission::track), in the order in which it emitted them.
    Settled(Vec<Outcome>),
}

/// The other end of a link.
#[derive(Debug)]
pub struct Peer {
    /// A producer's output, or a consumer's group.
    pub name: String,
    /// The instance.
    pub instance: Instance,
    pub(crate) end: End,
}

/// Which of the stage's links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum End {
    Producer(UpstreamLink),
    Consumer(PeerId),
}

impl Peer {
    /// Whether the stage consumes what this peer sends.
    pub fn is_producer(&self) -> bool {
        matches!(self.end, End::Producer(_))
    }

    /// A producer without a link, for tests of handlers.
    pub fn producer_for_test(name: &str) -> Arc<Self> {
        let instance = Instance { name: format!("{name}-0"), incarnation: 1 };
        Arc::new(Self { name: name.to_owned(), instance, end: End::Producer(UpstreamLink(0)) })
    }
}

/// How a link ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// The producer has come to its end: nothing more will come.
    Finished,
    /// The producer leaves in order; another instance may come.
    Draining,
    /// One side cancelled it.
    Cancelled,
    /// It was lost.
    Down(LinkError),
}

impl Left {
    /// Whether it ended in order: GenStage's `:normal` and `:shutdown`.
    pub fn is_normal(&self) -> bool {
        match self {
            Self::Finished | Self::Draining | Self::Cancelled => true,
            Self::Down(_) => false,
        }
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("finished"),
            Self::Draining => f.write_str("draining"),
            Self::Cancelled => f.write_str("cancelled"),
            Self::Down(error) => error.fmt(f),
        }
    }
}

/// One result.
#[derive(Debug)]
pub struct Emission {
    pub(crate) payload: Payload,
    /// Place in the batch of the event whose result it is; none: of the whole batch.
    pub(crate) of: Option<usize>,
    pub(crate) key: Key,
    /// Index among the stage's outputs.
    pub(crate) output: usize,
    pub(crate) is_tracked: bool,
}

impl Emission {
    /// Into another output than the first: see [`Turn::output`]. One that the stage does not have fails the call.
    pub fn into_output(&mut self, index: usize) -> &mut Self {
        self.output = index;
        self
    }

    /// Has a [`Call::Settled`] say what becomes of it. Not of a result of [`Call::Events`]: its inputs are settled with it.
    pub fn track(&mut self) -> &mut Self {
        self.is_tracked = true;
        self
    }
}

/// The key of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Given(Option<KeyHash>),
    /// As the event has whose result it is.
    Inherited,
}

/// What becomes of one event of a batch, whatever becomes of the others.
#[derive(Debug)]
pub(crate) enum Judgement {
    Accept,
    /// Before its results are settled.
    AcceptEarly,
    Reject(Rejection),
}

/// What a handler says in one call. It takes effect as a whole, when the call has returned without an error.
#[derive(Debug, Default)]
pub struct Turn {
    pub(crate) emitted: Vec<Emission>,
    pub(crate) judged: Vec<(usize, Judgement)>,
    pub(crate) asked: Vec<(UpstreamLink, u64)>,
    pub(crate) cancelled: Vec<End>,
    pub(crate) infos: Vec<Info>,
    pub(crate) wake: Option<Duration>,
    pub(crate) stop: bool,
    pub(crate) terms: Terms,
}

/// What a call may say and know of its stage.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    pub(crate) draining: CancellationToken,
    pub(crate) outputs: Arc<[String]>,
    pub(crate) unordered: bool,
}

impl Turn {
    /// For a handler without a stage.
    pub fn for_test(outputs: Arc<[String]>) -> Self {
        Self { terms: Terms { outputs, ..Terms::default() }, ..Self::default() }
    }

    pub(crate) fn new(terms: Terms) -> Self {
        Self { terms, ..Self::default() }
    }

    /// The index of the stage's output of this name, `NAME` of `STAGE.NAME`.
    pub fn output(&self, name: &str) -> Option<usize> {
        self.terms.outputs.iter().position(|output| output == name)
    }

    /// What was sent into an output that there is not would be lost.
    pub(crate) fn has_all_outputs(&self) -> Result<(), Failure> {
        let count = self.terms.outputs.len();
        match self.emitted.iter().find(|emission| emission.output >= count.max(1)) {
            Some(Emission { output, .. }) => Err(Failure::new(format!("the stage has no output {output}"))),
            None => Ok(()),
        }
    }

    fn push(&mut self, payload: Payload, of: Option<usize>, key: Key) -> &mut Emission {
        self.emitted.push_mut(Emission { payload, of, key, output: 0, is_tracked: false })
    }

    /// Emits an event. In [`Call::Events`] it is a result of the whole batch: events that are not judged one by one are
    /// settled when all of these are, with the worst of their outcomes.
    pub fn emit(&mut self, payload: impl Into<Payload>, key: Option<KeyHash>) -> &mut Emission {
        self.push(payload.into(), None, Key::Given(key))
    }

    /// Emits a result of the event at this place of the batch, with its key; that event is not settled before it.
    pub fn emit_of(&mut self, index: usize, payload: impl Into<Payload>) -> &mut Emission {
        self.push(payload.into(), Some(index), Key::Inherited)
    }

    /// The event at this place of the batch is done, once its own results are: it doesn't wait for those of the batch.
    pub fn accept(&mut self, index: usize) {
        self.judged.push((index, Judgement::Accept));
    }

    /// The event at this place of the batch is accepted when what this call emits is in the log, whatever becomes of that: a crash
    /// of this stage loses it.
    ///
    /// # Errors
    /// The stage is not [`unordered`](crate::StageLimits::unordered).
    pub fn accept_early(&mut self, index: usize) -> Result<(), Failure> {
        if !self.terms.unordered {
            let text = "a stage that settles an event before its results are must say that it is unordered";
            return Err(Failure::new(text));
        }
        self.judged.push((index, Judgement::AcceptEarly));
        Ok(())
    }

    /// Whether the stage gives up order and durability: [`Turn::accept_early`] succeeds.
    pub fn is_unordered(&self) -> bool {
        self.terms.unordered
    }

    /// The event at this place of the batch is at fault, for good. `text` is cut to 256 bytes.
    pub fn reject(&mut self, index: usize, reason: Reason, text: impl Into<String>) {
        self.judged.push((index, Judgement::Reject(Rejection::new(reason, text))));
    }

    /// Asks a producer for `n` more events, on a link with manual demand. More than the window is asked for later, as
    /// events are handled.
    pub fn ask(&mut self, peer: &Peer, n: u64) {
        if let End::Producer(link) = peer.end {
            self.asked.push((link, n));
        }
    }

    /// Ends a link. What it has brought is handled first.
    pub fn cancel(&mut self, peer: &Peer) {
        self.cancelled.push(peer.end);
    }

    /// Sends a message to the stage itself: handled after what this call emits has been dispatched.
    pub fn info(&mut self, info: Info) {
        self.infos.push(info);
    }

    /// Asks for a [`Call::Wake`] after this time. The last one holds.
    pub fn wake(&mut self, after: Duration) {
        self.wake = Some(after);
    }

    /// The stage has come to its end: it asks and takes nothing more, finishes what it has, and tells its consumers.
    pub fn stop(&mut self) {
        self.stop = true;
    }

    /// Resolves when the stage begins to drain: a call that waits for something should return then.
    pub fn draining(&self) -> WaitForCancellationFutureOwned {
        self.terms.draining.clone().cancelled_owned()
    }

    /// Whether the stage drains.
    pub fn is_draining(&self) -> bool {
        self.terms.draining.is_cancelled()
    }

    /// What was emitted, each with the index of its output: for tests of handlers.
    pub fn emitted(&self) -> impl Iterator<Item = (&Payload, usize)> {
        self.emitted.iter().map(|emission| (&emission.payload, emission.output))
    }

    /// What was rejected, by its place in the batch: for tests of handlers.
    pub fn rejected(&self) -> impl Iterator<Item = (usize, &Rejection)> {
        self.judged.iter().filter_map(|(index, judgement)| match judgement {
            Judgement::Reject(rejection) => Some((*index, rejection)),
            Judgement::Accept | Judgement::AcceptEarly => None,
        })
    }

    /// Whether the stage was stopped: for tests of handlers.
    pub fn is_stopped(&self) -> bool {
        self.stop
    }

    /// Takes over what was said of the event at this place of a batch, alone.
    pub(crate) fn absorb(&mut self, index: usize, one: Self) {
        self.emitted.extend(one.emitted.into_iter().map(|emission| Emission { of: Some(index), ..emission }));
        self.judged.extend(one.judged.into_iter().map(|(_, judgement)| (index, judgement)));
        self.asked.extend(one.asked);
        self.cancelled.extend(one.cancelled);
        self.infos.extend(one.infos);
        self.wake = one.wake.or(self.wake);
        self.stop |= one.stop;
    }
}
