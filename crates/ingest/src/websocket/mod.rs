//! The WebSocket endpoint: one event a text message.
//!
//! # Subprotocols
//!
//! **None.** Each message is an event: a CloudEvent in JSON if it is an object with `specversion`, else plain JSON.
//! The server sends nothing. While the stage has no room, or `in_flight_max` events have no outcome, it does not read;
//! after `hold_max` of that it closes with 1013.
//!
//! **`cloudevents.json`.** The same, but every message must be a CloudEvent in JSON.
//!
//! **`jaiminho.v1`.** Every message, both ways, is one JSON object.
//!
//! - Server: `{"credit":N}`, first of all and as outcomes come in. The client may send events up to number N, counted
//!   from 1 since the socket opened. It only grows. One event more than that closes the socket with 1002.
//! - Client: `{"event":VALUE}` or `{"n":N,"event":VALUE}`. Events are numbered 1, 2, 3 … in the order they are sent; `n`, where
//!   given, must be that number (else 1002). VALUE is as without a subprotocol. No other member is allowed (1007).
//! - Server: `{"ack":{"n":N,"status":S}}` once for each event, in the order of their outcomes. S is `published`
//!   (`accepted` under `acknowledge: accepted`), `rejected` (with `reason`, and `stored`: whether a dead letter is safe), or
//!   `unknown` (the stage went away: sending the event again is safe). An id that the server assigned stands in `id`. A VALUE
//!   that is no event, or too large, is `rejected`; the socket stays open.
//!
//! # Close codes
//!
//! 1001 the instance drains, or the client was silent (not even a pong) for `idle_timeout` · 1002 number or credit not kept ·
//! 1003 a binary message · 1007 not an event, not JSON, not UTF-8 · 1009 a message over `limits.event_bytes` · 1013
//! held back for longer than `hold_max`, try again later.

mod frames;
mod session;

use std::sync::Arc;

use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};

use crate::edge::Edge;
use crate::headers;
use crate::problem::Problem;
use crate::reading::busy;
#[cfg(test)]
pub(crate) use frames::EventFrame;
use session::Session;

const CLOUDEVENTS: &str = "cloudevents.json";
const ACKNOWLEDGED: &str = "jaiminho.v1";


const BUFFER_BYTES: usize = 16 << 10;

/// What was negotiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Plain,
    CloudEvents,
    Acknowledged,
}

/// `GET`: becomes a WebSocket.
pub(crate) async fn upgrade(
    State(edge): State<Arc<Edge>>,
    uri: Uri,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    accept(edge, &uri, &headers, upgrade).unwrap_or_else(IntoResponse::into_response)
}

fn accept(
    edge: Arc<Edge>,
    uri: &Uri,
    headers: &HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    edge.check_token(headers, uri)?;
    let upgrade = upgrade.map_err(|rejection| {
        Problem::new(StatusCode::UPGRADE_REQUIRED, "not-a-websocket", rejection.body_text()).header(header::UPGRADE, "websocket")
    })?;
    let asked = upgrade.requested_protocols().count();
    let upgrade = upgrade.protocols([ACKNOWLEDGED, CLOUDEVENTS]);
    let mode = match upgrade.selected_protocol().map(HeaderValue::as_bytes) {
        Some(protocol) if protocol == ACKNOWLEDGED.as_bytes() => Mode::Acknowledged,
        Some(_) => Mode::CloudEvents,
        None if asked == 0 => Mode::Plain,
        None => {
            let detail = format!("no subprotocol in common; {ACKNOWLEDGED} and {CLOUDEVENTS} are known, or none");
            return Err(Problem::new(StatusCode::BAD_REQUEST, "subprotocol", detail));
        }
    };
    let common = headers::common(headers, &edge.allowed)?;
    let Ok(permit) = Arc::clone(&edge.sockets).try_acquire_owned() else {
        return Err(busy("too many WebSockets at once"));
    };
    let in_flight = edge.in_flight.token();
    let message_bytes_max = usize::try_from(edge.config.limits.message_bytes()).unwrap_or(usize::MAX);
    let upgrade = upgrade
        .max_message_size(message_bytes_max)
        .max_frame_size(message_bytes_max)
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_write_buffer_size(4 * BUFFER_BYTES);
    Ok(upgrade.on_upgrade(move |socket| async move {
        let _held = (permit, in_flight);
        Session::new(edge, mode, common, socket).run().await;
    }))
}
