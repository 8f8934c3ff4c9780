//! The consumer's side of one link: numbering, credit, dispositions. No events: those go on to the stage.
//!
//! ```text
//!   received --> unsettled --settle--> settled --take_dispositions--> told
//!       \
//!        +--processed--> credit comes back with the next grant
//! ```
//!
//! Credit and settlement are independent: an event that is held back is processed long before it is settled.

use std::collections::VecDeque;

use crate::message::{Credit, Delivery, Disposition, LinkError, Settled, Window};

/// The consumer's side of one link.
#[derive(Debug)]
pub struct Intake {
    window: Window,
    /// Events, bytes processed since the last grant that make the next one due.
    due: Credit,
    granted: Credit,
    received: Credit,
    /// Never above `received`.
    processed: Credit,
    /// `processed` at the last grant.
    at_grant: Credit,
    is_granted: bool,
    /// What was asked for by hand, cumulative; none: credit comes back by itself.
    asked: Option<u64>,
    /// Whether each delivery is settled, from the oldest unsettled one on.
    settled: VecDeque<bool>,
    /// Number before that of the first in `settled`.
    settled_to: u64,
    unsettled: u64,
    /// Settled and not told, neighbours joined where they came in order.
    dispositions: Vec<Disposition>,
}

impl Credit {
    /// Counts a delivery that came in. One event and any byte of what was `granted` must be left: it may overshoot the bytes.
    ///
    /// # Errors
    /// A violation when they are not; then nothing is counted.
    pub fn take(&mut self, delivery: &Delivery, granted: Self) -> Result<(), LinkError> {
        let Self { events, bytes } = granted;
        if self.events >= events || self.bytes >= bytes {
            let what = format!("delivery {} is beyond the credit of {events} events, {bytes} bytes", delivery.number);
            return Err(LinkError::Violation(what));
        }
        self.events += 1;
        self.bytes = self.bytes.saturating_add(delivery.event.size());
        Ok(())
    }
}

impl Intake {
    /// A new link, nothing granted yet: the first [`Self::next_credit`] grants the window. `min_demand` is that of GenStage:
    /// how much of the window is left when more is asked for; at most the window less one counts.
    pub fn new(window: Window, min_demand: u64) -> Self {
        let due = Credit { events: window.events.saturating_sub(min_demand).max(1), bytes: (window.bytes / 2).max(1) };
        Self {
            window,
            due,
            granted: Credit::default(),
            received: Credit::default(),
            processed: Credit::default(),
            at_grant: Credit::default(),
            is_granted: false,
            asked: None,
            settled: VecDeque::new(),
            settled_to: 0,
            unsettled: 0,
            dispositions: Vec::new(),
        }
    }

    /// A new link on which events are asked for by hand: see [`Self::ask`].
    pub fn manual(window: Window) -> Self {
        Self { asked: Some(0), ..Self::new(window, 0) }
    }

    /// Asks for more events by hand. At most the window is granted at once, the rest as events are processed.
    pub fn ask(&mut self, events: u64) {
        if let Some(asked) = &mut self.asked {
            *asked = asked.saturating_add(events);
        }
    }

    /// Checks a frame's numbering and credit.
    ///
    /// # Errors
    /// A violation for a gap, a repeat, or more than was granted. Then nothing of the frame is taken, and the link must end.
    pub fn received(&mut self, deliveries: &[Delivery]) -> Result<(), LinkError> {
        let mut received = self.received;
        for delivery in deliveries {
            if delivery.number != received.events + 1 {
                return Err(LinkError::Violation(format!("delivery {} after {}", delivery.number, received.events)));
            }
            received.take(delivery, self.granted)?;
        }
        self.received = received;
        self.settled.resize(self.settled.len() + deliveries.len(), false);
        self.unsettled += deliveries.len() as u64;
        Ok(())
    }

    /// Events have been processed: their credit may come back. More than were received counts as all.
    pub fn processed(&mut self, events: u64, bytes: u64) {
        self.processed.events = self.processed.events.saturating_add(events).min(self.received.events);
        self.processed.bytes = self.processed.bytes.saturating_add(bytes).min(self.received.bytes);
    }

