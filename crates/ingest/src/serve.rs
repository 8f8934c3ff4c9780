//! Connections: accepted up to a limit, HTTP/1 or HTTP/2, with or without TLS, closed at their age and at the end.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use axum::routing::future::RouteFuture;
use http::{Request, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use jaiminho_telemetry::names::ingest as names;
use jaiminho_tls::{Accepted, Acceptor};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::task::TaskTracker;
use tower::Service;

use crate::config::HEADERS_MAX;
use crate::problem::Problem;
use crate::reading::busy;

/// First bytes of an HTTP/2 connection.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Requests at once on one HTTP/2 connection.
pub(crate) const STREAMS_MAX: u32 = 32;

/// Bytes that a client may have sent, unread, on one HTTP/2 stream and connection.
const STREAM_WINDOW_BYTES: u32 = 64 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 64 << 10;

const PING_INTERVAL: Duration = Duration::from_secs(20);

/// Limits of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) header_timeout: Duration,
    pub(crate) header_bytes: usize,
    pub(crate) age_max: Duration,
    /// From the graceful end (age or drain) to the hard one.
    pub(crate) grace: Duration,
}

/// What connections do at the end of a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    NotYet,
    /// Finish what is being answered.
    Graceful,
    /// At once.
    Cut,
}

/// Tasks of one source: hyper's own included, all awaited when it drains.
#[derive(Clone, Debug)]
pub(crate) struct Tasks(pub(crate) TaskTracker);

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

/// What answers requests, as long as fewer than a limit are being answered. One more is refused before anything of it is
/// kept, and so is one with too many fields in its head.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) router: Router,
    /// Answers with the [`Problem`] that it is given as an extension.
    pub(crate) refusals: Router,
    pub(crate) requests: Arc<Semaphore>,
}

impl Door {
    fn call(&self, request: Request<Incoming>) -> impl Future<Output = Result<Response, Infallible>> + use<> {
        let place = Arc::clone(&self.requests).try_acquire_owned();
        let (place, answer) = match place {
            _ if request.headers().len() > HEADERS_MAX => (None, self.refuse(request, too_many_headers())),
            Err(_) => (None, self.refuse(request, busy("too many requests at once; nothing was taken"))),
            Ok(place) => (Some(place), self.router.clone().call(request)),
        };
        async move {
            let _place = place;
            answer.await
        }
    }

    /// Keeps of a request what decides how a browser is told.
    fn refuse(&self, request: Request<Incoming>, problem: Problem) -> RouteFuture<Infallible> {
        let mut kept = Request::new(Body::empty());
        *kept.method_mut() = request.method().clone();
        *kept.version_mut() = request.version();
        if let Some(origin) = request.headers().get(header::ORIGIN) {
            kept.headers_mut().insert(header::ORIGIN, origin.clone());
        }
        kept.extensions_mut().insert(problem);
        self.refusals.clone().call(kept)
    }
}

fn too_many_headers() -> Problem {
    let detail = format!("a request's head has at most {HEADERS_MAX} fields");
    Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "too-many-headers", detail)
}

/// Accepts until it is dropped.
pub(crate) async fn accept(
    listener: TcpListener,
    tls: Option<Acceptor>,
    door: Door,
    rules: Rules,
    connections: Arc<Semaphore>,
    end: watch::Receiver<End>,
    tasks: Tasks,
) {
    loop {
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, peer)) => {
                // Answers are small: waiting to fill a segment only delays them.
                let _without = stream.set_nodelay(true);
                Accepted::new(stream, Some(peer), tls.as_ref())
            }
            Err(error) => {
                // Of one connection, or of the process (no file descriptor left): neither ends the source.
                tracing::warn!(%error, "accept failed");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let connection = connection(stream, door.clone(), rules, end.clone(), tasks.clone());
        tasks.0.spawn(async move {
            let _permit = permit;
            metrics::gauge!(names::CONNECTIONS).increment(1.0);
            connection.await;
            metrics::gauge!(names::CONNECTIONS).decrement(1.0);
        });
    }
}

async fn connection(
    stream: Accepted<TcpStream>,
    door: Door,
    rules: Rules,
    mut end: watch::Receiver<End>,
    tasks: Tasks,
) {
    let begun = tokio::select! {
        begun = timeout(rules.header_timeout, Begun::read(stream)) => begun,
        _ = end.wait_for(|end| *end > End::NotYet) => return,
    };
    let Ok(Ok(io)) = begun else { return };
    let service = hyper::service::service_fn(move |request: Request<Incoming>| door.call(request));
    let builder = builder(rules, tasks);
    let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(io), service));
    let age = rules.age_max.mul_f64(1.0 - rand::random::<f64>() / 10.0);
    let mut limit = pin!(sleep(age));
    let mut stage = End::NotYet;
    loop {
        tokio::select! {
            done = connection.as_mut() => {
                if let Err(error) = done {
                    tracing::debug!(error, "connection ended");
                }
                return;
            }
            () = limit.as_mut() => if stage > End::NotYet { return },
            _ = end.wait_for(|end| *end > stage) => match stage {
                End::NotYet => {}
                End::Graceful | End::Cut => return,
            },
        }
        stage = End::Graceful;
        limit.set(sleep_until(Instant::now() + rules.grace));
        connection.as_mut().graceful_shutdown();
    }
}

fn builder(rules: Rules, tasks: Tasks) -> Builder<Tasks> {
    let mut builder = Builder::new(tasks);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(rules.header_timeout).max_buf_size(rules.header_bytes);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(rules.header_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_INTERVAL);
    builder
}

/// A stream whose first bytes were read: enough to tell HTTP/2 from HTTP/1, which hyper would wait for without limit.
struct Begun {
    bytes: [u8; PREFACE.len()],
    filled: usize,
    taken: usize,
    stream: Accepted<TcpStream>,
}

impl Begun {
    async fn read(stream: Accepted<TcpStream>) -> io::Result<Self> {
        let mut begun = Self { bytes: [0; PREFACE.len()], filled: 0, taken: 0, stream };
        loop {
            let count = begun.stream.read(&mut begun.bytes[begun.filled..]).await?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            begun.filled += count;
            if begun.filled == PREFACE.len() || begun.bytes[..begun.filled] != PREFACE[..begun.filled] {
                return Ok(begun);
            }
        }
    }
}

impl AsyncRead for Begun {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let rest = &self.bytes[self.taken..self.filled];
        if rest.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, out);
        }
        let count = rest.len().min(out.remaining());
        out.put_slice(&rest[..count]);
        self.taken += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Begun {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
