//! The file's section `telemetry`: where a process tells what it does.

use jaiminho_event::units::HumanDuration;
use jaiminho_tls::ServerTls;
use schemars::JsonSchema;
use serde::Deserialize;

/// Where a process tells what it does.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Telemetry {
    /// What is counted and measured. Prometheus reads it at `/metrics` of the admin port; other systems are sent it.
    pub(crate) metrics: Metrics,
    /// Traces of events, in Jaeger or whatever else takes OpenTelemetry's protocol.
    pub(crate) traces: Traces,
    /// The port that probes and Prometheus ask (`--admin`).
    pub(crate) admin: Admin,
}

/// The port that probes and Prometheus ask.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Admin {
    /// Its certificate: then it is `https`. With a `ca` probes need a certificate as well, and Kubernetes' have none.
    pub(crate) tls: Option<ServerTls>,
}

/// Traces of events. OpenTelemetry's `OTEL_*` variables win over what stands here.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Traces {
    /// Where spans go: `http://HOST:4317` or `https://…`, OTLP over gRPC. Without it there are no traces.
    pub(crate) endpoint: Option<String>,
    /// The share of traces that is recorded, decided where an event comes in: 1 is all of them. A sender's `traceparent` decides
    /// for its own. Default: 1 of `jaiminho up`, 0.001 where stages run apart.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(crate) ratio: Option<f64>,
    /// An event that is not recorded still leaves one span where it took longer than this, from its arrival to its end.
    /// Default: 1s.
    pub(crate) slow: Option<HumanDuration>,
}

/// What is counted and measured, and to whom it is sent.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Metrics {
    /// `false`: nothing is recorded, nor sent.
    pub(crate) enabled: bool,
    /// A StatsD server, over UDP.
    pub(crate) statsd: Option<Statsd>,
    /// A collector that takes OTLP over gRPC.
    pub(crate) otlp: Option<Otlp>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { enabled: true, statsd: None, otlp: None }
    }
}

/// A StatsD server.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Statsd {
    /// `HOST:PORT`
    #[schemars(regex(pattern = r"^[^\s/]+:[0-9]{1,5}$"))]
    pub(crate) address: String,
    /// Stands before each name. Of several instances that tell the same server each needs its own: gauges replace one another.
    #[serde(default = "prefix")]
    #[schemars(regex(pattern = r"^[A-Za-z0-9_.-]+$"))]
    pub(crate) prefix: String,
    /// Labels as DogStatsD's tags, with `instance` and `pipeline` as further ones; else they are part of the dotted name.
    #[serde(default)]
    pub(crate) dogstatsd: bool,
    /// Between two tellings.
    #[serde(default = "statsd_interval")]
    pub(crate) interval: HumanDuration,
}

/// A collector that takes OTLP over gRPC.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Otlp {
    /// `http://HOST:PORT` or `https://HOST:PORT`. The variables OTEL_EXPORTER_OTLP_METRICS_ENDPOINT and
    /// OTEL_EXPORTER_OTLP_ENDPOINT win over it.
    #[schemars(regex(pattern = r"^https?://[^\s/]+/?$"))]
    pub(crate) endpoint: Option<String>,
    /// Between two tellings. OTEL_METRIC_EXPORT_INTERVAL, in milliseconds, wins over it.
    #[serde(default = "otlp_interval")]
    pub(crate) interval: HumanDuration,
}

fn prefix() -> String {
    "jaiminho".into()
}

fn statsd_interval() -> HumanDuration {
    HumanDuration::from_secs(10)
}

pub(crate) fn otlp_interval() -> HumanDuration {
    HumanDuration::from_secs(60)
}
