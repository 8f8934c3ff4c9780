//! Small sinks and sources, each alone.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use jaiminho_core::{Event, Outcome, Reason};
use jaiminho_event::units::ByteSize;
use jaiminho_event::{CloudEvent, Data, Template};
use jaiminho_runtime::{Answer, Receipt, Refusal, Settler, SourceHandle};
use jaiminho_telemetry::traces::Tracer;

use super::*;

fn event(payload: impl Into<jaiminho_core::Payload>) -> Event {
    Event::new(payload)
}

fn cloud(id: &str) -> CloudEvent {
    let mut cloud = CloudEvent::new(id, "/test", "t");
    cloud.data = Data::Text("{\"a\":1}".to_owned());
    cloud
}

fn generator() -> GenerateConfig {
    GenerateConfig { rate: None, count: Some(1_200), size: ByteSize(100), keys: 3, ty: "t".to_owned() }
}

#[tokio::test]
async fn a_blackhole_accepts_at_once() {
    let settler = Settler::default();
    let mut sink = blackhole(&BlackholeConfig {}, settler.clone());
    sink.send(&mut vec![(Receipt::for_test(1), event(&b"anything"[..]))]).await;
    assert_eq!(settler.take().await, [(Receipt::for_test(1), Outcome::Accepted)]);
}

#[tokio::test]
async fn a_file_gets_a_line_an_event_and_keeps_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let config = FileConfig { path: "events.ndjson".into() };
    let settler = Settler::default();
    for id in ["1", "2"] {
        let mut sink = file(&config, dir.path(), settler.clone()).unwrap();
        sink.send(&mut vec![(Receipt::for_test(1), event(cloud(id).encode()))]).await;
        assert_eq!(settler.take().await, [(Receipt::for_test(1), Outcome::Accepted)]);
    }
    let text = std::fs::read_to_string(dir.path().join("events.ndjson")).unwrap();
    let lines: Vec<CloudEvent> =
        text.lines().map(|line| CloudEvent::from_json_slice(line.as_bytes()).unwrap()).collect();
    assert_eq!(lines, [cloud("1"), cloud("2")]);
}

#[tokio::test]
async fn bytes_that_are_no_event_get_no_line() {
    let dir = tempfile::tempdir().unwrap();
    let settler = Settler::default();
    let mut sink = file(&FileConfig { path: "f".into() }, dir.path(), settler.clone()).unwrap();
    sink.send(&mut vec![(Receipt::for_test(1), event(&b"\xff\xff"[..]))]).await;
    match &settler.take().await[..] {
        [(_, Outcome::Rejected(rejection))] => assert_eq!(rejection.reason, Reason::Malformed),
        other => panic!("{other:?}"),
    }
    assert_eq!(std::fs::read_to_string(dir.path().join("f")).unwrap(), "");
}

#[test]
fn a_file_that_cannot_be_is_named() {
    let Err(error) = file(&FileConfig { path: "no/where".into() }, Path::new("/nonexistent"), Settler::default())
    else {
        panic!("opened")
    };
    assert!(error.to_string().starts_with("can't open /nonexistent/no/where to append: "), "{error}");
}

#[tokio::test]
async fn generate_makes_as_many_as_it_should_and_ends_when_all_are_answered() {
    let (handle, mut desk) = SourceHandle::for_test();
    let source = generate(&generator(), None, "p", "s", Tracer::default()).unwrap();
    let run = tokio::spawn(source.run(handle));
    let mut ids = HashSet::new();
    let mut keys = HashSet::new();
    while let Some(offer) = desk.next().await {
        for new in &offer.offer.events {
            let event = CloudEvent::decode(&new.payload).unwrap();
            event.validate().unwrap();
            assert_eq!((event.source.as_str(), event.ty.as_str()), ("/p/s", "t"));
            assert!(matches!(&event.data, Data::Text(text) if text.len() == 100), "{:?}", event.data);
            assert!(ids.insert(event.id.clone()));
            keys.insert(event.attribute("partitionkey").unwrap().into_owned());
        }
        let count = offer.offer.events.len();
        offer.answer(vec![Answer::Settled(Outcome::Accepted); count]);
    }
    run.await.unwrap().unwrap();
    assert_eq!((ids.len(), keys.len()), (1_200, 3));
}

