//! What a pipeline file says about a Kafka sink, and the client configuration that follows from it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use jaiminho_event::units::ByteSize;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::cluster::Cluster;
use crate::event_hubs::EventHubs;
use crate::secret::Secret;

/// `sink: { kafka: … }`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SinkConfig {
    /// `host:port`, comma-separated. `embedded` is the broker of `jaiminho up`. Follows from `event_hubs` where that is set.
    #[serde(default)]
    pub bootstrap_servers: Option<String>,
    /// Template of the topic's name. An event without one of its fields is rejected.
    pub topic: String,
    /// Most topics that events may name: a client chooses them. More are rejected.
    #[schemars(range(min = 1))]
    #[serde(default = "default_topics_max")]
    pub topics_max: usize,
    /// Template of the record's key; a missing field makes it null. Default: the event's `partitionkey`.
    #[serde(default)]
    pub key: Option<String>,
    /// Templates of further headers; one with a missing field is left out.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// How the event becomes a record.
    #[serde(default)]
    pub mode: Mode,
    /// Most records in librdkafka's queue; beyond it the sink waits.
    #[schemars(range(min = 1, max = 2_147_483_647))]
    #[serde(default = "default_queue_events")]
    pub queue_events: u32,
    /// Most bytes in librdkafka's queue; beyond it the sink waits.
    #[serde(default = "default_queue_bytes")]
    pub queue_bytes: ByteSize,
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

/// CloudEvents content mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Attributes in `ce_` headers, data as the value.
    #[default]
    Binary,
    /// The whole event as JSON in the value.
    Structured,
}

/// A property's value.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Scalar {
    /// `true`
    Bool(bool),
    /// `5`
    Integer(i64),
    /// `zstd`
    Text(String),
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Integer(value) => value.fmt(f),
            Self::Text(value) => value.fmt(f),
        }
    }
}

// A value may be a secret that somebody put here in spite of `sasl`.
impl fmt::Debug for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[value]")
    }
}

/// Authentication by SASL.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sasl {
    /// Which mechanism the broker offers.
    pub mechanism: SaslMechanism,
    /// For PLAIN and SCRAM.
    #[serde(default)]
    pub username: Option<String>,
    /// For PLAIN and SCRAM.
    #[serde(default)]
    pub password: Option<Secret>,
    /// For OAUTHBEARER.
    #[serde(default)]
    pub method: Option<OauthMethod>,
    /// For OAUTHBEARER.
    #[serde(default)]
    pub client_id: Option<String>,
    /// For OAUTHBEARER.
    #[serde(default)]
    pub client_secret: Option<Secret>,
    /// For OAUTHBEARER.
    #[serde(default)]
    pub scope: Option<String>,
    /// For OAUTHBEARER.
    #[serde(default)]
    pub token_endpoint_url: Option<String>,
}

/// A SASL mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum SaslMechanism {
    /// User and password; use it with `tls` only.
    #[serde(rename = "PLAIN")]
    Plain,
    /// Salted challenge response.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// Salted challenge response.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
    /// OAuth 2 client credentials.
    #[serde(rename = "OAUTHBEARER")]
    OauthBearer,
}

impl SaslMechanism {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::OauthBearer => "OAUTHBEARER",
        }
    }
}

/// Where an OAUTHBEARER token comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OauthMethod {
    /// From `token_endpoint_url`, by client credentials.
    Oidc,
}

/// Encryption and the client's certificate. All files are PEM.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Authorities to trust. Default: the system's.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// This client's certificate.
    #[serde(default)]
    pub cert: Option<PathBuf>,
    /// Its private key.
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// The key's pass phrase.
    #[serde(default)]
    pub key_password: Option<Secret>,
}

