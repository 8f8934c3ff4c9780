//! What carries links: TCP, or whatever stands for it (a simulated network).

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

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

/// TCP, without Nagle's delay.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tcp;

impl Dial for Tcp {
    type Io = TcpStream;

    async fn dial(&self, host_port: String) -> io::Result<TcpStream> {
        TcpStream::connect(host_port).await.map(without_delay)
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
