//! What the stage's task keeps for whoever looks from outside: counts, latencies, the last rejections, and where time goes.

use std::{collections::VecDeque, time::Duration};

use jaiminho_core::{Event, Reason, Rejection, Time};
use jaiminho_telemetry::names;

use crate::{
    admission::TAKEN,
    handler::Kind,
    inspection::{
        ConsumerSeen, Counts, GroupSeen, Inspection, Load, OutputSeen, REJECTED_BYTES_MAX, REJECTIONS_MAX,
        RejectionSeen, RoleSeen,
    },
    latency::Latency,
    meters::Meters,
    outlet::Held,
    peers::PeerId,
    spent::{Recent, Spent},
    task::{Clock, Doing, Log, Task},
};

/// With work in hand, no end of any for so long is a limit too.
const STALLED: Duration = Duration::from_secs(1);

const BLOCKED: usize = 0;
const LIMIT: usize = 1;
const STARVED: usize = 2;

/// See the module.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) counts: Counts,
    pub(crate) meters: Meters,
    /// Events whose work here has ended.
    pub(crate) finished: u64,
    /// Links whose credit may have changed in this turn.
    pub(crate) touched: Vec<PeerId>,
    spent: Spent<3>,
    recent: Recent<3>,
    /// How many had finished when that number changed last, or nothing was in hand.
    progress: (u64, Duration),
    settle: Latency,
    end_to_end: Latency,
    rejections: VecDeque<RejectionSeen>,
}

impl Account {
    pub(crate) fn new(stage: &str) -> Self {
        let latency = |name| Latency::new(metrics::histogram!(name, "stage" => stage.to_owned()));
        Self {
            counts: Counts::default(),
            meters: Meters::new(stage),
            finished: 0,
            touched: Vec::new(),
            spent: Spent::new(Duration::ZERO, STARVED),
            recent: Recent::default(),
            progress: (0, Duration::ZERO),
            settle: latency(names::SETTLE_SECONDS),
            end_to_end: latency(names::END_TO_END_SECONDS),
            rejections: VecDeque::new(),
        }
    }

    /// An entry of a log is settled.
    pub(crate) fn settled(&mut self, clock: Clock, pushed: Option<Time>) {
        if let Some(pushed) = pushed {
            self.settle.record(clock.now.since(pushed));
        }
    }

    /// A sink has accepted an event.
    pub(crate) fn delivered(&mut self, clock: Clock, held: &Held) {
        self.settle.record(clock.now.since(held.taken));
        if held.event.arrived_ms > 0 {
            self.end_to_end.record(clock.wall(clock.now).saturating_sub(held.event.arrived_ms));
        }
    }

    /// An offer was taken or refused.
    pub(crate) fn decided(&mut self, decision: &'static str) {
        self.counts.refused += u64::from(decision != TAKEN);
        self.meters.decided(decision);
    }

    /// This stage rejects an event.
    pub(crate) fn rejected(&mut self, clock: Clock, event: &Event, Rejection { reason, text, .. }: &Rejection) {
        for (count, _) in self.counts.rejected_here.iter_mut().zip(Reason::ALL).filter(|(_, of)| of == reason) {
            *count += 1;
        }
        if self.rejections.len() >= REJECTIONS_MAX {
            self.rejections.pop_front();
        }
        let (unix_ms, small) = (clock.wall(clock.now), event.size() <= REJECTED_BYTES_MAX);
        let event = small.then(|| event.payload.clone());
        self.rejections.push_back(RejectionSeen { unix_ms, reason: *reason, text: text.clone(), event });
    }

    pub(crate) fn tick(&mut self, now: Duration) {
        self.recent.tick(self.spent.until(now));
    }

    /// Where the stage's time has gone.
    pub(crate) fn load(&self, now: Duration) -> Load {
        let spent = self.spent.until(now);
        let [blocked, limit, starved] = spent;
        Load { blocked, limit, starved, recent: self.recent.shares(spent) }
    }
}

impl Task {
    /// At the end of each turn: what state the stage and its links are in from now on.
    pub(crate) fn account(&mut self) {
        let now = self.clock.elapsed;
        for peer in std::mem::take(&mut self.account.touched) {
            let has_credit = self.logs.get(peer.output).is_some_and(|log| log.output.has_credit(peer.link));
            self.peers.account(now, peer, has_credit);
            self.sends.credit(peer, has_credit);
        }
        let (in_hand, is_full) = self.in_hand();
        if !in_hand || self.account.progress.0 != self.account.finished {
            self.account.progress = (self.account.finished, now);
        }
        let is_stalled = now.saturating_sub(self.account.progress.1) >= STALLED;
        let (is_source, refuses) = match &self.doing {
            Doing::Source(desk) => (true, desk.is_held_up()),
            Doing::Transform { .. } | Doing::Sink(_) | Doing::Handler(_) => (false, false),
        };
        let dead = self.dead_letter_log();
        // Dead letters that wait hold nothing up before their log is full.
        let holds_up =
            |(index, log): (usize, &Log)| log.output.is_full() || (log.output.is_held_up() && dead != Some(index));
        let state = if refuses || self.logs.iter().enumerate().any(holds_up) {
            BLOCKED
        } else if !is_source && (is_full || is_stalled || self.upstreams.any_is_used_up()) {
            LIMIT
        } else {
            STARVED
        };
        self.account.spent.enter(now, state);
    }

