//! What is remembered of a stage from one look to the next.

use std::{collections::VecDeque, time::Duration};

use crate::Sight;

/// Rates are smoothed over so long.
const SMOOTH: Duration = Duration::from_secs(10);
/// A source that is held up for more than this share of the time may be full for that reason.
pub(crate) const STALL: f64 = 0.05;
/// The trend of what waits is that of so long.
const TREND: Duration = Duration::from_secs(15);
/// A measured ability that is less than this share of the best one is taken for a passing one,
const PASSING: f64 = 0.8;
/// and believed for so long, and twice as long each time it proves right; then so much more is hoped for.
const BELIEVED: Duration = Duration::from_secs(600);
const BELIEVED_MAX: Duration = Duration::from_secs(24 * 3_600);
const HOPE: f64 = 1.25;
/// Instances that were added and brought less than this share of their part have brought nothing.
const GAIN_MIN: f64 = 0.2;
/// After so long, one more instance is tried.
const RETRY: Duration = Duration::from_secs(600);

/// What comes: by its rate and by what waits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Demand {
    /// When it was seen last.
    at: Duration,
    rate: Option<f64>,
    unused_credit: Option<f64>,
    saturation: Option<f64>,
    /// Events that waited, oldest first.
    waited: VecDeque<(Duration, u64)>,
}

impl Demand {
    pub(crate) fn see(&mut self, now: Duration, seen: &Sight) {
        let weight = (-now.saturating_sub(self.at).as_secs_f64() / SMOOTH.as_secs_f64()).exp();
        let smooth = |before: Option<f64>, latest: f64| {
            before.map_or(latest, |before| before + (1.0 - weight) * (latest - before))
        };
        self.rate = seen.rate.map(|rate| smooth(self.rate, rate)).or(self.rate);
        self.unused_credit = seen.unused_credit.map(|share| smooth(self.unused_credit, share));
        if seen.blocked <= STALL {
            self.saturation = seen.saturation.map(|share| smooth(self.saturation, share));
        }
        self.at = now;
        self.waited.push_back((now, seen.waiting));
        while self.waited.front().is_some_and(|(at, _)| now.saturating_sub(*at) > TREND) {
            self.waited.pop_front();
        }
    }

    /// Events a second that the stage takes in.
    pub(crate) fn rate(&self) -> Option<f64> {
        self.rate
    }

    /// Share of the windows of its links that is unused.
    pub(crate) fn unused_credit(&self) -> Option<f64> {
        self.unused_credit
    }

    /// How much of its limits a source uses while nothing holds it up.
    pub(crate) fn saturation(&self) -> Option<f64> {
        self.saturation
    }

    /// By how much more or less a second comes than is taken in.
    pub(crate) fn trend(&self) -> f64 {
        match (self.waited.front(), self.waited.back()) {
            (Some((since, before)), Some((now, after))) if now > since => {
                (*after as f64 - *before as f64) / (*now - *since).as_secs_f64()
            }
            _ => 0.0,
        }
    }
}

/// Events a second that one instance does while it is as busy as is aimed at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Able {
    /// So much it has done, and could do more.
    Seen(f64),
    /// So much, as was seen when it had more work than that.
    Measured(f64, Duration),
}

/// Learns what an instance is able to do.
#[derive(Clone, Debug)]
pub(crate) struct Ability {
    pub(crate) able: Able,
    /// The most that it has done with ease.
    best: f64,
    /// Since when it has been less busy than is aimed at.
    calm: Option<Duration>,
    believed: Duration,
    /// It is said to be able to do more than was measured.
    is_hoped: bool,
}

impl Default for Ability {
    fn default() -> Self {
        Self { able: Able::Seen(0.0), best: 0.0, calm: None, believed: BELIEVED, is_hoped: false }
    }
}

impl Ability {
    /// `rate` is one instance's. It counts as done with ease once it was so for `steady`: no rest of a busier time is in it.
    pub(crate) fn learn(&mut self, now: Duration, rate: f64, busy: f64, target: f64, steady: Duration) {
        if busy > target {
            let able = rate * target / busy;
            if std::mem::take(&mut self.is_hoped) {
                self.best = able.midpoint(self.best);
                self.believed = (2 * self.believed).min(BELIEVED_MAX);
            }
            (self.able, self.calm) = (Able::Measured(able, now), None);
            return;
        }
        let calm = *self.calm.get_or_insert(now);
        if now.saturating_sub(calm) < steady {
            return;
        }
        self.best = self.best.max(rate);
        match self.able {
            Able::Seen(able) => self.able = Able::Seen(able.max(rate)),
            Able::Measured(able, at) if rate > able => self.able = Able::Measured(rate, at),
            Able::Measured(able, at) if able < PASSING * self.best && now.saturating_sub(at) >= self.believed => {
                (self.able, self.is_hoped) = (Able::Measured(self.best.min(able * HOPE), now), true);
            }
            Able::Measured(..) => {}
        }
    }

    pub(crate) fn rate(&self) -> f64 {
        match self.able {
            Able::Seen(rate) | Able::Measured(rate, _) => rate,
        }
    }
}

/// How much a busy stage did before it got more instances: to see whether they bring something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Before {
    pub(crate) instances: u32,
    pub(crate) rate: f64,
    pub(crate) at: Duration,
    /// One more than these is tried; there were so many before the last ones came in vain.
    pub(crate) tried_from: Option<u32>,
}

impl Before {
    /// More instances than before do no more than those did; or the one that is tried is not there yet.
    pub(crate) fn is_vain(&self, instances: u32, rate: f64) -> bool {
        if instances <= self.instances {
            return self.tried_from.is_some();
        }
        let wanted = f64::from(instances) / f64::from(self.instances) - 1.0;
        rate < self.rate * (1.0 + GAIN_MIN * wanted)
    }

    /// It is long enough ago to try one more.
    pub(crate) fn is_past(&self, now: Duration) -> bool {
        now.saturating_sub(self.at) >= RETRY
    }
}
