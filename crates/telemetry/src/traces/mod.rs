//! Traces: the spans of sampled events, as those who see an event record them, and where they go.
//!
//! An event's context travels with the event; a hop's spans are made when the hop is over, with the times at which their parts
//! began and ended. So a span costs nothing before it is known, and none is open while its event waits.

mod context;
mod entered;
mod export;
mod limit;
mod otlp;
mod sampler;
mod span;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;

pub use context::{ContextError, SpanId, TraceContext};
pub use entered::{Calls, entered};
pub(crate) use entered::{EnteredIds, OfStage, is_entered};
pub use export::{Batches, EXPORT_BYTES_MAX, Exporter};
use limit::Limit;
pub use limit::NOTICED_PER_SECOND;
pub use opentelemetry::KeyValue;
pub use opentelemetry::trace::SpanKind;
pub use sampler::Sampler;
pub use span::{Span, SpanEvent, TEXT_BYTES_MAX, UnixNanos};

/// Most bytes of spans that nobody has taken yet.
pub const QUEUE_BYTES_MAX: usize = 8 << 20;
/// Shorter waits for room, or for a sink, are not told of.
pub const WAIT_NS_MIN: UnixNanos = 100_000;
/// Most bytes of one span; a larger one is dropped.
const SPAN_BYTES_MAX: usize = 64 << 10;

/// Where spans go. Cheap to clone. The default one is off: it records nothing.
#[derive(Clone, Debug, Default)]
pub struct Tracer(Option<Arc<Shared>>);

#[derive(Clone, Debug)]
struct Shared {
    /// One clock for all spans of a process: steps of the machine's don't tear a hop's parts apart.
    started: (Instant, UnixNanos),
    /// Whose spans these are: index of its resource.
    resource: usize,
    queue: mpsc::Sender<(usize, Span)>,
    counts: Arc<Counts>,
    sampler: Sampler,
    /// When an event that is not sampled is told of.
    slow: Option<Duration>,
    /// Of all stages of a process.
    noticed: Arc<Limit>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Of the spans in the queue.
    queued_bytes: AtomicUsize,
    /// Spans that found no room.
    dropped: AtomicU64,
}

/// The other end of a tracer: what it has recorded, with the index of its resource.
#[derive(Debug)]
pub struct Recorded {
    queue: mpsc::Receiver<(usize, Span)>,
    counts: Arc<Counts>,
}

impl Tracer {
    /// A tracer, and what it records; beyond `queue_max` spans or [`QUEUE_BYTES_MAX`] that nobody has taken yet, one more is dropped
    /// and counted. It records all traces, but those of senders that don't.
    pub fn new(queue_max: usize) -> (Self, Recorded) {
        let (queue, receiver) = mpsc::channel(queue_max.max(1));
        let started = (Instant::now(), crate::nanos(SystemTime::now()));
        let counts = Arc::<Counts>::default();
        let (resource, slow, noticed) = (0, None, Arc::default());
        let shared =
            Shared { started, resource, queue, counts: counts.clone(), sampler: Sampler::ALWAYS, slow, noticed };
        (Self(Some(Arc::new(shared))), Recorded { queue: receiver, counts })
    }

    /// The same for another resource: another stage of this process.
    #[must_use]
    pub fn of_resource(&self, resource: usize) -> Self {
        Self(self.0.as_ref().map(|shared| Arc::new(Shared { resource, ..(**shared).clone() })))
    }

    /// From now on it is this that decides which traces are recorded.
    #[must_use]
    pub fn with_sampler(&self, sampler: Sampler) -> Self {
        Self(self.0.as_ref().map(|shared| Arc::new(Shared { sampler, ..(**shared).clone() })))
    }

    /// Where an event comes in: the context of a new span, below `parent` or the first of its trace. None: it is not recorded.
    pub fn start(&self, parent: Option<&TraceContext>) -> Option<TraceContext> {
        self.0.as_ref().and_then(|shared| shared.sampler.start(parent))
    }

    /// From now on an event that is not sampled leaves a span where it takes longer than this, from the edge to its end.
    #[must_use]
    pub fn with_slow(&self, slow: Duration) -> Self {
        Self(self.0.as_ref().map(|shared| Arc::new(Shared { slow: Some(slow), ..(**shared).clone() })))
    }

    /// What is slow; none: nothing, or spans go nowhere.
    pub fn slow(&self) -> Option<Duration> {
        self.0.as_ref().and_then(|shared| shared.slow)
    }

    /// Whether spans go anywhere.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The time, for spans; 0 where they go nowhere.
    pub fn now(&self) -> UnixNanos {
        if self.is_on() { self.at(Instant::now()) } else { 0 }
    }

