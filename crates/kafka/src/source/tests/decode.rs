//! Records become events.

use jaiminho_telemetry::traces::{Sampler, TraceContext};
use rdkafka::Timestamp;
use rdkafka::message::{Header, OwnedHeaders, OwnedMessage};

use super::*;
use crate::source::decode::Decoder;

fn decoder(key: Option<&str>) -> Decoder {
    Decoder {
        ty: "p.s".into(),
        source: "/p/s".into(),
        key: key.map(|key| Template::parse(key).unwrap()),
        event_bytes_max: 1_000,
        tracer: Tracer::default(),
    }
}

struct Record<'a> {
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: &'a [(&'a str, &'a [u8])],
}

const NONE: Record<'static> = Record { key: None, value: None, headers: &[] };

fn message(record: &Record<'_>) -> OwnedMessage {
    let headers = record
        .headers
        .iter()
        .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(*value) }));
    let (value, key) = (record.value.map(<[u8]>::to_vec), record.key.map(<[u8]>::to_vec));
    OwnedMessage::new(value, key, "t".into(), Timestamp::CreateTime(1_500), 3, 77, Some(headers))
}

fn decode(key: Option<&str>, record: &Record<'_>) -> Result<CloudEvent, Box<(Reason, String, CloudEvent)>> {
    let item = decoder(key).decode(&message(record));
    let event = CloudEvent::decode(&item.event.payload).unwrap();
    event.validate().unwrap();
    match item.rejection {
        Some(rejection) => Err(Box::new((rejection.reason, rejection.text, event))),
        None => Ok(event),
    }
}

#[test]
fn plain_json_gets_type_and_source_of_the_stage_and_an_id_that_is_the_same_each_time() {
    let event = decode(None, &Record { value: Some(b" {\"a\": 1}\n"), key: Some(b"k"), ..NONE }).unwrap();
    let json = event.to_json();
    assert_eq!((&json["id"], &json["source"], &json["type"]), (&"t/3/77".into(), &"/p/s".into(), &"p.s".into()));
    assert_eq!((&json["data"]["a"], &json["datacontenttype"]), (&1.into(), &"application/json".into()));
    assert_eq!((&json["partitionkey"], &json["time"]), (&"k".into(), &"1970-01-01T00:00:01.5Z".into()));
}

#[test]
fn what_is_neither_is_bytes_and_a_tombstone_has_none() {
    let event = decode(None, &Record { value: Some(b"\xffgarbage"), ..NONE }).unwrap();
    assert_eq!(event.data, jaiminho_event::Data::Binary(b"\xffgarbage"[..].to_vec().into()));
    assert_eq!(event.attribute("datacontenttype").unwrap(), "application/octet-stream");
    assert_eq!(decode(None, &NONE).unwrap().data, jaiminho_event::Data::None);
    let headers: &[(&str, &[u8])] = &[("Content-Type", b"text/plain; charset=utf-8")];
    let event = decode(None, &Record { value: Some(b"hello"), headers, ..NONE }).unwrap();
    assert_eq!(event.data, jaiminho_event::Data::Text("hello".into()));
}

#[test]
fn a_cloud_event_in_binary_mode_keeps_its_id_and_source() {
    let headers: &[(&str, &[u8])] = &[
        ("ce_specversion", b"1.0"),
        ("ce_id", b"7"),
        ("ce_source", b"/other"),
        ("ce_type", b"reading"),
        ("ce_time", b"2026-01-02T03:04:05Z"),
        ("content-type", b"application/json"),
        ("unrelated", b"\xff"),
    ];
    let event = decode(None, &Record { value: Some(b"{\"n\":1}"), key: Some(b"k"), headers }).unwrap();
    let json = event.to_json();
    assert_eq!((&json["id"], &json["source"], &json["type"]), (&"7".into(), &"/other".into(), &"reading".into()));
    assert_eq!((&json["data"]["n"], &json["partitionkey"]), (&1.into(), &"k".into()));
}

#[test]
fn a_cloud_event_in_structured_mode_is_read_whatever_the_case_of_its_content_type() {
    let text = br#"{"specversion":"1.0","id":"7","source":"/o","type":"t","partitionkey":"own","data":{"n":1}}"#;
    let headers: &[(&str, &[u8])] = &[("content-type", b"Application/CloudEvents+JSON; charset=UTF-8")];
    let event = decode(None, &Record { value: Some(text), key: Some(b"k"), headers }).unwrap();
    assert_eq!((event.id.as_str(), event.attribute("partitionkey").unwrap().as_ref()), ("7", "own"));
}

