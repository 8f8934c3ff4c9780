//! Which member gets what: keyed entries by partition, keyless ones by demand.
//!
//! Among all that could be sent, a member's credit goes to the lowest offset. An entry is looked at once when the cursor
//! passes it; if it can't be sent then, it waits in its partition's list, and is next looked at when it is the first one
//! of a partition whose owner has credit. A backlog is never scanned.

use super::entries::{NONE, Place};
use super::group::{Group, Shared};
use crate::message::{Reason, Rejection};
use crate::time::Time;

impl Group {
    /// Assigns what can be assigned: afterwards each member is without credit, or nothing waits that it may have. True: it
    /// stopped before that, behind an entry that is too large.
    pub(crate) fn dispatch(&mut self, now: Time, shared: &mut Shared) -> bool {
        if self.undispatched == 0 || self.hungry == 0 {
            return false;
        }
        if self.custom.is_some() {
            return self.dispatch_custom(now, shared);
        }
        self.dispatch_keyless(now, shared) || self.dispatch_partitions(now, shared) || self.dispatch_fresh(now, shared)
    }

    /// The keyless entries that were given back, in order; each member's partitions that come before one go before it.
    fn dispatch_keyless(&mut self, now: Time, shared: &mut Shared) -> bool {
        while let Some(&offset) = self.keyless.first() {
            let Some(index) = self.neediest(shared) else { return false };
            let link = self.members[index];
            let refused = match shared.links.at(link).ready.first() {
                Some((first, partition)) if first < offset => {
                    self.unqueue(&mut shared.links, Some(partition), first);
                    self.place(now, shared, link, first, Some(partition))
                }
                Some(_) | None => {
                    self.keyless.remove(&offset);
                    self.turn = index + 1;
                    self.place(now, shared, link, offset, None)
                }
            };
            if refused {
                return true;
            }
        }
        false
    }

    /// The waiting entries of each member's partitions, lowest offset first.
    fn dispatch_partitions(&mut self, now: Time, shared: &mut Shared) -> bool {
        while let Some(&link) = self.keyed.as_ref().and_then(|keyed| keyed.awake.last()) {
            while shared.links.at(link).can_take() {
                let Some((first, partition)) = shared.links.at(link).ready.first() else { break };
                self.unqueue(&mut shared.links, Some(partition), first);
                if self.place(now, shared, link, first, Some(partition)) {
                    return true;
                }
            }
            shared.links.at_mut(link).is_awake = false;
            self.keyed.as_mut().and_then(|keyed| keyed.awake.pop());
        }
        false
    }

    /// Moves the cursor on while any member has credit.
    fn dispatch_fresh(&mut self, now: Time, shared: &mut Shared) -> bool {
        while self.hungry > 0 {
            let offset = self.cursor.max(self.entries.base());
            if offset >= self.entries.end() {
                return false;
            }
            self.cursor = offset + 1;
            if self.entries.at(offset).place != Place::Fresh {
                continue;
            }
            let partition = self.partition(&shared.log, offset);
            match self.receiver(shared, partition) {
                Some(link) => {
                    if self.place(now, shared, link, offset, partition) {
                        return true;
                    }
                }
                None => self.enqueue(shared, offset, partition),
            }
        }
        false
    }

    /// Who may be sent a fresh entry at once. A member with credit has nothing waiting in its partitions: that went before.
    fn receiver(&mut self, shared: &Shared, partition: Option<u16>) -> Option<u16> {
        match (&self.keyed, partition) {
            (Some(keyed), Some(partition)) => {
                let receiver = keyed.receiver(partition).filter(|&link| shared.links.at(link).can_take());
                debug_assert!(
                    receiver.is_none() || keyed.at(partition).waiting.first().is_none(),
                    "older ones go first"
                );
                receiver
            }
            (None, _) | (_, None) => self.neediest(shared).map(|index| {
                self.turn = index + 1;
                self.members[index]
            }),
        }
    }

    fn enqueue(&mut self, shared: &mut Shared, offset: u64, partition: Option<u16>) {
        self.entries.at_mut(offset).place = Place::Waiting;
        match (self.keyed.as_mut(), partition) {
            (Some(keyed), Some(partition)) => {
                let waiting = &mut keyed.at_mut(partition).waiting;
                let was_empty = waiting.first().is_none();
                waiting.push_back(&mut self.entries, offset);
                if was_empty {
                    keyed.refresh(&mut shared.links, partition);
                }
            }
            (None, _) | (_, None) => {
                self.keyless.insert(offset);
            }
        }
    }

    /// Index of the member with credit and the largest unused share of its window; ties go round.
    fn neediest(&mut self, shared: &Shared) -> Option<usize> {
        loop {
            let (index, most) = self.shares.most(self.turn)?;
            let share = shared.links.at(self.members[index]).share();
            if share == most {
                return Some(index);
            }
            self.shares.set(index, share);
        }
    }

    /// Assigns an entry that is in no list to a member with credit, or rejects it if it is too large for the group: then
    /// true, and whoever dispatches stops.
    pub(crate) fn place(
        &mut self,
        now: Time,
        shared: &mut Shared,
        link: u16,
        offset: u64,
        partition: Option<u16>,
    ) -> bool {
        let size = shared.log.size(offset);
        self.undispatched -= 1;
        let entry = self.entries.at_mut(offset);
        if entry.link != NONE {
            shared.links.leftover_done(entry.link);
        }
        if size > self.event_bytes_max {
            entry.link = NONE;
            let text = format!("event of {size} bytes; group {} takes at most {}", self.name, self.event_bytes_max);
            let rejection = Rejection::new(Reason::TooLarge, text);
            self.refuse(shared, offset, rejection);
            return true;
        }
        entry.place = Place::Assigned;
        entry.link = link;
        self.dispatched += 1;
        self.dispatched_bytes += size;
        self.redispatched += u64::from(entry.again > 0);
        self.last_dispatch = Some(now);
        if let (Some(keyed), Some(partition)) = (self.keyed.as_mut(), partition) {
            keyed.hold(partition, link);
        }
        let to = shared.links.at_mut(link);
        to.allowance.take(size);
        to.assigned.push_back(offset);
        let unused = to.unused();
        self.unused = self.unused + unused - to.counted;
        to.counted = unused;
        if unused == 0 {
            self.hungry -= 1;
            self.shares.set(usize::from(to.member), 0);
        }
        shared.links.flag(link);
        false
    }
}
