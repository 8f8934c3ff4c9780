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
const GAIN_MIN: f64 = 0.33;
/// So have those that brought less than this share of what was done before: so much comes and goes by chance.
const GAIN_LEAST: f64 = 0.08;
/// After so long, more are tried; and after twice as long each time that brought nothing, too.
const RETRY: Duration = Duration::from_secs(600);
const RETRY_MAX: Duration = Duration::from_secs(4 * 3_600);
/// After a calm time of so long what was in vain is forgotten, if so much of it is done with ease now;
const CALM: Duration = Duration::from_secs(300);
const EASE: f64 = 0.9;
/// else after so long: bursts come again.
const CALM_MAX: Duration = Duration::from_secs(3_600);

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

    /// For how long it has been less busy than is aimed at.
    pub(crate) fn calm(&self, now: Duration) -> Duration {
        now.saturating_sub(self.calm.unwrap_or(now))
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
    rate: f64,
    at: Duration,
    /// The most that it did since then.
    best: f64,
    /// More than these are tried; there were so many before the last ones came in vain.
    pub(crate) tried_from: Option<u32>,
    /// After so long, more are tried.
    wait: Duration,
    /// Since when it has done about as much with ease.
    eased: Option<Duration>,
}

impl Before {
    pub(crate) fn new(now: Duration, instances: u32, rate: f64) -> Self {
        Self { instances, rate, at: now, best: 0.0, tried_from: None, wait: RETRY, eased: None }
    }

    /// It does so much.
    pub(crate) fn see(&mut self, rate: f64) {
        self.best = self.best.max(rate);
    }

    /// More are tried, against the most that these did: less tells of chance, or of what came.
    pub(crate) fn tried(&self, now: Duration, instances: u32) -> Self {
        let wait = if self.tried_from.is_some() { (2 * self.wait).min(RETRY_MAX) } else { RETRY };
        let tried_from = self.tried_from.or(Some(self.instances));
        Self { tried_from, wait, ..Self::new(now, instances, self.best) }
    }

    /// More instances than before do no more than those did; or those that are tried are not there yet, and it does no more.
    pub(crate) fn is_vain(&self, instances: u32, rate: f64) -> bool {
        if instances <= self.instances {
            return self.tried_from.is_some_and(|from| instances > from) && rate < self.rate * (1.0 + GAIN_LEAST);
        }
        let wanted = f64::from(instances) / f64::from(self.instances) - 1.0;
        rate < self.rate * (1.0 + (GAIN_MIN * wanted).max(GAIN_LEAST))
    }

    /// It is long enough ago to try more.
    pub(crate) fn is_past(&self, now: Duration) -> bool {
        now.saturating_sub(self.at) >= self.wait
    }

    /// It is calm, for so long by now. Whether what was is no measure any more.
    pub(crate) fn is_over(&mut self, now: Duration, calm: Duration, rate: f64) -> bool {
        self.eased = (rate >= EASE * self.rate).then(|| self.eased.unwrap_or(now));
        calm >= CALM_MAX || self.eased.is_some_and(|eased| now.saturating_sub(eased) >= CALM)
    }

    /// It is not calm, or nothing can be said of it.
    pub(crate) fn strains(&mut self) {
        self.eased = None;
    }
}
