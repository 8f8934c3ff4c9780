//! Where an author's own code runs for a sampled event: its `tracing` spans and logs join the event's trace there.

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState};
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
        // Without such a layer nobody asks for the parent.
        let _no_layer = span.set_parent(Context::new().with_remote_span_context(remote(context)));
    }
    span
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

    #[test]
    fn what_is_inside_is_below_the_context() {
        let provider = opentelemetry_sdk::trace::SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let context = TraceContext::root();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let span = entered(&context, "mid", Calls::Convert);
            let inside = span.in_scope(|| tracing::info_span!("their own"));
            assert_eq!(inside.context().span().span_context().trace_id().to_bytes(), context.trace);
        });
    }

    #[test]
    fn without_a_layer_it_is_a_span_like_any_other() {
        tracing::subscriber::with_default(tracing_subscriber::registry(), || {
            assert!(!entered(&TraceContext::root(), "mid", Calls::Handle).is_disabled());
        });
    }
}
