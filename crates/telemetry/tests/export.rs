//! The exporter against a collector of our own: what arrives, and what a collector that is away, refuses or hangs costs.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jaiminho_telemetry::traces::{Batches, Exporter, KeyValue, Recorded, Span, TraceContext, Tracer};
use jaiminho_telemetry::{Collector, Metrics, OtlpMetrics};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    Takes,
    /// Says so for each batch.
    RefusesOne,
    Refuses,
    Hangs,
}

/// What it got: the `authorization` and, for each span, its resource's `service.name` and its own name.
type Got = Arc<Mutex<Vec<(Option<String>, Vec<(String, String)>)>>>;

struct Receiver(Mood, Got);

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let token = request.metadata().get("authorization").and_then(|text| Some(text.to_str().ok()?.to_owned()));
        let mut spans = Vec::new();
        for group in request.into_inner().resource_spans {
            let attributes = group.resource.unwrap_or_default().attributes;
            let value = attributes[0].value.clone().and_then(|value| value.value);
            let Some(Value::StringValue(service)) = value else { panic!("{attributes:?}") };
            let names = group.scope_spans.into_iter().flat_map(|scope| scope.spans).map(|span| span.name);
            spans.extend(names.map(|name| (service.clone(), name)));
        }
        self.1.lock().unwrap().push((token, spans));
        let mut answer = ExportTraceServiceResponse::default();
        match self.0 {
            Mood::Takes => {}
            Mood::RefusesOne => {
                let (rejected_spans, error_message) = (1, "not that one".to_owned());
                answer.partial_success = Some(ExportTracePartialSuccess { rejected_spans, error_message });
            }
            Mood::Refuses => return Err(Status::permission_denied("no token")),
            Mood::Hangs => std::future::pending().await,
        }
        Ok(Response::new(answer))
    }
}

async fn collector(mood: Mood, at: &str) -> (SocketAddr, Got) {
    let listener = TcpListener::bind(at).await.unwrap();
    let (address, got) = (listener.local_addr().unwrap(), Got::default());
    let service = TraceServiceServer::new(Receiver(mood, got.clone()));
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)));
    (address, got)
}

fn exporter(recorded: Recorded, at: SocketAddr, timeout: Duration) -> Exporter {
    let headers = vec![("Authorization".to_owned(), "Bearer 1".to_owned())];
    let collector = Collector { endpoint: format!("http://{at}"), headers, timeout, certificate: None };
    let resources = ["first", "second"].map(|name| vec![KeyValue::new("service.name", name)]);
    let batches = Batches { spans_max: 10, delay: Duration::from_millis(20) };
    Exporter::new(recorded, resources.into(), collector, batches).unwrap()
}

fn span(name: impl Into<String>) -> Span {
    Span::part(&TraceContext::root(), name.into(), 1, 2)
}

async fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "waited for 20 s");
        sleep(Duration::from_millis(5)).await;
    }
}

fn spans(got: &Got) -> Vec<(String, String)> {
    got.lock().unwrap().iter().flat_map(|(_, spans)| spans.clone()).collect()
}

