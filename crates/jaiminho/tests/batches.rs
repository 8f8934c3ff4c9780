//! Batches that are assembled over lists.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "in a test a panic is the failure")]

mod support;

use std::time::Duration;

use jaiminho::{Batching, Codec as _, Json, Left, Local, Rate, Running, Stage, StageEnd, Upstream};
use support::{Counter, Doubler, Ear, Forwarder, Mouth, Queue, Sleeper, Told, ear};
use tokio::time::Instant;

const HOUR: Duration = Duration::from_secs(3_600);

/// A silent counter with keys of two, and a consumer of it that gets batches.
fn batching(mouth: &Mouth, batching: Batching, log: u64) -> (Running, Running) {
    let local = Local::new();
    let codec = Json.keyed(|number: &u64| Some((number % 2).to_string()));
    let counter = Stage::producer_with("counter", Counter::silent(mouth), codec).group("consumer").log(log, 1 << 20);
    let counter = local.start(counter);
    let consumer = Stage::consumer("consumer", Forwarder("consumer", mouth.clone()));
    (counter, local.start(consumer.batch(batching).subscribe_to(Upstream::new("counter").max_demand(100))))
}

async fn quiet(ear: &mut Ear) {
    ear.silence_of("consumer").await;
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_handled_when_it_has_its_events_over_several_lists() {
    let (mouth, mut ear) = ear();
    let (counter, _consumer) = batching(&mouth, Batching::new(5, HOUR), 1_000);
    counter.info(Queue(vec![0, 1, 2])).await.unwrap();
    quiet(&mut ear).await;
    counter.info(Queue((3..11).collect())).await.unwrap();
    assert_eq!(ear.batches("consumer", 2).await, [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]);
    quiet(&mut ear).await;
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_handled_when_its_time_has_passed_since_its_first_event() {
    let (mouth, mut ear) = ear();
    let (counter, _consumer) = batching(&mouth, Batching::new(5, Duration::from_secs(60)), 1_000);
    let start = Instant::now();
    for numbers in [vec![0], vec![1, 2]] {
        counter.info(Queue(numbers)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(45)).await;
        if start.elapsed() < Duration::from_secs(50) {
            assert!(!matches!(ear.0.try_recv(), Ok(Told::Events(..))));
        }
    }
    assert_eq!(ear.batches("consumer", 1).await, [[0, 1, 2]]);
}

#[tokio::test(start_paused = true)]
async fn keys_have_batches_of_their_own() {
    let (mouth, mut ear) = ear();
    let (counter, _consumer) = batching(&mouth, Batching::new(3, HOUR).by(|event| event.key), 1_000);
    counter.info(Queue(vec![0, 1, 2, 3, 4, 5, 6])).await.unwrap();
    assert_eq!(ear.batches("consumer", 2).await, [[0, 2, 4], [1, 3, 5]]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_larger_than_the_window_is_handled_at_half_of_it() {
    let ((mouth, mut ear), local) = (ear(), Local::new());
    let start = Instant::now();
    local.start(Stage::producer("counter", Counter::new(&mouth)).group("consumer"));
    let upstream = Upstream::new("counter").max_demand(10).min_demand(0);
    let consumer = Stage::consumer("consumer", Forwarder("consumer", mouth.clone()));
    local.start(consumer.batch(Batching::new(1_000, HOUR)).subscribe_to(upstream));
    let batches = ear.batches("consumer", 100).await;
    assert!(batches.iter().all(|batch| batch.len() == 5), "{batches:?}");
    assert!(batches.concat().into_iter().eq(0..500));
    assert!(start.elapsed() < Duration::from_secs(1), "nothing waits: {:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn partial_batches_are_handled_in_order_when_the_stage_drains() {
    let (mouth, mut ear) = ear();
    let (counter, consumer) = batching(&mouth, Batching::new(5, HOUR).by(|event| event.key), 1_000);
    counter.info(Queue(vec![0, 1, 2, 3, 4])).await.unwrap();
    quiet(&mut ear).await;
    assert_eq!(consumer.drain(Duration::from_secs(5)).await, StageEnd::Drained { unsettled: 0 });
    assert_eq!(ear.batches("consumer", 2).await, [vec![0, 2, 4], vec![1, 3]]);
    assert_eq!(counter.status().await.unwrap().logs[0].1, 0, "all are settled");
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_handled_when_an_upstream_reports_pressure() {
    let (mouth, mut ear) = ear();
    let local = Local::new();
    let counter =
        Stage::producer("counter", Counter::silent(&mouth)).group("consumer").group("sleeper").log(10, 1 << 20);
    let counter = local.start(counter);
    let consumer = Stage::consumer("consumer", Forwarder("consumer", mouth.clone()));
    local.start(consumer.batch(Batching::new(4, HOUR)).subscribe_to("counter"));
    local.start(Stage::consumer("sleeper", Sleeper(mouth.clone())).subscribe_to("counter"));
    counter.info(Queue((0..7).collect())).await.unwrap();
    assert_eq!(ear.batches("consumer", 1).await, [[0, 1, 2, 3]]);
    quiet(&mut ear).await;
    counter.info(Queue(vec![7, 8])).await.unwrap();
    assert_eq!(ear.batches("consumer", 2).await, [vec![4, 5, 6, 7], vec![8]]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_handled_when_its_producer_drains_or_one_before_that() {
    let ((mouth, mut ear), local) = (ear(), Local::new());
    let counter = local.start(Stage::producer("counter", Counter::silent(&mouth)).group("doubler"));
    let doubler = Stage::producer_consumer("doubler", Doubler(mouth.clone())).group("consumer");
    local.start(doubler.subscribe_to("counter"));
    let consumer = Stage::consumer("consumer", Forwarder("consumer", mouth.clone()));
    local.start(consumer.batch(Batching::new(50, HOUR)).subscribe_to("doubler"));
    counter.info(Queue(vec![1, 2])).await.unwrap();
    quiet(&mut ear).await;
    assert_eq!(counter.drain(Duration::from_secs(5)).await, StageEnd::Drained { unsettled: 0 });
    assert_eq!(ear.batches("consumer", 1).await, [[1, 1, 2, 2]]);
}

#[tokio::test(start_paused = true)]
async fn what_a_link_has_brought_to_a_batch_is_handled_before_its_end() {
    let (mouth, mut ear) = ear();
    let (counter, _consumer) = batching(&mouth, Batching::new(50, HOUR), 1_000);
    counter.info(Queue(vec![0, 1])).await.unwrap();
    quiet(&mut ear).await;
    counter.drain(Duration::from_secs(2)).await;
    assert_eq!(ear.next().await, Told::Events("consumer", vec![0, 1]));
    while !matches!(ear.next().await, Told::Cancelled("consumer", _, Left::Draining)) {}
}

#[tokio::test(start_paused = true)]
async fn a_stage_takes_its_events_at_its_rate() {
    let ((mouth, mut ear), local) = (ear(), Local::new());
    local.start(Stage::producer("counter", Counter::new(&mouth)).group("consumer"));
    let rate = Rate::new(Some(10.0));
    let consumer = Stage::consumer("consumer", Forwarder("consumer", mouth.clone())).rate(&rate);
    local.start(consumer.subscribe_to(Upstream::new("counter").max_demand(2)));
    let start = Instant::now();
    ear.batches("consumer", 100).await;
    assert!((9_800..10_200).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
}
