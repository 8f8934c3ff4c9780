//! Changes of a stage's state that its operator reads in the log: each when it begins, and when it is over.

use std::collections::BTreeSet;

use jaiminho_core::Fill;

use crate::task::Task;

/// 30 s: what keeps a stage waiting for less is no news.
const LASTS_TICKS: u32 = 120;
/// Share of the last ten seconds from which on a stage is blocked, or at its limit.
const MOSTLY: f64 = 0.9;
/// Share below which it no longer is.
const NO_LONGER: f64 = 0.5;

/// What has been told, and is not over.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Outputs whose log is full.
    full: BTreeSet<usize>,
    in_trouble: bool,
    /// Blocked, and at its limit: ticks for which that lasts.
    lasts: [u32; 2],
}

/// What happened to a state that is told once it has lasted.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    Lasts,
    Over,
    None,
}

impl Task {
    /// One tick has passed.
    pub(crate) fn tell_changes(&mut self) {
        let stage = &self.stage;
        for (index, log) in self.logs.iter().enumerate() {
            let (output, fill) = (&log.name, log.output.fill());
            let Fill { events, bytes, capacity_events, capacity_bytes, .. } = fill;
            match self.changes.fullness(index, &fill) {
                Change::Lasts => tracing::warn!(
                    stage,
                    output,
                    events,
                    bytes,
                    capacity_events,
                    capacity_bytes,
                    "the log is full: nothing more is taken in until it has room"
                ),
                Change::Over => tracing::info!(stage, output, events, bytes, "the log has room again"),
                Change::None => {}
            }
        }
        let trouble = self.troubles.current();
        if trouble.is_some() != self.changes.in_trouble {
            self.changes.in_trouble = trouble.is_some();
            match trouble {
                Some(trouble) => {
                    tracing::warn!(stage, error = trouble.text, "it can't go on, and tries again until it can")
                }
                None => tracing::info!(stage, "it goes on: the trouble is over"),
            }
        }
        let [blocked, limit, _] = self.account.load(self.clock.elapsed).recent;
        match self.changes.load(0, blocked) {
            Change::Lasts => tracing::info!(stage, "blocked: it waits for who is downstream"),
            Change::Over => tracing::info!(stage, "no longer blocked"),
            Change::None => {}
        }
        match self.changes.load(1, limit) {
            Change::Lasts => tracing::info!(stage, "at its limit: it has all the work that it can do"),
            Change::Over => tracing::info!(stage, "no longer at its limit"),
            Change::None => {}
        }
    }
}

impl Changes {
    /// Full from its capacity on, until there is no pressure.
    fn fullness(&mut self, output: usize, fill: &Fill) -> Change {
        if fill.events >= fill.capacity_events || fill.bytes >= fill.capacity_bytes {
            if self.full.insert(output) { Change::Lasts } else { Change::None }
        } else if !fill.is_pressure() && self.full.remove(&output) {
            Change::Over
        } else {
            Change::None
        }
    }

    fn load(&mut self, state: usize, share: f64) -> Change {
        let Some(ticks) = self.lasts.get_mut(state) else { return Change::None };
        let was_told = *ticks >= LASTS_TICKS;
        if share < if was_told { NO_LONGER } else { MOSTLY } {
            *ticks = 0;
            return if was_told { Change::Over } else { Change::None };
        }
        *ticks = ticks.saturating_add(1);
        if *ticks == LASTS_TICKS { Change::Lasts } else { Change::None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_wavers_about_its_capacity_is_told_once() {
        let mut changes = Changes::default();
        let mut at = |events| {
            let fill = Fill { events, capacity_events: 10, capacity_bytes: 1, span: 160, ..Fill::default() };
            changes.fullness(0, &fill)
        };
        assert_eq!(
            [at(9), at(10), at(9), at(12), at(9)],
            [Change::None, Change::Lasts, Change::None, Change::None, Change::None]
        );
        assert_eq!([at(8), at(9), at(10)], [Change::Over, Change::None, Change::Lasts]);
    }

    #[test]
    fn a_state_is_told_when_it_has_lasted_for_half_a_minute_and_when_it_is_over() {
        let mut changes = Changes::default();
        let mut told =
            |share, ticks: u32| (0..ticks).map(|_| changes.load(0, share)).filter(|of| *of != Change::None).collect();
        let all: Vec<Vec<Change>> =
            vec![told(0.95, 119), told(0.6, 1), told(1.0, 300), told(0.6, 300), told(0.4, 300), told(0.95, 119)];
        assert_eq!(all, [vec![], vec![], vec![Change::Lasts], vec![], vec![Change::Over], vec![]]);
    }
}
