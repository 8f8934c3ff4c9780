//! What the sink is measured against: a bare producer loop with the sink's properties.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;

use crate::config::{ConfigError, SinkConfig, client_config};
use crate::producer::{config_error, log, native};

/// Records between two looks at delivery reports.
const POLL_EVERY: usize = 1_000;
const QUEUE_FULL_POLL: Duration = Duration::from_millis(1);
const FLUSH_DEADLINE: Duration = Duration::from_secs(60);

/// A record, ready-made.
#[derive(Clone, Debug)]
pub struct BareRecord {
    pub key: String,
    pub headers: Vec<(&'static str, String)>,
    pub value: Vec<u8>,
}

/// A producer and nothing else.
pub struct BareRun {
    producer: BaseProducer<Delivered>,
    topic: String,
}

#[derive(Default)]
struct Delivered(AtomicU64);

impl ClientContext for Delivered {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log(level, facility, text);
    }
}

impl ProducerContext for Delivered {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_ok() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl BareRun {
    /// With the sink's properties, to the sink's topic.
    pub fn new(config: &SinkConfig) -> Result<Self, ConfigError> {
        let properties = native(&client_config(config)?);
        let producer = BaseProducer::from_config_and_context(&properties, Delivered::default());
        Ok(Self { producer: producer.map_err(config_error)?, topic: config.topic.clone() })
    }

    /// Sends all, and waits until the broker has confirmed them: how many it has, of all so far.
    pub fn send_all(&self, records: &[BareRecord]) -> Result<u64, ConfigError> {
        for (number, record) in records.iter().enumerate() {
            self.send(record)?;
            if number % POLL_EVERY == 0 {
                self.producer.poll(Duration::ZERO);
            }
        }
        self.producer.flush(FLUSH_DEADLINE).map_err(config_error)?;
        Ok(self.producer.context().0.load(Ordering::Relaxed))
    }

    fn send(&self, record: &BareRecord) -> Result<(), ConfigError> {
        let headers = record
            .headers
            .iter()
            .fold(OwnedHeaders::new_with_capacity(record.headers.len()), |headers, (key, value)| {
                headers.insert(Header { key, value: Some(value) })
            });
        let mut unsent =
            BaseRecord::to(&self.topic).key(record.key.as_str()).payload(record.value.as_slice()).headers(headers);
        loop {
            match self.producer.send(unsent) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    unsent = back;
                    self.producer.poll(QUEUE_FULL_POLL);
                }
                Err((error, _)) => return Err(config_error(error)),
            }
        }
    }
}
