//! Metrics in Prometheus' text format.

use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// How often old samples of histograms must be drained.
pub const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Upper bounds of durations, in seconds: from a hop in one process to a request's deadline.
const SECONDS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Why metrics can't be set up.
#[derive(Debug, thiserror::Error)]
#[error("metrics: {0}")]
pub struct MetricsError(#[from] BuildError);

/// The process's metrics. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// All of them, in Prometheus' text format.
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Keeps histograms bounded: to be called every few seconds.
    pub fn upkeep(&self) {
        self.0.run_upkeep();
    }
}

/// Installs the process's recorder. Durations (`…_seconds`) become histograms with fixed bounds.
///
/// # Errors
/// When there is a recorder already.
pub fn install_metrics() -> Result<Metrics, MetricsError> {
    let builder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?;
    let handle = builder.install_recorder()?;
    crate::names::describe();
    Ok(Metrics(handle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_durations_are_rendered_with_their_help() {
        let metrics = install_metrics().unwrap();
        metrics::counter!(crate::names::DELIVERIES, "output" => "ingest").increment(3);
        metrics::histogram!("jaiminho_test_seconds").record(0.02);
        metrics.upkeep();
        let text = metrics.render();
        assert!(text.contains("jaiminho_deliveries_total{output=\"ingest\"} 3"), "{text}");
        assert!(text.contains("# HELP jaiminho_deliveries_total "), "{text}");
        assert!(text.contains("jaiminho_test_seconds_bucket{le=\"0.025\"} 1"), "{text}");
        assert!(install_metrics().is_err());
    }
}
