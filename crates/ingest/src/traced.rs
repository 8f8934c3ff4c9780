//! A request, or a message of a socket, in the traces of its events.
//!
//! One event alone, and all events of a request whose client sent a `traceparent`, are below the request's span. Of several others
//! each has a trace of its own, which links to the request. An event that brings its own `traceparent` (CloudEvents' extension for
//! distributed tracing, which stays in it as it is) goes on with that one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use http::{HeaderMap, HeaderValue, StatusCode};
use jaiminho_core::Trace;
use jaiminho_event::CloudEvent;
use jaiminho_telemetry::names::spans as names;
use jaiminho_telemetry::traces::{KeyValue, Span, SpanKind, TraceContext, Tracer, UnixNanos};

/// What came in, while its answer is due.
#[derive(Debug)]
pub(crate) struct Arrival {
    tracer: Tracer,
    start: UnixNanos,
    /// The client's.
    parent: Option<TraceContext>,
    /// Of a message.
    socket: Option<Arc<Socket>>,
    /// Of the request's span.
    own: TraceContext,
    /// The trace is sampled, or one of an event that links here.
    is_recorded: AtomicBool,
    events: AtomicU64,
}

/// What all messages of a socket have in common.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) path: String,
    /// Of the request that it was asked for with.
    pub(crate) handshake: Option<TraceContext>,
    /// Its client is told the outcomes.
    pub(crate) is_told: bool,
}

impl Arrival {
    /// Now. None: traces are off.
    pub(crate) fn new(tracer: &Tracer, parent: Option<TraceContext>) -> Option<Arc<Self>> {
        Self::begin(tracer, parent, None)
    }

    fn begin(tracer: &Tracer, parent: Option<TraceContext>, socket: Option<&Arc<Socket>>) -> Option<Arc<Self>> {
        if !tracer.is_on() {
            return None;
        }
        let sampled = tracer.start(parent.as_ref());
        let own = sampled.unwrap_or_else(TraceContext::root);
        let (is_recorded, events) = (AtomicBool::new(sampled.is_some()), AtomicU64::new(0));
        let (tracer, start, socket) = (tracer.clone(), tracer.now(), socket.cloned());
        Some(Arc::new(Self { tracer, start, parent, socket, own, is_recorded, events }))
    }

    /// A message, now. Each has a trace of its own: a socket lives long, and is the parent of none; its hand-shake is linked to.
    pub(crate) fn of_message(tracer: &Tracer, socket: &Arc<Socket>) -> Option<Arc<Self>> {
        Self::begin(tracer, None, Some(socket))
    }

    /// What an event's spans are below, if it is sampled, and since when it waits for the stage. Tells of its receipt.
    pub(crate) fn event(&self, event: &CloudEvent, is_alone: bool) -> Option<Trace> {
        self.events.fetch_add(1, Ordering::Relaxed);
        let given = event.attributes.get("traceparent").and_then(|text| TraceContext::parse(&text.to_text()).ok());
        let is_below = given.is_none() && (is_alone || self.parent.is_some());
        let times = (self.start, self.tracer.now());
        let (context, span) = if is_below {
            if !self.is_recorded() {
                return None;
            }
            (self.own, Span::part(&self.own, names::RECEIVE, times.0, times.1))
        } else {
            let context = self.tracer.start(given.as_ref())?;
            self.is_recorded.store(true, Ordering::Relaxed);
            let parent = given.map(|given| given.span);
            let mut span = Span::new(context, parent, SpanKind::Consumer, names::RECEIVE, times);
            span.links.push(self.own.sampled());
            (context, span)
        };
        let span = span
            .with_text(names::MESSAGE_ID, &event.id)
            .with_text(names::EVENT_ID, &event.id)
            .with_text(names::EVENT_SOURCE, &event.source)
            .with_text(names::EVENT_TYPE, &event.ty);
        self.tracer.record(span);
        Some(Trace { context: context.to_bytes(), since: times.1 })
    }

    /// Whether its own span is told of.
    pub(crate) fn is_recorded(&self) -> bool {
        self.is_recorded.load(Ordering::Relaxed)
    }

