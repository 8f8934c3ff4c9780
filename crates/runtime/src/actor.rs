//! A handler's queue: what it is called for, in order, one call at a time; and the task that calls it.
//!
//! ```text
//!   lists of upstreams --cut--> batches --+
//!   infos, links that come and go --------+--> one call --> turn, placed as a whole --> the next call
//!   demand, when nothing waits -----------+
//! ```

use std::{
    collections::{HashMap, VecDeque},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use futures_util::FutureExt as _;
use jaiminho_core::{InputId, Outcome, Reason, Rejection, Window};
use jaiminho_telemetry::traces::Tracer;
use metrics::Histogram;
use slab::Slab;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::Instrument as _;

use crate::{
    backoff::Backoff,
    batching::Assembly,
    config::StageLimits,
    handler::{Call, End, Handler, Info, Judgement, Kind, Left, Peer, Terms, Turn},
    lanes::Work,
    rate::Throttle,
    stage::Failure,
    traces::{Called, Handling},
    upstream::UpstreamLink,
};

/// Messages to a stage's handler that wait for it.
pub(crate) const INFOS_MAX: usize = 1_024;
/// Asks that are remembered apart, so that each is one call; more are joined.
const ASKS_MAX: usize = 64;

/// What the handler gets at once: of one list of one upstream, or assembled over several.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) from: Arc<Peer>,
    /// The list's first: demand is looked at before a list, not within it.
    pub(crate) is_first: bool,
    pub(crate) work: Vec<Work>,
}

/// What waits for the handler.
#[derive(Debug)]
pub(crate) enum Letter {
    Batch(Batch),
    Info(Info),
    Discarded(u64),
    Subscribed(Arc<Peer>),
    Cancelled(Arc<Peer>, Left),
}

/// What came of a call.
#[derive(Debug)]
pub(crate) struct Acted {
    pub(crate) call: Call,
    pub(crate) turn: Turn,
    pub(crate) result: Result<(), Failure>,
    /// Where an event is measured.
    pub(crate) called: Option<Called>,
}

/// The stage's side of a handler. Its queue is bounded by the windows of its links, and by [`INFOS_MAX`].
#[derive(Debug)]
pub(crate) struct Actor {
    pub(crate) kind: Kind,
    calls: mpsc::Sender<Call>,
    pub(crate) letters: VecDeque<Letter>,
    /// Batches that are not complete.
    assembly: Option<Assembly>,
    /// Consumers that came or left, messages whose turn has come: told before anything else.
    pub(crate) urgent: VecDeque<Letter>,
    /// A call is under way.
    pub(crate) is_busy: bool,
    /// Inputs of the call under way, or of what it came to.
    pub(crate) in_hand: Vec<InputId>,
    /// Waits for room in the logs.
    pub(crate) acted: Option<Acted>,
    /// Links that the handler was told of.
    pub(crate) links: HashMap<End, Arc<Peer>>,
    /// Credit, ask by ask, of which the handler was not told.
    pub(crate) asks: VecDeque<u64>,
    /// What the handler was told to emit and has not.
    pub(crate) owed: u64,
    /// Inputs that wait for the results of their batch.
    pub(crate) shared: Slab<Vec<InputId>>,
    pub(crate) infos: usize,
    /// Messages that have a place in the log, and how many had one.
    pub(crate) in_log: VecDeque<Info>,
    pub(crate) passed: u64,
    /// What became of the events that the handler tracks, since the first of which it is not told; none: under way.
    tracked: VecDeque<Option<Outcome>>,
    /// How many tracked ones it was told of.
    told: u64,
    pub(crate) wake: Option<Instant>,
    pub(crate) throttle: Throttle,
    pub(crate) batch_events: Histogram,
    /// How the handler has ended, once it has: it is not called again, but for what was settled.
    pub(crate) ended: Option<Result<(), String>>,
    _gone: DropGuard,
}

