//! Metrics: right to the event, and told to Prometheus, StatsD and OTLP alike.

use std::collections::HashMap;
use std::net::UdpSocket;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jaiminho_tests::{Client, Cluster, Directory, Jaiminho, Kafka, eventually, free_port, skip_kafka};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use serde_json::json;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

const PATIENCE: Duration = Duration::from_secs(60);

/// A process's metric must come to this value, and stay there.
async fn comes_to(process: &Jaiminho, name: &str, labels: &str, right: f64) {
    let what = format!("{name}{{{labels}}} of {}", process.name);
    eventually(&what, PATIENCE, || async {
        let value = process.metric(name, labels).await;
        if (value - right).abs() < 1e-9 { Ok(()) } else { Err(format!("{value}, not {right}")) }
    })
    .await;
}

/// Twelve events: eight of them become two each, one becomes none, one is a mistake, one is too large for its topic, one
/// is converted to one.
const PROGRAM: &str = r#"
    n = int!(.data.n)
    if n == 1 { abort "one is too few" }
    if n == 2 { . = null }
    if n >= 4 { . = [., .] }
"#;

/// Two HTTP bodies of six events.
async fn post(port: u16) -> [u16; 2] {
    let client = Client::new(port);
    let mut statuses = [0; 2];
    for (body, status) in statuses.iter_mut().enumerate() {
        let event = |n: usize| {
            let text = if n == 3 { "x".repeat(3_000) } else { String::new() };
            json!({ "specversion": "1.0", "type": "t", "source": "/s", "id": n.to_string(), "data": { "n": n, "text": text } })
        };
        let events: Vec<_> = (6 * body + 1..=6 * body + 6).map(event).collect();
        let answer = client.post("application/cloudevents-batch+json", json!(events).to_string()).await;
        *status = answer.expect("an answer").status;
    }
    statuses
}

