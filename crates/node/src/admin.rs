//! The admin port: `/livez`, `/readyz`, `/metrics`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use jaiminho_runtime::StageHandle;
use jaiminho_telemetry::{Logs, Metrics, UPKEEP_INTERVAL, logs};
use jaiminho_tls::{Acceptor, ServerTls};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::exit::Failure;
use crate::http;

/// A stage's task that doesn't answer within this time is not alive.
const ANSWER_DEADLINE: Duration = Duration::from_secs(3);

/// What probes are told. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Readiness(Arc<AtomicBool>);

impl Readiness {
    pub(crate) fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Relaxed);
    }
}

struct Admin {
    readiness: Readiness,
    stages: Vec<StageHandle>,
    metrics: Metrics,
}

/// The admin port: bound, with its certificate, if it has one.
pub(crate) struct Port {
    listener: TcpListener,
    tls: Option<Acceptor>,
    pub(crate) address: SocketAddr,
}

impl Port {
    /// Binds it. Port 0 takes a free one.
    pub(crate) async fn bind(address: &str, tls: Option<&ServerTls>) -> Result<Self, Failure> {
        let tls = tls.map(|tls| Acceptor::new(tls.clone(), http::PROTOCOLS)).transpose();
        let tls = tls.map_err(|error| Failure::config(format!("telemetry.admin: {error}")))?;
        let (listener, address) = bind(address, "--admin").await?;
        Ok(Self { listener, tls, address })
    }
}

/// Binds a port. Port 0 takes a free one.
pub(crate) async fn bind(address: &str, option: &str) -> Result<(TcpListener, SocketAddr), Failure> {
    let cant = |error: std::io::Error| {
        Failure::unavailable(format!("can't listen at {address}: {error}; {option} chooses another address"))
    };
    let listener = TcpListener::bind(address).await.map_err(cant)?;
    let bound = listener.local_addr().map_err(cant)?;
    Ok((listener, bound))
}

/// Serves it until `stop`.
pub(crate) fn serve(
    port: Port,
    readiness: Readiness,
    stages: Vec<StageHandle>,
    metrics: Metrics,
    tasks: &TaskTracker,
    stop: CancellationToken,
) {
    let upkeep = (metrics.clone(), stop.clone());
    tasks.spawn(async move {
        let (metrics, stop) = upkeep;
        while tokio::time::timeout(UPKEEP_INTERVAL, stop.cancelled()).await.is_err() {
            metrics.upkeep();
            logs().into_iter().for_each(Logs::upkeep);
        }
    });
    let admin = Arc::new(Admin { readiness, stages, metrics });
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render))
        .with_state(admin);
    tasks.spawn(async move {
        tokio::select! {
            () = http::serve(port.listener, port.tls, router, http::Limits::default()) => {}
            () = stop.cancelled() => {}
        }
    });
}

/// Alive means that each stage's task answers.
async fn livez(State(admin): State<Arc<Admin>>) -> (StatusCode, &'static str) {
    for stage in &admin.stages {
        match tokio::time::timeout(ANSWER_DEADLINE, stage.status()).await {
            Ok(Some(_)) => {}
            Ok(None) => return (StatusCode::SERVICE_UNAVAILABLE, "ended\n"),
            Err(_) => return (StatusCode::SERVICE_UNAVAILABLE, "a stage doesn't answer\n"),
        }
    }
    (StatusCode::OK, "ok\n")
}

async fn readyz(State(admin): State<Arc<Admin>>) -> (StatusCode, &'static str) {
    match unready(&admin.readiness, &admin.stages) {
        None => (StatusCode::OK, "ok\n"),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
    }
}

/// Why nothing new should be sent here. A stage whose source has failed leaves without having been told to.
fn unready(readiness: &Readiness, stages: &[StageHandle]) -> Option<&'static str> {
    if stages.iter().any(StageHandle::is_draining) {
        return Some("draining\n");
    }
    (!readiness.0.load(Ordering::Relaxed)).then_some("not ready\n")
}

async fn render(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], admin.metrics.render())
}

#[cfg(test)]
mod tests {
    use futures_util::future::BoxFuture;
    use jaiminho_core::{Dispatch, Instance, OutputConfig, RequiredGroup};
    use jaiminho_runtime::{
        Acknowledge, NewEvent, Offer, OutputSpec, Role, Source, SourceError, SourceHandle, StageConfig, StageEnd,
        StageLimits,
    };

    use super::*;

    /// Offers an event, and fails when it is told to.
    struct Failing(CancellationToken);

    impl Source for Failing {
        fn run(self: Box<Self>, handle: SourceHandle) -> BoxFuture<'static, Result<(), SourceError>> {
            Box::pin(async move {
                let event = NewEvent { payload: Vec::new().into(), key: None, identity: 1, trace: None };
                let offer = Offer { events: vec![event], deadline: None, acknowledge: Acknowledge::Published };
                let _pending = handle.offer(offer).await;
                self.0.cancelled().await;
                Err(SourceError("the socket is gone".into()))
            })
        }
    }

    #[tokio::test]
    async fn a_stage_whose_source_has_failed_is_not_ready_while_it_drains() {
        let required = RequiredGroup { name: "nobody".into(), dispatch: Dispatch::Keyed };
        let config = OutputConfig { groups: vec![required], ..OutputConfig::default() };
        let fail = CancellationToken::new();
        let stage = jaiminho_runtime::spawn(StageConfig {
            pipeline: "p".into(),
            stage: "in".into(),
            instance: Instance { name: "in-0".into(), incarnation: 1 },
            outputs: vec![OutputSpec { name: "in".into(), config }],
            dead_letter: None,
            upstreams: Vec::new(),
            role: Role::Source(Box::new(Failing(fail.clone()))),
            limits: StageLimits { drain: Duration::from_secs(3), ..StageLimits::default() },
            tracer: Default::default(),
        });
        let (readiness, stages) = (Readiness::default(), [stage.clone()]);
        assert_eq!(unready(&readiness, &stages), Some("not ready\n"));
        readiness.set(true);
        while stage.status().await.is_some_and(|status| status.logs[0].1 == 0) {}
        assert_eq!(unready(&readiness, &stages), None);
        fail.cancel();
        while unready(&readiness, &stages).is_none() {
            assert!(stage.status().await.is_some(), "it has ended ready");
        }
        assert_eq!(unready(&readiness, &stages), Some("draining\n"));
        assert!(stage.status().await.is_some(), "it drains");
        let StageEnd::Failed(text) = stage.ended().await else { panic!("it has failed") };
        assert!(text.contains("1 unsettled"), "{text}");
    }
}
