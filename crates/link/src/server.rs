//! A stage's port: the `Stage` service, health, reflection, and what the program adds.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, Stream};
use jaiminho_runtime::{Serve, StageHandle};
use jaiminho_tls::{Accepted, Acceptor, Tls, TlsError};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tower::layer::layer_fn;

use crate::connection::Connection;
use crate::connector::chain;
use crate::health::Health;
use crate::inspect::{About, Board};
use crate::service::{self, StageService};
use crate::streams::Counted;
use crate::transport::Listen;

/// HTTP/2 frames of up to this size from a producer: a usual frame of events goes as one.
pub const HTTP_FRAME_BYTES: u32 = 256 * 1024;
/// After a failed `accept` (out of file descriptors): trying at once again would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// One connection carries one link, and perhaps a few probes.
pub(crate) const STREAMS_MAX: u32 = 4;
pub(crate) const HEADER_BYTES_MAX: u32 = 4 * 1024;
/// What consumers say is small: HTTP/2's window on each stream, and on a connection.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 2 * STREAM_WINDOW_BYTES;
/// As ALPN names HTTP/2.
const PROTOCOLS: &[&str] = &["h2"];
/// What probes and reflection are asked.
const QUESTION_BYTES_MAX: usize = 4 * 1024;

/// Limits of a [`Server`].
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Connections at once; one more is closed as soon as it is accepted.
    pub connections_max: usize,
    /// For a connection to open a stream, again when its last one has ended; for a stream to subscribe; and for a consumer
    /// to read that its link has ended. A stream that does not subscribe gets a status; a connection that takes longer is closed.
    pub subscribe_deadline: Duration,
    /// The stage has to answer a `Subscribe` within this time.
    pub answer_deadline: Duration,
    /// HTTP/2 ping on every connection, and how long its answer may take.
    pub keepalive_interval: Duration,
    pub keepalive_timeout: Duration,
    /// Once told to stop: links that are still open after this time are cut off.
    pub stop_deadline: Duration,
    /// The port's certificate. With a `ca`, whoever connects needs one as well.
    pub tls: Option<Tls>,
    /// With a `ca`: required groups, each with the name for which its members' certificates have to be. Into others, any
    /// certificate of the `ca` lets.
    pub members: BTreeMap<String, String>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            connections_max: 256,
            subscribe_deadline: Duration::from_secs(10),
            answer_deadline: Duration::from_secs(5),
            keepalive_interval: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(10),
            stop_deadline: Duration::from_secs(5),
            tls: None,
            members: BTreeMap::new(),
        }
    }
}

/// Why a server cannot start, or went on no longer.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    #[error("stage server: {0}")]
    Transport(String),
}

/// Serves one stage. Made first and run later, so that a wrong `tls` is found before a port is bound.
pub struct Server {
    config: ServerConfig,
    tls: Option<Acceptor>,
    routes: Routes,
    health: Health,
    /// The readers of links.
    tasks: TaskTracker,
    /// Ends all connections, and with them their links, whatever peers and stage do.
    cut: CancellationToken,
}

impl Server {
    /// Reads the files of `tls`. Health is: alive, not ready.
    pub async fn new(stage: Arc<dyn Serve>, config: ServerConfig) -> Result<Self, ServeError> {
        let tls = match &config.tls {
            Some(tls) => Some(Acceptor::new(tls.server()?, PROTOCOLS)?),
            None => None,
        };
        let (reporter, health_service) = tonic_health::server::health_reporter();
        let health = Health::new(reporter);
        health.set_live(true).await;
        health.set_ready(false).await;
        let (tasks, cut) = (TaskTracker::new(), CancellationToken::new());
        let routes = Routes::new(StageService::server(stage, &config, tasks.clone()))
            .add_service(health_service.max_decoding_message_size(QUESTION_BYTES_MAX))
            .add_service(reflection().build_v1()?.max_decoding_message_size(QUESTION_BYTES_MAX))
            .add_service(reflection().build_v1alpha()?.max_decoding_message_size(QUESTION_BYTES_MAX));
        Ok(Self { config, tls, routes, health, tasks, cut })
    }

    /// What probes on this port are told.
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Adds the `Inspect` service: what these stages tell of themselves.
    #[must_use]
    pub fn with_inspection(self, stages: Vec<StageHandle>, about: About) -> Self {
        let board = Board::server(stages, about, self.tasks.clone());
        self.with_routes(|routes| routes.add_service(board))
    }

    /// Adds services of the program's own; `add` gets what is there.
    #[must_use]
    pub fn with_routes(self, add: impl FnOnce(Routes) -> Routes) -> Self {
        Self { routes: add(self.routes), ..self }
    }

    /// Serves until `stop`; then takes no new link, waits until the stage has ended its links (at most
    /// [`ServerConfig::stop_deadline`]), and returns when every connection and task is gone.
    pub async fn run(self, listener: impl Listen, stop: CancellationToken) -> Result<(), ServeError> {
        let incoming = accept(listener, self.tls, self.config.clone(), self.cut.clone());
        let mut builder = builder(&self.config).layer(layer_fn(Counted));
        let tasks = self.tasks;
        let served =
            builder.add_routes(self.routes).serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
        let mut served = std::pin::pin!(async move {
            let result = served.await;
            tasks.close();
            tasks.wait().await;
            result
        });
        let result = tokio::select! {
            biased;
            result = &mut served => result,
            () = deadline_after(&stop, self.config.stop_deadline) => {
                self.cut.cancel();
                served.await
            }
        };
        result.map_err(|error| ServeError::Transport(chain(&error)))
    }
}

/// `deadline` after the cancellation.
pub(crate) async fn deadline_after(stop: &CancellationToken, deadline: Duration) {
    stop.cancelled().await;
    tokio::time::sleep(deadline).await;
}

fn builder(config: &ServerConfig) -> tonic::transport::Server {
    tonic::transport::Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(Some(config.keepalive_interval))
        .http2_keepalive_timeout(Some(config.keepalive_timeout))
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(service::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// Accepted connections, never more than `connections_max` at once.
fn accept<L: Listen>(
    listener: L,
    tls: Option<Acceptor>,
    config: ServerConfig,
    cut: CancellationToken,
) -> impl Stream<Item = io::Result<Connection<Accepted<L::Io>>>> {
    let places = Arc::new(Semaphore::new(config.connections_max));
    stream::unfold((listener, places), move |(mut listener, places)| {
        let (tls, cut) = (tls.clone(), cut.clone());
        async move {
            loop {
                let (io, address) = match listener.accept().await {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                };
                let Ok(place) = places.clone().try_acquire_owned() else {
                    tracing::warn!(?address, config.connections_max, "too many connections; this one is closed");
                    continue;
                };
                let io = Accepted::new(io, address, tls.as_ref());
                let connection = Connection::accepted(io, address, cut.child_token(), config.subscribe_deadline, place);
                return Some((Ok(connection), (listener, places)));
            }
        }
    })
}
