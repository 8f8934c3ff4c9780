//! What a bystander knows of an output: what was pushed, delivered, disposed of and reported. It predicts nothing of how the
//! output chooses; it says when a choice breaks a law.

use std::collections::{BTreeMap, BTreeSet};

use crate::groups::is_selected;

use jaiminho_core::{Dispatch, Event, GroupKind, InputId, Intake, KeyHash, LinkId, Outcome, Settlement};

/// Above this size a member may be unable to take an event.
pub(crate) const LARGE: u64 = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Live,
    Reported,
    Withdrawn,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) event: Event,
    pub(crate) body: usize,
    pub(crate) state: State,
    /// To a member of any group but a tap.
    pub(crate) was_sent: bool,
    /// It waits for the first group of a broadcast.
    pub(crate) is_orphan: bool,
}

/// One entry in one group.
#[derive(Clone, Debug, Default)]
pub(crate) struct Copy {
    /// Peer and delivery number of the unsettled copy.
    pub(crate) on: Option<(usize, u64)>,
    /// The peer that had it last.
    last: Option<usize>,
    pub(crate) sent: u32,
    /// The log may have rejected it for this group before the group left.
    maybe_refused: bool,
    pub(crate) settled: Option<Outcome>,
}

#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) kind: GroupKind,
    /// It takes part in settlement.
    pub(crate) gates: bool,
    pub(crate) dispatch: Dispatch,
    /// How many are fixed.
    pub(crate) partitions: Option<u16>,
    /// Its members name one.
    pub(crate) has_selector: bool,
    /// A member has named it.
    pub(crate) is_selecting: bool,
    /// A broadcast's group is gone, but for what draining members hold.
    pub(crate) has_left: bool,
    /// By offset.
    pub(crate) copies: BTreeMap<u64, Copy>,
    /// Offsets of each key that are not settled in this group.
    pub(crate) open: BTreeMap<u64, BTreeSet<u64>>,
    /// Largest first copy of each key.
    pub(crate) newest: BTreeMap<u64, u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerState {
    Open,
    Cancelled,
    Gone,
}

/// The consumer's side of one link.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: LinkId,
    pub(crate) group: usize,
    pub(crate) name: String,
    pub(crate) incarnation: u64,
    pub(crate) counter: u64,
    pub(crate) event_bytes_max: u64,
    pub(crate) partition: Option<u16>,
    pub(crate) intake: Intake,
    /// Offsets by delivery number, from 1.
    pub(crate) received: Vec<u64>,
    pub(crate) processed: usize,
    pub(crate) state: PeerState,
    /// When its time to settle is up, once it is cancelled.
    pub(crate) leaves: Option<u64>,
    /// Partitions under revocation, with the time that is left for it.
    pub(crate) revoked: BTreeMap<u16, u64>,
}

#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) input: InputId,
    pub(crate) offsets: std::ops::Range<u64>,
    pub(crate) done: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) entries: Vec<Entry>,
    pub(crate) groups: Vec<Group>,
    pub(crate) peers: Vec<Peer>,
    pub(crate) bodies: Vec<Body>,
    /// The log may discard what is on no link.
    pub(crate) discards: bool,
}

impl Model {
    /// True: some group does not want it.
    pub(crate) fn push(&mut self, event: Event, body: usize, lives: &[bool]) -> bool {
        let offset = self.entries.len() as u64;
        let (mut is_orphan, mut unwanted) = (true, false);
        for (group, _) in self.groups.iter_mut().zip(lives).filter(|(_, lives)| **lives) {
            is_orphan &= !group.gates;
            if group.wants(&event) {
                group.insert(offset, &event);
            } else {
                unwanted = true;
            }
        }
        self.entries.push(Entry { event, body, state: State::Live, was_sent: false, is_orphan });
        unwanted
    }

    pub(crate) fn partition(&self, offset: u64) -> Option<u16> {
        self.entries[offset as usize].event.key.map(KeyHash::partition)
    }

