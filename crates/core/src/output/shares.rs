//! Which member is most in need: a tournament over the unused shares of the members' windows.
//!
//! A member's place holds at least its share: a share that fell is put right when it would win. So assigning an event costs
//! nothing here, and finding the neediest the logarithm of the members.

/// A complete binary tree of maxima; the members' places are its leaves. 0: without credit.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    /// The root is at 1, the children of `node` at twice that.
    tree: Vec<u64>,
}

impl Shares {
    /// All members anew.
    pub(crate) fn reset(&mut self, shares: impl ExactSizeIterator<Item = u64>) {
        let leaves = shares.len().next_power_of_two();
        self.tree.clear();
        self.tree.resize(leaves, 0);
        self.tree.extend(shares);
        self.tree.resize(2 * leaves, 0);
        for node in (1..leaves).rev() {
            self.tree[node] = self.tree[2 * node].max(self.tree[2 * node + 1]);
        }
    }

    pub(crate) fn set(&mut self, member: usize, share: u64) {
        let mut node = self.leaves() + member;
        self.tree[node] = share;
        while node > 1 {
            node /= 2;
            let most = self.tree[2 * node].max(self.tree[2 * node + 1]);
            if self.tree[node] == most {
                break;
            }
            self.tree[node] = most;
        }
    }

    /// What a member's share is at most.
    pub(crate) fn at(&self, member: usize) -> u64 {
        self.tree[self.leaves() + member]
    }

    /// The member with the largest share, and that; of equal ones the next from `turn` on, going round.
    pub(crate) fn most(&self, turn: usize) -> Option<(usize, u64)> {
        let most = self.tree.get(1).copied().filter(|&most| most > 0)?;
        let member = self.next(turn, most).or_else(|| self.next(0, most))?;
        Some((member, most))
    }

    /// The first member from `from` on with at least so large a share.
    fn next(&self, from: usize, share: u64) -> Option<usize> {
        let leaves = self.leaves();
        if from >= leaves {
            return None;
        }
        let mut node = leaves + from;
        while self.tree[node] < share {
            // Up as long as it is a right child, then to the right.
            while node % 2 == 1 {
                node /= 2;
            }
            if node == 0 {
                return None;
            }
            node += 1;
        }
        while node < leaves {
            node = 2 * node + usize::from(self.tree[2 * node] < share);
        }
        Some(node - leaves)
    }

    fn leaves(&self) -> usize {
        self.tree.len() / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_share_wins_and_equal_ones_take_turns() {
        let mut random = 1_u64;
        for members in 0..20 {
            let (mut shares, mut model) = (Shares::default(), vec![0; members]);
            shares.reset(model.iter().copied());
            for turn in (0..=members).cycle().take(200) {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                if members > 0 {
                    let member = (random >> 40) as usize % members;
                    model[member] = (random >> 33) % 4;
                    shares.set(member, model[member]);
                    assert_eq!(shares.at(member), model[member]);
                }
                let most = model.iter().copied().max().filter(|&most| most > 0);
                let mut round = (turn..members).chain(0..turn.min(members));
                let expected = most.and_then(|most| Some((round.find(|&member| model[member] == most)?, most)));
                assert_eq!(shares.most(turn), expected, "{model:?} from {turn}");
            }
        }
    }
}
