//! A sink's queue: what it is given, what it has not settled yet.

use std::{
    collections::{HashMap, VecDeque},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use futures_util::FutureExt as _;
use jaiminho_core::{Event, Rejection, Time};
use jaiminho_telemetry::{names::spans, traces::Tracer};
use metrics::Histogram;
use tokio::sync::{Notify, mpsc, watch};

use crate::{
    backoff::Backoff,
    rate::{Rate, Throttle},
    sink::Settler,
    stage::{Receipt, Sink},
    traces,
    upstream::UpstreamLink,
};

/// Events given to a sink at once.
const CHUNK_EVENTS: usize = 512;

/// An event that the sink has not settled: a delivery of an upstream.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) link: UpstreamLink,
    pub(crate) number: u64,
    pub(crate) event: Event,
    /// When it came.
    pub(crate) taken: Time,
}

/// Receipts of events that were given to the sink at once, the first and the last.
type Span = (u64, u64);

/// What the sink is given at once.
#[derive(Debug)]
struct Chunk {
    /// Panics that the stage has seen: a chunk from before the last one is void.
    panics: u32,
    events: Vec<(Receipt, Event)>,
}

/// How often the sink has panicked, and what it had been given the last time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Panics {
    count: u32,
    given: Span,
}

/// The stage's side of a sink. Bounded by the windows of its links.
#[derive(Debug)]
pub(crate) struct Outlet {
    pub(crate) settler: Settler,
    pub(crate) panics: watch::Receiver<Panics>,
    chunks: mpsc::Sender<Chunk>,
    pub(crate) throttle: Throttle,
    pub(crate) batch_events: Histogram,
    /// By receipt, from `first`; none: settled.
    held: VecDeque<Option<Held>>,
    /// What the sink has rejected, until there is room for its dead letter.
    pub(crate) rejected: VecDeque<(Held, Rejection)>,
    first: u64,
    unsettled: u64,
    /// The receipt from which on the sink has not been given anything.
    next: u64,
    /// Panics that were acted upon.
    seen: u32,
    /// One of these was at fault: they go to the sink one by one.
    suspects: Option<Span>,
    /// How often the sink has panicked at one event alone. Cleared with the suspects.
    failures: HashMap<u64, u32>,
    max_failures: u32,
}

impl Outlet {
    /// The outlet, and the task that runs the sink.
    pub(crate) fn new(
        sink: Box<dyn Sink>,
        settler: Settler,
        progress: Arc<Notify>,
        max_failures: u32,
        rate: Rate,
        drain: Duration,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (chunks, receiver) = mpsc::channel(1);
        let (panicked, panics) = watch::channel(Panics::default());
        let outlet = Self {
            settler,
            panics,
            chunks,
            throttle: Throttle::new(rate),
            batch_events: Histogram::noop(),
            held: VecDeque::new(),
            rejected: VecDeque::new(),
            first: 0,
            unsettled: 0,
            next: 0,
            seen: 0,
            suspects: None,
            failures: HashMap::new(),
            max_failures,
        };
        (outlet, run(sink, receiver, progress, panicked, drain))
    }

    pub(crate) fn push(&mut self, held: Held) {
        self.unsettled += 1;
        self.held.push_back(Some(held));
    }

    /// Events that are not settled, or wait for their dead letter.
    pub(crate) fn unsettled(&self) -> u64 {
        self.unsettled + self.rejected.len() as u64
    }

    /// Whether something waits until the sink takes it.
    pub(crate) fn is_behind(&self) -> bool {
        self.next < self.first + self.held.len() as u64
    }

    /// When the oldest unsettled event came.
    pub(crate) fn oldest(&self) -> Option<Time> {
        self.held.iter().flatten().next().map(|held| held.taken)
    }