    /// Laws 1, 5 and 6, as a delivery shows them. True: another member of its fixed partition had it before.
    pub(crate) fn deliver(&mut self, peer: usize, number: u64, event: &Event) -> bool {
        let offset = event.origin.offset;
        let entry = &mut self.entries[offset as usize];
        let to = &mut self.peers[peer];
        assert_eq!(event.payload, entry.event.payload, "{offset} was changed");
        assert!(event.size() <= to.event_bytes_max, "{offset} is too large for {peer}");
        assert_eq!(to.state, PeerState::Open, "{peer} takes nothing more");
        to.received.push(offset);
        assert_eq!(to.received.len() as u64, number);
        let group = &mut self.groups[to.group];
        if group.kind == GroupKind::Tap {
            return false;
        }
        entry.was_sent = true;
        assert_ne!(entry.state, State::Withdrawn, "{offset} was withdrawn");
        let keeps_order = matches!(group.dispatch, Dispatch::Keyed | Dispatch::Fixed { .. });
        let key = entry.event.key.map(|key| key.0).filter(|_| keeps_order);
        let fixed = key.zip(group.partitions).map(|(key, count)| (key % u64::from(count)) as u16);
        assert_eq!(fixed, to.partition, "{offset} is of another partition");
        if let Some(key) = key {
            self.check_order(peer, offset, key);
        }
        let group = &mut self.groups[self.peers[peer].group];
        let Some(copy) = group.copies.get_mut(&offset) else { panic!("{offset} was before {}", group.name) };
        assert!(copy.on.is_none() && copy.settled.is_none(), "{offset} is not there to be sent: {copy:?}");
        assert_eq!(event.attempt, 1 + copy.sent, "attempt of {offset}");
        copy.on = Some((peer, number));
        copy.sent += 1;
        let before = copy.last.replace(peer);
        fixed.is_some() && before.is_some_and(|before| self.peers[before].name != self.peers[peer].name)
    }

    /// Law 6: all older ones of the key are settled, or on the same link before this one; first copies ascend; and nothing
    /// comes of a revoked partition.
    fn check_order(&mut self, peer: usize, offset: u64, key: u64) {
        let partition = KeyHash(key).partition();
        assert!(!self.peers[peer].revoked.contains_key(&partition), "{offset} came after its partition was revoked");
        let group = &mut self.groups[self.peers[peer].group];
        for older in group.open.get(&key).into_iter().flatten().take_while(|older| **older < offset) {
            let copy = &group.copies[older];
            let too_large = self.entries[*older as usize].event.size() > LARGE;
            // A group that does not take part in settlement is not heard of when an entry is discarded.
            let is_gone = self.discards && self.entries[*older as usize].state == State::Reported;
            let fine = copy.on.is_some_and(|(on, _)| on == peer) || (copy.on.is_none() && (too_large || is_gone));
            assert!(fine, "{offset} of key {key} overtakes {older}: {copy:?}");
        }
        if group.copies[&offset].sent == 0 {
            let newest = group.newest.insert(key, offset);
            assert!(newest.is_none_or(|newest| newest < offset), "first copy of {offset} after that of {newest:?}");
        }
    }

    /// A disposition takes effect, if its delivery is unsettled. `None`: released.
    pub(crate) fn settle(&mut self, peer: usize, number: u64, outcome: Option<&Outcome>) -> bool {
        let offset = self.peers[peer].received[number as usize - 1];
        let group = &mut self.groups[self.peers[peer].group];
        let Some(copy) = group.copies.get_mut(&offset).filter(|copy| copy.on == Some((peer, number))) else {
            return false;
        };
        copy.on = None;
        let outcome = outcome.cloned().or_else(|| group.has_left.then_some(Outcome::Accepted));
        copy.settled.clone_from(&outcome);
        if outcome.is_some() {
            self.close_copy(self.peers[peer].group, offset);
        }
        self.end_revocations(peer);
        true
    }

    fn close_copy(&mut self, group: usize, offset: u64) {
        if let Some(key) = self.entries[offset as usize].event.key
            && let Some(open) = self.groups[group].open.get_mut(&key.0)
        {
            open.remove(&offset);
        }
    }

    /// Numbers and offsets of a peer's unsettled deliveries.
    pub(crate) fn unsettled(&self, peer: usize) -> Vec<(u64, u64)> {
        let group = &self.groups[self.peers[peer].group];
        let on = |&(number, offset): &(u64, u64)| {
            group.copies.get(&offset).is_some_and(|copy| copy.on == Some((peer, number)))
        };
        (1_u64..).zip(self.peers[peer].received.iter().copied()).filter(on).collect()
    }

