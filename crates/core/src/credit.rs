//! The arithmetic of credit on one link, the producer's side. Nothing else in the crate adds to or subtracts from credit.
//!
//! ```text
//!          give_back
//!        +-----------+
//!        v           |
//!   granted --take--> assigned --hand_out--> sent
//! ```
//!
//! All counts are cumulative since the link opened. `sent <= assigned <= granted` in events; in bytes `assigned` may be
//! over `granted` by less than one event.

use crate::message::{Credit, Window};

/// More was granted than the window allows beyond what the consumer can have processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("credit up to {granted} {unit}, but at most {allowed} can be granted")]
pub(crate) struct Excess {
    granted: u64,
    allowed: u64,
    unit: &'static str,
}

/// What one link may still be sent.
#[derive(Clone, Debug)]
pub(crate) struct Allowance {
    window: Window,
    granted: Credit,
    assigned: Credit,
    sent: Credit,
    /// 2^32 / window: turns unused credit into a share of the window without a division.
    scale: Credit,
}

impl Allowance {
    /// Nothing granted. A window of 0 counts as 1.
    pub(crate) fn new(window: Window) -> Self {
        let window = Window { events: window.events.max(1), bytes: window.bytes.max(1) };
        let scale = |window: u64| ((1 << 32) / window).max(1);
        Self {
            window,
            granted: Credit::default(),
            assigned: Credit::default(),
            sent: Credit::default(),
            scale: Credit { events: scale(window.events), bytes: scale(window.bytes) },
        }
    }

    /// Raises the limits; a lower one changes nothing.
    ///
    /// The consumer can have processed at most what was sent, so it can grant at most that and its window.
    pub(crate) fn grant(&mut self, credit: Credit) -> Result<(), Excess> {
        let check = |granted: u64, sent: u64, window: u64, unit| {
            let allowed = sent.saturating_add(window);
            if granted > allowed { Err(Excess { granted, allowed, unit }) } else { Ok(()) }
        };
        check(credit.events, self.sent.events, self.window.events, "events")?;
        check(credit.bytes, self.sent.bytes, self.window.bytes, "bytes")?;
        self.granted.events = self.granted.events.max(credit.events);
        self.granted.bytes = self.granted.bytes.max(credit.bytes);
        Ok(())
    }

    /// At least one event and any byte of credit is left.
    pub(crate) fn can_take(&self) -> bool {
        self.assigned.events < self.granted.events && self.assigned.bytes < self.granted.bytes
    }

    /// Uses credit for one event; the caller has asked [`Self::can_take`].
    pub(crate) fn take(&mut self, size: u64) {
        debug_assert!(self.can_take(), "credit is asked for before it is taken");
        self.assigned.events += 1;
        self.assigned.bytes += size;
    }

    /// An event that was taken for is not sent after all.
    pub(crate) fn give_back(&mut self, size: u64) {
        debug_assert!(self.assigned.events > self.sent.events, "only what is not sent can be given back");
        self.assigned.events -= 1;
        self.assigned.bytes -= size;
    }

    /// An event that was taken for goes out. Its delivery number.
    pub(crate) fn hand_out(&mut self, size: u64) -> u64 {
        debug_assert!(self.assigned.events > self.sent.events, "taken before it is sent");
        self.sent.events += 1;
        self.sent.bytes += size;
        self.sent.events
    }

    /// Events that may still be taken for; 0 when no byte is left.
    pub(crate) fn unused(&self) -> u64 {
        if self.assigned.bytes < self.granted.bytes { self.granted.events - self.assigned.events } else { 0 }
    }

    /// Unused share of the window, in events or bytes, whichever is smaller: 0 to 2^32.
    pub(crate) fn share(&self) -> u64 {
        let events = (self.granted.events - self.assigned.events).saturating_mul(self.scale.events);
        let bytes = self.granted.bytes.saturating_sub(self.assigned.bytes).saturating_mul(self.scale.bytes);
        events.min(bytes)
    }

    /// What it was made with.
    pub(crate) fn window(&self) -> Window {
        self.window
    }

    /// Number of the last delivery sent.
    pub(crate) fn last_sent(&self) -> u64 {
        self.sent.events
    }

    /// Limits, assigned and sent: for checks.
    pub(crate) fn totals(&self) -> [Credit; 3] {
        [self.granted, self.assigned, self.sent]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowance(events: u64, bytes: u64) -> Allowance {
        let mut allowance = Allowance::new(Window { events, bytes });
        allowance.grant(Credit { events, bytes }).unwrap();
        allowance
    }

    #[test]
    fn nothing_can_be_taken_before_a_grant() {
        let allowance = Allowance::new(Window { events: 10, bytes: 10 });
        assert!(!allowance.can_take());
        assert_eq!((allowance.unused(), allowance.share()), (0, 0));
    }

    #[test]
    fn the_last_event_may_overshoot_the_bytes_by_itself_alone() {
        let mut allowance = allowance(10, 100);
        allowance.take(99);
        assert!(allowance.can_take());
        allowance.take(1_000);
        assert!(!allowance.can_take());
        assert_eq!((allowance.unused(), allowance.share()), (0, 0));
    }

    #[test]
    fn a_repeated_or_lower_limit_changes_nothing() {
        let mut allowance = allowance(10, 100);
        allowance.take(10);
        allowance.grant(Credit { events: 10, bytes: 100 }).unwrap();
        allowance.grant(Credit { events: 0, bytes: 0 }).unwrap();
        assert_eq!(allowance.unused(), 9);
    }

    #[test]
    fn credit_given_back_can_be_taken_again() {
        let mut allowance = allowance(1, 100);
        allowance.take(100);
        assert!(!allowance.can_take());
        allowance.give_back(100);
        assert!(allowance.can_take());
        assert_eq!(allowance.unused(), 1);
    }

    #[test]
    fn a_grant_of_more_than_the_window_beyond_what_was_sent_is_an_excess() {
        let mut allowance = allowance(10, 100);
        assert!(allowance.grant(Credit { events: 11, bytes: 100 }).is_err());
        assert!(allowance.grant(Credit { events: 10, bytes: 101 }).is_err());
        assert!(allowance.grant(Credit { events: u64::MAX, bytes: u64::MAX }).is_err());
        allowance.take(5);
        assert!(allowance.grant(Credit { events: 11, bytes: 100 }).is_err(), "assigned is not sent");
        assert_eq!(allowance.hand_out(5), 1);
        allowance.grant(Credit { events: 11, bytes: 105 }).unwrap();
        assert_eq!(allowance.unused(), 10);
    }

    #[test]
    fn the_share_is_relative_to_the_window() {
        let mut small = allowance(10, 1_000);
        let mut large = allowance(1_000, 100_000);
        assert!(small.share().abs_diff(large.share()) < 1 << 20, "both unused");
        large.take(1);
        small.take(1);
        assert!(small.share() < large.share(), "one event is more of the small window");
    }

    #[test]
    fn a_huge_window_does_not_overflow() {
        let mut allowance = allowance(u64::MAX, u64::MAX);
        allowance.take(u64::MAX / 2);
        allowance.hand_out(u64::MAX / 2);
        allowance.grant(Credit { events: u64::MAX, bytes: u64::MAX }).unwrap();
        assert!(allowance.share() > 0);
    }
}
