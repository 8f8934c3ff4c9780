//! What a client is told of events that were taken: one body shape for all outcomes.

use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use jaiminho_core::{Outcome, Reason};
use jaiminho_runtime::{Acknowledge, Answer};
use serde::Serialize;

use crate::problem::{retry_after_value, soon};

/// An event's id, and whether we gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EventId {
    pub(crate) text: String,
    pub(crate) assigned: bool,
}

/// What became of one event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct EventOutcome {
    pub(crate) status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// Of a rejected event: whether its dead letter is safe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stored: Option<bool>,
}

/// Status of an event that can't be published as it is.
pub(crate) const REJECTED: &str = "rejected";

impl EventOutcome {
    pub(crate) fn of(acknowledge: Acknowledge, answer: &Answer) -> Self {
        let plain = |status, reason: Option<&str>| Self { status, reason: reason.map(str::to_owned), stored: None };
        match answer {
            Answer::Settled(Outcome::Accepted) => plain(done(acknowledge), None),
            Answer::Settled(Outcome::Rejected(rejection)) => Self {
                status: REJECTED,
                reason: Some(reason_text(rejection.reason, &rejection.text)),
                stored: Some(rejection.stored),
            },
            Answer::Withdrawn => plain("withdrawn", Some("the deadline passed before it was sent on")),
            Answer::Unknown => {
                plain("unknown", Some("the deadline passed while it was under way; sending it again is safe"))
            }
        }
    }
}

/// `REASON: TEXT`, as clients and dead letters see it.
pub(crate) fn reason_text(reason: Reason, text: &str) -> String {
    let name = reason.name();
    if text.is_empty() { name.to_owned() } else { format!("{name}: {text}") }
}

fn done(acknowledge: Acknowledge) -> &'static str {
    match acknowledge {
        Acknowledge::Published => "published",
        Acknowledge::Accepted => "accepted",
    }
}

#[derive(Debug, Serialize)]
struct Listed<'a> {
    index: usize,
    id: &'a str,
    #[serde(flatten)]
    outcome: EventOutcome,
}

#[derive(Debug, Serialize)]
struct Body<'a> {
    status: &'static str,
    count: usize,
    /// Those that are not published, and those whose id we gave.
    events: Vec<Listed<'a>>,
}

/// The status that stands for all answers, and its word.
fn overall(acknowledge: Acknowledge, answers: &[Answer]) -> (StatusCode, &'static str) {
    let (mut accepted, mut rejected, mut withdrawn, mut unknown) = (0, 0, 0, 0);
    for answer in answers {
        match answer {
            Answer::Settled(Outcome::Accepted) => accepted += 1,
            Answer::Settled(Outcome::Rejected(_)) => rejected += 1,
            Answer::Withdrawn => withdrawn += 1,
            Answer::Unknown => unknown += 1,
        }
    }
    match (accepted, rejected, withdrawn, unknown) {
        (0, 0, 1.., 0) => (StatusCode::SERVICE_UNAVAILABLE, "withdrawn"),
        (_, _, 0, 0) if rejected == 0 => match acknowledge {
            Acknowledge::Published => (StatusCode::OK, "published"),
            Acknowledge::Accepted => (StatusCode::ACCEPTED, "accepted"),
        },
        (0, 1.., 0, 0) => (StatusCode::UNPROCESSABLE_ENTITY, "rejected"),
        (_, _, 0, 0) => (StatusCode::MULTI_STATUS, "partial"),
        (_, _, _, _) => (StatusCode::GATEWAY_TIMEOUT, "unknown"),
    }
}

/// The response to a request whose events were taken. `answers` are in the order of `ids`.
pub(crate) fn response(acknowledge: Acknowledge, ids: &[EventId], answers: &[Answer]) -> Response {
    let (status, word) = overall(acknowledge, answers);
    let listed = ids
        .iter()
        .zip(answers)
        .enumerate()
        .filter(|(_, (id, answer))| id.assigned || !matches!(answer, Answer::Settled(Outcome::Accepted)));
    let events = listed
        .map(|(index, (id, answer))| Listed { index, id: &id.text, outcome: EventOutcome::of(acknowledge, answer) })
        .collect();
    let body = Body { status: word, count: ids.len(), events };
    // Strings and numbers always serialize.
    let text = serde_json::to_vec(&body).unwrap_or_default();
    let mut response = (status, [(header::CONTENT_TYPE, "application/json")], text).into_response();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, retry_after_value(soon()));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use jaiminho_core::Rejection;

    fn rejected() -> Answer {
        let rejection = Rejection { reason: Reason::Invalid, text: "no".to_owned(), stored: true };
        Answer::Settled(Outcome::Rejected(Box::new(rejection)))
    }

    #[test]
    fn the_status_follows_the_table() {
        let accepted = || Answer::Settled(Outcome::Accepted);
        for (answers, status) in [
            (vec![], 200),
            (vec![accepted(), accepted()], 200),
            (vec![accepted(), rejected()], 207),
            (vec![rejected(), rejected()], 422),
            (vec![Answer::Withdrawn, Answer::Withdrawn], 503),
            (vec![Answer::Withdrawn, accepted()], 504),
            (vec![Answer::Unknown, accepted()], 504),
            (vec![Answer::Unknown, rejected()], 504),
            (vec![Answer::Unknown, Answer::Withdrawn], 504),
        ] {
            assert_eq!(overall(Acknowledge::Published, &answers).0.as_u16(), status, "{answers:?}");
        }
        assert_eq!(overall(Acknowledge::Accepted, &[accepted()]).0.as_u16(), 202);
    }
}
