//! One span, when it is over.

use std::borrow::Cow;

use opentelemetry::KeyValue;
use opentelemetry::trace::SpanKind;

use super::context::{SpanId, TraceContext};

/// Nanoseconds since 1970.
pub type UnixNanos = u64;

/// What took how long, of which event.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Its trace and its own id.
    pub context: TraceContext,
    /// Of the same trace; none: it is the first.
    pub parent: Option<SpanId>,
    /// By OpenTelemetry's conventions.
    pub kind: SpanKind,
    /// `OPERATION DESTINATION`, or a part of a hop.
    pub name: Cow<'static, str>,
    /// When it began.
    pub start: UnixNanos,
    /// When it ended. Before its start, where clocks of two machines differ: taken for its start.
    pub end: UnixNanos,
    /// What else is known.
    pub attributes: Vec<KeyValue>,
    /// Spans of other traces, or of a batch.
    pub links: Vec<TraceContext>,
    /// What was said meanwhile.
    pub events: Vec<SpanEvent>,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// What was said while a span lasted: a log line, mostly.
#[derive(Clone, Debug, PartialEq)]
pub struct SpanEvent {
    /// When.
    pub at: UnixNanos,
    /// The line's message.
    pub name: Cow<'static, str>,
    /// Its fields.
    pub attributes: Vec<KeyValue>,
}

impl Span {
    /// A span whose id is known, below `parent`.
    pub fn new(
        context: TraceContext,
        parent: Option<SpanId>,
        kind: SpanKind,
        name: impl Into<Cow<'static, str>>,
        (start, end): (UnixNanos, UnixNanos),
    ) -> Self {
        let (name, attributes, links, events) = (name.into(), Vec::new(), Vec::new(), Vec::new());
        Self { context, parent, kind, name, start, end, attributes, links, events, error: None }
    }

    /// A part of the span that `of` names: where its time went.
    pub fn part(of: &TraceContext, name: impl Into<Cow<'static, str>>, start: UnixNanos, end: UnixNanos) -> Self {
        Self::new(of.child(), Some(of.span), SpanKind::Internal, name, (start, end))
    }

    /// With one more attribute.
    #[must_use]
    pub fn with(mut self, attribute: KeyValue) -> Self {
        self.attributes.push(attribute);
        self
    }
}