#[expect(clippy::too_many_lines, reason = "a table, one line a counter")]
#[tokio::test(flavor = "multi_thread")]
async fn counters_of_each_stage_are_right_to_the_event() {
    if skip_kafka() {
        return;
    }
    let (kafka, port) = (Kafka::shared().await, free_port());
    let topic = format!("metrics-{port}");
    let servers = kafka.bootstrap();
    let stages = [("in", 1), ("mid", 1), ("out", 1), ("dead", 1)];
    let mut cluster = Cluster::new("metrics", &stages, |at| {
        let [input, mid, out] = [at("in"), at("mid"), at("out")];
        format!(
            r#"version: 1
pipeline: metrics
stages:
  in:
    at: {input}
    source: {{ http: {{ listen: "127.0.0.1:{port}", path: /events }}, drain_delay: 0s }}
  mid:
    at: {mid}
    subscribe_to: [in]
    transform: {{ vrl: {program} }}
  out:
    at: {out}
    subscribe_to: [mid]
    sink: {{ kafka: {{ bootstrap_servers: "{servers}", topic: "{topic}", properties: {{ message.max.bytes: 2000 }} }} }}
  dead:
    subscribe_to: [mid.dead_letter, out.dead_letter]
    sink: {{ kafka: {{ bootstrap_servers: "{servers}", topic: "{topic}-dead" }} }}
"#,
            program = json!(PROGRAM)
        )
    });
    stages.iter().for_each(|(stage, _)| cluster.start(stage, 0));
    cluster.ready().await;
    assert_eq!(post(port).await, [207, 200]);
    let of = |stage: &str| cluster.instance(stage, 0);
    for (stage, name, labels, right) in [
        ("in", "jaiminho_ingest_requests_total", "status=\"207\"", 1.0),
        ("in", "jaiminho_ingest_requests_total", "status=\"200\"", 1.0),
        ("in", "jaiminho_ingest_events_total", "http", 12.0),
        ("in", "jaiminho_ingest_body_events_sum", "", 12.0),
        ("in", "jaiminho_ingest_body_events_count", "", 2.0),
        ("in", "jaiminho_admission_total", "decision=\"taken\"", 2.0),
        ("in", "jaiminho_admission_total", "decision=\"log_full\"", 0.0),
        ("in", "jaiminho_events_in_total", "", 12.0),
        ("in", "jaiminho_settled_total", "accepted", 10.0),
        ("in", "jaiminho_settled_total", "rejected", 2.0),
        ("in", "jaiminho_rejected_total", "", 0.0),
        ("in", "jaiminho_deliveries_total", "group=\"mid\"", 12.0),
        ("in", "jaiminho_redeliveries_total", "", 0.0),
        ("in", "jaiminho_link_sent_events_total", "group=\"mid\"", 12.0),
        ("in", "jaiminho_settle_seconds_count", "", 12.0),
        ("in", "jaiminho_log_events", "", 0.0),
        ("mid", "jaiminho_events_in_total", "", 12.0),
        ("mid", "jaiminho_link_received_events_total", "output=\"in\"", 12.0),
        ("mid", "jaiminho_rejected_total", "reason=\"invalid\"", 1.0),
        ("mid", "jaiminho_settled_total", "accepted", 10.0),
        ("mid", "jaiminho_settled_total", "rejected", 2.0),
        // Of 4 to 12 two each, and 3 itself.
        ("mid", "jaiminho_deliveries_total", "group=\"out\"", 19.0),
        ("mid", "jaiminho_deliveries_total", "group=\"dead\"", 1.0),
        ("mid", "jaiminho_inputs_in_work", "", 0.0),
        ("out", "jaiminho_events_in_total", "", 19.0),
        ("out", "jaiminho_settled_total", "accepted", 18.0),
        ("out", "jaiminho_settled_total", "rejected", 1.0),
        ("out", "jaiminho_rejected_total", "reason=\"too_large\"", 1.0),
        ("out", "jaiminho_kafka_settled_total", "accepted", 18.0),
        ("out", "jaiminho_kafka_settled_total", "rejected", 1.0),
        ("out", "jaiminho_batch_events_sum", "", 19.0),
        ("out", "jaiminho_end_to_end_seconds_count", "", 18.0),
        ("dead", "jaiminho_events_in_total", "", 2.0),
        ("dead", "jaiminho_kafka_settled_total", "accepted", 2.0),
        ("dead", "jaiminho_link_ups_total", "side=\"producer\"", 2.0),
    ] {
        comes_to(of(stage), name, labels, right).await;
    }
    comes_to(of("out"), "jaiminho_kafka_brokers_up", "", 1.0).await;
    redelivered(&mut cluster, port).await;
}

/// What a killed instance had not settled is told as redelivered, once for each event, and its link as lost.
async fn redelivered(cluster: &mut Cluster, port: u16) {
    cluster.kill("out", 0);
    let client = Client::new(port);
    let pending = tokio::spawn(async move { client.json(&json!({ "n": 5 })).await.status });
    comes_to(cluster.instance("mid", 0), "jaiminho_log_events", "output=\"mid\"", 2.0).await;
    cluster.kill("mid", 0);
    comes_to(cluster.instance("in", 0), "jaiminho_link_downs_total", "side=\"consumer\"", 1.0).await;
    eventually("the link's series are gone", PATIENCE, || async {
        let text = cluster.instance("in", 0).metrics().await;
        if text.contains("peer=") { Err(text) } else { Ok(()) }
    })
    .await;
    cluster.start("mid", 0);
    cluster.start("out", 0);
    cluster.ready().await;
    assert_eq!(pending.await.expect("an answer"), 200);
    for (stage, name, labels, right) in [
        ("in", "jaiminho_deliveries_total", "", 14.0),
        ("in", "jaiminho_redeliveries_total", "", 1.0),
        ("in", "jaiminho_events_in_total", "", 13.0),
        ("in", "jaiminho_settled_total", "accepted", 11.0),
        ("in", "jaiminho_link_ups_total", "side=\"consumer\"", 2.0),
        ("mid", "jaiminho_deliveries_total", "group=\"out\"", 2.0),
        ("out", "jaiminho_kafka_settled_total", "accepted", 2.0),
    ] {
        comes_to(cluster.instance(stage, 0), name, labels, right).await;
    }
}

