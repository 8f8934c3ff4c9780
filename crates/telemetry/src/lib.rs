//! Logs, metrics and traces of a process: set up once by the program, used everywhere through `tracing`, `metrics` and a
//! [`Tracer`](traces::Tracer).

mod logging;
mod metric;
pub mod names;
mod otlp;
mod otlp_metrics;
mod process;
mod prometheus;
mod registry;
mod statsd;
mod table;
pub mod traces;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use logging::{Format, LIFE, LoggingError, Logs, init_logging, logs};
pub use metric::{Kind, LATENCY_BOUNDS_MS, Metric, Unit};
pub use otlp::{Collector, CollectorError, check_endpoint};
pub use otlp_metrics::OtlpMetrics;
pub use process::{Memory, cpu_time, cpus};
pub use registry::{Metrics, SERIES_MAX};
pub use statsd::{StatsdConfig, statsd};
pub use table::table;

/// How often [`Metrics::upkeep`] wants to be called.
pub const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// At the end of the process what is left to be told has this time: spans and metrics, side by side.
pub(crate) const LAST: Duration = Duration::from_secs(2);

/// Why metrics can't be set up.
#[derive(Debug, thiserror::Error)]
#[error("metrics: this process has a recorder already")]
pub struct MetricsError;

/// Installs the process's recorder. `pipeline` is a label of all series that Prometheus reads.
///
/// # Errors
/// When there is a recorder already.
pub fn install_metrics(pipeline: &str) -> Result<Metrics, MetricsError> {
    let metrics = Metrics::of(pipeline);
    metrics::set_global_recorder(metrics.clone()).map_err(|_| MetricsError)?;
    Ok(metrics)
}

/// Nanoseconds since 1970.
pub(crate) fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// What to increment a counter of seconds by: exporters tell seconds.
pub fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
