//! What carries links: TCP, or whatever stands for it (a simulated network).

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::time::timeout;

/// How long a name is looked up that is remembered; there must be time left to connect.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(2);
/// Most names that are remembered.
const NAMES_MAX: usize = 1_024;

/// A stream of bytes in both directions. Dropping it closes it.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<I: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for I {}

/// Opens connections to stages.
pub trait Dial: Clone + Send + Sync + 'static {
    /// What it opens.
    type Io: Io;

    /// A new connection to `host:port`. The [`Connector`](crate::Connector) has the deadline.
    fn dial(&self, host_port: String) -> impl Future<Output = io::Result<Self::Io>> + Send;
}

/// Takes connections to a stage.
pub trait Listen: Send + 'static {
    /// What it takes.
    type Io: Io;

    /// The next connection, and whose it is where that is known. Dropping the future loses none.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Io, Option<SocketAddr>)>> + Send;
}

/// TCP, without Nagle's delay. While a name can't be looked up, it means what it meant last; clones remember together.
#[derive(Clone, Debug, Default)]
pub struct Tcp(Arc<Mutex<HashMap<String, Vec<SocketAddr>>>>);

impl Tcp {
    async fn addresses(&self, host_port: String) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = host_port.parse() {
            return Ok(vec![address]);
        }
        let known = self.names().get(&host_port).cloned();
        let lookup = async { lookup_host(&host_port).await.map(Iterator::collect::<Vec<_>>) };
        let found = match known {
            None => lookup.await?,
            Some(known) => match timeout(LOOKUP_DEADLINE, lookup).await {
                Ok(Ok(found)) => found,
                Ok(Err(_)) | Err(_) => return Ok(known),
            },
        };
        let mut names = self.names();
        if names.len() >= NAMES_MAX && !names.contains_key(&host_port) {
            names.clear();
        }
        names.insert(host_port, found.clone());
        Ok(found)
    }

    fn names(&self) -> MutexGuard<'_, HashMap<String, Vec<SocketAddr>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Dial for Tcp {
    type Io = TcpStream;

    async fn dial(&self, host_port: String) -> io::Result<TcpStream> {
        let addresses = self.addresses(host_port).await?;
        TcpStream::connect(&*addresses).await.map(without_delay)
    }
}

impl Listen for TcpListener {
    type Io = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, Option<SocketAddr>)> {
        let (stream, peer) = Self::accept(self).await?;
        Ok((without_delay(stream), Some(peer)))
    }
}

fn without_delay(stream: TcpStream) -> TcpStream {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY");
    }
    stream
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_that_is_not_found_any_more_is_dialled_where_it_was() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tcp = Tcp::default();
        tcp.dial(format!("localhost:{}", address.port())).await.unwrap();

        let gone = format!("gone.invalid:{}", address.port());
        tcp.dial(gone.clone()).await.unwrap_err();
        let known = tcp.names().remove(&format!("localhost:{}", address.port())).unwrap();
        tcp.names().insert(gone.clone(), known);
        assert_eq!(tcp.clone().dial(gone).await.unwrap().peer_addr().unwrap(), address);
    }

    #[tokio::test]
    async fn the_names_that_are_remembered_are_bounded() {
        let tcp = Tcp::default();
        for port in (1..=NAMES_MAX).chain([1]) {
            tcp.addresses(format!("localhost:{port}")).await.unwrap();
        }
        assert_eq!(tcp.names().len(), NAMES_MAX, "a known one is no new one");
        tcp.addresses("localhost:65535".into()).await.unwrap();
        assert_eq!(tcp.names().len(), 1);
    }
}
