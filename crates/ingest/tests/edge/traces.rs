//! Requests and messages in the traces of their events.

use jaiminho_core::{Reason, Trace};
use jaiminho_runtime::{NewEvent, Refusal};
use jaiminho_telemetry::traces::{KeyValue, Recorded, Sampler, Span, TraceContext, Tracer};
use serde_json::{Value, json};

use crate::support::{PATIENCE, Running, accepted, rejected, start_with};
use crate::websocket::{ack, connect, send};

const CLIENTS: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const OTHERS: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn traced(ratio: f64) -> (Running, Recorded) {
    let (tracer, recorded) = Tracer::new(100);
    let tracer = tracer.with_sampler(Sampler { ratio, follows_parent: true });
    (start_with(json!({}), None, tracer), recorded)
}

fn event(id: &str, traceparent: Option<&str>) -> Value {
    let mut event = json!({ "specversion": "1.0", "id": id, "source": "/d", "type": "t", "data": 1 });
    if let Some(traceparent) = traceparent {
        event["traceparent"] = json!(traceparent);
    }
    event
}

/// The contexts that the events are offered with.
async fn post(running: &mut Running, events: &[Value], traceparent: Option<&str>) -> Vec<Option<TraceContext>> {
    let (content_type, body) = match events {
        [one] => ("application/cloudevents+json", one.to_string()),
        several => ("application/cloudevents-batch+json", json!(several).to_string()),
    };
    let mut request = running.post(content_type, body);
    if let Some(traceparent) = traceparent {
        request = request.header("traceparent", traceparent);
    }
    let sent = tokio::spawn(request.send());
    let offer = tokio::time::timeout(PATIENCE, running.desk.next()).await.unwrap().unwrap();
    let contexts = contexts(&offer.offer.events);
    offer.answer(vec![accepted(); contexts.len()]);
    assert_eq!(sent.await.unwrap().unwrap().status(), 200);
    contexts
}

fn context(trace: &Trace) -> TraceContext {
    TraceContext::from_bytes(&trace.context)
}

fn contexts(events: &[NewEvent]) -> Vec<Option<TraceContext>> {
    events.iter().map(|event| event.trace.as_deref().map(context)).collect()
}

fn named<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

fn value<'a>(span: &'a Span, name: &str) -> Option<std::borrow::Cow<'a, str>> {
    span.attributes.iter().find(|attribute| attribute.key.as_str() == name).map(|attribute| attribute.value.as_str())
}

/// A span of this name, as soon as it is there.
async fn once_recorded(recorded: &mut Recorded, name: &str) -> Span {
    let next = async {
        loop {
            let (_, span) = recorded.next().await.unwrap();
            if span.name == name {
                return span;
            }
        }
    };
    tokio::time::timeout(PATIENCE, next).await.unwrap_or_else(|_| panic!("no span {name}"))
}

#[tokio::test]
async fn one_event_is_below_its_requests_span_which_goes_on_with_the_clients_trace() {
    let (mut running, mut recorded) = traced(0.0);
    let contexts = post(&mut running, &[event("e-1", None)], Some(CLIENTS)).await;
    let spans = recorded.take();
    let [receive, request] = spans.as_slice() else { panic!("{spans:?}") };
    let client = TraceContext::parse(CLIENTS).unwrap();
    assert_eq!((request.name.as_ref(), request.context.trace), ("POST /events", client.trace));
    assert_eq!((request.parent, contexts), (Some(client.span), vec![Some(request.context)]));
    assert_eq!((receive.name.as_ref(), receive.parent), ("receive", Some(request.context.span)));
    assert!(receive.start == request.start && receive.end <= request.end);
    let told = ["http.request.method", "url.path", "http.response.status_code", "jaiminho.events", "error.type"];
    let told = told.map(|name| value(request, name).map(std::borrow::Cow::into_owned));
    assert_eq!(told.each_ref().map(Option::as_deref), [Some("POST"), Some("/events"), Some("200"), Some("1"), None]);
    for (name, text) in [
        ("messaging.message.id", "e-1"),
        ("cloudevents.event_id", "e-1"),
        ("cloudevents.event_source", "/d"),
        ("cloudevents.event_type", "t"),
    ] {
        assert_eq!(value(receive, name).as_deref(), Some(text));
    }
}

