//! A source behind a real listener, with a scripted desk in place of the stage.

use std::net::SocketAddr;
use std::time::Duration;

use jaiminho_core::{Outcome, Reason, Rejection};
use jaiminho_event::{CloudEvent, Template};
use jaiminho_ingest::{Config, HttpSource};
use jaiminho_runtime::{Answer, Source, SourceError, SourceHandle, TestDesk};
use jaiminho_telemetry::traces::Tracer;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Running {
    pub(crate) desk: TestDesk,
    pub(crate) address: SocketAddr,
    pub(crate) task: JoinHandle<Result<(), SourceError>>,
    pub(crate) client: reqwest::Client,
}

/// `config` over: HTTP and WebSocket on a free port of loopback.
pub(crate) fn start(config: Value) -> Running {
    start_with_key(config, None)
}

pub(crate) fn start_with_key(config: Value, key: Option<&str>) -> Running {
    start_with(config, key, Tracer::default())
}

pub(crate) fn start_with(config: Value, key: Option<&str>, tracer: Tracer) -> Running {
    let mut whole = json!({ "http": { "listen": "127.0.0.1:0" }, "websocket": {}, "drain_delay": "0s" });
    merge(&mut whole, config);
    let config: Config = serde_json::from_value(whole).unwrap();
    let key = key.map(|text| Template::parse(text).unwrap());
    let source = HttpSource::bind(config, key, "p", "ingest").unwrap().with_tracer(tracer);
    let address = source.local_addr();
    let (handle, desk) = SourceHandle::for_test();
    let task = tokio::spawn(Box::new(source).run(handle));
    Running { desk, address, task, client: reqwest::Client::new() }
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

impl Running {
    pub(crate) fn url(&self) -> String {
        format!("http://{}/events", self.address)
    }

    pub(crate) fn post(&self, content_type: &str, body: impl Into<reqwest::Body>) -> reqwest::RequestBuilder {
        self.client.post(self.url()).header("content-type", content_type).body(body)
    }

    /// Sends a request whose events are all accepted; its answer, and the events.
    pub(crate) async fn publish(&mut self, request: reqwest::RequestBuilder) -> (Told, Vec<CloudEvent>) {
        self.settle(request, |count| vec![accepted(); count]).await
    }

    /// Sends a request whose events get these answers.
    pub(crate) async fn settle(
        &mut self,
        request: reqwest::RequestBuilder,
        answers: impl FnOnce(usize) -> Vec<Answer>,
    ) -> (Told, Vec<CloudEvent>) {
        let sent = tokio::spawn(request.send());
        let offer = tokio::time::timeout(PATIENCE, self.desk.next()).await;
        let Ok(offer) = offer else { panic!("no offer; answered: {:?}", told(sent.await.unwrap()).await) };
        let offer = offer.unwrap();
        let events = offer.offer.events.iter().map(|event| CloudEvent::decode(&event.payload).unwrap()).collect();
        let count = offer.offer.events.len();
        offer.answer(answers(count));
        (told(sent.await.unwrap()).await, events)
    }

    /// Sends a request of which nothing reaches the stage.
    pub(crate) async fn refused(&mut self, request: reqwest::RequestBuilder) -> Told {
        tokio::select! {
            answer = request.send() => told(answer).await,
            offer = self.desk.next() => panic!("offered: {offer:?}"),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Value,
}

pub(crate) async fn told(response: reqwest::Result<reqwest::Response>) -> Told {
    let response = response.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await.unwrap();
    let body = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() };
    Told { status, headers, body }
}

impl Told {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Status, kind of problem, index and byte.
    pub(crate) fn problem(&self) -> (u16, &str, Option<u64>, Option<u64>) {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        assert_eq!(self.body["status"], self.status);
        let kind = self.body["type"].as_str().unwrap().strip_prefix("urn:jaiminho:problem:").unwrap();
        (self.status, kind, self.body["index"].as_u64(), self.body["position"]["byte"].as_u64())
    }
}

pub(crate) fn accepted() -> Answer {
    Answer::Settled(Outcome::Accepted)
}

pub(crate) fn rejected(reason: Reason, text: &str, stored: bool) -> Answer {
    Answer::Settled(Outcome::Rejected(Box::new(Rejection { reason, text: text.to_owned(), stored })))
}
