//! One random history: actions on an output, and on the model beside it.

use jaiminho_core::{
    Demand, Disposition, Event, GroupKind, Inputs, KeyHash, LinkError, Offset, Origin, Outcome, Output, OutputConfig,
    Overflow, RequiredGroup, Selector, Settled, Signal, Time, Window,
};

use crate::groups::{SELECTOR, groups, is_selected};
use crate::model::{Body, LARGE, Model, PeerState};
use crate::random::Random;

pub(crate) const HANDOVER_MS: u64 = 1_000;
const TTL_MS: u64 = 3_000;

/// Offsets from here on are of events that were discarded as they came.
const NO_PLACE: u64 = 1 << 63;

/// What a history reached.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reached {
    pub(crate) full: bool,
    pub(crate) oversized: bool,
    pub(crate) moving: bool,
    pub(crate) lost_while_moving: bool,
    pub(crate) rejected: bool,
    pub(crate) withdrawn: bool,
    pub(crate) overdue: bool,
    pub(crate) accumulated: bool,
    pub(crate) left_a_broadcast: bool,
    pub(crate) taken_over: bool,
    pub(crate) unwanted: bool,
    pub(crate) inherited: bool,
    pub(crate) discarded: bool,
}

pub(crate) struct History {
    pub(crate) random: Random,
    pub(crate) output: Output,
    config: OutputConfig,
    pub(crate) model: Model,
    /// The group that stands in each place now: one of a broadcast that has left is followed by a new one.
    pub(crate) slots: Vec<usize>,
    inputs: Inputs<usize>,
    pub(crate) now: u64,
    keys: u64,
    /// How often the consumers act, in percent: slow ones fill the log.
    pace: u64,
    /// Offsets that this step's dispositions touched.
    pub(crate) touched: Vec<u64>,
    informed: u64,
    heard: u64,
    largest_body: (u64, u64),
    pub(crate) reached: Reached,
}

