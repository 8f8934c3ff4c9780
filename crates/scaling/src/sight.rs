//! What is seen of a stage.

use std::time::Duration;

use crate::Options;

/// One stage at one moment, all its instances together. Whoever does not see all of them must not make one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sight {
    /// Instances that take events: those that leave don't count.
    pub instances: u32,
    /// Time since the youngest one's start.
    pub youngest: Duration,
    /// It takes events in from outside: nothing waits for it where that could be seen.
    pub is_source: bool,
    /// Events that it does in a second. None: not known yet.
    pub rate: Option<f64>,
    /// Share of the last ten seconds in which what is below it held it up: a mean of its instances.
    pub blocked: f64,
    /// Share of the last ten seconds in which it was not blocked, and had all the work that it can do: a mean of its instances, or, where
    /// events wait for it, that of the busiest.
    pub limit: f64,
    /// Events that are on no link: for lack of its credit they wait where they come from.
    pub waiting: u64,
    /// Events that it has taken and not settled.
    pub in_work: u64,
    /// Share of the windows of its links that is credit that nobody uses. None: it has no link.
    pub unused_credit: Option<f64>,
    /// How much of its limits a source uses, 0 to 1: CPU, connections or requests, whichever is most. None: it is not told.
    pub saturation: Option<f64>,
}

impl Sight {
    /// Share of time in which it has all the work that it can do, of the time in which nothing below holds it up. None: a source
    /// that does not tell how full it is.
    pub(crate) fn busy(&self, options: &Options) -> Option<f64> {
        let free = 1.0 - self.blocked;
        let own = if self.is_source || free <= 0.0 { None } else { Some((self.limit / free).min(1.0)) };
        let of_given = |able: f64| self.rate.unwrap_or_default() / (f64::from(self.instances.max(1)) * able);
        let given = options.events_per_instance.map(of_given);
        [own, self.saturation, given].into_iter().flatten().reduce(f64::max)
    }

    /// It has something to do: it must not be scaled to nothing. A source always is: nobody could reach it.
    pub fn is_active(&self) -> bool {
        self.is_source || self.waiting > 0 || self.in_work > 0 || self.rate.is_some_and(|rate| rate > 0.0)
    }
}