#[tokio::test]
async fn what_generate_offers_at_once_is_no_more_than_the_memorys_sum_counts_for_it() {
    for (size, keys, key) in [(0, 1, None), (100, 1_000_000, None), (5_000, 7, Some("{{data.deviceId}}-{{data.pad}}"))]
    {
        let config = GenerateConfig { count: Some(1_200), size: ByteSize(size), keys, ..generator() };
        let key = || key.map(|text| Template::parse(text).unwrap());
        let (event_bytes, body_bytes) = generated_bytes_max(&config, key(), "p", "s");
        let (handle, mut desk) = SourceHandle::for_test();
        let run = tokio::spawn(generate(&config, key(), "p", "s", Tracer::default()).unwrap().run(handle));
        let (mut largest, mut most) = (0, 0);
        while let Some(offer) = desk.next().await {
            let sizes: Vec<u64> = offer.offer.events.iter().map(|event| event.payload.len() as u64).collect();
            (largest, most) = (largest.max(*sizes.iter().max().unwrap()), most.max(sizes.iter().sum()));
            offer.answer(vec![Answer::Settled(Outcome::Accepted); sizes.len()]);
        }
        run.await.unwrap().unwrap();
        assert!(largest <= event_bytes && most <= body_bytes, "{largest} of {event_bytes}, {most} of {body_bytes}");
        assert!(most * 2 > body_bytes, "{most} of {body_bytes}");
    }
}

#[tokio::test]
async fn generate_offers_again_what_was_refused() {
    let (handle, mut desk) = SourceHandle::for_test();
    let config = GenerateConfig { count: Some(1), ..generator() };
    let source =
        generate(&config, Some(Template::parse("k-{{data.n}}").unwrap()), "p", "s", Tracer::default()).unwrap();
    let run = tokio::spawn(source.run(handle));
    let refused = desk.next().await.unwrap();
    let payload = refused.offer.events[0].payload.clone();
    refused.refuse(Refusal::Overloaded { cause: "log full".to_owned(), retry_after: Duration::from_millis(1) });
    let again = desk.next().await.unwrap();
    let (first, second) = (CloudEvent::decode(&payload).unwrap(), &again.offer.events[0].payload);
    assert_eq!(first.id, CloudEvent::decode(second).unwrap().id);
    assert_eq!(first.attribute("partitionkey").as_deref(), Some("k-0"));
    again.answer(vec![Answer::Settled(Outcome::Accepted)]);
    run.await.unwrap().unwrap();
}

#[tokio::test]
async fn generate_keeps_its_rate_and_ends_with_the_drain() {
    let (handle, mut desk) = SourceHandle::for_test();
    let config = GenerateConfig { rate: Some(200.0), count: None, ..generator() };
    let run = tokio::spawn(generate(&config, None, "p", "s", Tracer::default()).unwrap().run(handle));
    let began = Instant::now();
    let mut made = 0;
    while made < 60 {
        let offer = desk.next().await.unwrap();
        made += offer.offer.events.len();
        let count = offer.offer.events.len();
        offer.answer(vec![Answer::Settled(Outcome::Accepted); count]);
    }
    assert!(began.elapsed() >= Duration::from_millis(280), "{made} in {:?}", began.elapsed());
    desk.drain();
    run.await.unwrap().unwrap();
}

#[test]
fn a_rate_must_be_above_zero() {
    for rate in [0.0, -1.0, f64::NAN] {
        let config = GenerateConfig { rate: Some(rate), ..generator() };
        assert!(generate(&config, None, "p", "s", Tracer::default()).is_err());
    }
}