impl History {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let groups = groups(&mut random);
        let members_min = groups.iter().map(|group| u64::from(group.partitions.unwrap_or(1))).sum();
        let capacity_events = random.between(4, 64);
        let required = groups.iter().filter(|group| group.kind == GroupKind::Required);
        let required = required
            .map(|group| RequiredGroup { name: group.name.clone(), dispatch: group.dispatch.clone() })
            .collect();
        let config = OutputConfig {
            capacity_events,
            capacity_bytes: random.between(500, 20_000),
            span: capacity_events * if random.percent(30) { 2 } else { 16 },
            links_max: random.between(4.max(members_min), 12) as usize,
            handover_ms: HANDOVER_MS,
            attached_ttl_ms: TTL_MS,
            broadcast: groups.iter().any(|group| group.kind == GroupKind::Attached && group.gates),
            selectors: [(SELECTOR.to_owned(), Selector::new(is_selected))].into(),
            overflow: match random.between(0, 99) {
                0..=9 => Overflow::KeepFirst,
                10..=19 => Overflow::KeepLast,
                _ => Overflow::PushBack,
            },
            groups: required,
            ..OutputConfig::default()
        };
        Self {
            output: Output::new(config.clone()),
            slots: (0..groups.len()).collect(),
            model: Model { groups, discards: config.overflow == Overflow::KeepLast, ..Model::default() },
            config,
            inputs: Inputs::new(),
            now: 0,
            keys: random.between(1, 24),
            pace: random.between(20, 95),
            touched: Vec::new(),
            informed: 0,
            heard: 0,
            largest_body: (0, 0),
            reached: Reached::default(),
            random,
        }
    }

    pub(crate) fn run(&mut self) {
        for _ in 0..self.random.between(200, 2_000) {
            self.step();
        }
        self.quiesce();
    }

    fn step(&mut self) {
        self.now += self.random.between(0, 20);
        match self.random.between(0, 99) {
            0..=24 => self.push(),
            25..=29 => self.subscribe(),
            30..=49 => self.on_peer(Self::process),
            50..=76 => self.on_peer(Self::dispose),
            77..=79 => self.on_peer(Self::close),
            80..=81 => self.on_peer(Self::cancel),
            82..=87 => self.withdraw(),
            88..=91 => self.tick(),
            92 => self.on_peer(Self::misbehave),
            93 => self.set_demand(),
            94 => self.inform(),
            _ => {}
        }
        let dispatch = self.random.percent(70);
        if dispatch {
            while self.output.dispatch(Time(self.now)) {}
        }
        let is_dispatched = self.after() && dispatch;
        if self.random.percent(self.pace) {
            self.frames();
        }
        self.check(is_dispatched);
    }

    /// Signals and settlements are taken at once. False: the answer to one may have changed what can be dispatched.
    pub(crate) fn after(&mut self) -> bool {
        let mut is_dispatched = true;
        while let Some((id, signal)) = self.output.poll_signal() {
            is_dispatched &= signal != Signal::Drained;
            self.signal(id, signal);
        }
        while let Some(settlement) = self.output.poll_settled() {
            self.reached.rejected |= settlement.outcome != Outcome::Accepted || settlement.refused.is_some();
            let body = match self.inputs.value(settlement.input) {
                Some(&body) if settlement.offset.0 >= NO_PLACE => body,
                _ => {
                    self.model.report(&settlement);
                    self.model.entries[settlement.offset.0 as usize].body
                }
            };
            if let Some((value, outcome)) = self.inputs.output_settled(settlement.input, settlement.outcome) {
                assert_eq!(value, body);
                self.settle_body(body, &outcome);
            }
        }
        while let Some(token) = self.output.poll_info() {
            assert_eq!(token, self.heard, "infos come in order");
            self.heard += 1;
        }
        if self.output.poll_discarded().is_some() {
            assert_ne!(self.config.overflow, Overflow::PushBack);
            self.reached.discarded = true;
        }
        self.model.check_reported(&std::mem::take(&mut self.touched));
        self.forget_groups();
        is_dispatched
    }

    /// The laws hold.
    fn check(&mut self, is_dispatched: bool) {
        self.output.check(is_dispatched).unwrap_or_else(|law| panic!("{law}"));
        let fill = self.output.fill();
        let (events, bytes) = self.largest_body;
        assert!(fill.events < self.config.capacity_events + events.max(1), "{fill:?}");
        assert!(fill.bytes < self.config.capacity_bytes + bytes.max(1), "{fill:?}");
        self.model.check_demand(self.output.demand());
        self.reached.full |= self.output.is_full();
    }

    /// Law 5: once, after all its outputs.
    fn settle_body(&mut self, index: usize, _outcome: &Outcome) {
        let body = &mut self.model.bodies[index];
        assert!(!body.done, "body {index} is settled twice");
        body.done = true;
        for offset in body.offsets.clone() {
            assert_eq!(self.model.entries[offset as usize].state, crate::model::State::Reported);
        }
    }

    fn forget_groups(&mut self) {
        for index in 0..self.model.groups.len() {
            let group = &self.model.groups[index];
            if !group.gates && !group.copies.is_empty() && !self.lives(index) {
                assert_eq!(group.kind, GroupKind::Attached);
                self.model.forget_group(index);
            }
        }
    }

    /// Whether a group gets what is pushed now.
    fn lives(&self, index: usize) -> bool {
        let group = &self.model.groups[index];
        match group.kind {
            GroupKind::Tap => false,
            GroupKind::Required => true,
            GroupKind::Attached if group.gates => self.model.gates_now(index),
            GroupKind::Attached => self.output.groups().any(|(kind, name)| kind == group.kind && name == group.name),
        }
    }

    fn signal(&mut self, id: jaiminho_core::LinkId, signal: Signal) {
        let Some(peer) = self.model.peers.iter().position(|peer| peer.id == id && peer.state != PeerState::Gone) else {
            return;
        };
        match signal {
            Signal::Revoke(partitions) => {
                self.reached.moving = true;
                let deadline = self.now + HANDOVER_MS;
                self.model.peers[peer].revoked.extend(partitions.into_iter().map(|partition| (partition, deadline)));
                self.model.end_revocations(peer);
            }
            Signal::End(error) => {
                let kind = self.model.groups[self.model.peers[peer].group].kind;
                let is_for_a_consumer = kind == GroupKind::Tap && matches!(error, LinkError::Limit(_));
                let expected = is_for_a_consumer
                    || matches!(error, LinkError::Fenced(_) | LinkError::Replaced | LinkError::Lagged(_));
                assert!(expected, "{kind:?}: {error}");
                self.model.lose(peer);
            }
            Signal::Drained => {
                assert_eq!(self.model.unsettled(peer), vec![]);
                self.close(peer);
            }
        }
    }

    fn push(&mut self) {
        if self.output.is_full() {
            return;
        }
        let count = self.random.between(1, 6);
        let body = self.model.bodies.len();
        let input = self.inputs.open(body);
        let first = self.model.entries.len() as u64;
        let mut bytes = 0;
        for _ in 0..count {
            let offset = self.model.entries.len() as u64;
            let large = self.random.percent(2);
            self.reached.oversized |= large;
            let size = if large { LARGE * 2 } else { self.random.between(0, 300) };
            bytes += size;
            let event = Event {
                payload: vec![offset as u8; size as usize].into(),
                key: self.random.percent(80).then(|| KeyHash(self.random.between(1, self.keys) * 0x1_0000_0007)),
                attempt: 1,
                arrived_ms: self.now,
                deadline_ms: None,
                origin: Origin { incarnation: 1, offset },
                trace: None,
            };
            let lives: Vec<bool> = (0..self.model.groups.len()).map(|group| self.lives(group)).collect();
            self.inputs.output_added(input);
            let place = self.output.push(Time(self.now), input, event.clone());
            if place.0 >= NO_PLACE {
                assert_ne!(self.config.overflow, Overflow::PushBack);
                continue;
            }
            assert_eq!(place, Offset(offset));
            self.reached.unwanted |= self.model.push(event, body, &lives);
            // An attached group may have ended by this push.
            self.forget_groups();
        }
        assert_eq!(self.inputs.seal(input), None);
        self.model.bodies.push(Body { input, offsets: first..self.model.entries.len() as u64, done: false });
        self.largest_body = (self.largest_body.0.max(count), self.largest_body.1.max(bytes));
    }

    fn set_demand(&mut self) {
        let accumulates = self.random.percent(50);
        self.output.set_demand(if accumulates { Demand::Accumulate } else { Demand::Forward });
        self.reached.accumulated |= accumulates && self.output.fill().events > 0;
    }

    fn inform(&mut self) {
        if self.output.push_info(self.informed).is_ok() {
            self.informed += 1;
        }
    }

    fn withdraw(&mut self) {
        let open: Vec<usize> =
            (0..self.model.bodies.len()).rev().take(12).filter(|&body| !self.model.bodies[body].done).collect();
        let Some(body) = self.random.pick(&open) else { return };
        let offsets = self.model.bodies[body].offsets.clone();
        let can = self.model.can_withdraw(offsets.clone());
        let range = Offset(offsets.start)..Offset(offsets.end);
        assert_eq!(self.output.withdraw(range), can, "withdrawal of {offsets:?}");
        if can {
            self.reached.withdrawn = true;
            self.model.bodies[body].done = true;
            offsets.for_each(|offset| self.model.withdraw(offset));
            assert_eq!(self.inputs.abandon(self.model.bodies[body].input), Some(body));
        }
    }

    fn tick(&mut self) {
        if self.random.percent(30) {
            self.now += self.random.between(0, 2 * HANDOVER_MS);
        }
        self.output.tick(Time(self.now));
        self.end_drains();
        for peer in 0..self.model.peers.len() {
            if self.model.peers[peer].revoked.is_empty() {
                continue;
            }
            let now = self.now;
            let overdue = |model: &Model, offset| {
                let deadline = model.partition(offset).and_then(|of| model.peers[peer].revoked.get(&of));
                deadline.is_some_and(|deadline| *deadline <= now)
            };
            self.model.release(peer, overdue);
        }
    }

    /// Faults end, honest members come: all that was taken is settled (law 3: each cause ends when its reason is gone).
    fn quiesce(&mut self) {
        for peer in 0..self.model.peers.len() {
            if self.model.peers[peer].state != PeerState::Gone {
                self.close(peer);
                self.after();
            }
        }
        self.output.set_demand(Demand::Forward);
        self.after();
        let slots = if self.config.groups.is_empty() { 1 } else { self.config.groups.len() };
        for slot in 0..slots {
            for partition in 0..self.model.groups[self.slots[slot]].partitions.unwrap_or(1) {
                let name = format!("last-{partition}");
                self.open(slot, name, 9, Window { events: 1_000, bytes: 1_000_000 }, 10 * LARGE, partition);
            }
        }
        self.now += 2 * TTL_MS;
        self.tick();
        self.now += 2 * TTL_MS;
        self.tick();
        for _ in 0..30 {
            for peer in 0..self.model.peers.len() {
                if self.model.peers[peer].state == PeerState::Open {
                    self.process(peer);
                }
            }
            while self.output.dispatch(Time(self.now)) {}
            let is_dispatched = self.after();
            self.check(is_dispatched);
            for _ in 0..20 {
                self.frames();
            }
            for peer in 0..self.model.peers.len() {
                for (number, offset) in self.model.unsettled(peer) {
                    self.model.settle(peer, number, Some(&Outcome::Accepted));
                    self.touched.push(offset);
                    let state = Settled::Outcome(Outcome::Accepted);
                    self.send(peer, Disposition { first: number, last: number, state });
                }
            }
            self.after();
            self.check(false);
            if self.output.fill().events == 0 {
                break;
            }
        }
        assert!(self.output.is_settled() && self.inputs.is_empty(), "{:?}", self.output.waiting());
        assert_eq!(self.output.fill().events, 0);
        assert_eq!(self.heard, self.informed);
        assert!(self.model.bodies.iter().all(|body| body.done));
    }
}
