//! One link as a stage sees it, whatever carries it.

use futures_util::future::BoxFuture;
use jaiminho_core::{LinkError, Subscribe, Subscribed, ToConsumer, ToProducer, Versions};
use tokio::sync::mpsc;

/// The consumer's half of an open link: the same over gRPC and within one process.
///
/// Dropping it ends the link. Each direction has its own bounded channel: reading never waits for writing.
#[derive(Debug)]
pub struct LinkHalf {
    /// What the producer answered.
    pub subscribed: Subscribed,
    /// To the producer.
    pub to_producer: mpsc::Sender<ToProducer>,
    /// From the producer; an error is the last item, the bare end means that the peer or the connection is gone.
    pub from_producer: mpsc::Receiver<Result<ToConsumer, LinkError>>,
}

#[cfg(test)]
impl LinkHalf {
    /// To a producer that is gone.
    pub(crate) fn for_test() -> Self {
        let subscribed = Subscribed {
            version: 1,
            window: jaiminho_core::Window { events: 4, bytes: 100 },
            link_id: 1,
            instance: jaiminho_core::Instance { name: "in-0".into(), incarnation: 1 },
            partition_count: 4_096,
            hash_version: 1,
            heartbeat_ms: 2_000,
        };
        Self { subscribed, to_producer: mpsc::channel(1).0, from_producer: mpsc::channel(1).1 }
    }
}

/// Where one instance of a stage listens: `host:port`, or a stage's name within one process.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address(pub String);

/// Opens links. Implemented over tonic and within one process; one conformance suite runs on both.
pub trait Connect: Send + Sync + 'static {
    /// Connects to one instance and subscribes, within the connector's own deadlines.
    fn connect<'a>(&'a self, address: &'a Address, subscribe: Subscribe) -> BoxFuture<'a, Result<LinkHalf, LinkError>>;
}

/// Serves links: what a stage's task offers to a transport, and to the in-process connector.
pub trait Serve: Send + Sync + 'static {
    /// Checks `subscribe` against the stage's outputs and opens a link.
    fn subscribe(&self, subscribe: Subscribe) -> BoxFuture<'_, Result<LinkHalf, LinkError>>;

    /// What a transport may let in: the rest of another version's `Subscribe` may not be readable.
    fn versions(&self) -> Versions {
        Versions::default()
    }
}

/// Who the instances of a stage are, kept up to date.
pub trait Discover: Send + 'static {
    /// The whole present set; resolves at once at first, then at each change. Never fails: a resolver that is down keeps the last set.
    /// A future that is dropped loses nothing.
    fn changed(&mut self) -> BoxFuture<'_, Vec<Address>>;

    /// Instances that are there and left to other consumers: an open link to one is cancelled, in order. (One to an instance
    /// of which nothing is known any more stays until it ends.)
    fn spared(&self) -> &[Address] {
        &[]
    }
}
