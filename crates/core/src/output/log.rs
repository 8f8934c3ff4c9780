//! The log: slots in order of arrival, each freed when nobody needs it any more.
//!
//! ```text
//!   base (low watermark)                              end
//!    v                                                 v
//!    [held][freed][held][held][freed][freed][held][held]
//! ```
//!
//! A slot is *unsettled* until all required groups have settled it; then its settlement is reported. It is *held* (and
//! counts as part of the capacity) until attached groups have settled it too; then its event is freed. A freed slot
//! waits for the low watermark to pass it.

use std::collections::VecDeque;

use super::api::{KeyShare, Offset, PARTITIONS, Settlement};
use crate::event::{Event, KeyHash};
use crate::inputs::InputId;
use crate::message::{Outcome, Rejection};
use crate::time::Time;

/// Partition of a key, the same in every group and process.
pub(crate) fn partition_of(key: KeyHash) -> u16 {
    (key.0 % PARTITIONS as u64) as u16
}

/// One place in the log.
#[derive(Debug)]
pub(crate) struct Slot {
    /// None once freed.
    pub(crate) event: Option<Event>,
    input: InputId,
    pushed: Time,
    /// Bytes pushed before it since the log was made.
    position: u64,
    /// The worst rejection so far.
    rejection: Option<Box<Rejection>>,
    /// Required groups that have not settled it.
    unsettled: u32,
    /// Groups that have not settled it. Freed at 0.
    holders: u32,
    /// Whether a group's member was ever sent it: it can't be withdrawn any more.
    pub(crate) sent: bool,
}

