//! The edge's metrics: handles that are looked up once, not for each request.

use std::sync::OnceLock;
use std::time::Duration;

use http::StatusCode;
use jaiminho_telemetry::names::ingest as names;
use metrics::{Counter, Histogram, counter, histogram};

/// HTTP's statuses begin here, and are fewer than so many.
const STATUSES: (u16, usize) = (100, 900);

/// See the module.
#[derive(Debug)]
pub(crate) struct Meters {
    /// By status; one that was never answered is not told.
    statuses: Vec<OnceLock<Counter>>,
    request_seconds: Histogram,
    http_events: Counter,
    body_events: Histogram,
    body_bytes: Histogram,
    pub(crate) websocket_events: Counter,
}

impl Default for Meters {
    fn default() -> Self {
        Self {
            statuses: std::iter::repeat_with(OnceLock::new).take(STATUSES.1).collect(),
            request_seconds: histogram!(names::REQUEST_SECONDS),
            http_events: counter!(names::EVENTS, "transport" => "http"),
            body_events: histogram!(names::BODY_EVENTS),
            body_bytes: histogram!(names::BODY_BYTES),
            websocket_events: counter!(names::EVENTS, "transport" => "websocket"),
        }
    }
}

impl Meters {
    /// A request has its answer.
    pub(crate) fn answered(&self, status: StatusCode, time: Duration) {
        let code = status.as_u16();
        if let Some(counter) = self.statuses.get(usize::from(code.saturating_sub(STATUSES.0))) {
            counter.get_or_init(|| counter!(names::REQUESTS, "status" => code.to_string())).increment(1);
        }
        self.request_seconds.record(time.as_secs_f64());
    }

    /// A body was read, and its events are offered.
    pub(crate) fn offered(&self, events: usize, bytes: usize) {
        self.http_events.increment(events as u64);
        self.body_events.record(events as f64);
        self.body_bytes.record(bytes as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_is_counted_on_its_own() {
        let metrics = jaiminho_telemetry::Metrics::default();
        metrics::with_local_recorder(&metrics, || {
            let meters = Meters::default();
            for status in [200, 200, 429, 999] {
                meters.answered(StatusCode::from_u16(status).unwrap(), Duration::from_millis(3));
            }
            meters.offered(7, 1_000);
            meters.offered(2, 100);
        });
        let text = metrics.render();
        for sample in [
            "jaiminho_ingest_requests_total{status=\"200\"} 2",
            "jaiminho_ingest_requests_total{status=\"429\"} 1",
            "jaiminho_ingest_requests_total{status=\"999\"} 1",
            "jaiminho_ingest_request_duration_seconds_count 4",
            "jaiminho_ingest_events_total{transport=\"http\"} 9",
            "jaiminho_ingest_body_events_count 2",
            "jaiminho_ingest_body_bytes_sum 1100",
        ] {
            assert!(text.contains(sample), "{sample} is not in\n{text}");
        }
        assert!(!text.contains("status=\"500\""), "{text}");
    }
}
