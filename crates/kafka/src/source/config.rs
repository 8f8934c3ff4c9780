//! What a pipeline file says about a Kafka source, and the client configuration that follows from it.

use std::collections::BTreeMap;

use jaiminho_event::units::ByteSize;
use jaiminho_event::{CloudEvent, EventError, parse_timestamp};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::cluster::Cluster;
use crate::config::{ConfigError, Sasl, Scalar, Tls, wrong_properties};
use crate::event_hubs::EventHubs;
use crate::record::is_topic_name;
use crate::statistics::STATISTICS_MS;

/// Brokers whose answers count in the memory's sum.
pub(super) const BROKERS: u64 = 16;
/// What librdkafka keeps of a record beside its key, value and headers.
const RECORD_OVERHEAD_BYTES: u64 = 512;
/// Longest name of a group that Event Hubs takes.
const GROUP_BYTES_MAX: usize = 256;

/// Reads topics as a member of a consumer group. An offset is committed when all before it is settled, never earlier.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// `host:port`, comma-separated. `embedded` is the broker of `jaiminho up`. Follows from `event_hubs` where that is set.
    #[serde(default)]
    pub bootstrap_servers: Option<String>,
    /// Names of the topics. One that doesn't exist yet is waited for.
    #[schemars(length(min = 1))]
    pub topics: Vec<String>,
    /// The consumer group: its members share the partitions, and what it has committed is not read again. A new name
    /// reads all again.
    #[schemars(length(min = 1, max = 256))]
    pub group: String,
    /// Where a group begins that has committed nothing of a partition: `earliest` (default), `latest`, or
    /// `{ timestamp: "2026-01-31T12:00:00Z" }`, which is with the first record of that time or later.
    #[serde(default)]
    pub start: StartAt,
    /// `type` of what is no CloudEvent; default `PIPELINE.STAGE`.
    #[serde(default, rename = "type")]
    pub ty: Option<String>,
    /// `source` of what is no CloudEvent; default `/PIPELINE/STAGE`.
    #[serde(default)]
    pub source: Option<String>,
    /// Records that librdkafka fetches ahead; it fetches no more while it has as many.
    #[schemars(range(min = 1, max = 10_000_000))]
    #[serde(default = "default_queue_events")]
    pub queue_events: u32,
    /// Their bytes.
    #[serde(default = "default_queue_bytes")]
    pub queue_bytes: ByteSize,
    /// Most bytes of one answer of a broker; a larger batch of records comes alone.
    #[serde(default = "default_fetch_bytes")]
    pub fetch_bytes: ByteSize,
    /// Most bytes of events that wait for room in the stage's log. The partitions share it.
    #[serde(default = "default_held_bytes")]
    pub held_bytes: ByteSize,
    /// SASL authentication.
    #[serde(default)]
    pub sasl: Option<Sasl>,
    /// Encryption; `{}` is enough for a certificate of a public authority.
    #[serde(default)]
    pub tls: Option<Tls>,
    /// Azure Event Hubs, instead of `bootstrap_servers`, `sasl` and `tls`.
    #[serde(default)]
    pub event_hubs: Option<EventHubs>,
    /// Any other property of librdkafka.
    #[serde(default)]
    pub properties: BTreeMap<String, Scalar>,
}

/// See [`SourceConfig::start`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum StartAt {
    /// `earliest` or `latest`.
    End(StartEnd),
    /// A time.
    Time(StartTime),
}

/// An end of the topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StartEnd {
    /// The oldest record.
    Earliest,
    /// The next record.
    Latest,
}

/// A point in time.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StartTime {
    /// RFC 3339.
    pub timestamp: String,
}

impl Default for StartAt {
    fn default() -> Self {
        Self::End(StartEnd::Earliest)
    }
}

/// The same, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    Earliest,
    Latest,
    /// Unix time in ms.
    At(i64),
}

fn default_queue_events() -> u32 {
    10_000
}

fn default_queue_bytes() -> ByteSize {
    ByteSize(8 << 20)
}

