//! A stream in plain text, whose peer may speak TLS.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Both directions, whatever is below.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<I: AsyncRead + AsyncWrite + Unpin> Stream for I {}

/// The kinds of TLS records that a stream begins with: a client's hello, and an answer to who began with something else. Neither
/// HTTP begins so.
pub(crate) const HELLO: u8 = 22;
pub(crate) const ALERT: u8 = 21;

/// Says once what the first byte is.
pub(crate) struct Plain<I> {
    pub(crate) io: I,
    is_begun: bool,
}

impl<I: AsyncRead + Unpin> Plain<I> {
    pub(crate) fn new(io: I) -> Self {
        Self { io, is_begun: false }
    }

    /// Reads; whether the stream begins with this byte.
    pub(crate) fn poll_read(
        &mut self,
        first: u8,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<bool>> {
        let begin = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(context, buffer))?;
        let is_first = !std::mem::replace(&mut self.is_begun, true);
        Poll::Ready(Ok(is_first && buffer.filled().get(begin) == Some(&first)))
    }
}