    /// A new grant, when it is due: at first, and when `max_demand − min_demand` events or half the window's bytes have been
    /// processed since the last one.
    pub fn next_credit(&mut self) -> Option<Credit> {
        let events = self.processed.events - self.at_grant.events;
        let bytes = self.processed.bytes - self.at_grant.bytes;
        let most = self.processed.events.saturating_add(self.window.events);
        let (is_due, up_to) = match self.asked {
            None => (!self.is_granted || events >= self.due.events, most),
            Some(asked) => (asked.min(most) > self.granted.events, asked.min(most)),
        };
        if !is_due && bytes < self.due.bytes {
            return None;
        }
        self.is_granted = true;
        self.at_grant = self.processed;
        let bytes = self.processed.bytes.saturating_add(self.window.bytes);
        self.granted = Credit { events: up_to.max(self.granted.events), bytes };
        Some(self.granted)
    }

    /// What was granted last: repeated as the heartbeat.
    pub fn credit(&self) -> Credit {
        self.granted
    }

    /// Settles a delivery; only the first time counts. False: it was settled before, or never received.
    pub fn settle(&mut self, number: u64, state: Settled) -> bool {
        let index = number.checked_sub(self.settled_to + 1).and_then(|index| usize::try_from(index).ok());
        let Some(settled) = index.and_then(|index| self.settled.get_mut(index)).filter(|settled| !**settled) else {
            return false;
        };
        *settled = true;
        self.unsettled -= 1;
        while self.settled.front() == Some(&true) {
            self.settled.pop_front();
            self.settled_to += 1;
        }
        match self.dispositions.last_mut() {
            Some(last) if last.last + 1 == number && last.state == state => last.last = number,
            Some(_) | None => self.dispositions.push(Disposition { first: number, last: number, state }),
        }
        true
    }

    /// What was settled since the last call, as coalesced ranges in ascending order.
    pub fn take_dispositions(&mut self) -> Vec<Disposition> {
        let mut taken = std::mem::take(&mut self.dispositions);
        if taken.len() > 1 {
            taken.sort_unstable_by_key(|disposition| disposition.first);
            taken.dedup_by(|next, before| {
                let joins = before.last + 1 == next.first && before.state == next.state;
                if joins {
                    before.last = next.last;
                }
                joins
            });
        }
        taken
    }

    /// Whether all that was granted has come: nothing more may.
    pub fn is_used_up(&self) -> bool {
        self.received.events >= self.granted.events || self.received.bytes >= self.granted.bytes
    }

    /// What was granted, received and processed since the link opened.
    pub fn totals(&self) -> [Credit; 3] {
        [self.granted, self.received, self.processed]
    }

    /// Number of the last delivery received; 0: none.
    pub fn received_max(&self) -> u64 {
        self.received.events
    }

    /// Whether everything received is settled.
    pub fn is_settled(&self) -> bool {
        self.unsettled == 0
    }

