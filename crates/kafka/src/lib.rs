//! Kafka: the sink, the source, the tail, and the embedded broker. No other crate sees rdkafka.
//!
//! The sink is a thread ([`sink`]) around a machine without IO ([`outbox`]) that knows what is unsettled, in which
//! order, and what an error means ([`fate`]). [`watch`] notices a client that has lost its brokers.
//! The source is a thread too, around the machine in [`source`].

mod bare;
mod broker;
mod cluster;
mod config;
mod event_hubs;
mod fate;
mod outbox;
mod producer;
mod record;
mod secret;
mod silence;
mod sink;
mod source;
mod statistics;
mod tail;
mod traced;
mod watch;

pub use bare::{BareRecord, BareRun};
pub use broker::EmbeddedBroker;
pub use config::{ConfigError, Mode, OauthMethod, Sasl, SaslMechanism, Scalar, SinkConfig, Tls, client_config};
pub use event_hubs::{Entra, EventHubs, ManagedIdentity};
pub use secret::Secret;
pub use sink::{KafkaSink, Timing};
pub use source::{KafkaSource, SourceConfig, SourceStage, StartAt, StartEnd, StartTime};
pub use tail::{Start, Tail, TailConfig, TailError, TailRecord};

#[cfg(test)]
mod tests;
