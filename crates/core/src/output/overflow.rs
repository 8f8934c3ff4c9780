//! What becomes of an event that the log has no room for: GenStage's `buffer_keep`.

use super::Output;
use super::api::{Offset, Overflow};
use super::entries::Place;
use crate::inputs::InputId;
use crate::message::Outcome;

impl Output {
    /// How many events were discarded since the last call, if any: for whoever wants to be told.
    pub fn poll_discarded(&mut self) -> Option<u64> {
        let discarded = std::mem::take(&mut self.discarded);
        (discarded > 0).then_some(discarded)
    }

    /// Makes room for one event. False: there is none, and the new event is the one to be discarded.
    pub(super) fn make_room(&mut self) -> bool {
        let has_room = |output: &Self| {
            let fill = output.fill();
            fill.events < fill.capacity_events && fill.bytes < fill.capacity_bytes
        };
        match self.config.overflow {
            Overflow::PushBack => return true,
            Overflow::KeepFirst => {}
            Overflow::KeepLast => while !has_room(self) && self.discard_oldest() {},
        }
        has_room(self) && self.fill().span_used < self.config.span
    }

    /// A new event has no place: it takes no offset of the log, and is settled.
    pub(super) fn discard_new(&mut self, input: InputId) -> Offset {
        self.discarded += 1;
        self.shared.log.discard(input)
    }

    /// Discards the oldest entry that is on no link. Entries that are on one are looked at once, until that changes.
    fn discard_oldest(&mut self) -> bool {
        let Some(offset) = self.oldest_on_no_link() else { return false };
        for (_, group) in &mut self.groups {
            if group.take_out(&mut self.shared.links, &self.shared.log, offset) {
                group.finish(&mut self.shared, offset, Outcome::Accepted);
            }
        }
        // What is left of it waited for the first group.
        self.shared.log.settle(offset, Outcome::Accepted);
        self.discarded += 1;
        true
    }

    fn oldest_on_no_link(&mut self) -> Option<u64> {
        let groups = &self.groups;
        let is_on_link = |offset| {
            let places = groups.iter().filter_map(|(_, group)| group.entries.find(offset));
            places.into_iter().any(|entry| matches!(entry.place, Place::Assigned | Place::Sent))
        };
        let log = &self.shared.log;
        let mut offsets = log.base().max(self.shared.log.discard_from)..log.end();
        let found = offsets.find(|&offset| log.find(offset).is_some() && !is_on_link(offset));
        self.shared.log.discard_from = offsets.start;
        found
    }
}
