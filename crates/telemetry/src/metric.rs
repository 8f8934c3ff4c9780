//! What a metric is. Each stands once, in [`names`](crate::names): constants, exporters and the table for people come from there.

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metric {
    /// Its name, as in Prometheus.
    pub name: &'static str,
    /// How it is to be read.
    pub kind: Kind,
    /// What is counted or measured.
    pub unit: Unit,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    text: &'static str,
}

/// How a metric is to be read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only grows, from the start of the process or of its link.
    Counter,
    /// As it is now.
    Gauge,
    /// How many were at most each of these bounds.
    Histogram(&'static [f64]),
}

/// What is counted or measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Seconds. A counter of seconds is incremented in microseconds: [`crate::micros`].
    Seconds,
    /// 0 to 1.
    Ratio,
    /// Things: their name, for one.
    Of(&'static str),
}

/// Upper bounds of durations, in seconds: from a hop in one process to a request's deadline.
pub(crate) const SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Of latencies that are measured in whole milliseconds; one more bucket is for what is above.
pub const LATENCY_BOUNDS_MS: [u64; 15] =
    [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000];
/// The same in seconds.
pub(crate) const LATENCY_SECONDS: &[f64] = &{
    let (mut seconds, mut at) = ([0.0; LATENCY_BOUNDS_MS.len()], 0);
    while at < seconds.len() {
        seconds[at] = LATENCY_BOUNDS_MS[at] as f64 / 1_000.0;
        at += 1;
    }
    seconds
};
/// Of events that go together.
pub(crate) const BATCH: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0];
/// Of bytes that go together.
pub(crate) const BYTES: &[f64] =
    &[256.0, 1_024.0, 4_096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 16_777_216.0];

impl Metric {
    pub(crate) const fn new(
        name: &'static str,
        kind: Kind,
        unit: Unit,
        labels: &'static [&'static str],
        text: &'static str,
    ) -> Self {
        Self { name, kind, unit, labels, text }
    }

    /// What it means.
    pub fn meaning(&self) -> String {
        self.text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Its series are there only as long as somebody holds a handle to them: of links and groups, which come and go.
    pub fn is_transient(&self) -> bool {
        self.labels.iter().any(|label| ["group", "peer", "partition"].contains(label))
    }

    /// A counter that is kept in microseconds and told in seconds.
    pub(crate) fn is_in_micros(&self) -> bool {
        self.kind == Kind::Counter && self.unit == Unit::Seconds
    }
}

impl Kind {
    /// As Prometheus says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

impl Unit {
    /// For people.
    pub fn name(self) -> String {
        match self {
            Self::Bytes => "bytes".into(),
            Self::Seconds => "seconds".into(),
            Self::Ratio => "0 to 1".into(),
            Self::Of(thing) => plural(thing),
        }
    }

    /// As in UCUM, which OTLP wants.
    pub fn ucum(self) -> String {
        match self {
            Self::Bytes => "By".into(),
            Self::Seconds => "s".into(),
            Self::Ratio => "1".into(),
            Self::Of(thing) => format!("{{{thing}}}"),
        }
    }
}

fn plural(thing: &str) -> String {
    match thing.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None if thing.ends_with('s') => thing.to_owned(),
        None => format!("{thing}s"),
    }
}

/// Constants with the names, and the list of all: `/// Help. NAME: kind, "name", unit, [labels];`
macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $id:ident: $kind:expr, $name:literal, $unit:expr, [$($label:literal),*];)*) => {
        $($(#[doc = $help])+ pub const $id: &str = $name;)*

        /// All of this module.
        pub(crate) const LIST: &[$crate::metric::Metric] = {
            #[allow(clippy::enum_glob_use, unused_imports, reason = "the list is easier to read")]
            use $crate::metric::{Kind::*, Unit::*, *};
            &[$(Metric::new($name, $kind, $unit, &[$($label),*], concat!($($help),+))),*]
        };
    };
}
pub(crate) use metrics;
