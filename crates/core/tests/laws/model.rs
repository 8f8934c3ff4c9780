//! What a bystander knows of an output: what was pushed, delivered, disposed of and reported. It predicts nothing of how the
//! output chooses; it says when a choice breaks a law.

use std::collections::{BTreeMap, BTreeSet};

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
}

/// One entry in one group.
#[derive(Clone, Debug, Default)]
pub(crate) struct Copy {
    /// Peer and delivery number of the unsettled copy.
    pub(crate) on: Option<(usize, u64)>,
    pub(crate) sent: u32,
    pub(crate) settled: Option<Outcome>,
}

#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) kind: GroupKind,
    pub(crate) dispatch: Dispatch,
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
}

impl Model {
    pub(crate) fn push(&mut self, event: Event, body: usize, lives: impl Fn(&Group) -> bool) {
        let offset = self.entries.len() as u64;
        for group in self.groups.iter_mut().filter(|group| lives(group)) {
            group.copies.insert(offset, Copy::default());
            if let Some(key) = event.key {
                group.open.entry(key.0).or_default().insert(offset);
            }
        }
        self.entries.push(Entry { event, body, state: State::Live, was_sent: false });
    }

    pub(crate) fn partition(&self, offset: u64) -> Option<u16> {
        self.entries[offset as usize].event.key.map(KeyHash::partition)
    }

    /// Laws 1, 5 and 6, as a delivery shows them.
    pub(crate) fn deliver(&mut self, peer: usize, number: u64, event: &Event) {
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
            return;
        }
        entry.was_sent = true;
        assert_ne!(entry.state, State::Withdrawn, "{offset} was withdrawn");
        let key = entry.event.key.map(|key| key.0).filter(|_| group.dispatch == Dispatch::Keyed);
        if let Some(key) = key {
            self.check_order(peer, offset, key);
        }
        let group = &mut self.groups[self.peers[peer].group];
        let Some(copy) = group.copies.get_mut(&offset) else { panic!("{offset} was before {}", group.name) };
        assert!(copy.on.is_none() && copy.settled.is_none(), "{offset} is not there to be sent: {copy:?}");
        assert_eq!(event.attempt, 1 + copy.sent, "attempt of {offset}");
        copy.on = Some((peer, number));
        copy.sent += 1;
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
            let fine = copy.on.is_some_and(|(on, _)| on == peer) || (copy.on.is_none() && too_large);
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
        copy.settled = outcome.cloned();
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
    pub(crate) fn release(&mut self, peer: usize, which: impl Fn(&Self, u64) -> bool) {
        for (number, offset) in self.unsettled(peer) {
            if which(self, offset) {
                self.settle(peer, number, None);
            }
        }
    }

    pub(crate) fn lose(&mut self, peer: usize) {
        self.release(peer, |_, _| true);
        self.peers[peer].state = PeerState::Gone;
        self.peers[peer].revoked.clear();
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
        entry.state = State::Reported;
        assert_eq!(settlement.input, self.bodies[entry.body].input);
        let size = entry.event.size();
        let (mut worst, mut refused) = (Outcome::Accepted, false);
        for index in 0..self.groups.len() {
            let group = &self.groups[index];
            if group.kind != GroupKind::Required {
                continue;
            }
            let copy = &group.copies[&offset];
            let outcome = copy.settled.clone().unwrap_or_else(|| {
                assert!(
                    size > LARGE && copy.on.is_none(),
                    "{offset} is reported, but {} has not settled it",
                    group.name
                );
                refused = true;
                Outcome::Accepted
            });
            worst = worst.worst(outcome);
            self.close_copy(index, offset);
            self.groups[index].copies.remove(&offset);
        }
        assert_eq!(rank(&settlement.outcome), rank(&worst), "outcome of {offset}");
        assert_eq!(settlement.refused.is_some(), refused, "{offset} is rejected by the log");
    }

    /// Law 7: never more is asked than what the members of each required group have asked for and were not sent.
    pub(crate) fn check_demand(&self, demand: u64) {
        let asked = |index: usize| {
            let open = self.peers.iter().filter(|peer| peer.group == index && peer.state == PeerState::Open);
            open.map(|peer| peer.intake.credit().events - peer.received.len() as u64).sum()
        };
        for index in (0..self.groups.len()).filter(|&index| self.groups[index].kind == GroupKind::Required) {
            let asked: u64 = asked(index);
            assert!(demand <= asked, "{demand} demanded, but only {asked} asked for");
        }
    }

    /// What all required groups have settled is reported at once.
    pub(crate) fn check_reported(&self, offsets: &[u64]) {
        for &offset in offsets.iter().filter(|offset| self.entries[**offset as usize].state == State::Live) {
            let mut required = self.groups.iter().filter(|group| group.kind == GroupKind::Required);
            assert!(
                required.any(|group| group.copies[&offset].settled.is_none()),
                "{offset} is settled, but not reported"
            );
        }
    }
}

pub(crate) fn rank(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Accepted => 0,
        Outcome::Rejected(rejection) => 2 - u8::from(rejection.stored),
    }
}
