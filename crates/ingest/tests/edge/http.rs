//! `POST`: formats, answers, limits.

use std::io::Write as _;
use std::time::Duration;

use jaiminho_core::Reason;
use jaiminho_event::Data;
use jaiminho_runtime::{Answer, Refusal};
use reqwest::RequestBuilder;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{PATIENCE, accepted, rejected, start, start_with_key, told};

const STRUCTURED: &str = "application/cloudevents+json; charset=UTF-8";
const BATCH: &str = "application/cloudevents-batch+json";

fn text(data: &Data) -> &str {
    match data {
        Data::Text(text) => text,
        Data::None | Data::Binary(_) => panic!("{data:?}"),
    }
}

#[tokio::test]
async fn a_plain_value_is_published_with_type_source_and_an_assigned_id() {
    let mut running = start(json!({ "type": "t", "source": "/s" }));
    let request = running.post("application/json", " {\"a\": 1.50}\n");
    let (told, events) = running.publish(request).await;
    assert_eq!(told.status, 200);
    assert_eq!(told.header("content-type"), "application/json");
    let id = &events[0].id;
    assert_eq!(id.len(), 36);
    let expected =
        json!({ "status": "published", "count": 1, "events": [{ "index": 0, "id": id, "status": "published" }] });
    assert_eq!(told.body, expected);
    assert_eq!((events[0].ty.as_str(), events[0].source.as_str()), ("t", "/s"));
    assert_eq!(text(&events[0].data), "{\"a\": 1.50}");
    assert_eq!(events[0].attribute("datacontenttype").unwrap(), "application/json");
}

#[tokio::test]
async fn arrays_and_lines_are_many_events_in_order() {
    let mut running = start(json!({}));
    for (content_type, body) in [
        ("application/json", " [1, {\"a\":[2]}, \"x\"]"),
        ("application/vnd.acme+json", "[1,{\"a\":[2]},\"x\"]"),
        ("application/x-ndjson", "1\r\n\n{\"a\":[2]}\n\"x\""),
    ] {
        let request = running.post(content_type, body);
        let (told, events) = running.publish(request).await;
        assert_eq!((told.status, &told.body["count"], &told.body["events"][2]["index"]), (200, &json!(3), &json!(2)));
        assert_eq!(events.iter().map(|event| text(&event.data)).collect::<Vec<_>>(), ["1", "{\"a\":[2]}", "\"x\""]);
    }
    for (content_type, body) in [("application/json", "[]"), ("application/x-ndjson", "\n"), (BATCH, "[ ]")] {
        let told = running.refused(running.post(content_type, body)).await;
        assert_eq!((told.status, told.body), (200, json!({ "status": "published", "count": 0, "events": [] })));
    }
}

#[tokio::test]
async fn cloudevents_come_structured_batched_and_binary() {
    let mut running = start(json!({}));
    let body = r#"{"specversion":"1.0","id":"1","source":"/d","type":"t","subject":"s","seq":7,"data":{"n":1.0}}"#;
    let request = running.post(STRUCTURED, body);
    let (told, events) = running.publish(request).await;
    assert_eq!((told.status, &told.body), (200, &json!({ "status": "published", "count": 1, "events": [] })));
    assert_eq!((events[0].id.as_str(), text(&events[0].data)), ("1", "{\"n\":1.0}"));
    assert_eq!(events[0].attribute("partitionkey").unwrap(), "s");

    let request = running.post(BATCH, format!("[{body}, {}]", body.replace("\"id\":\"1\",", "")));
    let (told, events) = running.publish(request).await;
    assert_eq!(told.body["events"], json!([{ "index": 1, "id": events[1].id, "status": "published" }]));

    let request = running.post("text/plain", "caf\u{e9}");
    let request =
        request.headers(ce(&[("ce-id", "2"), ("ce-source", "/d"), ("ce-type", "t"), ("ce-specversion", "1.0")]));
    let request = request.header("ce-subject", "a%20b").header("ce-time", "2024-01-01T01:00:00+01:00");
    let (told, events) = running.publish(request).await;
    assert_eq!((told.status, text(&events[0].data)), (200, "caf\u{e9}"));
    assert_eq!(events[0].attribute("subject").unwrap(), "a b");
    assert_eq!(events[0].attribute("time").unwrap(), "2024-01-01T00:00:00Z");
    assert_eq!(events[0].attribute("datacontenttype").unwrap(), "text/plain");

    let request = running.client.post(running.url());
    let request = request.headers(ce(&[("ce-source", "/d"), ("ce-type", "t"), ("ce-specversion", "1.0")]));
    let (told, events) = running.publish(request).await;
    assert_eq!((&told.body["events"][0]["id"], &events[0].data), (&json!(events[0].id), &Data::None));
}

