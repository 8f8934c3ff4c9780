//! The source's part of the pipeline file, and what it must satisfy.

use std::collections::BTreeMap;
use std::path::PathBuf;

use http::header::HeaderName;
use jaiminho_event::units::{ByteSize, HumanDuration};
use jaiminho_runtime::Acknowledge;
use jaiminho_tls::{ServerTls, connection_bytes_max};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::serve::STREAMS_MAX;

/// What an event takes until its answer beside its id's text: the places of those who wait for it, and a rejection.
pub(crate) const WAITING_BYTES: u64 = 448;

/// Of an id that we give.
const ID_BYTES: u64 = 36;

/// What one event takes beside its text, type and source: most of it until its answer; before, between its text and the log,
/// less than 320 for columns, id and attributes of ours.
pub(crate) const EVENT_OVERHEAD_BYTES: u64 = WAITING_BYTES + ID_BYTES;

/// Most that a zstd decoder keeps of what it has written (RFC 9659 lets no sender ask for more).
pub(crate) const ZSTD_WINDOW_BYTES: u64 = 8 << 20;

/// What a zstd decoder takes with such a window: beside it, its tables and a block each of what it reads and writes.
pub(crate) const ZSTD_BYTES: u64 = ZSTD_WINDOW_BYTES + (1 << 20);

/// Fields of a request's head; with more it is refused. HTTP/1 knows the same limit.
pub(crate) const HEADERS_MAX: usize = 100;

/// Headers that become attributes.
const ALLOWED_HEADERS_MAX: usize = 64;

/// What a field of a request's head takes beside its text: its places in a map that grows by doubling.
const HEADER_BYTES: u64 = 320;

/// The same of a head that HTTP/2 reads, before its fields are counted, as a multiple of `header_bytes`: the smallest field
/// counts 33 bytes there.
pub(crate) const UNCOUNTED_HEADER_FACTOR: u64 = 8;

/// Bytes that a connection costs beside its bodies: read and write buffers, headers, state.
const CONNECTION_BYTES: u64 = 96 << 10;

/// Takes events in over HTTP, WebSocket, or both.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// When a client is told that its event is done.
    pub acknowledge: AcknowledgeWhen,
    /// The HTTP endpoint.
    pub http: Option<HttpConfig>,
    /// The WebSocket endpoint.
    pub websocket: Option<WebSocketConfig>,
    /// `type` of events that come as plain JSON; default `PIPELINE.STAGE`.
    #[serde(rename = "type")]
    pub ty: Option<String>,
    /// `source` of events that come as plain JSON; default `/PIPELINE/STAGE`.
    pub source: Option<String>,
    /// Request headers that become attributes of each event of the request: header name to attribute name. A header
    /// wins over the event's own attribute.
    pub headers: BTreeMap<String, String>,
    /// A file of bearer tokens, one a line, `#` begins a comment. Re-read when it changes. None: no token is asked for.
    pub tokens_file: Option<PathBuf>,
    /// Cross-origin requests of browsers; none: not answered.
    pub cors: Option<CorsConfig>,
    /// CloudEvents' web-hook handshake.
    pub webhook: WebhookConfig,
    /// Limits.
    pub limits: LimitsConfig,
    /// How long a draining source serves on, so that load balancers take notice.
    pub drain_delay: HumanDuration,
}

/// See [`Config::acknowledge`].
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum AcknowledgeWhen {
    /// The broker has confirmed it.
    #[default]
    Published,
    /// It is in this process's memory: a crash, or a drain past its deadline, loses it.
    Accepted,
}

impl From<AcknowledgeWhen> for Acknowledge {
    fn from(when: AcknowledgeWhen) -> Self {
        match when {
            AcknowledgeWhen::Published => Self::Published,
            AcknowledgeWhen::Accepted => Self::Accepted,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            acknowledge: AcknowledgeWhen::default(),
            http: None,
            websocket: None,
            ty: None,
            source: None,
            headers: BTreeMap::new(),
            tokens_file: None,
            cors: None,
            webhook: WebhookConfig::default(),
            limits: LimitsConfig::default(),
            drain_delay: HumanDuration::from_secs(5),
        }
    }
}

