//! Fractions that spread instances over time: drawn from a seed, so that a simulated run can be repeated.

use std::hash::{BuildHasher as _, Hash};

use foldhash::quality::FixedState;

/// The same seed gives the same fractions.
#[derive(Clone, Debug)]
pub(crate) struct Jitter {
    state: FixedState,
    drawn: u64,
}

impl Jitter {
    /// `seed` is what makes this instance, and this use of chance, different from others.
    pub(crate) fn new(seed: impl Hash) -> Self {
        Self { state: FixedState::with_seed(FixedState::default().hash_one(seed)), drawn: 0 }
    }

    /// From zero to one, one left out.
    pub(crate) fn next(&mut self) -> f64 {
        self.drawn += 1;
        // As many bits as a fraction holds.
        (self.state.hash_one(self.drawn) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_repeat_with_their_seed_and_fill_the_range_evenly() {
        let draw = |seed: u64| {
            let mut jitter = Jitter::new(seed);
            (0..1_000).map(|_| jitter.next()).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        for tenth in 0..10 {
            let range = f64::from(tenth) / 10.0..f64::from(tenth + 1) / 10.0;
            let count = draw(3).iter().filter(|fraction| range.contains(fraction)).count();
            assert!((70..130).contains(&count), "{count} of 1,000 in {range:?}");
        }
    }
}
