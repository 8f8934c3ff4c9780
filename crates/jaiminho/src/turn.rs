//! What a handler is given in a call, and what it says in it.

use std::{fmt, ops::Deref, sync::Arc, time::Duration};

use jaiminho_core::{Event, KeyHash, Payload, Reason};
use jaiminho_runtime::{Info, Peer, Turn as Untyped};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::{Codec, Failure, Result};

/// One event of a [`Batch`].
#[derive(Clone, Debug)]
pub struct Received<T> {
    place: usize,
    /// What it says.
    pub value: T,
    /// As it came: key, attempt, time of arrival, payload.
    pub event: Event,
}

/// Events that came from one producer, in order; or, in a stage that [batches](crate::Stage::batch), from several.
#[derive(Clone, Debug)]
pub struct Batch<T> {
    /// Who sent them; where it is from several producers, the first of them.
    pub from: Arc<Peer>,
    events: Vec<Received<T>>,
}

impl<T> Batch<T> {
    /// Only the values.
    pub fn into_values(self) -> impl Iterator<Item = T> {
        self.events.into_iter().map(|event| event.value)
    }
}

impl<T> Deref for Batch<T> {
    type Target = [Received<T>];

    fn deref(&self) -> &[Received<T>] {
        &self.events
    }
}

impl<T> IntoIterator for Batch<T> {
    type Item = Received<T>;
    type IntoIter = std::vec::IntoIter<Received<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.events.into_iter()
    }
}

impl<'a, T> IntoIterator for &'a Batch<T> {
    type Item = &'a Received<T>;
    type IntoIter = std::slice::Iter<'a, Received<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.events.iter()
    }
}

/// What a handler says in one call. It takes effect as a whole when the call returns `Ok`; a call that fails says nothing.
pub struct Turn<'a, Out> {
    said: &'a mut Untyped,
    codec: &'a dyn Codec<Out>,
    failed: Option<Failure>,
}

impl<'a, Out: 'static> Turn<'a, Out> {
    pub(crate) fn new(said: &'a mut Untyped, codec: &'a dyn Codec<Out>) -> Self {
        Self { said, codec, failed: None }
    }

    /// What the call comes to, with what could not be encoded in it.
    pub(crate) fn end(self, result: Result) -> Result {
        self.failed.map_or(result, Err)
    }

    /// The values of a batch; what can't be read is rejected.
    pub(crate) fn decode<In>(&mut self, from: &Arc<Peer>, events: &[Event], codec: &impl Codec<In>) -> Batch<In> {
        let mut decoded = Vec::with_capacity(events.len());
        for (place, event) in events.iter().enumerate() {
            match codec.decode(&event.payload) {
                Ok(value) => decoded.push(Received { place, value, event: event.clone() }),
                Err(failure) => self.said.reject(place, Reason::Malformed, failure.into_text()),
            }
        }
        Batch { from: from.clone(), events: decoded }
    }

    /// Emits an event. In `handle_events` it is a result of the whole batch: the batch's events are settled when all of these
    /// are, with the worst of their outcomes; those that are accepted or rejected one by one apart.
    pub fn emit(&mut self, value: Out) {
        if let Some((payload, key)) = self.keyed(value) {
            self.said.emit(payload, key);
        }
    }

    /// Emits a result of one event of the batch, with that event's key: it, and no other, is settled after this.
    pub fn emit_of<In>(&mut self, event: &Received<In>, value: Out) {
        if let Some(payload) = self.encoded(value) {
            self.said.emit_of(event.place, payload);
        }
    }

    /// The same as [`Turn::emit`] into another of the [stage's outputs](crate::Stage::output). A name that is none fails the
    /// call.
    pub fn emit_to(&mut self, output: &str, value: Out) {
        if let (Some(index), Some((payload, key))) = (self.index_of(output), self.keyed(value)) {
            self.said.emit(payload, key).into_output(index);
        }
    }

    /// The same as [`Turn::emit_of`] into another of the [stage's outputs](crate::Stage::output).
    pub fn emit_of_to<In>(&mut self, output: &str, event: &Received<In>, value: Out) {
        if let (Some(index), Some(payload)) = (self.index_of(output), self.encoded(value)) {
            self.said.emit_of(event.place, payload).into_output(index);
        }
    }

    /// Emits an event of a producer's, of which [`handle_settled`](crate::Producer::handle_settled) says what became of it.
    pub fn emit_tracked(&mut self, value: Out) {
        if let Some((payload, key)) = self.keyed(value) {
            self.said.emit(payload, key).track();
        }
    }

    fn encoded(&mut self, value: Out) -> Option<Payload> {
        self.codec.encode(value).map_err(|failure| self.failed = Some(failure)).ok()
    }

    fn keyed(&mut self, value: Out) -> Option<(Payload, Option<KeyHash>)> {
        self.codec.encode_keyed(value).map_err(|failure| self.failed = Some(failure)).ok()
    }

    fn index_of(&mut self, output: &str) -> Option<usize> {
        let index = self.said.output(output);
        if index.is_none() {
            self.failed = Some(Failure::new(format!("the stage has no output `{output}`")));
        }
        index
    }

    /// The event is done, once its own results are; it doesn't wait for those of the batch.
    pub fn accept<In>(&mut self, event: &Received<In>) {
        self.said.accept(event.place);
    }

    /// The event is accepted when what this call emits is in the stage's log, whatever becomes of that: a crash of this stage loses
    /// it.
    ///
    /// # Errors
    /// The stage is not [unordered](crate::Stage::unordered).
    pub fn accept_early<In>(&mut self, event: &Received<In>) -> Result {
        self.said.accept_early(event.place).map_err(|failure| Failure::new(failure.text))
    }

    /// The event is at fault, for good: it is told to its sender, and stored where somebody wants dead letters.
    pub fn reject<In>(&mut self, event: &Received<In>, why: impl Into<String>) {
        self.said.reject(event.place, Reason::Invalid, why);
    }

    /// Asks a producer for `n` more events, on a subscription with [manual demand](crate::Upstream::manual).
    pub fn ask(&mut self, producer: &Peer, n: u64) {
        self.said.ask(producer, n);
    }

    /// Ends a link: what it has brought is handled first.
    pub fn cancel(&mut self, peer: &Peer) {
        self.said.cancel(peer);
    }

    /// Sends a message to the stage itself: handled after what this call emits has been dispatched.
    pub fn info(&mut self, info: impl std::any::Any + Send + Sync) {
        let info: Info = Arc::new(info);
        self.said.info(info);
    }

    /// Asks for a `handle_wake` after this time. The last one holds.
    pub fn wake(&mut self, after: Duration) {
        self.said.wake(after);
    }

    /// The stage has come to its end: it takes nothing more, finishes what it has, and tells its consumers.
    pub fn stop(&mut self) {
        self.said.stop();
    }

    /// Resolves when the stage begins to drain: a call that waits for something should return then.
    pub fn draining(&self) -> WaitForCancellationFutureOwned {
        self.said.draining()
    }
}

impl<Out> fmt::Debug for Turn<'_, Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.said.fmt(f)
    }
}
