//! How fast events go on, whatever comes in.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

/// What a [`Rate`] lets go at once after a pause, as a share of a second.
const BURST_SECONDS: f64 = 0.1;

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
        let interval = Duration::from_secs_f64((1.0 / per_second).clamp(1e-9, 86_400.0));
        Self { interval, burst: interval.mul_f64(burst.clamp(1.0, 1e6) - 1.0) }
    }

    /// One event goes at `now`. `due` is the state, at first `now` or earlier.
    ///
    /// # Errors
    ///
    /// How long it has to wait before it asks again.
    pub fn take(self, due: &mut Instant, now: Instant) -> Result<(), Duration> {
        let start = now.max(*due);
        let ahead = start.saturating_duration_since(now);
        if ahead > self.burst {
            return Err(ahead - self.burst);
        }
        *due = start + self.interval;
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

    /// Waits until one event may go.
    pub(crate) async fn take(&self) {
        while self.per_second().is_some() {
            let mut changed = self.per_second.subscribe();
            let Err(wait) = self.try_take() else { return };
            tokio::select! {
                biased;
                () = tokio::time::sleep(wait) => {}
                _ = changed.changed() => {}
            }
        }
    }

    /// Waits until one of `events` may go; how many of them may at once.
    pub(crate) async fn take_of(&self, events: usize) -> usize {
        self.take().await;
        if self.per_second().is_none() {
            return events;
        }
        1 + (1..events).take_while(|_| self.try_take().is_ok()).count()
    }

    fn try_take(&self) -> Result<(), Duration> {
        let Some(per_second) = self.per_second() else { return Ok(()) };
        let now = Instant::now();
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        Pace::new(per_second, per_second * BURST_SECONDS).take(due.get_or_insert(now), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn events_go_at_their_rate_with_a_short_burst_after_a_pause() {
        let (rate, start) = (Rate::new(Some(100.0)), Instant::now());
        for _ in 0..110 {
            rate.take().await;
        }
        assert_eq!(
            start.elapsed().as_millis().div_euclid(10),
            100,
            "10 at once, 100 in a second: {:?}",
            start.elapsed()
        );
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(rate.take_of(512).await, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_holds_at_once_for_what_waits() {
        let (rate, start) = (Rate::new(Some(0.001)), Instant::now());
        rate.take().await;
        let (waits, other) = (
            tokio::spawn({
                let rate = rate.clone();
                async move { rate.take().await }
            }),
            rate.clone(),
        );
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!waits.is_finished());
        other.set(Some(1_000.0));
        waits.await.unwrap();
        assert!(start.elapsed() < Duration::from_secs(2));
        other.set(None);
        assert_eq!(rate.take_of(512).await, 512);
    }
}
