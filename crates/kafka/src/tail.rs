//! Reads topics as they are, for people: no group, no commits, no effect on the cluster.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use jaiminho_event::{CloudEvent, Data, Value};
use rdkafka::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};

use crate::config::ConfigError;
use crate::producer::{config_error, log, native};

/// How often new topics and partitions are looked for.
const DISCOVER_EVERY: Duration = Duration::from_secs(2);
const METADATA_TIMEOUT: Duration = Duration::from_secs(5);
/// Without a record or an answer for so long, a client may have lost its brokers for good (see [`crate::watch`]).
const LOST_AFTER: Duration = Duration::from_secs(10);

/// What to read.
#[derive(Clone, Debug)]
pub struct TailConfig {
    /// `host:port`, comma-separated.
    pub bootstrap_servers: String,
    /// Further properties, such as [`crate::client_config`]'s; those of producers are left out.
    pub properties: BTreeMap<String, String>,
    /// Names, in which `*` stands for any characters. Empty: all but the cluster's own (`__…`).
    pub topics: Vec<String>,
    /// Where to begin. What appears later is read from its beginning.
    pub start: Start,
    /// Reads what is there now, and nothing that is written later.
    pub stops: bool,
}

/// Where a tail begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the oldest record.
    Beginning,
    /// With the next record.
    End,
    /// With the last so many records of each partition.
    Last(u32),
}

/// One record.
#[derive(Clone, Debug)]
pub struct TailRecord {
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset in it.
    pub offset: i64,
    /// Unix time in ms, where the record has one.
    pub timestamp_ms: Option<i64>,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// All headers, in order, bytes that are not UTF-8 replaced.
    pub headers: Vec<(String, String)>,
    /// The event, when it is one.
    pub event: Option<CloudEvent>,
    /// The bytes, when it is none.
    pub value: Option<Vec<u8>>,
}

/// Why a tail ends.
#[derive(Debug, thiserror::Error)]
pub enum TailError {
    /// Its configuration is refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The cluster doesn't answer.
    #[error("Kafka: {0}")]
    Kafka(String),
}

impl From<KafkaError> for TailError {
    fn from(error: KafkaError) -> Self {
        Self::Kafka(error.to_string())
    }
}

struct TailContext;

impl ClientContext for TailContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log(level, facility, text);
    }

    fn error(&self, error: KafkaError, text: &str) {
        tracing::debug!(%error, text, "kafka client");
    }
}

impl ConsumerContext for TailContext {}

/// A reader of topics. Its calls block: it belongs on a thread that may.
pub struct Tail {
    properties: BTreeMap<String, String>,
    consumer: BaseConsumer<TailContext>,
    topics: Vec<String>,
    start: Start,
    /// The cluster's topics, but its own, when it last told them.
    existing: BTreeSet<String>,
    assigned: HashMap<String, i32>,
    /// What is next of each partition.
    positions: HashMap<(String, i32), Offset>,
    at_end: HashSet<(String, i32)>,
    /// Where it stops, if it does: of what is not in here, at once.
    ends: Option<HashMap<(String, i32), i64>>,
    discover_at: Instant,
    answered_at: Instant,
}

impl Tail {
    /// Asks the cluster for its topics.
    pub fn open(config: TailConfig) -> Result<Self, TailError> {
        let mut properties: BTreeMap<String, String> =
            config.properties.into_iter().filter(|(name, _)| is_shared(name)).collect();
        properties.insert("bootstrap.servers".into(), config.bootstrap_servers);
        // librdkafka wants a group for any assignment; nothing is ever joined or committed under this name.
        for (name, value) in
            [("group.id", "jaiminho-tail"), ("enable.auto.commit", "false"), ("enable.partition.eof", "true")]
        {
            properties.insert(name.into(), value.into());
        }
        properties.insert("auto.offset.reset".into(), "earliest".into());
        let mut tail = Self {
            consumer: consumer(&properties)?,
            properties,
            topics: config.topics,
            start: config.start,
            existing: BTreeSet::new(),
            assigned: HashMap::new(),
            positions: HashMap::new(),
            at_end: HashSet::new(),
            ends: None,
            discover_at: Instant::now() + DISCOVER_EVERY,
            answered_at: Instant::now(),
        };
        tail.discover(config.start)?;
        if config.stops {
            tail.ends = Some(tail.present_ends()?);
        }
        Ok(tail)
    }

