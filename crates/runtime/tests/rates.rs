//! How fast a stage takes events into work.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the failure")]

mod support;

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use jaiminho_core::{Event, Outcome};
use jaiminho_runtime::{
    Answer, Call, Emitted, Failure, Handler, Kind, Outside, Rate, Role, StageEnd, StageHandle, Transform, Turn,
    Verdict, spawn,
};
use smallvec::smallvec;
use support::{Collect, Local, accepted, event, log, offer, published, stage};
use tokio::time::Instant;

/// Lets an event go on after a while, those with an even number only.
struct Slow(Duration);

impl Transform for Slow {
    fn admit<'a>(&'a self, event: &'a Event) -> Option<BoxFuture<'a, Option<Verdict>>> {
        Some(Box::pin(async move {
            tokio::time::sleep(self.0).await;
            let is_even = event.payload.last()? % 2 == 0;
            (!is_even).then(|| Verdict::Emit(smallvec![]))
        }))
    }

    fn process<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<Verdict, Failure>> {
        Box::pin(async { Ok(Verdict::Emit(smallvec![Emitted::main(event.payload.clone())])) })
    }
}

/// in -> mid -> out, with a rate at mid and at out.
fn pipeline(transform: Slow, rates: [&Rate; 2]) -> (StageHandle, StageHandle, Collect) {
    let (source, middle, (sink, _)) = staged(Role::Transform(Arc::new(transform)), rates);
    (source, middle, sink)
}

fn staged(role: Role, rates: [&Rate; 2]) -> (StageHandle, StageHandle, (Collect, Local)) {
    let (local, sink) = (Local::default(), Collect::new(|_| accepted()));
    let source = spawn(stage("in", vec![log("in", &["mid"])], &[], &local, Role::Source(Box::new(Outside))));
    local.put("in", &source);
    let mut config = stage("mid", vec![log("mid", &["out"])], &["in"], &local, role);
    config.limits.rate = rates[0].clone();
    let middle = spawn(config);
    local.put("mid", &middle);
    let role = Role::Sink(Box::new(sink.clone()), sink.settler.clone());
    let mut config = stage("out", vec![], &["mid"], &local, role);
    config.limits.rate = rates[1].clone();
    let _running = spawn(config);
    (source, middle, (sink, local))
}

#[tokio::test(start_paused = true)]
async fn an_admission_may_take_longer_than_the_time_out_and_settles_what_it_lets_not_on() {
    let (source, _middle, sink) = pipeline(Slow(Duration::from_secs(20)), [&Rate::default(), &Rate::default()]);
    let events = vec![event(1, None), event(2, None)];
    let offer = jaiminho_runtime::Offer { deadline: None, ..offer(events) };
    let pending = source.source().offer(offer).await.unwrap();
    let answers = pending.answers().await;
    assert_eq!(answers, vec![Answer::Settled(Outcome::Accepted); 2]);
    assert_eq!(sink.payloads(), ["2"]);
}

#[tokio::test(start_paused = true)]
async fn a_transform_and_a_sink_take_events_at_their_rate_and_a_change_holds_at_once() {
    let (free, limited) = (Rate::default(), Rate::new(Some(20.0)));
    for rates in [[&limited, &free], [&free, &limited]] {
        limited.set(Some(20.0));
        let (source, _middle, _sink) = pipeline(Slow(Duration::ZERO), rates);
        let start = Instant::now();
        let answers = published(&source, (0..42).map(|n| event(n * 2, None)).collect()).await;
        assert_eq!(answers, vec![Answer::Settled(Outcome::Accepted); 42]);
        assert!((1_900..2_600).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
        limited.set(Some(0.01));
        let pending = source.source().offer(offer((0..42).map(|n| event(n * 2, None)).collect())).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        limited.set(None);
        let start = Instant::now();
        let _answers = pending.answers().await;
        assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    }
}

/// Passes events on; each call takes no time.
struct Copies;

impl Handler for Copies {
    fn handle<'a>(&'a mut self, call: &'a Call, turn: &'a mut Turn) -> BoxFuture<'a, Result<(), Failure>> {
        if let Call::Events { events, .. } = call {
            for (index, event) in events.iter().enumerate() {
                turn.emit_of(index, event.payload.clone());
            }
        }
        Box::pin(async { Ok(()) })
    }
}

