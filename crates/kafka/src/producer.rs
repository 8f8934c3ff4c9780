//! One librdkafka producer: made, polled, and given up when it can't go on.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use jaiminho_event::EventView;
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext, PurgeConfig};
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaErrorCode as Code;

use crate::config::ConfigError;
use crate::outbox::{Placed, Produce};
use crate::record::Shape;
use crate::statistics::BrokerMeters;

/// How long a topic that was away is asked about.
const REFRESH_TIMEOUT: Duration = Duration::from_millis(500);

/// Between two looks at what a client that is given up still delivers.
const GIVE_UP_POLL: Duration = Duration::from_millis(5);

pub(crate) type Report = (u64, Result<Placed, Code>);

/// Collects delivery reports. Only the thread that polls runs it, so its lock is never waited for.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    reports: Mutex<Vec<Report>>,
    fatal: AtomicBool,
    last_error: Mutex<Option<String>>,
    meters: BrokerMeters,
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log(level, facility, text);
    }

    fn stats(&self, statistics: Statistics) {
        self.meters.told(&statistics);
    }

    fn error(&self, error: KafkaError, text: &str) {
        if error.rdkafka_error_code() == Some(Code::Fatal) {
            self.fatal.store(true, Ordering::Relaxed);
        }
        self.meters.error(error.rdkafka_error_code().unwrap_or(Code::Unknown));
        tracing::warn!(%error, "the Kafka client says: {text}");
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(text.to_owned());
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, seq: usize) {
        let result = match result {
            Ok(record) => Ok(Placed { partition: record.partition(), offset: record.offset() }),
            Err((error, record)) => {
                tracing::debug!(%error, topic = record.topic(), "record not delivered");
                let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
                self.meters.error(code);
                Err(code)
            }
        };
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).push((seq as u64, result));
    }
}

/// librdkafka's log lines go where ours go; it keeps secrets out of them itself.
pub(crate) fn log(level: RDKafkaLogLevel, facility: &str, text: &str) {
    // It calls a property experimental that we own and always set: nothing that anybody could act on.
    static GAPLESS: Once = Once::new();
    if facility == "CONFWARN" && text.contains("enable.gapless.guarantee") {
        GAPLESS.call_once(|| tracing::debug!(facility, "librdkafka: {text}"));
        return;
    }
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
            tracing::error!(facility, "librdkafka: {text}");
        }
        RDKafkaLogLevel::Warning => tracing::warn!(facility, "librdkafka: {text}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::info!(facility, "librdkafka: {text}"),
        RDKafkaLogLevel::Debug => tracing::debug!(facility, "librdkafka: {text}"),
    }
}

/// A live client. Dropping it drops what it has not delivered.
pub(crate) struct Connection(BaseProducer<Reports>);

/// A cluster's answer about a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaders {
    /// Each partition has one.
    All,
    /// The topic is unknown, or a partition of it has none.
    Missing,
    /// The answer lists no broker: the client that got it has nobody to ask any more.
    NoBroker,
}

impl Connection {
    /// One that tells no metrics.
    pub(crate) fn open(properties: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        Self::open_metered(properties, BrokerMeters::default())
    }

    pub(crate) fn open_metered(
        properties: &BTreeMap<String, String>,
        meters: BrokerMeters,
    ) -> Result<Self, ConfigError> {
        let (config, reports) = (native(properties), Reports { meters, ..Reports::default() });
        BaseProducer::from_config_and_context(&config, reports).map(Self).map_err(config_error)
    }

    /// Takes all delivery reports that have come.
    pub(crate) fn poll(&self) -> Vec<Report> {
        let mut reports = Vec::new();
        loop {
            // One event of the client a call: the reports of one batch, or a line of its log.
            self.0.poll(Duration::ZERO);
            let more = std::mem::take(&mut *self.0.context().reports.lock().unwrap_or_else(PoisonError::into_inner));
            if more.is_empty() {
                return reports;
            }
            reports.extend(more);
        }
    }

