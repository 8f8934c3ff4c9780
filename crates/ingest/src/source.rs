//! [`HttpSource`]: bound, then run by the runtime, then drained.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use http::HeaderName;
use jaiminho_event::Template;
use jaiminho_runtime::{Source, SourceError, SourceHandle};
use jaiminho_telemetry::traces::Tracer;
use jaiminho_tls::{Acceptor, ServerTls, TlsError};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::config::{Config, ConfigError};
use crate::draft::Drafter;
use crate::edge::{Edge, Endpoints, Phase, refusals, router};
use crate::meters::Meters;
use crate::reading::Room;
use crate::serve::{Door, End, Rules, Tasks, accept};
use crate::tokens::{Tokens, TokensFile};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1_024;

/// As ALPN names what both endpoints speak.
const PROTOCOLS: &[&str] = &["h2", "http/1.1"];

/// From the last answer to the hard end of its connection.
const LINGER: Duration = Duration::from_secs(2);

/// Why a source can't be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Settings that can't be, all of them.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Config(Vec<ConfigError>),
    /// The address can't be had.
    #[error("can't listen at {address}: {error}")]
    Listen {
        /// As configured.
        address: String,
        /// The system's answer.
        error: io::Error,
    },
    /// The certificate of a port can't be used.
    #[error("{endpoint}: {error}")]
    Tls {
        /// `http` or `websocket`.
        endpoint: &'static str,
        /// What is wrong.
        error: TlsError,
    },
    /// The tokens can't be read.
    #[error("tokens_file {}: {problem}", path.display())]
    Tokens {
        /// As configured.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

#[derive(Debug)]
struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Acceptor>,
    endpoints: Endpoints,
}

/// HTTP and WebSocket endpoints, listening.
///
/// Connections are accepted once the runtime runs it. It ends when the stage drains: it serves on for `drain_delay`,
/// then refuses what is new, answers what it took, and closes.
#[derive(Debug)]
pub struct HttpSource {
    config: Config,
    drafter: Drafter,
    tokens: Option<(TokensFile, Tokens)>,
    bound: Vec<Bound>,
    tracer: Tracer,
}

