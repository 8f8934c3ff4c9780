//! Where an author's own code runs for a sampled event: its `tracing` spans and logs join the event's trace there.

use std::cell::Cell;
use std::sync::Arc;

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::context::TraceContext;

/// What is called for an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    /// A transform.
    Convert,
    /// A handler, with a batch maybe: the context is then of the first sampled one.
    Handle,
}

/// A span of target `jaiminho`, to be entered while this is called: what is inside is below the span that `context` names, where the
/// process's subscriber has a layer for that.
pub fn entered(context: &TraceContext, stage: &str, calls: Calls) -> tracing::Span {
    let span = match calls {
        Calls::Convert => tracing::info_span!(target: "jaiminho", "convert", stage),
        Calls::Handle => tracing::info_span!(target: "jaiminho", "handle", stage),
    };
    if !span.is_disabled() {
        let of = Context::new().with_value(OfStage(stage.into())).with_remote_span_context(remote(context));
        // Without such a layer nobody asks for the parent.
        let _no_layer = span.set_parent(of);
        NEXT.set(Some(SpanId::from_bytes(context.span)));
        // Where there is one, this starts the span there, with that id.
        let _started = span.context();
        NEXT.set(None);
    }
    span
}

/// Whether this is the span around a call.
pub(crate) fn is_entered(metadata: &tracing::Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target() == "jaiminho" && ["convert", "handle"].contains(&metadata.name())
}

/// In the OpenTelemetry context of a call and of all that is inside: whose it is.
#[derive(Debug)]
pub(crate) struct OfStage(pub(crate) Arc<str>);

thread_local! {
    /// The id of the span that is started next on this thread.
    static NEXT: Cell<Option<SpanId>> = const { Cell::new(None) };
}

/// Gives the span around a call the id that it has in the trace already, so that what is inside is right below it; random ids to all
/// others.
#[derive(Debug, Default)]
pub(crate) struct EnteredIds(RandomIdGenerator);

impl IdGenerator for EnteredIds {
    fn new_trace_id(&self) -> TraceId {
        self.0.new_trace_id()
    }

    fn new_span_id(&self) -> SpanId {
        NEXT.take().unwrap_or_else(|| self.0.new_span_id())
    }
}

fn remote(context: &TraceContext) -> SpanContext {
    let (trace, span) = (TraceId::from_bytes(context.trace), SpanId::from_bytes(context.span));
    SpanContext::new(trace, span, TraceFlags::new(context.flags), true, TraceState::NONE)
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider as _;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::logging::tests::alone;

    #[test]
    fn what_is_inside_is_below_the_context() {
        let provider = opentelemetry_sdk::trace::SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let context = TraceContext::root();
        let _alone = alone();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let span = entered(&context, "mid", Calls::Convert);
            let inside = span.in_scope(|| tracing::info_span!("their own"));
            assert_eq!(inside.context().span().span_context().trace_id().to_bytes(), context.trace);
        });
    }

    #[test]
    fn without_a_layer_it_is_a_span_like_any_other() {
        let _alone = alone();
        tracing::subscriber::with_default(tracing_subscriber::registry(), || {
            assert!(!entered(&TraceContext::root(), "mid", Calls::Handle).is_disabled());
        });
    }
}
