//! The stage's task: receives, asks the core, sends. It alone owns the stage's state.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    future::poll_fn,
    pin::pin,
    sync::{Arc, atomic::AtomicU64},
    task::Poll,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jaiminho_core::{
    Event, GroupKind, InputId, Inputs, Instance, LinkError, Offset, Outcome, Output, Reason, Rejection, Settled,
    Settlement, Subscribe, Time, ToConsumer,
};
use jaiminho_telemetry::names;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    absent::Absent,
    config::{DeadLetter, DeadLetterSpec, OutputSpec, Role, StageConfig, StageLimits, UpstreamSpec},
    consumer::Upstreams,
    desk::Desk,
    handle::{Command, OfferSlot, StageEnd, StageHandle},
    lanes::{Done, Lanes, Work},
    outlet::{Held, Outlet},
    peers::{PeerId, Peers, Said, TICK_MS},
    source::SourceHandle,
    stage::{Emitted, Receipt, Refusal, Source, SourceError, Verdict},
    upstream::{Subscription, UpstreamEvent, UpstreamLink},
};

/// This protocol's version.
pub(crate) const VERSION: u32 = 1;

/// What a sink has to flush itself when its stage has ended.
const SINK_DRAIN: Duration = Duration::from_secs(5);

/// Commands that wait for the task; it takes as many out at once.
const COMMANDS: usize = 32;

/// Messages taken from a channel at once.
const BATCH: usize = 128;

/// What an input is settled to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Tag {
    /// A delivery of an upstream.
    Link { link: UpstreamLink, number: u64 },
    /// The same, rejected by a sink: its credit comes back with its settlement, when its dead letter is safe.
    Sunk { link: UpstreamLink, number: u64, bytes: u64 },
    /// An event of a source, which is its own input.
    Offered(InputId),
}

/// The moment of one turn of the loop.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    pub(crate) now: Time,
    unix_ms_at_zero: u64,
}

impl Clock {
    fn start(unix_ms: u64) -> Self {
        Self { now: Time(0), unix_ms_at_zero: unix_ms }
    }

    /// Unix time in ms.
    pub(crate) fn wall(self, time: Time) -> u64 {
        self.unix_ms_at_zero + time.0
    }
}

/// A named log.
pub(crate) struct Log {
    pub(crate) name: String,
    pub(crate) output: Output,
}

/// What the stage does, and what of it is in hand.
pub(crate) enum Doing {
    Source(Desk),
    /// Results that wait for room in the log are bounded by what the lanes hold.
    Transform {
        lanes: Lanes,
        placing: VecDeque<Done>,
    },
    Sink(Outlet),
}

/// Counts since the start; written to the metrics at each tick.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) events_in: u64,
    pub(crate) accepted: u64,
    pub(crate) rejected: u64,
}

pub(crate) struct Task {
    pub(crate) pipeline: String,
    pub(crate) stage: String,
    pub(crate) instance: Instance,
    pub(crate) clock: Clock,
    pub(crate) logs: Vec<Log>,
    /// Index of its log.
    pub(crate) dead_letter: Option<(usize, DeadLetter)>,
    /// Rejections whose dead letter is not settled yet, by its place in the log.
    pub(crate) dying: HashMap<Offset, Rejection>,
    pub(crate) inputs: Inputs<Tag>,
    pub(crate) peers: Peers,
    pub(crate) ready: BTreeSet<PeerId>,
    pub(crate) upstreams: Upstreams,
    pub(crate) min_demand: Vec<u64>,
    pub(crate) doing: Doing,
    pub(crate) tasks: TaskTracker,
    pub(crate) tally: Tally,
    /// When the log last told of an event that nobody keeps.
    pub(crate) warned: Option<Time>,
    pub(crate) absent: Absent,
    /// Longest drain once its source has failed.
    drain: Duration,
    /// When the drain must be over.
    pub(crate) leave: Option<tokio::time::Instant>,
    pub(crate) end: Option<StageEnd>,
}

