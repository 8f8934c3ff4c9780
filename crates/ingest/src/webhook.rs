//! CloudEvents' web-hook handshake: a sender asks with `OPTIONS` whether it may deliver here.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use crate::config::WebhookConfig;
use crate::edge::Edge;
use crate::problem::Problem;

const REQUEST_ORIGIN: &str = "webhook-request-origin";
const REQUEST_RATE: &str = "webhook-request-rate";
const ALLOWED_ORIGIN: HeaderName = HeaderName::from_static("webhook-allowed-origin");
const ALLOWED_RATE: HeaderName = HeaderName::from_static("webhook-allowed-rate");

/// Answers handshakes for the HTTP path; all else goes on (to CORS, among others, whose preflight is an `OPTIONS` too).
pub(crate) async fn handshake(State(edge): State<Arc<Edge>>, request: Request, next: Next) -> Response {
    let path = edge.config.http.as_ref().map(|http| http.path.as_str());
    if request.method() != Method::OPTIONS || Some(request.uri().path()) != path {
        return next.run(request).await;
    }
    match request.headers().get(REQUEST_ORIGIN).cloned() {
        None => next.run(request).await,
        Some(origin) => answer(&edge.config.webhook, &origin, request.headers()),
    }
}

fn answer(config: &WebhookConfig, origin: &HeaderValue, headers: &HeaderMap) -> Response {
    let allowed = config
        .origins
        .iter()
        .any(|allowed| allowed == "*" || allowed.as_bytes().eq_ignore_ascii_case(origin.as_bytes()));
    if !allowed {
        let detail = "this origin may not deliver here";
        return Problem::new(StatusCode::FORBIDDEN, "origin", detail).header("allow", "POST, OPTIONS").into_response();
    }
    let mut response = StatusCode::OK.into_response();
    let answered = response.headers_mut();
    answered.insert(header::ALLOW, HeaderValue::from_static("POST, OPTIONS"));
    answered.insert(ALLOWED_ORIGIN, origin.clone());
    let asked = headers
        .get(REQUEST_RATE)
        .and_then(|rate| rate.to_str().ok()?.trim().parse::<u32>().ok())
        .filter(|rate| *rate > 0);
    let rate = match (config.rate, asked) {
        (Some(limit), Some(asked)) => Some(limit.min(asked)),
        (limit, asked) => limit.or(asked),
    };
    answered.insert(ALLOWED_RATE, rate.map_or(HeaderValue::from_static("*"), HeaderValue::from));
    response
}
