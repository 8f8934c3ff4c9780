//! The edge over real connections, with a scripted desk in place of the stage.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that meets what it did not expect has failed"
)]

mod exact;
mod http;
mod support;
mod traces;
mod websocket;
