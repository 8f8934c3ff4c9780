//! Names of this crate's metrics and of their labels.

/// Requests answered, by `status`.
pub(crate) const REQUESTS: &str = "jaiminho_ingest_requests_total";
/// Time from a request's head to its answer, in seconds.
pub(crate) const REQUEST_SECONDS: &str = "jaiminho_ingest_request_duration_seconds";
/// Events offered to the stage, by `transport` (`http`, `websocket`).
pub(crate) const EVENTS: &str = "jaiminho_ingest_events_total";
/// Events of plain WebSocket clients that were rejected, which nobody was told.
pub(crate) const UNTOLD_REJECTIONS: &str = "jaiminho_ingest_untold_rejections_total";
/// Connections open now.
pub(crate) const CONNECTIONS: &str = "jaiminho_ingest_connections";
/// WebSockets open now.
pub(crate) const SOCKETS: &str = "jaiminho_ingest_websockets";
/// WebSockets closed, by close `code`.
pub(crate) const SOCKETS_CLOSED: &str = "jaiminho_ingest_websockets_closed_total";
