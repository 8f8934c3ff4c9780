//! Which sources, transforms and sinks a stage may have.

pub(crate) use jaiminho_convert::TransformConfig as Steps;
pub(crate) use jaiminho_ingest::Config as IngestConfig;
pub(crate) use jaiminho_kafka::{SinkConfig as KafkaConfig, SourceConfig as KafkaSourceConfig};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::components::{BlackholeConfig, FileConfig, GenerateConfig, StdoutConfig};

/// A source: `generate`, `kafka`, or HTTP and WebSocket.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Source {
    Generate(GenerateSource),
    Kafka(KafkaSource),
    Ingest(Box<IngestConfig>),
}

/// Made-up events, for tests and benches.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GenerateSource {
    /// Makes events by itself.
    pub(crate) generate: GenerateConfig,
}

/// Topics of Apache Kafka, Azure Event Hubs, and what speaks their protocol.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KafkaSource {
    /// Reads topics as a member of a consumer group.
    pub(crate) kafka: Box<KafkaSourceConfig>,
}

impl Source {
    /// Whether it rejects by itself what nobody waits for (and so has a dead-letter output). Others answer.
    pub(crate) fn has_dead_letters(&self) -> bool {
        match self {
            Self::Kafka(_) => true,
            Self::Generate(_) | Self::Ingest(_) => false,
        }
    }
}

/// A sink: exactly one of these.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Sink {
    /// Apache Kafka, Azure Event Hubs, and what speaks their protocol.
    Kafka(Box<KafkaConfig>),
    /// Prints events to standard output.
    Stdout(StdoutConfig),
    /// Appends events to a file.
    File(FileConfig),
    /// Accepts every event and forgets it.
    Blackhole(BlackholeConfig),
}

impl Sink {
    /// Whether it may reject an event of ours (and so has a dead-letter output worth a subscriber). `stdout` and `file`
    /// reject only what is no CloudEvent, which only a foreign stage can send.
    pub(crate) fn can_reject(&self) -> bool {
        match self {
            Self::Kafka(_) => true,
            Self::Stdout(_) | Self::File(_) | Self::Blackhole(_) => false,
        }
    }
}
