//! The rule.
//!
//! A stage that is too busy gets instances × busy / target, and some for what waits; more only as long as it is the limit: while
//! what is below it holds it up, while an instance is new, or when the last ones brought nothing, it keeps what it has.
//!
//! How busy a stage is tells little of a wide one: one that does 64 events at a time is hardly ever full, and then always. So what
//! an instance is able to do is remembered, as it was seen under load. That, and not idleness alone, says how many fewer would do;
//! where it was never seen, one less is tried after another, as long as credit stays unused.

use std::time::Duration;

use crate::{
    Options, Sight, Why,
    known::{Ability, Able, Before, Demand, STALL},
};

/// Fewer instances must be no busier than this share of the target.
const MARGIN: f64 = 0.8;
/// One less is tried where no more than this share of the windows would be used then.
const USED_MAX: f64 = 0.5;
/// What is longer ago than this is no part of one and the same time.
const GAP: Duration = Duration::from_secs(15);
/// So little more than a whole number of instances is that number.
const ROUNDING: f64 = 0.02;
/// More are never asked for.
const INSTANCES_MAX: u32 = 10_000;

/// How many instances a stage needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// It has so many.
    pub current: u32,
    /// It should have so many.
    pub needed: u32,
    /// The reason, of `needed` or of the fewer that would do.
    pub why: Why,
}

/// Decides for one stage, look after look. After a restart it begins with what the stage has.
#[derive(Clone, Debug)]
pub struct Scaling {
    options: Options,
    demand: Demand,
    ability: Ability,
    before: Option<Before>,
    /// Since when there has always been a young instance, and the most that there were.
    young: Option<(Duration, u32)>,
    /// What was said last.
    told: Option<u32>,
    lower: Option<Lower>,
}

/// Fewer than were said would do.
#[derive(Clone, Copy, Debug)]
struct Lower {
    /// The most of what would do in that time.
    most: u32,
    since: Duration,
    /// When that was seen last.
    last: Duration,
}

impl Scaling {
    /// Knows nothing yet.
    pub fn new(options: Options) -> Self {
        let (demand, ability) = (Demand::default(), Ability::default());
        Self { options, demand, ability, before: None, young: None, told: None, lower: None }
    }

    /// What follows from one look more. `now` is the time since some fixed moment; looks are a second or a few apart.
    pub fn decide(&mut self, now: Duration, seen: &Sight) -> Decision {
        self.demand.see(now, seen);
        let seen = &Sight { saturation: self.demand.saturation(), ..*seen };
        let why = self.judge(now, seen);
        if let Some(before) = &mut self.before
            && !matches!(why, Why::Idle | Why::Enough { .. } | Why::Low { .. })
        {
            before.strains();
        }
        let needed = self.settle(now, seen.instances, why.wanted(seen.instances));
        Decision { current: seen.instances, needed, why }
    }

    fn judge(&mut self, now: Duration, seen: &Sight) -> Why {
        let target = self.options.target;
        if seen.instances == 0 {
            return if seen.waiting > 0 { Why::Missed { waiting: seen.waiting } } else { Why::Absent };
        }
        let (Some(latest), Some(rate)) = (seen.rate, self.demand.rate()) else { return Why::New };
        if let Some(before) = &mut self.before {
            before.see(rate);
        }
        if self.is_starting(now, seen) {
            return Why::Starting { seconds: seen.youngest.as_secs() };
        }
        if seen.blocked > if seen.is_source { STALL } else { target } {
            return Why::Blocked { share: seen.blocked };
        }
        let Some(busy) = seen.busy(&self.options) else { return Why::Untold };
        if busy > target && latest <= 0.0 {
            return Why::Stuck;
        }
        let each = rate / f64::from(seen.instances);
        self.ability.learn(now, each, busy, target, self.options.startup);
        let wanted = self.wanted(seen, rate, busy);
        if busy > target { self.more(now, seen, rate, busy, wanted) } else { self.fewer(now, seen, rate, busy, wanted) }
    }

