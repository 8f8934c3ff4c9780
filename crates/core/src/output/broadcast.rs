//! Broadcast: each attached group takes part in settlement for as long as it has members.
//!
//! The slowest group decides what is asked of the stage, and in the end fills the log; the others are ahead of it by no more than
//! the log holds. While there is no group at all, events wait for the first one. A group that leaves counts as having accepted
//! what it had not settled; but if it was the last one, what nobody was ever sent waits for the next.

use super::Output;
use super::entries::Place;
use super::group::{Group, Shared};
use crate::message::{GroupKind, Outcome};

impl Output {
    /// Whether anybody's settlement is waited for.
    pub(super) fn is_gated(&self) -> bool {
        self.groups.iter().any(|(_, group)| group.gates && !group.has_left)
    }

    /// Gives the first group what has waited for it.
    pub(super) fn take_over(&mut self, group: usize) {
        let Shared { log, .. } = &self.shared;
        let (base, end) = (log.base(), log.end());
        let waits: Vec<bool> = (base..end).map(|offset| log.can_withdraw(offset)).collect();
        self.groups[group].start_at(base, &waits);
    }

    /// The last open member of a broadcast's group is gone: the group leaves, but for what a draining member still settles.
    pub(super) fn leave_broadcast(&mut self, key: usize) {
        let group = &mut self.groups[key];
        if group.kind != GroupKind::Attached || !group.gates || group.has_left || !group.members.is_empty() {
            return;
        }
        group.has_left = true;
        let is_last = !self.is_gated();
        let group = &mut self.groups[key];
        for offset in group.entries.base()..group.entries.end() {
            let was_sent = self.shared.log.find(offset).is_some_and(|held| held.sent);
            if !group.take_out(&mut self.shared.links, &self.shared.log, offset) {
                continue;
            }
            if is_last && !was_sent {
                group.entries.finish(offset, Place::Settled);
            } else {
                group.finish(&mut self.shared, offset, Outcome::Accepted);
            }
        }
    }
}

impl Group {
    fn start_at(&mut self, base: u64, waits: &[bool]) {
        self.entries.restart(base);
        (self.cursor, self.passed) = (base, base);
        for &waits in waits {
            self.push(waits);
        }
    }
}
