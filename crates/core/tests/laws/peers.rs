//! What peers do in a history: they join, receive, settle, leave and misbehave.

use std::collections::BTreeMap;

use jaiminho_core::{
    Credit, Dispatch, Disposition, Instance, Intake, LinkError, Outcome, Reason, Rejection, Settled, Subscribe, Time,
    Versions, Window,
};

use crate::groups::SELECTOR;
use crate::history::{HANDOVER_MS, History};
use crate::model::{LARGE, Peer, PeerState};

const MEMBERS_MAX: usize = 8;

impl History {
    pub(crate) fn on_peer(&mut self, action: fn(&mut Self, usize)) {
        if let Some(peer) = self.live_peer() {
            action(self, peer);
        }
    }

    fn live_peer(&mut self) -> Option<usize> {
        let live = |peer: &usize| self.model.peers[*peer].state != PeerState::Gone;
        let live: Vec<usize> = (0..self.model.peers.len()).filter(live).collect();
        self.random.pick(&live)
    }

    pub(crate) fn subscribe(&mut self) {
        let live = self.model.peers.iter().filter(|peer| peer.state != PeerState::Gone).count();
        if live >= MEMBERS_MAX {
            return;
        }
        let slot = self.random.next() as usize % self.slots.len();
        let name = format!("member-{}", self.random.between(0, 5));
        let window = Window { events: self.random.between(1, 24), bytes: self.random.between(1, 4_000) };
        let incarnation = self.random.between(1, 3);
        let event_bytes_max = if self.random.percent(30) { LARGE } else { 10 * LARGE };
        let partition = self.random.between(0, 2) as u16;
        self.open(slot, name, incarnation, window, event_bytes_max, partition);
    }

    pub(crate) fn open(
        &mut self,
        slot: usize,
        name: String,
        incarnation: u64,
        window: Window,
        event_bytes_max: u64,
        partition: u16,
    ) {
        let index = self.model.current(&mut self.slots[slot]);
        let group = &self.model.groups[index];
        let partition = group.partitions.map(|count| partition % count);
        let counter = self.model.peers.len() as u64 + 1 - self.random.between(0, 1);
        let subscribe = Subscribe {
            versions: Versions { min: 1, max: 1 },
            pipeline: "p".into(),
            output: "o".into(),
            group: group.name.clone(),
            kind: group.kind,
            instance: Instance { name: name.clone(), incarnation },
            link_counter: counter,
            window,
            event_bytes_max,
            frame_bytes_max: 1 << 20,
            selector: group.has_selector.then(|| SELECTOR.to_owned()),
            partition,
        };
        let live = |peer: &&Peer| peer.group == index && peer.state != PeerState::Gone;
        let rival = self.model.peers.iter().filter(live).find(|peer| peer.name == name);
        let rival = rival.map(|rival| (rival.incarnation, rival.counter));
        let mut others = self.model.peers.iter().filter(live).filter(|peer| peer.name != name);
        let is_taken = others.any(|peer| peer.state == PeerState::Open && peer.partition == partition);
        let id = match self.output.subscribe(Time(self.now), &subscribe) {
            Ok(id) => id,
            Err(LinkError::Fenced(_)) => return assert!(rival.is_some_and(|rival| rival.0 > incarnation)),
            Err(LinkError::Replaced) => {
                return assert!(rival.is_some_and(|rival| rival.0 == incarnation && rival.1 >= counter));
            }
            Err(LinkError::Partition(_)) => return assert!(partition.is_some() && is_taken),
            Err(LinkError::Limit(_)) => return,
            Err(error) => panic!("{error}"),
        };
        assert!(rival.is_none_or(|rival| rival < (incarnation, counter)));
        assert!(partition.is_none() || !is_taken);
        let window = self.output.window(id).unwrap();
        let min_demand = self.random.between(0, window.events);
        let peer = Peer {
            id,
            group: index,
            name,
            incarnation,
            counter,
            event_bytes_max,
            partition,
            intake: Intake::new(window, min_demand),
            received: Vec::new(),
            processed: 0,
            state: PeerState::Open,
            leaves: None,
            revoked: BTreeMap::new(),
        };
        let joined = self.model.join(index);
        self.reached.taken_over |= joined.taken_over;
        self.touched.extend(joined.touched);
        self.model.peers.push(peer);
    }

    /// A broadcast's group leaves with its last open member.
    fn leave(&mut self, group: usize) {
        if let Some(touched) = self.model.leave(group) {
            self.reached.left_a_broadcast |= !touched.is_empty();
            self.touched.extend(touched);
        }
    }

    /// Some of what was received is processed; a grant may follow.
    pub(crate) fn process(&mut self, index: usize) {
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
    pub(crate) fn dispose(&mut self, index: usize) {
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

    pub(crate) fn send(&mut self, index: usize, disposition: Disposition) {
        self.output.dispose(self.model.peers[index].id, &disposition).unwrap();
        // What all groups have settled leaves the model's groups when it is reported; a repeat must find nothing.
        self.output.dispose(self.model.peers[index].id, &disposition).unwrap();
    }

    pub(crate) fn close(&mut self, index: usize) {
        self.reached.lost_while_moving |= !self.model.peers[index].revoked.is_empty();
        self.output.close(Time(self.now), self.model.peers[index].id);
        self.touched.extend(self.model.lose(index));
        self.leave(self.model.peers[index].group);
    }

    pub(crate) fn cancel(&mut self, index: usize) {
        let until = self.random.percent(70).then(|| self.now + self.random.between(0, 2 * HANDOVER_MS));
        self.output.cancel(Time(self.now), self.model.peers[index].id, until.map(Time));
        let peer = &mut self.model.peers[index];
        peer.state = PeerState::Cancelled;
        let leaves = until.unwrap_or(self.now).min(peer.leaves.unwrap_or(u64::MAX));
        peer.leaves = Some(leaves);
        let group = peer.group;
        self.leave(group);
        // Other drains whose time is up end here too.
        self.end_drains();
    }

    pub(crate) fn end_drains(&mut self) {
        for index in 0..self.model.peers.len() {
            let peer = &self.model.peers[index];
            if peer.state == PeerState::Cancelled && peer.leaves.is_some_and(|leaves| leaves <= self.now) {
                self.reached.overdue |= peer.leaves < Some(self.now) && !self.model.unsettled(index).is_empty();
                let touched = self.model.release(index, |_, _| true);
                self.touched.extend(touched);
            }
        }
    }

    /// A peer that breaks the protocol is told so, and its link ends.
    pub(crate) fn misbehave(&mut self, index: usize) {
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
    pub(crate) fn frames(&mut self) {
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
                    self.reached.inherited |= self.model.deliver(index, delivery.number, &delivery.event);
                }
            }
        }
    }
}
