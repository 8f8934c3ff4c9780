//! The port of `jaiminho up` at which its stages are looked at and tapped, from this machine.

use std::{net::SocketAddr, sync::Arc};

use futures_util::future::{BoxFuture, FutureExt as _, ready};
use jaiminho_core::{GroupKind, LinkError, Subscribe};
use jaiminho_link::{About, Server, ServerConfig};
use jaiminho_observe::stage_of;
use jaiminho_runtime::{LinkHalf, Serve, StageHandle};
use jaiminho_telemetry::cpus;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Program,
    commands::threads,
    config::{Config, memory},
    exit::Failure,
};

/// Looks and taps at once.
const CONNECTIONS_MAX: usize = 64;

/// What this process says of itself, if it runs these stages.
pub(crate) fn about(config: &Config, program: &Program, stages: &[&str]) -> About {
    let threads = threads();
    let stages = stages.iter().filter_map(|name| config.pipeline.stages.get_key_value(*name));
    let bytes = stages.map(|(name, stage)| memory::sum(&memory::terms(config, name, stage, threads)));
    About {
        version: program.version.clone().unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_owned()),
        commit: env!("JAIMINHO_COMMIT").to_owned(),
        memory_bytes_max: Some(bytes.fold(0, u64::saturating_add)),
        cpus: Some(cpus().min(threads as f64)),
    }
}

/// It is open.
pub(crate) struct Port {
    pub(crate) address: SocketAddr,
}

impl Port {
    /// Opens one on loopback, until `stop`.
    pub(crate) async fn open(
        stages: Vec<(String, StageHandle)>,
        about: About,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<Self, Failure> {
        let cant = |error: std::io::Error| Failure::unavailable(format!("can't listen on 127.0.0.1: {error}"));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(cant)?;
        let address = listener.local_addr().map_err(cant)?;
        let handles = stages.iter().map(|(_, handle)| handle.clone()).collect();
        let config = ServerConfig { connections_max: CONNECTIONS_MAX, ..ServerConfig::default() };
        let server = Server::new(Arc::new(Visited(stages)), config).await.map_err(Failure::software)?;
        server.health().set_ready(true).await;
        let served = server.with_inspection(handles, about).run(listener, stop);
        tasks.spawn(async move {
            if let Err(error) = served.await {
                tracing::warn!(%error, "this pipeline is looked at no more");
            }
        });
        Ok(Self { address })
    }
}

/// All stages of a process, to those who take no part in its pipeline.
struct Visited(Vec<(String, StageHandle)>);

impl Serve for Visited {
    fn subscribe(&self, subscribe: Subscribe) -> BoxFuture<'_, Result<LinkHalf, LinkError>> {
        // Its own stages are linked within the process: a stranger would take their events.
        if subscribe.kind == GroupKind::Required {
            return ready(Err(LinkError::UnknownGroup(subscribe.group))).boxed();
        }
        let stage = stage_of(&subscribe.output);
        match self.0.iter().find(|(name, _)| name == stage) {
            Some((_, handle)) => handle.subscribe(subscribe),
            None => ready(Err(LinkError::UnknownOutput(subscribe.output))).boxed(),
        }
    }
}