/// The channels into the task. The task keeps a sender of each, so none of them closes.
struct Inbox {
    commands: mpsc::Receiver<Command>,
    offers: mpsc::Receiver<OfferSlot>,
    upstream: mpsc::Receiver<(UpstreamLink, UpstreamEvent)>,
    done: mpsc::Receiver<Vec<Done>>,
    source: mpsc::Receiver<Result<(), SourceError>>,
    drain: watch::Receiver<Option<tokio::time::Instant>>,
    progress: Arc<Notify>,
    closing: CancellationToken,
    _open: Open,
}

/// A sender of each channel.
type Open = (
    mpsc::Sender<Command>,
    mpsc::Sender<OfferSlot>,
    mpsc::Sender<(UpstreamLink, UpstreamEvent)>,
    mpsc::Sender<Vec<Done>>,
);

/// Starts a stage. Must be called within a tokio runtime.
pub fn spawn(config: StageConfig) -> StageHandle {
    let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    spawn_at(config, unix_ms)
}

/// Starts a stage in a world where it is `unix_ms`. Must be called within a tokio runtime.
#[expect(clippy::too_many_lines, reason = "a list of parts, nothing to follow")]
pub fn spawn_at(config: StageConfig, unix_ms: u64) -> StageHandle {
    let StageConfig { pipeline, stage, instance, outputs, dead_letter, upstreams, role, limits } = config;
    let (commands, command_inbox) = mpsc::channel(COMMANDS);
    let (offers, offer_inbox) = mpsc::channel(1024);
    let (upstream, upstream_inbox) = mpsc::channel(64);
    let (done, done_inbox) = mpsc::channel(64);
    let (source_end, source_inbox) = mpsc::channel(1);
    let (drain, drain_seen) = watch::channel(None);
    let (room, room_seen) = watch::channel(true);
    let (end, end_seen) = watch::channel(None);
    let (draining, closing) = (CancellationToken::new(), CancellationToken::new());
    let (tasks, progress) = (TaskTracker::new(), Arc::new(Notify::new()));

    let (logs, dead_letter) = logs(outputs, dead_letter);
    let handle = StageHandle {
        commands: commands.clone(),
        offers: offers.clone(),
        room: room_seen,
        drain: Arc::new(drain),
        draining,
        end: end_seen,
    };
    let doing = match role {
        Role::Source(source) => {
            tasks.spawn(run_source(source, handle.source(), source_end));
            Doing::Source(Desk::new(instance.incarnation, room))
        }
        Role::Transform(transform) => {
            let lanes = Lanes::spawn(&transform, &limits, &done, &progress, &tasks);
            Doing::Transform { lanes, placing: VecDeque::new() }
        }
        Role::Sink(sink, settler) => {
            let (outlet, run) = Outlet::new(sink, settler, progress.clone(), limits.max_failures, SINK_DRAIN);
            tasks.spawn(run);
            Doing::Sink(outlet)
        }
    };
    let min_demand = upstreams.iter().map(|spec| spec.min_demand).collect();
    let template = template(&pipeline, &stage, &instance, &limits);
    subscribe_all(upstreams, &template, limits.links_max, &upstream, &tasks, &closing);
    let task = Task {
        pipeline,
        stage,
        instance,
        clock: Clock::start(unix_ms),
        logs,
        dead_letter,
        dying: HashMap::new(),
        inputs: Inputs::new(),
        peers: Peers::default(),
        ready: BTreeSet::new(),
        upstreams: Upstreams::default(),
        min_demand,
        doing,
        tasks,
        tally: Tally::default(),
        warned: None,
        absent: Absent::default(),
        drain: limits.drain,
        leave: None,
        end: None,
    };
    let inbox = Inbox {
        commands: command_inbox,
        offers: offer_inbox,
        upstream: upstream_inbox,
        done: done_inbox,
        source: source_inbox,
        drain: drain_seen,
        progress,
        closing,
        _open: (commands, offers, upstream, done),
    };
    tokio::spawn(async move {
        let ended = task.run(inbox).await;
        end.send_replace(Some(ended));
    });
    handle
}