    fn present_ends(&self) -> Result<HashMap<(String, i32), i64>, TailError> {
        let end = |(topic, partition): &(String, i32)| {
            let (_, high) = self.consumer.fetch_watermarks(topic, *partition, METADATA_TIMEOUT)?;
            Ok(((topic.clone(), *partition), high))
        };
        self.positions.keys().map(end).collect()
    }

    /// The next record; none within `wait`: `None`.
    pub fn next(&mut self, wait: Duration) -> Result<Option<TailRecord>, TailError> {
        let deadline = Instant::now() + wait;
        loop {
            let now = Instant::now();
            if now >= self.discover_at {
                self.discover_at = now + DISCOVER_EVERY;
                if let Err(error) = self.discover(Start::Beginning) {
                    tracing::debug!(%error, "no metadata; trying again");
                }
                if self.answered_at.elapsed() >= LOST_AFTER {
                    self.reopen()?;
                }
            }
            let until = deadline.min(self.discover_at).saturating_duration_since(now);
            match self.consumer.poll(until) {
                Some(Ok(message)) => {
                    let place = (message.topic().to_owned(), message.partition());
                    let end = self.ends.as_ref().map(|ends| ends.get(&place).copied().unwrap_or_default());
                    if end.is_none_or(|end| message.offset() < end) {
                        self.at_end.remove(&place);
                        self.positions.insert(place, Offset::Offset(message.offset() + 1));
                        self.answered_at = Instant::now();
                        return Ok(Some(decode(&message)));
                    }
                    self.at_end.insert(place);
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => self.note_ends(partition)?,
                Some(Err(KafkaError::MessageConsumptionFatal(code))) => return Err(TailError::Kafka(code.to_string())),
                Some(Err(error)) => tracing::debug!(%error, "reading; trying again"),
                None => {}
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
        }
    }

    /// Whether all partitions were read up to their ends as they were then.
    pub fn is_at_end(&self) -> bool {
        self.at_end.len() >= self.positions.len()
    }

    /// The topics that are read.
    pub fn topics(&self) -> BTreeSet<&str> {
        self.assigned.keys().map(String::as_str).collect()
    }

    /// What of the wanted topics there is none of.
    pub fn unmatched(&self) -> Vec<&str> {
        let is_read = |pattern: &str| self.assigned.keys().any(|topic| matches(pattern, topic));
        self.topics.iter().map(String::as_str).filter(|pattern| !is_read(pattern)).collect()
    }

    /// All topics but the cluster's own, as it told them last.
    pub fn existing(&self) -> &BTreeSet<String> {
        &self.existing
    }

    /// rdkafka's end-of-partition error doesn't name its topic: positions tell.
    fn note_ends(&mut self, partition: i32) -> Result<(), TailError> {
        for element in self.consumer.position()?.elements().iter().filter(|each| each.partition() == partition) {
            let topic = element.topic();
            if self.at_end.contains(&(topic.to_owned(), partition)) {
                continue;
            }
            let (low, high) = self.consumer.fetch_watermarks(topic, partition, METADATA_TIMEOUT)?;
            let is_end = match element.offset() {
                Offset::Offset(offset) => offset >= high,
                Offset::Invalid => low == high || matches!(self.start, Start::End | Start::Last(0)),
                Offset::Beginning | Offset::End | Offset::Stored | Offset::OffsetTail(_) => false,
            };
            if is_end {
                let place = (topic.to_owned(), partition);
                if let Some(position) = self.positions.get_mut(&place)
                    && (low == high || matches!(position, Offset::End | Offset::OffsetTail(0)))
                {
                    *position = Offset::Offset(high);
                }
                self.at_end.insert(place);
            }
        }
        Ok(())
    }

    fn discover(&mut self, start: Start) -> Result<(), TailError> {
        let metadata = self.consumer.fetch_metadata(None, METADATA_TIMEOUT)?;
        if !metadata.brokers().is_empty() {
            self.answered_at = Instant::now();
        }
        let topics = || metadata.topics().iter().filter(|topic| topic.error().is_none());
        self.existing = topics().map(|topic| topic.name().to_owned()).filter(|name| !is_internal(name)).collect();
        let mut added = TopicPartitionList::new();
        for topic in topics() {
            let count = i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX);
            let known = self.assigned.get(topic.name()).copied().unwrap_or(0);
            if count <= known || !self.is_wanted(topic.name()) {
                continue;
            }
            for partition in known..count {
                added.add_partition_offset(topic.name(), partition, offset(start))?;
                self.positions.insert((topic.name().to_owned(), partition), offset(start));
            }
            self.assigned.insert(topic.name().to_owned(), count);
        }
        if added.count() > 0 {
            self.consumer.incremental_assign(&added)?;
        }
        Ok(())
    }

    /// A new client, fresh from the configuration, goes on where the last one was.
    fn reopen(&mut self) -> Result<(), TailError> {
        tracing::debug!("no broker answers; a new client is tried");
        self.consumer = consumer(&self.properties)?;
        self.answered_at = Instant::now();
        let mut all = TopicPartitionList::new();
        for ((topic, partition), offset) in &self.positions {
            all.add_partition_offset(topic, *partition, *offset)?;
        }
        Ok(self.consumer.incremental_assign(&all)?)
    }

    /// As a client is that was told of no broker.
    #[cfg(test)]
    pub(crate) fn strand(&mut self) {
        let nowhere = BTreeMap::from([("bootstrap.servers", "127.0.0.1:1"), ("group.id", "none")]);
        let nowhere = nowhere.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        self.consumer = consumer(&nowhere).expect("a client");
    }

    fn is_wanted(&self, topic: &str) -> bool {
        if self.topics.is_empty() { !is_internal(topic) } else { self.topics.iter().any(|p| matches(p, topic)) }
    }
}

impl std::fmt::Debug for Tail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tail").field("topics", &self.topics()).finish_non_exhaustive()
    }
}