impl Actor {
    /// Whether events wait for the call under way.
    pub(crate) fn is_behind(&self) -> bool {
        let is_batch = |letter: &Letter| matches!(letter, Letter::Batch(_));
        (self.is_busy || self.acted.is_some()) && self.letters.iter().any(is_batch)
    }

    /// The actor, and the task that calls the handler.
    pub(crate) fn new(
        handler: Box<dyn Handler>,
        kind: Kind,
        acted: mpsc::Sender<Acted>,
        limits: &StageLimits,
        outputs: Arc<[String]>,
        draining: CancellationToken,
        (stage, tracer): (&str, &Tracer),
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (calls, receiver) = mpsc::channel(1);
        let gone = CancellationToken::new();
        let caller = Caller {
            handler,
            stage: stage.to_owned(),
            tracer: tracer.clone(),
            failures: 0,
            max_failures: limits.max_failures,
            terms: Terms { draining, outputs, unordered: limits.unordered },
        };
        let run = {
            let gone = gone.clone();
            async move {
                tokio::select! {
                    biased;
                    () = caller.run(receiver, acted) => {}
                    () = gone.cancelled() => {}
                }
            }
        };
        let actor = Self {
            kind,
            calls,
            letters: VecDeque::new(),
            assembly: limits.batch.clone().map(Assembly::new),
            urgent: VecDeque::new(),
            is_busy: false,
            in_hand: Vec::new(),
            acted: None,
            links: HashMap::new(),
            asks: VecDeque::new(),
            owed: 0,
            shared: Slab::new(),
            infos: 0,
            in_log: VecDeque::new(),
            passed: 0,
            tracked: VecDeque::new(),
            told: 0,
            wake: None,
            throttle: Throttle::new(limits.rate.clone()),
            batch_events: Histogram::noop(),
            ended: None,
            _gone: gone.drop_guard(),
        };
        (actor, run)
    }

    /// Queues a list of one upstream, in batches of at most `batch_max`; or as events of batches, which may hold `held_max` of it.
    pub(crate) fn push_list(&mut self, link: UpstreamLink, work: Vec<Work>, batch_max: usize, held_max: Window) {
        let Some(from) = self.links.get(&End::Producer(link)).cloned() else { return };
        if let Some(assembly) = &mut self.assembly {
            let now = Instant::now();
            let complete = work.into_iter().flat_map(|work| assembly.push(&from, work, held_max, now));
            self.letters.extend(complete.map(Letter::Batch));
            return;
        }
        let mut rest = work.into_iter().peekable();
        let mut is_first = true;
        while rest.peek().is_some() {
            let work = rest.by_ref().take(batch_max.max(1)).collect();
            self.letters.push_back(Letter::Batch(Batch { from: from.clone(), is_first, work }));
            is_first = false;
        }
    }

    /// Queues a message, unless too many wait. False: it was not.
    pub(crate) fn push_info(&mut self, info: Info) -> bool {
        if self.infos >= INFOS_MAX {
            return false;
        }
        self.infos += 1;
        self.letters.push_back(Letter::Info(info));
        true
    }

    /// A link has opened.
    pub(crate) fn joined(&mut self, peer: Peer) {
        let peer = Arc::new(peer);
        self.links.insert(peer.end, peer.clone());
        let is_producer = peer.is_producer();
        let letters = if is_producer { &mut self.letters } else { &mut self.urgent };
        letters.push_back(Letter::Subscribed(peer));
    }

    /// A link has ended; only the first time counts.
    pub(crate) fn left(&mut self, end: End, left: Left) {
        let Some(peer) = self.links.remove(&end) else { return };
        let letters = match end {
            End::Producer(link) => {
                let held = self.assembly.iter_mut().flat_map(|assembly| assembly.take_of(link));
                self.letters.extend(held.map(Letter::Batch));
                &mut self.letters
            }
            End::Consumer(_) => &mut self.urgent,
        };
        letters.push_back(Letter::Cancelled(peer, left));
    }

