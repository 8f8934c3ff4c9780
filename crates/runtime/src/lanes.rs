//! Key lanes: one call of a transform at a time for each key, many keys at once.
//!
//! Each worker is a task that owns the lanes whose keys hash to it. A call that is ready at once costs neither
//! a task nor a timer; one that waits keeps its lane busy, and the lane's later events queue behind it.

use std::{
    collections::{HashMap, VecDeque},
    panic::AssertUnwindSafe,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use jaiminho_core::{Event, InputId, Reason};
use jaiminho_telemetry::traces::Tracer;
use tokio::sync::{Notify, mpsc};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::{
    backoff::Backoff,
    config::StageLimits,
    rate::Throttle,
    stage::{Failure, Transform, Verdict},
    traces::Calling,
};

/// Most events handed to a worker at once.
const CHUNK_EVENTS: usize = 64;
/// Chunks of one worker: one in hand, one that waits.
const CHUNKS_PER_WORKER: usize = 2;

/// Inputs whose results a stage may hold before it has put them into its log, for this `concurrency`.
pub fn results_max(concurrency: u64) -> u64 {
    concurrency.saturating_mul(CHUNKS_PER_WORKER as u64)
}

/// One event to be converted.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) input: InputId,
    pub(crate) event: Event,
}

/// One event that was.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) input: InputId,
    pub(crate) event: Event,
    pub(crate) verdict: Verdict,
}

/// The stage's side: one queue a worker.
#[derive(Debug)]
pub(crate) struct Lanes {
    workers: Vec<(VecDeque<Work>, mpsc::Sender<Vec<Work>>)>,
    next: usize,
    chunk: usize,
    is_ordered: bool,
    throttle: Throttle,
    /// The worker that is fed first: a slow rate would starve those behind it.
    turn: usize,
    /// Events that were pushed and have not come back.
    in_hand: usize,
    concurrency: usize,
}

impl Lanes {
    /// Spawns as many workers as the runtime has threads, at most `concurrency`; results come through `done`, `progress` tells that a worker has taken a chunk.
    pub(crate) fn spawn(
        transform: &Arc<dyn Transform>,
        limits: &StageLimits,
        (stage, tracer): (&str, &Tracer),
        done: &mpsc::Sender<Vec<Done>>,
        progress: &Arc<Notify>,
        tasks: &TaskTracker,
    ) -> Self {
        let threads = tokio::runtime::Handle::current().metrics().num_workers();
        let count = limits.concurrency.clamp(1, threads.max(1));
        let stage: Arc<str> = stage.into();
        let each = (limits.concurrency / count).max(1);
        let workers = (0..count)
            .map(|_| {
                let (chunks, receiver) = mpsc::channel(1);
                let worker = Worker {
                    transform: transform.clone(),
                    limits: limits.clone(),
                    stage: stage.clone(),
                    tracer: tracer.clone(),
                    concurrency: each,
                    waiting: VecDeque::new(),
                    busy: HashMap::new(),
                    running: FuturesUnordered::new(),
                    finished: Vec::new(),
                };
                tasks.spawn(worker.run(receiver, done.clone(), progress.clone()));
                (VecDeque::new(), chunks)
            })
            .collect();
        Self {
            workers,
            next: 0,
            chunk: each.min(CHUNK_EVENTS),
            is_ordered: !limits.unordered,
            throttle: Throttle::new(limits.rate.clone()),
            turn: 0,
            in_hand: 0,
            concurrency: each * count,
        }
    }

    /// Queues an event for the worker of its key.
    pub(crate) fn push(&mut self, work: Work) {
        let index = match work.event.key.filter(|_| self.is_ordered) {
            // The upper half: partitions are taken from the hash as well.
            Some(key) => (key.0 >> 32) as usize % self.workers.len(),
            None => {
                self.next = (self.next + 1) % self.workers.len();
                self.next
            }
        };
        if let Some((queue, _)) = self.workers.get_mut(index) {
            queue.push_back(work);
            self.in_hand += 1;
        }
    }

    /// So many have come back.
    pub(crate) fn returned(&mut self, events: usize) {
        self.in_hand -= events;
    }

    /// Events that were pushed and have not come back.
    pub(crate) fn in_hand(&self) -> usize {
        self.in_hand
    }

    /// Whether as much is in hand as can be worked on at once.
    pub(crate) fn are_busy(&self) -> bool {
        self.in_hand >= self.concurrency
    }

    /// Hands chunks to the workers that can take one, as fast as the rate allows.
    pub(crate) fn feed(&mut self) {
        let next = (self.turn + 1) % self.workers.len();
        let (before, from) = self.workers.split_at_mut(self.turn);
        for (queue, chunks) in from.iter_mut().chain(before) {
            while !queue.is_empty() {
                let Ok(permit) = chunks.try_reserve() else { break };
                let events = self.throttle.take(queue.len().min(self.chunk));
                if events == 0 {
                    self.turn = next;
                    return;
                }
                permit.send(queue.drain(..events).collect());
            }
        }
    }

    /// Resolves when the rate lets something go that waits for it.
    pub(crate) async fn opens(&mut self) {
        self.throttle.opens().await;
    }

    /// Takes back what no worker has, where `wanted`.
    pub(crate) fn recall(&mut self, mut wanted: impl FnMut(&Work) -> bool) -> Vec<Work> {
        let mut recalled = Vec::new();
        for (queue, _) in &mut self.workers {
            for work in std::mem::take(queue) {
                if wanted(&work) { recalled.push(work) } else { queue.push_back(work) }
            }
        }
        self.in_hand -= recalled.len();
        recalled
    }
}

