//! The stage's task: receives, asks the core, sends. It alone owns the stage's state.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use jaiminho_core::{
    Delivery, Event, InputId, Inputs, Instance, LinkError, Offset, Outcome, Output, Reason, Rejection, Time,
    ToConsumer, Versions,
};
use jaiminho_telemetry::traces::Tracer;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    absent::Absent,
    account::Account,
    actor::{Acted, Actor},
    changes::Changes,
    config::DeadLetter,
    consumer::Upstreams,
    dedupe::Copies,
    desk::Desk,
    handle::{Command, OfferSlot, StageEnd},
    inspection::{Troubles, Usages},
    lanes::{Done, Lanes, Work},
    outlet::{Held, Outlet},
    peers::{PeerId, Peers, Said, TICK_MS},
    stage::{Emitted, Receipt, Refusal, SourceError, Verdict},
    subscriptions::Subscriptions,
    traces::{self, Sends},
    upstream::{UpstreamEvent, UpstreamLink},
};

/// Commands that wait for the task; it takes as many out at once.
pub(crate) const COMMANDS: usize = 32;

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
    /// Events that a handler made up: nobody waits for them.
    Made,
    /// An event that a handler tracks.
    Tracked(u64),
    /// Results whose inputs were settled before them, and counted then.
    Apart,
    /// The results of a batch; by its place among the actor's.
    Shared(usize),
}

/// The moment of one turn of the loop.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    pub(crate) now: Time,
    /// The same, finer.
    pub(crate) elapsed: Duration,
    unix_ms_at_zero: u64,
}

impl Clock {
    pub(crate) fn start(unix_ms: u64) -> Self {
        Self { now: Time(0), elapsed: Duration::ZERO, unix_ms_at_zero: unix_ms }
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
        copies: Option<Box<Copies>>,
    },
    Sink(Outlet),
    Handler(Box<Actor>),
}

pub(crate) struct Task {
    pub(crate) pipeline: String,
    pub(crate) stage: String,
    pub(crate) instance: Instance,
    pub(crate) versions: Versions,
    pub(crate) clock: Clock,
    pub(crate) logs: Vec<Log>,
    /// Index of its log.
    pub(crate) dead_letter: Option<(usize, DeadLetter)>,
    /// Rejections whose dead letter is not settled yet, by its place in the log.
    pub(crate) dying: HashMap<Offset, Rejection>,
    pub(crate) inputs: Inputs<Tag>,
    pub(crate) peers: Peers,
    pub(crate) sends: Sends,
    pub(crate) tracer: Tracer,
    pub(crate) ready: BTreeSet<PeerId>,
    pub(crate) upstreams: Upstreams,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) doing: Doing,
    pub(crate) tasks: TaskTracker,
    pub(crate) account: Account,
    pub(crate) troubles: Troubles,
    pub(crate) usages: Usages,
    /// When the log last told of an event that nobody keeps.
    pub(crate) warned: Option<Time>,
    pub(crate) absent: Absent,
    pub(crate) changes: Changes,
    /// Events that a handler has made up.
    pub(crate) made: u64,
    /// Inputs of a transform are settled when their results are in the log.
    pub(crate) unordered: bool,
    /// Longest drain once its source has failed.
    pub(crate) drain: Duration,
    /// No link is opened once this is cancelled.
    pub(crate) closing: CancellationToken,
    /// Cancelled when the drain begins, for whatever reason.
    pub(crate) draining: CancellationToken,
    /// When the drain must be over.
    pub(crate) leave: Option<tokio::time::Instant>,
    /// How the stage ends because a subscription has.
    pub(crate) resigned: Option<Result<(), String>>,
    pub(crate) end: Option<StageEnd>,
}

/// The channels into the task. The task keeps a sender of each, so none of them closes.
pub(crate) struct Inbox {
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) offers: mpsc::Receiver<OfferSlot>,
    pub(crate) upstream: mpsc::Receiver<(UpstreamLink, UpstreamEvent)>,
    pub(crate) done: mpsc::Receiver<Vec<Done>>,
    pub(crate) acted: mpsc::Receiver<Acted>,
    pub(crate) source: mpsc::Receiver<Result<(), SourceError>>,
    pub(crate) drain: watch::Receiver<Option<tokio::time::Instant>>,
    pub(crate) progress: Arc<Notify>,
    pub(crate) _open: Open,
}

