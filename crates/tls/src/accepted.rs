//! An accepted connection, in plain text or not.
//!
//! ```text
//! plain
//! shaking ──▶ open
//!    └──────▶ refused ──▶ an error
//! ```

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};
use tokio_rustls::server::{FallibleAccept, TlsStream};

use crate::acceptor::Acceptor;
use crate::certificate::PeerCertificate;
use crate::plain::{HELLO, Plain, Stream};
use crate::words::{rustls, told};

/// A peer that is slower than this at its handshake is cut off.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// What a refused peer may still send, so that it reads why before it notices that nobody listens.
const UNHEARD_BYTES_MAX: usize = 64 << 10;
/// An accepted connection. It shakes hands when it is first read or written; a peer that is refused is told so, and there is
/// one warning with its address.
pub struct Accepted<I> {
    state: State<I>,
    peer: Option<SocketAddr>,
    certificate: PeerCertificate,
}

enum State<I> {
    Plain(Plain<I>),
    Shaking(Box<Shaking<I>>),
    Open(Box<TlsStream<I>>),
    /// Its end is sent, and what it says is not heard.
    Refused(Box<Refused<I>>),
    Closed,
}

struct Shaking<I> {
    hands: FallibleAccept<I>,
    deadline: Pin<Box<Sleep>>,
}

struct Refused<I> {
    io: I,
    unheard: usize,
    deadline: Pin<Box<Sleep>>,
}

impl<I: AsyncRead + AsyncWrite + Unpin> Accepted<I> {
    /// Without an acceptor it is in plain text.
    pub fn new(io: I, peer: Option<SocketAddr>, acceptor: Option<&Acceptor>) -> Self {
        match acceptor {
            Some(acceptor) => acceptor.accept(io, peer),
            None => Self::of(State::Plain(Plain::new(io)), peer),
        }
    }

    pub(crate) fn shaking(hands: FallibleAccept<I>, peer: Option<SocketAddr>) -> Self {
        let deadline = Box::pin(sleep(HANDSHAKE_DEADLINE));
        Self::of(State::Shaking(Box::new(Shaking { hands, deadline })), peer)
    }

    fn of(state: State<I>, peer: Option<SocketAddr>) -> Self {
        Self { state, peer, certificate: PeerCertificate::default() }
    }

    /// The peer's certificate, once hands are shaken.
    pub fn certificate(&self) -> PeerCertificate {
        self.certificate.clone()
    }

    /// Until hands are shaken. An error: the peer is refused, and knows it.
    fn poll_open(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            self.state = match &mut self.state {
                State::Plain(_) | State::Open(_) => return Poll::Ready(Ok(())),
                State::Closed => return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
                State::Shaking(shaking) => match Pin::new(&mut shaking.hands).poll(context) {
                    Poll::Ready(Ok(stream)) => {
                        let certificates = stream.get_ref().1.peer_certificates();
                        certificates.and_then(<[_]>::first).into_iter().for_each(|first| self.certificate.set(first));
                        State::Open(Box::new(stream))
                    }
                    Poll::Ready(Err((error, io))) => {
                        self.refused(&error);
                        let deadline = Box::pin(sleep(HANDSHAKE_DEADLINE));
                        State::Refused(Box::new(Refused { io, unheard: 0, deadline }))
                    }
                    Poll::Pending => {
                        ready!(shaking.deadline.as_mut().poll(context));
                        self.refused(&io::ErrorKind::TimedOut.into());
                        State::Closed
                    }
                },
                State::Refused(refused) => {
                    ready!(refused.poll_unheard(context));
                    State::Closed
                }
            };
        }
    }

    /// What is below, once hands are shaken.
    fn stream(&mut self) -> io::Result<Pin<&mut (dyn Stream + '_)>> {
        match &mut self.state {
            State::Plain(plain) => Ok(Pin::new(&mut plain.io)),
            State::Open(stream) => Ok(Pin::new(&mut **stream)),
            State::Shaking(_) | State::Refused(_) | State::Closed => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn refused(&self, error: &io::Error) {
        match (rustls(error), error.kind()) {
            (Some(error), _) => self.warn(&told(error)),
            (None, io::ErrorKind::TimedOut) => {
                self.warn(&format!("no TLS handshake within {} s", HANDSHAKE_DEADLINE.as_secs()));
            }
            // Whoever only looks whether the port is open.
            (None, _) => tracing::debug!(peer = self.peer(), %error, "a connection ends in its handshake"),
        }
    }

    fn warn(&self, reason: &str) {
        tracing::warn!(peer = self.peer(), reason, "a connection is refused");
    }

    fn peer(&self) -> Option<String> {
        self.peer.map(|peer| peer.to_string())
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> Refused<I> {
    /// Says that it is over, and waits until the peer has gone.
    fn poll_unheard(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut buffer = [0; 1024];
        while self.unheard < UNHEARD_BYTES_MAX && self.deadline.as_mut().poll(context).is_pending() {
            let _said = ready!(Pin::new(&mut self.io).poll_shutdown(context));
            let mut bytes = ReadBuf::new(&mut buffer);
            let read = ready!(Pin::new(&mut self.io).poll_read(context, &mut bytes));
            if read.is_err() || bytes.filled().is_empty() {
                break;
            }
            self.unheard += bytes.filled().len();
        }
        Poll::Ready(())
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncRead for Accepted<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_open(context))?;
        let State::Plain(plain) = &mut self.state else {
            return self.stream()?.poll_read(context, buffer);
        };
        if ready!(plain.poll_read(HELLO, context, buffer))? {
            self.warn("it speaks TLS, and this port does not");
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Accepted<I> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(context))?;
        self.stream()?.poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(context))?;
        self.stream()?.poll_write_vectored(context, bytes)
    }

    /// From the beginning, as what is above asks only then.
    fn is_write_vectored(&self) -> bool {
        match &self.state {
            State::Plain(plain) => plain.io.is_write_vectored(),
            State::Shaking(_) | State::Open(_) | State::Refused(_) | State::Closed => true,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_open(context))?;
        self.stream()?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.stream() {
            Ok(stream) => stream.poll_shutdown(context),
            Err(_) => Poll::Ready(Ok(())),
        }
    }
}
