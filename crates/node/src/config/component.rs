//! Which sources, transforms and sinks a stage may have.

use jaiminho_convert::Batch;
pub(crate) use jaiminho_convert::TransformConfig as Steps;
pub(crate) use jaiminho_ingest::Config as IngestConfig;
pub(crate) use jaiminho_kafka::{SinkConfig as KafkaConfig, SourceConfig as KafkaSourceConfig};
use jaiminho_runtime::Dedupe;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use crate::components::{BlackholeConfig, FileConfig, GenerateConfig, StdoutConfig};
use crate::registry::Own;

/// A source: `generate`, `kafka`, or HTTP and WebSocket.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Source {
    Generate(GenerateSource),
    Kafka(KafkaSource),
    Ingest(Box<IngestConfig>),
    #[serde(skip)]
    Own(Own),
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
    /// Whether it may reject by itself what nobody waits for (and so has a dead-letter output). Others answer.
    pub(crate) fn has_dead_letters(&self) -> bool {
        match self {
            Self::Kafka(_) | Self::Own(_) => true,
            Self::Generate(_) | Self::Ingest(_) => false,
        }
    }

    /// Whether that is worth a subscriber.
    pub(crate) fn can_reject(&self) -> bool {
        match self {
            Self::Kafka(_) => true,
            Self::Generate(_) | Self::Ingest(_) | Self::Own(_) => false,
        }
    }
}

/// A transform: steps, or one of the program's own.
#[derive(Debug)]
pub(crate) enum Transform {
    Steps(Steps),
    Own(Own),
}

impl Transform {
    /// Its named outputs, where it has such.
    pub(crate) fn outputs(&self) -> Option<Vec<&str>> {
        match self {
            Self::Steps(steps) => steps.outputs(),
            Self::Own(_) => None,
        }
    }

    /// How it makes batches, if it does.
    pub(crate) fn batch(&self) -> Option<&Batch> {
        match self {
            Self::Steps(steps) => steps.batch(),
            Self::Own(_) => None,
        }
    }

    /// Which copies of events it drops, as the file says.
    pub(crate) fn dedupe(&self) -> Option<Dedupe> {
        match self {
            Self::Steps(steps) => steps.dedupe(),
            Self::Own(_) => None,
        }
    }
}

impl<'de> Deserialize<'de> for Transform {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Steps::deserialize(deserializer).map(Self::Steps)
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
    #[serde(skip)]
    Own(Own),
}

impl Sink {
    /// Whether it may reject an event of ours (and so has a dead-letter output worth a subscriber). `stdout` and `file`
    /// reject only what is no CloudEvent, which only a foreign stage can send.
    pub(crate) fn can_reject(&self) -> bool {
        match self {
            Self::Kafka(_) | Self::Own(_) => true,
            Self::Stdout(_) | Self::File(_) | Self::Blackhole(_) => false,
        }
    }
}
