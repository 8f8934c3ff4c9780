//! A group's view of the log: where each entry is, and lists of entries that wait, threaded through the same ring.
//!
//! ```text
//!  Fresh ----> Waiting <----------------- Parked
//!    |            |  ^                       ^
//!    |            v  | not sent, taken back  | released while its partition moves
//!    +-------> Assigned -----> Sent ---------+
//!    |            |             |  +--> Waiting (released)
//!    v            v             v
//!  Withdrawn   Withdrawn     Settled      (Fresh and Waiting may be settled too: too large for the group)
//! ```
//!
//! An entry's successor and predecessor in its list are distances in offsets, so that an entry takes 12 bytes.

use std::collections::VecDeque;

/// Neither a link nor a ghost of one.
pub(crate) const NONE: u16 = u16::MAX;

/// Where an entry is in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// At or after the cursor.
    Fresh,
    /// In its partition's list, or among the keyless.
    Waiting,
    /// Released, and waiting for the rest of its partition to leave the old owner.
    Parked,
    /// On a link, not handed out.
    Assigned,
    /// On a link, handed out, unsettled.
    Sent,
    Settled,
    Withdrawn,
}

/// One entry, as one group sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// Distance to the next in its list; 0: it is the last, or in none.
    next: u32,
    /// Distance to the one before.
    prev: u32,
    /// Assigned, Sent: the link. Waiting, Parked: the ghost of the dead link that left it, or [`NONE`].
    pub(crate) link: u16,
    /// How often it was sent and released; stops at 255.
    pub(crate) again: u8,
    pub(crate) place: Place,
}

/// The ring of a group's entries: from its oldest unsettled one to the log's end.
#[derive(Debug)]
pub(crate) struct Entries {
    /// Offset of the first; it is neither settled nor withdrawn.
    base: u64,
    ring: VecDeque<Entry>,
}

impl Entries {
    pub(crate) fn new(base: u64) -> Self {
        Self { base, ring: VecDeque::new() }
    }

    pub(crate) fn push(&mut self) {
        self.ring.push_back(Entry { next: 0, prev: 0, link: NONE, again: 0, place: Place::Fresh });
    }

    /// Appends an entry that the group does not get.
    pub(crate) fn skip(&mut self) {
        self.push();
        self.finish(self.end() - 1, Place::Settled);
    }

    /// Forgets all, to begin at another offset.
    pub(crate) fn restart(&mut self, base: u64) {
        self.ring.clear();
        self.base = base;
    }

    /// Offset of the oldest unsettled entry; the log's end when there is none.
    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    pub(crate) fn end(&self) -> u64 {
        self.base + self.ring.len() as u64
    }

    pub(crate) fn at(&self, offset: u64) -> &Entry {
        &self.ring[(offset - self.base) as usize]
    }

    pub(crate) fn at_mut(&mut self, offset: u64) -> &mut Entry {
        &mut self.ring[(offset - self.base) as usize]
    }

    /// An entry that may have been settled long ago.
    pub(crate) fn find(&self, offset: u64) -> Option<&Entry> {
        self.ring.get(usize::try_from(offset.checked_sub(self.base)?).ok()?)
    }

    /// Marks an entry that is in no list as done, and forgets the done ones at the front.
    pub(crate) fn finish(&mut self, offset: u64, place: Place) {
        self.at_mut(offset).place = place;
        while self.ring.front().is_some_and(|entry| matches!(entry.place, Place::Settled | Place::Withdrawn)) {
            self.ring.pop_front();
            self.base += 1;
        }
    }

    /// Each entry with its offset.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Entry)> {
        (self.base..).zip(&self.ring)
    }
}

/// Entries in ascending order of their offsets.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct List {
    /// First and last.
    ends: Option<(u64, u64)>,
}

impl List {
    pub(crate) fn first(&self) -> Option<u64> {
        self.ends.map(|(first, _)| first)
    }

    pub(crate) fn push_back(&mut self, entries: &mut Entries, offset: u64) {
        self.ends = Some(match self.ends {
            None => (offset, offset),
            Some((first, last)) => {
                join(entries, last, offset);
                (first, offset)
            }
        });
    }

    pub(crate) fn push_front(&mut self, entries: &mut Entries, offset: u64) {
        self.ends = Some(match self.ends {
            None => (offset, offset),
            Some((first, last)) => {
                join(entries, offset, first);
                (offset, last)
            }
        });
    }

    pub(crate) fn remove(&mut self, entries: &mut Entries, offset: u64) {
        let Entry { next, prev, .. } = *entries.at(offset);
        let entry = entries.at_mut(offset);
        entry.next = 0;
        entry.prev = 0;
        let (after, before) = (offset + u64::from(next), offset - u64::from(prev));
        self.ends = match (self.ends, prev, next) {
            (None, _, _) | (Some(_), 0, 0) => None,
            (Some((_, last)), 0, _) => {
                entries.at_mut(after).prev = 0;
                Some((after, last))
            }
            (Some((first, _)), _, 0) => {
                entries.at_mut(before).next = 0;
                Some((first, before))
            }
            (ends, _, _) => {
                join(entries, before, after);
                ends
            }
        };
    }

    /// All of them, first to last.
    pub(crate) fn iter<'a>(&self, entries: &'a Entries) -> impl Iterator<Item = u64> + 'a + use<'a> {
        std::iter::successors(self.first(), |&offset| {
            let next = entries.at(offset).next;
            (next > 0).then(|| offset + u64::from(next))
        })
    }
}

fn join(entries: &mut Entries, before: u64, after: u64) {
    debug_assert!(before < after, "a list ascends");
    let distance = (after - before) as u32;
    entries.at_mut(before).next = distance;
    entries.at_mut(after).prev = distance;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_keeps_its_order_when_any_of_it_is_removed() {
        for removed in 0..4 {
            let mut entries = Entries::new(100);
            for _ in 0..10 {
                entries.push();
            }
            let mut list = List::default();
            for offset in [103, 105, 108] {
                list.push_back(&mut entries, offset);
            }
            list.push_front(&mut entries, 101);
            let mut expected = vec![101, 103, 105, 108];
            assert_eq!(list.iter(&entries).collect::<Vec<_>>(), expected);
            list.remove(&mut entries, expected.remove(removed));
            assert_eq!(list.iter(&entries).collect::<Vec<_>>(), expected);
            for offset in expected {
                assert_eq!(list.first(), Some(offset));
                list.remove(&mut entries, offset);
            }
            assert_eq!(list.first(), None);
        }
    }

    #[test]
    fn an_entry_takes_twelve_bytes() {
        assert_eq!(size_of::<Entry>(), 12);
    }
}
