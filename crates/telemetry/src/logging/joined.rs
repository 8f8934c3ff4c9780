//! What an author's own code says and does while it handles a sampled event, as part of that event's trace.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use opentelemetry::{
    Context as OtelContext, KeyValue, Value,
    trace::{Span as _, SpanContext, Status, TracerProvider as _},
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{Sampler, SdkTracerProvider, Span as SdkSpan, SpanData, SpanProcessor},
};
use tracing::{Level, Metadata, Subscriber, level_filters::LevelFilter, subscriber::Interest};
use tracing_subscriber::{
    Layer,
    layer::{Context, Filter},
    registry::LookupSpan,
};

use crate::{
    names::spans,
    nanos,
    traces::{EnteredIds, OfStage, Span, SpanEvent, TraceContext, Tracer, is_entered},
};

/// Where spans of each stage go, once that is known; until then there are none, at no cost.
#[derive(Clone, Debug, Default)]
pub(crate) struct Joined(Arc<OnceLock<HashMap<String, Tracer>>>);

impl Joined {
    pub(crate) fn join(&self, tracers: HashMap<String, Tracer>) {
        let tracers: HashMap<_, _> = tracers.into_iter().filter(|(_, tracer)| tracer.is_on()).collect();
        if !tracers.is_empty() && self.0.set(tracers).is_ok() {
            tracing::callsite::rebuild_interest_cache();
        }
    }

    fn may_have(&self, metadata: &Metadata<'_>) -> bool {
        self.0.get().is_some() && *metadata.level() <= Level::INFO
    }

    pub(crate) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let provider = SdkTracerProvider::builder()
            .with_id_generator(EnteredIds::default())
            .with_sampler(Sampler::AlwaysOn)
            .with_resource(Resource::builder_empty().build())
            .with_span_processor(self.clone())
            .build();
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("jaiminho"))
            .with_location(false)
            .with_target(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_context_activation(false)
            .with_filter(self.clone())
    }
}

/// Only calls for sampled events, and what is inside.
impl<S> Filter<S> for Joined
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn enabled(&self, metadata: &Metadata<'_>, context: &Context<'_, S>) -> bool {
        self.may_have(metadata) && (is_entered(metadata) || context.lookup_current().is_some())
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.may_have(metadata) { Interest::sometimes() } else { Interest::never() }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(if self.0.get().is_some() { LevelFilter::INFO } else { LevelFilter::OFF })
    }
}

impl SpanProcessor for Joined {
    fn on_start(&self, span: &mut SdkSpan, context: &OtelContext) {
        if let Some(OfStage(stage)) = context.get::<OfStage>() {
            span.set_attribute(KeyValue::new(spans::STAGE, stage.to_string()));
        }
    }

    fn on_end(&self, span: SpanData) {
        let stage = span.attributes.iter().find(|attribute| attribute.key.as_str() == spans::STAGE);
        let Some(Value::String(stage)) = stage.map(|attribute| &attribute.value) else { return };
        let Some(tracer) = self.0.get().and_then(|tracers| tracers.get(stage.as_str())) else { return };
        // The span of the call itself is recorded by who made the call: here is only what was said in it.
        let is_call = span.parent_span_id == span.span_context.span_id();
        let span = recorded(span);
        match (is_call, span.events.first(), span.events.last()) {
            (false, ..) => tracer.record(span),
            (true, Some(first), Some(last)) => {
                let part = Span::part(&span.context, spans::LOG, first.at, last.at);
                tracer.record(Span { events: span.events, ..part });
            }
            (true, None, _) | (true, _, None) => {}
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

fn recorded(span: SpanData) -> Span {
    let times = (nanos(span.start_time), nanos(span.end_time));
    let parent = Some(span.parent_span_id.to_bytes());
    let event = |event: opentelemetry::trace::Event| SpanEvent {
        at: nanos(event.timestamp),
        name: event.name,
        attributes: event.attributes,
    };
    Span {
        attributes: span.attributes,
        links: span.links.links.iter().map(|link| context(&link.span_context)).collect(),
        events: span.events.events.into_iter().map(event).collect(),
        error: match span.status {
            Status::Error { description } => Some(description.into_owned()),
            Status::Unset | Status::Ok => None,
        },
        ..Span::new(context(&span.span_context), parent, span.span_kind, span.name, times)
    }
}

fn context(of: &SpanContext) -> TraceContext {
    TraceContext { trace: of.trace_id().to_bytes(), span: of.span_id().to_bytes(), flags: of.trace_flags().to_u8() }
}
