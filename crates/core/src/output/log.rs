//! The log: slots in order of arrival, each freed when nobody needs it any more.
//!
//! ```text
//!   base (low watermark)                              end
//!    v                                                 v
//!    [held][freed][held][held][freed][freed][held][held]
//! ```
//!
//! An entry is *unsettled* until all groups that take part in settlement have settled it; then its settlement is reported. It is *held* (and
//! counts as part of the capacity) until all others have settled it too; then it is freed. What is left of a freed
//! entry is a slot of four bytes, until the low watermark passes it: so a span of many times the capacity costs little.

use std::collections::VecDeque;

use slab::Slab;

use super::api::{KeyShare, Offset, PARTITIONS, Refused, Settlement};
use crate::event::{Event, KeyHash};
use crate::inputs::InputId;
use crate::message::{Outcome, Rejection};
use crate::time::Time;

/// Slot of a freed entry.
const FREED: u32 = u32::MAX;

/// One held entry.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) event: Event,
    input: InputId,
    pushed: Time,
    /// Bytes pushed before it since the log was made.
    position: u64,
    /// What speaks against it, if anything does.
    faults: Option<Box<Faults>>,
    /// Groups that take part in settlement and have not settled it; 1 while it waits for the first one.
    unsettled: u32,
    /// Groups that have not settled it. Freed at 0.
    holders: u32,
    /// Whether a group's member was ever sent it: it can't be withdrawn any more.
    pub(crate) sent: bool,
}

/// What speaks against an entry.
#[derive(Debug, Default)]
struct Faults {
    /// The worst rejection so far.
    worst: Option<Box<Rejection>>,
    /// It is too large for some group: why.
    refused: Option<Box<Rejection>>,
}

