//! Where a process tells what it does: from the pipeline file, and from OpenTelemetry's variables, which win over it.

use std::time::Duration;

use jaiminho_telemetry::{Collector, Metrics, OtlpMetrics, StatsdConfig, check_endpoint, install_metrics, statsd};
use percent_encoding::percent_decode_str;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::config::model::Stage;
use crate::config::telemetry::{self as model, otlp_interval};
use crate::exit::Failure;

/// Who tells.
pub(crate) struct Who<'a> {
    pub(crate) service: &'a str,
    pub(crate) pipeline: &'a str,
    pub(crate) instance: &'a str,
}

/// A stage's name among services.
pub(crate) fn service(stage: &Stage) -> &'static str {
    match (&stage.source, &stage.sink) {
        (Some(_), _) => "jaiminho-ingest",
        (None, Some(_)) => "jaiminho-publish",
        (None, None) => "jaiminho-convert",
    }
}

/// The process's metrics; without a recorder where none are wanted.
pub(crate) fn install(config: &Config) -> Result<Metrics, Failure> {
    match config.pipeline.telemetry.metrics.enabled {
        true => install_metrics(&config.pipeline.pipeline).map_err(Failure::software),
        false => Ok(Metrics::default()),
    }
}

/// Sends metrics where the file and the environment say, until `stop`.
pub(crate) fn tell(
    config: &model::Metrics,
    who: &Who<'_>,
    metrics: &Metrics,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    if !config.enabled {
        return Ok(());
    }
    if let Some(model::Statsd { address, prefix, dogstatsd, interval }) = config.statsd.clone() {
        let tags = vec![("instance".into(), who.instance.into()), ("pipeline".into(), who.pipeline.into())];
        let config = StatsdConfig { address, prefix, dogstatsd, tags, interval: interval.0.max(SHORTEST) };
        tasks.spawn(statsd(metrics.clone(), config, stop.clone()));
    }
    let environment = environment();
    let endpoint = config.otlp.as_ref().and_then(|otlp| otlp.endpoint.as_deref());
    let Some(collector) = environment.collector("METRICS", endpoint) else { return Ok(()) };
    let of_file = config.otlp.as_ref().map_or_else(otlp_interval, |otlp| otlp.interval).0;
    let interval = environment.millis(&["OTEL_METRIC_EXPORT_INTERVAL"]).unwrap_or(of_file).max(SHORTEST);
    let teller = OtlpMetrics::new(&collector, &environment.resource(who), interval);
    let teller = teller.map_err(|error| Failure::config(format!("metrics over OTLP: {error}")))?;
    tasks.spawn(teller.run(metrics.clone(), stop.clone()));
    Ok(())
}

/// Metrics are not sent more often.
const SHORTEST: Duration = Duration::from_millis(100);
/// For one request to a collector.
const TIMEOUT: Duration = Duration::from_secs(10);

/// That of this process.
pub(crate) fn environment() -> Environment<impl Fn(&str) -> Option<String>> {
    Environment(|name: &str| std::env::var(name).ok())
}

/// OpenTelemetry's variables. An empty one is none; one that can't be read is named in the log and counts as none.
pub(crate) struct Environment<F>(pub(crate) F);

impl<F: Fn(&str) -> Option<String>> Environment<F> {
    fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// The first that is there.
    fn first(&self, names: &[&str]) -> Option<String> {
        names.iter().find_map(|name| self.get(name))
    }

    /// The first of these that is there and can be read.
    pub(crate) fn read<T>(&self, names: &[&str], wanted: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        names.iter().find_map(|name| {
            let value = self.get(name)?;
            let read = parse(&value);
            if read.is_none() {
                tracing::warn!(variable = name, value, "not {wanted}: taken for unset");
            }
            read
        })
    }

    pub(crate) fn millis(&self, names: &[&str]) -> Option<Duration> {
        self.read(names, "a number of milliseconds", |text| text.parse().ok().map(Duration::from_millis))
    }

