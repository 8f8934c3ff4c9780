//! What stages in one process have recorded of their sampled events.

use jaiminho_core::{Event, Trace};
use jaiminho_runtime::{NewEvent, StageConfig};
use jaiminho_telemetry::traces::{Recorded, Span, TraceContext, Tracer, UnixNanos};

/// A stage whose spans go there.
pub(crate) fn traced(config: StageConfig, tracer: &Tracer) -> StageConfig {
    StageConfig { tracer: tracer.clone(), ..config }
}

/// An event of a new trace, and that trace.
pub(crate) fn sampled(number: u32, key: Option<u64>) -> (NewEvent, TraceContext) {
    let context = TraceContext::root();
    let trace = Some(Box::new(Trace { context: context.to_bytes(), since: 0 }));
    (NewEvent { trace, ..super::event(number, key) }, context)
}

pub(crate) fn context(event: &Event) -> TraceContext {
    TraceContext::from_bytes(&event.trace.as_ref().unwrap().context)
}

pub(crate) fn lasts(span: &Span) -> UnixNanos {
    span.end.checked_sub(span.start).unwrap()
}

pub(crate) fn attribute(span: &Span, name: &str) -> Option<String> {
    span.attributes.iter().find(|attribute| attribute.key.as_str() == name).map(|attribute| attribute.value.to_string())
}

pub(crate) fn attributes<const N: usize>(span: &Span, names: [&str; N]) -> [String; N] {
    names.map(|name| attribute(span, name).unwrap_or_default())
}

#[derive(Debug)]
pub(crate) struct Spans(pub(crate) Vec<Span>);

impl Spans {
    /// What was recorded by now, from the first beginning on.
    pub(crate) fn all(recorded: &mut Recorded) -> Self {
        let mut spans = recorded.take();
        spans.sort_by_key(|span| (span.start, span.end));
        Self(spans)
    }

    /// Those of one trace.
    pub(crate) fn of(&self, trace: &TraceContext) -> Self {
        Self(self.0.iter().filter(|span| span.context.trace == trace.trace).cloned().collect())
    }

    pub(crate) fn named(&self, name: &str) -> Vec<&Span> {
        self.0.iter().filter(|span| span.name == name).collect()
    }

    pub(crate) fn one(&self, name: &str) -> &Span {
        let named = self.named(name);
        assert_eq!(named.len(), 1, "{name} among {:?}", self.names());
        named[0]
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.0.iter().map(|span| &*span.name).collect()
    }

    pub(crate) fn below(&self, parent: &Span) -> Vec<&Span> {
        self.0.iter().filter(|span| span.parent == Some(parent.context.span)).collect()
    }

    pub(crate) fn names_below(&self, parent: &Span) -> Vec<&str> {
        self.below(parent).into_iter().map(|span| &*span.name).collect()
    }

    /// The part of this name of a hop.
    pub(crate) fn part(&self, of: &Span, name: &str) -> &Span {
        self.below(of).into_iter().find(|span| span.name == name).unwrap()
    }

    /// How long all parts of these names lasted.
    pub(crate) fn sum(&self, names: &[&str]) -> UnixNanos {
        self.0.iter().filter(|span| names.contains(&&*span.name)).map(lasts).sum()
    }
}