fn copies() -> Role {
    Role::Handler(Box::new(Copies), Kind::ProducerConsumer)
}

#[tokio::test(start_paused = true)]
async fn a_handler_takes_batches_at_its_rate_and_a_change_holds_at_once() {
    let limited = Rate::new(Some(20.0));
    let (source, _middle, _sink) = staged(copies(), [&limited, &Rate::default()]);
    let start = Instant::now();
    // Windows of 100 and batches of 50 at most: the second batch waits for the first's 50 events.
    let answers = published(&source, (0..60).map(|n| event(n, None)).collect()).await;
    assert_eq!(answers, vec![Answer::Settled(Outcome::Accepted); 60]);
    assert!((2_300..3_000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    let pending = source.source().offer(offer((0..60).map(|n| event(n, None)).collect())).await.unwrap();
    limited.set(Some(0.01));
    tokio::time::sleep(Duration::from_secs(2)).await;
    limited.set(None);
    let start = Instant::now();
    let _answers = pending.answers().await;
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
}

/// A second member of a group takes over partitions of the first: what waits for the first one's rate comes to it.
#[tokio::test(start_paused = true)]
async fn what_waits_for_the_rate_is_taken_back_when_its_partition_moves() {
    let slow = Rate::new(Some(0.001));
    for role in [copies as fn() -> Role, || Role::Transform(Arc::new(Slow(Duration::ZERO)))] {
        let (source, _middle, sink) = staged(role(), [&slow, &Rate::default()]);
        slow.set(Some(0.001));
        let pending =
            source.source().offer(offer((0..100).map(|n| event(n * 2, Some(key_of(n)))).collect())).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = sink.0.payloads().len();
        let mut config = stage("mid", vec![log("mid", &["out"])], &["in"], &sink.1, role());
        config.instance.name = "mid-1".into();
        let second = spawn(config);
        sink.1.put("mid-1", &second);
        let out = Role::Sink(Box::new(sink.0.clone()), sink.0.settler.clone());
        let mut config = stage("out", vec![], &["mid-1"], &sink.1, out);
        config.upstreams[0].output = "mid".into();
        config.instance.name = "out-1".into();
        let _out = spawn(config);
        tokio::time::sleep(Duration::from_secs(2)).await;
        let moved = sink.0.payloads().len() - before;
        assert!((20..80).contains(&moved), "half of the keys moved, with what was held of them: {moved}");
        drop(pending);
    }
}

/// A second member joins a sink's group: what waits for the first one's rate comes to it, long before the hand-over is cut off.
#[tokio::test(start_paused = true)]
async fn what_waits_for_a_sinks_rate_is_taken_back_when_its_partition_moves() {
    let slow = Rate::new(Some(0.001));
    let (source, _middle, (first, local)) = staged(copies(), [&Rate::default(), &slow]);
    let pending = source.source().offer(offer((0..100).map(|n| event(n, Some(key_of(n)))).collect())).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(first.payloads().len(), 1);
    let second = Collect::new(|_| accepted());
    let role = Role::Sink(Box::new(second.clone()), second.settler.clone());
    let mut config = stage("out", vec![], &["mid"], &local, role);
    config.instance.name = "out-1".into();
    let _out = spawn(config);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let moved = second.payloads().len();
    assert!((20..80).contains(&moved), "half of the keys moved, with what was held of them: {moved}");
    drop(pending);
}

fn key_of(n: u32) -> u64 {
    u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_waits_for_its_rate_leaves_at_its_deadline() {
    let slow = Rate::new(Some(0.001));
    for rates in [[&slow, &Rate::default()], [&Rate::default(), &slow]] {
        let (source, middle, _sink) = pipeline(Slow(Duration::ZERO), rates);
        let _pending = source.source().offer(offer((0..42).map(|n| event(n * 2, None)).collect())).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let start = Instant::now();
        let end = middle.drain(Duration::from_secs(2)).await;
        assert!(matches!(end, StageEnd::Drained { unsettled: 1.. }), "{end:?}");
        assert!(start.elapsed() < Duration::from_secs(4), "no task stays behind: {:?}", start.elapsed());
    }
}
