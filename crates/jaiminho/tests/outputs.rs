//! What an output does with demand and events: accumulating, discarding, broadcast, selectors, fixed partitions.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "in a test a panic is the failure")]

mod support;

use std::time::Duration;

use jaiminho::{Codec as _, Dispatch, Json, Local, Overflow, Result, Running, Stage, Turn, Upstream};
use support::{Counter, Ear, Forwarder, Mouth, Queue, Told, ear};

fn counter(mouth: &Mouth) -> Stage {
    Stage::producer("counter", Counter::new(mouth))
}

fn silent(mouth: &Mouth) -> Stage {
    Stage::producer("counter", Counter::silent(mouth))
}

/// A consumer of the counter, of this name.
fn consumer(local: &Local, name: &'static str, upstream: Upstream, mouth: &Mouth) -> Running {
    local.start(Stage::consumer(name, Forwarder(name, mouth.clone())).subscribe_to(upstream))
}

fn at_most(events: u64) -> Upstream {
    Upstream::new("counter").max_demand(events).min_demand(0)
}

/// The events of each of these stages, as many as are wanted of each.
async fn events<const N: usize>(ear: &mut Ear, of: [&str; N], count: usize) -> [Vec<u64>; N] {
    let mut heard = [const { Vec::new() }; N];
    while heard.iter().any(|events| events.len() < count) {
        if let Told::Events(stage, batch) = ear.next().await
            && let Some(index) = of.iter().position(|name| *name == stage)
        {
            heard[index].extend(batch);
        }
    }
    heard
}

#[tokio::test(start_paused = true)]
async fn a_producer_that_accumulates_from_the_start_is_told_of_no_demand_until_it_forwards() {
    let ((mouth, mut ear), local) = (ear(), Local::new());
    let counter = local.start(counter(&mouth).group("consumer").accumulate());
    let _consumer = consumer(&local, "consumer", at_most(4), &mouth);
    ear.silence_of("consumer").await;
    counter.accumulate().await.unwrap();
    counter.forward().await.unwrap();
    assert_eq!(ear.batches("consumer", 1).await, [[0, 1, 2, 3]]);
}

#[tokio::test(start_paused = true)]
async fn a_running_producer_may_accumulate_and_forward_again() {
    let ((mouth, mut ear), local) = (ear(), Local::new());
    let counter = local.start(counter(&mouth).group("consumer"));
    counter.accumulate().await.unwrap();
    let _consumer = consumer(&local, "consumer", at_most(4), &mouth);
    ear.silence_of("consumer").await;
    counter.forward().await.unwrap();
    assert_eq!(ear.batches("consumer", 2).await, [[0, 1, 2, 3], [4, 5, 6, 7]]);
}

/// Tells what it was asked for, by emitting that.
struct Asked;

impl jaiminho::Producer for Asked {
    type Out = u64;