/// The HTTP endpoint.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Address and port.
    pub listen: String,
    /// Its certificate: then it is `https`, and with a shared port `wss`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ServerTls>,
    /// Path of `POST` requests.
    pub path: String,
    /// Longest wait for the outcome of a request's events (`acknowledge: published`).
    pub deadline: HumanDuration,
    /// Longest wait for a request's head; also how long an idle HTTP/1 connection is kept.
    pub header_timeout: HumanDuration,
    /// Longest time for a whole body to arrive, waiting for reading room included.
    pub body_timeout: HumanDuration,
    /// Connections are closed gracefully at this age (less up to a tenth), so that load spreads over new instances.
    pub connection_age_max: HumanDuration,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: "0.0.0.0:8080".to_owned(),
            tls: None,
            path: "/events".to_owned(),
            deadline: HumanDuration::from_secs(30),
            header_timeout: HumanDuration::from_secs(30),
            body_timeout: HumanDuration::from_secs(30),
            connection_age_max: HumanDuration::from_secs(600),
        }
    }
}

/// The WebSocket endpoint. Subprotocols: `cloudevents.json`, `jaiminho.v1`, none.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct WebSocketConfig {
    /// Path of the upgrade request.
    pub path: String,
    /// An address and port of its own; default: http's.
    pub listen: Option<String>,
    /// The certificate of its own port: then it is `wss`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ServerTls>,
    /// Most events of one socket that have no outcome yet.
    pub in_flight_max: u32,
    /// Longest that a client without credit (plain, or `cloudevents.json`) is held back before it is closed with 1013.
    pub hold_max: HumanDuration,
    /// Between pings.
    pub ping_interval: HumanDuration,
    /// A socket from which nothing came for so long, not even a pong, is closed.
    pub idle_timeout: HumanDuration,
}

impl Default for WebSocketConfig {
    fn default() -> Self {
        Self {
            path: "/ws".to_owned(),
            listen: None,
            tls: None,
            in_flight_max: 256,
            hold_max: HumanDuration::from_secs(30),
            ping_interval: HumanDuration::from_secs(20),
            idle_timeout: HumanDuration::from_secs(60),
        }
    }
}

/// Cross-origin requests.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct CorsConfig {
    /// Origins (`https://app.example`), or `*` alone.
    pub origins: Vec<String>,
    /// Request headers that scripts may set beside the safe ones; `*` alone: any.
    pub headers: Vec<String>,
    /// How long a browser may keep the preflight's answer.
    pub age_max: Option<HumanDuration>,
}

/// CloudEvents' web-hook handshake (`OPTIONS` with `WebHook-Request-Origin`).
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct WebhookConfig {
    /// Origins that may deliver (`eventgrid.azure.net`), or `*` alone. It is the tokens that keep others out.
    pub origins: Vec<String>,
    /// Requests a minute that a sender is granted; none: what it asks for, else without limit.
    pub rate: Option<u32>,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        Self { origins: vec!["*".to_owned()], rate: None }
    }
}

/// Limits of the edge. `reading_bytes`, `connections` and `sockets` bound its memory.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// A body as it is sent, compressed or not.
    pub body_bytes: ByteSize,
    /// A body after decompression.
    pub expanded_bytes: ByteSize,
    /// One event, in CloudEvents' protobuf format; also a WebSocket message.
    pub event_bytes: ByteSize,
    /// Events of one body.
    pub events: u32,
    /// A request's headers together.
    pub header_bytes: ByteSize,
    /// Memory for bodies and messages that are being read, and for the ids of events that wait for their answer, all together.
    pub reading_bytes: ByteSize,
    /// Requests at once; more are answered with 503.
    pub requests: u32,
    /// Connections at once; more wait to be accepted.
    pub connections: u32,
    /// WebSockets at once; more are answered with 503.
    pub sockets: u32,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            body_bytes: ByteSize(1 << 20),
            expanded_bytes: ByteSize(4 << 20),
            event_bytes: ByteSize(256 << 10),
            events: 10_000,
            header_bytes: ByteSize(16 << 10),
            reading_bytes: ByteSize(64 << 20),
            requests: 1_024,
            connections: 1_024,
            sockets: 192,
        }
    }
}

/// A setting that can't be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct ConfigError {
    /// Dotted path of the setting, inside the source.
    pub path: String,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl ConfigError {
    fn new(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { path: path.into(), problem: problem.into() }
    }
}

impl LimitsConfig {
    /// The largest WebSocket message that is read at all. One between this and `event_bytes` still gets a clean answer.
    pub(crate) fn message_bytes(&self) -> u64 {
        self.event_bytes.0.saturating_add((self.event_bytes.0 / 4).max(64))
    }