fn ce(pairs: &[(&'static str, &'static str)]) -> http::HeaderMap {
    pairs.iter().map(|(name, value)| ((*name).parse().unwrap(), value.parse().unwrap())).collect()
}

#[tokio::test]
async fn an_unreadable_body_is_400_with_index_and_position() {
    let mut running = start(json!({}));
    for (content_type, body, index, byte) in [
        ("application/json", "{\"a\":}", Some(0), Some(5)),
        ("application/json", "", Some(0), Some(0)),
        ("application/json", "1 2", Some(0), Some(2)),
        ("application/json", "[1,\n2,}]", None, Some(6)),
        ("application/json", "{\"a\":\"b\n\"}", Some(0), Some(7)),
        ("application/x-ndjson", "1\n{\"a\":2}\n{,}\n", Some(2), Some(11)),
        (STRUCTURED, "{\"id\":\"1\",\"source\":\"/\",\"type\":\"t\"}", Some(0), None),
        (
            STRUCTURED,
            "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/\",\"type\":\"t\",\"Bad\":1}",
            Some(0),
            Some(61),
        ),
        (BATCH, "[{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/\",\"type\":\"t\"},3]", Some(1), Some(56)),
        (BATCH, "{}", None, Some(0)),
    ] {
        let told = running.refused(running.post(content_type, body)).await;
        let (status, kind, told_index, told_byte) = told.problem();
        assert_eq!((status, kind, told_index), (400, "malformed", index), "{body}: {told:?}");
        assert_eq!(told_byte, byte, "{body}: {told:?}");
    }
    let told = running.refused(running.post("application/json", &b"\"\xff\""[..])).await;
    assert_eq!(told.problem(), (400, "malformed", None, Some(1)));
    let deep = "[".repeat(5_000) + &"]".repeat(5_000);
    let told = running.refused(running.post("application/json", deep)).await;
    assert_eq!(told.status, 400);
    let told = running.refused(running.post("application/x-ndjson", "1\n2\n{\"a\":\n")).await;
    assert_eq!(told.body["position"]["line"], json!(3));
}

#[tokio::test]
async fn bad_binary_mode_headers_are_400() {
    let mut running = start(json!({}));
    let good = [("ce-id", "1"), ("ce-source", "/"), ("ce-type", "t"), ("ce-specversion", "1.0")];
    for (name, value) in [
        ("ce-specversion", "0.3"),
        ("ce-source", ""),
        ("ce-type", ""),
        ("ce-time", "yesterday"),
        ("ce-bad-name", "x"),
        ("ce-datacontenttype", "a/b"),
        ("ce-subject", "%ff"),
        ("ce-data", "x"),
        ("ce-subject", "%00"),
    ] {
        let mut headers = ce(&good);
        headers.insert(name, value.parse().unwrap());
        let told = running.refused(running.post("application/json", "1").headers(headers)).await;
        assert_eq!(told.problem(), (400, "malformed", Some(0), None), "{name}: {value}");
        assert!(told.body["detail"].as_str().unwrap().contains(name), "{told:?}");
    }
    for missing in ["ce-specversion", "ce-source", "ce-type"] {
        let mut headers = ce(&good);
        headers.remove(missing);
        let told = running.refused(running.post("application/json", "1").headers(headers)).await;
        assert_eq!(told.problem(), (400, "malformed", Some(0), None), "{missing}");
    }
    let told = running.refused(running.post("application/json", "{").headers(ce(&good))).await;
    assert_eq!((told.problem().0, told.problem().2), (400, Some(0)));
}

