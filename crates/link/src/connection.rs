//! A connection that can be cut off from outside, however its peer behaves.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use jaiminho_tls::Accepted;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use crate::streams::Peer;
use crate::transport::Io;

/// Reads fail once it is cut, and so does a write that waits; that ends the HTTP/2 connection on it, and its streams.
pub(crate) struct Connection<I> {
    stream: I,
    peer: Peer,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Of an accepted one.
    quiet: Option<Quiet>,
    _place: Option<OwnedSemaphorePermit>,
    _gone: Option<DropGuard>,
}

/// How long a connection may be without a stream.
struct Quiet {
    max: Duration,
    look: Pin<Box<Sleep>>,
}

impl<I: Io> Connection<Accepted<I>> {
    /// An accepted one, which holds its `place` as long as it is open, and ends when it has had no stream for `quiet_max`.
    pub(crate) fn accepted(
        stream: Accepted<I>,
        address: Option<SocketAddr>,
        cut: CancellationToken,
        quiet_max: Duration,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let quiet = Quiet { max: quiet_max, look: Box::pin(sleep(quiet_max)) };
        let peer = Peer { address, certificate: stream.certificate(), ..Peer::default() };
        Self { quiet: Some(quiet), _place: Some(place), ..Self::new(stream, peer, cut) }
    }
}

impl<I: Io> Connection<I> {
    /// One of our own, which cancels `gone` when it is closed.
    pub(crate) fn dialled(stream: I, cut: CancellationToken, gone: CancellationToken) -> Self {
        Self { _gone: Some(gone.drop_guard()), ..Self::new(stream, Peer::default(), cut) }
    }

    fn new(stream: I, peer: Peer, cut: CancellationToken) -> Self {
        let peer = Peer { cut: cut.clone(), ..peer };
        Self { stream, peer, cut: Box::pin(cut.cancelled_owned()), quiet: None, _place: None, _gone: None }
    }

    /// An error once it is cut, or was quiet for too long.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.cut.as_mut().poll(context).is_ready() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let Some(quiet) = &mut self.quiet else { return Ok(()) };
        while quiet.look.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            let end = self.peer.streams.quiet_since().unwrap_or(now) + quiet.max;
            if end <= now {
                return Err(io::ErrorKind::TimedOut.into());
            }
            quiet.look.as_mut().reset(end);
        }
        Ok(())
    }
}

impl<I: Io> AsyncRead for Connection<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<I: Io> AsyncWrite for Connection<I> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, buffer);
        if written.is_pending() {
            self.check(context)?;
        }
        written
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
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        if written.is_pending() {
            self.check(context)?;
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl<I: Io> Connected for Connection<I> {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}