    /// That time, for spans; 0 where they go nowhere.
    pub fn at(&self, time: Instant) -> UnixNanos {
        self.0.as_ref().map_or(0, |shared| {
            let (instant, unix) = shared.started;
            let since = time.saturating_duration_since(instant);
            unix.saturating_add(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
        })
    }

    /// Hands a span over. Never waits: without room it is dropped, and counted.
    pub fn record(&self, span: Span) {
        let Some(shared) = &self.0 else { return };
        let (bytes, counts) = (span.bytes(), &shared.counts);
        let before = counts.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        let fits = bytes <= SPAN_BYTES_MAX && before + bytes <= QUEUE_BYTES_MAX;
        if !fits || shared.queue.try_send((shared.resource, span)).is_err() {
            counts.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A wait is over: a part of the span that `of` names, where it was as long as [`WAIT_NS_MIN`].
    pub fn waited(&self, of: &TraceContext, name: &'static str, (since, now): (UnixNanos, UnixNanos)) {
        if now.saturating_sub(since) >= WAIT_NS_MIN {
            self.record(Span::part(of, name, since, now));
        }
    }

    /// Records a span of an event that is not sampled: at most [`NOTICED_PER_SECOND`] of a process; what is over is not even made.
    pub fn notice(&self, span: impl FnOnce(UnixNanos) -> Span) {
        let now = self.now();
        if self.0.as_ref().is_some_and(|shared| shared.noticed.allows(now)) {
            self.record(span(now));
        }
    }

    /// Counts a span that is not recorded, because its beginning could not be kept.
    pub fn miss(&self) {
        if let Some(shared) = &self.0 {
            shared.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Spans that found no room.
    pub fn dropped(&self) -> u64 {
        self.0.as_ref().map_or(0, |shared| shared.counts.dropped.load(Ordering::Relaxed))
    }
}

impl Recorded {
    /// The next span; none once all tracers are gone.
    pub async fn next(&mut self) -> Option<(usize, Span)> {
        let recorded = self.queue.recv().await?;
        Some(self.taken(recorded))
    }

    /// The next span, if there is one now.
    pub fn try_next(&mut self) -> Option<(usize, Span)> {
        let recorded = self.queue.try_recv().ok()?;
        Some(self.taken(recorded))
    }

    /// What has been recorded by now.
    pub fn take(&mut self) -> Vec<Span> {
        std::iter::from_fn(|| self.try_next()).map(|(_, span)| span).collect()
    }

    /// Spans that found no room.
    pub fn dropped(&self) -> u64 {
        self.counts.dropped.load(Ordering::Relaxed)
    }

    fn taken(&self, recorded: (usize, Span)) -> (usize, Span) {
        self.counts.queued_bytes.fetch_sub(recorded.1.bytes(), Ordering::Relaxed);
        recorded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tracer_that_is_off_costs_nothing_and_tells_no_time() {
        let tracer = Tracer::default();
        tracer.record(Span::part(&TraceContext::root(), "wait log", 1, 2));
        assert_eq!((tracer.is_on(), tracer.now(), tracer.dropped()), (false, 0, 0));
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_counted() {
        let (tracer, mut recorded) = Tracer::new(2);
        for end in 1..=5 {
            tracer.record(Span::part(&TraceContext::root(), "wait log", 0, end));
        }
        assert_eq!(tracer.of_resource(1).dropped(), 3);
        assert_eq!(recorded.take().iter().map(|span| span.end).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn large_spans_find_room_for_so_many_bytes_only_and_those_too_large_for_one_find_none() {
        let (tracer, mut recorded) = Tracer::new(1_000);
        let large = |bytes: usize| {
            let mut span = Span::part(&TraceContext::root(), "handle", 0, 1);
            span.error = Some("x".repeat(bytes - span.bytes()));
            span
        };
        tracer.record(large(SPAN_BYTES_MAX + 1));
        (0..1_000).for_each(|_| tracer.record(large(SPAN_BYTES_MAX)));
        let fit = QUEUE_BYTES_MAX / SPAN_BYTES_MAX;
        assert_eq!((tracer.dropped(), recorded.take().len()), (1_001 - fit as u64, fit));
        tracer.record(large(SPAN_BYTES_MAX));
        assert_eq!(recorded.take().len(), 1, "there is room again");
    }

    #[test]
    fn a_texts_end_is_cut_at_a_character() {
        let span = Span::part(&TraceContext::root(), "handle", 0, 1).with_text("id", &"é".repeat(TEXT_BYTES_MAX));
        assert_eq!(span.attributes[0].value.as_str().len(), TEXT_BYTES_MAX);
        let span = Span::part(&TraceContext::root(), "handle", 0, 1).with_text("id", &"a€".repeat(TEXT_BYTES_MAX));
        assert_eq!(span.attributes[0].value.as_str().len(), TEXT_BYTES_MAX);
    }
}