    /// Most that the head of a request takes once its fields are counted.
    pub(crate) fn head_bytes(&self) -> u64 {
        self.header_bytes.0 + HEADERS_MAX as u64 * HEADER_BYTES
    }

    /// Bytes to reserve before a body is read that has at most `expanded` bytes: the body, the events made of it, what
    /// each of them costs besides, and the one in work.
    pub(crate) fn reservation(&self, expanded: u64, cost: &Cost) -> u64 {
        let events = (expanded / 2 + 1).min(cost.events_max);
        let in_work = expanded.min(self.event_bytes.0).saturating_mul(2);
        expanded
            .saturating_mul(cost.copies)
            .saturating_add(in_work)
            .saturating_add(events.saturating_mul(cost.event_bytes))
    }
}

/// What drafting takes at most, for each request its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cost {
    /// Of the whole text, held at once: the body itself among them.
    pub(crate) copies: u64,
    /// Of one event, beside its text.
    pub(crate) event_bytes: u64,
    /// Most events.
    pub(crate) events_max: u64,
}

impl Cost {
    /// Copies of a text that drafting holds at once: the text, the event of it, and where a key is made of the event that
    /// with its key.
    pub(crate) fn copies(keyed: bool) -> u64 {
        2 + u64::from(keyed)
    }

    /// Of one message, with the text itself.
    pub(crate) fn message(&self, bytes: u64) -> u64 {
        bytes.saturating_mul(self.copies + 2).saturating_add(self.event_bytes)
    }
}

impl Config {
    /// The terms that the edge adds to the memory of an instance with so many threads: each with its name, its bytes, and how
    /// they come about.
    pub fn memory(&self, threads: u64) -> Vec<(&'static str, u64, String)> {
        let LimitsConfig { reading_bytes, connections, header_bytes, requests, sockets, .. } = &self.limits;
        let (connections, requests, sockets) = (u64::from(*connections), u64::from(*requests), u64::from(*sockets));
        let tls = self.tls().map(|(_, tls)| connection_bytes_max(tls.ca.is_some())).max().unwrap_or_default();
        let of_tls = if tls > 0 { format!(" + {tls} of TLS") } else { String::new() };
        let connection = CONNECTION_BYTES + header_bytes.0 + tls;
        let head = self.limits.head_bytes();
        let uncounted = u64::from(STREAMS_MAX) * header_bytes.0 * UNCOUNTED_HEADER_FACTOR;
        let mut terms = vec![
            ("bodies and ids", reading_bytes.0, "limits.reading_bytes".to_owned()),
            (
                "connections",
                connections * connection,
                format!("{connections} x ({CONNECTION_BYTES} + header_bytes{of_tls})"),
            ),
            ("heads of requests", requests * head, format!("{requests} requests x {head}")),
            (
                "heads being read",
                threads * uncounted,
                format!("{threads} threads x {STREAMS_MAX} streams x {UNCOUNTED_HEADER_FACTOR} x header_bytes"),
            ),
        ];
        if self.websocket.is_some() {
            let socket = CONNECTION_BYTES + self.limits.message_bytes();
            terms.push(("websockets", sockets * socket, format!("{sockets} x ({CONNECTION_BYTES} + message)")));
        }
        terms
    }

    /// The certificates of its ports, each with the endpoint that names it.
    pub fn tls(&self) -> impl Iterator<Item = (&'static str, &ServerTls)> {
        let http = self.http.as_ref().and_then(|http| Some(("http", http.tls.as_ref()?)));
        let own = self.websocket.as_ref().and_then(|socket| Some(("websocket", socket.tls.as_ref()?)));
        http.into_iter().chain(own)
    }

    /// Whether the endpoints speak TLS: HTTP's, and the WebSocket's.
    pub fn are_secured(&self) -> [bool; 2] {
        let http = self.http.as_ref().is_some_and(|http| http.tls.is_some());
        let own = self.websocket.as_ref().is_some_and(|socket| match socket.listen {
            Some(_) => socket.tls.is_some(),
            None => http,
        });
        [http, own]
    }

    /// The same, to be changed.
    pub fn tls_mut(&mut self) -> impl Iterator<Item = &mut ServerTls> {
        let http = self.http.as_mut().and_then(|http| http.tls.as_mut());
        http.into_iter().chain(self.websocket.as_mut().and_then(|socket| socket.tls.as_mut()))
    }