/// A sender of each channel.
type Open = (
    mpsc::Sender<Command>,
    mpsc::Sender<OfferSlot>,
    mpsc::Sender<(UpstreamLink, UpstreamEvent)>,
    mpsc::Sender<Vec<Done>>,
    mpsc::Sender<Acted>,
);

impl Task {
    pub(crate) async fn run(mut self, mut inbox: Inbox) -> StageEnd {
        let started = tokio::time::Instant::now();
        let mut ticks = tokio::time::interval(Duration::from_millis(TICK_MS));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut batch = Batch::default();
        loop {
            self.receive(&mut inbox, &mut batch, &mut ticks).await;
            self.clock.elapsed = started.elapsed();
            self.clock.now = Time(self.clock.elapsed.as_millis() as u64);
            for turn in batch.turns.drain(..) {
                self.turn(turn);
            }
            self.take(&mut batch);
            self.advance();
            self.account();
            if let Some(end) = self.finished() {
                self.closing.cancel();
                inbox.offers.close();
                while let Ok(slot) = inbox.offers.try_recv() {
                    slot.refuse(Refusal::Draining);
                }
                self.leave(&end);
                self.meter();
                let Self { tasks, doing, peers, upstreams, subscriptions, .. } = self;
                drop((inbox, doing, peers, upstreams, subscriptions));
                tasks.close();
                let _late = tokio::time::timeout(Duration::from_secs(5), tasks.wait()).await;
                return end;
            }
        }
    }

    fn turn(&mut self, turn: Turn) {
        match turn {
            Turn::Tick => self.tick(),
            Turn::Drain(deadline) => self.begin_drain(deadline),
            Turn::SourceEnded(result) => self.source_ended(result),
            Turn::SinkPanicked => self.sink_panicked(),
            Turn::Room(peer) => {
                self.ready.insert(peer);
            }
            Turn::Settled(settled) => self.sink_settled(settled),
            Turn::Acted(acted) => {
                if let Doing::Handler(actor) = &mut self.doing {
                    actor.is_busy = false;
                    self.account.finished += 1;
                    actor.acted = Some(*acted);
                }
            }
        }
    }

