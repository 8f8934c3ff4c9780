//! A WebSocket client of the edge.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use tokio_tungstenite::tungstenite::{Message, protocol::CloseFrame};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

const PATIENCE: Duration = Duration::from_secs(10);

/// One connection.
#[derive(Debug)]
pub struct WebSocket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    sent: u64,
    limit: u64,
    protocol: Option<String>,
}

/// What the edge says over `jaiminho.v1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// More may be sent.
    Credit,
    /// One is published.
    Published(u64),
    /// One is not, and never will be; why.
    Rejected(u64, String),
}

impl WebSocket {
    /// Opens `ws://127.0.0.1:PORT/ws`.
    pub async fn connect(port: u16, protocol: Option<&str>) -> Result<Self, String> {
        let mut request = format!("ws://127.0.0.1:{port}/ws").into_client_request().expect("address");
        if let Some(protocol) = protocol {
            request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, protocol.parse().expect("protocol"));
        }
        let connected = timeout(PATIENCE, connect_async(request)).await.map_err(|_| "no handshake")?;
        let (stream, response) = connected.map_err(|error| error.to_string())?;
        let protocol = response.headers().get(SEC_WEBSOCKET_PROTOCOL);
        let protocol = protocol.and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok(Self { stream, sent: 0, limit: 0, protocol })
    }

    /// The subprotocol that the edge chose.
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// How many may be sent before the edge says more.
    pub fn credit(&self) -> u64 {
        self.limit.saturating_sub(self.sent)
    }

    /// Sends one event over `jaiminho.v1`, and gives its number on this connection.
    pub async fn send(&mut self, event: &Value) -> Result<u64, String> {
        self.send_text(&json!({ "event": event }).to_string()).await?;
        self.sent += 1;
        Ok(self.sent)
    }

    /// Sends a message as it is.
    pub async fn send_text(&mut self, text: &str) -> Result<(), String> {
        let sending = self.stream.send(Message::text(text));
        timeout(PATIENCE, sending).await.map_err(|_| "not taken")?.map_err(|error| error.to_string())
    }

    /// The next text message as JSON; the close frame is an error.
    pub async fn next(&mut self, patience: Duration) -> Result<Value, String> {
        let end = Instant::now() + patience;
        loop {
            let message = timeout_at(end, self.stream.next()).await.map_err(|_| "silence")?;
            match message.ok_or("the connection ended")?.map_err(|error| error.to_string())? {
                Message::Text(text) => return serde_json::from_str(&text).map_err(|error| format!("{error}: {text}")),
                Message::Close(frame) => return Err(format!("closed: {}", frame.map(code).unwrap_or_default())),
                Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }

    /// Closes, and waits for the edge's close frame.
    pub async fn close(mut self) {
        // It may be gone already.
        let _closed = timeout(PATIENCE, self.stream.close(None)).await;
    }
}

impl WebSocket {
    /// What the edge says next over `jaiminho.v1`.
    pub async fn reply(&mut self, patience: Duration) -> Result<Reply, String> {
        let message = self.next(patience).await?;
        if let Some(limit) = message["credit"].as_u64() {
            self.limit = limit;
            return Ok(Reply::Credit);
        }
        let ack = &message["ack"];
        match (ack["n"].as_u64(), ack["status"].as_str()) {
            (Some(number), Some("published")) => Ok(Reply::Published(number)),
            (Some(number), Some("rejected")) => Ok(Reply::Rejected(number, message.to_string())),
            (Some(_), Some("unknown")) => Err("outcome unknown".to_owned()),
            _ => Err(format!("not a message of jaiminho.v1: {message}")),
        }
    }
}

fn code(frame: CloseFrame) -> String {
    format!("{} {}", u16::from(frame.code), frame.reason)
}
