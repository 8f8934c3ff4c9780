//! What a producer may still send: checked as it is read, so that nothing waits here that no credit was given for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jaiminho_core::{Credit, LinkError, ToConsumer};

/// The credit that was said last. Written where it leaves, read where events come in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Granted(Arc<(AtomicU64, AtomicU64)>);

impl Granted {
    /// Before the credit is handed to the transport: no answer to it comes earlier. A lower one changes nothing.
    pub(crate) fn raise(&self, credit: Credit) {
        let (events, bytes) = &*self.0;
        events.fetch_max(credit.events, Ordering::Release);
        bytes.fetch_max(credit.bytes, Ordering::Release);
    }

    fn now(&self) -> Credit {
        let (events, bytes) = &*self.0;
        Credit { events: events.load(Ordering::Acquire), bytes: bytes.load(Ordering::Acquire) }
    }
}

/// What of the credit is used. Numbering is the core's to check.
#[derive(Debug)]
pub(crate) struct CreditCheck {
    granted: Granted,
    used: Credit,
}

impl CreditCheck {
    pub(crate) fn of(granted: Granted) -> Self {
        Self { granted, used: Credit::default() }
    }

    /// The message, unless one of its events is beyond the credit.
    ///
    /// # Errors
    /// A violation. The link ends with it.
    pub(crate) fn check(&mut self, message: ToConsumer) -> Result<ToConsumer, LinkError> {
        let ToConsumer::Events { deliveries, .. } = &message else { return Ok(message) };
        let granted = self.granted.now();
        deliveries.iter().try_for_each(|delivery| self.used.take(delivery, granted))?;
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use jaiminho_core::{Delivery, Event};

    use super::*;

    fn events(count: u64, bytes: usize) -> ToConsumer {
        let event = Event::new(vec![0; bytes]);
        let deliveries = (1..=count).map(|number| Delivery { number, event: event.clone() }).collect();
        ToConsumer::Events { deliveries, backlog: 0, pressure: false }
    }

    #[test]
    fn only_the_last_event_may_overshoot_the_bytes() {
        let granted = Granted::default();
        let mut check = CreditCheck::of(granted.clone());
        assert!(check.check(events(0, 0)).is_ok(), "a heartbeat needs no credit");
        granted.raise(Credit { events: 9, bytes: 21 });
        granted.raise(Credit { events: 1, bytes: 1 });
        assert!(check.check(events(3, 10)).is_ok());
        assert!(check.check(events(1, 10)).is_err());
    }

    #[test]
    fn an_event_beyond_the_count_is_a_violation() {
        let granted = Granted::default();
        granted.raise(Credit { events: 2, bytes: u64::MAX });
        let error = CreditCheck::of(granted).check(events(3, 1)).unwrap_err();
        let what = format!("delivery 3 is beyond the credit of 2 events, {} bytes", u64::MAX);
        assert_eq!(error, LinkError::Violation(what));
    }
}
