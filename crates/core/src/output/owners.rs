//! Who owns each partition: rendezvous hashing over the members' names (highest random weight, Thaler and Ravishankar).
//!
//! Two producers that see the same names come to the same owners; a member that joins or leaves moves only the
//! partitions that it gains or had.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::entries::NONE;

/// Owner of each partition, kept until members change.
#[derive(Debug)]
pub(crate) struct Owners {
    /// Weight and link of the owner; [`NONE`] without members.
    best: Box<[(u64, u16)]>,
}

impl Owners {
    pub(crate) fn new(count: usize) -> Self {
        Self { best: vec![(0, NONE); count].into_boxed_slice() }
    }

    pub(crate) fn owner(&self, partition: u16) -> u16 {
        self.best[usize::from(partition)].1
    }

    /// Adds a member. The partitions that it gains.
    pub(crate) fn join(&mut self, name: &str, link: u16) -> Vec<u16> {
        let mut gained = Vec::new();
        for (partition, best) in (0_u16..).zip(self.best.iter_mut()) {
            let weight = weight(name, partition);
            if best.1 == NONE || weight > best.0 {
                *best = (weight, link);
                gained.push(partition);
            }
        }
        gained
    }

    /// A member takes a partition that has no owner.
    pub(crate) fn claim(&mut self, partition: u16, link: u16) -> Vec<u16> {
        self.best[usize::from(partition)] = (0, link);
        vec![partition]
    }

    /// Takes a member away; `members` are the others. The partitions that it had.
    pub(crate) fn leave(&mut self, link: u16, members: &[(&str, u16)]) -> Vec<u16> {
        let mut lost = Vec::new();
        for (partition, best) in (0_u16..).zip(self.best.iter_mut()) {
            if best.1 == link {
                let others = members.iter().map(|&(name, link)| (weight(name, partition), link));
                *best = others.max_by_key(|&(weight, _)| weight).unwrap_or((0, NONE));
                lost.push(partition);
            }
        }
        lost
    }
}

fn weight(name: &str, partition: u16) -> u64 {
    xxh3_64_with_seed(name.as_bytes(), u64::from(partition))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PARTITIONS;

    const NAMES: [(&str, u16); 4] = [("convert-0", 0), ("convert-1", 1), ("convert-2", 2), ("10.0.0.7:7400", 3)];

    fn owners(order: &[usize]) -> Vec<u16> {
        let mut owners = Owners::new(PARTITIONS);
        for &index in order {
            owners.join(NAMES[index].0, NAMES[index].1);
        }
        (0..PARTITIONS as u16).map(|partition| owners.owner(partition)).collect()
    }

    #[test]
    fn owners_depend_on_the_names_alone_and_not_on_the_order_of_joining() {
        assert_eq!(owners(&[0, 1, 2, 3]), owners(&[3, 1, 0, 2]));
    }

    #[test]
    fn each_member_owns_about_its_part() {
        let owners = owners(&[0, 1, 2, 3]);
        for link in 0..4 {
            let count = owners.iter().filter(|&&owner| owner == link).count();
            assert!((850..1200).contains(&count), "link {link} owns {count}");
        }
    }

    #[test]
    fn a_member_that_leaves_moves_only_its_own_partitions() {
        let before = owners(&[0, 1, 2, 3]);
        let mut table = Owners::new(PARTITIONS);
        for (name, link) in NAMES {
            table.join(name, link);
        }
        let lost = table.leave(2, &[NAMES[0], NAMES[1], NAMES[3]]);
        assert_eq!(lost.len(), before.iter().filter(|&&owner| owner == 2).count());
        let after: Vec<u16> = (0..PARTITIONS as u16).map(|partition| table.owner(partition)).collect();
        assert_eq!(after, owners(&[0, 1, 3]));
        assert!(before.iter().zip(&after).all(|(before, after)| before == after || *before == 2));
    }
}
