//! The spans of a stage's sampled events: see [`jaiminho_telemetry::names::spans`] for their tree.
//!
//! What is done with an event just now began at its [`Trace::since`]. Whoever takes it on records the part that ends there:
//!
//! ```text
//!   offered --wait room--> taken
//!   sent --wire--> received --queue--> called --convert, handle--> returned --wait room--> in the log --wait log, wait credit--> sent
//! ```
//!
//! Spans that have parts are recorded when the event is settled. An event that is not measured here (its stage's tracer is off, or
//! too much is under way) goes on with the context that it came with.

mod calls;
mod dry;
mod hops;
mod sends;

use std::sync::Arc;

use jaiminho_core::{Event, Outcome, Rejection, Settled, Trace};
use jaiminho_telemetry::{
    names::spans,
    traces::{KeyValue, Span, SpanId, SpanKind, TraceContext, Tracer, UnixNanos},
};

pub(crate) use calls::{Called, Calling, Handling};
pub(crate) use hops::Hops;
pub(crate) use sends::Sends;

/// Spans of a stage that have begun: so many of events that it has taken or received, so many of deliveries; and of so many entries
/// of its logs it knows when they were given back. What is over goes on without spans of this stage, but for a source's `wait room`,
/// and is counted.
pub const SPANS_OPEN_MAX: usize = 8_192;
/// What one of each takes at most, in trees whose nodes are at least half full.
pub const SPAN_OPEN_BYTES: u64 = 512;

/// Links of the first event of a batch to the others.
const LINKS_MAX: usize = 128;

/// The trace of an event that is measured here.
pub(crate) fn measured<'a>(tracer: &Tracer, event: &'a mut Event) -> Option<&'a mut Trace> {
    event.trace.as_deref_mut().filter(|trace| trace.since > 0 && tracer.is_on())
}

/// A part of what the event goes through is over, and the next one begins.
pub(crate) fn part(tracer: &Tracer, trace: &mut Trace, name: &'static str, now: UnixNanos) {
    let since = std::mem::replace(&mut trace.since, now);
    tracer.record(Span::part(&TraceContext::from_bytes(&trace.context), name, since, now));
}

/// The results of an event go into a log now, or it itself does.
pub(crate) fn placed(tracer: &Tracer, event: &mut Event) {
    let Some(trace) = measured(tracer, event) else { return };
    let now = tracer.now();
    tracer.waited(&TraceContext::from_bytes(&trace.context), spans::WAIT_ROOM, (trace.since, now));
    trace.since = now;
}

/// The sink has let go of an event: what becomes of it is not the sink's time any more.
pub(crate) fn given_back(tracer: &Tracer, event: &mut Event) {
    if let Some(trace) = measured(tracer, event) {
        trace.since = tracer.now();
    }
}

/// What all spans of one link have in common.
#[derive(Debug)]
pub(crate) struct Likeness {
    name: String,
    kind: SpanKind,
    attributes: Vec<KeyValue>,
}

impl Likeness {
    /// `OPERATION SUBJECT`, of this stage and output.
    fn new(operation: &'static str, subject: &str, stage: &str, output: &str) -> Self {
        let kind = if operation == spans::PROCESS { SpanKind::Consumer } else { SpanKind::Producer };
        let attributes = vec![
            KeyValue::new(spans::SYSTEM, spans::SYSTEM_JAIMINHO),
            KeyValue::new(spans::OPERATION, operation),
            KeyValue::new(spans::OPERATION_TYPE, operation),
            KeyValue::new(spans::DESTINATION, Arc::<str>::from(output)),
            KeyValue::new(spans::STAGE, Arc::<str>::from(stage)),
        ];
        Self { name: format!("{operation} {subject}"), kind, attributes }
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.attributes.push(KeyValue::new(name, Arc::<str>::from(value)));
        self
    }
}

/// A span that has begun.
#[derive(Debug)]
pub(crate) struct Begun {
    parent: SpanId,
    context: TraceContext,
    start: UnixNanos,
    attempt: u32,
    like: Arc<Likeness>,
}