#[tokio::test]
async fn types_and_encodings_that_are_not_read_are_415() {
    let mut running = start(json!({}));
    for content_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/cloudevents+avro",
        "application/cloudevents-batch+xml",
        "application/json; charset=latin1",
    ] {
        let told = running.refused(running.post(content_type, "1")).await;
        assert_eq!(told.problem(), (415, "unsupported-type", None, None), "{content_type}");
        assert!(told.header("accept-post").contains("application/x-ndjson"));
    }
    let told = running.refused(running.client.post(running.url()).body("1")).await;
    assert_eq!(told.problem().0, 415);
    for coding in ["br", "gzip, gzip"] {
        let told = running.refused(running.post("application/json", "1").header("content-encoding", coding)).await;
        assert_eq!(told.problem(), (415, "unsupported-encoding", None, None));
        assert_eq!(told.header("accept-encoding"), "gzip, zstd");
    }
}

#[tokio::test]
async fn outcomes_follow_the_table() {
    let mut running = start(json!({}));
    let batch = |running: &crate::support::Running| {
        let event = |id| json!({ "specversion": "1.0", "id": id, "source": "/", "type": "t" });
        running.post(BATCH, json!([event("a"), event("b")]).to_string())
    };
    let request = batch(&running);
    let (told, _) = running.settle(request, |_| vec![accepted(), rejected(Reason::Invalid, "no", true)]).await;
    let listed = json!([{ "index": 1, "id": "b", "status": "rejected", "reason": "invalid: no", "stored": true }]);
    assert_eq!((told.status, told.body), (207, json!({ "status": "partial", "count": 2, "events": listed })));

    let request = batch(&running);
    let (told, _) = running.settle(request, |count| vec![rejected(Reason::TooLarge, "", false); count]).await;
    assert_eq!((told.status, &told.body["status"]), (422, &json!("rejected")));
    assert_eq!(
        told.body["events"][0],
        json!({ "index": 0, "id": "a", "status": "rejected", "reason": "too_large", "stored": false })
    );

    let request = batch(&running);
    let (told, _) = running.settle(request, |count| vec![Answer::Withdrawn; count]).await;
    assert_eq!((told.status, &told.body["status"]), (503, &json!("withdrawn")));
    assert!(["1", "2", "3"].contains(&told.header("retry-after")), "{told:?}");
    assert_eq!(told.body["events"].as_array().unwrap().len(), 2);

    let request = batch(&running);
    let (told, _) = running.settle(request, |_| vec![accepted(), Answer::Unknown]).await;
    assert_eq!((told.status, &told.body["status"]), (504, &json!("unknown")));
    assert_eq!((&told.body["events"][0]["id"], &told.body["events"][0]["status"]), (&json!("b"), &json!("unknown")));

    let mut running = start(json!({ "acknowledge": "accepted" }));
    let request = batch(&running);
    let (told, _) = running.publish(request).await;
    assert_eq!((told.status, told.body), (202, json!({ "status": "accepted", "count": 2, "events": [] })));
}

#[tokio::test]
async fn n15_refusals_follow_the_table() {
    let mut running = start(json!({}));
    let retry_after = Duration::from_millis(2_500);
    let overloaded = Refusal::Overloaded { cause: "log full".to_owned(), retry_after };
    for (refusal, problem, waits) in [
        (overloaded, (429, "overloaded", None, None), &["3"][..]),
        (Refusal::NeverFits { events: 1, bytes: 2 }, (413, "never-fits", None, None), &[""]),
        (Refusal::Draining, (503, "draining", None, None), &["1", "2", "3"]),
    ] {
        let sent = tokio::spawn(running.post("application/json", "1").send());
        running.desk.next().await.unwrap().refuse(refusal);
        let told = told(sent.await.unwrap()).await;
        assert_eq!(told.problem(), problem);
        assert!(waits.contains(&told.header("retry-after")), "{told:?}");
    }
}