    /// Every setting that can't be, at once.
    pub fn check(&self) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        self.check_endpoints(&mut errors);
        self.check_limits(&mut errors);
        if self.headers.len() > ALLOWED_HEADERS_MAX {
            let problem = format!("names {} headers, more than {ALLOWED_HEADERS_MAX}", self.headers.len());
            errors.push(ConfigError::new("headers", problem));
        }
        for (header, attribute) in self.headers.iter().take(ALLOWED_HEADERS_MAX) {
            let path = || format!("headers.{header}");
            if header.parse::<HeaderName>().is_err() {
                errors.push(ConfigError::new(path(), "is no header name"));
            }
            let legal = attribute.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
            if !legal || attribute.is_empty() || attribute.len() > jaiminho_event::NAME_BYTES_MAX {
                errors.push(ConfigError::new(
                    path(),
                    format!("`{attribute}` is no attribute name: 1 to 64 of a-z and 0-9"),
                ));
            }
            if matches!(
                attribute.as_str(),
                "id" | "source" | "type" | "specversion" | "data" | "datacontenttype" | "time"
            ) {
                errors.push(ConfigError::new(path(), format!("`{attribute}` can't be set from a header")));
            }
        }
        if let Some(cors) = &self.cors {
            check_cors(cors, &mut errors);
        }
        errors
    }

    fn check_endpoints(&self, errors: &mut Vec<ConfigError>) {
        if self.http.is_none() && self.websocket.as_ref().is_none_or(|socket| socket.listen.is_none()) {
            errors.push(ConfigError::new(
                "http",
                "is missing: a source has `http`, or `websocket` with `listen`, or both",
            ));
        }
        if let Some(http) = &self.http {
            check_path("http.path", &http.path, errors);
            check_listen("http.listen", &http.listen, errors);
            for (name, duration) in [
                ("http.deadline", http.deadline),
                ("http.header_timeout", http.header_timeout),
                ("http.body_timeout", http.body_timeout),
                ("http.connection_age_max", http.connection_age_max),
            ] {
                check_duration(name, duration, errors);
            }
        }
        if let Some(socket) = &self.websocket {
            check_path("websocket.path", &socket.path, errors);
            match &socket.listen {
                Some(listen) => check_listen("websocket.listen", listen, errors),
                None if socket.tls.is_some() => {
                    let problem = "is for a port of its own (`listen`): without, `http.tls` is the WebSocket's, too";
                    errors.push(ConfigError::new("websocket.tls", problem));
                }
                None => {}
            }
            check_duration("websocket.hold_max", socket.hold_max, errors);
            check_duration("websocket.ping_interval", socket.ping_interval, errors);
            if socket.idle_timeout <= socket.ping_interval {
                errors.push(ConfigError::new("websocket.idle_timeout", "must be greater than `ping_interval`"));
            }
            if socket.in_flight_max == 0 {
                errors.push(ConfigError::new("websocket.in_flight_max", "must be at least 1"));
            }
        }
    }

    fn check_limits(&self, errors: &mut Vec<ConfigError>) {
        let limits = &self.limits;
        for (name, value) in [
            ("limits.body_bytes", limits.body_bytes.0),
            ("limits.event_bytes", limits.event_bytes.0),
            ("limits.events", u64::from(limits.events)),
            ("limits.requests", u64::from(limits.requests)),
            ("limits.connections", u64::from(limits.connections)),
            ("limits.sockets", u64::from(limits.sockets)),
        ] {
            if value == 0 {
                errors.push(ConfigError::new(name, "must be at least 1"));
            }
        }
        if limits.expanded_bytes < limits.body_bytes {
            errors.push(ConfigError::new("limits.expanded_bytes", "must be at least `body_bytes`"));
        }
        if limits.header_bytes.0 < 8 << 10 || limits.header_bytes.0 > 1 << 20 {
            errors.push(ConfigError::new("limits.header_bytes", "must be from 8KiB to 1MiB"));
        }
        let copies = Cost::copies(true);
        let cost = Cost { copies, event_bytes: EVENT_OVERHEAD_BYTES, events_max: u64::from(limits.events) };
        let largest = limits.expanded_bytes.0.max(limits.event_bytes.0);
        let one = limits.reservation(largest, &cost).saturating_add(ZSTD_BYTES);
        if limits.reading_bytes.0 < one {
            let problem =
                format!("must be at least {one} (one body of `expanded_bytes`, its events, and a zstd decoder)");
            errors.push(ConfigError::new("limits.reading_bytes", problem));
        }
        if limits.reading_bytes.0 > u64::from(u32::MAX) {
            errors.push(ConfigError::new("limits.reading_bytes", "must be less than 4GiB"));
        }
    }
}

