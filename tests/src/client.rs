//! An HTTP client of the edge.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use serde_json::Value;

use crate::Numbered;

/// Longer than any request deadline of the tests: a request that gets no answer at all is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// One client with its own connections.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    url: String,
}

/// What the edge answered.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    /// Null where it is no JSON.
    pub body: Value,
    pub text: String,
}

fn events_at(port: u16) -> String {
    format!("http://127.0.0.1:{port}/events")
}

impl Client {
    /// For `http://127.0.0.1:PORT/events`.
    pub fn new(port: u16) -> Self {
        Self::at(&events_at(port))
    }

    /// For any address.
    pub fn at(url: &str) -> Self {
        let http = reqwest::Client::builder().timeout(PATIENCE).connect_timeout(Duration::from_secs(5));
        Self { http: http.build().expect("HTTP client"), url: url.to_owned() }
    }

    /// The same client for another port, with its connections.
    #[must_use]
    pub fn to(&self, port: u16) -> Self {
        Self { url: events_at(port), ..self.clone() }
    }

    /// Posts `body`. An error means that nothing is known of what became of it.
    pub async fn post(&self, content_type: &str, body: String) -> Result<Answer, String> {
        self.send(self.http.post(&self.url).header(CONTENT_TYPE, content_type).body(body)).await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Answer, String> {
        let response = request.send().await.map_err(|error| format!("{error:?}"))?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.map_err(|error| format!("{error:?}"))?;
        Ok(Answer { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::Null), text })
    }

    /// Posts one JSON value as a part of this trace: a W3C `traceparent`.
    pub async fn traced(&self, value: &Value, traceparent: &str) -> Answer {
        let request = self.http.post(&self.url).header(CONTENT_TYPE, "application/json").body(value.to_string());
        self.send(request.header("traceparent", traceparent)).await.expect("an answer")
    }

    /// Posts one JSON value.
    pub async fn json(&self, value: &Value) -> Answer {
        self.post("application/json", value.to_string()).await.expect("an answer")
    }

    /// Posts events: one in structured mode, more as a batch.
    pub async fn events(&self, events: &[Numbered]) -> Result<Answer, String> {
        match events {
            [event] => self.post("application/cloudevents+json", event.cloud_event().to_string()).await,
            _ => {
                let batch: Vec<_> = events.iter().map(Numbered::cloud_event).collect();
                self.post("application/cloudevents-batch+json", Value::Array(batch).to_string()).await
            }
        }
    }
}

impl Answer {
    /// How long the server asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        self.headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs)
    }

    /// The answer's `(index, status, reason)` of each listed event that was not published.
    pub fn unpublished(&self) -> Vec<(usize, String, String)> {
        let text = |event: &Value, name: &str| event[name].as_str().unwrap_or_default().to_owned();
        let listed = self.body["events"].as_array().into_iter().flatten();
        let entries = listed.filter_map(|event| {
            let index = usize::try_from(event["index"].as_u64()?).ok()?;
            Some((index, text(event, "status"), text(event, "reason")))
        });
        entries.filter(|(_, status, _)| status != "published").collect()
    }
}
