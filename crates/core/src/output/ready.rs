//! Which partition of a member comes next: a binary heap by the offset of each partition's first waiting entry, in which
//! a partition's place is known, so that it can be moved or taken out in logarithmic time.

/// Where each partition of a group is in its owner's heap. One for the group: a partition has one owner.
#[derive(Debug)]
pub(crate) struct Positions(Box<[u16]>);

const ABSENT: u16 = u16::MAX;

impl Positions {
    pub(crate) fn new(count: usize) -> Self {
        Self(vec![ABSENT; count].into_boxed_slice())
    }
}

/// One member's partitions with something to dispatch.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    heap: Vec<(u64, u16)>,
}

impl Ready {
    /// Lowest offset, and its partition.
    pub(crate) fn first(&self) -> Option<(u64, u16)> {
        self.heap.first().copied()
    }

    /// Puts a partition in its place, or takes it out.
    pub(crate) fn set(&mut self, positions: &mut Positions, partition: u16, first: Option<u64>) {
        let at = positions.0[usize::from(partition)];
        match (at, first) {
            (ABSENT, None) => {}
            (ABSENT, Some(offset)) => {
                self.heap.push((offset, partition));
                self.up(positions, self.heap.len() - 1);
            }
            (at, Some(offset)) => {
                let at = usize::from(at);
                self.heap[at].0 = offset;
                self.up(positions, at);
                self.down(positions, usize::from(positions.0[usize::from(partition)]));
            }
            (at, None) => {
                let at = usize::from(at);
                self.heap.swap_remove(at);
                positions.0[usize::from(partition)] = ABSENT;
                if at < self.heap.len() {
                    let moved = self.heap[at].1;
                    self.up(positions, at);
                    self.down(positions, usize::from(positions.0[usize::from(moved)]));
                }
            }
        }
    }

    /// Partitions in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u16)> {
        self.heap.iter().copied()
    }

    fn up(&mut self, positions: &mut Positions, mut at: usize) {
        let item = self.heap[at];
        while at > 0 {
            let parent = (at - 1) / 2;
            if self.heap[parent] <= item {
                break;
            }
            self.put(positions, at, self.heap[parent]);
            at = parent;
        }
        self.put(positions, at, item);
    }

    fn down(&mut self, positions: &mut Positions, mut at: usize) {
        let item = self.heap[at];
        loop {
            let left = 2 * at + 1;
            let Some(&first) = self.heap.get(left) else { break };
            let (child, smaller) = match self.heap.get(left + 1) {
                Some(&second) if second < first => (left + 1, second),
                Some(_) | None => (left, first),
            };
            if item <= smaller {
                break;
            }
            self.put(positions, at, smaller);
            at = child;
        }
        self.put(positions, at, item);
    }

    fn put(&mut self, positions: &mut Positions, at: usize, item: (u64, u16)) {
        self.heap[at] = item;
        // At most as many items as partitions, so it fits.
        positions.0[usize::from(item.1)] = at as u16;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_first_is_always_the_lowest_whatever_is_set_and_taken_out() {
        let (mut ready, mut positions, mut model) = (Ready::default(), Positions::new(64), BTreeMap::new());
        let mut random = 1_u64;
        for _ in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let partition = (random >> 40) as u16 % 64;
            let first = (random >> 33).is_multiple_of(3).then_some((random >> 20) % 1_000);
            ready.set(&mut positions, partition, first);
            match first {
                Some(offset) => model.insert(partition, offset),
                None => model.remove(&partition),
            };
            assert_eq!(ready.first(), model.iter().map(|(&partition, &offset)| (offset, partition)).min());
            assert_eq!(ready.iter().count(), model.len());
        }
    }
}
