//! One request until it is answered for good.

use std::path::Path;
use std::time::Duration;

use indicatif::ProgressBar;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use serde::Deserialize;

use super::bodies::Body;
use super::gave_up;
use crate::cli::ClientTls;
use crate::exit::Failure;
use crate::output::counted;

/// Longer than any server's request deadline by default.
const REQUEST_DEADLINE: Duration = Duration::from_secs(90);
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// Longest wait that is obeyed.
const WAIT_MAX: Duration = Duration::from_secs(120);
/// Most of an answer that is read.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// What became of events.
#[derive(Debug, Default)]
pub(in crate::commands) struct Tally {
    pub(in crate::commands) done: u64,
    pub(in crate::commands) rejected: u64,
    /// Requests that were sent again.
    pub(in crate::commands) retries: u64,
    pub(in crate::commands) first_reason: Option<String>,
}

impl Tally {
    pub(super) fn add(&mut self, other: Self) {
        self.done += other.done;
        self.rejected += other.rejected;
        self.retries += other.retries;
        self.first_reason = self.first_reason.take().or(other.first_reason);
    }
}

/// The answer's body: what was not done, by index.
#[derive(Debug, Default, Deserialize)]
struct Answer {
    #[serde(default)]
    events: Vec<Event>,
    /// Of a problem (RFC 9457): what is wrong, and the event concerned.
    detail: Option<String>,
    index: Option<usize>,
}

#[derive(Debug, Deserialize)]
struct Event {
    index: Option<usize>,
    id: Option<String>,
    status: String,
    reason: Option<String>,
}

/// Cheap to clone.
#[derive(Clone)]
pub(in crate::commands) struct Client {
    http: reqwest::Client,
    url: String,
    token: Option<String>,
    retries: u32,
}

/// What an answer asks for.
enum Next {
    Done(Tally),
    Again { wait: Duration, why: String },
    GiveUp(Failure),
}

impl Client {
    /// An `https` server's certificate is one that `tls.ca` has signed.
    pub(in crate::commands) fn new(
        url: String,
        token: Option<String>,
        tls: &ClientTls,
        retries: u32,
    ) -> Result<Self, Failure> {
        let parsed = reqwest::Url::parse(&url).map_err(|error| Failure::usage(format!("--url {url}: {error}")))?;
        let mut http = reqwest::Client::builder().timeout(REQUEST_DEADLINE).connect_timeout(CONNECT_DEADLINE);
        match (parsed.scheme(), &tls.ca) {
            ("http", None) => {}
            ("http", Some(_)) => {
                return Err(Failure::usage(format!("{url}: --ca is for https, and this is in plain text")));
            }
            ("https", Some(ca)) => {
                for certificate in authorities(ca)? {
                    http = http.add_root_certificate(certificate);
                }
                if let (Some(cert), Some(key)) = (&tls.cert, &tls.key) {
                    http = http.identity(identity(cert, key)?);
                }
            }
            ("https", None) => {
                let what = format!("{url}: --ca FILE says who signs the server's certificate");
                return Err(Failure::usage(what));
            }
            (..) => return Err(Failure::usage(format!("--url {url}: must begin with http:// or https://"))),
        }
        let http = http.build().map_err(|error| match &tls.cert {
            Some(cert) => Failure::usage(format!("--cert {}: {}", cert.display(), root_cause(&error))),
            None => Failure::software(error),
        });
        Ok(Self { http: http?, url, token, retries })
    }

    /// Sends `body` until it is answered for good.
    pub(in crate::commands) async fn post(self, body: Body, progress: ProgressBar) -> Result<Tally, Failure> {
        let mut tries = 0;
        loop {
            match self.try_once(&body, tries).await {
                Next::Done(mut tally) => {
                    tally.retries = u64::from(tries);
                    progress.set_message("");
                    progress.inc(body.events);
                    return Ok(tally);
                }
                Next::GiveUp(failure) => return Err(failure),
                Next::Again { why, .. } if tries >= self.retries => {
                    return Err(gave_up(format!(
                        "{}: gave up after {}: {why}",
                        self.url,
                        counted(tries.into(), "repeat")
                    )));
                }
                Next::Again { wait, why } => {
                    tries += 1;
                    progress.set_message(format!("waiting {} s: {why}", wait.as_secs().max(1)));
                    tracing::debug!(wait_ms = super::super::stage::millis(wait), why, "sending again");
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    async fn try_once(&self, body: &Body, tries: u32) -> Next {
        let mut request = self.http.post(&self.url).header(CONTENT_TYPE, body.content_type).body(body.bytes.clone());
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => match fault_of(&error) {
                Some(fault) => return Next::GiveUp(gave_up(format!("{}: TLS with the server: {fault}", self.url))),
                None => return Next::Again { wait: backoff(tries), why: root_cause(&error) },
            },
        };
        let status = response.status();
        let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let wait = asked.map_or_else(|| backoff(tries), Duration::from_secs).min(WAIT_MAX);
        let answer = match read(response).await {
            Ok(answer) => answer,
            Err(why) => return Next::Again { wait, why },
        };
        judge(status, answer, wait, body)
    }
}

fn judge(status: StatusCode, answer: Answer, wait: Duration, body: &Body) -> Next {
    // An index counts in the body; whoever reads this has the input before them.
    let place = |index: Option<usize>| {
        let line = index.and_then(|index| body.lines.get(index));
        line.map_or_else(String::new, |line| format!("line {line}: "))
    };
    let events = body.events;
    let rejected = answer.events.iter().filter(|event| event.status == "rejected");
    let first = rejected.clone().next().map(|event| {
        let id = event.id.as_deref().unwrap_or("?");
        format!("{}event {id}: {}", place(event.index), event.reason.as_deref().unwrap_or("rejected"))
    });
    let detail = format!("{}{}", place(answer.index), answer.detail.as_deref().unwrap_or_default());
    match status.as_u16() {
        200 | 202 => Next::Done(Tally { done: events, ..Tally::default() }),
        207 | 422 if !answer.events.is_empty() => {
            let rejected = rejected.count() as u64;
            Next::Done(Tally { done: events.saturating_sub(rejected), rejected, retries: 0, first_reason: first })
        }
        408 | 429 | 500 | 502 | 503 | 504 => Next::Again { wait, why: format!("{status} {detail}").trim().to_owned() },
        401 | 403 => Next::GiveUp(Failure::usage(format!("{status}: {detail}; --token-file gives a token"))),
        404 | 405 => Next::GiveUp(Failure::usage(format!(
            "{status}: {detail}; --url must end with the source's path, such as /events"
        ))),
        _ => Next::GiveUp(Failure::data(format!("{status}: {detail}"))),
    }
}

/// At most [`ANSWER_BYTES_MAX`] of it; what is no JSON says nothing about events.
async fn read(mut response: reqwest::Response) -> Result<Answer, String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| root_cause(&error))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > ANSWER_BYTES_MAX {
            break;
        }
    }
    Ok(serde_json::from_slice(&bytes).unwrap_or_default())
}

