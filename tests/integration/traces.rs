//! One event's trace, from the request to the record, as a real Jaeger shows it.

use std::time::Duration;

use jaiminho_tests::{
    Client, Cluster, Jaeger, Kafka, Seen, Topic, Trace, WebSocket, eventually, free_port, skip_jaeger, skip_kafka,
};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

use crate::pipelines::{ThreeStages, three_stages};

const STAGES: [(&str, usize); 4] = [("ingest", 1), ("convert", 1), ("publish", 1), ("dead", 1)];

/// The parts of an event's way forward: one ends where the next one begins.
const PARTS: [&str; 7] = ["wait log", "wait credit", "wire", "queue", "convert", "wait room", "wait send"];

fn skip() -> bool {
    skip_kafka() || skip_jaeger()
}

/// The three stages, of which each instance tells its spans to `endpoint`; `ratio` and what else `traces` says.
async fn traced(kafka: &Kafka, topic: &str, endpoint: &str, traces: &str, converts: usize) -> (Cluster, Client, u16) {
    let (port, bootstrap) = (free_port(), kafka.bootstrap());
    let mut stages = STAGES;
    stages[1].1 = converts;
    let mut cluster = Cluster::new(topic, &stages, |at| {
        let telemetry = format!("telemetry: {{ traces: {{ endpoint: \"{endpoint}\", {traces} }} }}\n");
        let rejects = r#"'if .data.bad == true { abort "bad" } else { .data.converted = true }'"#;
        let stages = three_stages(&ThreeStages { http_port: port, at, bootstrap: &bootstrap, topic });
        stages.replace(r#"".data.converted = true""#, rejects) + &telemetry
    });
    for (stage, count) in stages {
        (0..count).for_each(|index| cluster.start(stage, index));
    }
    cluster.ready().await;
    (cluster, Client::new(port), port)
}

/// A client's trace: its id, and the `traceparent` of its span.
fn parent(number: u64) -> (String, String, String) {
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_nanos();
    let (trace, span) = (format!("{nanos:024x}{number:08x}"), format!("{:016x}", number + 1));
    let traceparent = format!("00-{trace}-{span}-01");
    (trace, span, traceparent)
}

/// From the request's arrival to the broker's confirmation, and what its parts sum up to, in microseconds.
fn sums(trace: &Trace, topic: &str) -> (u64, u64) {
    let (request, sent) = (trace.one("POST /events"), trace.one(&format!("send {topic}")));
    let mut parts = trace.one("receive").duration_us + sent.duration_us;
    let mut hop: &Seen = sent;
    while hop.id != request.id {
        hop = trace.above(hop);
        let of_hop = trace.below(hop).into_iter().filter(|span| PARTS.contains(&span.name.as_str()));
        parts += of_hop.map(|span| span.duration_us).sum::<u64>();
    }
    (sent.end_us() - request.start_us, parts)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_events_trace_goes_from_the_request_to_the_record_and_its_parts_sum_up_to_its_time() {
    if skip() {
        return;
    }
    let (kafka, jaeger) = (Kafka::shared().await, Jaeger::shared().await);
    let (_cluster, client, _) = traced(&kafka, "traced", &jaeger.endpoint(), "ratio: 0", 1).await;
    // The first one finds links and connections that are new.
    client.json(&json!({ "key": "k", "number": 0 })).await;
    for number in 1..=3 {
        let (id, span, traceparent) = parent(number);
        let answer = client.traced(&json!({ "key": "k", "number": number }), &traceparent).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let is_whole = |trace: &Trace| {
            let names = ["POST /events", "create ingest", "process convert", "process publish", "send traced"];
            names.iter().all(|name| trace.has(name)) && trace.has("send publish") && trace.has("send convert")
        };
        let trace = jaeger.trace(&id, is_whole).await;
        let request = trace.one("POST /events");
        assert_eq!(request.parent.as_ref(), Some(&span), "the client's span is above: {trace}");
        let way = [
            ("send traced", "jaiminho-publish", "producer"),
            ("process publish", "jaiminho-publish", "consumer"),
            ("send publish", "jaiminho-convert", "producer"),
            ("process convert", "jaiminho-convert", "consumer"),
            ("send convert", "jaiminho-ingest", "producer"),
            ("create ingest", "jaiminho-ingest", "producer"),
            ("POST /events", "jaiminho-ingest", "server"),
        ];
        let mut at = trace.one("send traced");
        for (name, service, kind) in way {
            assert_eq!((at.name.as_str(), at.service.as_str(), at.tag("span.kind")), (name, service, kind), "{trace}");
            if name != "POST /events" {
                at = trace.above(at);
            }
        }
        check_attributes(&trace, "traced");
        let topic = Topic::read(&kafka.bootstrap(), "traced").await;
        let record = topic.records.iter().find(|record| record.json()["number"] == number).expect("the record");
        let sent = trace.one("send traced");
        assert_eq!(record.headers["traceparent"], format!("00-{id}-{}-01", sent.id), "{trace}");
        assert_eq!(sent.tag("messaging.kafka.offset"), record.offset.to_string());
        assert_eq!(sent.tag("messaging.destination.partition.id"), record.partition.to_string());
        let (time, parts) = sums(&trace, "traced");
        assert!(time.abs_diff(parts) <= (time / 20).max(1_000), "{parts} us of {time} in parts: {trace}");
    }
    let topic = Topic::read(&kafka.bootstrap(), "traced").await;
    let first = topic.records.iter().find(|record| record.json()["number"] == 0).expect("the record");
    assert!(!first.headers.contains_key("traceparent"), "what is not sampled goes out without");
}

fn check_attributes(trace: &Trace, pipeline: &str) {
    let request = trace.one("POST /events");
    assert_eq!((request.tag("http.response.status_code"), request.tag("url.path")), ("200", "/events"));
    assert_eq!(request.tag("jaiminho.events"), "1");
    let receive = trace.one("receive");
    assert_eq!(receive.tag("messaging.message.id"), receive.tag("cloudevents.event_id"));
    let sent = trace.one(&format!("send {pipeline}"));
    assert_eq!(sent.tag("messaging.system"), "kafka");
    assert_eq!(sent.tag("messaging.destination.name"), pipeline);
    assert_eq!(sent.tag("messaging.kafka.message.key"), "k");
    assert_eq!(sent.tag("messaging.message.id").split('/').next(), Some(receive.tag("messaging.message.id")));
    for (name, stage) in [("create ingest", "ingest"), ("process convert", "convert"), ("process publish", "publish")] {
        let resource = &trace.one(name).resource;
        assert_eq!((resource["jaiminho.pipeline"].as_str(), resource["jaiminho.stage"].as_str()), (pipeline, stage));
        assert!(
            resource["service.instance.id"].starts_with("127.0.0.1") || !resource["service.instance.id"].is_empty()
        );
    }
    let delivery = trace.one("send convert");
    assert_eq!((delivery.tag("jaiminho.attempt"), delivery.tag("jaiminho.outcome")), ("1", "accepted"), "{trace}");
    assert!(!delivery.tag("jaiminho.peer").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_a_websocket_and_each_event_of_a_batch_has_its_trace() {
    if skip() {
        return;
    }
    let (kafka, jaeger) = (Kafka::shared().await, Jaeger::shared().await);
    let (_cluster, client, port) = traced(&kafka, "traced-many", &jaeger.endpoint(), "ratio: 1", 1).await;
    let event = |id: &str, traceparent: &str| {
        json!({ "specversion": "1.0", "id": id, "source": "/t", "type": "t", "traceparent": traceparent,
            "data": { "key": id } })
    };
    let (own, _, own_traceparent) = parent(1);
    let mut socket = WebSocket::connect(port, Some("jaiminho.v1")).await.expect("a connection");
    socket.send(&event("socket", &own_traceparent)).await.expect("sent");
    let trace = jaeger.trace(&own, |trace| trace.has("send traced-many") && trace.has("create ingest")).await;
    let receive = trace.one("receive");
    assert_eq!(receive.tag("cloudevents.event_id"), "socket");
    assert_eq!(trace.above(trace.one("create ingest")).id, receive.id);
    let (message, _) = &receive.links[0];
    let message = jaeger.trace(message, |trace| trace.has("message /ws")).await;
    assert_eq!(message.one("message /ws").tag("messaging.message.id"), "socket");

    let (others, _, others_traceparent) = parent(2);
    let plain = json!({ "specversion": "1.0", "id": "plain", "source": "/t", "type": "t", "data": { "key": "p" } });
    let batch = json!([event("other", &others_traceparent), plain]);
    let answer = client.post("application/cloudevents-batch+json", batch.to_string()).await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text);
    let trace = jaeger.trace(&others, |trace| trace.has("send traced-many")).await;
    let (request, _) = &trace.one("receive").links[0];
    let request = jaeger.trace(request, |trace| trace.has("POST /events")).await;
    assert_eq!((request.one("POST /events").tag("jaiminho.events"), request.spans.len()), ("2", 1), "{request}");
    let is_plain =
        |trace: &Trace| trace.named("receive").iter().any(|span| span.tag("cloudevents.event_id") == "plain");
    let plain = eventually("the trace of `plain`", Duration::from_secs(60), || async {
        let all = jaeger.having("jaiminho-ingest", "receive", 1).await;
        all.into_iter().find(is_plain).ok_or_else(|| "none".to_owned())
    })
    .await;
    assert_eq!(plain.one("receive").links, [(request.id.clone(), request.spans[0].id.clone())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_goes_two_ways_has_both_in_its_trace() {
    if skip() {
        return;
    }
    let (kafka, jaeger) = (Kafka::shared().await, Jaeger::shared().await);
    let port = free_port();
    let stages = [("ingest", 1), ("left", 1), ("right", 1)];
    let (bootstrap, endpoint) = (kafka.bootstrap(), jaeger.endpoint());
    let mut cluster = Cluster::new("fan-out", &stages, |at| {
        format!(
            r#"version: 1
pipeline: fan-out
telemetry: {{ traces: {{ endpoint: "{endpoint}", ratio: 0 }} }}
stages:
  ingest:
    at: {ingest}
    source: {{ http: {{ listen: "127.0.0.1:{port}", path: /events }} }}
  left:
    subscribe_to: [ingest]
    sink: {{ kafka: {{ bootstrap_servers: "{bootstrap}", topic: fan-out.left }} }}
  right:
    subscribe_to: [ingest]
    sink: {{ kafka: {{ bootstrap_servers: "{bootstrap}", topic: fan-out.right }} }}
"#,
            ingest = at("ingest"),
        )
    });
    stages.iter().for_each(|(stage, _)| cluster.start(stage, 0));
    cluster.ready().await;
    let (id, _, traceparent) = parent(3);
    let answer = Client::new(port).traced(&json!({ "n": 1 }), &traceparent).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let each = ["left", "right"].map(|side| ["send fan-out.", "process ", "send "].map(|name| format!("{name}{side}")));
    let wanted: Vec<String> = each.into_iter().flatten().chain(["create ingest".to_owned()]).collect();
    let trace = jaeger.trace(&id, |trace| wanted.iter().all(|name| trace.has(name))).await;
    for side in ["left", "right"] {
        let process = trace.above(trace.one(&format!("send fan-out.{side}")));
        assert_eq!(process.name, format!("process {side}"));
        let delivery = trace.above(process);
        assert_eq!(
            (delivery.name.as_str(), trace.above(delivery).name.as_str()),
            (format!("send {side}").as_str(), "create ingest")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redelivery_shows_as_a_second_attempt() {
    if skip() {
        return;
    }
    let (kafka, jaeger) = (Kafka::start().await, Jaeger::shared().await);
    let (mut cluster, client, _) = traced(&kafka, "again", &jaeger.endpoint(), "ratio: 0", 2).await;
    assert_eq!(client.json(&json!({ "key": "k" })).await.status, 200);
    let before = [deliveries(&cluster, 0).await, deliveries(&cluster, 1).await];
    kafka.freeze();
    let (id, _, traceparent) = parent(4);
    let posted = tokio::spawn({
        let (client, traceparent) = (client.clone(), traceparent.clone());
        async move { client.traced(&json!({ "key": "k2" }), &traceparent).await }
    });
    let holder = eventually("a converter that holds the event", Duration::from_secs(20), || async {
        let now = [deliveries(&cluster, 0).await, deliveries(&cluster, 1).await];
        (0..2).find(|index| now[*index] > before[*index]).ok_or_else(|| "nobody has it".to_owned())
    })
    .await;
    cluster.kill("convert", holder);
    kafka.thaw();
    assert_eq!(posted.await.expect("posted").status, 200);
    let is_told = |trace: &Trace| {
        trace.named("send convert").len() == 2 && trace.has("create ingest") && trace.has("process convert")
    };
    let trace = jaeger.trace(&id, is_told).await;
    let attempts = trace.named("send convert");
    let told: Vec<_> =
        attempts.iter().map(|span| (span.tag("jaiminho.attempt"), span.tag("jaiminho.outcome"))).collect();
    assert_eq!(told, [("1", "released"), ("2", "accepted")], "{trace}");
    assert_eq!((attempts[0].tag("error.type"), attempts[0].tag("error")), ("link_lost", "true"), "{trace}");
    assert_ne!(attempts[0].tag("jaiminho.peer"), attempts[1].tag("jaiminho.peer"));
    let again = trace.below(attempts[1]).into_iter().find(|span| span.name == "process convert").expect("processed");
    assert_eq!(again.tag("jaiminho.attempt"), "2");
}

async fn deliveries(cluster: &Cluster, index: usize) -> u64 {
    cluster.instance("convert", index).metric("jaiminho_deliveries_total", "").await as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_events_trace_says_why_and_goes_on_to_its_dead_letter() {
    if skip() {
        return;
    }
    let (kafka, jaeger) = (Kafka::shared().await, Jaeger::shared().await);
    let (_cluster, client, _) = traced(&kafka, "traced-dead", &jaeger.endpoint(), "ratio: 0", 1).await;
    let (id, _, traceparent) = parent(5);
    let answer = client.traced(&json!({ "key": "k", "bad": true }), &traceparent).await;
    assert_eq!(answer.status, 422, "{}", answer.text);
    let is_told = |trace: &Trace| {
        ["send traced-dead.dead", "process dead", "process convert", "create ingest"].iter().all(|name| trace.has(name))
    };
    let trace = jaeger.trace(&id, is_told).await;
    let rejected = trace.one("process convert");
    assert_eq!((rejected.tag("error"), rejected.tag("jaiminho.outcome")), ("true", "rejected"), "{trace}");
    assert!(!rejected.tag("error.type").is_empty() && !rejected.tag("otel.status_description").is_empty(), "{trace}");
    let letter = trace.one("send traced-dead.dead");
    assert_eq!(trace.above(letter).name, "process dead");
    assert_eq!(trace.above(trace.above(trace.above(letter))).name, "process convert", "{trace}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_not_sampled_leaves_one_span_where_it_was_rejected_or_found_slow() {
    if skip() {
        return;
    }
    let (kafka, jaeger) = (Kafka::shared().await, Jaeger::shared().await);
    let (_cluster, client, _) = traced(&kafka, "noticed", &jaeger.endpoint(), "ratio: 0, slow: 1ms", 1).await;
    assert_eq!(client.json(&json!({ "key": "k", "bad": true })).await.status, 422);
    let of_here =
        |trace: &Trace| trace.spans[0].resource.get("jaiminho.pipeline").is_some_and(|name| name == "noticed");
    let rejected = eventually("a span of this pipeline", Duration::from_secs(60), || async {
        let all = jaeger.having("jaiminho-convert", "rejected", 1).await;
        all.into_iter().find(of_here).ok_or_else(|| "none".to_owned())
    })
    .await;
    assert_eq!((rejected.spans.len(), rejected.one("rejected").tag("error")), (1, "true"), "{rejected}");
    // Published in less than a millisecond is none.
    let slow = eventually("a slow one", Duration::from_secs(60), || async {
        assert_eq!(client.json(&json!({ "key": "k" })).await.status, 200);
        let slow = jaeger.having("jaiminho-publish", "slow", 0).await;
        slow.into_iter().find(of_here).ok_or_else(|| "none".to_owned())
    })
    .await;
    assert_eq!(slow.spans.len(), 1, "{slow}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_never_answers_or_is_not_there_costs_spans_and_nothing_else() {
    if skip_kafka() {
        return;
    }
    let kafka = Kafka::shared().await;
    let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let mute_at = format!("http://{}", mute.local_addr().expect("an address"));
    let _mute = tokio::spawn(async move {
        loop {
            let Ok((mut connection, _)) = mute.accept().await else { return };
            tokio::spawn(async move { while connection.read(&mut [0; 4_096]).await.is_ok_and(|bytes| bytes > 0) {} });
        }
    });
    let nobody = format!("http://127.0.0.1:{}", free_port());
    for (topic, endpoint) in [("mute", mute_at), ("nobody", nobody)] {
        let (mut cluster, client, _) = traced(&kafka, topic, &endpoint, "ratio: 1", 1).await;
        let (bodies, each) = (60, 200);
        for body in 0..bodies {
            let events: Vec<Value> = (0..each).map(|n| json!({ "key": format!("{body}-{n}") })).collect();
            assert_eq!(client.json(&Value::Array(events)).await.status, 200);
        }
        let topic = Topic::read(&kafka.bootstrap(), topic).await;
        assert_eq!(topic.records.len(), bodies * each, "nothing is lost");
        eventually("what found no room is counted", Duration::from_secs(30), || async {
            let dropped = cluster.instance("ingest", 0).metric("jaiminho_spans_total", "outcome=\"dropped\"").await;
            if dropped > 0.0 { Ok(()) } else { Err(endpoint.clone()) }
        })
        .await;
        cluster.measure();
        for (stage, bytes) in cluster.memory_max() {
            assert!(*bytes < 256 << 20, "{endpoint}: {stage} took {bytes} bytes");
        }
        let began = std::time::Instant::now();
        cluster.drain("ingest", 0).await;
        assert!(began.elapsed() < Duration::from_secs(10), "{endpoint}: its drain took {:?}", began.elapsed());
    }
}
