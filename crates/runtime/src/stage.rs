//! What a stage's author implements: a [`Source`], a [`Transform`] or a [`Sink`]. The runtime does the rest:
//! credit, order, retries, settlement and drain.

use std::{any::Any, time::Duration};

use futures_util::future::BoxFuture;
use jaiminho_core::{Event, KeyHash, Outcome, Payload, Reason, Trace};
use jaiminho_event::{CloudEvent, EventView, identity, key_hash};
use smallvec::SmallVec;

use crate::{dedupe::Dedupe, source::SourceHandle};

/// What became of one input in a [`Transform`].
#[derive(Debug)]
pub enum Verdict {
    /// None: the input is done (filtered). Many: it is done when all of them are.
    Emit(SmallVec<[Emitted; 1]>),
    /// For good: the event is at fault. `text` is cut to 256 bytes.
    Reject { reason: Reason, text: String },
}

/// One result of a [`Transform`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emitted {
    /// A CloudEvent in its protobuf format, its own allocation.
    pub payload: Payload,
    /// Index among the stage's outputs. One that it does not have rejects the input.
    pub output: usize,
}

impl Emitted {
    /// Into the stage's first output.
    pub fn main(payload: Payload) -> Self {
        Self { payload, output: 0 }
    }
}

/// A handler's failure that may pass: retried with back-off, while its key's lane waits.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// What went wrong, for logs and for the rejection when tries are exhausted.
    pub text: String,
}

impl Failure {
    /// One of this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }

    /// What a handler panicked with.
    pub(crate) fn of_panic(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Self { text: format!("the handler panicked: {}", text.unwrap_or("no message")) }
    }
}

/// Turns one event into none, one or many.
///
/// Called for one event of a key at a time, for many keys at once. A panic, an error and a time-out are all
/// retried `max_failures` times, then the event is rejected as `exhausted`.
pub trait Transform: Send + Sync + 'static {
    /// Called before [`Transform::process`], and waits as long as it has to, for a rate say: its time is no time-out. A verdict is
    /// the event's, which is not processed then; none of either: it goes on at once.
    fn admit<'a>(&'a self, event: &'a Event) -> Option<BoxFuture<'a, Option<Verdict>>> {
        let _goes_on = event;
        None
    }

    /// Which copies of events it does not get: see [`Dedupe`]. Asked once, when its stage starts. None: it gets all.
    fn dedupe(&self) -> Option<Dedupe> {
        None
    }

    /// What copies of an event have in common; where it is none, the event is a copy of nothing. By default of a CloudEvent the hash of
    /// its source and id.
    fn identity(&self, event: &Event) -> Option<u128> {
        EventView::parse(&event.payload).ok().map(|event| identity(event.source(), event.id()))
    }

    /// Converts `event`. A ready future costs no task switch.
    fn process<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<Verdict, Failure>>;
}

/// Names one event inside a [`Sink`] until it is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Receipt(pub(crate) u64);

/// Takes events out of the pipeline.
///
/// At most the stage's windows are unsettled at once, so a sink's queue is bounded by them.
pub trait Sink: Send + 'static {
    /// Takes `events` in order; those of one key must stay in it. May wait when its system is slow. Each receipt is
    /// settled once through the [`crate::Settler`] that the sink was made with, now or later; a service that is away is retried
    /// without limit, never a rejection.
    fn send<'a>(&'a mut self, events: &'a mut Vec<(Receipt, Event)>) -> BoxFuture<'a, ()>;

    /// Flushes what it can within `time_left`; what is not settled then is released upstream.
    fn drain<'a>(&'a mut self, time_left: Duration) -> BoxFuture<'a, ()>;
}

/// Takes events in from outside.
pub trait Source: Send + 'static {
    /// Runs until its input ends or `handle.draining()` resolves and its own drain is over. Every event goes through `handle`.
    fn run(self: Box<Self>, handle: SourceHandle) -> BoxFuture<'static, Result<(), SourceError>>;
}

/// A source that can't go on: the stage finishes what it had taken, and ends.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub String);

/// An event that a source offers.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// A CloudEvent in its protobuf format, its own allocation.
    pub payload: Payload,
    /// Hash of its `partitionkey`; an empty one is none.
    pub key: Option<KeyHash>,
    /// 128-bit xxh3 of source, NUL, id: a retry of an unsettled event joins it.
    pub identity: u128,
    /// Where sampled: its trace, the span that all of its are below, and since when it waits for the stage (0: nobody measures it).
    pub trace: Option<Box<Trace>>,
}

impl NewEvent {
    /// With the key and the identity that follow from the attributes of `event`, of which `payload` is the encoded form; without
    /// a trace.
    pub fn encoded(event: &CloudEvent, payload: impl Into<Payload>) -> Self {
        Self {
            payload: payload.into(),
            key: event.attribute("partitionkey").filter(|key| !key.is_empty()).map(|key| KeyHash(key_hash(&key))),
            identity: identity(&event.source, &event.id),
            trace: None,
        }
    }
}

impl From<&CloudEvent> for NewEvent {
    fn from(event: &CloudEvent) -> Self {
        Self::encoded(event, event.encode())
    }
}

/// When the client is told that its event is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Acknowledge {
    /// All results are settled by all groups, up to the broker.
    #[default]
    Published,
    /// It is in this process's memory: a crash loses it.
    Accepted,
}

/// Why a source's events are not taken. Nothing of the body was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The log is at capacity, or the predicted wait is over half the deadline.
    #[error("overloaded: {cause}")]
    Overloaded {
        /// `log full`, `key's partition full` or `predicted wait 17 s`.
        cause: String,
        /// 1-15 s, with jitter.
        retry_after: Duration,
    },
    /// A body that could never fit the log.
    #[error("body of {events} events and {bytes} bytes can never fit the log")]
    NeverFits {
        /// events in the body
        events: u64,
        /// bytes in the body
        bytes: u64,
    },
    /// The stage drains.
    #[error("draining")]
    Draining,
}

/// What is known of one offered event when its answer is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Settled by all its groups (or, for `accepted`, taken).
    Settled(Outcome),
    /// Its deadline passed before anybody had it; it never will be sent.
    Withdrawn,
    /// Its deadline passed while it was under way.
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_partitionkey_is_no_key() {
        let mut event = CloudEvent::new("1", "s", "t");
        for (text, key) in [("k", Some(KeyHash(key_hash("k")))), ("", None)] {
            event.attributes.insert("partitionkey".to_owned(), text.into());
            assert_eq!(NewEvent::from(&event).key, key);
        }
    }
}