    /// Gives the sink a chunk if it can take one, as fast as the rate allows.
    pub(crate) fn feed(&mut self, tracer: &Tracer) {
        let end = self.first + self.held.len() as u64;
        self.next = self.next.max(self.first);
        while self.next < end {
            let Ok(permit) = self.chunks.try_reserve() else { return };
            if self.suspects.is_some_and(|(_, last)| self.next > last) {
                self.suspects = None;
                self.failures.clear();
            }
            let (until, count) = match self.suspects {
                Some((from, _)) if self.next >= from => (end, 1),
                Some((from, _)) => (from, CHUNK_EVENTS),
                None => (end, CHUNK_EVENTS),
            };
            let from = (self.next - self.first) as usize;
            let wanted = self.held.range(from..(until - self.first) as usize).flatten().take(count).count();
            if wanted == 0 {
                self.next = until;
                continue;
            }
            let count = self.throttle.take(wanted);
            if count == 0 {
                return;
            }
            let (mut events, mut given) = (Vec::with_capacity(count), None);
            while events.len() < count {
                if let Some(Some(held)) = self.held.get_mut((self.next - self.first) as usize) {
                    if let Some(trace) = traces::measured(tracer, &mut held.event) {
                        traces::part(tracer, trace, spans::QUEUE, *given.get_or_insert_with(|| tracer.now()));
                    }
                    events.push((Receipt(self.next), held.event.clone()));
                }
                self.next += 1;
            }
            self.batch_events.record(events.len() as f64);
            permit.send(Chunk { panics: self.seen, events });
        }
    }

    /// The event of this receipt; none when it was settled before.
    pub(crate) fn settled(&mut self, receipt: Receipt) -> Option<Held> {
        let index = usize::try_from(receipt.0.checked_sub(self.first)?).ok()?;
        let held = self.held.get_mut(index)?.take()?;
        self.unsettled -= 1;
        self.forget_settled();
        Some(held)
    }

    /// After a panic nothing is known of the sink: everything unsettled goes to it again, in order, those among which the
    /// culprit is one by one. An event at which alone it has panicked `max_failures` times is given back instead.
    pub(crate) fn panicked(&mut self) -> Option<Held> {
        let Panics { count, given: (first, last) } = *self.panics.borrow_and_update();
        self.seen = count;
        let (from, to) = self.suspects.unwrap_or((first, last));
        self.suspects = Some((from.min(first), to.max(last)));
        let mut exhausted = None;
        if first == last {
            let failures = self.failures.entry(first).or_default();
            *failures += 1;
            if *failures >= self.max_failures {
                self.failures.remove(&first);
                exhausted = self.settled(Receipt(first));
            }
        }
        self.next = self.first;
        exhausted
    }

    /// Takes back what the sink has not been given, where `wanted`.
    pub(crate) fn recall(&mut self, mut wanted: impl FnMut(&Held) -> bool) -> Vec<Held> {
        let given = usize::try_from(self.next.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let take = |held: &mut Option<Held>| held.take_if(|held| wanted(held));
        let recalled: Vec<Held> = self.held.iter_mut().skip(given).filter_map(take).collect();
        self.unsettled -= recalled.len() as u64;
        self.forget_settled();
        recalled
    }

    fn forget_settled(&mut self) {
        while let Some(None) = self.held.front() {
            self.held.pop_front();
            self.first += 1;
        }
    }
}

/// Runs the sink until its stage is done with it.
async fn run(
    mut sink: Box<dyn Sink>,
    mut chunks: mpsc::Receiver<Chunk>,
    progress: Arc<Notify>,
    panicked: watch::Sender<Panics>,
    drain: Duration,
) {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5), "sink");
    while let Some(Chunk { panics, mut events }) = chunks.recv().await {
        progress.notify_one();
        let last_panic = *panicked.borrow();
        let (Some((first, _)), Some((last, _))) = (events.first(), events.last()) else { continue };
        let given = (first.0, last.0);
        // What was given before the panic comes again with all the rest.
        if panics != last_panic.count {
            continue;
        }
        if AssertUnwindSafe(async { sink.send(&mut events).await }).catch_unwind().await.is_ok() {
            if given.0 > last_panic.given.1 {
                backoff.reset();
            }
            continue;
        }
        tracing::error!(
            events = given.1 - given.0 + 1,
            "the sink panicked; all that it has not settled goes to it again"
        );
        tokio::time::sleep(backoff.next()).await;
        panicked.send_modify(|panics| *panics = Panics { count: panics.count.wrapping_add(1), given });
    }
    sink.drain(drain).await;
}
