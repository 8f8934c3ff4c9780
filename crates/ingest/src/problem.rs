//! Why a request was not taken, as RFC 9457 problem details. Nothing of a request that ends in a problem was taken.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;

/// Place in a body (after decompression).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Position {
    /// From 1.
    pub(crate) line: usize,
    /// From 1, in bytes.
    pub(crate) column: usize,
    /// From 0.
    pub(crate) byte: usize,
}

impl Position {
    /// Where `byte` is in `body`.
    pub(crate) fn of(body: &[u8], byte: usize) -> Self {
        let byte = byte.min(body.len());
        let before = &body[..byte];
        let line_start = memchr::memrchr(b'\n', before).map_or(0, |at| at + 1);
        Self { line: memchr::memchr_iter(b'\n', before).count() + 1, column: byte - line_start + 1, byte }
    }
}

/// A request's problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    /// Last part of `type`: what a program tells problems apart by.
    pub(crate) kind: &'static str,
    pub(crate) detail: String,
    /// The event concerned, from 0.
    pub(crate) index: Option<usize>,
    pub(crate) position: Option<Box<Position>>,
    pub(crate) retry_after: Option<Duration>,
    /// In lower case: `allow` of a 405, or `accept-encoding` and `accept-post` of a 415.
    pub(crate) header: Option<(&'static str, &'static str)>,
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<Position>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Self {
        Self { status, kind, detail: detail.into(), index: None, position: None, retry_after: None, header: None }
    }

    pub(crate) fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.header = Some((name, value));
        self
    }

    /// The stage leaves: another instance will take it.
    pub(crate) fn draining() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "draining", "this instance is leaving; nothing was taken")
            .retry_after(soon())
    }
}

/// Whole seconds, rounded up, 1 to 15.
pub(crate) fn retry_after_value(wait: Duration) -> HeaderValue {
    let seconds = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0));
    HeaderValue::from(seconds.clamp(1, 15))
}

/// Where nothing says how long it takes: 1 to 3 s, so that those who are refused together don't come back together.
pub(crate) fn soon() -> Duration {
    Duration::from_secs(rand::random_range(1..=3))
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = Body {
            r#type: format!("urn:jaiminho:problem:{}", self.kind),
            title: self.status.canonical_reason().unwrap_or("Problem"),
            status: self.status.as_u16(),
            detail: &self.detail,
            index: self.index,
            position: self.position.as_deref().copied(),
        };
        // Strings and numbers always serialize.
        let text = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = (self.status, [(header::CONTENT_TYPE, "application/problem+json")], text).into_response();
        let headers = response.headers_mut();
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, retry_after_value(wait));
        }
        if let Some((name, value)) = self.header {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_counts_lines_and_columns_from_one() {
        assert_eq!(Position::of(b"ab\ncd", 4), Position { line: 2, column: 2, byte: 4 });
        assert_eq!(Position::of(b"", 9), Position { line: 1, column: 1, byte: 0 });
        assert_eq!(Position::of(b"a\n", 2), Position { line: 2, column: 1, byte: 2 });
    }

    #[test]
    fn retry_after_is_rounded_up() {
        assert_eq!(retry_after_value(Duration::from_millis(1_200)), HeaderValue::from(2));
        assert_eq!(retry_after_value(Duration::ZERO), HeaderValue::from(1));
        assert_eq!(retry_after_value(Duration::MAX), HeaderValue::from(15));
    }
}