    /// A revocation is over when nothing of its partition is unsettled.
    pub(crate) fn end_revocations(&mut self, peer: usize) {
        if self.peers[peer].revoked.is_empty() {
            return;
        }
        let held: BTreeSet<u16> =
            self.unsettled(peer).iter().filter_map(|&(_, offset)| self.partition(offset)).collect();
        self.peers[peer].revoked.retain(|partition, _| held.contains(partition));
    }

    /// The producer takes everything back from a link, or what is overdue of revoked partitions.
    pub(crate) fn release(&mut self, peer: usize, which: impl Fn(&Self, u64) -> bool) -> Vec<u64> {
        let mut released = self.unsettled(peer);
        released.retain(|&(_, offset)| which(self, offset));
        for &(number, _) in &released {
            self.settle(peer, number, None);
        }
        released.into_iter().map(|(_, offset)| offset).collect()
    }

    pub(crate) fn lose(&mut self, peer: usize) -> Vec<u64> {
        let released = self.release(peer, |_, _| true);
        self.peers[peer].state = PeerState::Gone;
        self.peers[peer].revoked.clear();
        released
    }

    /// An attached group has ended.
    pub(crate) fn forget_group(&mut self, group: usize) {
        let group = &mut self.groups[group];
        group.copies.clear();
        group.open.clear();
        group.newest.clear();
    }

    pub(crate) fn can_withdraw(&self, offsets: std::ops::Range<u64>) -> bool {
        offsets.into_iter().all(|offset| {
            self.entries.get(offset as usize).is_some_and(|entry| entry.state == State::Live && !entry.was_sent)
        })
    }

    pub(crate) fn withdraw(&mut self, offset: u64) {
        self.entries[offset as usize].state = State::Withdrawn;
        self.entries[offset as usize].is_orphan = false;
        for group in 0..self.groups.len() {
            self.close_copy(group, offset);
            self.groups[group].copies.remove(&offset);
        }
    }

    /// Law 5: reported once, after all required groups, with the worst outcome.
    pub(crate) fn report(&mut self, settlement: &Settlement) {
        let offset = settlement.offset.0;
        let entry = &mut self.entries[offset as usize];
        assert_eq!(entry.state, State::Live, "{offset} is reported again");
        assert!(self.discards || !entry.is_orphan, "{offset} waits for a group");
        entry.is_orphan = false;
        entry.state = State::Reported;
        assert_eq!(settlement.input, self.bodies[entry.body].input);
        let size = entry.event.size();
        let (mut worst, mut refused, mut maybe) = (Outcome::Accepted, false, false);
        for index in 0..self.groups.len() {
            let group = &self.groups[index];
            let Some(copy) = group.copies.get(&offset).filter(|_| group.gates) else { continue };
            let outcome = copy.settled.clone().unwrap_or_else(|| {
                assert!(
                    (size > LARGE || self.discards) && copy.on.is_none(),
                    "{offset} is reported, but {} has not settled it",
                    group.name
                );
                refused = size > LARGE;
                Outcome::Accepted
            });
            maybe |= copy.maybe_refused;
            worst = worst.worst(outcome);
            self.close_copy(index, offset);
            self.groups[index].copies.remove(&offset);
        }
        assert_eq!(rank(&settlement.outcome), rank(&worst), "outcome of {offset}");
        let is_refused = settlement.refused.is_some();
        assert!(
            is_refused == refused || (is_refused && maybe) || (!is_refused && self.discards),
            "{offset} is rejected by the log: {is_refused}"
        );
    }

    /// Law 7: never more is asked than what the members of each group have asked for and were not sent.
    pub(crate) fn check_demand(&self, demand: u64) {
        let asked = |index: usize| {
            let open = self.peers.iter().filter(|peer| peer.group == index && peer.state == PeerState::Open);
            open.map(|peer| peer.intake.credit().events - peer.received.len() as u64).sum()
        };
        let gating: Vec<usize> = (0..self.groups.len()).filter(|&index| self.gates_now(index)).collect();
        assert!(demand == 0 || !gating.is_empty());
        for index in gating {
            let asked: u64 = asked(index);
            assert!(demand <= asked, "{demand} demanded, but only {asked} asked for");
        }
    }