struct Worker {
    transform: Arc<dyn Transform>,
    limits: StageLimits,
    stage: Arc<str>,
    tracer: Tracer,
    concurrency: usize,
    /// The rest of the chunk in hand.
    waiting: VecDeque<Work>,
    /// Lanes with a call in flight, and what waits behind it. Bounded by the chunk size and `concurrency`.
    busy: HashMap<u64, VecDeque<Work>>,
    running: FuturesUnordered<BoxFuture<'static, (Option<u64>, Done)>>,
    finished: Vec<Done>,
}

impl Worker {
    async fn run(
        mut self,
        mut chunks: mpsc::Receiver<Vec<Work>>,
        done: mpsc::Sender<Vec<Done>>,
        progress: Arc<Notify>,
    ) {
        loop {
            tokio::select! {
                biased;
                // First: what is finished makes room, and only a new chunk brings more.
                Some((lane, finished)) = self.running.next() => self.finish(lane, finished),
                // The stage has ended; a call may wait for very long.
                () = done.closed() => break,
                chunk = chunks.recv(), if self.waiting.is_empty() && self.running.len() < self.concurrency => {
                    let Some(chunk) = chunk else { break };
                    progress.notify_one();
                    self.waiting.extend(chunk);
                }
            }
            while self.running.len() < self.concurrency
                && let Some(work) = self.waiting.pop_front()
            {
                self.start(work);
            }
            if !self.finished.is_empty() && done.send(std::mem::take(&mut self.finished)).await.is_err() {
                break;
            }
        }
    }

    fn start(&mut self, mut work: Work) {
        let lane = work.event.key.map(|key| key.0).filter(|_| !self.limits.unordered);
        if let Some(queue) = lane.and_then(|lane| self.busy.get_mut(&lane)) {
            queue.push_back(work);
            return;
        }
        let calling = Calling::begin(&self.tracer, &self.stage, &mut work.event);
        let (transform, limits) = (self.transform.clone(), self.limits.clone());
        let mut call = match calling {
            None => convert(transform, limits, work).map(move |(done, _)| (lane, done)).boxed(),
            Some(calling) => {
                let (span, tracer) = (calling.span.clone(), self.tracer.clone());
                let told = convert(transform, limits, work).instrument(span).map(move |(mut done, failures)| {
                    calling.end(&tracer, &mut done.event, failures);
                    (lane, done)
                });
                told.boxed()
            }
        };
        match call.as_mut().now_or_never() {
            Some((_, done)) => self.finished.push(done),
            None => {
                if let Some(lane) = lane {
                    self.busy.insert(lane, VecDeque::new());
                }
                self.running.push(call);
            }
        }
    }

    fn finish(&mut self, lane: Option<u64>, done: Done) {
        self.finished.push(done);
        let Some(mut queue) = lane.and_then(|lane| self.busy.remove(&lane)) else { return };
        while let Some(work) = queue.pop_front() {
            self.start(work);
            if let Some(waiting) = lane.and_then(|lane| self.busy.get_mut(&lane)) {
                waiting.append(&mut queue);
            }
        }
    }
}

/// Calls the transform until it has a verdict or has failed too often; how often it has failed.
async fn convert(transform: Arc<dyn Transform>, limits: StageLimits, work: Work) -> (Done, u32) {
    let Work { input, event } = work;
    let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(2), (input, event.origin));
    let mut failures = 0;
    let mut admitted = false;
    let verdict = loop {
        match admit_and_call(&*transform, &event, &mut admitted, limits.timeout).await {
            Ok(verdict) => break verdict,
            Err(failure) => {
                failures += 1;
                tracing::debug!(failures, failure = failure.text, "transform failed");
                if failures >= limits.max_failures {
                    break Verdict::Reject { reason: Reason::Exhausted, text: failure.text };
                }
                tokio::time::sleep(backoff.next()).await;
            }
        }
    };
    (Done { input, event, verdict }, failures)
}

async fn admit_and_call(
    transform: &dyn Transform,
    event: &Event,
    admitted: &mut bool,
    timeout: Duration,
) -> Result<Verdict, Failure> {
    if !*admitted {
        let verdict = AssertUnwindSafe(async {
            match transform.admit(event) {
                Some(admission) => admission.await,
                None => None,
            }
        });
        if let Some(verdict) = verdict.catch_unwind().await.map_err(|panic| Failure::of_panic(&*panic))? {
            return Ok(verdict);
        }
        *admitted = true;
    }
    call(transform, event, timeout).await
}

/// One call: a panic or a time-out is a failure like any other.
async fn call(transform: &dyn Transform, event: &Event, timeout: Duration) -> Result<Verdict, Failure> {
    let Ok(future) = std::panic::catch_unwind(AssertUnwindSafe(|| transform.process(event))) else {
        return Err(Failure { text: "the handler panicked".into() });
    };
    let mut future = AssertUnwindSafe(future).catch_unwind();
    let first = std::future::poll_fn(|cx| Poll::Ready(future.poll_unpin(cx))).await;
    let result = match first {
        Poll::Ready(result) => result,
        Poll::Pending => tokio::select! {
            biased;
            result = &mut future => result,
            () = elapse(timeout) => return Err(Failure { text: format!("the handler took more than {timeout:?}") }),
        },
    };
    result.unwrap_or_else(|panic| Err(Failure::of_panic(&*panic)))
}

/// Passes after `timeout` of time in which this process ran: a stop counts as one slice at most.
async fn elapse(timeout: Duration) {
    const SLICES: u32 = 10;
    for _ in 0..SLICES {
        tokio::time::sleep(timeout / SLICES).await;
    }
}
