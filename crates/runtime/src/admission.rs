//! Admission by predicted wait: an event that would not make its deadline is refused before it is taken.

use std::time::Duration;

use jaiminho_core::{GroupWaiting, Time};

use crate::jitter::Jitter;

pub(crate) const TAKEN: &str = "taken";
pub(crate) const LOG_FULL: &str = "log_full";
pub(crate) const PREDICTED_WAIT: &str = "predicted_wait";
pub(crate) const HOT_KEY: &str = "hot_key";
pub(crate) const DEAD_LETTERS_FULL: &str = "dead_letters_full";
pub(crate) const NEVER_FITS: &str = "never_fits";
pub(crate) const DRAINING: &str = "draining";

/// What is decided of an offer, as metrics name it.
pub(crate) const DECISIONS: [&str; 7] =
    [TAKEN, LOG_FULL, PREDICTED_WAIT, HOT_KEY, DEAD_LETTERS_FULL, NEVER_FITS, DRAINING];

/// How one group's waiting events have moved of late.
#[derive(Debug, Default, Clone)]
struct Pace {
    dispatched: u64,
    measured: Time,
    /// Events a second, while something waited. None until measured.
    rate: Option<f64>,
}

/// Predicted wait over a stage's required groups.
#[derive(Debug)]
pub(crate) struct Admission {
    groups: Vec<Pace>,
    wait: Duration,
    jitter: Jitter,
}

/// Half of what was measured lies within so many milliseconds.
const HALF_LIFE_MS: f64 = 2_000.0;

impl Admission {
    /// Nothing measured yet.
    pub(crate) fn new(incarnation: u64) -> Self {
        Self { groups: Vec::new(), wait: Duration::ZERO, jitter: Jitter::new(incarnation) }
    }

    /// Measures; called at each tick.
    pub(crate) fn measure(&mut self, now: Time, groups: &[GroupWaiting]) {
        self.groups.resize_with(groups.len(), Pace::default);
        let mut wait = 0.0_f64;
        for (pace, group) in self.groups.iter_mut().zip(groups) {
            let backlog = group.undispatched.saturating_sub(group.unused_credit);
            let elapsed = now.0.saturating_sub(pace.measured.0) as f64;
            let moved = group.dispatched.saturating_sub(pace.dispatched) as f64;
            (pace.measured, pace.dispatched) = (now, group.dispatched);
            if backlog == 0 {
                continue;
            }
            if elapsed > 0.0 {
                let rate = moved * 1_000.0 / elapsed;
                let keep = 0.5_f64.powf(elapsed / HALF_LIFE_MS);
                pace.rate = match pace.rate {
                    Some(old) => Some(old * keep + rate * (1.0 - keep)),
                    None if moved > 0.0 => Some(rate),
                    None => None,
                };
            }
            if let Some(rate) = pace.rate {
                let still = group.last_dispatch.map_or(0, |last| now.since(last)) as f64 / 1_000.0;
                wait = wait.max((backlog as f64 / rate.max(0.001)).max(still));
            }
        }
        self.wait = Duration::from_secs_f64(wait.min(3_600.0));
    }

    /// How long a new event is expected to wait for its dispatch.
    pub(crate) fn predicted_wait(&self) -> Duration {
        self.wait
    }

    /// What a refused client is told: 1-15 s, with jitter. Whole seconds, as clients are told them: less than one would be
    /// rounded away.
    pub(crate) fn retry_after(&mut self) -> Duration {
        let base = self.wait.as_secs_f64().clamp(1.0, 12.0);
        let jitter = self.jitter.next() * (base / 4.0 + 1.75);
        Duration::from_secs_f64((base + jitter).floor().clamp(1.0, 15.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(undispatched: u64, dispatched: u64, last_dispatch: u64) -> GroupWaiting {
        let (name, last_dispatch) = ("g".into(), Some(Time(last_dispatch)));
        GroupWaiting { name, undispatched, unused_credit: 0, dispatched, redispatched: 0, last_dispatch, members: 1 }
    }

    #[test]
    fn a_backlog_is_predicted_to_wait_as_long_as_its_rate_says() {
        let mut admission = Admission::new(1);
        admission.measure(Time(0), &[load(0, 0, 0)]);
        admission.measure(Time(1_000), &[load(500, 100, 1_000)]);
        assert_eq!(admission.predicted_wait(), Duration::from_secs(5));
    }

    #[test]
    fn without_a_rate_nothing_is_refused() {
        let mut admission = Admission::new(1);
        admission.measure(Time(0), &[load(500, 0, 0)]);
        admission.measure(Time(60_000), &[load(500, 0, 0)]);
        assert_eq!(admission.predicted_wait(), Duration::ZERO);
    }

    #[test]
    fn a_stall_counts_from_the_last_dispatch() {
        let mut admission = Admission::new(1);
        admission.measure(Time(1_000), &[load(10, 1_000, 1_000)]);
        admission.measure(Time(21_000), &[load(10, 1_000, 1_000)]);
        assert!(admission.predicted_wait() >= Duration::from_secs(20));
    }

    #[test]
    fn clients_come_back_within_one_to_fifteen_seconds_and_not_together() {
        let mut admission = Admission::new(1);
        admission.measure(Time(1_000), &[load(1_000_000, 10, 1_000)]);
        let mut idle = Admission::new(1);
        for (admission, least, most) in [(&mut idle, 1, 2), (&mut admission, 12, 15)] {
            let waits: std::collections::BTreeSet<_> = (0..1_000).map(|_| admission.retry_after().as_secs()).collect();
            assert!(waits.iter().eq(&(least..=most).collect::<Vec<u64>>()), "{waits:?}");
        }
    }
}