#[tokio::test]
async fn all_events_of_a_client_with_a_trace_are_below_the_request() {
    let (mut running, mut recorded) = traced(0.0);
    let contexts = post(&mut running, &[event("a", None), event("b", None)], Some(CLIENTS)).await;
    let spans = recorded.take();
    let [request] = named(&spans, "POST /events")[..] else { panic!("{spans:?}") };
    assert_eq!(contexts, [Some(request.context); 2]);
    assert!(named(&spans, "receive").iter().all(|span| span.parent == Some(request.context.span)));
}

#[tokio::test]
async fn several_events_have_a_trace_each_that_links_to_the_request() {
    let (mut running, mut recorded) = traced(1.0);
    let contexts = post(&mut running, &[event("a", None), event("b", None)], None).await;
    let spans = recorded.take();
    let [request] = named(&spans, "POST /events")[..] else { panic!("{spans:?}") };
    let receives = named(&spans, "receive");
    assert_eq!(contexts, receives.iter().map(|span| Some(span.context)).collect::<Vec<_>>());
    assert_ne!(receives[0].context.trace, receives[1].context.trace);
    for span in receives {
        assert!(
            span.parent.is_none() && span.links == [request.context] && span.context.trace != request.context.trace
        );
    }
}

#[tokio::test]
async fn an_event_with_a_trace_of_its_own_goes_on_with_that_and_links_to_the_request() {
    let (mut running, mut recorded) = traced(0.0);
    for clients in [None, Some(CLIENTS)] {
        let contexts = post(&mut running, &[event("a", Some(OTHERS))], clients).await;
        let spans = recorded.take();
        let ([request], [receive]) = (&named(&spans, "POST /events")[..], &named(&spans, "receive")[..]) else {
            panic!("{spans:?}")
        };
        let other = TraceContext::parse(OTHERS).unwrap();
        assert_eq!((receive.context.trace, receive.parent), (other.trace, Some(other.span)));
        assert_eq!((contexts, &receive.links[..]), (vec![Some(receive.context)], &[request.context][..]));
    }
}

#[tokio::test]
async fn what_is_not_sampled_leaves_no_span_and_a_malformed_traceparent_is_none() {
    let (mut running, mut recorded) = traced(0.0);
    let unsampled = CLIENTS.replace("-01", "-00");
    for header in [None, Some(unsampled.as_str()), Some("00-4bf9-00f0-01")] {
        for own in [None, Some(unsampled.as_str()), Some("nonsense")] {
            let contexts = post(&mut running, &[event("a", own), event("b", own)], header).await;
            assert_eq!(contexts, [None, None], "{header:?} {own:?}");
        }
    }
    assert_eq!(recorded.take(), []);
    let (mut running, mut recorded) = traced(1.0);
    post(&mut running, &[event("a", None)], Some("00-4bf9-00f0-01")).await;
    let spans = recorded.take();
    assert!(named(&spans, "POST /events")[0].parent.is_none());
}

#[tokio::test]
async fn a_request_that_is_refused_or_left_tells_that_it_was() {
    let (mut running, mut recorded) = traced(1.0);
    let post = |running: &Running| running.post("application/json", "1").send();
    let sent = tokio::spawn(post(&running));
    running.desk.next().await.unwrap().refuse(Refusal::Draining);
    assert_eq!(sent.await.unwrap().unwrap().status(), 503);
    let spans = recorded.take();
    let request = named(&spans, "POST /events")[0];
    assert_eq!((value(request, "error.type").as_deref(), request.error.is_some()), (Some("503"), true));
    let sent = tokio::spawn(post(&running));
    let _offered = running.desk.next().await.unwrap();
    sent.abort();
    let request = once_recorded(&mut recorded, "POST /events").await;
    assert_eq!(value(&request, "error.type").as_deref(), Some("cancelled"));
}

