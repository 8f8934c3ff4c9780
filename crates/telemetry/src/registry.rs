//! The process's metrics, in one place: whoever records holds a handle to a series, and every exporter reads them all.
//!
//! A series is one metric with one set of labels. Those of links and groups are there as long as somebody holds a handle, and a
//! process has at most [`SERIES_MAX`]: what comes and goes leaves nothing behind.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use metrics::atomics::AtomicU64;
use metrics::{Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString};

use crate::metric::{Kind, Metric, SECONDS};
use crate::names::{self, process};
use crate::nanos;
use crate::process::{Memory, cpu_time};

/// Series of metrics that a process has at most; further ones are not recorded, and counted.
pub const SERIES_MAX: usize = 20_000;

/// The process's metrics. Cheap to clone. To be installed as the recorder of `metrics`, or not.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Registry>);

#[derive(Default)]
struct Registry {
    /// A label that all series have in Prometheus' format; empty: none.
    common: String,
    series: RwLock<HashMap<Key, Arc<Series>>>,
    refused: AtomicU64,
    /// Nothing much was over when that was last looked for.
    is_full: AtomicBool,
    /// All of them by name and labels, as long as none comes or goes.
    sorted: Mutex<Option<Arc<[Arc<Series>]>>>,
}

/// One metric with one set of labels.
pub(crate) struct Series {
    pub(crate) key: Key,
    /// As in Prometheus' format, without the braces.
    pub(crate) labels: String,
    /// None: a program's own.
    pub(crate) metric: Option<&'static Metric>,
    /// When it began, in Unix time.
    pub(crate) since: u64,
    pub(crate) value: Value,
}

pub(crate) enum Value {
    Counter(Arc<AtomicU64>),
    Gauge(Arc<AtomicU64>),
    Histogram(Arc<Buckets>),
}

/// What was recorded, by size. Memory and cost do not grow with what is measured.
pub(crate) struct Buckets {
    pub(crate) bounds: &'static [f64],
    /// One more than there are bounds.
    counts: Vec<AtomicU64>,
    sum: AtomicU64,
}

impl Buckets {
    fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0) }
    }

    /// How many were at most each bound and above the one before; the last: above all.
    pub(crate) fn counts(&self) -> Vec<u64> {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }

    pub(crate) fn sum(&self) -> f64 {
        f64::from_bits(self.sum.load(Ordering::Relaxed))
    }
}

impl HistogramFn for Buckets {
    fn record(&self, value: f64) {
        self.record_many(value, 1);
    }