    /// What all required groups have settled is reported at once.
    pub(crate) fn check_reported(&self, offsets: &[u64]) {
        for &offset in offsets.iter().filter(|offset| self.entries[**offset as usize].state == State::Live) {
            let mut gating = self.groups.iter().filter(|group| group.gates);
            let waits = gating.any(|group| group.copies.get(&offset).is_some_and(|copy| copy.settled.is_none()));
            assert!(waits || self.entries[offset as usize].is_orphan, "{offset} is settled, but not reported");
        }
    }
}

/// What a member's coming has changed.
#[derive(Debug, Default)]
pub(crate) struct Joined {
    pub(crate) taken_over: bool,
    pub(crate) touched: Vec<u64>,
}

/// Groups come, go and choose.
impl Model {
    /// The group in a place; a new one after one that has left.
    pub(crate) fn current(&mut self, slot: &mut usize) -> usize {
        if self.groups[*slot].has_left {
            let group = Group { has_left: false, ..self.groups[*slot].clone() };
            self.groups.push(group);
            *slot = self.groups.len() - 1;
            self.forget_group(*slot);
        }
        *slot
    }

    /// Whether settlement waits for a group now, whatever it has.
    pub(crate) fn gates_now(&self, index: usize) -> bool {
        let group = &self.groups[index];
        let is_open = |peer: &Peer| peer.group == index && peer.state == PeerState::Open;
        match group.kind {
            GroupKind::Required => true,
            GroupKind::Attached => group.gates && !group.has_left && self.peers.iter().any(is_open),
            GroupKind::Tap => false,
        }
    }

    /// A member has come, and is not among the peers yet.
    pub(crate) fn join(&mut self, index: usize) -> Joined {
        let mut joined = Joined::default();
        let is_first = self.groups[index].gates && !(0..self.groups.len()).any(|other| self.gates_now(other));
        let group = &mut self.groups[index];
        if group.has_selector && !group.is_selecting {
            group.is_selecting = true;
            for (&offset, copy) in group.copies.iter_mut().filter(|(_, copy)| copy.settled.is_none()) {
                let event = &self.entries[offset as usize].event;
                if !is_selected(event) {
                    assert!(copy.on.is_none());
                    copy.settled = Some(Outcome::Accepted);
                    joined.touched.push(offset);
                    if let Some(open) = event.key.and_then(|key| group.open.get_mut(&key.0)) {
                        open.remove(&offset);
                    }
                }
            }
        }
        if is_first {
            for (offset, entry) in (0..).zip(&mut self.entries).filter(|(_, entry)| entry.is_orphan) {
                entry.is_orphan = false;
                joined.taken_over = true;
                if group.wants(&entry.event) {
                    group.insert(offset, &entry.event);
                }
                joined.touched.push(offset);
            }
        }
        joined
    }

    /// A broadcast's group without open members leaves. What it had not settled.
    pub(crate) fn leave(&mut self, index: usize) -> Option<Vec<u64>> {
        let group = &self.groups[index];
        let was_there = group.kind == GroupKind::Attached && group.gates && !group.has_left;
        if !was_there || self.gates_now(index) {
            return None;
        }
        self.groups[index].has_left = true;
        let is_last = !(0..self.groups.len()).any(|other| self.gates_now(other));
        let group = &mut self.groups[index];
        let mut touched = Vec::new();
        for (&offset, copy) in group.copies.iter_mut() {
            let entry = &mut self.entries[offset as usize];
            if copy.on.is_none() && copy.settled.is_none() && entry.state == State::Live {
                entry.is_orphan = is_last && !entry.was_sent;
                copy.settled = Some(Outcome::Accepted);
                copy.maybe_refused = entry.event.size() > LARGE;
                touched.push(offset);
            }
        }
        group.copies.retain(|&offset, _| !self.entries[offset as usize].is_orphan);
        Some(touched)
    }
}

impl Group {
    fn wants(&self, event: &Event) -> bool {
        (self.partitions.is_none() || event.key.is_some()) && (!self.is_selecting || is_selected(event))
    }

    fn insert(&mut self, offset: u64, event: &Event) {
        self.copies.insert(offset, Copy::default());
        if let Some(key) = event.key {
            self.open.entry(key.0).or_default().insert(offset);
        }
    }
}

pub(crate) fn rank(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Accepted => 0,
        Outcome::Rejected(rejection) => 2 - u8::from(rejection.stored),
    }
}