    /// Whether there is work under way here, and whether it is as much as can be.
    fn in_hand(&self) -> (bool, bool) {
        match &self.doing {
            Doing::Source(_) => (false, false),
            Doing::Transform { lanes, .. } => (lanes.in_hand() > 0, lanes.are_busy()),
            Doing::Sink(outlet) => (outlet.unsettled() > 0, outlet.is_behind()),
            Doing::Handler(actor) => (actor.is_busy, actor.is_behind()),
        }
    }

    /// All that the stage tells of itself.
    pub(crate) fn inspect(&mut self) -> Inspection {
        let clock = self.clock;
        let outputs = self.outputs_seen();
        let oldest = self.oldest(&outputs);
        Inspection {
            pipeline: self.pipeline.clone(),
            stage: self.stage.clone(),
            instance: self.instance.clone(),
            role: self.role(),
            up: clock.elapsed,
            unix_ms: clock.wall(clock.now),
            is_draining: self.draining.is_cancelled(),
            load: self.account.load(clock.elapsed),
            outputs,
            inputs: self.upstreams.seen().into_iter().map(|(_, seen)| seen).collect(),
            in_work: self.inputs_in_work(),
            oldest,
            counts: self.counts(),
            settle: self.account.settle.seen(),
            end_to_end: self.account.end_to_end.seen(),
            rejections: self.account.rejections.iter().cloned().collect(),
            trouble: self.troubles.current(),
            usages: self.usages.current(),
            links_left_out: 0,
        }
    }

    /// Brings the metrics up to date.
    pub(crate) fn meter(&mut self) {
        self.meter_inputs();
        let outputs = self.meter_outputs();
        self.count_copies();
        let (oldest, counts) = (self.oldest(&outputs), self.counts());
        let (load, in_work) = (self.account.load(self.clock.elapsed), self.inputs_in_work());
        self.account.settle.flush();
        self.account.end_to_end.flush();
        let meters = &mut self.account.meters;
        meters.counts(&counts, in_work);
        meters.load(&load);
        meters.oldest(oldest);
        meters.links([self.peers.len(), self.upstreams.len()], [&self.peers.counts, &self.upstreams.counts]);
    }

    /// Those of outputs, groups and links to consumers.
    pub(crate) fn meter_outputs(&mut self) -> Vec<OutputSeen> {
        let outputs = self.outputs_seen();
        self.account.meters.outputs(&outputs);
        outputs
    }

    /// Those of links to producers.
    pub(crate) fn meter_inputs(&mut self) {
        self.account.meters.inputs(&self.upstreams.seen());
    }

    /// A source's desk knows what came in.
    fn counts(&self) -> Counts {
        match &self.doing {
            Doing::Source(desk) => Counts { events_in: desk.taken, bytes_in: desk.taken_bytes, ..self.account.counts },
            Doing::Transform { .. } | Doing::Sink(_) | Doing::Handler(_) => self.account.counts,
        }
    }

    /// For how long the oldest of what the logs hold, or a sink, has been here.
    fn oldest(&self, outputs: &[OutputSeen]) -> Option<Duration> {
        let held = match &self.doing {
            Doing::Sink(outlet) => outlet.oldest(),
            Doing::Source(_) | Doing::Transform { .. } | Doing::Handler(_) => None,
        };
        let held = held.map(|time: Time| Duration::from_millis(self.clock.now.since(time)));
        outputs.iter().filter_map(|output| output.oldest).chain(held).max()
    }

    fn outputs_seen(&self) -> Vec<OutputSeen> {
        (0..).zip(&self.logs).map(|(index, log)| self.output_seen(index, log)).collect()
    }

    fn role(&self) -> RoleSeen {
        match &self.doing {
            Doing::Source(_) => RoleSeen::Source,
            Doing::Transform { .. } => RoleSeen::Transform,
            Doing::Sink(_) => RoleSeen::Sink,
            Doing::Handler(actor) => match actor.kind {
                Kind::Producer => RoleSeen::Source,
                Kind::ProducerConsumer => RoleSeen::Transform,
                Kind::Consumer => RoleSeen::Sink,
            },
        }
    }

    fn output_seen(&self, index: usize, log: &Log) -> OutputSeen {
        let output = &log.output;
        let group = |group: jaiminho_core::GroupSeen| {
            let links = group.links.into_iter().map(|link| {
                let peer = PeerId { output: index, link: link.id };
                let [no_credit, no_events] = self.peers.spent(self.clock.elapsed, peer);
                ConsumerSeen { link, no_credit, no_events }
            });
            GroupSeen {
                links: links.collect(),
                name: group.name,
                kind: group.kind,
                waiting: group.undispatched,
                deliveries: group.dispatched,
                bytes: group.bytes,
                redeliveries: group.redispatched,
            }
        };
        OutputSeen {
            name: log.name.clone(),
            fill: output.fill(),
            largest_share: output.largest_share(),
            oldest: output.oldest_unsettled().map(|oldest| Duration::from_millis(self.clock.now.since(oldest))),
            dropped: output.dropped(),
            tap_missed: output.tap_missed(),
            groups: output.seen().into_iter().map(group).collect(),
        }
    }
}
