//! The console: a page that draws what the pipeline tells, and the JSON that it reads.
//!
//! | path | what |
//! |---|---|
//! | `/` | the page; it needs nothing from elsewhere |
//! | `/api/about` | what the page can't know otherwise: [`About`] |
//! | `/api/view` | server-sent events, each a [`View`] |
//! | `/api/history` | the last 15 minutes: [`History`](crate::History) |
//! | `/api/tap?output=&filter=` | server-sent events, each a CloudEvent in JSON; `problem` says why there are no more |
//!
//! It shows customers' events and asks nobody who they are: it is for an address that only those reach who may see them. On a
//! loopback address it answers only to names of this machine, so that no page from elsewhere reads it through a browser.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use futures_util::future::{BoxFuture, ready};
use futures_util::stream::{self, BoxStream, Stream, StreamExt as _};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, watch};
use tokio_stream::wrappers::WatchStream;

use crate::view::View;

/// Pages that are open at once.
pub const VIEWERS_MAX: usize = 32;
/// Taps that are open at once.
pub const TAPS_MAX: usize = 4;
/// A sign of life, so that a page knows that its connection is there.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// The page: path, type and text of each file.
const FILES: [(&str, &str, &str); 8] = [
    ("/", "text/html; charset=utf-8", include_str!("../console/index.html")),
    ("/style.css", "text/css; charset=utf-8", include_str!("../console/style.css")),
    ("/app.js", SCRIPT, include_str!("../console/app.js")),
    ("/details.js", SCRIPT, include_str!("../console/details.js")),
    ("/dom.js", SCRIPT, include_str!("../console/dom.js")),
    ("/graph.js", SCRIPT, include_str!("../console/graph.js")),
    ("/plots.js", SCRIPT, include_str!("../console/plots.js")),
    ("/tap.js", SCRIPT, include_str!("../console/tap.js")),
];
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// What the page is told once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct About {
    /// The pipeline's name.
    pub pipeline: String,
    /// Version and commit of what serves the page.
    pub version: String,
    /// Where a trace is found: `JAEGER/trace/ID`.
    pub jaeger: Option<String>,
    /// What can be tapped.
    pub outputs: Vec<String>,
}

/// What to tap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct TapRequest {
    /// `STAGE` or `STAGE.NAME`
    pub output: String,
    /// A condition; empty: all.
    #[serde(default)]
    pub filter: String,
}

/// Events of a tap in CloudEvents' JSON format, until it ends, with the reason.
pub type TapEvents = BoxStream<'static, Result<serde_json::Value, String>>;

/// Opens taps.
pub trait Taps: Send + Sync {
    /// A sample of an output's events. `Err` says what is wrong with the request.
    fn tap(&self, request: TapRequest) -> BoxFuture<'_, Result<TapEvents, String>>;
}

/// What the console shows.
pub struct Console {
    /// For the page.
    pub about: About,
    /// The latest look at the pipeline.
    pub views: watch::Receiver<Arc<View>>,
    /// The last 15 minutes: a [`History`](crate::History) as JSON.
    pub history: Box<dyn Fn() -> Bytes + Send + Sync>,
    /// Its taps.
    pub taps: Box<dyn Taps>,
    /// It is served at a loopback address.
    pub is_local: bool,
}

struct Shared {
    console: Console,
    viewers: Arc<Semaphore>,
    taps: Arc<Semaphore>,
}

/// The page and its JSON, to be served or nested.
pub fn router(console: Console) -> Router {
    let is_local = console.is_local;
    let (viewers, taps) = (Arc::new(Semaphore::new(VIEWERS_MAX)), Arc::new(Semaphore::new(TAPS_MAX)));
    let page = FILES.iter().fold(Router::new(), |router, (path, mime, text)| {
        let file = || async { ([(header::CONTENT_TYPE, HeaderValue::from_static(mime))], *text) };
        router.route(path, get(file))
    });
    let router = page
        .route("/api/about", get(about))
        .route("/api/view", get(views))
        .route("/api/history", get(history))
        .route("/api/tap", get(tap))
        .with_state(Arc::new(Shared { console, viewers, taps }))
        .layer(middleware::map_response(harden));
    let router = router.layer(middleware::from_fn(only_own_pages));
    if is_local { router.layer(middleware::from_fn(only_this_machine)) } else { router }
}

