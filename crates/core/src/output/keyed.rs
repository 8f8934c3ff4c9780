//! Partitions of a group that keeps order: who owns each, who still holds something of it, what waits in it.
//!
//! ```text
//!                owner changes, old one holds nothing
//!            +----------------------------------------+
//!            v                                        |
//!   Settled (holder is the owner, or nobody holds) ---+
//!      |                                   ^
//!      | owner changes,                    | the old owner holds nothing any more: it settled or released the last one,
//!      | old one holds something           | its link is gone, or the hand-over's time is up
//!      v                                   |
//!   Moving (Revoke is on its way) ---------+
//! ```
//!
//! While a partition moves nothing of it is dispatched. If its owner changes again, even back to the old one, the move
//! still waits until the old one holds nothing.

use std::collections::BTreeMap;

use super::entries::{Entries, List, NONE};
use super::link::Links;
use super::owners::Owners;
use super::ready::Positions;
use crate::PARTITIONS;
use crate::event::KeyHash;
use crate::time::Time;

/// Whether a partition is on its way to another owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Move {
    No,
    /// Its holder was told to give it up by then.
    Revoked(Time),
    /// Its holder takes nothing more, and settles in its own time (it was cancelled).
    Leaving,
}

/// One partition.
#[derive(Clone, Debug)]
pub(crate) struct Partition {
    /// What waits, in order.
    pub(crate) waiting: List,
    /// The member that should get it, or [`NONE`].
    pub(crate) owner: u16,
    /// The link that the `held` are on, or [`NONE`].
    pub(crate) holder: u16,
    /// Entries assigned or sent to the holder and not settled.
    pub(crate) held: u32,
    /// Not `No` only while something is held.
    pub(crate) moving: Move,
}

/// All partitions of a group.
#[derive(Debug)]
pub(crate) struct Keyed {
    pub(crate) partitions: Box<[Partition]>,
    pub(crate) owners: Owners,
    pub(crate) positions: Positions,
    /// Entries released while the rest of their partition is still with the old owner.
    pub(crate) parked: BTreeMap<u16, Vec<u64>>,
    /// Members that may have both credit and something that waits for it.
    pub(crate) awake: Vec<u16>,
    /// Each member names its partition.
    pub(crate) is_fixed: bool,
}

impl Keyed {
    /// At most [`PARTITIONS`] partitions.
    pub(crate) fn new(count: usize, is_fixed: bool) -> Self {
        let partition = Partition { waiting: List::default(), owner: NONE, holder: NONE, held: 0, moving: Move::No };
        Self {
            partitions: vec![partition; count].into_boxed_slice(),
            owners: Owners::new(count),
            positions: Positions::new(count),
            parked: BTreeMap::new(),
            awake: Vec::new(),
            is_fixed,
        }
    }

    /// The partition of a key.
    pub(crate) fn partition(&self, key: KeyHash) -> u16 {
        // The usual number is a constant, by which the processor need not divide.
        match self.partitions.len() {
            PARTITIONS => key.partition(),
            count => (key.0 % count as u64) as u16,
        }
    }

    pub(crate) fn at(&self, partition: u16) -> &Partition {
        &self.partitions[usize::from(partition)]
    }

    pub(crate) fn at_mut(&mut self, partition: u16) -> &mut Partition {
        &mut self.partitions[usize::from(partition)]
    }

    /// The member that may be sent the next of a partition now.
    pub(crate) fn receiver(&self, partition: u16) -> Option<u16> {
        let at = self.at(partition);
        (at.owner != NONE && at.moving == Move::No).then_some(at.owner)
    }

    /// Brings the owner's heap up to date after a partition's list, owner or move has changed.
    pub(crate) fn refresh(&mut self, links: &mut Links, partition: u16) {
        let at = &self.partitions[usize::from(partition)];
        if at.owner != NONE {
            let first = if at.moving == Move::No { at.waiting.first() } else { None };
            let owner = at.owner;
            links.at_mut(owner).ready.set(&mut self.positions, partition, first);
            if first.is_some() {
                self.wake(links, owner);
            }
        }
    }

    /// A member has more credit, or more that waits for it.
    pub(crate) fn wake(&mut self, links: &mut Links, link: u16) {
        let member = links.at_mut(link);
        if !member.is_awake {
            member.is_awake = true;
            self.awake.push(link);
        }
    }

    /// One entry goes to a link.
    pub(crate) fn hold(&mut self, partition: u16, link: u16) {
        let at = self.at_mut(partition);
        debug_assert!(at.held == 0 || at.holder == link, "a partition is on one link at a time");
        at.holder = link;
        at.held += 1;
    }

    /// One entry leaves its link. True: it was the last of its partition there.
    pub(crate) fn unhold(&mut self, partition: u16) -> bool {
        let at = self.at_mut(partition);
        at.held -= 1;
        if at.held == 0 {
            at.holder = NONE;
        }
        at.held == 0
    }

    /// Sets a partition's owner from the table, taking it out of the old one's heap.
    pub(crate) fn reassign(&mut self, links: &mut Links, partition: u16) {
        let owner = self.owners.owner(partition);
        let at = &mut self.partitions[usize::from(partition)];
        if at.owner != NONE {
            links.at_mut(at.owner).ready.set(&mut self.positions, partition, None);
        }
        at.owner = owner;
    }

    /// Puts an entry of a partition back before all that waits in it.
    pub(crate) fn requeue(&mut self, entries: &mut Entries, partition: u16, offset: u64) {
        self.partitions[usize::from(partition)].waiting.push_front(entries, offset);
    }
}
