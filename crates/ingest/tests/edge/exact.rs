//! All that a client can send wrong, and in `snapshots` the exact answer to each.

use futures_util::{SinkExt, StreamExt};
use reqwest::{Method, RequestBuilder};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::support::{PATIENCE, Running, start};
use crate::websocket::{Client, closed, connect};

const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";
const STRUCTURED: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";

/// `{"specversion": …}` with these members changed or added; `null` stays `null`.
fn event(members: serde_json::Value) -> String {
    let mut event = json!({ "specversion": "1.0", "id": "1", "source": "/", "type": "t" });
    for (name, value) in members.as_object().unwrap() {
        event[name] = value.clone();
    }
    event.to_string()
}

/// What of an answer a client acts on.
async fn answered(running: &mut Running, request: RequestBuilder) -> String {
    let told = running.refused(request).await;
    let mut text = told.status.to_string();
    for name in
        ["content-type", "retry-after", "allow", "accept-encoding", "accept-post", "www-authenticate", "upgrade"]
    {
        let value = told.header(name);
        if !value.is_empty() {
            text.push_str(&format!("\n  {name}: {value}"));
        }
    }
    let mut body = told.body.clone();
    if let Some(fields) = body.as_object_mut() {
        fields.remove("title");
        fields.remove("status");
    }
    format!("{text}\n  {body}\n")
}

fn small() -> serde_json::Value {
    json!({ "limits": { "body_bytes": "2KiB", "expanded_bytes": "2KiB", "event_bytes": 1024, "events": 3 } })
}

#[tokio::test]
async fn a_wrong_body_gets_its_exact_answer() {
    let mut running = start(small());
    let mut all = String::new();
    let long = "x".repeat(1_100);
    for (content_type, body) in [
        (JSON, String::new()),
        (JSON, "{".to_owned()),
        (JSON, "{\"a\":}".to_owned()),
        (JSON, "{\"a\":1,}".to_owned()),
        (JSON, "1 2".to_owned()),
        (JSON, "nul".to_owned()),
        (JSON, "1e999".to_owned()),
        (JSON, "\"\\ud800\"".to_owned()),
        (JSON, "\"a\nb\"".to_owned()),
        (JSON, "[1,\n 2,}]".to_owned()),
        (JSON, "[1".to_owned()),
        (JSON, "[1,2,3,4]".to_owned()),
        (JSON, "[".repeat(500)),
        (JSON, format!("{}1{}", "{\"a\":".repeat(121), "}".repeat(121))),
        (JSON, format!("[1, \"{long}\"]")),
        (JSON, " ".repeat(2_049)),
        (NDJSON, "1\n{\"a\":2}\n{,}\n".to_owned()),
        (NDJSON, "1\n2\n3\n4\n".to_owned()),
        (NDJSON, "[1,2]\n3 4".to_owned()),
        (STRUCTURED, "[]".to_owned()),
        (STRUCTURED, "\"text\"".to_owned()),
        (STRUCTURED, "{}".to_owned()),
        (STRUCTURED, event(json!({ "specversion": "0.3" }))),
        (STRUCTURED, event(json!({ "specversion": 1 }))),
        (STRUCTURED, event(json!({ "id": "" }))),
        (STRUCTURED, event(json!({ "id": 7 }))),
        (STRUCTURED, event(json!({ "source": null }))),
        (STRUCTURED, event(json!({ "type": "" }))),
        (STRUCTURED, event(json!({ "time": "yesterday" }))),
        (STRUCTURED, "{\"specversion\":\"1.0\"}".to_owned()),
        (STRUCTURED, event(json!({ "Bad": "x" }))),
        (STRUCTURED, event(json!({ "x".repeat(65): "x" }))),
        (STRUCTURED, event(json!({ "x": 1.5 }))),
        (STRUCTURED, event(json!({ "x": 3_000_000_000_u64 }))),
        (STRUCTURED, event(json!({ "x": {} }))),
        (STRUCTURED, event(json!({ "x": "a\u{0}b" }))),
        (STRUCTURED, event(json!({ "data": 1, "data_base64": "AA==" }))),
        (STRUCTURED, event(json!({ "data_base64": "%" }))),
        (STRUCTURED, event(json!({ "data_base64": 1 }))),
        (STRUCTURED, event(json!({ "datacontenttype": "text/plain", "data": {} }))),
        (STRUCTURED, event(json!({})).replace('}', ",\"id\":\"2\"}")),
        (BATCH, "{}".to_owned()),
        (BATCH, "\"text\"".to_owned()),
        (BATCH, String::new()),
        (BATCH, format!("[{},3]", event(json!({})))),
        (BATCH, format!("[{}", event(json!({})))),
    ] {
        let shown: String = body.chars().take(60).collect();
        let request = running.post(content_type, body);
        let answer = answered(&mut running, request).await;
        all.push_str(&format!("{content_type} {shown:?}\n  {answer}"));
    }
    let request = running.post(JSON, &b"\"\xff\""[..]);
    let answer = answered(&mut running, request).await;
    all.push_str(&format!("{JSON} not UTF-8\n  {answer}"));
    insta::assert_snapshot!(all);
}