    /// The youngest has not shown yet what it can do. When there always is a young one, of no more than there were, they start again
    /// and again: that is what they can do.
    fn is_starting(&mut self, now: Duration, seen: &Sight) -> bool {
        if seen.youngest >= self.options.startup {
            self.young = None;
            return false;
        }
        let (since, most) = self.young.filter(|(_, most)| seen.instances <= *most).unwrap_or((now, seen.instances));
        self.young = Some((since, most));
        now.saturating_sub(since) < self.options.startup
    }

    /// In instances that are as busy as is aimed at.
    fn wanted(&self, seen: &Sight, rate: f64, busy: f64) -> f64 {
        let (now, able) = (f64::from(seen.instances), self.ability.rate());
        if able <= 0.0 {
            return now;
        }
        let extra = self.demand.trend() + seen.waiting as f64 / self.options.drain.as_secs_f64();
        (now * busy / self.options.target).max(rate / able) + extra / able
    }

    fn more(&mut self, now: Duration, seen: &Sight, rate: f64, busy: f64, wanted: f64) -> Why {
        let instances = seen.instances;
        if let Some(before) = self.before.filter(|before| before.is_vain(instances, rate)) {
            let (from, tries) = (before.tried_from.unwrap_or(before.instances), before.is_past(now));
            if tries {
                self.before = Some(before.tried(now, instances));
            }
            return Why::Vain { before: from, now: instances, tries };
        }
        self.before = Some(Before::new(now, instances, rate));
        let most = whole(f64::from(instances) * self.options.growth);
        let wanted = whole(wanted).clamp(instances, most);
        Why::Busy { busy, target: self.options.target, waiting: seen.waiting, able: self.ability.rate(), wanted }
    }

    fn fewer(&mut self, now: Duration, seen: &Sight, rate: f64, busy: f64, wanted: f64) -> Why {
        // One calm look is no proof that more helped: what comes in gulps, or for one instance, is calm in between.
        // A source is busy by its connections, too, which no rate tells.
        let calm = self.ability.calm(now);
        if self.before.as_mut().is_some_and(|before| seen.is_source || before.is_over(now, calm, rate)) {
            self.before = None;
        }
        if !seen.is_active() {
            return Why::Idle;
        }
        let rate = rate / f64::from(seen.instances);
        let wanted = match self.ability.able {
            Able::Seen(_) => whole(wanted / MARGIN).min(self.one_less(seen, busy, rate)),
            Able::Measured(..) => whole(wanted / MARGIN),
        };
        if wanted < seen.instances { Why::Low { busy, rate, wanted: wanted.max(1) } } else { Why::Enough { busy } }
    }

    /// What can be tried of a stage that never had to show what it can do: a tenth less, and one more than that, so that Kubernetes,
    /// which does not act on a tenth, acts.
    fn one_less(&self, seen: &Sight, busy: f64, rate: f64) -> u32 {
        let less = seen.instances - seen.instances / 10 - 1;
        let growth = f64::from(seen.instances) / f64::from(less);
        let used = 1.0 - self.demand.unused_credit().unwrap_or(1.0);
        let waits = seen.waiting as f64 > rate * f64::from(seen.instances);
        let is_easy = !waits && busy * growth <= MARGIN * self.options.target && used * growth <= USED_MAX;
        if less > 0 && is_easy { less } else { seen.instances }
    }

    /// More at once; fewer when that was enough for a while, and of that the most.
    fn settle(&mut self, now: Duration, instances: u32, wanted: Option<u32>) -> u32 {
        let told = *self.told.get_or_insert(instances);
        let Some(wanted) = wanted else {
            self.lower = None;
            return told.max(instances);
        };
        if wanted >= told {
            (self.lower, self.told) = (None, Some(wanted));
            return wanted;
        }
        let known = self.lower.filter(|lower| now.saturating_sub(lower.last) <= GAP);
        let (most, since) = known.map_or((wanted, now), |lower| (lower.most.max(wanted), lower.since));
        self.lower = Some(Lower { most, since, last: now });
        if now.saturating_sub(since) >= self.options.down_after {
            (self.lower, self.told) = (None, Some(most));
            return most;
        }
        told
    }
}

/// Rounded up, but for a trifle.
fn whole(instances: f64) -> u32 {
    (instances - ROUNDING).ceil().clamp(0.0, f64::from(INSTANCES_MAX)) as u32
}
