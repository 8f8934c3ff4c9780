//! When a link had no credit, as far back as its oldest waiting events want to know.

use std::collections::VecDeque;

use jaiminho_telemetry::traces::UnixNanos;

/// Times that are remembered of one link. Before them it counts as having had credit.
const SPELLS_MAX: usize = 8;
/// Credit that was used up again within this was none for those who waited.
const GAP_NS_MAX: UnixNanos = 1_000_000;

/// Times without credit, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Dry {
    before: VecDeque<(UnixNanos, UnixNanos)>,
    /// Of the one that goes on.
    since: Option<UnixNanos>,
}

impl Dry {
    /// A link that opens has no credit.
    pub(crate) fn since(now: UnixNanos) -> Self {
        Self { since: Some(now), ..Self::default() }
    }

    /// From now on it has credit, or has none.
    pub(crate) fn enter(&mut self, has_credit: bool, now: impl FnOnce() -> UnixNanos) {
        match (self.since, has_credit) {
            (None, false) => {
                let now = now();
                let last = self.before.pop_back_if(|(_, to)| now.saturating_sub(*to) <= GAP_NS_MAX);
                self.since = Some(last.map_or(now, |(from, _)| from));
            }
            (Some(since), true) => {
                self.since = None;
                if self.before.len() >= SPELLS_MAX {
                    self.before.pop_front();
                }
                self.before.push_back((since, now()));
            }
            (None, true) | (Some(_), false) => {}
        }
    }

    /// Cuts a wait into what it waited with and without credit, in order and without a gap.
    pub(crate) fn cut(&self, from: UnixNanos, to: UnixNanos) -> Vec<(bool, UnixNanos, UnixNanos)> {
        let mut parts = Vec::new();
        let mut at = from;
        let lasting = self.since.map(|since| (since, UnixNanos::MAX));
        for (dry_from, dry_to) in self.before.iter().copied().chain(lasting) {
            let (dry_from, dry_to) = (dry_from.clamp(at, to.max(at)), dry_to.clamp(at, to.max(at)));
            parts.extend([(true, at, dry_from), (false, dry_from, dry_to)]);
            at = dry_to;
        }
        parts.push((true, at, to.max(at)));
        parts.retain(|(_, from, to)| from < to);
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: UnixNanos = 1_000_000;

    #[test]
    fn a_wait_is_cut_where_credit_came_and_went() {
        let mut dry = Dry::since(10 * MS);
        for (has_credit, at) in [(true, 20), (true, 25), (false, 30), (false, 35), (true, 40)] {
            dry.enter(has_credit, || at * MS);
        }
        let cut = |dry: &Dry, from: u64, to: u64| {
            let parts = dry.cut(from * MS, to * MS);
            parts.into_iter().map(|(credit, from, to)| (credit, from / MS, to / MS)).collect::<Vec<_>>()
        };
        assert_eq!(cut(&dry, 5, 45), [(true, 5, 10), (false, 10, 20), (true, 20, 30), (false, 30, 40), (true, 40, 45)]);
        assert_eq!(cut(&dry, 12, 15), [(false, 12, 15)]);
        assert_eq!(cut(&dry, 22, 28), [(true, 22, 28)]);
        assert_eq!(cut(&dry, 41, 41), []);
        dry.enter(false, || 50 * MS);
        assert_eq!(cut(&dry, 48, 55), [(true, 48, 50), (false, 50, 55)]);
    }

    #[test]
    fn credit_that_others_used_up_at_once_is_none() {
        let mut dry = Dry::since(0);
        dry.enter(true, || 20 * MS);
        dry.enter(false, || 20 * MS + 500_000);
        assert_eq!(dry.cut(5 * MS, 30 * MS), [(false, 5 * MS, 30 * MS)]);
    }

    #[test]
    fn what_is_remembered_of_a_link_has_a_bound() {
        let mut dry = Dry::since(0);
        for at in 1..100 {
            dry.enter(at % 2 == 1, || at * 10 * MS);
        }
        assert_eq!(dry.before.len(), SPELLS_MAX);
        assert_eq!(dry.cut(0, MS), [(true, 0, MS)]);
    }
}
