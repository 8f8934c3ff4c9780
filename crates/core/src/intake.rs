//! The consumer's side of one link: numbering, credit, dispositions.

use crate::message::{Credit, Delivery, Disposition, LinkError, Settled, Window};

/// The consumer's side of one link.
#[derive(Debug)]
pub struct Intake {}

#[expect(unused_variables, clippy::todo)]
impl Intake {
    /// A new link, nothing granted yet: the first [`Self::next_credit`] grants the window.
    pub fn new(window: Window, min_demand: u64) -> Self {
        todo!()
    }

    /// Checks a frame's numbering and credit. On an error nothing of it is taken, and the link must end.
    pub fn received(&mut self, deliveries: &[Delivery]) -> Result<(), LinkError> {
        todo!()
    }

    /// Events have been processed: their credit may come back.
    pub fn processed(&mut self, events: u64, bytes: u64) {
        todo!()
    }

    /// A new grant, when it is due: at first, and when `max − min` events or half the bytes have been processed since the last.
    pub fn next_credit(&mut self) -> Option<Credit> {
        todo!()
    }

    /// What was granted last: repeated as the heartbeat.
    pub fn credit(&self) -> Credit {
        todo!()
    }

    /// Settles a delivery; only the first time counts. False: it was settled before, or never received.
    pub fn settle(&mut self, number: u64, state: Settled) -> bool {
        todo!()
    }

    /// What was settled since the last call, as coalesced ranges in ascending order.
    pub fn take_dispositions(&mut self) -> Vec<Disposition> {
        todo!()
    }

    /// Number of the last delivery received; 0: none.
    pub fn received_max(&self) -> u64 {
        todo!()
    }

    /// Whether everything received is settled.
    pub fn is_settled(&self) -> bool {
        todo!()
    }

    /// Deliveries received and not settled.
    pub fn unsettled(&self) -> u64 {
        todo!()
    }
}