    async fn handle_demand(&mut self, demand: u64, turn: &mut Turn<'_, u64>) -> Result {
        turn.emit(demand);
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn demands_that_accumulate_are_not_combined() {
    let ((mouth, mut ear), local) = (ear(), Local::new());
    let asked = local.start(Stage::producer("counter", Asked).group("consumer").accumulate());
    let upstream = || Upstream::new("counter").max_demand(2);
    let _first = consumer(&local, "consumer", upstream(), &mouth);
    let _second = consumer(&local, "consumer", upstream(), &mouth);
    ear.silence_of("consumer").await;
    asked.forward().await.unwrap();
    assert_eq!(ear.batches("consumer", 3).await, [[2], [2], [1]]);
}

#[tokio::test(start_paused = true)]
async fn events_that_a_broadcast_accumulates_reach_all_consumers_that_came_before_them() {
    let ((mouth, mut ear), local) = (ear(), Local::new());
    let counter = local.start(silent(&mouth).broadcast());
    let gone = consumer(&local, "gone", at_most(10).attached(), &mouth);
    ear.hear(Told::Demand(10)).await;
    counter.accumulate().await.unwrap();
    gone.drain(Duration::from_secs(5)).await;
    let _consumers = ["a", "b"].map(|name| consumer(&local, name, at_most(10).attached(), &mouth));
    ear.silence_of("a").await;
    counter.info(Queue(vec![1, 2, 3, 4])).await.unwrap();
    ear.silence_of("a").await;
    counter.forward().await.unwrap();
    let [a, b] = events(&mut ear, ["a", "b"], 4).await;
    assert_eq!((a, b), (vec![1, 2, 3, 4], vec![1, 2, 3, 4]));
}

#[tokio::test(start_paused = true)]
async fn a_log_that_keeps_the_first_discards_what_comes_after_and_its_handler_is_told() {
    kept(Overflow::KeepFirst, [0, 1, 2, 3, 4]).await;
}

#[tokio::test(start_paused = true)]
async fn a_log_that_keeps_the_last_discards_what_came_before_and_its_handler_is_told() {
    kept(Overflow::KeepLast, [3, 4, 5, 6, 7]).await;
}

async fn kept(overflow: Overflow, expected: [u64; 5]) {
    let ((mouth, mut ear), local) = (ear(), Local::new());
    let counter = local.start(silent(&mouth).group("consumer").log(5, 1 << 20).overflow(overflow));
    counter.info(Queue((0..8).collect())).await.unwrap();
    ear.hear(Told::Info("discarded", 3)).await;
    let _consumer = consumer(&local, "consumer", at_most(4), &mouth);
    assert_eq!(ear.batches("consumer", 2).await, [&expected[..4], &expected[4..]]);
}

#[tokio::test(start_paused = true)]
async fn all_consumers_of_a_broadcast_get_everything_at_the_pace_of_the_slowest() {
    let ((mouth, mut ear), local) = (ear(), Local::new());
    let counter = local.start(counter(&mouth).broadcast().accumulate());
    let _fast = consumer(&local, "fast", at_most(20).attached(), &mouth);
    let _slow = consumer(&local, "slow", at_most(10).attached(), &mouth);
    for _ in 0..2 {
        while !matches!(ear.next().await, Told::Subscribed("counter", _)) {}
    }
    ear.silence_of("slow").await;
    counter.forward().await.unwrap();
    let [fast, slow] = events(&mut ear, ["fast", "slow"], 500).await;
    assert!(fast.iter().copied().take(500).eq(0..500) && slow.iter().copied().take(500).eq(0..500));
}

#[tokio::test(start_paused = true)]
async fn a_broadcast_waits_for_a_consumer_that_does_not_ask_and_goes_on_without_it() {
    let ((mouth, mut ear), local) = (ear(), Local::new());
    local.start(counter(&mouth).broadcast());
    let idle = consumer(&local, "idle", at_most(10).attached().manual(), &mouth);
    while !matches!(ear.next().await, Told::Subscribed("counter", _)) {}
    let _consumer = consumer(&local, "consumer", at_most(10).attached(), &mouth);
    ear.silence_of("consumer").await;
    idle.drain(Duration::from_secs(5)).await;
    let [consumed] = events(&mut ear, ["consumer"], 100).await;
    assert!(consumed.into_iter().take(100).eq(0..100));
}

/// The demand that a producer of a broadcast is told: the least of all, and never twice.
#[tokio::test(start_paused = true)]
async fn demand_of_a_broadcast_is_not_told_twice() {
    let ((mouth, mut ear), local) = (ear(), Local::new());
    let counter = local.start(silent(&mouth).broadcast());
    let _consumers = ["a", "b"].map(|name| consumer(&local, name, at_most(3).attached(), &mouth));
    tokio::time::sleep(Duration::from_secs(1)).await;
    counter.info(Queue(vec![1, 2, 3])).await.unwrap();
    let (mut told, mut seen) = (0, 0);
    while seen < 6 {
        match ear.next().await {
            Told::Demand(demand) => told += demand,
            Told::Events(_, batch) => seen += batch.len(),
            Told::Info(..) | Told::Subscribed(..) | Told::Cancelled(..) => {}
        }
    }
    while let Ok(Some(heard)) = tokio::time::timeout(Duration::from_secs(1), ear.0.recv()).await {
        if let Told::Demand(demand) = heard {
            told += demand;
        }
    }
    assert_eq!(told, 6, "3 at first, 3 when these were handled");
}

#[tokio::test(start_paused = true)]
async fn a_consumer_with_a_selector_gets_what_it_selects_and_its_window_does_not_shrink() {
    let ((mouth, mut ear), local) = (ear(), Local::new());
    let is_even = |number: u64| number.is_multiple_of(2);
    let even = move |event: &jaiminho::Event| Json.decode(&event.payload).is_ok_and(is_even);
    local.start(counter(&mouth).broadcast().selector("even", even));
    let _consumer = consumer(&local, "consumer", at_most(4).attached().selector("even"), &mouth);
    let [consumed] = events(&mut ear, ["consumer"], 100).await;
    assert!(consumed.into_iter().take(100).eq((0..).step_by(2).take(100)));
}

#[tokio::test(start_paused = true)]
async fn a_consumer_takes_one_of_the_fixed_partitions_and_keeps_its_queue_for_the_next() {
    let ((mouth, mut ear), local) = (ear(), Local::new());
    let codec = Json.keyed(|number: &u64| Some((number % 7).to_string()));
    let counter = Stage::producer_with("counter", Counter::silent(&mouth), codec);
    let counter = local.start(counter.group_with("consumer", Dispatch::Fixed { partitions: 2 }));
    let of = |partition: u16| at_most(100).partition(partition);
    let first = Stage::consumer("consumer", Forwarder("first", mouth.clone())).subscribe_to(of(0));
    let first = local.start(first);
    counter.info(Queue((0..70).collect())).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    first.drain(Duration::from_secs(5)).await;
    let second = Stage::consumer("consumer", Forwarder("second", mouth.clone())).subscribe_to(of(1));
    local.start(second);
    let (mut first, mut second) = (Vec::new(), Vec::new());
    while first.len() + second.len() < 70 {
        match ear.next().await {
            Told::Events("first", batch) => first.extend(batch),
            Told::Events(_, batch) => second.extend(batch),
            Told::Demand(_) | Told::Info(..) | Told::Subscribed(..) | Told::Cancelled(..) => {}
        }
    }
    assert!(first.is_sorted() && second.is_sorted() && !first.is_empty() && !second.is_empty());
    let keys = |events: &[u64]| events.iter().map(|number| number % 7).collect::<std::collections::BTreeSet<_>>();
    assert!(keys(&first).is_disjoint(&keys(&second)));
}