#[tokio::test]
async fn a_wrong_head_gets_its_exact_answer() {
    let tokens = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(tokens.path(), "one").unwrap();
    let mut running = start(json!({
        "tokens_file": tokens.path(), "headers": { "x-tenant": "tenant" }, "webhook": { "origins": ["good.example"] },
    }));
    let url = running.url();
    let client = running.client.clone();
    let with = |pairs: &[(&str, &str)]| {
        let request = client.post(&url).bearer_auth("one").body("1");
        pairs.iter().fold(request, |request, (name, value)| request.header(*name, *value))
    };
    let binary = |name: &str, value: &str| {
        let good = [("ce-id", "1"), ("ce-source", "/"), ("ce-type", "t"), ("ce-specversion", "1.0")];
        let request = with(&[("content-type", JSON)]);
        let request = good
            .iter()
            .filter(|(known, _)| *known != name)
            .fold(request, |request, (name, value)| request.header(*name, *value));
        if value == "(missing)" { request } else { request.header(name, value) }
    };
    let mut requests: Vec<(String, RequestBuilder)> = Vec::new();
    let mut add = |what: &str, request: RequestBuilder| requests.push((what.to_owned(), request));
    add("no token", client.post(&url).header("content-type", JSON).body("1"));
    add("Basic", client.post(&url).header("authorization", "Basic b25l").body("1"));
    add("another token", client.post(&url).bearer_auth("two").body("1"));
    add("another token in the query", client.post(format!("{url}?access_token=two")).body("1"));
    add("no content type", with(&[]));
    for content_type in ["text/plain", "application/cloudevents+avro", "application/json; charset=latin1", "a\u{e9}"] {
        add(content_type, with(&[("content-type", content_type)]));
    }
    for coding in ["br", "gzip, gzip", "deflate"] {
        add(coding, with(&[("content-type", JSON), ("content-encoding", coding)]));
    }
    for coding in ["gzip", "zstd"] {
        add(&format!("{coding} that is none"), with(&[("content-type", JSON), ("content-encoding", coding)]));
    }
    add("x-tenant", with(&[("content-type", JSON)]).header("x-tenant", &b"\xff"[..]));
    for (name, value) in [
        ("ce-specversion", "(missing)"),
        ("ce-source", "(missing)"),
        ("ce-type", "(missing)"),
        ("ce-specversion", "0.3"),
        ("ce-source", ""),
        ("ce-time", "yesterday"),
        ("ce-bad-name", "x"),
        ("ce-data", "x"),
        ("ce-datacontenttype", "a/b"),
        ("ce-subject", "%ff"),
        ("ce-subject", "%00"),
        ("ce-subject", "\"a\\\""),
        ("ce-subject", "\"a\"b\""),
    ] {
        add(&format!("{name}: {value}"), binary(name, value));
    }
    add("ce-subject twice", binary("ce-subject", "a").header("ce-subject", "b"));
    add("PUT", client.put(&url));
    add("GET", client.get(&url));
    add("another path", client.post(url.replace("/events", "/event")));
    add("POST to the WebSocket", client.post(url.replace("/events", "/ws")));
    add("GET of the WebSocket", client.get(url.replace("/events", "/ws")).bearer_auth("one"));
    add(
        "hand-shake of another origin",
        client.request(Method::OPTIONS, &url).header("webhook-request-origin", "bad.example"),
    );
    let mut all = String::new();
    for (what, request) in requests {
        all.push_str(&format!("{what}\n  {}", answered(&mut running, request).await));
    }
    insta::assert_snapshot!(all);
}

