//! Of the HTTP and WebSocket sources.

/// Requests answered. Label `status`.
pub const REQUESTS: &str = "jaiminho_ingest_requests_total";
/// Time from a request's head to its answer, in seconds.
pub const REQUEST_SECONDS: &str = "jaiminho_ingest_request_duration_seconds";
/// Events offered to the stage. Label `transport` (`http`, `websocket`).
pub const EVENTS: &str = "jaiminho_ingest_events_total";
/// Events of plain WebSocket clients that were rejected, which nobody was told.
pub const UNTOLD_REJECTIONS: &str = "jaiminho_ingest_untold_rejections_total";
/// Connections open now.
pub const CONNECTIONS: &str = "jaiminho_ingest_connections";
/// WebSockets open now.
pub const SOCKETS: &str = "jaiminho_ingest_websockets";
/// WebSockets closed. Label `code`.
pub const SOCKETS_CLOSED: &str = "jaiminho_ingest_websockets_closed_total";

/// Gives each its help text.
pub(super) fn describe() {
    metrics::describe_counter!(REQUESTS, "Requests answered, by status");
    metrics::describe_histogram!(REQUEST_SECONDS, "Time from a request's head to its answer");
    metrics::describe_counter!(EVENTS, "Events offered to the stage");
    metrics::describe_counter!(UNTOLD_REJECTIONS, "Rejected events of plain WebSocket clients, which nobody was told");
    metrics::describe_gauge!(CONNECTIONS, "Connections open now");
    metrics::describe_gauge!(SOCKETS, "WebSockets open now");
    metrics::describe_counter!(SOCKETS_CLOSED, "WebSockets closed, by close code");
}
