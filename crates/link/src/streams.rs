//! The streams of an accepted connection: counted, so that it can be closed when it has none.

use std::net::SocketAddr;
use std::task::{Context, Poll};

use futures_util::future::{BoxFuture, FutureExt, TryFutureExt};
use http::{Extensions, Request, Response};
use http_body_util::BodyExt;
use jaiminho_tls::PeerCertificate;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower::Service;

/// What each request on a connection knows of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peer {
    pub(crate) address: Option<SocketAddr>,
    pub(crate) certificate: PeerCertificate,
    pub(crate) streams: Streams,
    /// Closes it, whatever its peer does.
    pub(crate) cut: CancellationToken,
}

impl Peer {
    /// Who sent the request with these.
    pub(crate) fn of(extensions: &Extensions) -> Option<&Self> {
        extensions.get()
    }
}

/// Of one connection. Clones count together.
#[derive(Clone, Debug)]
pub(crate) struct Streams(watch::Sender<Count>);

#[derive(Debug)]
struct Count {
    open: usize,
    /// When the last one ended; at first, when the connection was accepted.
    ended_at: Instant,
}

/// A stream is open as long as this lives.
struct Open(Streams);

impl Default for Streams {
    fn default() -> Self {
        Self(watch::Sender::new(Count { open: 0, ended_at: Instant::now() }))
    }
}

impl Streams {
    /// Since when no stream is open; none while one is.
    pub(crate) fn quiet_since(&self) -> Option<Instant> {
        let count = self.0.borrow();
        (count.open == 0).then_some(count.ended_at)
    }

    fn open(&self) -> Open {
        self.0.send_modify(|count| count.open += 1);
        Open(self.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count = Count { open: count.open - 1, ended_at: Instant::now() });
    }
}

/// Counts each request as a stream of its connection until its response is sent.
#[derive(Clone)]
pub(crate) struct Counted<S>(pub(crate) S);

impl<S> Service<Request<Body>> for Counted<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let open = Peer::of(request.extensions()).map(|peer| peer.streams.open());
        let counted = |body: Body| {
            Body::new(body.map_frame(move |frame| {
                let _until_the_last = &open;
                frame
            }))
        };
        self.0.call(request).map_ok(|response| response.map(counted)).boxed()
    }
}
