//! HTTP and WebSocket sources: events from outside, checked, keyed, offered to the stage, answered.

mod answer;
mod config;
mod draft;
mod edge;
mod headers;
mod names;
mod pieces;
mod problem;
mod reading;
mod serve;
mod source;
mod tokens;
mod webhook;
mod websocket;

pub use config::{AcknowledgeWhen, Config, ConfigError, CorsConfig, HttpConfig, LimitsConfig, WebSocketConfig, WebhookConfig};
pub use source::{BindError, HttpSource};
