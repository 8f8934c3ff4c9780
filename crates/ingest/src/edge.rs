//! The HTTP endpoint: what happens to a request, from its head to its answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Extension, Router};
use http::{HeaderName, HeaderValue, Method, StatusCode, Version, header};
use jaiminho_runtime::{Acknowledge, Offer, Refusal, SourceHandle};
use jaiminho_telemetry::traces::Tracer;
use tokio::sync::{Semaphore, watch};
use tokio_util::task::TaskTracker;
use tower_http::cors::{Any, CorsLayer};

use crate::config::{Config, CorsConfig};
use crate::draft::{Common, Drafter, Drafts};
use crate::meters::Meters;
use crate::problem::Problem;
use crate::reading::{Room, until_answer};
use crate::tokens::Tokens;
use crate::traced::{self, Arrival, Asked};
use crate::{answer, headers, webhook, websocket};

/// How far the drain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Serving,
    /// Serves on; connections are not kept.
    Leaving,
    /// Takes nothing new.
    Closed,
}

/// What all requests share.
#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) config: Config,
    pub(crate) drafter: Drafter,
    pub(crate) meters: Meters,
    pub(crate) handle: SourceHandle,
    pub(crate) tracer: Tracer,
    pub(crate) room: Room,
    pub(crate) tokens: Option<Tokens>,
    /// Headers that become attributes.
    pub(crate) allowed: Vec<(HeaderName, String)>,
    pub(crate) phase: watch::Receiver<Phase>,
    /// Requests and sockets that have no answer yet.
    pub(crate) in_flight: TaskTracker,
    pub(crate) sockets: Arc<Semaphore>,
}

impl Edge {
    pub(crate) fn acknowledge(&self) -> Acknowledge {
        self.config.acknowledge.into()
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// How long a drained source waits at most for the outcomes of what it took.
    pub(crate) fn deadline(&self) -> Duration {
        self.config.http.clone().unwrap_or_default().deadline.0
    }

    pub(crate) fn check_token(&self, headers: &http::HeaderMap, uri: &http::Uri) -> Result<(), Problem> {
        self.tokens.as_ref().map_or(Ok(()), |tokens| tokens.check(headers, uri))
    }
}

/// Which endpoints a listener has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Endpoints {
    pub(crate) http: bool,
    pub(crate) websocket: bool,
}

/// All that a listener answers.
pub(crate) fn router(edge: &Arc<Edge>, endpoints: Endpoints) -> Router {
    let mut router = Router::new();
    let http = edge.config.http.as_ref().filter(|_| endpoints.http);
    let socket = edge.config.websocket.as_ref().filter(|_| endpoints.websocket);
    let socket_route = || get(websocket::upgrade);
    match (http, socket) {
        (Some(http), Some(socket)) if http.path == socket.path => {
            router = router.route(&http.path, post_route().merge(socket_route()));
        }
        (http, socket) => {
            if let Some(http) = http {
                router = router.route(&http.path, post_route().fallback(only_post));
            }
            if let Some(socket) = socket {
                router = router.route(&socket.path, socket_route().fallback(only_get));
            }
        }
    }
    let mut router = router.fallback(not_found).method_not_allowed_fallback(only_post);
    if let Some(cors) = &edge.config.cors {
        router = router.layer(cors_layer(cors));
    }
    router
        .layer(middleware::from_fn_with_state(Arc::clone(edge), webhook::handshake))
        .layer(middleware::from_fn_with_state(Arc::clone(edge), around))
        .with_state(Arc::clone(edge))
}

/// What is answered to requests that are refused unread: the [`Problem`] among their extensions.
pub(crate) fn refusals(edge: &Arc<Edge>) -> Router {
    let mut router = Router::new().fallback(|Extension(problem): Extension<Problem>| async { problem });
    if let Some(cors) = &edge.config.cors {
        router = router.layer(cors_layer(cors));
    }
    router.layer(middleware::from_fn_with_state(Arc::clone(edge), around)).with_state(Arc::clone(edge))
}

fn post_route() -> MethodRouter<Arc<Edge>> {
    post(events).options(|| async { (StatusCode::NO_CONTENT, [(header::ALLOW, "POST, OPTIONS")]) })
}

