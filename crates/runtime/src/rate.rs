//! How fast events go on, whatever comes in.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

/// What a [`Rate`] lets go at once after a pause, as a share of a second.
const BURST_SECONDS: f64 = 0.1;
/// As long an interval is at most, and as far ahead a batch can reach.
const OWED_MAX: Duration = Duration::from_secs(86_400);

/// So many events a second, by the generic cell rate algorithm: its whole state is the time at which nothing is owed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    interval: Duration,
    burst: Duration,
}

impl Pace {
    /// `per_second` events, above zero (the longest interval is a day), of which `burst`, one to a million, may go at once after
    /// a pause.
    pub fn new(per_second: f64, burst: f64) -> Self {
        let interval = Duration::from_secs_f64((1.0 / per_second).clamp(1e-9, OWED_MAX.as_secs_f64()));
        Self { interval, burst: interval.mul_f64(burst.clamp(1.0, 1e6) - 1.0) }
    }

    /// One event goes at `now`. `due` is the state, at first `now` or earlier.
    ///
    /// # Errors
    ///
    /// How long it has to wait before it asks again.
    pub fn take(self, due: &mut Instant, now: Instant) -> Result<(), Duration> {
        self.take_whole(1, due, now)
    }

    /// So many events go together as soon as one may: those after them wait for all of these.
    fn take_whole(self, events: u32, due: &mut Instant, now: Instant) -> Result<(), Duration> {
        let start = now.max(*due);
        let ahead = start.saturating_duration_since(now);
        if ahead > self.burst {
            return Err(ahead - self.burst);
        }
        *due = start + self.interval.saturating_mul(events).min(OWED_MAX);
        Ok(())
    }
}

/// How many events a second a stage takes into work; may be changed while it runs. Clones are one and the same rate.
#[derive(Clone, Debug)]
pub struct Rate {
    per_second: Arc<watch::Sender<Option<f64>>>,
    due: Arc<Mutex<Option<Instant>>>,
}

impl Default for Rate {
    /// Without a limit.
    fn default() -> Self {
        Self::new(None)
    }
}

impl Rate {
    /// So many events a second, above zero; none: no limit.
    pub fn new(per_second: Option<f64>) -> Self {
        Self { per_second: Arc::new(watch::Sender::new(per_second)), due: Arc::default() }
    }

    /// From now on so many: holds at once, also for what waits.
    pub fn set(&self, per_second: Option<f64>) {
        *self.due.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.per_second.send_replace(per_second);
    }

    /// What holds.
    pub fn per_second(&self) -> Option<f64> {
        *self.per_second.borrow()
    }

    fn try_take(&self, events: u32) -> Result<(), Duration> {
        let Some(per_second) = self.per_second() else { return Ok(()) };
        let now = Instant::now();
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        Pace::new(per_second, per_second * BURST_SECONDS).take_whole(events, due.get_or_insert(now), now)
    }
}

/// A rate as a stage's task takes it: it never waits, but is told when to look again. So what waits stays in the task's own
/// queues, out of which it can be taken back.
#[derive(Debug)]
pub(crate) struct Throttle {
    rate: Rate,
    changed: watch::Receiver<Option<f64>>,
    again: Option<Instant>,
}

impl Throttle {
    pub(crate) fn new(rate: Rate) -> Self {
        let changed = rate.per_second.subscribe();
        Self { rate, changed, again: None }
    }

    /// How many of `events` may go now.
    pub(crate) fn take(&mut self, events: usize) -> usize {
        if self.rate.per_second().is_none() {
            return events;
        }
        (0..events).take_while(|_| self.take_whole(1)).count()
    }

    /// Whether so many events may go now, together.
    pub(crate) fn take_whole(&mut self, events: usize) -> bool {
        let taken = self.rate.try_take(u32::try_from(events).unwrap_or(u32::MAX));
        self.again = taken.err().map(|wait| Instant::now() + wait);
        self.again.is_none()
    }

    /// Resolves when it is worth to look again, once; never when nothing was refused.
    pub(crate) async fn opens(&mut self) {
        let Some(again) = self.again else { return std::future::pending().await };
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(again) => {}
            _ = self.changed.changed() => {}
        }
        self.again = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn take_one(throttle: &mut Throttle) {
        while !throttle.take_whole(1) {
            throttle.opens().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn events_go_at_their_rate_with_a_short_burst_after_a_pause() {
        let (mut throttle, start) = (Throttle::new(Rate::new(Some(100.0))), Instant::now());
        for _ in 0..110 {
            take_one(&mut throttle).await;
        }
        assert_eq!(
            start.elapsed().as_millis().div_euclid(10),
            100,
            "10 at once, 100 in a second: {:?}",
            start.elapsed()
        );
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(throttle.take(512), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_holds_at_once_for_what_waits() {
        let (rate, start) = (Rate::new(Some(0.001)), Instant::now());
        let mut throttle = Throttle::new(rate.clone());
        take_one(&mut throttle).await;
        let waits = tokio::spawn(async move {
            take_one(&mut throttle).await;
            throttle
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!waits.is_finished());
        rate.set(Some(1_000.0));
        let mut throttle = waits.await.unwrap();
        assert!(start.elapsed() < Duration::from_secs(2));
        rate.set(None);
        assert_eq!(throttle.take(512), 512);
    }
}
