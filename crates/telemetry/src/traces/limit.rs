//! How many spans events that are not sampled may leave.

use std::sync::atomic::{AtomicU64, Ordering};

use super::span::UnixNanos;

/// Spans of events that are not sampled, a second, of all stages of a process.
pub const NOTICED_PER_SECOND: u64 = 10;

const COUNT_BITS: u32 = 8;

/// The second in which something was noticed last, and how often in it.
#[derive(Debug, Default)]
pub(crate) struct Limit(AtomicU64);

impl Limit {
    /// Whether one more may be, and counts it.
    pub(crate) fn allows(&self, now: UnixNanos) -> bool {
        let second = (now / 1_000_000_000) << COUNT_BITS;
        let count = |last: u64| {
            let before = if last < second { second } else { last };
            (before & ((1 << COUNT_BITS) - 1) < NOTICED_PER_SECOND).then_some(before + 1)
        };
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_a_second_and_ten_more_in_the_next_one() {
        let limit = Limit::default();
        let allowed = |from: UnixNanos| (0..100).filter(|after| limit.allows(from + after)).count();
        let noon = 1_700_000_000_000_000_000;
        assert_eq!([allowed(noon), allowed(noon + 500_000_000), allowed(noon + 1_000_000_000)], [10, 0, 10]);
    }
}