    /// Queues the batches whose time has come; all of them where nothing may be held.
    pub(crate) fn complete(&mut self, is_flush: bool) {
        let Some(assembly) = self.assembly.as_mut().filter(|assembly| !assembly.is_empty()) else { return };
        let complete = if is_flush { assembly.take_all() } else { assembly.take_due(Instant::now()) };
        self.letters.extend(complete.into_iter().map(Letter::Batch));
    }

    /// A consumer has raised its credit by so much.
    pub(crate) fn asked(&mut self, events: u64) {
        let is_full = self.asks.len() >= ASKS_MAX;
        match self.asks.back_mut().filter(|_| is_full) {
            Some(last) => *last = last.saturating_add(events),
            None => self.asks.push_back(events),
        }
    }

    /// What of the demand the handler is told at once.
    pub(crate) fn next_demand(&mut self, demand: u64) -> Option<u64> {
        let untold = demand.saturating_sub(self.owed);
        if untold == 0 {
            return None;
        }
        let told = self.asks.pop_front().unwrap_or(untold).min(untold).max(1);
        self.owed += told;
        Some(told)
    }

    /// Calls the handler. Only when no call is under way.
    pub(crate) fn call(&mut self, call: Call) {
        self.is_busy = self.calls.try_send(call).is_ok();
    }

    /// Whether nothing is to be handled, and nothing under way.
    pub(crate) fn is_idle(&self) -> bool {
        let is_held = self.assembly.as_ref().is_some_and(|assembly| !assembly.is_empty());
        let is_quiet = self.letters.is_empty() && self.urgent.is_empty() && self.in_log.is_empty() && !is_held;
        !self.is_busy && self.acted.is_none() && (self.ended.is_some() || is_quiet)
    }

    /// One more event is tracked; its number.
    pub(crate) fn track(&mut self) -> u64 {
        self.tracked.push_back(None);
        self.told + self.tracked.len() as u64 - 1
    }

    /// This became of a tracked event.
    pub(crate) fn tracked_settled(&mut self, number: u64, outcome: Outcome) {
        let index = usize::try_from(number - self.told).unwrap_or(usize::MAX);
        if let Some(tracked) = self.tracked.get_mut(index) {
            *tracked = Some(outcome);
        }
    }

    /// Whether the handler is to be told of settled events.
    fn has_settled(&self) -> bool {
        let has_failed = matches!(self.ended, Some(Err(_)));
        !has_failed && self.tracked.front().is_some_and(Option::is_some)
    }

    /// What is settled without a gap, once.
    pub(crate) fn next_settled(&mut self) -> Option<Vec<Outcome>> {
        let mut settled = Vec::new();
        while self.has_settled() {
            settled.extend(self.tracked.pop_front().flatten());
        }
        self.told += settled.len() as u64;
        (!settled.is_empty()).then_some(settled)
    }

    /// Resolves when a time has come: of [`Call::Wake`], of an open batch, or for a batch that waits for the rate.
    pub(crate) async fn due(&mut self, is_leaving: bool) {
        let is_free = !self.is_busy && self.acted.is_none();
        let wake = self.wake.filter(|_| is_free && !is_leaving && self.ended.is_none());
        let complete = self.assembly.as_ref().and_then(Assembly::due);
        let timed = async {
            match wake.into_iter().chain(complete).min() {
                Some(time) => tokio::time::sleep_until(time).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = timed => {}
            () = self.throttle.opens() => {}
        }
    }

    /// Takes back what is not in the handler's hands, where `wanted`.
    pub(crate) fn recall(&mut self, mut wanted: impl FnMut(&Work) -> bool) -> Vec<Work> {
        let mut recalled = Vec::new();
        for letter in &mut self.letters {
            if let Letter::Batch(batch) = letter {
                recalled.extend(batch.work.extract_if(.., |work| wanted(work)));
            }
        }
        recalled.extend(self.assembly.iter_mut().flat_map(|assembly| assembly.recall(&mut wanted)));
        self.letters.retain(|letter| !matches!(letter, Letter::Batch(batch) if batch.work.is_empty()));
        recalled
    }
}

/// Owns the handler.
struct Caller {
    handler: Box<dyn Handler>,
    stage: String,
    tracer: Tracer,
    max_failures: u32,
    /// Of the call under way.
    failures: u32,
    terms: Terms,
}

impl Caller {
    fn turn(&self) -> Turn {
        Turn::new(self.terms.clone())
    }