/// Why a sink or a source can't be made from its configuration. Never shows a secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A property that the component sets itself.
    #[error("property {name} can't be set: {reason}")]
    Owned {
        /// The property.
        name: String,
        /// What holds instead.
        reason: &'static str,
    },
    /// A template that doesn't parse.
    #[error("{field}: {error}")]
    Template {
        /// `topic`, `key` or `headers.NAME`.
        field: String,
        /// What is wrong.
        error: String,
    },
    /// A header that CloudEvents' Kafka binding sets.
    #[error("headers: {0:?} can't be set: ce_… and content-type belong to CloudEvents")]
    Header(String),
    /// A field is missing, or excludes another.
    #[error("{text}")]
    Fields {
        /// The dotted path of the map that they are in; empty: the component itself.
        path: &'static str,
        /// What is wrong.
        text: String,
    },
    /// Two fields of which one would do.
    #[error("{one} and {other} exclude each other")]
    Exclusive {
        /// A field of the sink.
        one: &'static str,
        /// Another one.
        other: &'static str,
    },
    /// A topic without a template whose name Kafka doesn't allow.
    #[error("topic {0:?} is not a name that Kafka allows: 1-249 of a-z, A-Z, 0-9, '.', '_' and '-'")]
    Topic(String),
    /// A secret's file can't be read.
    #[error("{field}: can't read {file}: {error}", file = file.display())]
    SecretFile {
        /// Which secret.
        field: &'static str,
        /// Its file.
        file: PathBuf,
        /// Why.
        error: String,
    },
    /// librdkafka doesn't know a property, or not this value.
    #[error("property {name}: {text}")]
    Property {
        /// The property.
        name: String,
        /// librdkafka's words.
        text: String,
    },
    /// librdkafka refuses the configuration as a whole.
    #[error("Kafka client: {0}")]
    Client(String),
}

impl ConfigError {
    pub(crate) fn fields(path: &'static str, text: impl Into<String>) -> Self {
        Self::Fields { path, text: text.into() }
    }

    /// The way to the setting concerned, key by key, inside of the component; empty: the component itself.
    pub fn path(&self) -> Vec<&str> {
        match self {
            Self::Owned { name, .. } => vec!["properties", name],
            Self::Property { name, .. } => match OF_FIELDS.iter().find(|(property, _)| property == name) {
                Some((_, field)) => vec![field],
                None => vec!["properties", name],
            },
            Self::Header(name) => vec!["headers", name],
            // A header's name may have dots.
            Self::Template { field, .. } => field.splitn(2, '.').collect(),
            Self::Fields { path, .. } => path.split('.').filter(|key| !key.is_empty()).collect(),
            Self::Exclusive { other, .. } => vec![other],
            Self::Topic(_) => vec!["topic"],
            Self::SecretFile { field, .. } => field.split('.').chain(["file"]).collect(),
            Self::Client(_) => Vec::new(),
        }
    }
}

fn default_topics_max() -> usize {
    50
}

fn default_queue_events() -> u32 {
    100_000
}

fn default_queue_bytes() -> ByteSize {
    ByteSize(64 * 1024 * 1024)
}

/// Properties that belong to the sink: a name or its beginning, and what holds instead.
const OWNED: &[(&str, &str)] = &[
    ("enable.idempotence", "it is always true: retries must neither duplicate nor reorder"),
    ("enable.gapless.guarantee", "it is always true: a key's order must outlive a failed batch"),
    ("acks", "it is always all: an event is acknowledged only when it is safe"),
    ("request.required.acks", "it is always all: an event is acknowledged only when it is safe"),
    ("retries", "a broker that is away is retried without limit"),
    ("message.send.max.retries", "a broker that is away is retried without limit"),
    ("message.timeout.ms", "there is none: a broker that is away is waited for"),
    ("delivery.timeout.ms", "there is none: a broker that is away is waited for"),
    ("max.in.flight", "idempotence sets it"),
    ("queuing.strategy", "it is always fifo: a key's order depends on it"),
    ("queue.buffering.max.messages", "it is the field queue_events"),
    ("queue.buffering.max.kbytes", "it is the field queue_bytes"),
    ("topic.metadata.propagation.max.ms", "an unknown topic is waited for 60 s"),
    ("transactional.id", "the sink makes no transactions"),
    ("delivery.report.only.error", "events are settled by delivery reports"),
    ("dr_", "events are settled by delivery reports"),
];