async fn close_of(mut client: Client, message: Message) -> String {
    client.send(message).await.unwrap();
    let (code, reason) = closed(&mut client).await;
    format!("{code} {reason}")
}

#[tokio::test]
async fn a_wrong_message_closes_with_its_exact_code_and_reason() {
    let running = start(json!({ "limits": { "event_bytes": 256 }, "websocket": { "in_flight_max": 1 } }));
    let big = |bytes: usize| Message::text(format!("\"{}\"", "x".repeat(bytes)));
    let mut all = String::new();
    for (protocol, message) in [
        (None, Message::binary(vec![1u8])),
        (None, Message::text("")),
        (None, Message::text("{")),
        (None, Message::text("{\"specversion\":\"1.0\"}")),
        (None, big(280)),
        (None, big(1_000)),
        (Some("cloudevents.json"), Message::text("{\"a\":1}")),
        (Some("cloudevents.json"), Message::text("1")),
        (Some("cloudevents.json"), Message::binary(vec![1u8])),
        (Some("jaiminho.v1"), Message::text("")),
        (Some("jaiminho.v1"), Message::text("{")),
        (Some("jaiminho.v1"), Message::text("1")),
        (Some("jaiminho.v1"), Message::text("\"text\"")),
        (Some("jaiminho.v1"), Message::text("{\"n\":1}")),
        (Some("jaiminho.v1"), Message::text("{\"n\":-1,\"event\":1}")),
        (Some("jaiminho.v1"), Message::text("{\"n\":2,\"event\":1}")),
        (Some("jaiminho.v1"), Message::text("{\"event\":1,\"more\":2}")),
        (Some("jaiminho.v1"), Message::text("{\"event\":1,\"event\":2}")),
        (Some("jaiminho.v1"), big(1_000)),
    ] {
        let shown: String = message.to_string().chars().take(40).collect();
        let close = close_of(connect(&running, protocol).await, message).await;
        all.push_str(&format!("{} {shown:?}\n  {close}\n", protocol.unwrap_or("plain")));
    }
    insta::assert_snapshot!(all);
}

#[tokio::test]
async fn a_wrong_event_is_rejected_in_our_protocol_with_its_exact_reason() {
    let running = start(json!({ "limits": { "event_bytes": 256 } }));
    let mut client = connect(&running, Some("jaiminho.v1")).await;
    let mut all = String::new();
    for value in [
        "{\"specversion\":\"1.0\"}".to_owned(),
        "{\"specversion\":\"0.3\",\"id\":\"1\",\"source\":\"/\",\"type\":\"t\"}".to_owned(),
        event(json!({ "x": [] })),
        "1e999".to_owned(),
        format!("\"{}\"", "x".repeat(260)),
    ] {
        client.send(Message::text(format!("{{\"event\":{value}}}"))).await.unwrap();
        let ack = loop {
            let message = tokio::time::timeout(PATIENCE, client.next()).await.unwrap().unwrap().unwrap();
            if let Message::Text(text) = message
                && text.contains("ack")
            {
                break text;
            }
        };
        all.push_str(&format!("{:?}\n  {ack}\n", value.chars().take(60).collect::<String>()));
    }
    insta::assert_snapshot!(all);
}
