//! Metrics in Prometheus' text format.

use std::fmt::{self, Write as _};
use std::sync::atomic::Ordering;

use crate::metric::Kind;
use crate::registry::{Buckets, Metrics, Series, Value};

impl Metrics {
    /// All of them, in Prometheus' text format.
    pub fn render(&self) -> String {
        let all = self.read();
        let mut text = String::with_capacity(all.len() * 96);
        let mut before = None;
        for series in all.iter() {
            let name = series.key.name();
            // Writing to a string can't fail.
            if before.replace(name) != Some(name) {
                let _head = head(&mut text, series);
            }
            let _sample = sample(&mut text, series);
        }
        text
    }
}

fn head(text: &mut String, series: &Series) -> fmt::Result {
    let name = series.key.name();
    if let Some(metric) = series.metric {
        writeln!(text, "# HELP {name} {}", metric.meaning())?;
    }
    let kind = match &series.value {
        Value::Counter(_) => Kind::Counter,
        Value::Gauge(_) => Kind::Gauge,
        Value::Histogram(buckets) => Kind::Histogram(buckets.bounds),
    };
    writeln!(text, "# TYPE {name} {}", kind.name())
}

fn sample(text: &mut String, series: &Series) -> fmt::Result {
    let (name, labels) = (series.key.name(), &series.labels);
    let (open, close) = if labels.is_empty() { ("", "") } else { ("{", "}") };
    match &series.value {
        Value::Counter(count) => {
            let count = count.load(Ordering::Relaxed);
            match series.metric {
                Some(metric) if metric.is_in_micros() => {
                    writeln!(text, "{name}{open}{labels}{close} {}", series.told(count))
                }
                Some(_) | None => writeln!(text, "{name}{open}{labels}{close} {count}"),
            }
        }
        Value::Gauge(value) => {
            let value = Number(f64::from_bits(value.load(Ordering::Relaxed)));
            writeln!(text, "{name}{open}{labels}{close} {value}")
        }
        Value::Histogram(buckets) => histogram(text, name, labels, buckets),
    }
}

fn histogram(text: &mut String, name: &str, labels: &str, buckets: &Buckets) -> fmt::Result {
    let comma = if labels.is_empty() { "" } else { "," };
    let (open, close) = if labels.is_empty() { ("", "") } else { ("{", "}") };
    let mut all = 0;
    for (index, count) in buckets.counts().into_iter().enumerate() {
        all += count;
        let bound = Number(buckets.bounds.get(index).copied().unwrap_or(f64::INFINITY));
        writeln!(text, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {all}")?;
    }
    writeln!(text, "{name}_sum{open}{labels}{close} {}", Number(buckets.sum()))?;
    writeln!(text, "{name}_count{open}{labels}{close} {all}")
}

/// As the format wants it.
struct Number(f64);

impl fmt::Display for Number {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            f64::INFINITY => to.write_str("+Inf"),
            f64::NEG_INFINITY => to.write_str("-Inf"),
            number => write!(to, "{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names;

    #[test]
    fn counters_gauges_and_durations_are_rendered_with_help_and_kind() {
        let metrics = Metrics::default();
        let (deliveries, lag) = metrics::with_local_recorder(&metrics, || {
            let deliveries = metrics::counter!(names::DELIVERIES, "output" => "in\"\n\\", "group" => "g");
            deliveries.increment(3);
            metrics::counter!(names::STAGE_TIME, "stage" => "a", "state" => "limit").increment(1_500_000);
            metrics::histogram!(names::SETTLE_SECONDS, "stage" => "a").record_many(0.02, 2);
            metrics::histogram!("own_seconds").record(90.0);
            let lag = metrics::gauge!(names::kafka::LAG, "partition" => "0");
            lag.set(0.5);
            (deliveries, lag)
        });
        let text = metrics.render();
        for line in [
            "# HELP jaiminho_deliveries_total Events sent to a group, redeliveries included.",
            "# TYPE jaiminho_deliveries_total counter",
            "jaiminho_deliveries_total{output=\"in\\\"\\n\\\\\",group=\"g\"} 3",
            "jaiminho_stage_seconds_total{stage=\"a\",state=\"limit\"} 1.5",
            "jaiminho_kafka_lag{partition=\"0\"} 0.5",
            "jaiminho_settle_seconds_bucket{stage=\"a\",le=\"0.01\"} 0",
            "jaiminho_settle_seconds_bucket{stage=\"a\",le=\"0.025\"} 2",
            "jaiminho_settle_seconds_bucket{stage=\"a\",le=\"+Inf\"} 2",
            "jaiminho_settle_seconds_sum{stage=\"a\"} 0.04",
            "jaiminho_settle_seconds_count{stage=\"a\"} 2",
            "own_seconds_bucket{le=\"60\"} 0",
            "own_seconds_count 1",
        ] {
            assert!(text.lines().any(|of| of == line), "{line} is not in\n{text}");
        }
        assert!(text.lines().any(|line| line.starts_with("jaiminho_process_resident_bytes ")), "{text}");
        drop((deliveries, lag));
    }

    #[test]
    fn each_series_says_of_which_pipeline_it_is() {
        let metrics = Metrics::of("b\"c");
        metrics::with_local_recorder(&metrics, || {
            metrics::counter!("own_total", "stage" => "a").increment(1);
            metrics::counter!("bare_total").increment(1);
        });
        let text = metrics.render();
        for line in ["own_total{pipeline=\"b\\\"c\",stage=\"a\"} 1", "bare_total{pipeline=\"b\\\"c\"} 1"] {
            assert!(text.lines().any(|of| of == line), "{line} is not in\n{text}");
        }
    }
}
