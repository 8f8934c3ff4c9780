//! HTTP and WebSocket sources: events from outside, checked, keyed, offered to the stage, answered.
//!
//! # HTTP
//!
//! `POST` to `http.path`: one JSON value or an array of them (`application/json`, `+json`), NDJSON (`application/x-ndjson`),
//! CloudEvents structured, batched, or in binary mode; `Content-Encoding` gzip or zstd. A body is taken whole or not at all.
//! Outcomes have one body, `{"status","count","events":[{"index","id","status","reason","stored"}]}`, which lists what is not
//! published and every id that the server assigned. All else is an RFC 9457 problem, and nothing was taken.
//!
//! The key of an event (its `partitionkey`) is the stage's `key` template's; where that misses a field, the event's own
//! `partitionkey`, else its `subject`, else none.
//!
//! # WebSocket: subprotocols
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

mod answer;
mod config;
mod draft;
mod edge;
mod headers;
#[cfg(test)]
mod memory_tests;
mod meters;
mod pieces;
mod problem;
mod reading;
mod serve;
mod source;
mod tokens;
mod traced;
mod webhook;
mod websocket;

pub use config::{
    AcknowledgeWhen, Config, ConfigError, CorsConfig, HttpConfig, LimitsConfig, WebSocketConfig, WebhookConfig,
};
pub use source::{BindError, HttpSource};
