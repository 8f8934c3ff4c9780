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
use jaiminho_telemetry::{Metrics, UPKEEP_INTERVAL};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::exit::Failure;

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

/// Binds the port. Port 0 takes a free one.
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
    listener: TcpListener,
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
        }
    });
    let admin = Arc::new(Admin { readiness, stages, metrics });
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render))
        .with_state(admin);
    tasks.spawn(async move {
        let served = axum::serve(listener, router);
        tokio::select! {
            ended = served => {
                if let Err(error) = ended {
                    tracing::error!(%error, "admin port");
                }
            }
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
    if admin.readiness.0.load(Ordering::Relaxed) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

async fn render(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], admin.metrics.render())
}
