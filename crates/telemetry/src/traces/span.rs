//! One span, when it is over.

use std::borrow::Cow;

use opentelemetry::trace::SpanKind;
use opentelemetry::{Array, KeyValue, Value};

use super::context::{SpanId, TraceContext};

/// Longest text of an attribute that comes from an event or a client.
pub const TEXT_BYTES_MAX: usize = 256;

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

    /// With the text as an attribute, cut to [`TEXT_BYTES_MAX`].
    #[must_use]
    pub fn with_text(self, name: &'static str, text: &str) -> Self {
        self.with(KeyValue::new(name, text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()))
    }

    /// What it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        let name = if let Cow::Owned(name) = &self.name { name.len() } else { 0 };
        let links = self.links.len() * size_of::<TraceContext>();
        let events = self
            .events
            .iter()
            .map(|event| size_of::<SpanEvent>() + event.name.len() + attributes_bytes(&event.attributes));
        let error = self.error.as_ref().map_or(0, String::len);
        size_of::<Self>() + name + attributes_bytes(&self.attributes) + links + events.sum::<usize>() + error
    }
}

fn attributes_bytes(attributes: &[KeyValue]) -> usize {
    let each =
        |attribute: &KeyValue| size_of::<KeyValue>() + attribute.key.as_str().len() + value_bytes(&attribute.value);
    attributes.iter().map(each).sum()
}

/// On the heap.
#[expect(clippy::wildcard_enum_match_arm, reason = "OpenTelemetry's values may become more")]
fn value_bytes(value: &Value) -> usize {
    match value {
        Value::String(text) => text.as_str().len(),
        Value::Array(Array::String(texts)) => texts.iter().map(|text| size_of::<Value>() + text.as_str().len()).sum(),
        Value::Array(Array::Bool(all)) => all.len(),
        Value::Array(Array::I64(all)) => 8 * all.len(),
        Value::Array(Array::F64(all)) => 8 * all.len(),
        _ => 0,
    }
}