#[tokio::test]
async fn a_message_of_a_socket_has_a_span_from_its_text_to_its_answer() {
    let (mut running, mut recorded) = traced(1.0);
    let mut client = connect(&running, Some("jaiminho.v1")).await;
    for answer in [accepted(), rejected(Reason::Invalid, "no", true)] {
        send(&mut client, &json!({ "event": event("m", None) }).to_string()).await;
        let offer = tokio::time::timeout(PATIENCE, running.desk.next()).await.unwrap().unwrap();
        let contexts = contexts(&offer.offer.events);
        let is_rejected = answer != accepted();
        offer.answer(vec![answer]);
        ack(&mut client).await;
        let spans = recorded.take();
        let ([message], [receive]) = (&named(&spans, "message /ws")[..], &named(&spans, "receive")[..]) else {
            panic!("{spans:?}")
        };
        assert_eq!((contexts, receive.parent), (vec![Some(message.context)], Some(message.context.span)));
        assert!(message.attributes.contains(&KeyValue::new("messaging.message.id", "m")), "{message:?}");
        assert_eq!((value(message, "error.type").is_some(), message.error.is_some()), (is_rejected, is_rejected));
    }
}

#[tokio::test]
async fn a_message_whose_socket_ends_before_its_outcome_says_so_an_error_where_that_was_awaited() {
    for (protocol, is_error) in [(Some("jaiminho.v1"), true), (None, false)] {
        let (mut running, mut recorded) = traced(1.0);
        let mut client = connect(&running, protocol).await;
        let text = if is_error { json!({ "event": event("m", None) }) } else { event("m", None) };
        send(&mut client, &text.to_string()).await;
        let (_, _answers) = tokio::time::timeout(PATIENCE, running.desk.next()).await.unwrap().unwrap().take();
        drop(client);
        let message = once_recorded(&mut recorded, "message /ws").await;
        let told = ["jaiminho.outcome", "error.type"].map(|name| value(&message, name).unwrap().into_owned());
        assert_eq!((told, message.error.is_some()), (["unknown", "cancelled"].map(str::to_owned), is_error));
    }
}

#[tokio::test]
async fn a_message_that_is_refused_or_never_reaches_the_stage_has_a_span_too() {
    let (mut running, mut recorded) = traced(1.0);
    let mut client = connect(&running, Some("jaiminho.v1")).await;
    send(&mut client, r#"{"event":{"specversion":"1.0"}}"#).await;
    ack(&mut client).await;
    let refused = once_recorded(&mut recorded, "message /ws").await;
    assert_eq!(value(&refused, "jaiminho.outcome").as_deref(), Some("rejected"));
    assert_eq!((value(&refused, "error.type").as_deref(), refused.error.is_some()), (Some("malformed"), true));
    send(&mut client, &json!({ "event": event("m", None) }).to_string()).await;
    tokio::time::timeout(PATIENCE, running.desk.next()).await.unwrap().unwrap().refuse(Refusal::Draining);
    let left = once_recorded(&mut recorded, "message /ws").await;
    assert_eq!(value(&left, "error.type").as_deref(), Some("cancelled"));
}

#[tokio::test]
async fn an_event_waits_for_the_stage_since_its_receipt_however_often_it_is_refused() {
    let (mut running, mut recorded) = traced(1.0);
    let mut client = connect(&running, Some("jaiminho.v1")).await;
    send(&mut client, &json!({ "event": event("m", None) }).to_string()).await;
    for _ in 0..2 {
        let (cause, retry_after) = ("full".to_owned(), std::time::Duration::from_secs(1));
        running.desk.next().await.unwrap().refuse(Refusal::Overloaded { cause, retry_after });
    }
    let offer = running.desk.next().await.unwrap();
    let trace = *offer.offer.events[0].trace.clone().unwrap();
    offer.answer(vec![accepted()]);
    ack(&mut client).await;
    let spans = recorded.take();
    let [receive, message] = ["receive", "message /ws"].map(|name| named(&spans, name)[0]);
    assert_eq!((context(&trace), trace.since), (message.context, receive.end));
}