fn default_fetch_bytes() -> ByteSize {
    ByteSize(1 << 20)
}

fn default_held_bytes() -> ByteSize {
    ByteSize(8 << 20)
}

/// Properties that belong to the source: a name or its beginning, and what holds instead.
const OWNED: &[(&str, &str)] = &[
    ("group.id", "it is the field group"),
    ("group.instance.id", "all instances of a stage would have the same"),
    ("group.protocol", "it is always classic"),
    ("group.remote.assignor", "the members assign partitions, by cooperative-sticky"),
    ("partition.assignment.strategy", "it is always cooperative-sticky: partitions that stay are read on"),
    ("enable.auto.commit", "offsets are committed when all before them is settled"),
    ("auto.commit", "offsets are committed when all before them is settled"),
    ("enable.auto.offset.store", "offsets are committed when all before them is settled"),
    ("offset.store", "offsets are committed when all before them is settled"),
    ("auto.offset.reset", "it is the field start"),
    ("queued.min.messages", "it is the field queue_events"),
    ("queued.max.messages.kbytes", "it is the field queue_bytes"),
    ("fetch.max.bytes", "it is the field fetch_bytes"),
    ("fetch.message.max.bytes", "it is the field fetch_bytes"),
    ("max.partition.fetch.bytes", "it is the field fetch_bytes"),
    ("message.max.bytes", "it is the field fetch_bytes"),
    ("receive.message.max.bytes", "it follows from the field fetch_bytes"),
    ("enable.partition.eof", "a source has no end"),
    ("statistics.interval.ms", "the metrics' lag comes from it"),
];

/// Of the Event Hubs' settings, those of producers.
const OF_PRODUCERS: [&str; 1] = ["request.timeout.ms"];
/// Larger answers are errors; without an own setting the client takes as much.
const ANSWER_BYTES_MAX: u64 = 100_000_000;

impl SourceConfig {
    /// A source of `topics` at `bootstrap_servers` for `group`, all else as by default.
    pub fn new(bootstrap_servers: impl Into<String>, topics: &[&str], group: impl Into<String>) -> Self {
        Self {
            bootstrap_servers: Some(bootstrap_servers.into()),
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            group: group.into(),
            start: StartAt::default(),
            ty: None,
            source: None,
            queue_events: default_queue_events(),
            queue_bytes: default_queue_bytes(),
            fetch_bytes: default_fetch_bytes(),
            held_bytes: default_held_bytes(),
            sasl: None,
            tls: None,
            event_hubs: None,
            properties: BTreeMap::new(),
        }
    }

    /// Whether it means the broker of `jaiminho up`.
    pub fn is_embedded(&self) -> bool {
        self.bootstrap_servers.as_deref() == Some("embedded")
    }

    /// What it takes at most beside its stage's log: name, bytes, and how they come about.
    pub fn memory(&self, log_events: u64) -> Vec<(&'static str, u64, String)> {
        let fetches = BROKERS.saturating_mul(self.fetch_bytes.0);
        let records = u64::from(self.queue_events) * RECORD_OVERHEAD_BYTES;
        let queue = self.queue_bytes.0.saturating_add(records).saturating_add(fetches);
        let from = format!(
            "queue_bytes + queue_events x {RECORD_OVERHEAD_BYTES} + answers of {BROKERS} brokers x fetch_bytes"
        );
        let settling = log_events.saturating_mul(super::SETTLING_BYTES);
        vec![
            ("consumer's queue", queue, from),
            ("events held", self.held_bytes.0, "held_bytes".to_owned()),
            ("events that settle", settling, format!("log.events x {}", super::SETTLING_BYTES)),
        ]
    }

    /// Everything that is wrong and can be known without a connection: fields, properties, secrets' files.
    pub fn check(&self) -> Vec<ConfigError> {
        let mut errors = self.wrong_fields();
        let client = self.client(&mut errors);
        errors.extend(wrong_properties(client));
        errors
    }