/// Properties whose values come from fields.
const OF_FIELDS: &[(&str, &str)] = &[
    ("bootstrap.servers", "bootstrap_servers"),
    ("queue.buffering.max.messages", "queue_events"),
    ("queue.buffering.max.kbytes", "queue_bytes"),
    ("queued.min.messages", "queue_events"),
    ("queued.max.messages.kbytes", "queue_bytes"),
    ("fetch.max.bytes", "fetch_bytes"),
    ("fetch.message.max.bytes", "fetch_bytes"),
    ("message.max.bytes", "fetch_bytes"),
    ("receive.message.max.bytes", "fetch_bytes"),
    ("group.id", "group"),
];

/// Most mistakes that are looked for among the properties.
const PROPERTY_ERRORS_MAX: usize = 100;

impl SinkConfig {
    /// A sink to `topic` at `bootstrap_servers`, all else as by default.
    pub fn new(bootstrap_servers: impl Into<String>, topic: impl Into<String>) -> Self {
        Self {
            bootstrap_servers: Some(bootstrap_servers.into()),
            topic: topic.into(),
            topics_max: default_topics_max(),
            key: None,
            headers: BTreeMap::new(),
            mode: Mode::Binary,
            queue_events: default_queue_events(),
            queue_bytes: default_queue_bytes(),
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

    /// Most bytes that librdkafka's queue takes: its own copies of the records and their bookkeeping.
    pub fn memory_bytes_max(&self) -> u64 {
        /// `rd_kafka_msg_t` and its headers' list.
        const RECORD_OVERHEAD_BYTES: u64 = 256;
        self.queue_bytes.0 + u64::from(self.queue_events) * RECORD_OVERHEAD_BYTES
    }

    /// Everything that is wrong and can be known without a connection: fields, templates, properties, secrets' files.
    pub fn check(&self) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        let client = client(self, &mut errors);
        errors.extend(crate::record::Shape::check(self));
        errors.extend(wrong_properties(client));
        errors
    }
}

/// One by one: librdkafka stops at the first that it doesn't take.
pub(crate) fn wrong_properties(client: BTreeMap<String, String>) -> impl Iterator<Item = ConfigError> {
    let wrong = client.into_iter().filter_map(|property| crate::producer::check(&[property].into()).err());
    wrong.take(PROPERTY_ERRORS_MAX)
}

/// The properties that librdkafka is given. Has secrets in it: not for showing.
///
/// # Errors
///
/// The first mistake; [`SinkConfig::check`] tells all.
pub fn client_config(config: &SinkConfig) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut errors = Vec::new();
    let client = client(config, &mut errors);
    errors.into_iter().next().map_or(Ok(client), Err)
}

/// The same without what is wrong, which `errors` tells.
fn client(config: &SinkConfig, errors: &mut Vec<ConfigError>) -> BTreeMap<String, String> {
    let mut client = BTreeMap::new();
    let mut set = |name: &str, value: String| {
        client.insert(name.to_owned(), value);
    };
    set("partitioner", "murmur2_random".into());
    // The client's own 5 ms would be most of a single event's way; under load five requests under way make the batches.
    set("linger.ms", "1".into());
    let SinkConfig { bootstrap_servers, event_hubs, sasl, tls, properties, .. } = config;
    Cluster { bootstrap_servers, event_hubs, sasl, tls }.client_config(properties, OWNED, &mut set, errors);
    set("enable.idempotence", "true".into());
    set("enable.gapless.guarantee", "true".into());
    set("acks", "all".into());
    set("message.timeout.ms", "0".into());
    set("queue.buffering.max.messages", config.queue_events.to_string());
    set("queue.buffering.max.kbytes", config.queue_bytes.0.div_ceil(1024).to_string());
    client
}
