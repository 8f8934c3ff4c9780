//! A TCP connection that can be cut off from outside, however its peer behaves.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, sleep};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};
use tonic::transport::server::{Connected, TcpConnectInfo};

/// Shorter than any beginning: HTTP/2's preface has 24 bytes, a TLS hello more.
const BEGINNING_BYTES: usize = 24;

/// Bytes that a peer has to send before a deadline.
struct Beginning {
    missing: usize,
    deadline: Pin<Box<Sleep>>,
}

/// Reads fail once it is cut; that ends the HTTP/2 connection on it, and its streams.
pub(crate) struct Connection {
    stream: TcpStream,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// None once the peer has begun.
    beginning: Option<Beginning>,
    _place: Option<OwnedSemaphorePermit>,
    _gone: Option<DropGuard>,
}

impl Connection {
    /// An accepted one, which holds its `place` as long as it is open.
    pub(crate) fn accepted(
        stream: TcpStream,
        cut: CancellationToken,
        begin_deadline: Duration,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let beginning = Beginning { missing: BEGINNING_BYTES, deadline: Box::pin(sleep(begin_deadline)) };
        Self { beginning: Some(beginning), _place: Some(place), ..Self::new(stream, cut) }
    }

    /// One of our own, which cancels `gone` when it is closed.
    pub(crate) fn dialled(stream: TcpStream, cut: CancellationToken, gone: CancellationToken) -> Self {
        Self { _gone: Some(gone.drop_guard()), ..Self::new(stream, cut) }
    }

    fn new(stream: TcpStream, cut: CancellationToken) -> Self {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY");
        }
        Self { stream, cut: Box::pin(cut.cancelled_owned()), beginning: None, _place: None, _gone: None }
    }
}

impl Beginning {
    /// Whether the peer has sent enough.
    fn took(&mut self, bytes: usize) -> bool {
        self.missing = self.missing.saturating_sub(bytes);
        self.missing == 0
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Some(beginning) = &mut self.beginning {
            if beginning.took(buffer.filled().len() - before) {
                self.beginning = None;
            } else if read.is_pending() {
                ready!(beginning.deadline.as_mut().poll(context));
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}