    /// Whether librdkafka has given up.
    pub(crate) fn is_fatal(&self) -> bool {
        self.0.context().fatal.load(Ordering::Relaxed)
    }

    /// What it said last of its brokers, since it was made.
    pub(crate) fn last_error(&self) -> Option<String> {
        self.0.context().last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gives the client up: what is on its way to the broker may still be confirmed within `wait`; the rest is purged.
    /// Returns the reports of what was delivered.
    pub(crate) fn give_up(self, wait: Duration) -> Vec<Report> {
        let deadline = Instant::now() + wait;
        self.0.purge(PurgeConfig::default().queue().non_blocking());
        let mut reports = Vec::new();
        loop {
            std::thread::sleep(GIVE_UP_POLL);
            reports.extend(self.poll());
            if self.0.in_flight_count() == 0 || Instant::now() >= deadline {
                break;
            }
        }
        self.0.purge(PurgeConfig::default().queue().inflight());
        reports.extend(self.poll());
        reports.retain(|(_, result)| result.is_ok());
        reports
    }

    /// What the cluster says of the topic; none: no broker answers within `wait`.
    pub(crate) fn leaders(&self, topic: &str, wait: Duration) -> Option<Leaders> {
        let deadline = Instant::now() + wait;
        loop {
            // A client that has still to authenticate gets its token by being polled. Reports wait for the next `poll`.
            self.0.poll(Duration::ZERO);
            let left = deadline.saturating_duration_since(Instant::now());
            if let Ok(metadata) = self.0.client().fetch_metadata(Some(topic), left.min(REFRESH_TIMEOUT)) {
                let mut partitions = metadata.topics().iter().flat_map(|topic| topic.partitions()).peekable();
                let all_led = partitions.peek().is_some() && partitions.all(|partition| partition.leader() >= 0);
                return Some(match all_led {
                    true => Leaders::All,
                    false if metadata.brokers().is_empty() => Leaders::NoBroker,
                    false => Leaders::Missing,
                });
            }
            if left.is_zero() {
                return None;
            }
        }
    }
}

impl Produce for Connection {
    fn produce(
        &mut self,
        seq: u64,
        topic: &str,
        shape: &Shape,
        event: &EventView<'_>,
        traceparent: Option<&str>,
    ) -> Result<(), Code> {
        let parts = shape.parts(event, traceparent);
        let mut record: BaseRecord<'_, str, [u8], usize> =
            BaseRecord::with_opaque_to(topic, seq as usize).headers(parts.headers);
        if let Some(key) = &parts.key {
            record = record.key(key);
        }
        if let Some(value) = &parts.value {
            record = record.payload(value);
        }
        self.0.send(record).map_err(|(error, _)| error.rdkafka_error_code().unwrap_or(Code::Unknown))
    }

    fn refresh(&mut self, topic: &str) -> bool {
        let answer = self.0.client().fetch_metadata(Some(topic), REFRESH_TIMEOUT);
        answer.inspect_err(|error| tracing::debug!(%error, topic, "no metadata")).is_ok()
    }
}

/// Whether librdkafka knows these properties and values; opens nothing.
pub(crate) fn check(properties: &BTreeMap<String, String>) -> Result<(), ConfigError> {
    native(properties).create_native_config().map(drop).map_err(config_error)
}

pub(crate) fn native(properties: &BTreeMap<String, String>) -> ClientConfig {
    let mut config: ClientConfig = properties.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    config.set_log_level(RDKafkaLogLevel::Info);
    config
}

/// Without the value, which may be a secret.
pub(crate) fn config_error(error: KafkaError) -> ConfigError {
    let KafkaError::ClientConfig(_, text, name, value) = error else { return ConfigError::Client(error.to_string()) };
    let text = if value.is_empty() { text } else { text.replace(&value, "[value]") }.trim_end().to_owned();
    ConfigError::Property { name, text }
}