/// How it ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum How<'a> {
    Accepted,
    Rejected(&'a Rejection),
    /// It comes again.
    Released,
    /// The same, because nobody will settle it here: why.
    Lost(&'a str),
    /// Nobody had seen it.
    Withdrawn,
}

impl<'a> From<&'a Outcome> for How<'a> {
    fn from(outcome: &'a Outcome) -> Self {
        match outcome {
            Outcome::Accepted => Self::Accepted,
            Outcome::Rejected(rejection) => Self::Rejected(rejection),
        }
    }
}

impl<'a> From<&'a Settled> for How<'a> {
    fn from(settled: &'a Settled) -> Self {
        match settled {
            Settled::Outcome(outcome) => outcome.into(),
            Settled::Released => Self::Released,
        }
    }
}

impl<'a> How<'a> {
    fn outcome(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Rejected(_) => "rejected",
            Self::Released | Self::Lost(_) => "released",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// Its type and its text.
    fn error(self) -> Option<(&'static str, &'a str)> {
        match self {
            Self::Rejected(rejection) => Some((rejection.reason.name(), &rejection.text)),
            Self::Lost(why) => Some((spans::LINK_LOST, why)),
            Self::Accepted | Self::Released | Self::Withdrawn => None,
        }
    }
}

impl Begun {
    fn below(parent: &TraceContext, start: UnixNanos, attempt: u32, like: &Arc<Likeness>) -> Self {
        Self { parent: parent.span, context: parent.child(), start, attempt, like: like.clone() }
    }

    fn end(self, tracer: &Tracer, now: UnixNanos, how: How<'_>) {
        let Self { parent, context, start, attempt, like } = self;
        let Likeness { name, kind, attributes } = &*like;
        let mut span = Span::new(context, Some(parent), kind.clone(), name.clone(), (start, now));
        span.attributes.reserve_exact(attributes.len() + 4);
        span.attributes.extend_from_slice(attributes);
        span.attributes.push(KeyValue::new(spans::ATTEMPT, i64::from(attempt)));
        tracer.record(ended(span, how));
    }
}

fn ended(mut span: Span, how: How<'_>) -> Span {
    span.attributes.push(KeyValue::new(spans::OUTCOME, how.outcome()));
    if let How::Rejected(rejection) = how {
        span.attributes.push(KeyValue::new(spans::STORED, rejection.stored));
    }
    if let Some((kind, text)) = how.error() {
        span.attributes.push(KeyValue::new(spans::ERROR_TYPE, kind));
        span.error = Some(text.to_owned());
    }
    span
}

/// Something worth to be told of an event that is not sampled: in a trace of its own, from the edge to here.
pub(crate) fn notice(tracer: &Tracer, stage: &str, event: &Event, name: &'static str, how: How<'_>) {
    tracer.notice(|now| {
        let start = if event.arrived_ms > 0 { event.arrived_ms.saturating_mul(1_000_000).min(now) } else { now };
        let span = Span::new(TraceContext::root(), None, SpanKind::Internal, name, (start, now))
            .with(KeyValue::new(spans::STAGE, stage.to_owned()))
            .with(KeyValue::new(spans::ORIGIN, format!("{}/{}", event.origin.incarnation, event.origin.offset)))
            .with(KeyValue::new(spans::ATTEMPT, i64::from(event.attempt)));
        ended(span, how)
    });
}

#[cfg(test)]
mod tests {
    use super::{Begun, SPAN_OPEN_BYTES, UnixNanos, sends};
    use crate::{peers::PeerId, upstream::UpstreamLink};

    #[test]
    fn what_is_kept_of_spans_that_have_begun_takes_no_more_than_it_is_said_to() {
        let hop = size_of::<((UpstreamLink, u64), Begun)>();
        let send = size_of::<((PeerId, u64), sends::Sent)>();
        let released = size_of::<(sends::Entry, UnixNanos)>();
        let bytes = 2 * (hop + send + released);
        assert!(bytes as u64 <= SPAN_OPEN_BYTES, "{bytes}");
    }
}