/// A bounded log. The bound is the caller's to keep.
#[derive(Debug)]
pub(crate) struct Log {
    /// Key of each held entry, or [`FREED`]. The first is held.
    slots: VecDeque<u32>,
    held: Slab<Held>,
    /// Offset of the first slot.
    base: u64,
    bytes: u64,
    /// Bytes pushed since the log was made.
    pushed_bytes: u64,
    /// Slots that some required group has not settled.
    unsettled: u64,
    /// Held events and bytes of each partition.
    partitions: Box<[KeyShare]>,
    /// Before it every entry is on a link, or freed.
    pub(crate) discard_from: u64,
    /// Events that took no offset.
    discarded: u64,
    settlements: VecDeque<Settlement>,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self {
            slots: VecDeque::new(),
            held: Slab::new(),
            base: 0,
            bytes: 0,
            pushed_bytes: 0,
            unsettled: 0,
            partitions: vec![KeyShare::default(); PARTITIONS].into_boxed_slice(),
            discard_from: 0,
            discarded: 0,
            settlements: VecDeque::new(),
        }
    }

    /// Appends an event that `gating` groups must settle, and `others` hold. What nobody must settle is settled.
    pub(crate) fn push(&mut self, now: Time, input: InputId, event: Event, gating: u32, others: u32) -> u64 {
        let offset = self.end();
        if gating == 0 {
            self.push_settled(input, offset, others > 0);
            if others == 0 {
                return offset;
            }
        }
        let size = event.size();
        self.bytes += size;
        self.unsettled += u64::from(gating > 0);
        if let Some(key) = event.key {
            let share = &mut self.partitions[usize::from(key.partition())];
            share.events += 1;
            share.bytes += size;
        }
        let key = self.held.insert(Held {
            event,
            input,
            pushed: now,
            position: self.pushed_bytes,
            faults: None,
            unsettled: gating,
            holders: gating + others,
            sent: false,
        });
        self.slots.push_back(key as u32);
        self.pushed_bytes += size;
        offset
    }

    #[cold]
    fn push_settled(&mut self, input: InputId, offset: u64, is_held: bool) {
        let (outcome, refused, pushed) = (Outcome::Accepted, None, None);
        self.settlements.push_back(Settlement { input, outcome, offset: Offset(offset), pushed, refused });
        if !is_held {
            self.slots.push_back(FREED);
            self.move_base();
        }
    }

    /// Settles an event that takes no offset of the log. What is returned is no place in it.
    pub(crate) fn discard(&mut self, input: InputId) -> Offset {
        let offset = Offset(1 << 63 | self.discarded);
        self.discarded += 1;
        let (outcome, refused, pushed) = (Outcome::Accepted, None, None);
        self.settlements.push_back(Settlement { input, outcome, offset, pushed, refused });
        offset
    }

    /// One required group can't be sent an entry; the first one's reason counts.
    pub(crate) fn refuse(&mut self, offset: u64, rejection: Rejection) {
        if let Some(held) = self.find_mut(offset) {
            held.faults.get_or_insert_default().refused.get_or_insert_with(|| Box::new(rejection));
        }
        self.settle(offset, Outcome::Accepted);
    }

    /// One required group has settled an entry, and needs it no more.
    pub(crate) fn settle(&mut self, offset: u64, outcome: Outcome) {
        let Some(key) = self.key(offset) else { return };
        let held = &mut self.held[key];
        if let Outcome::Rejected(rejection) = outcome {
            let worst = &mut held.faults.get_or_insert_default().worst;
            if worst.as_ref().is_none_or(|first| first.stored && !rejection.stored) {
                *worst = Some(rejection);
            }
        }
        held.unsettled -= 1;
        if held.unsettled == 0 {
            let Faults { worst, refused } = held.faults.take().map_or_else(Faults::default, |faults| *faults);
            let outcome = worst.map_or(Outcome::Accepted, Outcome::Rejected);
            let event = &held.event;
            let refused = refused.map(|rejection| Box::new(Refused { event: event.clone(), rejection: *rejection }));
            let (input, pushed) = (held.input, Some(held.pushed));
            self.unsettled -= 1;
            self.settlements.push_back(Settlement { input, outcome, offset: Offset(offset), pushed, refused });
        }
        self.drop_holder(offset, key);
    }

    /// One group does not need an entry any more.
    pub(crate) fn let_go(&mut self, offset: u64) {
        if let Some(key) = self.key(offset) {
            self.drop_holder(offset, key);
        }
    }

    fn drop_holder(&mut self, offset: u64, key: usize) {
        let held = &mut self.held[key];
        held.holders -= 1;
        if held.holders == 0 {
            self.free(offset);
        } else {
            self.left_link(offset);
        }
    }

    /// An entry may be on no link any more.
    pub(crate) fn left_link(&mut self, offset: u64) {
        self.discard_from = self.discard_from.min(offset);
    }

    /// Whether an entry is held, no required group has settled it for good, and nobody was sent it.
    pub(crate) fn can_withdraw(&self, offset: u64) -> bool {
        self.find(offset).is_some_and(|held| held.unsettled > 0 && !held.sent)
    }

    /// Frees an entry that the caller has taken out of all groups, without a settlement.
    pub(crate) fn withdraw(&mut self, offset: u64) {
        self.unsettled -= 1;
        self.free(offset);
    }

    fn free(&mut self, offset: u64) {
        let slot = &mut self.slots[(offset - self.base) as usize];
        let event = self.held.remove(std::mem::replace(slot, FREED) as usize).event;
        self.bytes -= event.size();
        if let Some(key) = event.key {
            let share = &mut self.partitions[usize::from(key.partition())];
            share.events -= 1;
            share.bytes -= event.size();
        }
        self.move_base();
    }

    fn move_base(&mut self) {
        while self.slots.front() == Some(&FREED) {
            self.slots.pop_front();
            self.base += 1;
        }
    }

    /// Whether the next settlement is of an entry that the log rejects.
    pub(crate) fn refuses_next(&self) -> bool {
        self.settlements.front().is_some_and(|settlement| settlement.refused.is_some())
    }

    pub(crate) fn poll_settled(&mut self) -> Option<Settlement> {
        self.settlements.pop_front()
    }

    /// Key of a held entry.
    fn key(&self, offset: u64) -> Option<usize> {
        let index = usize::try_from(offset.checked_sub(self.base)?).ok()?;
        self.slots.get(index).filter(|&&key| key != FREED).map(|&key| key as usize)
    }

    /// A held entry.
    pub(crate) fn find(&self, offset: u64) -> Option<&Held> {
        self.key(offset).map(|key| &self.held[key])
    }

    /// The same, to change.
    pub(crate) fn find_mut(&mut self, offset: u64) -> Option<&mut Held> {
        self.key(offset).map(|key| &mut self.held[key])
    }

    /// The event of an entry that some group has not settled.
    pub(crate) fn event(&self, offset: u64) -> Option<&Event> {
        self.find(offset).map(|held| &held.event)
    }

    /// Size in bytes of a held entry.
    pub(crate) fn size(&self, offset: u64) -> u64 {
        self.event(offset).map_or(0, Event::size)
    }

    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    pub(crate) fn end(&self) -> u64 {
        self.base + self.slots.len() as u64
    }

    /// Held events and bytes.
    pub(crate) fn held(&self) -> (u64, u64) {
        (self.held.len() as u64, self.bytes)
    }

    /// Bytes pushed since a held entry, itself included.
    pub(crate) fn bytes_since(&self, offset: u64) -> u64 {
        self.find(offset).map_or(0, |held| self.pushed_bytes - held.position)
    }

    /// Entries that some required group has not settled.
    pub(crate) fn unsettled(&self) -> u64 {
        self.unsettled
    }

    pub(crate) fn key_share(&self, key: KeyHash) -> KeyShare {
        self.partitions[usize::from(key.partition())]
    }

    pub(crate) fn largest_share(&self) -> KeyShare {
        self.partitions.iter().max_by_key(|share| share.events).copied().unwrap_or_default()
    }

    /// When the oldest held entry was pushed.
    pub(crate) fn oldest(&self) -> Option<Time> {
        self.find(self.base).map(|held| held.pushed)
    }

    /// Each held entry with its offset, holders and unsettled groups: for checks.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Held, u32, u32)> {
        let held = (self.base..self.end()).filter_map(|offset| Some((offset, self.find(offset)?)));
        held.map(|(offset, held)| (offset, held, held.holders, held.unsettled))
    }
}

#[cfg(test)]
mod tests {
    use super::Held;
    use crate::event::EVENT_OVERHEAD_BYTES;
    use crate::output::entries::Entry;

    #[test]
    fn the_stated_overhead_of_an_offset_covers_slot_and_groups_and_a_sixteenth_of_an_entry() {
        // Rings and slabs grow by doubling, so up to half of one is unused.
        let bytes = 2 * (size_of::<u32>() + 4 * size_of::<Entry>()) + 2 * size_of::<Held>() / 16;
        assert!(bytes as u64 <= EVENT_OVERHEAD_BYTES, "{bytes}");
    }
}
