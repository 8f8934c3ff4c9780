//! Of the process, and of what it tells about itself.

use crate::metric::metrics;

metrics! {
    /// 1; the labels say what runs.
    INFO: Gauge, "jaiminho_info", Of("stage"), ["version", "commit", "stage"];
    /// Memory that the process has in use, as the system counts it.
    RESIDENT: Gauge, "jaiminho_process_resident_bytes", Bytes, [];
    /// Most memory that the stage's limits allow, as `jaiminho validate` sums it up; without the program itself.
    MEMORY_BOUND: Gauge, "jaiminho_memory_bound_bytes", Bytes, ["stage"];
    /// Processor time that the process has used.
    CPU: Counter, "jaiminho_process_cpu_seconds_total", Seconds, [];
    /// Metrics sent, by `exporter` (`statsd`, one a datagram; `otlp`, one a request) and `outcome` (`sent`, `failed`).
    EXPORTS: Counter, "jaiminho_metrics_exports_total", Of("message"), ["exporter", "outcome"];
    /// Series of metrics that the process keeps.
    SERIES: Gauge, "jaiminho_metrics_series", Of("series"), [];
    /// Series that were refused since there are as many as a process may have.
    SERIES_REFUSED: Counter, "jaiminho_metrics_series_refused_total", Of("series"), [];
}
