//! How far a partition may be committed: up to the first record that is not settled.
//!
//! Offsets have gaps: compaction removes records, and control records are never shown. A gap belongs to what follows it, so
//! the committed offset is the first unsettled record's, or the one after the last that was read.

use std::collections::VecDeque;

/// A batch of records, in the order of the partition.
#[derive(Debug)]
struct Span {
    /// Its first record's offset.
    first: i64,
    settled: bool,
}

/// The offsets of one partition, from its assignment to its revocation.
#[derive(Debug, Default)]
pub(crate) struct Offsets {
    /// One above the last that was read, or where reading begins.
    next: Option<i64>,
    /// From the first that is not settled on.
    spans: VecDeque<Span>,
    /// How many were settled before these: the number of the first one.
    before: u64,
    /// What the group has for sure.
    committed: Option<i64>,
}

impl Offsets {
    /// Reading begins at `first`, which the group does not have yet; none: where the group is, or at the oldest record.
    pub(crate) fn new(first: Option<i64>) -> Self {
        Self { next: first, ..Self::default() }
    }

    /// Whether this record is new. One that was read before is not: a client that fetches again may bring it again.
    pub(crate) fn read(&mut self, offset: i64) -> bool {
        match self.next {
            Some(next) if offset < next => return false,
            Some(_) => {}
            // Here the group is, or it has nothing and would begin here again.
            None => self.committed = Some(offset),
        }
        self.next = Some(offset + 1);
        true
    }

    /// A batch that begins with the record at `first` leaves; its number.
    pub(crate) fn leave(&mut self, first: i64) -> u64 {
        self.spans.push_back(Span { first, settled: false });
        self.before + self.spans.len() as u64 - 1
    }

    /// All of a batch is settled.
    pub(crate) fn settle(&mut self, number: u64) {
        let index = number.checked_sub(self.before).and_then(|index| usize::try_from(index).ok());
        if let Some(span) = index.and_then(|index| self.spans.get_mut(index)) {
            span.settled = true;
        }
        while self.spans.front().is_some_and(|span| span.settled) {
            self.spans.pop_front();
            self.before += 1;
        }
    }

    /// Batches from the first unsettled one on.
    pub(crate) fn spans(&self) -> usize {
        self.spans.len()
    }

    /// What to commit, where the group does not have it; `held` is the first record that was read and has not left.
    pub(crate) fn due(&self, held: Option<i64>) -> Option<i64> {
        let first = self.spans.front().map(|span| span.first);
        first.or(held).or(self.next).filter(|offset| self.committed.is_none_or(|committed| *offset > committed))
    }

    /// The group has it.
    pub(crate) fn committed(&mut self, offset: i64) {
        self.committed = self.committed.max(Some(offset));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_follows_an_unsettled_batch_waits_for_it() {
        let mut offsets = Offsets::default();
        assert_eq!(offsets.due(None), None);
        assert!(offsets.read(5) && offsets.read(6) && !offsets.read(6) && offsets.read(9));
        let (first, second) = (offsets.leave(5), offsets.leave(9));
        offsets.settle(second);
        assert_eq!(offsets.due(None), None, "the group is there");
        offsets.settle(first);
        offsets.settle(first);
        assert_eq!((offsets.due(None), offsets.spans()), (Some(10), 0));
    }

    #[test]
    fn a_gap_belongs_to_what_follows_it() {
        let mut offsets = Offsets::default();
        assert!(offsets.read(0) && offsets.read(7));
        let batch = offsets.leave(0);
        offsets.settle(batch);
        assert_eq!(offsets.due(Some(7)), Some(7));
        offsets.committed(7);
        offsets.leave(7);
        assert_eq!(offsets.due(None), None);
    }

    #[test]
    fn a_start_that_was_looked_up_is_committed_before_anything_is_read() {
        let mut offsets = Offsets::new(Some(40));
        assert_eq!(offsets.due(None), Some(40));
        assert!(!offsets.read(39) && offsets.read(41));
    }

    /// What a history does next.
    #[derive(Debug, Clone)]
    enum Act {
        Read { gap: i64 },
        Leave { count: usize },
        Settle { pick: usize },
        Commit,
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let act = prop_oneof![
            3 => (0_i64..4).prop_map(|gap| Act::Read { gap }),
            2 => (1_usize..5).prop_map(|count| Act::Leave { count }),
            3 => any::<usize>().prop_map(|pick| Act::Settle { pick }),
            1 => Just(Act::Commit),
        ];
        proptest::collection::vec(act, 0..200)
    }

    proptest! {
        /// The model keeps every offset, and looks for the first that is not settled.
        #[test]
        fn the_window_commits_what_a_naive_model_would(acts in acts()) {
            let mut offsets = Offsets::default();
            let mut settled: BTreeMap<i64, bool> = BTreeMap::new();
            let (mut held, mut batches): (Vec<i64>, Vec<(u64, Vec<i64>)>) = (Vec::new(), Vec::new());
            let (mut last, mut committed) = (-1, None);
            for act in acts {
                match act {
                    Act::Read { gap } => {
                        last += 1 + gap;
                        prop_assert!(offsets.read(last) && !offsets.read(last));
                        held.push(last);
                        committed = committed.or(Some(last));
                        settled.insert(last, false);
                    }
                    Act::Leave { count } if !held.is_empty() => {
                        let batch: Vec<i64> = held.drain(..count.min(held.len())).collect();
                        batches.push((offsets.leave(batch[0]), batch));
                    }
                    Act::Settle { pick } if !batches.is_empty() => {
                        let (number, batch) = batches.swap_remove(pick % batches.len());
                        offsets.settle(number);
                        batch.iter().for_each(|offset| { settled.insert(*offset, true); });
                    }
                    Act::Commit => {
                        if let Some(offset) = offsets.due(held.first().copied()) {
                            offsets.committed(offset);
                            committed = Some(offset);
                        }
                    }
                    Act::Leave { .. } | Act::Settle { .. } => {}
                }
                let open = settled.iter().find(|(_, settled)| !**settled).map(|(offset, _)| *offset);
                let naive = open.or((last >= 0).then_some(last + 1)).filter(|offset| committed.is_none_or(|c| *offset > c));
                prop_assert_eq!(offsets.due(held.first().copied()), naive);
            }
        }
    }
}
