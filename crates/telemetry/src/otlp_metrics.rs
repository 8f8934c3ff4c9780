//! Metrics to a collector, over OTLP and gRPC: all of them, as they are, each interval.
//!
//! Counts are cumulative, so an export that fails loses nothing: it is counted, and the next one tells the same and more.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric as OtlpMetric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;

use crate::names::process::EXPORTS;
use crate::otlp::{Collector, CollectorError, scope};
use crate::registry::{Buckets, Metrics, Series, Value};
use crate::{LAST, nanos};

/// Series told in one request: far below what a collector takes at once.
const REQUEST_SERIES_MAX: usize = 2_000;

/// Tells metrics to a collector.
pub struct OtlpMetrics {
    client: MetricsServiceClient<Channel>,
    metadata: MetadataMap,
    resource: Resource,
    interval: Duration,
    timeout: Duration,
    endpoint: String,
    fails: bool,
    outcomes: [metrics::Counter; 2],
}

impl OtlpMetrics {
    /// `resource` says who tells. Nothing is connected yet. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// What is wrong with the collector's address, headers or certificates.
    pub fn new(
        collector: &Collector,
        resource: &[(String, String)],
        interval: Duration,
    ) -> Result<Self, CollectorError> {
        let outcome = |outcome| metrics::counter!(EXPORTS, "exporter" => "otlp", "outcome" => outcome);
        let attributes = resource.iter().map(|(key, value)| attribute(key, value)).collect();
        Ok(Self {
            client: MetricsServiceClient::new(collector.channel()?),
            metadata: collector.metadata()?,
            resource: Resource { attributes, ..Resource::default() },
            interval,
            timeout: collector.timeout,
            endpoint: collector.endpoint.clone(),
            fails: false,
            outcomes: ["sent", "failed"].map(outcome),
        })
    }

    /// Tells the metrics until `stop`, and then once more, within two seconds in all: what was under way then is told by the last.
    pub async fn run(mut self, metrics: Metrics, stop: CancellationToken) {
        let telling = async {
            loop {
                tokio::time::sleep(self.interval).await;
                self.tell(&metrics, self.timeout).await;
            }
        };
        let _stopped = stop.run_until_cancelled(telling).await;
        self.tell(&metrics, self.timeout.min(LAST)).await;
    }

    async fn tell(&mut self, metrics: &Metrics, within: Duration) {
        let all = metrics.read();
        let deadline = tokio::time::Instant::now() + within;
        for series in all.chunks(REQUEST_SERIES_MAX) {
            let mut request = tonic::Request::new(request(&self.resource, series));
            *request.metadata_mut() = self.metadata.clone();
            let answer = tokio::time::timeout_at(deadline, self.client.export(request)).await;
            let error = match answer {
                Ok(Ok(answer)) => answer.into_inner().partial_success.filter(|part| part.rejected_data_points > 0),
                Ok(Err(status)) => return self.ended(Some(status.message())),
                Err(_) => return self.ended(Some("no answer in time")),
            };
            self.ended(error.as_ref().map(|part| part.error_message.as_str()));
        }
    }

    /// One request has ended: whoever reads the log sees when that begins to fail, and when it works again.
    fn ended(&mut self, error: Option<&str>) {
        let [sent, failed] = &self.outcomes;
        let endpoint = self.endpoint.as_str();
        match error {
            Some(error) => {
                failed.increment(1);
                if !std::mem::replace(&mut self.fails, true) {
                    tracing::warn!(endpoint, error, "metrics don't reach the collector; trying again");
                }
            }
            None => {
                sent.increment(1);
                if std::mem::replace(&mut self.fails, false) {
                    tracing::info!(endpoint, "metrics reach the collector again");
                }
            }
        }
    }
}

fn request(resource: &Resource, series: &[Arc<Series>]) -> ExportMetricsServiceRequest {
    let now = nanos(SystemTime::now());
    let metrics = series.chunk_by(|a, b| a.key.name() == b.key.name()).filter_map(|of| metric(of, now)).collect();
    let scope_metrics = vec![ScopeMetrics { scope: Some(scope()), metrics, ..ScopeMetrics::default() }];
    let resource = Some(resource.clone());
    let resource_metrics = vec![ResourceMetrics { resource, scope_metrics, ..ResourceMetrics::default() }];
    ExportMetricsServiceRequest { resource_metrics }
}

/// All series of one name.
fn metric(series: &[Arc<Series>], now: u64) -> Option<OtlpMetric> {
    let first = series.first()?;
    let numbers = || series.iter().filter_map(|series| number(series, now)).collect();
    let data = match &first.value {
        Value::Counter(_) => Data::Sum(Sum {
            data_points: numbers(),
            aggregation_temporality: AggregationTemporality::Cumulative.into(),
            is_monotonic: true,
        }),
        Value::Gauge(_) => Data::Gauge(Gauge { data_points: numbers() }),
        Value::Histogram(_) => {
            let point = |series: &Arc<Series>| match &series.value {
                Value::Histogram(buckets) => Some(histogram(series, buckets, now)),
                Value::Counter(_) | Value::Gauge(_) => None,
            };
            Data::Histogram(Histogram {
                data_points: series.iter().filter_map(point).collect(),
                aggregation_temporality: AggregationTemporality::Cumulative.into(),
            })
        }
    };
    Some(OtlpMetric {
        name: first.key.name().to_owned(),
        description: first.metric.map(|metric| metric.meaning()).unwrap_or_default(),
        unit: first.metric.map(|metric| metric.unit.ucum()).unwrap_or_default(),
        data: Some(data),
        ..OtlpMetric::default()
    })
}