fn logs(outputs: Vec<OutputSpec>, dead_letter: Option<DeadLetterSpec>) -> (Vec<Log>, Option<(usize, DeadLetter)>) {
    let log = |spec: OutputSpec| Log { name: spec.name, output: Output::new(spec.config) };
    let mut logs: Vec<Log> = outputs.into_iter().map(log).collect();
    let dead_letter = dead_letter.map(|spec| {
        logs.push(log(spec.output));
        (logs.len() - 1, spec.make)
    });
    (logs, dead_letter)
}

/// One task for each subscription, which keeps links to all instances.
fn subscribe_all(
    upstreams: Vec<UpstreamSpec>,
    template: &Subscribe,
    links_max: usize,
    events: &mpsc::Sender<(UpstreamLink, UpstreamEvent)>,
    tasks: &TaskTracker,
    closing: &CancellationToken,
) {
    let links = Arc::new(AtomicU64::new(1));
    let places = Arc::new(Semaphore::new(links_max.min(Semaphore::MAX_PERMITS)));
    for (index, spec) in upstreams.into_iter().enumerate() {
        let UpstreamSpec { output, kind, window, min_demand: _, discover, connect } = spec;
        let template = Subscribe { output, kind, window, ..template.clone() };
        let subscription = Subscription {
            index,
            template,
            connect,
            links: links.clone(),
            links_max,
            places: places.clone(),
            live: Arc::default(),
            events: events.clone(),
            tasks: tasks.clone(),
            closing: closing.clone(),
        };
        tasks.spawn(subscription.run(discover));
    }
}

async fn run_source(source: Box<dyn Source>, handle: SourceHandle, end: mpsc::Sender<Result<(), SourceError>>) {
    let running = tokio::spawn(source.run(handle));
    let result = running.await.unwrap_or_else(|panic| Err(SourceError(format!("the source panicked: {panic}"))));
    // The stage may have left before its source.
    let _gone = end.send(result).await;
}

fn template(pipeline: &str, stage: &str, instance: &Instance, limits: &StageLimits) -> Subscribe {
    Subscribe {
        version_min: VERSION,
        version_max: VERSION,
        pipeline: pipeline.to_owned(),
        output: String::new(),
        group: stage.to_owned(),
        kind: GroupKind::Required,
        instance: instance.clone(),
        link_counter: 0,
        window: jaiminho_core::Window { events: 1, bytes: 1 },
        event_bytes_max: limits.event_bytes_max,
        frame_bytes_max: jaiminho_core::frame_bytes_max(limits.event_bytes_max),
        selector: None,
        partition: None,
    }
}

impl Task {
    async fn run(mut self, mut inbox: Inbox) -> StageEnd {
        let started = tokio::time::Instant::now();
        let mut ticks = tokio::time::interval(Duration::from_millis(TICK_MS));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut batch = Batch::default();
        loop {
            self.receive(&mut inbox, &mut batch, &mut ticks).await;
            self.clock.now = Time(started.elapsed().as_millis() as u64);
            for turn in batch.turns.drain(..) {
                self.turn(turn, &inbox.closing);
            }
            self.take(&mut batch);
            self.advance();
            if let Some(end) = self.finished() {
                inbox.closing.cancel();
                inbox.offers.close();
                while let Ok(slot) = inbox.offers.try_recv() {
                    slot.refuse(Refusal::Draining);
                }
                self.leave(&end);
                let Self { tasks, doing, peers, upstreams, .. } = self;
                drop((inbox, doing, peers, upstreams));
                tasks.close();
                let _late = tokio::time::timeout(Duration::from_secs(5), tasks.wait()).await;
                return end;
            }
        }
    }

    fn turn(&mut self, turn: Turn, closing: &CancellationToken) {
        match turn {
            Turn::Tick => self.tick(),
            Turn::Drain(deadline) => self.begin_drain(deadline, closing),
            Turn::SourceEnded(result) => self.source_ended(result, closing),
            Turn::SinkPanicked => self.sink_panicked(),
            Turn::Room(peer) => {
                self.ready.insert(peer);
            }
            Turn::Settled(settled) => self.sink_settled(settled),
        }
    }

