//! Kafka: the sink, the tail, and the embedded broker. No other crate sees rdkafka.
//!
//! The sink is a thread ([`sink`]) around a machine without IO ([`outbox`]) that knows what is unsettled, in which
//! order, and what an error means ([`fate`]). [`watch`] notices a client that has lost its brokers.

mod bare;
mod broker;
mod config;
mod event_hubs;
mod fate;
mod outbox;
mod producer;
mod record;
mod secret;
mod sink;
mod tail;
mod watch;

pub use bare::{BareRecord, BareRun};
pub use broker::EmbeddedBroker;
pub use config::{ConfigError, Mode, OauthMethod, Sasl, SaslMechanism, Scalar, SinkConfig, Tls, client_config};
pub use event_hubs::{Entra, EventHubs, ManagedIdentity};
pub use secret::Secret;
pub use sink::{KafkaSink, Timing};
pub use tail::{Start, Tail, TailConfig, TailError, TailRecord};

#[cfg(test)]
mod tests;