#[test]
fn what_says_that_it_is_something_and_is_not_is_rejected_with_its_bytes_and_its_place() {
    let structured: &[(&str, &[u8])] = &[("content-type", b"application/cloudevents+json")];
    let batch: &[(&str, &[u8])] = &[("content-type", b"application/cloudevents-batch+json")];
    let json: &[(&str, &[u8])] = &[("content-type", b"application/json")];
    let no_id: &[(&str, &[u8])] = &[("ce_specversion", b"1.0"), ("ce_source", b"/o"), ("ce_type", b"t")];
    let not_text: &[(&str, &[u8])] = &[("ce_specversion", b"1.0"), ("ce_id", b"\xff")];
    for headers in [structured, batch, json, no_id, not_text] {
        let record = Record { value: Some(b"{oops"), key: Some(b"k"), headers };
        let (reason, text, event) = *decode(None, &record).unwrap_err();
        assert_eq!(reason, Reason::Malformed);
        assert!(text.starts_with("t/3/77: "), "{text}");
        assert_eq!((event.id.as_str(), &event.data), ("t/3/77", &jaiminho_event::Data::Binary(b"{oops"[..].into())));
        assert_eq!(event.attribute("partitionkey").unwrap(), "k");
    }
}

#[test]
fn an_event_above_the_limit_is_rejected_and_cut() {
    let value = format!("\"{}\"", "x".repeat(2_000));
    let (reason, _, event) = *decode(None, &Record { value: Some(value.as_bytes()), ..NONE }).unwrap_err();
    assert_eq!(reason, Reason::TooLarge);
    assert_eq!(event.attribute("truncated").unwrap(), "true");
    assert!(event.encode().len() < 1_200);
}

#[test]
fn the_key_is_the_templates_else_the_events_else_the_records_else_the_subject() {
    let template = Some("{{data.device}}");
    let key = |event: CloudEvent| event.attribute("partitionkey").map(std::borrow::Cow::into_owned);
    let with = Record { value: Some(b"{\"device\":\"d\"}"), key: Some(b"k"), ..NONE };
    assert_eq!(key(decode(template, &with).unwrap()).as_deref(), Some("d"));
    let without = Record { value: Some(b"{}"), key: Some(b"k"), ..NONE };
    assert_eq!(key(decode(template, &without).unwrap()).as_deref(), Some("k"));
    let number = Record { value: Some(b"{}"), key: Some(b"\x00\x00\x00\xff"), ..NONE };
    assert_eq!(key(decode(None, &number).unwrap()).as_deref(), Some("000000ff"));
    let headers: &[(&str, &[u8])] =
        &[("ce_specversion", b"1.0"), ("ce_id", b"7"), ("ce_source", b"/o"), ("ce_type", b"t"), ("ce_subject", b"sub")];
    assert_eq!(key(decode(None, &Record { headers, ..NONE }).unwrap()).as_deref(), Some("sub"));
    assert_eq!(key(decode(None, &Record { value: Some(b"{}"), ..NONE }).unwrap()), None);
}

#[test]
fn a_record_that_cant_be_read_is_rejected_in_its_senders_trace() {
    let senders = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let unsampled = senders.replace("-01", "-00");
    for (traceparent, is_traced) in [(senders, true), (unsampled.as_str(), false), ("nonsense", false)] {
        let (tracer, mut recorded) = Tracer::new(10);
        let tracer = tracer.with_sampler(Sampler { ratio: 0.0, follows_parent: true });
        let headers = [("content-type", &b"application/json"[..]), ("traceparent", traceparent.as_bytes())];
        let record = Record { value: Some(b"{"), headers: &headers, ..NONE };
        let item = Decoder { tracer, ..decoder(None) }.decode(&message(&record));
        assert!(item.rejection.is_some());
        let spans = recorded.take();
        let context = item.event.trace.as_deref().map(|trace| (TraceContext::from_bytes(&trace.context), trace.since));
        assert_eq!(context, spans.first().map(|span| (span.context, span.end)), "{traceparent}");
        let sender = TraceContext::parse(senders).unwrap();
        let told = spans.iter().map(|span| (&*span.name, span.context.trace, span.parent)).collect::<Vec<_>>();
        let right = [("receive t", sender.trace, Some(sender.span))];
        assert_eq!(told, if is_traced { &right[..] } else { &[] }, "{traceparent}");
    }
}
