//! What stands for TCP and DNS.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use jaiminho_core::{LinkError, Subscribe, Versions};
use jaiminho_link::{Connector, Dial, Listen};
use jaiminho_runtime::{Address, Connect, Discover, LinkHalf};
use turmoil::net::{TcpListener, TcpStream};

use crate::plan::Tier;
use crate::world::World;

/// Every stage's port.
const PORT: u16 = 7400;
/// How often the instances of a tier are asked for.
const LOOK: Duration = Duration::from_millis(500);

/// The simulated network: opens connections from the host that is running.
#[derive(Clone, Copy, Debug)]
pub struct Simulated;

impl Dial for Simulated {
    type Io = TcpStream;

    async fn dial(&self, host_port: String) -> io::Result<TcpStream> {
        TcpStream::connect(host_port).await
    }
}

/// Port 7400 of a simulated host.
pub struct Port(TcpListener);

impl Port {
    /// Of the host that is running.
    ///
    /// # Errors
    /// The port is taken.
    pub async fn bind() -> io::Result<Self> {
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await.map(Self)
    }
}

impl Listen for Port {
    type Io = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, Option<SocketAddr>)> {
        self.0.accept().await.map(|(stream, peer)| (stream, Some(peer)))
    }
}

/// The instances of a tier that are meant to run.
pub(crate) struct Named {
    world: World,
    tier: Tier,
    known: Option<Vec<Address>>,
}

impl Named {
    pub(crate) fn new(world: World, tier: Tier) -> Self {
        Self { world, tier, known: None }
    }
}

impl Discover for Named {
    fn changed(&mut self) -> BoxFuture<'_, Vec<Address>> {
        async move {
            loop {
                let hosts = self.world.lock().named(self.tier);
                let present: Vec<_> = hosts.into_iter().map(|host| Address(format!("{host}:{PORT}"))).collect();
                if self.known.as_ref() != Some(&present) {
                    self.known = Some(present.clone());
                    return present;
                }
                tokio::time::sleep(LOOK).await;
            }
        }
        .boxed()
    }
}

/// Connects as an instance of this protocol version, and tells the history.
pub(crate) struct Connecting {
    pub(crate) world: World,
    pub(crate) host: String,
    pub(crate) connector: Connector<Simulated>,
    /// Not this protocol's: a program of another time.
    pub(crate) versions: Option<Versions>,
}

impl Connect for Connecting {
    fn connect<'a>(
        &'a self,
        address: &'a Address,
        mut subscribe: Subscribe,
    ) -> BoxFuture<'a, Result<LinkHalf, LinkError>> {
        async move {
            if let Some(versions) = self.versions {
                subscribe.versions = versions;
            }
            let counter = subscribe.link_counter;
            let result = self.connector.connect(address, subscribe).await;
            match &result {
                Ok(half) => {
                    let window = half.subscribed.window;
                    let said =
                        format_args!("link {counter} to {}: {} events, {} B", address.0, window.events, window.bytes);
                    self.world.record(&self.host, said);
                }
                Err(error) => self.world.record(&self.host, format_args!("link {counter} to {}: {error}", address.0)),
            }
            result
        }
        .boxed()
    }
}
