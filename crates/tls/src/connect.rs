//! The other side: a connection of our own.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::files::Tls;
use crate::plain::{ALERT, Plain, Stream};
use crate::words::{ONLY_TLS, rustls, told};

/// As ALPN names HTTP/2.
const HTTP2: &[u8] = b"h2";

/// What is wrong between the two sides of a connection, in words of which "it" is the peer. A server may refuse this side's
/// certificate only when hands are shaken: then whoever reads next has an error, and the words are here.
#[derive(Clone, Debug, Default)]
pub struct Fault(Arc<OnceLock<String>>);

/// A connection of our own, in plain text or not.
pub struct Connected<I> {
    state: State<I>,
    fault: Fault,
}

enum State<I> {
    Plain(Plain<I>),
    Tls(Box<TlsStream<I>>),
}

/// Shakes hands for HTTP/2 with a server that has the name of `tls`, or that of its address; without `tls` there is nothing to
/// shake. Reads the files each time. The deadline is the caller's.
///
/// # Errors
/// Those of `io`; what is in `fault` then says more.
pub async fn connect<I>(io: I, tls: Option<&Tls>, host: &str, fault: &Fault) -> io::Result<Connected<I>>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let Some(tls) = tls else {
        return Ok(Connected { state: State::Plain(Plain::new(io)), fault: fault.clone() });
    };
    let mut config = tls.client().map_err(|error| fault.is(error.to_string()))?;
    config.alpn_protocols = vec![HTTP2.to_vec()];
    let name = tls.server_name.as_deref().unwrap_or(host);
    let name = ServerName::try_from(name.to_owned())
        .map_err(|_| fault.is(format!("`{name}` is no name that a certificate may have")))?;
    match TlsConnector::from(Arc::new(config)).connect(name, io).await {
        Ok(stream) => Ok(Connected { state: State::Tls(Box::new(stream)), fault: fault.clone() }),
        Err(error) => Err(fault.of(error)),
    }
}

impl Fault {
    /// What is wrong, once it is known.
    pub fn told(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }

    fn is(&self, words: String) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, self.0.get_or_init(|| words).clone())
    }

    fn of(&self, error: io::Error) -> io::Error {
        match rustls(&error) {
            Some(error) => self.is(told(error)),
            None => error,
        }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> Connected<I> {
    fn stream(&mut self) -> Pin<&mut (dyn Stream + '_)> {
        match &mut self.state {
            State::Plain(plain) => Pin::new(&mut plain.io),
            State::Tls(stream) => Pin::new(&mut **stream),
        }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncRead for Connected<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { state, fault } = &mut *self;
        match state {
            State::Tls(stream) => Pin::new(stream).poll_read(context, buffer).map_err(|error| fault.of(error)),
            State::Plain(plain) => match ready!(plain.poll_read(ALERT, context, buffer))? {
                true => Poll::Ready(Err(fault.is(ONLY_TLS.to_owned()))),
                false => Poll::Ready(Ok(())),
            },
        }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Connected<I> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream().poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.state {
            State::Plain(plain) => plain.io.is_write_vectored(),
            State::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(context)
    }
}