/// A bounded log. The bound is the caller's to keep.
#[derive(Debug)]
pub(crate) struct Log {
    slots: VecDeque<Slot>,
    /// Offset of the first slot; it is held, unless the log is empty.
    base: u64,
    events: u64,
    bytes: u64,
    /// Bytes pushed since the log was made.
    pushed_bytes: u64,
    /// Slots that some required group has not settled.
    unsettled: u64,
    /// Held events and bytes of each partition.
    partitions: Box<[KeyShare]>,
    settlements: VecDeque<Settlement>,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self {
            slots: VecDeque::new(),
            base: 0,
            events: 0,
            bytes: 0,
            pushed_bytes: 0,
            unsettled: 0,
            partitions: vec![KeyShare::default(); PARTITIONS].into_boxed_slice(),
            settlements: VecDeque::new(),
        }
    }

    /// Appends an event that `required` groups must settle, and `attached` ones hold.
    pub(crate) fn push(&mut self, now: Time, input: InputId, event: Event, required: u32, attached: u32) -> u64 {
        let offset = self.end();
        let size = event.size();
        self.events += 1;
        self.bytes += size;
        self.unsettled += 1;
        if let Some(key) = event.key {
            let share = &mut self.partitions[usize::from(partition_of(key))];
            share.events += 1;
            share.bytes += size;
        }
        self.slots.push_back(Slot {
            event: Some(event),
            input,
            pushed: now,
            position: self.pushed_bytes,
            rejection: None,
            unsettled: required,
            holders: required + attached,
            sent: false,
        });
        self.pushed_bytes += size;
        offset
    }

    /// One required group has settled an entry.
    pub(crate) fn settle(&mut self, offset: u64, outcome: Outcome) {
        let slot = self.slot_mut(offset);
        if let Outcome::Rejected(rejection) = outcome {
            let worst = match slot.rejection.take() {
                None => rejection,
                Some(first) if first.stored && !rejection.stored => rejection,
                Some(first) => first,
            };
            slot.rejection = Some(worst);
        }
        slot.unsettled -= 1;
        if slot.unsettled == 0 {
            let outcome = slot.rejection.take().map_or(Outcome::Accepted, Outcome::Rejected);
            let input = slot.input;
            self.unsettled -= 1;
            self.settlements.push_back(Settlement { input, outcome, offset: Offset(offset) });
        }
        self.let_go(offset);
    }

    /// One group does not need an entry any more.
    pub(crate) fn let_go(&mut self, offset: u64) {
        let slot = self.slot_mut(offset);
        slot.holders -= 1;
        if slot.holders == 0 {
            self.free(offset);
        }
    }

    /// Whether an entry is held, no required group has settled it for good, and nobody was sent it.
    pub(crate) fn can_withdraw(&self, offset: u64) -> bool {
        let index = offset.checked_sub(self.base).and_then(|index| usize::try_from(index).ok());
        index.and_then(|index| self.slots.get(index)).is_some_and(|slot| slot.unsettled > 0 && !slot.sent)
    }

    /// Frees an entry that the caller has taken out of all groups, without a settlement.
    pub(crate) fn withdraw(&mut self, offset: u64) {
        self.slot_mut(offset).unsettled = 0;
        self.slot_mut(offset).holders = 0;
        self.unsettled -= 1;
        self.free(offset);
    }

    fn free(&mut self, offset: u64) {
        if let Some(event) = self.slot_mut(offset).event.take() {
            let size = event.size();
            self.events -= 1;
            self.bytes -= size;
            if let Some(key) = event.key {
                let share = &mut self.partitions[usize::from(partition_of(key))];
                share.events -= 1;
                share.bytes -= size;
            }
        }
        while self.slots.front().is_some_and(|slot| slot.event.is_none()) {
            self.slots.pop_front();
            self.base += 1;
        }
    }

    pub(crate) fn poll_settled(&mut self) -> Option<Settlement> {
        self.settlements.pop_front()
    }

    /// The event of an entry that some group has not settled.
    pub(crate) fn event(&self, offset: u64) -> Option<&Event> {
        let index = usize::try_from(offset.checked_sub(self.base)?).ok()?;
        self.slots.get(index).and_then(|slot| slot.event.as_ref())
    }

    /// Size in bytes of a held entry.
    pub(crate) fn size(&self, offset: u64) -> u64 {
        self.event(offset).map_or(0, Event::size)
    }

    /// Partition of a held entry with a key.
    pub(crate) fn partition(&self, offset: u64) -> Option<u16> {
        self.event(offset).and_then(|event| event.key).map(partition_of)
    }

    /// A slot between the low watermark and the end.
    pub(crate) fn slot_mut(&mut self, offset: u64) -> &mut Slot {
        &mut self.slots[(offset - self.base) as usize]
    }

    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    pub(crate) fn end(&self) -> u64 {
        self.base + self.slots.len() as u64
    }

    /// Held events and bytes.
    pub(crate) fn held(&self) -> (u64, u64) {
        (self.events, self.bytes)
    }

    /// Bytes pushed since a held entry, itself included.
    pub(crate) fn bytes_since(&self, offset: u64) -> u64 {
        self.slots.get((offset - self.base) as usize).map_or(0, |slot| self.pushed_bytes - slot.position)
    }

    /// Entries that some required group has not settled.
    pub(crate) fn unsettled(&self) -> u64 {
        self.unsettled
    }

    pub(crate) fn key_share(&self, key: KeyHash) -> KeyShare {
        self.partitions[usize::from(partition_of(key))]
    }

    /// When the oldest held entry was pushed.
    pub(crate) fn oldest(&self) -> Option<Time> {
        self.slots.front().map(|slot| slot.pushed)
    }

    /// Each slot with its offset, holders and unsettled groups: for checks.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Slot, u32, u32)> {
        (self.base..).zip(&self.slots).map(|(offset, slot)| (offset, slot, slot.holders, slot.unsettled))
    }
}

#[cfg(test)]
mod tests {
    use super::Slot;
    use crate::event::EVENT_OVERHEAD_BYTES;
    use crate::output::entries::Entry;

    #[test]
    fn the_stated_overhead_covers_a_slot_and_its_place_in_four_groups() {
        let bytes = size_of::<Slot>() + 4 * size_of::<Entry>();
        assert!(bytes as u64 <= EVENT_OVERHEAD_BYTES, "{bytes}");
    }
}