    async fn run(mut self, mut calls: mpsc::Receiver<Call>, acted: mpsc::Sender<Acted>) {
        while let Some(call) = calls.recv().await {
            self.failures = 0;
            let handling = if let Call::Events { events, .. } = &call {
                Handling::begin(&self.tracer, &self.stage, events)
            } else {
                None
            };
            let (result, turn) = match &handling {
                Some(handling) => self.act(&call).instrument(handling.span.clone()).await,
                None => self.act(&call).await,
            };
            let called = handling.map(|handling| handling.end(&self.tracer, self.failures));
            if acted.send(Acted { call, turn, result, called }).await.is_err() {
                return;
            }
        }
    }

    /// A batch at which the handler fails comes again event by event: one of them is at fault.
    async fn act(&mut self, call: &Call) -> (Result<(), Failure>, Turn) {
        match call {
            Call::Events { from, events } => {
                let failure = match self.once(call).await {
                    Ok(turn) => return (Ok(()), turn),
                    Err(failure) => failure,
                };
                let mut turn = self.turn();
                let (count, mut last) = (events.len(), Some(failure));
                for (index, event) in events.iter().enumerate() {
                    let one = Call::Events { from: from.clone(), events: vec![event.clone()] };
                    // Alone in its batch it has failed once.
                    let before = last.take().filter(|_| count == 1);
                    match self.often(&one, before).await {
                        Ok(said) => turn.absorb(index, said),
                        Err(failure) => {
                            let rejection = Rejection::new(Reason::Exhausted, failure.text);
                            turn.judged.push((index, Judgement::Reject(rejection)));
                        }
                    }
                }
                (Ok(()), turn)
            }
            Call::Demand(_)
            | Call::Info(_)
            | Call::Subscribed(_)
            | Call::Cancelled(..)
            | Call::Wake
            | Call::Discarded(_)
            | Call::Settled(_) => match self.often(call, None).await {
                Ok(turn) => (Ok(()), turn),
                Err(failure) => (Err(failure), self.turn()),
            },
        }
    }

    /// Tries until the handler succeeds, or has failed too often; `before` is how it failed already.
    async fn often(&mut self, call: &Call, before: Option<Failure>) -> Result<Turn, Failure> {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(2), "handler");
        let mut failures = 0;
        let mut failed = before;
        loop {
            if let Some(failure) = failed {
                failures += 1;
                tracing::debug!(failures, error = failure.text, "the handler failed");
                if failures >= self.max_failures {
                    return Err(failure);
                }
                tokio::time::sleep(backoff.next()).await;
            }
            match self.once(call).await {
                Ok(turn) => return Ok(turn),
                Err(failure) => failed = Some(failure),
            }
        }
    }

    async fn once(&mut self, call: &Call) -> Result<Turn, Failure> {
        let mut turn = self.turn();
        // What the handler does before its first await may panic, too.
        let calling = AssertUnwindSafe(async { self.handler.handle(call, &mut turn).await }).catch_unwind();
        let result = match calling.await {
            Ok(result) => result.and_then(|()| turn.has_all_outputs()).map(|()| turn),
            Err(panic) => Err(Failure::of_panic(&*panic)),
        };
        self.failures += u32::from(result.is_err());
        result
    }
}