async fn about(State(shared): State<Arc<Shared>>) -> Json<About> {
    Json(shared.console.about.clone())
}

async fn history(State(shared): State<Arc<Shared>>) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], (shared.console.history)()).into_response()
}

async fn views(State(shared): State<Arc<Shared>>) -> Response {
    let Ok(place) = shared.viewers.clone().try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, format!("{VIEWERS_MAX} pages are open, no more can be\n"))
            .into_response();
    };
    // Before the first look there is nothing to be seen.
    let views = WatchStream::new(shared.console.views.clone()).filter(|view| ready(view.unix_ms > 0));
    events(views.map(move |view| {
        // Given back when the page is closed.
        let _place = &place;
        data(&*view)
    }))
}

async fn tap(State(shared): State<Arc<Shared>>, Query(request): Query<TapRequest>) -> Response {
    let place = shared.taps.clone().try_acquire_owned();
    let opened = match &place {
        Ok(_) => shared.console.taps.tap(request).await,
        Err(_) => Err(format!("{TAPS_MAX} taps are open, no more can be")),
    };
    let opened = opened.unwrap_or_else(|problem| stream::once(async { Err(problem) }).boxed());
    events(opened.map(move |event| {
        let _place = &place;
        match event {
            Ok(event) => data(&event),
            Err(problem) => data(&problem).event("problem"),
        }
    }))
}

fn data(value: &impl Serialize) -> Event {
    // What the page is sent has no maps with other keys than strings: it can be written.
    Event::default().json_data(value).unwrap_or_else(|error| Event::default().event("problem").data(error.to_string()))
}

