//! Reads a body: memory is reserved first, then the body arrives within its time-out, and expands within its limit.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use axum::body::Body;
use bytes::Bytes;
use futures_util::TryStreamExt;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::io::StreamReader;

use crate::answer::EventId;
use crate::config::{Cost, LimitsConfig, WAITING_BYTES, ZSTD_BYTES, ZSTD_WINDOW_BYTES};
use crate::headers::Coding;
use crate::problem::{Problem, soon};

/// What an expanded body's memory begins with.
const EXPANDED_BYTES_MIN: usize = 8 << 10;

/// What these events take until their answer.
pub(crate) fn waiting_bytes(ids: &[EventId]) -> usize {
    ids.iter().map(|id| id.text.capacity() + WAITING_BYTES as usize).sum()
}

/// What of a reservation is kept until the answer to these events. The rest may go when they are with the stage.
pub(crate) fn until_answer(room: &mut OwnedSemaphorePermit, ids: &[EventId]) -> Option<OwnedSemaphorePermit> {
    let bytes = waiting_bytes(ids);
    debug_assert!(bytes <= room.num_permits(), "{bytes} bytes for {} events of {room:?}", ids.len());
    room.split(bytes.min(room.num_permits()))
}

/// Memory for what is being read, in bytes, shared by all requests and sockets.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    bytes: Arc<Semaphore>,
    limits: Arc<LimitsConfig>,
}

/// A body that was read, and the memory that it may take: dropped when its events are with the stage.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) body: Bytes,
    room: OwnedSemaphorePermit,
}

impl Read {
    /// Drops the body; what was reserved for it and its events.
    pub(crate) fn into_room(self) -> OwnedSemaphorePermit {
        self.room
    }

    /// What was reserved for the events that are made of it.
    pub(crate) fn events_bytes(&self) -> usize {
        self.room.num_permits().saturating_sub(self.body.len())
    }
}

impl Room {
    pub(crate) fn new(limits: Arc<LimitsConfig>) -> Self {
        // `Config::check` keeps it below 4 GiB.
        let bytes = usize::try_from(limits.reading_bytes.0).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self { bytes: Arc::new(Semaphore::new(bytes)), limits }
    }

    /// Waits for so much memory, at most all that there is. In turn: who wants much does not starve.
    pub(crate) async fn reserve(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.bytes).acquire_many_owned(self.permits(bytes)).await.ok()
    }

    /// So much memory, if it is free now.
    pub(crate) fn try_reserve(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.bytes).try_acquire_many_owned(self.permits(bytes)).ok()
    }

    fn permits(&self, bytes: u64) -> u32 {
        u32::try_from(bytes.min(self.limits.reading_bytes.0)).unwrap_or(u32::MAX)
    }

    /// Reads the whole of `body`.
    pub(crate) async fn read(
        &self,
        headers: &HeaderMap,
        body: Body,
        coding: Coding,
        timeout: Duration,
        cost: &Cost,
    ) -> Result<Read, Problem> {
        let limits = &self.limits;
        let declared = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if declared.is_some_and(|length| length > limits.body_bytes.0) {
            return Err(self.body_too_large());
        }
        let (expanded, extra) = match coding {
            Coding::Identity => (declared.unwrap_or(limits.body_bytes.0), 0),
            Coding::Gzip => (limits.expanded_bytes.0, 0),
            Coding::Zstd => (limits.expanded_bytes.0, ZSTD_BYTES),
        };
        let deadline = tokio::time::Instant::now() + timeout;
        let wanted = limits.reservation(expanded, cost).saturating_add(extra);
        let Ok(Some(mut room)) = tokio::time::timeout_at(deadline, self.reserve(wanted)).await else {
            return Err(busy("no memory free for reading it"));
        };
        let read = async {
            match coding {
                Coding::Identity => self.plain(body).await,
                Coding::Gzip => {
                    let mut decoder = GzipDecoder::new(self.wire(body));
                    decoder.multiple_members(true);
                    self.expanded(decoder).await
                }
                Coding::Zstd => {
                    let window_log = ZSTD_WINDOW_BYTES.ilog2();
                    let mut decoder =
                        ZstdDecoder::with_params(self.wire(body), &[DParameter::window_log_max(window_log)]);
                    decoder.multiple_members(true);
                    self.expanded(decoder).await
                }
            }
        };
        let Ok(body) = tokio::time::timeout_at(deadline, read).await else {
            let detail = format!("the body did not arrive within {} ms", timeout.as_millis());
            return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "body-timeout", detail).header("connection", "close"));
        };
        let body = body?;
        let needed = usize::try_from(limits.reservation(body.len() as u64, cost)).unwrap_or(usize::MAX);
        drop(room.num_permits().checked_sub(needed).and_then(|surplus| room.split(surplus)));
        Ok(Read { body, room })
    }

    async fn plain(&self, body: Body) -> Result<Bytes, Problem> {
        match Limited::new(body, self.body_bytes_max()).collect().await {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) => Err(self.failed(error.as_ref())),
        }
    }

    /// The compressed bytes, limited.
    fn wire(&self, body: Body) -> impl tokio::io::AsyncBufRead + Unpin {
        let limited = Body::new(Limited::new(body, self.body_bytes_max()));
        StreamReader::new(TryStreamExt::map_err(limited.into_data_stream(), io::Error::other))
    }

    async fn expanded(&self, decoder: impl AsyncRead + Unpin) -> Result<Bytes, Problem> {
        let limit = self.limits.expanded_bytes.0;
        let mut out = Vec::new();
        let most = usize::try_from(limit + 1).unwrap_or(usize::MAX);
        let mut decoder = decoder.take(limit + 1);
        while out.len() < most {
            if out.len() == out.capacity() {
                // Doubled once more, it would be twice the limit.
                let capacity = (out.capacity() * 2).clamp(EXPANDED_BYTES_MIN.min(most), most);
                out.reserve_exact(capacity - out.len());
            }
            match decoder.read_buf(&mut out).await {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => return Err(self.failed(&error)),
            }
        }
        if out.len() as u64 > limit {
            let detail = format!("the body expands to more than {limit} bytes");
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", detail));
        }
        out.shrink_to_fit();
        Ok(Bytes::from(out))
    }

    fn body_bytes_max(&self) -> usize {
        usize::try_from(self.limits.body_bytes.0).unwrap_or(usize::MAX)
    }

    fn body_too_large(&self) -> Problem {
        let detail = format!("a body has at most {} bytes", self.limits.body_bytes.0);
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", detail)
    }

    fn failed(&self, error: &(dyn Error + 'static)) -> Problem {
        let mut cause = Some(error);
        while let Some(inner) = cause {
            if inner.is::<LengthLimitError>() {
                return self.body_too_large();
            }
            cause = inner.source();
        }
        Problem::new(StatusCode::BAD_REQUEST, "malformed", format!("the body can't be read: {error}"))
    }
}

/// Too much at once; nothing was taken.
pub(crate) fn busy(detail: &str) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail).retry_after(soon())
}
