//! Records in the traces of their events: a span each, from given to the client to confirmed by the broker.

use std::time::Instant;

use jaiminho_core::{Reason, Trace};
use jaiminho_event::EventView;
use jaiminho_runtime::SPANS_OPEN_MAX;
use jaiminho_telemetry::names::spans as names;
use jaiminho_telemetry::traces::{KeyValue, Span, SpanKind, TEXT_BYTES_MAX, TraceContext, Tracer, UnixNanos};

use crate::outbox::Placed;

/// Most records under way that have a span. More go out without one; each is counted.
pub(crate) const SENDING_MAX: usize = SPANS_OPEN_MAX;

/// A sampled record under way: the span that its delivery will be.
#[derive(Debug)]
pub(crate) struct Sending {
    context: TraceContext,
    /// The stage's span.
    parent: TraceContext,
    start: UnixNanos,
    /// The hand-over that it was part of, if others were too.
    batch: Option<TraceContext>,
    /// CloudEvents' id, cut.
    id: String,
}

impl Sending {
    /// It was handed over with no other.
    pub(crate) fn was_alone(&mut self) {
        self.batch = None;
    }

    pub(crate) fn traceparent(&self) -> String {
        self.context.to_traceparent()
    }
}

/// What is given to the client at once.
#[derive(Debug, Default)]
pub(crate) struct Handed {
    pub(crate) events: u64,
    /// Where one of them is sampled.
    batch: Option<TraceContext>,
    /// Those whose span began.
    pub(crate) traced: Vec<u64>,
}

/// The spans of a sink.
#[derive(Debug)]
pub(crate) struct Traced {
    tracer: Tracer,
    under_way: usize,
}

impl Traced {
    pub(crate) fn new(tracer: Tracer) -> Self {
        Self { tracer, under_way: 0 }
    }

    /// A sampled record is given to the client for the first time.
    pub(crate) fn begin(
        &mut self,
        now: Instant,
        seq: u64,
        trace: &Trace,
        event: &EventView<'_>,
        handed: &mut Handed,
    ) -> Option<Box<Sending>> {
        if !self.tracer.is_on() {
            return None;
        }
        if self.under_way == SENDING_MAX {
            self.tracer.miss();
            return None;
        }
        self.under_way += 1;
        let (parent, start) = (TraceContext::from_bytes(&trace.context), self.tracer.at(now));
        if trace.since > 0 {
            self.tracer.waited(&parent, names::WAIT_SEND, (trace.since, start));
        }
        handed.traced.push(seq);
        let batch = Some(*handed.batch.get_or_insert_with(TraceContext::root));
        let id = jaiminho_core::cut(event.id(), TEXT_BYTES_MAX).to_owned();
        Some(Box::new(Sending { context: parent.child(), parent, start, batch, id }))
    }

    /// The hand-over is over: several at once have a span of their own, which those of the records link to. Whether they are several.
    pub(crate) fn handed_over(&self, began: Instant, handed: &Handed) -> bool {
        let Some(batch) = handed.batch.filter(|_| handed.events > 1) else { return false };
        let count = i64::try_from(handed.events).unwrap_or(i64::MAX);
        let times = (self.tracer.at(began), self.tracer.now());
        let span = Span::new(batch, None, SpanKind::Client, names::SEND, times);
        self.tracer.record(of_kafka(span).with(KeyValue::new(names::BATCH_COUNT, count)));
        true
    }

    /// The broker has it.
    pub(crate) fn confirmed(&mut self, now: Instant, sending: Sending, topic: &str, key: Option<&str>, placed: Placed) {
        let mut span = self
            .end(now, sending, topic)
            .with(KeyValue::new(names::PARTITION, placed.partition.to_string()))
            .with(KeyValue::new(names::OFFSET, placed.offset));
        if let Some(key) = key {
            span = span.with_text(names::KEY, key);
        }
        self.tracer.record(span);
    }

    /// For good.
    pub(crate) fn rejected(&mut self, now: Instant, sending: Sending, topic: &str, reason: Reason, text: &str) {
        let mut span = self.end(now, sending, topic).with(KeyValue::new(names::ERROR_TYPE, reason.name()));
        span.error = Some(text.to_owned());
        self.tracer.record(span);
    }

    fn end(&mut self, now: Instant, sending: Sending, topic: &str) -> Span {
        self.under_way -= 1;
        let Sending { context, parent, start, batch, id } = sending;
        let times = (start, self.tracer.at(now));
        let mut span = Span::new(context, Some(parent.span), SpanKind::Producer, format!("send {topic}"), times);
        span.links.extend(batch);
        of_kafka(span).with_text(names::DESTINATION, topic).with_text(names::MESSAGE_ID, &id)
    }
}

fn of_kafka(span: Span) -> Span {
    span.with(KeyValue::new(names::SYSTEM, names::SYSTEM_KAFKA))
        .with(KeyValue::new(names::OPERATION, names::SEND))
        .with(KeyValue::new(names::OPERATION_TYPE, names::SEND))
}
