//! Traces: the spans of sampled events, as those who see an event record them, and where they go.
//!
//! An event's context travels with the event; a hop's spans are made when the hop is over, with the times at which their parts
//! began and ended. So a span costs nothing before it is known, and none is open while its event waits.

mod context;
mod entered;
mod limit;
mod span;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;

pub use context::{ContextError, SpanId, TraceContext};
pub use entered::{Calls, entered};
pub(crate) use entered::{EnteredIds, OfStage, is_entered};
use limit::Limit;
pub use limit::NOTICED_PER_SECOND;
pub use opentelemetry::KeyValue;
pub use opentelemetry::trace::SpanKind;
pub use span::{Span, SpanEvent, UnixNanos};

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
    dropped: Arc<AtomicU64>,
    /// When an event that is not sampled is told of.
    slow: Option<Duration>,
    /// Of all stages of a process.
    noticed: Arc<Limit>,
}

/// The other end of a tracer: what it has recorded, with the index of its resource.
#[derive(Debug)]
pub struct Recorded(mpsc::Receiver<(usize, Span)>);

impl Tracer {
    /// A tracer, and what it records; beyond `queue_max` spans that nobody has taken yet, one more is dropped and counted.
    pub fn new(queue_max: usize) -> (Self, Recorded) {
        let (queue, receiver) = mpsc::channel(queue_max.max(1));
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let started = (Instant::now(), u64::try_from(unix.as_nanos()).unwrap_or_default());
        let (dropped, noticed) = Default::default();
        let shared = Shared { started, resource: 0, queue, dropped, slow: None, noticed };
        (Self(Some(Arc::new(shared))), Recorded(receiver))
    }

    /// The same for another resource: another stage of this process.
    #[must_use]
    pub fn of_resource(&self, resource: usize) -> Self {
        Self(self.0.as_ref().map(|shared| Arc::new(Shared { resource, ..(**shared).clone() })))
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
        self.0.as_ref().map_or(0, |shared| {
            let (instant, unix) = shared.started;
            unix.saturating_add(u64::try_from(instant.elapsed().as_nanos()).unwrap_or(u64::MAX))
        })
    }

    /// Hands a span over. Never waits: without room it is dropped, and counted.
    pub fn record(&self, span: Span) {
        let Some(shared) = &self.0 else { return };
        if shared.queue.try_send((shared.resource, span)).is_err() {
            shared.dropped.fetch_add(1, Ordering::Relaxed);
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
            shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Spans that found no room.
    pub fn dropped(&self) -> u64 {
        self.0.as_ref().map_or(0, |shared| shared.dropped.load(Ordering::Relaxed))
    }
}

impl Recorded {
    /// As many as there are, at most `max`; none once all tracers are gone.
    pub async fn next(&mut self, max: usize) -> Vec<(usize, Span)> {
        let mut spans = Vec::new();
        self.0.recv_many(&mut spans, max).await;
        spans
    }

    /// What has been recorded by now.
    pub fn take(&mut self) -> Vec<Span> {
        std::iter::from_fn(|| self.0.try_recv().ok()).map(|(_, span)| span).collect()
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
}