fn number(series: &Series, now: u64) -> Option<NumberDataPoint> {
    let value = match &series.value {
        Value::Counter(count) => {
            let count = count.load(Ordering::Relaxed);
            match series.metric.is_some_and(|metric| metric.is_in_micros()) {
                true => Number::AsDouble(series.told(count)),
                false => Number::AsInt(i64::try_from(count).unwrap_or(i64::MAX)),
            }
        }
        Value::Gauge(value) => Number::AsDouble(f64::from_bits(value.load(Ordering::Relaxed))),
        Value::Histogram(_) => return None,
    };
    Some(NumberDataPoint {
        attributes: attributes(series),
        start_time_unix_nano: series.since,
        time_unix_nano: now,
        value: Some(value),
        ..NumberDataPoint::default()
    })
}

fn histogram(series: &Series, buckets: &Buckets, now: u64) -> HistogramDataPoint {
    let bucket_counts = buckets.counts();
    HistogramDataPoint {
        attributes: attributes(series),
        start_time_unix_nano: series.since,
        time_unix_nano: now,
        count: bucket_counts.iter().sum(),
        sum: Some(buckets.sum()),
        bucket_counts,
        explicit_bounds: buckets.bounds.to_vec(),
        ..HistogramDataPoint::default()
    }
}

fn attributes(series: &Series) -> Vec<KeyValue> {
    series.key.labels().map(|label| attribute(label.key(), label.value())).collect()
}

fn attribute(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Any::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names;

    fn all(metrics: &Metrics) -> Vec<OtlpMetric> {
        let request = request(&Resource::default(), &metrics.read());
        request.resource_metrics.into_iter().flat_map(|of| of.scope_metrics).flat_map(|of| of.metrics).collect()
    }

    #[test]
    fn each_kind_is_told_with_unit_start_and_attributes() {
        let metrics = Metrics::default();
        let before = nanos(SystemTime::now());
        metrics::with_local_recorder(&metrics, || {
            metrics::counter!(names::SETTLED, "stage" => "a", "outcome" => "accepted").increment(5);
            metrics::counter!(names::SETTLED, "stage" => "a", "outcome" => "rejected").increment(1);
            metrics::counter!(names::STAGE_TIME, "stage" => "a", "state" => "limit").increment(2_500_000);
            metrics::histogram!(names::FRAME_EVENTS, "stage" => "a").record_many(10.0, 4);
        });
        let all = all(&metrics);
        let find = |name: &str| all.iter().find(|metric| metric.name == name).unwrap();
        let Some(Data::Sum(sum)) = &find(names::SETTLED).data else { panic!("a counter is a sum") };
        assert!(sum.is_monotonic && sum.aggregation_temporality == 2);
        let [accepted, rejected] = &sum.data_points[..] else { panic!("{sum:?}") };
        assert_eq!((accepted.value, rejected.value), (Some(Number::AsInt(5)), Some(Number::AsInt(1))));
        assert_eq!(accepted.attributes, [attribute("stage", "a"), attribute("outcome", "accepted")]);
        assert!((before..=accepted.time_unix_nano).contains(&accepted.start_time_unix_nano));
        assert_eq!(find(names::SETTLED).unit, "{event}");
        let Some(Data::Sum(time)) = &find(names::STAGE_TIME).data else { panic!("a counter is a sum") };
        assert_eq!(
            (time.data_points[0].value, find(names::STAGE_TIME).unit.as_str()),
            (Some(Number::AsDouble(2.5)), "s")
        );
        let Some(Data::Histogram(frames)) = &find(names::FRAME_EVENTS).data else { panic!("a histogram is one") };
        let point = &frames.data_points[0];
        assert_eq!(
            (point.count, point.sum, point.bucket_counts.len()),
            (4, Some(40.0), point.explicit_bounds.len() + 1)
        );
        let Some(Data::Gauge(_)) = &find(names::process::RESIDENT).data else { panic!("a gauge is one") };
    }

    #[tokio::test]
    async fn a_collector_that_is_away_costs_a_count_and_no_time() {
        let collector = Collector {
            endpoint: "http://127.0.0.1:1".to_owned(),
            headers: Vec::new(),
            timeout: Duration::from_millis(300),
            certificate: None,
        };
        let metrics = Metrics::default();
        let mut teller = metrics::with_local_recorder(&metrics, || {
            OtlpMetrics::new(&collector, &[], Duration::from_secs(60)).unwrap()
        });
        let within = tokio::time::timeout(Duration::from_secs(5), teller.tell(&metrics, teller.timeout)).await;
        assert!(within.is_ok());
        let text = metrics.render();
        assert!(text.contains("jaiminho_metrics_exports_total{exporter=\"otlp\",outcome=\"failed\"} 1"), "{text}");
    }
}