fn cors_layer(cors: &CorsConfig) -> CorsLayer {
    let any = |list: &[String]| list.iter().any(|entry| entry == "*");
    let mut layer = CorsLayer::new().allow_methods([Method::POST]).expose_headers([header::RETRY_AFTER]);
    layer = match any(&cors.origins) {
        true => layer.allow_origin(Any),
        false => layer
            .allow_origin(cors.origins.iter().filter_map(|origin| origin.parse().ok()).collect::<Vec<HeaderValue>>()),
    };
    layer = match any(&cors.headers) {
        true => layer.allow_headers(Any),
        false => {
            let safe = [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::AUTHORIZATION];
            let named = cors.headers.iter().filter_map(|name| name.parse::<HeaderName>().ok());
            layer.allow_headers(safe.into_iter().chain(named).collect::<Vec<_>>())
        }
    };
    match cors.age_max {
        Some(age) => layer.max_age(age.0),
        None => layer,
    }
}

async fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not-found", "nothing is at this path")
}

async fn only_post() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", "events are sent with POST").header("allow", "POST, OPTIONS")
}

async fn only_get() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", "a WebSocket is asked for with GET").header("allow", "GET")
}

/// Around every request: refuses when closed, counts, and lets no connection live through a drain.
async fn around(State(edge): State<Arc<Edge>>, request: Request, next: Next) -> Response {
    let _in_flight = edge.in_flight.token();
    let started = Instant::now();
    let version = request.version();
    let mut response = match edge.phase() {
        Phase::Closed => Problem::draining().into_response(),
        Phase::Serving | Phase::Leaving => next.run(request).await,
    };
    if edge.phase() != Phase::Serving
        && version < Version::HTTP_2
        && response.status() != StatusCode::SWITCHING_PROTOCOLS
    {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if version >= Version::HTTP_2 {
        response.headers_mut().remove(header::CONNECTION);
    }
    edge.meters.answered(response.status(), started.elapsed());
    response
}

/// `POST`: reads, drafts, offers, answers.
async fn events(State(edge): State<Arc<Edge>>, request: Request) -> Response {
    // Who may not post does not decide what is sampled.
    if let Err(problem) = edge.check_token(request.headers(), request.uri()) {
        return problem.into_response();
    }
    let arrival = Arrival::new(&edge.tracer, traced::traceparent(request.headers()));
    let path = edge.config.http.as_ref().map_or("", |http| http.path.as_str());
    let asked = Asked { arrival: arrival.clone(), path };
    let response = take(&edge, request, arrival).await.unwrap_or_else(IntoResponse::into_response);
    asked.answered(response.status());
    response
}

async fn take(edge: &Edge, request: Request, arrival: Option<Arc<Arrival>>) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let format = headers::format(&head.headers)?;
    let coding = headers::coding(&head.headers)?;
    let common = Common { arrival, ..headers::common(&head.headers, &edge.allowed)? };
    let timeout = edge.config.http.as_ref().map_or(Duration::ZERO, |http| http.body_timeout.0);
    let cost = edge.drafter.cost(&edge.config.limits, Some(&format), &common);
    let read = edge.room.read(&head.headers, body, coding, timeout, &cost).await?;
    let drafted = edge.drafter.body(format, &read.body, &common, read.events_bytes());
    let Drafts { events, ids, .. } = drafted.map_err(|fault| fault.problem(&read.body))?;
    let acknowledge = edge.acknowledge();
    if events.is_empty() {
        return Ok(answer::response(acknowledge, &ids, &[]));
    }
    edge.meters.offered(events.len(), read.body.len());
    let deadline = match acknowledge {
        Acknowledge::Published => Some(edge.deadline()),
        Acknowledge::Accepted => None,
    };
    let offer = Offer { events, deadline, acknowledge };
    let mut room = read.into_room();
    let _waiting = until_answer(&mut room, &ids);
    let answers = edge.handle.complete(offer, Some(room)).await.map_err(refused)?;
    Ok(answer::response(acknowledge, &ids, &answers))
}

fn refused(refusal: Refusal) -> Problem {
    match refusal {
        Refusal::Overloaded { cause, retry_after } => {
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "overloaded", format!("{cause}; nothing was taken"))
                .retry_after(retry_after)
        }
        Refusal::NeverFits { .. } => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "never-fits", refusal.to_string()),
        Refusal::Draining => Problem::draining(),
    }
}
