//! Where time goes: in which of a few states a link or a stage was, for how long.

use std::{collections::VecDeque, time::Duration};

/// Time spent in each of `N` states, of which one holds at a time. Told the time as it is told of the state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spent<const N: usize> {
    state: usize,
    since: Duration,
    before: [Duration; N],
}

impl<const N: usize> Spent<N> {
    pub(crate) fn new(now: Duration, state: usize) -> Self {
        Self { state, since: now, before: [Duration::ZERO; N] }
    }

    /// From now on it is in this state.
    pub(crate) fn enter(&mut self, now: Duration, state: usize) {
        if state != self.state {
            self.before = self.until(now);
            (self.state, self.since) = (state, now);
        }
    }

    /// All time until now: together its whole life.
    pub(crate) fn until(&self, now: Duration) -> [Duration; N] {
        let mut spent = self.before;
        if let Some(current) = spent.get_mut(self.state) {
            *current += now.saturating_sub(self.since);
        }
        spent
    }
}

/// The last ten seconds of it, tick by tick.
#[derive(Clone, Debug)]
pub(crate) struct Recent<const N: usize>(VecDeque<[Duration; N]>);

/// Ticks of ten seconds.
const TICKS: usize = 40;

impl<const N: usize> Default for Recent<N> {
    fn default() -> Self {
        Self(VecDeque::from([[Duration::ZERO; N]]))
    }
}

impl<const N: usize> Recent<N> {
    pub(crate) fn tick(&mut self, spent: [Duration; N]) {
        if self.0.len() > TICKS {
            self.0.pop_front();
        }
        self.0.push_back(spent);
    }

    /// Share of each state, 0 to 1; all 0 before any time has passed.
    pub(crate) fn shares(&self, now: [Duration; N]) -> [f64; N] {
        let before = self.0.front().copied().unwrap_or([Duration::ZERO; N]);
        let spent = std::array::from_fn(|state| now[state].saturating_sub(before[state]).as_secs_f64());
        let all: f64 = spent.iter().sum();
        spent.map(|spent| if all > 0.0 { spent / all } else { 0.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_states_together_are_the_whole_life() {
        let mut spent = Spent::<2>::new(ms(10), 0);
        spent.enter(ms(30), 1);
        spent.enter(ms(40), 1);
        spent.enter(ms(100), 0);
        assert_eq!(spent.until(ms(105)), [ms(25), ms(70)]);
    }

    #[test]
    fn shares_are_those_of_the_last_ten_seconds() {
        let (mut spent, mut recent) = (Spent::<2>::new(ms(0), 0), Recent::default());
        assert_eq!(recent.shares(spent.until(ms(0))), [0.0, 0.0]);
        for tick in 1..=80 {
            if tick == 60 {
                spent.enter(ms(250 * tick), 1);
            }
            recent.tick(spent.until(ms(250 * tick)));
        }
        let [before, after] = recent.shares(spent.until(ms(250 * 80)));
        assert!((before - 0.5).abs() < 0.02 && (after - 0.5).abs() < 0.02, "{before} {after}");
    }
}