/// What is wrong with TLS, and how this program mends it.
fn fault_of(error: &reqwest::Error) -> Option<String> {
    match root_cause(error).as_str() {
        "received fatal alert: CertificateRequired" => {
            Some("it asks for a certificate: --cert FILE --key FILE shows one".to_owned())
        }
        _ => jaiminho_tls::fault_of(error),
    }
}

/// The innermost cause is the one that says something.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// The certificates of a PEM file.
fn authorities(ca: &Path) -> Result<Vec<reqwest::Certificate>, Failure> {
    let wrong = |what: &dyn std::fmt::Display| Failure::usage(format!("--ca {}: {what}", ca.display()));
    let pem = std::fs::read(ca).map_err(|error| wrong(&error))?;
    let authorities = reqwest::Certificate::from_pem_bundle(&pem).map_err(|_| wrong(&"holds no certificate"))?;
    if authorities.is_empty() {
        return Err(wrong(&"holds no certificate"));
    }
    Ok(authorities)
}

fn identity(cert: &Path, key: &Path) -> Result<reqwest::Identity, Failure> {
    let read = |option: &str, path: &Path| {
        std::fs::read(path).map_err(|error| Failure::usage(format!("{option} {}: {error}", path.display())))
    };
    let pem = [read("--cert", cert)?, read("--key", key)?].join(&b'\n');
    let (cert, key) = (cert.display(), key.display());
    reqwest::Identity::from_pem(&pem)
        .map_err(|_| Failure::usage(format!("--cert {cert} --key {key}: hold no certificate, or no key in PEM format")))
}

/// 0.5 s, doubled with each try, at most 10 s.
fn backoff(tries: u32) -> Duration {
    Duration::from_millis(500 << tries.min(5)).min(Duration::from_secs(10))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16, answer: &str) -> Next {
        let body = Body { content_type: "application/json", bytes: Vec::new(), events: 2, lines: vec![7, 9] };
        let status = StatusCode::from_u16(status).unwrap();
        judge(status, serde_json::from_str(answer).unwrap(), Duration::from_secs(3), &body)
    }

    #[test]
    fn answers_mean_done_again_or_never() {
        let Next::Done(tally) =
            judged(200, r#"{"status":"published","count":2,"events":[{"index":0,"id":"a","status":"published"}]}"#)
        else {
            panic!("200 is done")
        };
        assert_eq!((tally.done, tally.rejected), (2, 0));
        let partial = r#"{"status":"partial","count":2,"events":[{"index":1,"id":"b","status":"rejected","reason":"invalid: no unit"}]}"#;
        let Next::Done(tally) = judged(207, partial) else { panic!("207 is done") };
        assert_eq!(
            (tally.done, tally.rejected, tally.first_reason.unwrap()),
            (1, 1, "line 9: event b: invalid: no unit".to_owned())
        );
        for status in [429, 503, 504] {
            let Next::Again { wait, why } = judged(status, r#"{"detail":"log full"}"#) else {
                panic!("{status} is sent again")
            };
            assert_eq!(wait, Duration::from_secs(3));
            assert!(why.contains("log full"));
        }
        let Next::GiveUp(failure) = judged(400, r#"{"detail":"not JSON","index":0}"#) else { panic!("400 is final") };
        assert_eq!(failure.text, "400 Bad Request: line 7: not JSON");
        for status in [400, 401, 404, 413, 415, 422] {
            assert!(matches!(judged(status, "{}"), Next::GiveUp(_)), "{status}");
        }
    }
}
