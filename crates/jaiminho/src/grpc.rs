//! Stages as gRPC services.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
};

use futures_util::{FutureExt as _, future};
use jaiminho_core::Instance;
use jaiminho_discovery::At;
use jaiminho_link::{About, Connector, ConnectorConfig, ServeError, Server, ServerConfig, Tls};
use jaiminho_runtime::{Address, Connect, Discover};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Stage,
    instance::incarnation,
    running::{Reach, Running, Serving, started},
};

/// Starts a stage as a gRPC service: where it listens, and where the stages are that it subscribes to.
#[derive(Clone, Debug, Default)]
pub struct Grpc {
    listen: Option<String>,
    at: BTreeMap<String, At>,
    tls: Option<Tls>,
    names: BTreeMap<String, String>,
}

/// Why a stage is not started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It subscribes to a stage of which [`Grpc::at`] was not told.
    #[error("where is stage `{0}`? `Grpc::at` says so")]
    UnknownStage(String),
    /// The address can't be listened on.
    #[error("{address}: {error}")]
    Listen {
        /// What was wanted.
        address: String,
        /// Why not.
        error: io::Error,
    },
    /// The server does not start.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

impl Grpc {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Listens for consumers on `HOST:PORT`; port 0: any.
    #[must_use]
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen = Some(address.into());
        self
    }

    /// The instances of a stage, each as `HOST:PORT`.
    #[must_use]
    pub fn at<A: Into<String>>(self, stage: impl Into<String>, instances: impl IntoIterator<Item = A>) -> Self {
        let instances = instances.into_iter().map(|address| Address(address.into())).collect();
        self.found_by(stage, At::List(instances))
    }

    /// The instances of a stage, as DNS or a list says.
    #[must_use]
    pub fn found_by(mut self, stage: impl Into<String>, at: At) -> Self {
        self.at.insert(stage.into(), at);
        self
    }

    /// Encrypts the links.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// The name in a stage's certificate. Of a producer it is checked instead of the host in its address; of a consumer, where the
    /// links have a `ca`, only who has such a certificate may join its group.
    #[must_use]
    pub fn server_name(mut self, stage: impl Into<String>, name: impl Into<String>) -> Self {
        self.names.insert(stage.into(), name.into());
        self
    }

    /// Starts an instance of a stage.
    ///
    /// # Errors
    /// See [`StartError`]; then nothing runs.
    pub async fn start(&self, stage: Stage) -> Result<Running, StartError> {
        for upstream in &stage.upstreams {
            if !self.at.contains_key(upstream.stage()) {
                return Err(StartError::UnknownStage(upstream.stage().to_owned()));
            }
        }
        let listener = match &self.listen {
            Some(address) => {
                let failed = |error| StartError::Listen { address: address.clone(), error };
                let listener = TcpListener::bind(address).await.map_err(failed)?;
                let local = listener.local_addr().map_err(failed)?;
                Some((listener, local))
            }
            None => None,
        };
        let name = stage.instance.clone().unwrap_or_else(|| match &listener {
            Some((_, local)) => format!("{}@{local}", stage.name),
            None => format!("{}-{:016x}", stage.name, rand::random::<u64>()),
        });
        let reach = self.reach(&TaskTracker::new());
        let instance = Instance { name, incarnation: incarnation() };
        let handle = started(stage, instance, &reach);
        let Some((listener, address)) = listener else { return Ok(Running { handle, reach, serving: None }) };
        let config = ServerConfig { tls: self.tls.clone(), members: self.names.clone(), ..ServerConfig::default() };
        let about = About { version: env!("CARGO_PKG_VERSION").to_owned(), ..About::default() };
        let server = Server::new(Arc::new(handle.clone()), config).await?.with_inspection(vec![handle.clone()], about);
        server.health().set_ready(true).await;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            if let Err(error) = server.run(listener, stopped).await {
                tracing::error!(%error, "the stage's port is closed");
            }
        });
        let serving = Serving { address, stop, task: Mutex::new(Some(task)) };
        Ok(Running { handle, reach, serving: Some(Arc::new(serving)) })
    }

    fn reach(&self, tasks: &TaskTracker) -> Reach {
        let (of, tasks) = (self.clone(), tasks.clone());
        Arc::new(move |stage| {
            let at = of.at.get(stage);
            let discover = at.map_or_else(|| Box::new(Nowhere) as Box<dyn Discover>, At::discover);
            let name = of.names.get(stage).map(String::as_str).or_else(|| at?.host());
            let tls = of.tls.as_ref().map(|tls| tls.to(name));
            let config = ConnectorConfig { tls, ..ConnectorConfig::default() };
            (discover, Arc::new(Connector::new(config, tasks.clone())) as Arc<dyn Connect>)
        })
    }
}

/// A stage of which nobody said where it is.
struct Nowhere;

impl Discover for Nowhere {
    fn changed(&mut self) -> future::BoxFuture<'_, Vec<Address>> {
        future::pending().boxed()
    }
}