    /// Takes what is ready from everywhere: whatever one side sends, none waits behind another.
    async fn receive(&mut self, inbox: &mut Inbox, batch: &mut Batch, ticks: &mut tokio::time::Interval) {
        let Self { doing, upstreams, peers, leave, .. } = self;
        let calls = matches!(doing, Doing::Handler(_));
        let Batch { turns, commands, offers, upstream, from_consumers, from_upstreams, done } = batch;
        let settled = async {
            match doing {
                Doing::Sink(outlet) => tokio::select! {
                    biased;
                    settled = outlet.settler.take() => Some(Turn::Settled(settled)),
                    Ok(()) = outlet.panics.changed() => Some(Turn::SinkPanicked),
                    () = outlet.throttle.opens() => None,
                },
                Doing::Handler(actor) => {
                    actor.due(leave.is_some()).await;
                    None
                }
                Doing::Transform { lanes, .. } => {
                    lanes.opens().await;
                    None
                }
                Doing::Source(_) => std::future::pending().await,
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
            for turn in [settled.as_mut().poll(cx), drain.as_mut().poll(cx), room.as_mut().poll(cx)] {
                let Poll::Ready(turn) = turn else { continue };
                turns.extend(turn);
                any = true;
            }
            if let Poll::Ready(Some(result)) = inbox.source.poll_recv(cx) {
                turns.push(Turn::SourceEnded(result));
                any = true;
            }
            if calls && let Poll::Ready(Some(acted)) = inbox.acted.poll_recv(cx) {
                turns.push(Turn::Acted(Box::new(acted)));
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
            self.account.touched.push(peer);
            self.heard(peer, said);
        }
        for (link, event) in batch.upstream.drain(..) {
            self.upstream_event(link, event);
        }
        for (link, said) in batch.from_upstreams.drain(..) {
            self.upstream_said(link, said);
        }
        if let Doing::Transform { placing, lanes, .. } = &mut self.doing {
            for done in batch.done.drain(..) {
                lanes.returned(done.len());
                self.account.finished += done.len() as u64;
                placing.extend(done);
            }
        }
        for offer in batch.offers.drain(..) {
            if offer.rejection.is_some() {
                self.reject_offered(offer);
                continue;
            }
            if let (Doing::Source(desk), Some(log)) = (&mut self.doing, self.logs.first_mut()) {
                let decision = desk.offer(offer, &mut log.output, self.clock);
                self.account.decided(decision);
            }
        }
    }

    /// Everything that the new state allows: place results, dispatch, settle, write.
    fn advance(&mut self) {
        self.advance_logs();
        match &mut self.doing {
            Doing::Transform { lanes, placing, copies } => {
                copies.iter_mut().flat_map(|copies| copies.moved()).for_each(|work| lanes.push(work));
                if placing.is_empty() {
                    lanes.feed();
                }
            }
            Doing::Sink(outlet) => outlet.feed(&self.tracer),
            Doing::Handler(_) => {
                self.complete_batches();
                self.pass_infos();
                self.call_handler();
            }
            Doing::Source(_) => {}
        }
        self.write_peers();
        self.upstreams.flush();
    }

    pub(crate) fn advance_logs(&mut self) {
        loop {
            self.place();
            let stopped = self.dispatch();
            if !self.settle() && !stopped {
                break;
            }
        }
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
        self.place_acted();
        while let Doing::Transform { placing, .. } = &mut self.doing {
            if self.logs.iter().any(|log| log.output.is_full()) {
                return;
            }
            let Some(mut done) = placing.pop_front() else { return };
            if self.is_dropped(done.input, &done.event) {
                continue;
            }
            traces::placed(&self.tracer, &mut done.event);
            self.processed(done.input, done.event.size());
            match done.verdict {
                Verdict::Emit(emitted) => match emitted.iter().find(|one| one.output >= self.outputs()) {
                    Some(Emitted { output, .. }) => {
                        let text = format!("the stage has no output {output}");
                        self.reject(done.input, &done.event, Reason::Invalid, text);
                    }
                    None => {
                        let input = if self.unordered { self.inputs.open(Tag::Apart) } else { done.input };
                        for Emitted { payload, output } in emitted {
                            self.push(input, output, Event { payload, attempt: 1, ..done.event.clone() });
                        }
                        self.seal(input);
                        if self.unordered {
                            self.seal(done.input);
                        }
                    }
                },
                Verdict::Reject { reason, text } => self.reject(done.input, &done.event, reason, text),
            }
        }
    }

    /// How many of the logs a handler can name: the dead letters', the last one, is not among them.
    pub(crate) fn outputs(&self) -> usize {
        self.dead_letter_log().unwrap_or(self.logs.len())
    }

    pub(crate) fn push(&mut self, input: InputId, output: usize, event: Event) {
        let Some(log) = self.logs.get_mut(output) else { return };
        self.inputs.output_added(input);
        log.output.push(self.clock.now, input, event);
    }

    pub(crate) fn processed(&mut self, input: InputId, bytes: u64) {
        if let Some(Tag::Link { link, .. }) = self.inputs.value(input) {
            self.upstreams.processed(*link, bytes);
        }
    }

    pub(crate) fn dead_letter_log(&self) -> Option<usize> {
        self.dead_letter.as_ref().map(|(index, _)| *index)
    }

    /// Takes a list of an upstream into work.
    pub(crate) fn start(&mut self, link: UpstreamLink, deliveries: Vec<Delivery>) {
        self.account.counts.events_in += deliveries.len() as u64;
        self.account.counts.bytes_in += deliveries.iter().map(|delivery| delivery.event.size()).sum::<u64>();
        let mut list = Vec::new();
        for Delivery { number, event } in deliveries {
            match &mut self.doing {
                Doing::Transform { .. } => {
                    let input = self.inputs.open(Tag::Link { link, number });
                    self.start_one(Work { input, event });
                }
                Doing::Sink(outlet) => outlet.push(Held { link, number, event, taken: self.clock.now }),
                Doing::Handler(_) => list.push(Work { input: self.inputs.open(Tag::Link { link, number }), event }),
                Doing::Source(_) => {}
            }
        }
        if !list.is_empty() {
            self.start_list(link, list);
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
    Acted(Box<Acted>),
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
