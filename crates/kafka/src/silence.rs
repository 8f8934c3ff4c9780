//! For how long no record was confirmed, though some wait: what a person is told of it.

use std::time::{Duration, Instant};

/// So long without a confirmation is worth a word.
const LASTS: Duration = Duration::from_secs(5);
/// Between two words.
const AGAIN: Duration = Duration::from_secs(1);

/// What there is to tell.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// It lasts, for so long.
    Lasts(Duration),
    /// It was told of, and is over.
    Over,
    /// Nothing new.
    Same,
}

/// When a record was confirmed last, or none waited.
pub(crate) struct Confirmations {
    last: Instant,
    told: Option<Instant>,
}

impl Confirmations {
    pub(crate) fn new(now: Instant) -> Self {
        Self { last: now, told: None }
    }

    pub(crate) fn confirmed(&mut self, now: Instant) {
        self.last = now;
    }

    pub(crate) fn at(&mut self, now: Instant) -> Silence {
        let time = now.saturating_duration_since(self.last);
        match self.told {
            None if time < LASTS => Silence::Same,
            Some(told) if time >= LASTS && now.saturating_duration_since(told) < AGAIN => Silence::Same,
            Some(_) if time < LASTS => {
                self.told = None;
                Silence::Over
            }
            Some(_) | None => {
                self.told = Some(now);
                Silence::Lasts(time)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_is_told_of_after_a_while_then_each_second_and_once_when_it_is_over() {
        let start = Instant::now();
        let mut confirmations = Confirmations::new(start);
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(confirmations.at(at(4_900)), Silence::Same);
        assert_eq!(confirmations.at(at(5_000)), Silence::Lasts(Duration::from_secs(5)));
        assert_eq!(confirmations.at(at(5_900)), Silence::Same);
        assert_eq!(confirmations.at(at(6_000)), Silence::Lasts(Duration::from_secs(6)));
        confirmations.confirmed(at(6_100));
        assert_eq!(confirmations.at(at(6_100)), Silence::Over);
        assert_eq!(confirmations.at(at(6_200)), Silence::Same);
    }
}