    /// Takes what is ready from everywhere: whatever one side sends, none waits behind another.
    async fn receive(&mut self, inbox: &mut Inbox, batch: &mut Batch, ticks: &mut tokio::time::Interval) {
        let Self { doing, upstreams, peers, .. } = self;
        let Batch { turns, commands, offers, upstream, from_consumers, from_upstreams, done } = batch;
        let settled = async {
            match doing {
                Doing::Sink(outlet) => tokio::select! {
                    biased;
                    settled = outlet.settler.take() => Some(Turn::Settled(settled)),
                    Ok(()) = outlet.panics.changed() => Some(Turn::SinkPanicked),
                },
                Doing::Source(_) | Doing::Transform { .. } => std::future::pending().await,
            }
        };
        let drain = async {
            match inbox.drain.changed().await {
                Ok(()) => inbox.drain.borrow_and_update().map(Turn::Drain),
                // The handles are gone: nobody will ask.
                Err(_) => std::future::pending().await,
            }
        };
        let room = async { peers.changed(from_consumers).await.map(Turn::Room) };
        let (mut settled, mut drain, mut room) = (pin!(settled), pin!(drain), pin!(room));
        let (mut from_upstreams, mut progress) =
            (pin!(upstreams.changed(from_upstreams)), pin!(inbox.progress.notified()));
        poll_fn(|cx| {
            let mut any = ticks.poll_tick(cx).is_ready();
            turns.extend(any.then_some(Turn::Tick));
            for turn in [drain.as_mut().poll(cx), settled.as_mut().poll(cx), room.as_mut().poll(cx)] {
                let Poll::Ready(turn) = turn else { continue };
                turns.extend(turn);
                any = true;
            }
            if let Poll::Ready(Some(result)) = inbox.source.poll_recv(cx) {
                turns.push(Turn::SourceEnded(result));
                any = true;
            }
            any |= inbox.commands.poll_recv_many(cx, commands, COMMANDS).is_ready();
            any |= inbox.upstream.poll_recv_many(cx, upstream, BATCH).is_ready();
            any |= from_upstreams.as_mut().poll(cx).is_ready();
            any |= inbox.done.poll_recv_many(cx, done, BATCH).is_ready();
            any |= inbox.offers.poll_recv_many(cx, offers, BATCH).is_ready();
            any |= progress.as_mut().poll(cx).is_ready();
            if any { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    fn take(&mut self, batch: &mut Batch) {
        for command in batch.commands.drain(..) {
            self.command(command);
        }
        for (peer, said) in batch.from_consumers.drain(..) {
            self.heard(peer, said);
        }
        for (link, event) in batch.upstream.drain(..) {
            self.upstream_event(link, event);
        }
        for (link, said) in batch.from_upstreams.drain(..) {
            self.upstream_said(link, said);
        }
        if let Doing::Transform { placing, .. } = &mut self.doing {
            placing.extend(batch.done.drain(..).flatten());
        }
        for offer in batch.offers.drain(..) {
            if offer.rejection.is_some() {
                self.reject_offered(offer);
                continue;
            }
            if let (Doing::Source(desk), Some(log)) = (&mut self.doing, self.logs.first_mut()) {
                let events = offer.offer.events.len() as u64;
                if desk.offer(offer, &mut log.output, self.clock) {
                    self.tally.events_in += events;
                } else {
                    metrics::counter!(names::REFUSED, "stage" => self.stage.clone()).increment(1);
                }
            }
        }
    }

    /// Everything that the new state allows: place results, dispatch, settle, write.
    fn advance(&mut self) {
        loop {
            self.place();
            let stopped = self.dispatch();
            if !self.settle() && !stopped {
                break;
            }
        }
        match &mut self.doing {
            Doing::Transform { lanes, placing } if placing.is_empty() => lanes.feed(),
            Doing::Sink(outlet) => outlet.feed(),
            Doing::Transform { .. } | Doing::Source(_) => {}
        }
        self.write_peers();
        self.upstreams.flush();
    }

    /// True: there is more to dispatch, once what a log has rejected is settled.
    fn dispatch(&mut self) -> bool {
        // A log may reject what is too large: there must be room for the dead letter.
        let (dead, is_stuck) = (self.dead_letter_log(), self.has_no_room_for_dead_letters());
        let logs = self.logs.iter_mut().enumerate().filter(|(index, _)| !is_stuck || dead == Some(*index));
        logs.fold(false, |stopped, (_, log)| log.output.dispatch(self.clock.now) || stopped)
    }

    pub(crate) fn has_no_room_for_dead_letters(&self) -> bool {
        self.dead_letter_log().is_some_and(|dead| self.logs[dead].output.is_full())
    }

    /// Puts results and rejections into the logs, in order, as long as there is room.
    fn place(&mut self) {
        self.place_rejected();
        while let Doing::Transform { placing, .. } = &mut self.doing {
            if self.logs.iter().any(|log| log.output.is_full()) {
                return;
            }
            let Some(done) = placing.pop_front() else { return };
            if self.is_dropped(done.input, &done.event) {
                continue;
            }
            self.processed(done.input, done.event.size());
            match done.verdict {
                Verdict::Emit(emitted) => match emitted.iter().find(|one| !self.has_output(one.output)) {
                    Some(Emitted { output, .. }) => {
                        let text = format!("the stage has no output {output}");
                        self.reject(done.input, &done.event, Reason::Invalid, text);
                    }
                    None => {
                        for one in emitted {
                            self.push(done.input, &done.event, one);
                        }
                        self.seal(done.input);
                    }
                },
                Verdict::Reject { reason, text } => self.reject(done.input, &done.event, reason, text),
            }
        }
    }

    /// The dead letters' log, the last one, is none that a handler can name.
    fn has_output(&self, index: usize) -> bool {
        index < self.dead_letter_log().unwrap_or(self.logs.len())
    }

    fn push(&mut self, input: InputId, parent: &Event, Emitted { payload, output }: Emitted) {
        let Some(log) = self.logs.get_mut(output) else { return };
        self.inputs.output_added(input);
        log.output.push(self.clock.now, input, Event { payload, attempt: 1, ..parent.clone() });
    }

    fn processed(&mut self, input: InputId, bytes: u64) {
        if let Some(Tag::Link { link, .. }) = self.inputs.value(input) {
            self.upstreams.processed(*link, bytes);
        }
    }

    pub(crate) fn dead_letter_log(&self) -> Option<usize> {
        self.dead_letter.as_ref().map(|(index, _)| *index)
    }

    pub(crate) fn seal(&mut self, input: InputId) {
        if let Some((tag, outcome)) = self.inputs.seal(input) {
            self.answer(tag, outcome);
        }
    }

    /// Passes on what the logs have settled; what they reject, as long as there is room for its dead letter. True when there
    /// was anything.
    fn settle(&mut self) -> bool {
        let mut any = false;
        for index in 0..self.logs.len() {
            let is_dead_letter = self.dead_letter_log() == Some(index);
            loop {
                let waits = self.logs[index].output.refuses_next() && self.has_no_room_for_dead_letters();
                if waits && !is_dead_letter {
                    break;
                }
                let Some(settlement) = self.logs[index].output.poll_settled() else { break };
                any = true;
                if is_dead_letter {
                    let input = settlement.input;
                    let outcome = self.buried(settlement);
                    self.output_settled(input, outcome);
                } else {
                    self.settled(settlement);
                }
            }
        }
        any
    }

    /// What a log rejected, this stage did. A source's events are their own inputs.
    fn settled(&mut self, Settlement { input, outcome, refused, .. }: Settlement) {
        let input = match (&self.doing, &refused) {
            (Doing::Source(_), None) => return self.answer(Tag::Offered(input), outcome),
            (Doing::Source(_), Some(_)) => {
                let offered = self.inputs.open(Tag::Offered(input));
                self.inputs.output_added(offered);
                // Its one output is unsettled yet: nothing comes back.
                let _unsettled = self.inputs.seal(offered);
                offered
            }
            (Doing::Transform { .. } | Doing::Sink(_), _) => input,
        };
        if let Some(refused) = refused {
            self.bury(input, &refused.event, refused.rejection);
        }
        self.output_settled(input, outcome);
    }

    fn output_settled(&mut self, input: InputId, outcome: Outcome) {
        if let Some((tag, outcome)) = self.inputs.output_settled(input, outcome) {
            self.answer(tag, outcome);
        }
    }

    /// An input is settled: its upstream, or its client, is told.
    fn answer(&mut self, tag: Tag, outcome: Outcome) {
        match &outcome {
            Outcome::Accepted => self.tally.accepted += 1,
            Outcome::Rejected(_) => self.tally.rejected += 1,
        }
        match tag {
            Tag::Link { link, number } => self.upstreams.settle(link, number, Settled::Outcome(outcome)),
            Tag::Sunk { link, number, bytes } => self.upstreams.done(link, number, bytes, Settled::Outcome(outcome)),
            Tag::Offered(input) => {
                if let Doing::Source(desk) = &mut self.doing {
                    desk.settle(input, &outcome);
                }
            }
        }
    }

    fn sink_settled(&mut self, settled: Vec<(Receipt, Outcome)>) {
        for (receipt, outcome) in settled {
            let Doing::Sink(outlet) = &mut self.doing else { return };
            let Some(held) = outlet.settled(receipt) else { continue };
            match outcome {
                Outcome::Accepted => {
                    self.tally.accepted += 1;
                    self.upstreams.accepted(held.link, held.number, held.event.size());
                }
                Outcome::Rejected(rejection) => self.reject_held(held, rejection.reason, rejection.text),
            }
        }
    }

    /// All that is unsettled goes to the sink again, but for an event at which it has panicked too often.
    fn sink_panicked(&mut self) {
        let Doing::Sink(outlet) = &mut self.doing else { return };
        if let Some(held) = outlet.panicked() {
            self.reject_held(held, Reason::Exhausted, "the sink panicked at it, again and again".into());
        }
    }

    /// Takes an event of an upstream into work.
    pub(crate) fn start(&mut self, link: UpstreamLink, number: u64, event: Event) {
        self.tally.events_in += 1;
        match &mut self.doing {
            Doing::Transform { lanes, .. } => {
                let input = self.inputs.open(Tag::Link { link, number });
                lanes.push(Work { input, event });
            }
            Doing::Sink(outlet) => outlet.push(Held { link, number, event }),
            Doing::Source(_) => {}
        }
    }

    /// What a source had brought is finished, even when it failed.
    fn source_ended(&mut self, result: Result<(), SourceError>, closing: &CancellationToken) {
        if let Err(error) = &result {
            tracing::error!(stage = self.stage, %error, "the source ended");
            if self.leave.is_none() {
                self.begin_drain(tokio::time::Instant::now() + self.drain, closing);
            }
        }
        if let Doing::Source(desk) = &mut self.doing {
            desk.ended = Some(result);
        }
    }
}

/// What is not taken in batches.
enum Turn {
    Tick,
    Drain(tokio::time::Instant),
    SourceEnded(Result<(), SourceError>),
    SinkPanicked,
    Room(PeerId),
    Settled(Vec<(Receipt, Outcome)>),
}

#[derive(Default)]
struct Batch {
    turns: Vec<Turn>,
    commands: Vec<Command>,
    offers: Vec<OfferSlot>,
    upstream: Vec<(UpstreamLink, UpstreamEvent)>,
    from_consumers: Vec<(PeerId, Said)>,
    from_upstreams: Vec<(UpstreamLink, Result<ToConsumer, LinkError>)>,
    done: Vec<Vec<Done>>,
}