#[tokio::test]
async fn a_published_offer_has_the_deadline_and_an_accepted_one_has_none() {
    for (acknowledge, deadline) in [("published", Some(Duration::from_secs(7))), ("accepted", None)] {
        let mut running = start(json!({ "acknowledge": acknowledge, "http": { "deadline": "7s" } }));
        let _sent = tokio::spawn(running.post("application/json", "1").send());
        assert_eq!(running.desk.next().await.unwrap().offer.deadline, deadline);
    }
}

#[tokio::test]
async fn other_methods_are_405_and_other_paths_404() {
    let mut running = start(json!({}));
    let told = running.refused(running.client.put(running.url())).await;
    assert_eq!((told.problem(), told.header("allow")), ((405, "method", None, None), "POST, OPTIONS"));
    let told = running.refused(running.client.post(format!("http://{}/ws", running.address))).await;
    assert_eq!((told.problem().0, told.header("allow")), (405, "GET"));
    let told = running.refused(running.client.post(format!("http://{}/", running.address))).await;
    assert_eq!(told.problem(), (404, "not-found", None, None));
    let told = running.refused(running.client.get(format!("http://{}/ws", running.address))).await;
    assert_eq!(told.problem(), (426, "not-a-websocket", None, None));
}

#[tokio::test]
async fn the_key_is_rendered_and_falls_back_to_partitionkey_and_subject() {
    let mut running = start_with_key(json!({}), Some("{{data.device}}"));
    let request = running.post("application/json", "[{\"device\":\"d1\"},{}]");
    let (_, events) = running.publish(request).await;
    assert_eq!(events[0].attribute("partitionkey").unwrap(), "d1");
    assert_eq!(events[1].attribute("partitionkey"), None);
    let body =
        json!({ "specversion": "1.0", "id": "1", "source": "/", "type": "t", "partitionkey": "p", "subject": "s" });
    let sent = tokio::spawn(running.post(STRUCTURED, body.to_string()).send());
    let offer = running.desk.next().await.unwrap();
    let event = &offer.offer.events[0];
    assert_eq!(event.key.unwrap().0, jaiminho_event::key_hash("p"));
    assert_eq!(event.identity, jaiminho_event::identity("/", "1"));
    offer.answer(vec![accepted()]);
    assert_eq!(sent.await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn allowed_headers_become_attributes_and_the_trace_is_kept() {
    let mut running = start(json!({ "headers": { "X-Tenant": "tenant" } }));
    let request = running.post("application/json", "1").header("x-tenant", "acme").header("x-other", "no");
    let sent =
        tokio::spawn(request.header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").send());
    let offer = running.desk.next().await.unwrap();
    let event = jaiminho_event::CloudEvent::decode(&offer.offer.events[0].payload).unwrap();
    assert_eq!((event.attribute("tenant").unwrap().as_ref(), event.attribute("xother")), ("acme", None));
    assert_eq!(offer.offer.events[0].trace.as_ref().unwrap().context[0], 0x4b);
    offer.answer(vec![accepted()]);
    sent.await.unwrap().unwrap();
    let bad = http::HeaderValue::from_bytes(b"\xff").unwrap();
    let told = running.refused(running.post("application/json", "1").header("x-tenant", bad)).await;
    assert_eq!(told.problem().0, 400);
}

async fn compressed(coding: &str, body: &[u8]) -> Vec<u8> {
    use async_compression::tokio::bufread::{GzipEncoder, ZstdEncoder};
    let mut out = Vec::new();
    match coding {
        "gzip" => GzipEncoder::new(body).read_to_end(&mut out).await.unwrap(),
        _ => ZstdEncoder::new(body).read_to_end(&mut out).await.unwrap(),
    };
    out
}

#[tokio::test]
async fn compressed_bodies_are_read_within_their_limits() {
    let limits = json!({ "body_bytes": "8KiB", "expanded_bytes": "64KiB", "event_bytes": "32KiB" });
    let mut running = start(json!({ "limits": limits }));
    for coding in ["gzip", "zstd"] {
        let request =
            running.post("application/json", compressed(coding, b"[1,2]").await).header("content-encoding", coding);
        let (told, events) = running.publish(request).await;
        assert_eq!((told.status, events.len()), (200, 2));
        let bomb = compressed(coding, &vec![b' '; 10 << 20]).await;
        assert!(coding == "gzip" || bomb.len() < 8 << 10);
        let bomb = bomb[..bomb.len().min(8 << 10)].to_vec();
        let told = running.refused(running.post("application/json", bomb).header("content-encoding", coding)).await;
        assert_eq!(told.problem(), (413, "body-too-large", None, None));
        let mut broken = compressed(coding, b"[1,2,3,4,5,6,7,8,9,10]").await;
        broken.truncate(broken.len() / 2);
        let told = running.refused(running.post("application/json", broken).header("content-encoding", coding)).await;
        assert_eq!(told.problem(), (400, "malformed", None, None));
        let told = running.refused(running.post("application/json", "{}").header("content-encoding", coding)).await;
        assert_eq!(told.problem().0, 400);
    }
}

#[tokio::test]
async fn bodies_events_and_their_number_have_limits() {
    let limits = json!({ "body_bytes": "2KiB", "event_bytes": 512, "events": 3 });
    let mut running = start(json!({ "limits": limits }));
    let told = running.refused(running.post("application/json", vec![b' '; 2_049])).await;
    assert_eq!(told.problem(), (413, "body-too-large", None, None));
    let chunks = futures_util::stream::iter((0..3).map(|_| Ok::<_, std::io::Error>(vec![b' '; 1_024])));
    let told = running.refused(running.post("application/json", reqwest::Body::wrap_stream(chunks))).await;
    assert_eq!(told.problem(), (413, "body-too-large", None, None));
    let told = running.refused(running.post("application/json", format!("[1, \"{}\"]", "x".repeat(600)))).await;
    assert_eq!(told.problem(), (413, "event-too-large", Some(1), Some(4)));
    let told = running.refused(running.post("application/json", format!("\"{}\"", "x".repeat(500)))).await;
    assert_eq!(told.problem(), (413, "event-too-large", Some(0), None));
    let told = running.refused(running.post("application/json", "[1,2,3,4]")).await;
    assert_eq!(told.problem().1, "too-many-events");
    let told = running.refused(running.post("application/x-ndjson", "1\n2\n3\n4\n")).await;
    assert_eq!(told.problem(), (413, "too-many-events", None, Some(6)));
}

#[tokio::test]
async fn a_slow_body_is_408_and_a_slow_head_is_cut() {
    let running = start(json!({ "http": { "body_timeout": "200ms", "header_timeout": "200ms" } }));
    let head = "POST /events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n1";
    let answer = raw(running.address, head).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("urn:jaiminho:problem:body-timeout"));
    for slow in ["", "PRI * HT", "POST /events HT"] {
        let _cut = raw(running.address, slow).await;
    }
}

/// What the server sends until it closes.
async fn raw(address: std::net::SocketAddr, text: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn more_requests_than_the_limit_are_shed() {
    let mut running = start(json!({ "limits": { "requests": 1 }, "cors": { "origins": ["https://a.example"] } }));
    let first = tokio::spawn(running.post("application/json", "1").send());
    let offer = running.desk.next().await.unwrap();
    let mut waits = std::collections::BTreeSet::new();
    for _ in 0..100 {
        let request = running.post("application/json", "1").header("origin", "https://a.example");
        let told = running.refused(request).await;
        assert_eq!(told.problem(), (503, "busy", None, None));
        assert_eq!(told.header("access-control-allow-origin"), "https://a.example");
        assert_eq!(told.body["detail"], "too many requests at once; nothing was taken");
        waits.insert(told.header("retry-after").to_owned());
    }
    assert!(waits.iter().eq(["1", "2", "3"]), "not all at once: {waits:?}");
    offer.answer(vec![accepted()]);
    assert_eq!(first.await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn ids_of_events_that_wait_for_their_answer_count_as_memory() {
    let limits = json!({ "body_bytes": "64KiB", "expanded_bytes": "64KiB", "event_bytes": "60KiB", "events": 1,
        "reading_bytes": "10MiB" });
    let mut running = start(json!({ "limits": limits, "http": { "body_timeout": "2s" } }));
    let event = json!({ "specversion": "1.0", "id": "x".repeat(50_000), "source": "/s", "type": "t" }).to_string();
    let mut waiting = Vec::new();
    let refused = loop {
        assert!(waiting.len() < 300, "nothing counts their ids");
        let mut request = tokio::spawn(running.post(STRUCTURED, event.clone()).send());
        tokio::select! {
            offer = running.desk.next() => waiting.push((request, offer.unwrap().take().1)),
            refused = &mut request => break told(refused.unwrap()).await,
        }
    };
    assert_eq!(refused.problem(), (503, "busy", None, None));
    assert!(waiting.len() > 100, "{}", waiting.len());
    for (request, answers) in waiting {
        answers.send(vec![accepted()]);
        assert_eq!(request.await.unwrap().unwrap().status(), 200);
    }
    let (told, _) = running.publish(running.post(STRUCTURED, event)).await;
    assert_eq!(told.status, 200);
}

#[tokio::test]
async fn a_head_of_too_many_fields_is_431_over_both_versions() {
    let mut running = start(json!({}));
    for (fields, status) in [(90, 200), (110, 431)] {
        let with =
            |request| (0..fields).fold(request, |request: RequestBuilder, n| request.header(format!("x-{n}"), "x"));
        let request = with(running.post("application/json", "1"));
        if status == 200 {
            assert_eq!(running.publish(request).await.0.status, 200);
            continue;
        }
        assert_eq!(running.refused(request).await.status, status);
        running.client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
        let told = running.refused(with(running.post("application/json", "1"))).await;
        assert_eq!(told.problem(), (431, "too-many-headers", None, None));
        assert_eq!(told.body["detail"], "a request's head has at most 100 fields");
    }
}

#[tokio::test]
async fn more_connections_than_the_limit_wait() {
    let mut running = start(json!({ "limits": { "connections": 1 }, "http": { "header_timeout": "300ms" } }));
    let _idle = tokio::net::TcpStream::connect(running.address).await.unwrap();
    let request = running.post("application/json", "1");
    let (told, _) = running.publish(request).await;
    assert_eq!(told.status, 200);
}

#[tokio::test]
async fn a_connection_ends_at_its_age() {
    let running = start(json!({ "http": { "connection_age_max": "100ms" } }));
    let answer = raw(running.address, "PUT /events HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
}

#[tokio::test]
async fn http2_without_tls_works() {
    let mut running = start(json!({}));
    running.client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let request = running.post("application/json", "1");
    let (told, _) = running.publish(request).await;
    assert_eq!(told.status, 200);
}

#[tokio::test]
async fn tokens_are_asked_for_and_read_again() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "one").unwrap();
    let mut running = start(json!({ "tokens_file": file.path() }));
    let told = running.refused(running.post("application/json", "1")).await;
    assert_eq!((told.problem(), told.header("www-authenticate")), ((401, "unauthorized", None, None), "Bearer"));
    let told = running.refused(running.post("application/json", "1").bearer_auth("two")).await;
    assert_eq!(told.status, 401);
    let request = running.post("application/json", "1").bearer_auth("one");
    assert_eq!(running.publish(request).await.0.status, 200);
    let request =
        running.client.post(format!("{}?access_token=one", running.url())).header("content-type", "application/json");
    assert_eq!(running.publish(request.body("1")).await.0.status, 200);
    std::fs::write(file.path(), "three\n").unwrap();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        // A body that is not JSON: past the token it is 400.
        let told = running.refused(running.post("application/json", "{").bearer_auth("three")).await;
        if told.status == 400 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(running.refused(running.post("application/json", "{").bearer_auth("one")).await.status, 401);
}

#[tokio::test]
async fn the_webhook_handshake_grants_origin_and_rate() {
    let mut running =
        start(json!({ "webhook": { "origins": ["good.example"], "rate": 60 }, "cors": { "origins": ["*"] } }));
    let ask = |running: &crate::support::Running, origin: &str| {
        running.client.request(http::Method::OPTIONS, running.url()).header("webhook-request-origin", origin.to_owned())
    };
    let told = running.refused(ask(&running, "good.example").header("webhook-request-rate", "120")).await;
    assert_eq!(
        (told.status, told.header("webhook-allowed-origin"), told.header("webhook-allowed-rate")),
        (200, "good.example", "60")
    );
    assert_eq!(told.header("allow"), "POST, OPTIONS");
    let told = running.refused(ask(&running, "bad.example")).await;
    assert_eq!((told.problem().0, told.header("webhook-allowed-origin")), (403, ""));
    let mut running = start(json!({}));
    let told = running.refused(ask(&running, "any.example")).await;
    assert_eq!((told.status, told.header("webhook-allowed-rate")), (200, "*"));
}

#[tokio::test]
async fn cors_answers_preflights_of_its_origins() {
    let mut running = start(json!({ "cors": { "origins": ["https://app.example"], "headers": ["x-tenant"] } }));
    let preflight = |running: &crate::support::Running, origin: &str| {
        let request = running.client.request(http::Method::OPTIONS, running.url()).header("origin", origin.to_owned());
        request.header("access-control-request-method", "POST")
    };
    let told = running.refused(preflight(&running, "https://app.example")).await;
    assert_eq!((told.status, told.header("access-control-allow-origin")), (200, "https://app.example"));
    assert!(told.header("access-control-allow-headers").contains("x-tenant"));
    let told = running.refused(preflight(&running, "https://evil.example")).await;
    assert_eq!(told.header("access-control-allow-origin"), "");
    let mut running = start(json!({}));
    let told = running.refused(preflight(&running, "https://app.example")).await;
    assert_eq!(
        (told.status, told.header("allow"), told.header("access-control-allow-origin")),
        (204, "POST, OPTIONS", "")
    );
}

#[tokio::test]
async fn a_drain_serves_on_then_refuses_then_ends_when_all_is_answered() {
    let mut running = start(json!({ "drain_delay": "2s" }));
    let first = tokio::spawn(running.post("application/json", "1").send());
    let held = running.desk.next().await.unwrap();
    running.desk.drain();
    let request = running.post("application/json", "2");
    let (told, _) = running.publish(request).await;
    assert_eq!((told.status, told.header("connection")), (200, "close"));
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        // A body that is not JSON: 400 while it serves, 503 after.
        let told = running.refused(running.post("application/json", "{")).await;
        if told.status == 503 {
            assert_eq!((told.problem(), told.header("connection")), ((503, "draining", None, None), "close"));
            break;
        }
        assert!(told.status == 400 && tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!running.task.is_finished());
    held.answer(vec![accepted()]);
    let answered = first.await.unwrap().unwrap();
    assert_eq!((answered.status().as_u16(), answered.headers()["connection"].to_str().unwrap()), (200, "close"));
    tokio::time::timeout(PATIENCE, running.task).await.unwrap().unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(running.address).await.is_err());
}

#[tokio::test]
async fn a_header_that_many_events_would_copy_is_refused_before_it_fills_the_memory() {
    let mut running = start(json!({ "headers": { "x-tenant": "tenant" } }));
    let request = running.post("application/x-ndjson", "1\n".repeat(10_000)).header("x-tenant", "x".repeat(7_000));
    let told = running.refused(request).await;
    assert_eq!((told.problem().0, told.problem().1), (413, "body-too-large"));
    assert_eq!(told.body["detail"], "its events take more than the 67088864 bytes reserved for them");
}