    /// Its own span, up to now, of this name.
    fn span(&self, name: String, path: &str) -> Span {
        let parent = self.parent.map(|parent| parent.span);
        let times = (self.start, self.tracer.now());
        let mut span = Span::new(self.own.sampled(), parent, SpanKind::Server, name, times);
        span.links.extend(self.socket.as_ref().and_then(|socket| socket.handshake));
        span.with_text(names::URL_PATH, path)
            .with(KeyValue::new(names::EVENTS, i64::try_from(self.events.load(Ordering::Relaxed)).unwrap_or(i64::MAX)))
    }
}

/// The client's `traceparent`; a malformed one is as good as none.
pub(crate) fn traceparent(headers: &HeaderMap) -> Option<TraceContext> {
    headers.get("traceparent").map(HeaderValue::to_str)?.ok().and_then(|text| TraceContext::parse(text.trim()).ok())
}

/// A request without an answer yet. Dropped, its client is gone.
pub(crate) struct Asked<'a> {
    pub(crate) arrival: Option<Arc<Arrival>>,
    pub(crate) path: &'a str,
}

impl Asked<'_> {
    pub(crate) fn answered(mut self, status: StatusCode) {
        self.tell(Some(status));
    }

    fn tell(&mut self, status: Option<StatusCode>) {
        let Some(arrival) = self.arrival.take().filter(|arrival| arrival.is_recorded()) else { return };
        let mut span = arrival
            .span(format!("POST {}", self.path), self.path)
            .with(KeyValue::new(names::HTTP_METHOD, "POST"))
            .with_text(names::HTTP_ROUTE, self.path)
            .with(KeyValue::new(names::URL_SCHEME, "http"));
        match status {
            None => {
                span = span.with(KeyValue::new(names::ERROR_TYPE, "cancelled"));
                span.error = Some("the client went away before its answer".to_owned());
            }
            Some(status) => {
                span = span.with(KeyValue::new(names::HTTP_STATUS, i64::from(status.as_u16())));
                if status.is_server_error() {
                    span = span.with(KeyValue::new(names::ERROR_TYPE, status.as_str().to_owned()));
                    span.error = status.canonical_reason().map(str::to_owned);
                }
            }
        }
        arrival.tracer.record(span);
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.tell(None);
    }
}

/// A socket's message whose outcome is due. Dropped, its socket has ended before that.
#[derive(Debug)]
pub(crate) struct Heard(Option<Arc<Arrival>>);

impl Heard {
    /// Now.
    pub(crate) fn new(tracer: &Tracer, socket: &Arc<Socket>) -> Self {
        Self(Arrival::of_message(tracer, socket))
    }

    pub(crate) fn arrival(&self) -> Option<Arc<Arrival>> {
        self.0.clone()
    }

    /// Its event is made. A message that is not told of keeps nothing from now on.
    pub(crate) fn drafted(&mut self) {
        self.0.take_if(|arrival| !arrival.is_recorded());
    }

    /// Whether it is told of.
    pub(crate) fn is_recorded(&self) -> bool {
        self.0.as_ref().is_some_and(|arrival| arrival.is_recorded())
    }

    /// Its outcome is known. `id` is the event's, if it has one.
    pub(crate) fn answered(mut self, id: Option<&str>, status: &'static str, reason: Option<&str>) {
        self.tell(status, |span| {
            let mut span = id.into_iter().fold(span, |span, id| span.with_text(names::MESSAGE_ID, id));
            if let Some(reason) = reason {
                let kind = reason.split(':').next().unwrap_or_default();
                span = span.with_text(names::ERROR_TYPE, kind);
                span.error = Some(reason.to_owned());
            }
            span
        });
    }

    fn tell(&mut self, status: &'static str, more: impl FnOnce(Span) -> Span) {
        let Some(arrival) = self.0.take().filter(|arrival| arrival.is_recorded()) else { return };
        let path = arrival.socket.as_ref().map_or("", |socket| &socket.path);
        let span = arrival
            .span(format!("message {path}"), path)
            .with(KeyValue::new(names::PROTOCOL, "websocket"))
            .with(KeyValue::new(names::OUTCOME, status));
        arrival.tracer.record(more(span));
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        // A client that is told nothing may leave at any time: that is no error.
        let is_error = self.0.as_ref().and_then(|arrival| arrival.socket.as_ref()).is_some_and(|socket| socket.is_told);
        self.tell("unknown", |span| {
            let mut span = span.with(KeyValue::new(names::ERROR_TYPE, "cancelled"));
            span.error = is_error.then(|| "the socket ended before the outcome was known".to_owned());
            span
        });
    }
}
