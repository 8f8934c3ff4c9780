//! Logs and metrics of a process: set up once by the program, used everywhere through `tracing` and `metrics`.

mod logging;
pub mod names;
mod prometheus;
pub mod traces;

pub use logging::{Format, LIFE, LoggingError, Logs, init_logging, logs};
pub use prometheus::{Metrics, MetricsError, UPKEEP_INTERVAL, install_metrics};
