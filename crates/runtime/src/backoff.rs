//! Exponential back-off with full jitter.

use std::{hash::Hash, time::Duration};

use crate::jitter::Jitter;

/// Waits grow from `first` to `max`; each is drawn from zero to the present bound.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    max: Duration,
    bound: Duration,
    jitter: Jitter,
}

impl Backoff {
    /// Of two back-offs those with different seeds wait differently.
    pub(crate) fn new(first: Duration, max: Duration, seed: impl Hash) -> Self {
        Self { first, max, bound: first, jitter: Jitter::new(seed) }
    }

    /// How long to wait now.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = self.bound.mul_f64(self.jitter.next());
        self.bound = (self.bound * 2).min(self.max);
        wait
    }

    /// After a success.
    pub(crate) fn reset(&mut self) {
        self.bound = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_within_a_bound_that_doubles_up_to_its_maximum() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1), 7);
        for bound in [100, 200, 400, 800, 1000, 1000] {
            assert!(backoff.next() <= Duration::from_millis(bound));
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(100));
    }
}
