//! Events as NDJSON, one CloudEvent in its JSON format a line.

use jaiminho_core::{Event, Outcome, Reason, Rejection};
use jaiminho_event::CloudEvent;
use jaiminho_runtime::Receipt;

/// The lines of a batch, and what its events become once they are written.
pub(crate) struct Lines {
    pub(crate) text: Vec<u8>,
    pub(crate) outcomes: Vec<(Receipt, Outcome)>,
}

impl Lines {
    /// Takes all of `events`; one that is no CloudEvent has no line, and is rejected.
    pub(crate) fn take(events: &mut Vec<(Receipt, Event)>) -> Self {
        let mut lines = Self { text: Vec::new(), outcomes: Vec::with_capacity(events.len()) };
        for (receipt, event) in events.drain(..) {
            let outcome = match CloudEvent::decode(&event.payload) {
                Ok(event) => {
                    lines.text.extend(event.to_json_bytes());
                    lines.text.push(b'\n');
                    Outcome::Accepted
                }
                Err(error) => Outcome::Rejected(Box::new(Rejection {
                    reason: Reason::Malformed,
                    text: error.to_string(),
                    stored: false,
                })),
            };
            lines.outcomes.push((receipt, outcome));
        }
        lines
    }
}