/// What a collector got: the newest value of each series.
#[derive(Clone, Default)]
struct Collected(Arc<Mutex<HashMap<String, f64>>>);

fn text(attributes: &[KeyValue]) -> String {
    let value = |of: &KeyValue| match of.value.as_ref().and_then(|value| value.value.clone()) {
        Some(Any::StringValue(text)) => text,
        other => panic!("{other:?}"),
    };
    attributes.iter().map(|of| format!("{}={}", of.key, value(of))).collect::<Vec<_>>().join(",")
}

#[tonic::async_trait]
impl MetricsService for Collected {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let mut all = self.0.lock().expect("collected");
        all.insert(format!("token {:?}", request.metadata().get("x-token")), 1.0);
        for of in request.into_inner().resource_metrics {
            all.insert(format!("resource {}", text(&of.resource.unwrap_or_default().attributes)), 1.0);
            for metric in of.scope_metrics.into_iter().flat_map(|of| of.metrics) {
                let points = match metric.data {
                    Some(Data::Sum(sum)) => sum.data_points,
                    Some(Data::Gauge(gauge)) => gauge.data_points,
                    _ => Vec::new(),
                };
                for point in points {
                    let value = match point.value {
                        Some(Number::AsInt(value)) => value as f64,
                        Some(Number::AsDouble(value)) => value,
                        None => continue,
                    };
                    all.insert(format!("{}{{{}}}", metric.name, text(&point.attributes)), value);
                }
            }
        }
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

/// Sums of counters and values of gauges that came by StatsD.
fn received(socket: &UdpSocket, all: &Mutex<HashMap<String, f64>>) {
    let mut buffer = [0; 65_536];
    while let Ok(bytes) = socket.recv(&mut buffer) {
        let mut all = all.lock().expect("told");
        for line in String::from_utf8_lossy(&buffer[..bytes]).lines() {
            let (name, rest) = line.split_once(':').expect("NAME:VALUE|KIND");
            let (value, kind) = rest.split_once('|').expect("VALUE|KIND");
            let value: f64 = value.parse().expect("a number");
            match kind {
                "c" => *all.entry(name.to_owned()).or_default() += value,
                "g" => drop(all.insert(name.to_owned(), value)),
                other => panic!("{other}: {line}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statsd_and_a_collector_are_told_the_same_as_prometheus() {
    let (directory, port) = (Directory::new("metrics-push"), free_port());
    let statsd = UdpSocket::bind("127.0.0.1:0").expect("a UDP port");
    statsd.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket");
    let statsd_at = statsd.local_addr().expect("its address");
    // Read from the start: what has no room in the socket is lost.
    let by_statsd = Arc::new(Mutex::new(HashMap::new()));
    let all = Arc::downgrade(&by_statsd);
    std::thread::spawn(move || {
        while let Some(all) = all.upgrade() {
            received(&statsd, &all);
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let otlp_at = listener.local_addr().expect("its address");
    let collected = Collected::default();
    let service = MetricsServiceServer::new(collected.clone());
    let server = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let file = directory.write(
        "pipeline.yaml",
        &format!(
            r#"version: 1
pipeline: pushed
telemetry:
  metrics:
    statsd: {{ address: "{statsd_at}", prefix: post, interval: 200ms }}
    otlp: {{ endpoint: "http://{otlp_at}", interval: 200ms }}
stages:
  in:
    source: {{ http: {{ listen: "127.0.0.1:{port}", path: /events }}, drain_delay: 0s }}
  out:
    subscribe_to: [in]
    sink: {{ blackhole: {{}} }}
"#
        ),
    );
    let up = Jaiminho::up(directory.path(), &file, &[]);
    up.ready().await;
    for status in post(port).await {
        assert_eq!(status, 200);
    }
    comes_to(&up, "jaiminho_settled_total", "stage=\"in\",outcome=\"accepted\"", 12.0).await;
    let by_statsd = |name: &str| by_statsd.lock().expect("told").get(name).copied();
    eventually("StatsD is told", PATIENCE, || async {
        let told = by_statsd("post.settled_total.stage.in.outcome.accepted");
        if told == Some(12.0) { Ok(()) } else { Err(format!("{told:?}")) }
    })
    .await;
    assert_eq!(by_statsd("post.log_capacity_events.stage.in.output.in"), Some(8_000.0));
    let series = "jaiminho_settled_total{stage=in,outcome=accepted}";
    eventually("the collector is told", PATIENCE, || async {
        let told = collected.0.lock().expect("collected").get(series).copied();
        if told == Some(12.0) { Ok(()) } else { Err(format!("{told:?}")) }
    })
    .await;
    let all = collected.0.lock().expect("collected").clone();
    assert_eq!(all.get("jaiminho_links_in{stage=in}"), Some(&1.0), "{all:?}");
    let resource = all.keys().find(|key| key.starts_with("resource ")).expect("a resource");
    assert!(resource.contains("service.name=jaiminho") && resource.contains("jaiminho.pipeline=pushed"), "{resource}");
    up.child.terminate();
    assert!(up.child.exit(PATIENCE).await.success(), "{}", up.child.log_tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn receivers_that_are_away_cost_counts_and_no_event() {
    let (directory, port, closed) = (Directory::new("metrics-away"), free_port(), free_port());
    // It takes connections, and never answers.
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let deaf_at = deaf.local_addr().expect("its address");
    let file = directory.write(
        "pipeline.yaml",
        &format!(
            r#"version: 1
pipeline: away
telemetry:
  metrics:
    statsd: {{ address: "127.0.0.1:{closed}", interval: 100ms }}
    otlp: {{ endpoint: "http://{deaf_at}", interval: 100ms }}
stages:
  in:
    source: {{ http: {{ listen: "127.0.0.1:{port}", path: /events }}, drain_delay: 0s }}
  out:
    subscribe_to: [in]
    sink: {{ blackhole: {{}} }}
"#
        ),
    );
    let up = Jaiminho::up(directory.path(), &file, &[]);
    up.ready().await;
    for status in post(port).await {
        assert_eq!(status, 200);
    }
    for exporter in ["statsd", "otlp"] {
        eventually(exporter, PATIENCE, || async {
            let failed =
                up.metric("jaiminho_metrics_exports_total", &format!("\"{exporter}\",outcome=\"failed\"")).await;
            if failed >= 2.0 { Ok(()) } else { Err(failed.to_string()) }
        })
        .await;
    }
    up.child.terminate();
    assert!(up.child.exit(PATIENCE).await.success(), "{}", up.child.log_tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_that_are_not_wanted_are_not_recorded() {
    let (directory, port) = (Directory::new("metrics-off"), free_port());
    let file = directory.write(
        "pipeline.yaml",
        &format!(
            r#"version: 1
pipeline: off
telemetry: {{ metrics: {{ enabled: false }} }}
stages:
  in:
    source: {{ http: {{ listen: "127.0.0.1:{port}", path: /events }}, drain_delay: 0s }}
  out:
    subscribe_to: [in]
    sink: {{ blackhole: {{}} }}
"#
        ),
    );
    let up = Jaiminho::up(directory.path(), &file, &[]);
    up.ready().await;
    for status in post(port).await {
        assert_eq!(status, 200);
    }
    let text = up.metrics().await;
    assert!(!text.contains("jaiminho_events_in_total") && !text.contains("jaiminho_info"), "{text}");
}