    /// Whether a signal (`METRICS`, `TRACES`) is not to be sent by OTLP.
    fn is_off(&self, signal: &str) -> bool {
        let disabled = self.get("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let exporter = self.get(&format!("OTEL_{signal}_EXPORTER"));
        disabled || exporter.is_some_and(|names| !names.split(',').any(|name| name.trim() == "otlp"))
    }

    /// Where a signal goes; none: nowhere. `endpoint` is the file's.
    pub(crate) fn collector(&self, signal: &str, endpoint: Option<&str>) -> Option<Collector> {
        let variable = |what: &str| format!("OTEL_EXPORTER_OTLP_{signal}_{what}");
        let general = |what: &str| format!("OTEL_EXPORTER_OTLP_{what}");
        let first = |what: &str| self.first(&[&variable(what), &general(what)]);
        if self.is_off(signal) {
            return None;
        }
        let named = self.read(
            &[&variable("ENDPOINT"), &general("ENDPOINT")],
            "http://HOST:PORT or https://HOST:PORT",
            |text| check_endpoint(text).ok().map(|()| text.to_owned()),
        );
        Some(Collector {
            endpoint: named.or_else(|| endpoint.map(str::to_owned))?,
            headers: first("HEADERS").map(|text| pairs(&text)).unwrap_or_default(),
            timeout: self.millis(&[&variable("TIMEOUT"), &general("TIMEOUT")]).unwrap_or(TIMEOUT),
            certificate: first("CERTIFICATE").map(Into::into),
        })
    }

    /// Says who tells. OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME have the last word.
    pub(crate) fn resource(&self, who: &Who<'_>) -> Vec<(String, String)> {
        let mut all = vec![
            ("service.name".to_owned(), who.service.to_owned()),
            ("service.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("service.instance.id".to_owned(), who.instance.to_owned()),
            ("jaiminho.pipeline".to_owned(), who.pipeline.to_owned()),
        ];
        let attributes = self.get("OTEL_RESOURCE_ATTRIBUTES").map(|text| pairs(&text)).unwrap_or_default();
        let name = self.get("OTEL_SERVICE_NAME").map(|name| ("service.name".to_owned(), name));
        for (key, value) in attributes.into_iter().chain(name) {
            all.retain(|(of, _)| *of != key);
            all.push((key, value));
        }
        all
    }
}

/// `key=value,key=value`, percent-encoded.
fn pairs(text: &str) -> Vec<(String, String)> {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=')?;
        let value = percent_decode_str(value.trim()).decode_utf8_lossy();
        Some((key.trim().to_owned(), value.into_owned()))
    };
    text.split(',').filter_map(pair).filter(|(key, _)| !key.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(of: &[(&str, &str)]) -> Environment<impl Fn(&str) -> Option<String>> {
        let of: Vec<_> = of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Environment(move |name: &str| of.iter().find(|(of, _)| of == name).map(|(_, value)| value.clone()))
    }

    #[test]
    fn a_variable_wins_over_the_file_and_a_signals_own_over_the_general_one() {
        let of = |variables: &[(&str, &str)], file| environment(variables).collector("METRICS", file);
        assert_eq!(of(&[], None), None);
        assert_eq!(of(&[], Some("http://a:1")).unwrap().endpoint, "http://a:1");
        let general = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://b:1");
        assert_eq!(of(&[general], Some("http://a:1")).unwrap().endpoint, "http://b:1");
        let own = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://c:1");
        assert_eq!(of(&[general, own], None).unwrap().endpoint, "http://c:1");
        assert_eq!(of(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://d:1")], None), None);
        assert_eq!(of(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")], None), None, "an empty one is none");
    }

    #[test]
    fn what_is_switched_off_goes_nowhere() {
        let on = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://b:1");
        for (name, value, goes) in [
            ("OTEL_SDK_DISABLED", "true", false),
            ("OTEL_SDK_DISABLED", "false", true),
            ("OTEL_METRICS_EXPORTER", "none", false),
            ("OTEL_METRICS_EXPORTER", "prometheus", false),
            ("OTEL_METRICS_EXPORTER", "console, otlp", true),
            ("OTEL_TRACES_EXPORTER", "none", true),
        ] {
            assert_eq!(environment(&[on, (name, value)]).collector("METRICS", None).is_some(), goes, "{name}={value}");
        }
    }

    #[test]
    fn headers_time_outs_and_attributes_are_read_as_opentelemetry_writes_them() {
        let environment = environment(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://b:1"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20x=y, a=1,=2,b"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
            ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "soon"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "1500"),
            ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=prod,service.name=other,100%=%zz"),
            ("OTEL_SERVICE_NAME", "mine"),
        ]);
        let collector = environment.collector("METRICS", None).unwrap();
        let headers = [("authorization".to_owned(), "Bearer x=y".to_owned()), ("a".to_owned(), "1".to_owned())];
        assert_eq!((&collector.headers[..], collector.timeout), (&headers[..], Duration::from_millis(2_500)));
        assert_eq!(environment.millis(&["OTEL_METRIC_EXPORT_INTERVAL"]), Some(Duration::from_millis(1_500)));
        let resource = environment.resource(&Who { service: "jaiminho", pipeline: "p", instance: "a-0" });
        let of = |key: &str| {
            resource.iter().filter(|(of, _)| of == key).map(|(_, value)| value.as_str()).collect::<Vec<_>>()
        };
        assert_eq!((of("service.name"), of("service.instance.id")), (vec!["mine"], vec!["a-0"]));
        assert_eq!((of("deployment.environment"), of("100%")), (vec!["prod"], vec!["%zz"]));
    }
}