fn consumer(properties: &BTreeMap<String, String>) -> Result<BaseConsumer<TailContext>, ConfigError> {
    BaseConsumer::from_config_and_context(&native(properties), TailContext).map_err(config_error)
}

fn offset(start: Start) -> Offset {
    match start {
        Start::Beginning => Offset::Beginning,
        Start::End | Start::Last(0) => Offset::End,
        Start::Last(count) => Offset::OffsetTail(i64::from(count)),
    }
}

/// Properties of the connection, which a consumer has too.
fn is_shared(name: &str) -> bool {
    const PREFIXES: [&str; 8] =
        ["security.", "sasl.", "ssl.", "https.", "socket.", "broker.", "metadata.max.age", "connections.max.idle"];
    PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether a topic is the cluster's own.
fn is_internal(topic: &str) -> bool {
    topic.starts_with("__")
}

fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(tail) = name.strip_prefix(head) else { return false };
    (0..=tail.len()).filter(|at| tail.is_char_boundary(*at)).any(|at| matches(rest, &tail[at..]))
}

fn decode(message: &BorrowedMessage<'_>) -> TailRecord {
    let headers: Vec<(String, String)> = message.headers().map_or_else(Vec::new, |headers| {
        let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
        headers.iter().map(|header| (header.key.to_owned(), text(header.value))).collect()
    });
    let event = event_of(&headers, message.payload());
    let value = if event.is_some() { None } else { message.payload().map(<[u8]>::to_vec) };
    TailRecord {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis(),
        key: message.key().map(<[u8]>::to_vec),
        headers,
        event,
        value,
    }
}

/// CloudEvents' Kafka binding, read: structured by its content type, else binary by its headers.
fn event_of(headers: &[(String, String)], value: Option<&[u8]>) -> Option<CloudEvent> {
    let header = |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, text)| text.as_str());
    let content_type = header("content-type");
    if content_type.is_some_and(|text| text.to_ascii_lowercase().starts_with("application/cloudevents")) {
        return CloudEvent::from_json_slice(value?).ok();
    }
    if header("ce_specversion") != Some("1.0") {
        return None;
    }
    let mut event = CloudEvent::new(header("ce_id")?, header("ce_source")?, header("ce_type")?);
    for (name, text) in headers.iter().filter_map(|(key, text)| Some((key.strip_prefix("ce_")?, text))) {
        if !matches!(name, "specversion" | "id" | "source" | "type") {
            event.set(name, Value::String(text.clone())).ok()?;
        }
    }
    if let Some(content_type) = content_type {
        event.set("datacontenttype", Value::String(content_type.to_owned())).ok()?;
    }
    event.data = match value.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => Data::None,
        Some((_, Ok(text))) => Data::Text(text.to_owned()),
        Some((bytes, Err(_))) => Data::Binary(bytes.to_vec().into()),
    };
    Some(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        assert!(matches("eugenio.*", "eugenio.measurement.v1"));
        assert!(matches("*.v1", "eugenio.measurement.v1"));
        assert!(matches("e*m*1", "eugenio.measurement.v1"));
        assert!(matches("exact", "exact"));
        assert!(!matches("exact", "exact.not"));
        assert!(!matches("eugenio.*", "other"));
    }
}