impl HttpSource {
    /// Checks the settings, reads the tokens, and listens. `key` is rendered over each event into its `partitionkey`;
    /// where it misses a field (and without it) the event's own `partitionkey` holds, else its `subject`.
    ///
    /// Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn bind(config: Config, key: Option<Template>, pipeline: &str, stage: &str) -> Result<Self, BindError> {
        let errors = config.check();
        if !errors.is_empty() {
            return Err(BindError::Config(errors));
        }
        let tokens = match &config.tokens_file {
            None => None,
            Some(path) => {
                let tokens = TokensFile::open(path);
                Some(tokens.map_err(|problem| BindError::Tokens { path: path.clone(), problem })?)
            }
        };
        let own = config.websocket.as_ref().and_then(|socket| Some((socket.listen.clone()?, socket)));
        let shared = config.websocket.is_some() && own.is_none();
        let http_tls = acceptor("http", config.http.as_ref().and_then(|http| http.tls.as_ref()))?;
        let own_tls = acceptor("websocket", own.as_ref().and_then(|(_, socket)| socket.tls.as_ref()))?;
        let http = config
            .http
            .as_ref()
            .map(|http| (http.listen.clone(), http_tls, Endpoints { http: true, websocket: shared }));
        let own = own.map(|(address, _)| (address, own_tls, Endpoints { http: false, websocket: true }));
        let bound = http.into_iter().chain(own).map(|(address, tls, endpoints)| {
            let bound = listen(&address)
                .and_then(|listener| Ok(Bound { address: listener.local_addr()?, listener, tls, endpoints }));
            bound.map_err(|error| BindError::Listen { address, error })
        });
        let bound = bound.collect::<Result<Vec<_>, _>>()?;
        let drafter = Drafter {
            ty: config.ty.clone().unwrap_or_else(|| format!("{pipeline}.{stage}")),
            source: config.source.clone().unwrap_or_else(|| format!("/{pipeline}/{stage}")),
            key,
            event_bytes_max: usize::try_from(config.limits.event_bytes.0).unwrap_or(usize::MAX),
            events_max: usize::try_from(config.limits.events).unwrap_or(usize::MAX),
        };
        Ok(Self { config, drafter, tokens, bound, tracer: Tracer::default() })
    }

    /// Its requests' spans go there, and it decides which events are sampled.
    #[must_use]
    pub fn with_tracer(self, tracer: Tracer) -> Self {
        Self { tracer, ..self }
    }

    /// Where the first endpoint listens: HTTP's, or the WebSocket's where there is no HTTP.
    pub fn local_addr(&self) -> SocketAddr {
        self.bound.first().map_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)), |bound| bound.address)
    }

    /// Where WebSockets are asked for, if anywhere.
    pub fn websocket_addr(&self) -> Option<SocketAddr> {
        self.bound.iter().find(|bound| bound.endpoints.websocket).map(|bound| bound.address)
    }

    #[expect(clippy::too_many_lines, reason = "a list of parts, nothing to follow")]
    async fn serve(self, handle: SourceHandle) {
        let (phase, phases) = watch::channel(Phase::Serving);
        let (end, ends) = watch::channel(End::NotYet);
        let tasks = Tasks(TaskTracker::new());
        let in_flight = TaskTracker::new();
        let limits = Arc::new(self.config.limits.clone());
        let http = self.config.http.clone().unwrap_or_default();
        let permits = |count: u32| Arc::new(Semaphore::new(usize::try_from(count).unwrap_or(usize::MAX)));
        let (connections, sockets) = (permits(limits.connections), permits(limits.sockets));
        // Of `connections`, each listener has one for who comes next.
        handle.usages().limit("connections", limits.connections.into(), &connections);
        handle.usages().limit("sockets", limits.sockets.into(), &sockets);
        let (file, tokens) = self.tokens.unzip();
        let allowed = self.config.headers.iter();
        let edge = Arc::new(Edge {
            allowed: allowed
                .filter_map(|(name, attribute)| Some((name.parse::<HeaderName>().ok()?, attribute.clone())))
                .collect(),
            drafter: self.drafter,
            meters: Meters::default(),
            handle: handle.clone(),
            tracer: self.tracer,
            room: Room::new(Arc::clone(&limits)),
            tokens,
            phase: phases,
            in_flight: in_flight.clone(),
            sockets,
            config: self.config,
        });
        let rules = Rules {
            header_timeout: http.header_timeout.0,
            header_bytes: usize::try_from(limits.header_bytes.0).unwrap_or(usize::MAX),
            age_max: http.connection_age_max.0,
            grace: http.deadline.0 + http.body_timeout.0 + LINGER,
        };
        let requests = permits(limits.requests);
        let accepting = self.bound.into_iter().map(|bound| {
            let door = Door {
                router: router(&edge, bound.endpoints),
                refusals: refusals(&edge),
                requests: Arc::clone(&requests),
            };
            accept(bound.listener, bound.tls, door, rules, Arc::clone(&connections), ends.clone(), tasks.clone())
        });
        let accepting = join_all(accepting);
        let following = async {
            match file {
                Some(file) => file.follow().await,
                None => std::future::pending().await,
            }
        };
        let drain = async {
            handle.draining().await;
            phase.send_replace(Phase::Leaving);
            tokio::time::sleep(edge.config.drain_delay.0).await;
            phase.send_replace(Phase::Closed);
            in_flight.close();
            let grace = rules.grace;
            if timeout(grace, in_flight.wait()).await.is_err() {
                tracing::warn!(left = in_flight.len(), "requests without an answer at the end of the drain");
            }
        };
        tokio::select! {
            () = drain => {}
            _ = accepting => {}
            () = following => {}
        }
        end.send_replace(End::Graceful);
        tasks.0.close();
        if timeout(LINGER, tasks.0.wait()).await.is_err() {
            tracing::debug!(left = tasks.0.len(), "connections that clients keep open are cut");
            end.send_replace(End::Cut);
            tasks.0.wait().await;
        }
    }
}

fn acceptor(endpoint: &'static str, tls: Option<&ServerTls>) -> Result<Option<Acceptor>, BindError> {
    let acceptor = tls.map(|tls| Acceptor::new(tls.clone(), PROTOCOLS)).transpose();
    acceptor.map_err(|error| BindError::Tls { endpoint, error })
}

impl Source for HttpSource {
    fn run(self: Box<Self>, handle: SourceHandle) -> BoxFuture<'static, Result<(), SourceError>> {
        self.serve(handle).map(Ok).boxed()
    }
}

fn listen(address: &str) -> io::Result<TcpListener> {
    let mut last = io::Error::new(io::ErrorKind::InvalidInput, "no such address");
    for address in address.to_socket_addrs()? {
        match listen_at(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