    fn record_many(&self, value: f64, count: usize) {
        if value.is_nan() {
            return;
        }
        if let Some(bucket) = self.counts.get(self.bounds.partition_point(|&bound| bound < value)) {
            bucket.fetch_add(count as u64, Ordering::Relaxed);
        }
        let add = |sum| Some((f64::from_bits(sum) + value * count as f64).to_bits());
        let _always = self.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

impl Series {
    fn new(key: &Key, kind: Kind, common: &str) -> Self {
        let metric = names::all().find(|metric| metric.name == key.name());
        let value = match kind {
            Kind::Counter => Value::Counter(Arc::default()),
            Kind::Gauge => Value::Gauge(Arc::default()),
            Kind::Histogram(default) => {
                let bounds = match metric.map(|metric| metric.kind) {
                    Some(Kind::Histogram(bounds)) => bounds,
                    Some(Kind::Counter | Kind::Gauge) | None => default,
                };
                Value::Histogram(Arc::new(Buckets::new(bounds)))
            }
        };
        let own = key.labels().map(|of| label(of.key(), of.value()));
        let common = Some(common.to_owned()).filter(|common| !common.is_empty());
        let labels = common.into_iter().chain(own).collect::<Vec<_>>().join(",");
        Self { key: key.clone(), labels, metric, since: nanos(SystemTime::now()), value }
    }

    /// Its counter as it is told: of seconds, where it is kept in microseconds.
    pub(crate) fn told(&self, count: u64) -> f64 {
        match self.metric {
            Some(metric) if metric.is_in_micros() => count as f64 / 1e6,
            Some(_) | None => count as f64,
        }
    }

    /// A series of what comes and goes, to which nobody holds a handle any more.
    fn is_over(&self) -> bool {
        let is_held = match &self.value {
            Value::Counter(value) | Value::Gauge(value) => Arc::strong_count(value) > 1,
            Value::Histogram(value) => Arc::strong_count(value) > 1,
        };
        !is_held && self.metric.is_some_and(Metric::is_transient)
    }
}

/// In Prometheus' format.
fn label(key: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{key}=\"{value}\"")
}

impl Registry {
    /// Something of the series of a key: of the one there is, or of a new one. None: there is no room.
    fn with<R>(&self, key: &Key, kind: Kind, of: impl FnOnce(&Series) -> R) -> Option<R> {
        if let Some(series) = self.series.read().unwrap_or_else(PoisonError::into_inner).get(key) {
            return Some(of(series));
        }
        let mut all = self.series.write().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= SERIES_MAX && !self.is_full.load(Ordering::Relaxed) {
            all.retain(|_, series| !series.is_over());
            // To look again and again through all for little would cost more than the series are worth.
            self.is_full.store(all.len() > SERIES_MAX / 10 * 9, Ordering::Relaxed);
        }
        if all.len() >= SERIES_MAX {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.forget_order();
        Some(of(all.entry(key.clone()).or_insert_with(|| Arc::new(Series::new(key, kind, &self.common)))))
    }

    fn forget_order(&self) {
        *self.sorted.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn sorted(&self) -> Arc<[Arc<Series>]> {
        // In this order everywhere: the map, then what is sorted of it.
        let all = self.series.read().unwrap_or_else(PoisonError::into_inner);
        let mut sorted = self.sorted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sorted) = &*sorted {
            return sorted.clone();
        }
        let mut series: Vec<_> = all.values().cloned().collect();
        series.sort_by(|a, b| (a.key.name(), &a.labels).cmp(&(b.key.name(), &b.labels)));
        sorted.insert(series.into()).clone()
    }
}

impl Metrics {
    /// Those of a pipeline: in Prometheus' format all series say which.
    pub(crate) fn of(pipeline: &str) -> Self {
        Self(Arc::new(Registry { common: label("pipeline", pipeline), ..Registry::default() }))
    }

    /// All series by name and labels, with those of the process itself up to date.
    pub(crate) fn read(&self) -> Arc<[Arc<Series>]> {
        self.itself();
        self.0.sorted()
    }

    /// Forgets the series of links and groups that are gone: to be called every few seconds.
    pub fn upkeep(&self) {
        self.0.is_full.store(false, Ordering::Relaxed);
        let mut all = self.0.series.write().unwrap_or_else(PoisonError::into_inner);
        let before = all.len();
        all.retain(|_, series| !series.is_over());
        if all.len() < before {
            self.0.forget_order();
        }
    }

    fn itself(&self) {
        if let Some(memory) = Memory::of_this_process() {
            self.set(process::RESIDENT, memory.resident_bytes);
        }
        if let Some(cpu) = cpu_time() {
            self.count(process::CPU, crate::micros(cpu));
        }
        self.count(process::SERIES_REFUSED, self.0.refused.load(Ordering::Relaxed));
        let series = self.0.series.read().unwrap_or_else(PoisonError::into_inner).len();
        self.set(process::SERIES, series as u64);
    }

    fn set(&self, name: &'static str, value: u64) {
        self.gauge(&Key::from_static_name(name)).set(value as f64);
    }

    fn count(&self, name: &'static str, value: u64) {
        self.counter(&Key::from_static_name(name)).absolute(value);
    }

    fn counter(&self, key: &Key) -> Counter {
        let handle = self.0.with(key, Kind::Counter, |series| match &series.value {
            Value::Counter(counter) => Counter::from_arc(counter.clone()),
            Value::Gauge(_) | Value::Histogram(_) => Counter::noop(),
        });
        handle.unwrap_or(Counter::noop())
    }

