//! Of the HTTP and WebSocket sources.

use crate::metric::metrics;

metrics! {
    /// Requests answered, by HTTP status.
    REQUESTS: Counter, "jaiminho_ingest_requests_total", Of("request"), ["status"];
    /// Time from a request's head to its answer.
    REQUEST_SECONDS: Histogram(SECONDS), "jaiminho_ingest_request_duration_seconds", Seconds, [];
    /// Events offered to the stage, by `transport`: `http` or `websocket`.
    EVENTS: Counter, "jaiminho_ingest_events_total", Of("event"), ["transport"];
    /// Events in each HTTP body that was read.
    BODY_EVENTS: Histogram(BATCH), "jaiminho_ingest_body_events", Of("event"), [];
    /// Size of each HTTP body that was read, expanded.
    BODY_BYTES: Histogram(BYTES), "jaiminho_ingest_body_bytes", Bytes, [];
    /// Rejected events of plain WebSocket clients, which nobody was told.
    UNTOLD_REJECTIONS: Counter, "jaiminho_ingest_untold_rejections_total", Of("event"), [];
    /// HTTP connections open now.
    CONNECTIONS: Gauge, "jaiminho_ingest_connections", Of("connection"), [];
    /// WebSockets open now.
    SOCKETS: Gauge, "jaiminho_ingest_websockets", Of("WebSocket"), [];
    /// WebSockets closed, by close code.
    SOCKETS_CLOSED: Counter, "jaiminho_ingest_websockets_closed_total", Of("WebSocket"), ["code"];
}