fn events(events: impl Stream<Item = Event> + Send + 'static) -> Response {
    Sse::new(events.map(Ok::<_, Infallible>)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

/// Whatever an event holds, the page runs no code but its own, and is in no other page.
async fn harden(mut response: Response) -> Response {
    const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                          base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// A page from elsewhere can't read what the console answers, but could take its places and open taps.
async fn only_own_pages(request: Request, next: Next) -> Response {
    let site = request.headers().get("sec-fetch-site").map(HeaderValue::as_bytes);
    if matches!(site, None | Some(b"same-origin" | b"none")) || request.uri().path() == "/" {
        return next.run(request).await;
    }
    (StatusCode::FORBIDDEN, "this console answers only to its own page\n").into_response()
}

/// A page from elsewhere can make its own name lead to this machine; it can't make it this machine's name.
async fn only_this_machine(request: Request, next: Next) -> Response {
    let host = request.uri().host().or_else(|| request.headers().get(header::HOST)?.to_str().ok());
    if host.is_some_and(is_this_machine) {
        return next.run(request).await;
    }
    let text =
        "this console answers only to localhost and addresses; --listen at another address serves it to others\n";
    (StatusCode::FORBIDDEN, text).into_response()
}

fn is_this_machine(host: &str) -> bool {
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let name = name.map_or(host, |(name, _)| name);
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use tower::ServiceExt as _;

    use super::*;

    struct NoTaps;

    impl Taps for NoTaps {
        fn tap(&self, request: TapRequest) -> BoxFuture<'_, Result<TapEvents, String>> {
            Box::pin(async move {
                match request.filter.as_str() {
                    "" => Ok(stream::iter([Ok(serde_json::json!({"id": request.output}))])
                        .chain(stream::pending())
                        .boxed()),
                    other => Err(format!("no condition: {other}")),
                }
            })
        }
    }

    fn console(is_local: bool) -> (watch::Sender<Arc<View>>, Router) {
        let (sender, views) = watch::channel(Arc::new(View::default()));
        let about = About { pipeline: "p".into(), ..About::default() };
        let history = Box::new(|| Bytes::from_static(b"{}"));
        (sender, router(Console { about, views, history, taps: Box::new(NoTaps), is_local }))
    }

    async fn ask(router: &Router, path: &str, host: &str) -> Response {
        let request = Request::get(path).header(header::HOST, host).body(Body::empty()).unwrap();
        router.clone().oneshot(request).await.unwrap()
    }

    async fn first(response: Response) -> String {
        let chunk = response.into_body().into_data_stream().next().await.unwrap().unwrap();
        String::from_utf8(chunk.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn the_page_brings_all_that_it_needs_and_runs_no_code_but_its_own() {
        let (_views, router) = console(true);
        for (path, _, _) in FILES {
            let response = ask(&router, path, "localhost:9470").await;
            let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
            assert!(response.status() == 200 && policy.starts_with("default-src 'none'; script-src 'self';"), "{path}");
        }
        for (path, _, text) in FILES {
            let foreign = text.replace("http://www.w3.org/2000/svg", "");
            let asks_elsewhere = foreign.contains("http://") || foreign.contains("https://");
            assert!(!asks_elsewhere && !foreign.contains(" style="), "{path}");
            assert!(!foreign.contains("innerHTML"), "{path}: what an event says is never read as HTML");
        }
    }

    #[tokio::test]
    async fn on_a_loopback_address_only_names_of_this_machine_are_answered() {
        let (_views, local) = console(true);
        let (_others, open) = console(false);
        for (host, allowed) in [
            ("localhost:1", true),
            ("127.0.0.1:1", true),
            ("[::1]:1", true),
            ("evil.example", false),
            ("localhost.evil", false),
        ] {
            let status = ask(&local, "/api/about", host).await.status();
            assert_eq!(status == 200, allowed, "{host}: {status}");
            assert_eq!(ask(&open, "/api/about", host).await.status(), 200, "{host}");
        }
    }

    #[tokio::test]
    async fn a_page_from_elsewhere_opens_no_tap_and_takes_no_place() {
        let (_views, router) = console(true);
        for (site, allowed) in [("same-origin", true), ("none", true), ("cross-site", false), ("same-site", false)] {
            let request = Request::get("/api/tap?output=ingest").header(header::HOST, "localhost");
            let request = request.header("sec-fetch-site", site).body(Body::empty()).unwrap();
            let status = router.clone().oneshot(request).await.unwrap().status();
            assert_eq!(status == 200, allowed, "{site}: {status}");
        }
    }

    #[tokio::test]
    async fn a_page_gets_the_latest_look_at_once_and_places_are_bounded() {
        let (views, router) = console(true);
        views.send_replace(Arc::new(View { pipeline: "now".into(), unix_ms: 1, ..View::default() }));
        let mut open = Vec::new();
        for _ in 0..VIEWERS_MAX {
            let response = ask(&router, "/api/view", "localhost").await;
            assert_eq!(response.status(), 200);
            open.push(response);
        }
        assert_eq!(ask(&router, "/api/view", "localhost").await.status(), 503);
        let text = first(open.pop().unwrap()).await;
        assert!(text.starts_with("data: {\"pipeline\":\"now\","), "{text}");
        assert_eq!(ask(&router, "/api/view", "localhost").await.status(), 200, "its place is free");
    }

    #[tokio::test]
    async fn the_last_minutes_are_json() {
        let (_views, router) = console(true);
        let response = ask(&router, "/api/history", "localhost").await;
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
        assert_eq!(first(response).await, "{}");
    }

    #[tokio::test]
    async fn a_tap_sends_events_or_says_what_is_wrong() {
        let (_views, router) = console(true);
        let mut open = Vec::new();
        for _ in 0..TAPS_MAX {
            open.push(ask(&router, "/api/tap?output=ingest", "localhost").await);
        }
        let text = first(ask(&router, "/api/tap?output=ingest", "localhost").await).await;
        assert!(text.contains("event: problem") && text.contains("4 taps are open"), "{text}");
        assert_eq!(first(open.pop().unwrap()).await, "data: {\"id\":\"ingest\"}\n\n");
        let text = first(ask(&router, "/api/tap?output=ingest&filter=nonsense", "localhost").await).await;
        assert!(text.contains("no condition: nonsense"), "{text}");
        assert_eq!(ask(&router, "/api/tap", "localhost").await.status(), 400);
    }
}
