//! The edge over real connections, with a scripted desk in place of the stage.

mod http;
mod support;
mod websocket;
