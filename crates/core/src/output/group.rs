//! A group: one consumer stage's cursor over the log, its members, and what waits for them.

use std::collections::BTreeSet;

use super::api::{Dispatch, PARTITIONS};
use super::custom::Custom;
use super::entries::{Entries, Entry, NONE, Place};
use super::keyed::{Keyed, Move};
use super::link::Links;
use super::log::Log;
use super::select::Selector;
use super::shares::Shares;
use crate::message::{GroupKind, Outcome, Rejection};
use crate::time::Time;

/// What groups share: the log that they read, the links of all of them.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) log: Log,
    pub(crate) links: Links,
}

/// A group of any kind.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) kind: GroupKind,
    /// Entries are settled only when this group has settled them.
    pub(crate) gates: bool,
    /// Gets nothing more, and is gone with its last link.
    pub(crate) has_left: bool,
    /// What it gets of all events; with its name.
    pub(crate) selector: Option<(String, Selector)>,
    /// Its own key among the output's groups.
    pub(crate) key: usize,
    pub(crate) entries: Entries,
    /// The first fresh entry is here or, when those here were withdrawn, later.
    pub(crate) cursor: u64,
    /// None in groups that go by demand alone.
    pub(crate) keyed: Option<Box<Keyed>>,
    /// Instead of any other dispatch.
    pub(crate) custom: Option<Box<Custom>>,
    /// Entries without order that a link gave back. Fresh ones go to whoever has credit, so they never wait here.
    pub(crate) keyless: BTreeSet<u64>,
    /// Open links, in order of joining.
    pub(crate) members: Vec<u16>,
    /// The member that is asked first the next time.
    pub(crate) turn: usize,
    /// Their unused shares.
    pub(crate) shares: Shares,
    /// Deliveries that the members' credit still allows.
    pub(crate) unused: u64,
    /// Members with credit.
    pub(crate) hungry: usize,
    /// The smallest of its members'; without members, no limit.
    pub(crate) event_bytes_max: u64,
    /// Entries that are on no link and not settled.
    pub(crate) undispatched: u64,
    /// All before it was dispatched once, or needs it no more.
    pub(crate) passed: u64,
    pub(crate) dispatched: u64,
    /// Their bytes.
    pub(crate) dispatched_bytes: u64,
    pub(crate) redispatched: u64,
    pub(crate) last_dispatch: Option<Time>,
    /// When an attached group without links ends.
    pub(crate) expires: Option<Time>,
    /// Earliest hand-over time-out that may be due; late is never.
    pub(crate) handover_next: Option<Time>,
}

impl Group {
    pub(crate) fn new(key: usize, name: &str, kind: GroupKind, dispatch: &Dispatch, end: u64) -> Self {
        let keyed = match (kind, dispatch) {
            (GroupKind::Required | GroupKind::Attached, Dispatch::Keyed) => {
                Some(Box::new(Keyed::new(PARTITIONS, false)))
            }
            (GroupKind::Required | GroupKind::Attached, Dispatch::Fixed { partitions }) => {
                Some(Box::new(Keyed::new(usize::from(*partitions).clamp(1, PARTITIONS), true)))
            }
            (GroupKind::Tap, _) | (_, Dispatch::Demand | Dispatch::Custom(_)) => None,
        };
        let custom = match dispatch {
            Dispatch::Custom(new) => Some(Box::new(Custom::new(new))),
            Dispatch::Keyed | Dispatch::Demand | Dispatch::Fixed { .. } => None,
        };
        Self {
            name: name.to_owned(),
            kind,
            gates: kind == GroupKind::Required,
            has_left: false,
            selector: None,
            key,
            entries: Entries::new(end),
            cursor: end,
            keyed,
            custom,
            keyless: BTreeSet::new(),
            members: Vec::new(),
            turn: 0,
            shares: Shares::default(),
            unused: 0,
            hungry: 0,
            event_bytes_max: u64::MAX,
            undispatched: 0,
            passed: end,
            dispatched: 0,
            dispatched_bytes: 0,
            redispatched: 0,
            last_dispatch: None,
            expires: None,
            handover_next: None,
        }
    }

    /// An event was appended to the log; whether the group is to get it.
    pub(crate) fn push(&mut self, selects: bool) {
        if selects {
            self.entries.push();
            self.undispatched += 1;
        } else {
            self.entries.skip();
        }
    }

    /// Partition of an unsettled entry, if this group keeps its order.
    pub(crate) fn partition(&self, log: &Log, offset: u64) -> Option<u16> {
        self.keyed.as_ref().and_then(|keyed| Some(keyed.partition(log.event(offset)?.key?)))
    }

    /// An entry that is in no list and on no link is done with.
    pub(crate) fn finish(&mut self, shared: &mut Shared, offset: u64, outcome: Outcome) {
        self.entries.finish(offset, Place::Settled);
        if self.gates {
            shared.log.settle(offset, outcome);
        } else {
            shared.log.let_go(offset);
        }
    }

    /// An entry that is in no list and on no link is too large for this group.
    pub(crate) fn refuse(&mut self, shared: &mut Shared, offset: u64, rejection: Rejection) {
        self.entries.finish(offset, Place::Settled);
        if self.gates {
            shared.log.refuse(offset, rejection);
        } else {
            shared.log.let_go(offset);
        }
    }

    /// A member has settled a delivery.
    pub(crate) fn settle(&mut self, shared: &mut Shared, offset: u64, outcome: Outcome) {
        let partition = self.partition(&shared.log, offset);
        self.finish(shared, offset, outcome);
        if let (Some(keyed), Some(partition)) = (self.keyed.as_mut(), partition)
            && keyed.unhold(partition)
            && keyed.at(partition).moving != Move::No
        {
            self.arrive(&mut shared.links, partition);
        }
    }

