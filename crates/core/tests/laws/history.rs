//! One random history: actions on an output, and on the model beside it.

use std::collections::BTreeMap;

use jaiminho_core::{
    Credit, Demand, Dispatch, Disposition, Event, GroupKind, Inputs, Instance, Intake, KeyHash, LinkError, Offset,
    Origin, Outcome, Output, OutputConfig, Reason, Rejection, RequiredGroup, Settled, Signal, Subscribe, Time, Window,
};

use crate::model::{Body, Group, LARGE, Model, Peer, PeerState};
use crate::random::Random;

const HANDOVER_MS: u64 = 1_000;
const TTL_MS: u64 = 3_000;
const MEMBERS_MAX: usize = 8;

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
}

pub(crate) struct History {
    random: Random,
    output: Output,
    config: OutputConfig,
    model: Model,
    inputs: Inputs<usize>,
    now: u64,
    keys: u64,
    /// How often the consumers act, in percent: slow ones fill the log.
    pace: u64,
    /// Offsets that this step's dispositions touched.
    touched: Vec<u64>,
    informed: u64,
    heard: u64,
    largest_body: (u64, u64),
    pub(crate) reached: Reached,
}

impl History {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let required = random.between(1, 3);
        let mut groups: Vec<(String, GroupKind, Dispatch)> = Vec::new();
        for index in 0..required {
            let dispatch = if random.percent(75) { Dispatch::Keyed } else { Dispatch::Demand };
            groups.push((format!("group-{index}"), GroupKind::Required, dispatch));
        }
        if random.percent(50) {
            groups.push(("attached".into(), GroupKind::Attached, Dispatch::Keyed));
        }
        if groups.len() < 4 && random.percent(30) {
            groups.push(("tap".into(), GroupKind::Tap, Dispatch::Demand));
        }
        let capacity_events = random.between(4, 64);
        let required = groups.iter().filter(|(_, kind, _)| *kind == GroupKind::Required);
        let required =
            required.map(|(name, _, dispatch)| RequiredGroup { name: name.clone(), dispatch: *dispatch }).collect();
        let config = OutputConfig {
            capacity_events,
            capacity_bytes: random.between(500, 20_000),
            span: capacity_events * if random.percent(30) { 2 } else { 16 },
            links_max: random.between(4, 12) as usize,
            handover_ms: HANDOVER_MS,
            attached_ttl_ms: TTL_MS,
            groups: required,
            ..OutputConfig::default()
        };
        let group = |(name, kind, dispatch)| Group {
            name,
            kind,
            dispatch,
            copies: BTreeMap::new(),
            open: BTreeMap::new(),
            newest: BTreeMap::new(),
        };
        let model = Model { groups: groups.into_iter().map(group).collect(), ..Model::default() };
        Self {
            output: Output::new(config.clone()),
            config,
            model,
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
    fn after(&mut self) -> bool {
        let mut is_dispatched = true;
        while let Some((id, signal)) = self.output.poll_signal() {
            is_dispatched &= signal != Signal::Drained;
            self.signal(id, signal);
        }
        while let Some(settlement) = self.output.poll_settled() {
            self.reached.rejected |= settlement.outcome != Outcome::Accepted || settlement.refused.is_some();
            self.model.report(&settlement);
            let body = self.model.entries[settlement.offset.0 as usize].body;
            if let Some((value, outcome)) = self.inputs.output_settled(settlement.input, settlement.outcome) {
                assert_eq!(value, body);
                self.settle_body(body, &outcome);
            }
        }
        while let Some(token) = self.output.poll_info() {
            assert_eq!(token, self.heard, "infos come in order");
            self.heard += 1;
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
            let lives = self.output.groups().any(|(kind, name)| kind == group.kind && name == group.name);
            if !lives && !group.copies.is_empty() {
                assert_eq!(group.kind, GroupKind::Attached);
                self.model.forget_group(index);
            }
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
                let expected = matches!(error, LinkError::Fenced(_) | LinkError::Replaced | LinkError::Lagged(_));
                assert!(expected, "{error}");
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
        for offset in first..first + count {
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
            let lives: Vec<(GroupKind, String)> =
                self.output.groups().map(|(kind, name)| (kind, name.into())).collect();
            let lives = |group: &Group| {
                group.kind != GroupKind::Tap
                    && lives.iter().any(|(kind, name)| *kind == group.kind && *name == group.name)
            };
            self.model.push(event.clone(), body, lives);
            self.inputs.output_added(input);
            assert_eq!(self.output.push(Time(self.now), input, event), Offset(offset));
            // An attached group may have ended by this push.
            self.forget_groups();
        }
        assert_eq!(self.inputs.seal(input), None);
        self.model.bodies.push(Body { input, offsets: first..first + count, done: false });
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

    fn on_peer(&mut self, action: fn(&mut Self, usize)) {
        if let Some(peer) = self.live_peer() {
            action(self, peer);
        }
    }

    fn live_peer(&mut self) -> Option<usize> {
        let live = |peer: &usize| self.model.peers[*peer].state != PeerState::Gone;
        let live: Vec<usize> = (0..self.model.peers.len()).filter(live).collect();
        self.random.pick(&live)
    }

    fn subscribe(&mut self) {
        let live = self.model.peers.iter().filter(|peer| peer.state != PeerState::Gone).count();
        if live >= MEMBERS_MAX {
            return;
        }
        let group = self.random.next() as usize % self.model.groups.len();
        let name = format!("member-{}", self.random.between(0, 5));
        let window = Window { events: self.random.between(1, 24), bytes: self.random.between(1, 4_000) };
        let incarnation = self.random.between(1, 3);
        let event_bytes_max = if self.random.percent(30) { LARGE } else { 10 * LARGE };
        self.open(group, name, incarnation, window, event_bytes_max);
    }

    fn open(&mut self, group: usize, name: String, incarnation: u64, window: Window, event_bytes_max: u64) {
        let counter = self.model.peers.len() as u64 + 1 - self.random.between(0, 1);
        let subscribe = Subscribe {
            version_min: 1,
            version_max: 1,
            pipeline: "p".into(),
            output: "o".into(),
            group: self.model.groups[group].name.clone(),
            kind: self.model.groups[group].kind,
            instance: Instance { name: name.clone(), incarnation },
            link_counter: counter,
            window,
            event_bytes_max,
            frame_bytes_max: 1 << 20,
            selector: None,
            partition: None,
        };
        let live = |peer: &&Peer| peer.group == group && peer.name == name && peer.state != PeerState::Gone;
        let rival = self.model.peers.iter().find(live).map(|rival| (rival.incarnation, rival.counter));
        let id = match self.output.subscribe(Time(self.now), &subscribe) {
            Ok(id) => id,
            Err(LinkError::Fenced(_)) => return assert!(rival.is_some_and(|rival| rival.0 > incarnation)),
            Err(LinkError::Replaced) => {
                return assert!(rival.is_some_and(|rival| rival.0 == incarnation && rival.1 >= counter));
            }
            Err(LinkError::Limit(_)) => return,
            Err(error) => panic!("{error}"),
        };
        assert!(rival.is_none_or(|rival| rival < (incarnation, counter)));
        let window = self.output.window(id).unwrap();
        let min_demand = self.random.between(0, window.events);
        let intake = Intake::new(window, min_demand);
        let (received, revoked) = (Vec::new(), BTreeMap::new());
        let state = PeerState::Open;
        let peer = Peer {
            id,
            group,
            name,
            incarnation,
            counter,
            event_bytes_max,
            intake,
            received,
            processed: 0,
            state,
            leaves: None,
            revoked,
        };
        self.model.peers.push(peer);
    }

    /// Some of what was received is processed; a grant may follow.
    fn process(&mut self, index: usize) {
        let peer = &mut self.model.peers[index];
        let count = self.random.between(0, (peer.received.len() - peer.processed) as u64) as usize;
        let done = &peer.received[peer.processed..peer.processed + count];
        let bytes = done.iter().map(|&offset| self.model.entries[offset as usize].event.size()).sum();
        peer.processed += count;
        peer.intake.processed(count as u64, bytes);
        let credit = peer.intake.next_credit().unwrap_or_else(|| peer.intake.credit());
        self.output.credit(peer.id, credit).unwrap();
    }

    /// Settles some deliveries in ranges, now and then ones that are settled already.
    fn dispose(&mut self, index: usize) {
        let sent = self.model.peers[index].received.len() as u64;
        if sent == 0 {
            return;
        }
        if !self.model.peers[index].revoked.is_empty() && self.random.percent(60) {
            return self.hand_over(index);
        }
        let first = if self.random.percent(80) {
            sent - self.random.between(0, sent.min(20) - 1)
        } else {
            self.random.between(1, sent)
        };
        let last = (first + self.random.between(0, 9)).min(sent);
        let outcome = if self.random.percent(8) {
            let stored = self.random.percent(50);
            Outcome::Rejected(Box::new(Rejection { reason: Reason::Invalid, text: "no".into(), stored }))
        } else {
            Outcome::Accepted
        };
        for number in first..=last {
            self.model.settle(index, number, Some(&outcome));
            self.touched.push(self.model.peers[index].received[number as usize - 1]);
        }
        self.send(index, Disposition { first, last, state: Settled::Outcome(outcome) });
    }

    /// The answer to `Revoke`: some of the partition's deliveries are settled, some released.
    fn hand_over(&mut self, index: usize) {
        for (number, offset) in self.model.unsettled(index) {
            let revoked =
                self.model.partition(offset).is_some_and(|of| self.model.peers[index].revoked.contains_key(&of));
            let keyed = self.model.groups[self.model.peers[index].group].dispatch == Dispatch::Keyed;
            if !revoked || !keyed || self.random.percent(30) {
                continue;
            }
            let outcome = self.random.percent(50).then_some(Outcome::Accepted);
            self.model.settle(index, number, outcome.as_ref());
            self.touched.push(offset);
            let state = outcome.map_or(Settled::Released, Settled::Outcome);
            self.send(index, Disposition { first: number, last: number, state });
        }
    }

    fn send(&mut self, index: usize, disposition: Disposition) {
        self.output.dispose(self.model.peers[index].id, &disposition).unwrap();
        // What all groups have settled leaves the model's groups when it is reported; a repeat must find nothing.
        self.output.dispose(self.model.peers[index].id, &disposition).unwrap();
    }

    fn close(&mut self, index: usize) {
        self.reached.lost_while_moving |= !self.model.peers[index].revoked.is_empty();
        self.output.close(Time(self.now), self.model.peers[index].id);
        self.model.lose(index);
    }

    fn cancel(&mut self, index: usize) {
        let until = self.random.percent(70).then(|| self.now + self.random.between(0, 2 * HANDOVER_MS));
        self.output.cancel(Time(self.now), self.model.peers[index].id, until.map(Time));
        let peer = &mut self.model.peers[index];
        peer.state = PeerState::Cancelled;
        let leaves = until.unwrap_or(self.now).min(peer.leaves.unwrap_or(u64::MAX));
        peer.leaves = Some(leaves);
        // Other drains whose time is up end here too.
        self.end_drains();
    }

    fn end_drains(&mut self) {
        for index in 0..self.model.peers.len() {
            let peer = &self.model.peers[index];
            if peer.state == PeerState::Cancelled && peer.leaves.is_some_and(|leaves| leaves <= self.now) {
                self.reached.overdue |= peer.leaves < Some(self.now) && !self.model.unsettled(index).is_empty();
                self.model.release(index, |_, _| true);
            }
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

    /// A peer that breaks the protocol is told so, and its link ends.
    fn misbehave(&mut self, index: usize) {
        let peer = &self.model.peers[index];
        let sent = peer.received.len() as u64;
        let broken = if self.random.percent(50) {
            self.output.credit(peer.id, Credit { events: sent + 1_000, bytes: 0 })
        } else {
            let state = Settled::Outcome(Outcome::Accepted);
            self.output.dispose(peer.id, &Disposition { first: sent + 1, last: sent + 1, state })
        };
        assert!(matches!(broken, Err(LinkError::Violation(_))));
        self.close(index);
    }

    /// Law 2 is the intake's to check.
    fn frames(&mut self) {
        for index in 0..self.model.peers.len() {
            if self.model.peers[index].state == PeerState::Gone || self.random.percent(10) {
                continue;
            }
            let bytes_max = self.random.between(1, 2_000);
            let id = self.model.peers[index].id;
            while let Some(frame) = self.output.next_frame(id, bytes_max as usize) {
                let bytes: u64 = frame.iter().map(|delivery| delivery.event.size()).sum();
                assert!(!frame.is_empty() && (frame.len() == 1 || bytes <= bytes_max));
                self.model.peers[index].intake.received(&frame).unwrap();
                for delivery in &frame {
                    self.model.deliver(index, delivery.number, &delivery.event);
                }
            }
        }
    }

    /// Faults end, honest members come: all that was taken is settled (law 3: each cause ends when its reason is gone).
    fn quiesce(&mut self) {
        for peer in 0..self.model.peers.len() {
            if self.model.peers[peer].state != PeerState::Gone {
                self.close(peer);
            }
        }
        self.output.set_demand(Demand::Forward);
        self.after();
        for group in 0..self.config.groups.len() {
            self.open(group, "last".into(), 9, Window { events: 1_000, bytes: 1_000_000 }, 10 * LARGE);
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