    /// Deliveries received and not settled.
    pub fn unsettled(&self) -> u64 {
        self.unsettled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use crate::message::{Outcome, Reason, Rejection};

    fn delivery(number: u64, size: usize) -> Delivery {
        let event = Event::new(vec![0; size]);
        Delivery { number, event }
    }

    fn intake(events: u64, bytes: u64) -> Intake {
        let mut intake = Intake::new(Window { events, bytes }, events / 2);
        assert_eq!(intake.next_credit(), Some(Credit { events, bytes }));
        intake
    }

    fn accepted() -> Settled {
        Settled::Outcome(Outcome::Accepted)
    }

    #[test]
    fn a_gap_a_repeat_and_excess_are_violations_and_take_nothing() {
        let mut intake = intake(2, 100);
        for numbers in [&[2][..], &[0], &[1, 3], &[1, 1], &[1, 2, 3]] {
            let frame: Vec<Delivery> = numbers.iter().map(|&number| delivery(number, 1)).collect();
            assert!(matches!(intake.received(&frame), Err(LinkError::Violation(_))), "{numbers:?}");
            assert_eq!((intake.received_max(), intake.unsettled()), (0, 0));
        }
        intake.received(&[delivery(1, 1), delivery(2, 1)]).unwrap();
        assert!(intake.received(&[delivery(2, 1)]).is_err());
    }

    #[test]
    fn the_bytes_may_be_overshot_by_one_event_alone() {
        let mut intake = intake(10, 100);
        intake.received(&[delivery(1, 99), delivery(2, 500)]).unwrap();
        assert!(intake.received(&[delivery(3, 0)]).is_err());
    }

    #[test]
    fn nothing_may_come_before_the_first_grant() {
        let mut intake = Intake::new(Window { events: 10, bytes: 100 }, 5);
        assert!(intake.received(&[delivery(1, 1)]).is_err());
    }

    #[test]
    fn credit_comes_back_when_max_less_min_events_are_processed() {
        let mut intake = intake(10, 1_000);
        intake.received(&(1..=10).map(|number| delivery(number, 1)).collect::<Vec<_>>()).unwrap();
        intake.processed(4, 4);
        assert_eq!(intake.next_credit(), None);
        assert_eq!(intake.credit(), Credit { events: 10, bytes: 1_000 });
        intake.processed(1, 1);
        assert_eq!(intake.next_credit(), Some(Credit { events: 15, bytes: 1_005 }));
        assert_eq!(intake.next_credit(), None);
    }

    #[test]
    fn credit_comes_back_when_half_the_bytes_are_processed() {
        let mut intake = intake(10, 100);
        intake.received(&[delivery(1, 50)]).unwrap();
        intake.processed(1, 50);
        assert_eq!(intake.next_credit(), Some(Credit { events: 11, bytes: 150 }));
    }

    #[test]
    fn a_window_of_one_asks_after_each_event() {
        let mut intake = Intake::new(Window { events: 1, bytes: 1 }, 1);
        assert!(intake.next_credit().is_some());
        intake.received(&[delivery(1, 0)]).unwrap();
        intake.processed(1, 0);
        assert_eq!(intake.next_credit(), Some(Credit { events: 2, bytes: 1 }));
    }

    #[test]
    fn more_processed_than_received_grants_no_more_than_the_window() {
        let mut intake = intake(10, 100);
        intake.received(&[delivery(1, 1)]).unwrap();
        intake.processed(u64::MAX, u64::MAX);
        intake.processed(5, 100);
        assert_eq!(intake.next_credit(), None);
        intake.received(&(2..=6).map(|number| delivery(number, 1)).collect::<Vec<_>>()).unwrap();
        intake.processed(u64::MAX, u64::MAX);
        assert_eq!(intake.next_credit(), Some(Credit { events: 16, bytes: 106 }));
    }

    #[test]
    fn dispositions_come_as_few_ranges_whatever_the_order_of_settling() {
        let mut intake = intake(20, 1_000);
        intake.received(&(1..=10).map(|number| delivery(number, 1)).collect::<Vec<_>>()).unwrap();
        let rejection = Rejection { reason: Reason::Invalid, text: "no".into(), stored: true };
        let rejected = Settled::Outcome(Outcome::Rejected(Box::new(rejection)));
        for number in [9, 1, 3, 2, 5, 4, 10] {
            assert!(intake.settle(number, accepted()));
        }
        assert!(intake.settle(6, rejected.clone()));
        assert!(!intake.settle(9, rejected.clone()), "settled before");
        assert!(!intake.settle(11, accepted()) && !intake.settle(0, accepted()), "never received");
        let range = |first, last, state: &Settled| Disposition { first, last, state: state.clone() };
        let expected = vec![range(1, 5, &accepted()), range(6, 6, &rejected), range(9, 10, &accepted())];
        assert_eq!(intake.take_dispositions(), expected);
        assert_eq!(intake.take_dispositions(), vec![]);
        assert_eq!(intake.unsettled(), 2);
        assert!(intake.settle(8, Settled::Released) && intake.settle(7, accepted()));
        assert!(intake.is_settled());
        assert_eq!(intake.take_dispositions(), vec![range(7, 7, &accepted()), range(8, 8, &Settled::Released)]);
    }
}
