//! Calls of transforms and handlers for sampled events: `queue` before, `convert` or `handle`, and what an author's own code says
//! meanwhile.

use jaiminho_core::Event;
use jaiminho_telemetry::{
    names::spans,
    traces::{Calls, KeyValue, Span, TraceContext, Tracer, UnixNanos, entered},
};

use super::{LINKS_MAX, measured, part};

/// A transform's call for an event that is measured, under way.
#[derive(Debug)]
pub(crate) struct Calling {
    context: TraceContext,
    parent: TraceContext,
    began: UnixNanos,
    /// To be entered while it runs.
    pub(crate) span: tracing::Span,
}

impl Calling {
    /// None: the event is not measured.
    pub(crate) fn begin(tracer: &Tracer, stage: &str, event: &mut Event) -> Option<Self> {
        let trace = measured(tracer, event)?;
        let began = tracer.now();
        part(tracer, trace, spans::QUEUE, began);
        let parent = TraceContext::from_bytes(&trace.context);
        let context = parent.child();
        Some(Self { context, parent, began, span: entered(&context, stage, Calls::Convert) })
    }

    /// It has returned, after so many failures.
    pub(crate) fn end(self, tracer: &Tracer, event: &mut Event, failures: u32) {
        let now = tracer.now();
        tracer.record(call(self.context, &self.parent, spans::CONVERT, (self.began, now), failures));
        if let Some(trace) = measured(tracer, event) {
            trace.since = now;
        }
    }
}

/// A handler's call for events of which one is measured, under way.
#[derive(Debug)]
pub(crate) struct Handling {
    context: TraceContext,
    began: UnixNanos,
    /// To be entered while it runs.
    pub(crate) span: tracing::Span,
}

/// The same, over.
#[derive(Debug)]
pub(crate) struct Called {
    /// Of the first measured event's `handle`.
    context: TraceContext,
    began: UnixNanos,
    ended: UnixNanos,
    failures: u32,
}

impl Handling {
    /// None: no event is measured.
    pub(crate) fn begin(tracer: &Tracer, stage: &str, events: &[Event]) -> Option<Self> {
        let trace = events.iter().find_map(|event| event.trace.as_deref().filter(|trace| trace.since > 0))?;
        if !tracer.is_on() {
            return None;
        }
        let context = TraceContext::from_bytes(&trace.context).child();
        Some(Self { context, began: tracer.now(), span: entered(&context, stage, Calls::Handle) })
    }

    /// It has returned, after so many failures.
    pub(crate) fn end(self, tracer: &Tracer, failures: u32) -> Called {
        Called { context: self.context, began: self.began, ended: tracer.now(), failures }
    }
}

impl Called {
    /// Records what the call was for each of its events. Where it has results of the whole batch, these continue the first of the
    /// traces: so its `handle` is linked to the other ones, and theirs to it.
    pub(crate) fn record(self, tracer: &Tracer, events: &mut [Event], is_whole: bool) {
        let Self { context, began, ended, failures } = self;
        let mut first: Option<Span> = None;
        for event in events {
            let Some(trace) = measured(tracer, event) else { continue };
            part(tracer, trace, spans::QUEUE, began);
            trace.since = ended;
            let parent = TraceContext::from_bytes(&trace.context);
            let own = if first.is_some() { parent.child() } else { context };
            let mut span = call(own, &parent, spans::HANDLE, (began, ended), failures);
            match &mut first {
                None => first = Some(span),
                Some(first) => {
                    if is_whole {
                        span.links.push(context);
                        if first.links.len() < LINKS_MAX {
                            first.links.push(own);
                        }
                    }
                    tracer.record(span);
                }
            }
        }
        if let Some(first) = first {
            tracer.record(first);
        }
    }
}

fn call(
    context: TraceContext,
    parent: &TraceContext,
    name: &'static str,
    times: (UnixNanos, UnixNanos),
    failures: u32,
) -> Span {
    let span = Span::new(context, Some(parent.span), jaiminho_telemetry::traces::SpanKind::Internal, name, times);
    if failures > 0 { span.with(KeyValue::new(spans::FAILURES, i64::from(failures))) } else { span }
}