fn check_listen(name: &str, listen: &str, errors: &mut Vec<ConfigError>) {
    let legal = |(host, port): (&str, &str)| !host.is_empty() && port.parse::<u16>().is_ok();
    if !listen.rsplit_once(':').is_some_and(legal) {
        errors.push(ConfigError::new(name, format!("`{listen}` is no `HOST:PORT`, as `0.0.0.0:8080`")));
    }
}

fn check_path(name: &str, path: &str, errors: &mut Vec<ConfigError>) {
    let legal = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'{' | b'}' | b'?' | b'#' | b'*' | b':');
    if !path.starts_with('/') || !path.bytes().all(legal) {
        errors.push(ConfigError::new(
            name,
            format!("`{path}` is no path: it begins with `/`, without `{{`, `*`, `:`, `?`, `#`"),
        ));
    }
}

fn check_duration(name: &str, duration: HumanDuration, errors: &mut Vec<ConfigError>) {
    if duration.0.is_zero() || duration > HumanDuration::from_secs(7 * 86_400) {
        errors.push(ConfigError::new(name, "must be over 0 and at most 7d"));
    }
}

fn check_cors(cors: &CorsConfig, errors: &mut Vec<ConfigError>) {
    if cors.origins.is_empty() {
        errors.push(ConfigError::new("cors.origins", "is empty: name origins, or `*`"));
    }
    if cors.origins.len() > 1 && cors.origins.iter().any(|origin| origin == "*") {
        errors.push(ConfigError::new("cors.origins", "`*` stands alone"));
    }
    for origin in &cors.origins {
        if http::HeaderValue::from_str(origin).is_err() {
            errors.push(ConfigError::new("cors.origins", format!("`{}` is no origin", origin.escape_debug())));
        }
    }
    for header in cors.headers.iter().filter(|header| *header != "*") {
        if header.parse::<HeaderName>().is_err() {
            errors.push(ConfigError::new("cors.headers", format!("`{}` is no header name", header.escape_debug())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(json: serde_json::Value) -> Vec<String> {
        let config: Config = serde_json::from_value(json).unwrap();
        config.check().into_iter().map(|error| error.path).collect()
    }

    #[test]
    fn defaults_with_http_are_sound() {
        assert_eq!(errors(serde_json::json!({ "http": {} })), Vec::<String>::new());
        assert_eq!(errors(serde_json::json!({ "websocket": { "listen": "127.0.0.1:0" } })), Vec::<String>::new());
    }

    #[test]
    fn an_address_to_listen_on_has_a_host_and_a_port() {
        for listen in ["18080", "127.0.0.1:99999", ":80", "localhost:http"] {
            let both = serde_json::json!({ "http": { "listen": listen }, "websocket": { "listen": listen } });
            assert_eq!(errors(both), ["http.listen", "websocket.listen"], "{listen}");
        }
        for listen in ["localhost:80", "[::]:8080"] {
            assert_eq!(errors(serde_json::json!({ "http": { "listen": listen } })), Vec::<String>::new(), "{listen}");
        }
    }

    #[test]
    fn every_wrong_setting_is_named_at_once() {
        let found = errors(serde_json::json!({
            "websocket": { "path": "ws", "idle_timeout": "1s", "in_flight_max": 0 },
            "headers": { "bad header": "Tenant", "x-id": "id" },
            "limits": { "events": 0, "expanded_bytes": 5, "reading_bytes": "1MiB", "header_bytes": 1 },
            "cors": { "origins": ["*", "https://a"], "headers": ["no good"] },
        }));
        for path in [
            "http",
            "websocket.path",
            "websocket.idle_timeout",
            "websocket.in_flight_max",
            "headers.bad header",
            "headers.x-id",
            "limits.events",
            "limits.expanded_bytes",
            "limits.reading_bytes",
            "limits.header_bytes",
            "cors.origins",
            "cors.headers",
        ] {
            assert!(found.iter().any(|found| found == path), "{path} in {found:?}");
        }
    }

    #[test]
    fn an_unknown_key_is_an_error() {
        assert!(serde_json::from_value::<Config>(serde_json::json!({ "http": { "lisen": "x" } })).is_err());
    }
}