    fn wrong_fields(&self) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        let mut wrong = |path: &'static str, text: String| errors.push(ConfigError::fields(path, text));
        if self.topics.is_empty() {
            wrong("topics", "topics: it needs one at least".to_owned());
        }
        for (at, topic) in self.topics.iter().enumerate() {
            if !is_topic_name(topic) {
                wrong("topics", format!("topics: {}", ConfigError::Topic(topic.clone())));
            } else if self.topics[..at].contains(topic) {
                wrong("topics", format!("topics: {topic:?} stands there twice"));
            }
        }
        if self.group.is_empty() || self.group.len() > GROUP_BYTES_MAX {
            wrong("group", format!("group: it has 1 to {GROUP_BYTES_MAX} bytes"));
        }
        let sizes =
            [("queue_bytes", self.queue_bytes), ("fetch_bytes", self.fetch_bytes), ("held_bytes", self.held_bytes)];
        for (name, size) in sizes {
            if size.0 < 1024 {
                wrong(name, format!("{name}: it must be at least 1 KiB"));
            }
        }
        let mut event = CloudEvent::new("i", "s", "t");
        for (name, value) in [("type", &self.ty), ("source", &self.source)] {
            if let Some(Err(error)) = value.as_ref().map(|value| event.set(name, value.as_str().into())) {
                wrong(name, error.problem().to_owned());
            }
        }
        errors.extend(self.begin().err());
        errors
    }

    pub(super) fn begin(&self) -> Result<Begin, ConfigError> {
        match &self.start {
            StartAt::End(StartEnd::Earliest) => Ok(Begin::Earliest),
            StartAt::End(StartEnd::Latest) => Ok(Begin::Latest),
            StartAt::Time(StartTime { timestamp }) => {
                let wrong = |error: EventError| {
                    ConfigError::fields("start.timestamp", format!("start.timestamp: {}", error.problem()))
                };
                let (seconds, nanos) = parse_timestamp(timestamp).map_err(wrong)?;
                Ok(Begin::At(seconds.saturating_mul(1000).saturating_add(i64::from(nanos) / 1_000_000)))
            }
        }
    }

    /// The properties that librdkafka is given. Has secrets in it: not for showing.
    pub(super) fn client_config(&self) -> Result<BTreeMap<String, String>, ConfigError> {
        let mut errors = self.wrong_fields();
        let client = self.client(&mut errors);
        errors.into_iter().next().map_or(Ok(client), Err)
    }

    /// The same without what is wrong, which `errors` tells.
    fn client(&self, errors: &mut Vec<ConfigError>) -> BTreeMap<String, String> {
        let mut client = BTreeMap::new();
        let mut set = |name: &str, value: String| {
            client.insert(name.to_owned(), value);
        };
        let Self { bootstrap_servers, event_hubs, sasl, tls, properties, .. } = self;
        Cluster { bootstrap_servers, event_hubs, sasl, tls }.client_config(properties, OWNED, &mut set, errors);
        let fetch_bytes = self.fetch_bytes.0.to_string();
        set("group.id", self.group.clone());
        set("partition.assignment.strategy", "cooperative-sticky".into());
        set("enable.auto.commit", "false".into());
        set("enable.auto.offset.store", "false".into());
        // Also of a group whose offset has expired: what is left is read. `start` is looked up.
        set("auto.offset.reset", "earliest".into());
        set("queued.min.messages", self.queue_events.to_string());
        set("queued.max.messages.kbytes", self.queue_bytes.0.div_ceil(1024).to_string());
        set("message.max.bytes", fetch_bytes.clone());
        set("fetch.message.max.bytes", fetch_bytes.clone());
        set("fetch.max.bytes", fetch_bytes);
        set("receive.message.max.bytes", ANSWER_BYTES_MAX.max(self.fetch_bytes.0 + 512).to_string());
        set("statistics.interval.ms", STATISTICS_MS.to_string());
        client.retain(|name, _| !OF_PRODUCERS.contains(&name.as_str()));
        client
    }
}
