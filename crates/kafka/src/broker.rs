//! The embedded broker: librdkafka's mock cluster, for trials and tests.

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, DefaultProducerContext, Producer};

use crate::config::ConfigError;
use crate::producer::config_error;

/// A broker in this process, on a free port of the loopback interface; it ends with the value.
///
/// It keeps everything in memory and at most 5 MiB or 100,000 records a partition: beyond that the oldest are gone,
/// whether read or not. Topics come into being when first named, with 4 partitions. No authentication, no TLS.
pub struct EmbeddedBroker {
    host: BaseProducer,
}

impl EmbeddedBroker {
    /// Starts it, with `topics` (name and number of partitions) made beforehand.
    pub fn start(topics: &[(&str, i32)]) -> Result<Self, ConfigError> {
        let mut config = ClientConfig::new();
        config.set("test.mock.num.brokers", "1");
        let host: BaseProducer = config.create().map_err(config_error)?;
        let broker = Self { host };
        for (topic, partitions) in topics {
            broker.cluster()?.create_topic(topic, *partitions, 1).map_err(config_error)?;
        }
        Ok(broker)
    }

    /// What clients put into `bootstrap_servers`.
    pub fn bootstrap_servers(&self) -> String {
        self.cluster().map_or_else(|_| String::new(), |cluster| cluster.bootstrap_servers())
    }

    /// The cluster behind it, for tests that inject errors.
    pub(crate) fn cluster(&self) -> Result<MockCluster<'_, DefaultProducerContext>, ConfigError> {
        self.host
            .client()
            .mock_cluster()
            .ok_or_else(|| ConfigError::Client("this build of librdkafka has no mock cluster".to_owned()))
    }
}

impl std::fmt::Debug for EmbeddedBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedBroker").field("bootstrap_servers", &self.bootstrap_servers()).finish()
    }
}