    fn gauge(&self, key: &Key) -> Gauge {
        let handle = self.0.with(key, Kind::Gauge, |series| match &series.value {
            Value::Gauge(gauge) => Gauge::from_arc(gauge.clone()),
            Value::Counter(_) | Value::Histogram(_) => Gauge::noop(),
        });
        handle.unwrap_or(Gauge::noop())
    }
}

impl Recorder for Metrics {
    fn describe_counter(&self, _: KeyName, _: Option<metrics::Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<metrics::Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<metrics::Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.counter(key)
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.gauge(key)
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let handle = self.0.with(key, Kind::Histogram(SECONDS), |series| match &series.value {
            Value::Histogram(buckets) => Histogram::from_arc(buckets.clone()),
            Value::Counter(_) | Value::Gauge(_) => Histogram::noop(),
        });
        handle.unwrap_or(Histogram::noop())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::{DELIVERIES, EVENTS_IN, FRAME_EVENTS};

    #[test]
    fn a_links_series_goes_with_the_last_handle_and_a_stages_stays() {
        let metrics = Metrics::default();
        metrics::with_local_recorder(&metrics, || {
            let of = |group: &str| metrics::counter!(DELIVERIES, "stage" => "a", "group" => group.to_owned());
            let (first, second) = (of("b"), of("b"));
            of("gone").increment(1);
            metrics::counter!(EVENTS_IN, "stage" => "a").increment(7);
            first.increment(2);
            drop(first);
            metrics.upkeep();
            second.increment(1);
            let text = metrics.render();
            assert!(text.contains("jaiminho_deliveries_total{stage=\"a\",group=\"b\"} 3\n"), "{text}");
            assert!(text.contains("jaiminho_events_in_total{stage=\"a\"} 7\n") && !text.contains("gone"), "{text}");
            drop(second);
            metrics.upkeep();
            assert!(!metrics.render().contains("jaiminho_deliveries_total"));
        });
    }

    #[test]
    fn a_process_keeps_so_many_series_and_counts_those_beyond() {
        let metrics = Metrics::default();
        metrics::with_local_recorder(&metrics, || {
            for label in 0..SERIES_MAX + 5 {
                metrics::counter!("own_total", "of" => label.to_string()).increment(1);
            }
        });
        let text = metrics.render();
        assert_eq!(text.lines().filter(|line| line.starts_with("own_total{")).count(), SERIES_MAX);
        assert!(metrics.0.refused.load(Ordering::Relaxed) >= 5);
    }

    #[test]
    fn what_comes_and_goes_makes_room_for_the_next() {
        let metrics = Metrics::default();
        metrics::with_local_recorder(&metrics, || {
            for group in 0..2 * SERIES_MAX {
                let _link = metrics::counter!(DELIVERIES, "group" => group.to_string());
            }
        });
        assert_eq!(metrics.0.refused.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_histogram_counts_each_value_in_the_first_bucket_that_holds_it() {
        let metrics = Metrics::default();
        metrics::with_local_recorder(&metrics, || {
            let frames = metrics::histogram!(FRAME_EVENTS, "stage" => "a");
            frames.record_many(2.0, 3);
            [1.0, 3.0, 9_999.0, f64::NAN].into_iter().for_each(|value| frames.record(value));
        });
        let all = metrics.read();
        let Some(Value::Histogram(buckets)) =
            all.iter().map(|series| &series.value).find(|value| matches!(value, Value::Histogram(_)))
        else {
            panic!("none")
        };
        assert_eq!((&buckets.counts()[..3], buckets.counts().last()), (&[1, 3, 1][..], Some(&1)));
        assert!((buckets.sum() - 10_009.0).abs() < 1e-9);
    }

    #[test]
    fn one_name_is_of_one_kind() {
        let metrics = Metrics::default();
        metrics::with_local_recorder(&metrics, || {
            metrics::counter!("own").increment(1);
            metrics::gauge!("own").set(5.0);
        });
        assert!(metrics.render().contains("\nown 1\n"), "{}", metrics.render());
    }
}