    /// A sent entry is dispatched again, before newer ones of its key. `ghost`: the dead link that left it. In a group that has
    /// left it counts as accepted.
    pub(crate) fn release(&mut self, shared: &mut Shared, offset: u64, ghost: u16) {
        if self.has_left {
            shared.links.leftover_done(ghost);
            return self.settle(shared, offset, Outcome::Accepted);
        }
        let entry = self.entries.at_mut(offset);
        entry.again = entry.again.saturating_add(1);
        entry.link = ghost;
        self.undispatched += 1;
        shared.log.left_link(offset);
        let partition = self.partition(&shared.log, offset);
        match (self.keyed.as_mut(), partition) {
            (Some(keyed), Some(partition)) => {
                self.entries.at_mut(offset).place = Place::Parked;
                keyed.parked.entry(partition).or_default().push(offset);
                if keyed.unhold(partition) {
                    self.arrive(&mut shared.links, partition);
                }
            }
            (None, _) | (_, None) => {
                self.entries.at_mut(offset).place = Place::Waiting;
                self.keyless.insert(offset);
            }
        }
    }

    /// Nobody holds anything of a partition: what was parked goes before all else in it, and its owner may have it.
    fn arrive(&mut self, links: &mut Links, partition: u16) {
        let Some(keyed) = self.keyed.as_mut() else { return };
        keyed.at_mut(partition).moving = Move::No;
        if let Some(mut parked) = keyed.parked.remove(&partition) {
            parked.sort_unstable();
            for &offset in parked.iter().rev() {
                self.entries.at_mut(offset).place = Place::Waiting;
                keyed.requeue(&mut self.entries, partition, offset);
            }
        }
        keyed.refresh(links, partition);
    }

    /// Takes assigned entries that `keep` doesn't want back from a link; they wait as if they had never been assigned.
    pub(crate) fn take_back(&mut self, shared: &mut Shared, link: u16, keep: impl Fn(&Self, &Log, u64) -> bool) {
        let mut back = Vec::new();
        let assigned = std::mem::take(&mut shared.links.at_mut(link).assigned);
        let kept = assigned.into_iter().filter(|&offset| {
            let keep = keep(self, &shared.log, offset);
            if !keep {
                back.push(offset);
            }
            keep
        });
        shared.links.at_mut(link).assigned = kept.collect();
        // Each partition's are ascending, and below all that waits in it.
        for &offset in back.iter().rev() {
            shared.links.at_mut(link).allowance.give_back(shared.log.size(offset));
            shared.log.left_link(offset);
            let entry = self.entries.at_mut(offset);
            entry.place = Place::Waiting;
            entry.link = NONE;
            self.undispatched += 1;
            let partition = self.partition(&shared.log, offset);
            match (self.keyed.as_mut(), partition) {
                (Some(keyed), Some(partition)) => {
                    keyed.requeue(&mut self.entries, partition, offset);
                    keyed.unhold(partition);
                    keyed.refresh(&mut shared.links, partition);
                }
                (None, _) | (_, None) => {
                    self.keyless.insert(offset);
                }
            }
        }
        self.recount(&mut shared.links, link);
    }

    /// Takes an entry that was never sent out of the group, unless the group has settled it. The caller has taken it back
    /// from its link.
    pub(crate) fn withdraw(&mut self, shared: &mut Shared, offset: u64) {
        if self.take_out(&mut shared.links, &shared.log, offset) {
            self.entries.finish(offset, Place::Withdrawn);
        }
    }

    /// Takes an entry that waits out of where it does. False: it is on a link, or done with.
    pub(crate) fn take_out(&mut self, links: &mut Links, log: &Log, offset: u64) -> bool {
        let Some(Entry { place, link, .. }) = self.entries.find(offset).copied() else { return false };
        match place {
            Place::Settled | Place::Withdrawn | Place::Assigned | Place::Sent => return false,
            Place::Fresh => {}
            Place::Waiting => {
                links.leftover_done(link);
                self.unqueue(links, self.partition(log, offset), offset);
            }
            Place::Parked => {
                links.leftover_done(link);
                let parked = self.partition(log, offset).zip(self.keyed.as_mut());
                let parked = parked.and_then(|(partition, keyed)| keyed.parked.get_mut(&partition));
                parked.into_iter().for_each(|parked| parked.retain(|&other| other != offset));
            }
        }
        self.undispatched -= 1;
        true
    }

    /// Takes a waiting entry out of its list.
    pub(crate) fn unqueue(&mut self, links: &mut Links, partition: Option<u16>, offset: u64) {
        match (self.keyed.as_mut(), partition) {
            (Some(keyed), Some(partition)) => {
                keyed.partitions[usize::from(partition)].waiting.remove(&mut self.entries, offset);
                keyed.refresh(links, partition);
            }
            (None, _) | (_, None) => {
                self.keyless.remove(&offset);
            }
        }
    }

    /// The log has no use for this group any more.
    pub(crate) fn dissolve(self, shared: &mut Shared) {
        for (offset, entry) in self.entries.iter() {
            match entry.place {
                Place::Settled | Place::Withdrawn => {}
                Place::Fresh | Place::Assigned | Place::Sent => shared.log.let_go(offset),
                Place::Waiting | Place::Parked => {
                    shared.links.leftover_done(entry.link);
                    shared.log.let_go(offset);
                }
            }
        }
    }
}
