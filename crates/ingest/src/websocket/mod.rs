//! The WebSocket endpoint: one event a text message. The crate's documentation has its protocols and close codes.

mod frames;
mod session;

use std::sync::Arc;

use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, Uri};

use crate::edge::Edge;
use crate::headers;
use crate::problem::Problem;
use crate::reading::busy;
use crate::traced::traceparent;
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
        Problem::new(StatusCode::UPGRADE_REQUIRED, "not-a-websocket", rejection.body_text())
            .header("upgrade", "websocket")
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
    let handshake = traceparent(headers);
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
        Session::new(edge, mode, common, handshake, socket).run().await;
    }))
}