#[tokio::test]
async fn spans_arrive_in_batches_with_the_headers_and_each_with_its_resource() {
    let (at, got) = collector(Mood::Takes, "127.0.0.1:0").await;
    let (tracer, recorded) = Tracer::new(100);
    let second = tracer.of_resource(1);
    (0..12).for_each(|number| tracer.record(span(number.to_string())));
    second.record(span("other"));
    let end = CancellationToken::new();
    let running = tokio::spawn(exporter(recorded, at, Duration::from_secs(5)).run(end.clone()));
    until(|| spans(&got).len() == 13).await;
    assert_eq!(got.lock().unwrap().iter().map(|(_, spans)| spans.len()).collect::<Vec<_>>(), [10, 3]);
    assert!(got.lock().unwrap().iter().all(|(token, _)| token.as_deref() == Some("Bearer 1")));
    let others = spans(&got).into_iter().filter(|(service, _)| service == "second").collect::<Vec<_>>();
    assert_eq!(others, [("second".to_owned(), "other".to_owned())]);
    end.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn at_the_end_what_is_queued_is_sent_still() {
    let (at, got) = collector(Mood::Takes, "127.0.0.1:0").await;
    let (tracer, recorded) = Tracer::new(100);
    let end = CancellationToken::new();
    let running = tokio::spawn(exporter(recorded, at, Duration::from_secs(5)).run(end.clone()));
    (0..35).for_each(|number| tracer.record(span(number.to_string())));
    end.cancel();
    running.await.unwrap();
    assert_eq!(spans(&got).len(), 35);
}

#[tokio::test]
async fn a_collector_that_comes_late_gets_the_batch_that_was_being_tried() {
    let (tracer, recorded) = Tracer::new(100);
    // Nobody else takes a port of this address meanwhile.
    let free = TcpListener::bind("127.0.0.2:0").await.unwrap().local_addr().unwrap();
    let end = CancellationToken::new();
    let running = tokio::spawn(exporter(recorded, free, Duration::from_secs(20)).run(end.clone()));
    tracer.record(span("early"));
    sleep(Duration::from_millis(150)).await;
    let (_, got) = collector(Mood::Takes, &free.to_string()).await;
    until(|| spans(&got).len() == 1).await;
    end.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn a_collector_that_hangs_costs_a_batch_each_deadline_and_at_the_end_two_seconds() {
    let (at, got) = collector(Mood::Hangs, "127.0.0.1:0").await;
    let (tracer, recorded) = Tracer::new(100);
    (0..200).for_each(|number| tracer.record(span(number.to_string())));
    assert_eq!(tracer.dropped(), 100);
    let end = CancellationToken::new();
    let running = tokio::spawn(exporter(recorded, at, Duration::from_millis(50)).run(end.clone()));
    until(|| got.lock().unwrap().len() >= 3).await;
    end.cancel();
    timeout(Duration::from_secs(8), running).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn what_a_collector_that_hangs_keeps_at_the_end_has_two_seconds_with_what_is_queued() {
    let (at, got) = collector(Mood::Hangs, "127.0.0.1:0").await;
    let metrics = Metrics::default();
    let _recorder = metrics::set_default_local_recorder(&metrics);
    let (tracer, recorded) = Tracer::new(100);
    (0..35).for_each(|number| tracer.record(span(number.to_string())));
    let end = CancellationToken::new();
    let running = tokio::spawn(exporter(recorded, at, Duration::from_secs(20)).run(end.clone()));
    // Nobody accepts from it.
    let deaf = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", deaf.local_addr().unwrap());
    let collector = Collector { endpoint, headers: Vec::new(), timeout: Duration::from_secs(20), certificate: None };
    let telling = OtlpMetrics::new(&collector, &[], Duration::from_millis(1)).unwrap();
    let telling = tokio::spawn(telling.run(metrics.clone(), end.clone()));
    until(|| got.lock().unwrap().len() == 1).await;
    let began = Instant::now();
    end.cancel();
    running.await.unwrap();
    telling.await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    let text = metrics.render();
    assert!(text.contains("jaiminho_spans_total{outcome=\"failed\"} 35\n"), "{text}");
}

#[tokio::test]
async fn what_is_refused_is_not_tried_again() {
    for mood in [Mood::Refuses, Mood::RefusesOne] {
        let (at, got) = collector(mood, "127.0.0.1:0").await;
        let (tracer, recorded) = Tracer::new(100);
        let end = CancellationToken::new();
        let running = tokio::spawn(exporter(recorded, at, Duration::from_secs(5)).run(end.clone()));
        tracer.record(span("once"));
        until(|| got.lock().unwrap().len() == 1).await;
        tracer.record(span("twice"));
        until(|| got.lock().unwrap().len() == 2).await;
        end.cancel();
        running.await.unwrap();
        assert_eq!(
            spans(&got).iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>(),
            ["once", "twice"],
            "{mood:?}"
        );
    }
}
