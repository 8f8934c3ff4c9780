//! What a running stage says of itself, subscriptions that come later, and handlers that fail.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "in a test a panic is the failure")]

mod support;

use std::time::Duration;

use jaiminho::{Batch, Consumer, Left, Local, Nothing, Peer, Result, Running, Stage, Subscribed, Turn, Upstream};
use support::{Counter, Ear, Forwarder, Mouth, Queue, Told, ear};

#[tokio::test(start_paused = true)]
async fn a_running_stage_subscribes_and_unsubscribes_and_says_who_is_there_and_what_waits() {
    let ((mouth, mut ear), local) = (ear(), Local::new());
    let counter = local.start(Stage::producer("counter", Counter::silent(&mouth)).group("consumer"));
    let consumer = local.start(Stage::consumer("consumer", Forwarder("consumer", mouth)).instance("one"));
    counter.info(Queue(vec![1, 2, 3])).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let status = counter.status().await.unwrap();
    assert_eq!((status.waiting, status.demand, status.consumers), (3, 0, vec![]));
    let subscribed = consumer.subscribe_to(Upstream::new("counter").max_demand(10)).await.unwrap();
    assert_eq!(ear.batches("consumer", 1).await, [[1, 2, 3]]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let status = counter.status().await.unwrap();
    let consumers = vec![("consumer".to_owned(), "one".to_owned())];
    assert_eq!((status.waiting, status.inputs, status.consumers), (0, 0, consumers));
    assert_eq!(consumer.status().await.unwrap().producers.len(), 1);
    consumer.unsubscribe(subscribed).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(counter.status().await.unwrap().consumers, []);
    counter.info(Queue(vec![4])).await.unwrap();
    ear.silence_of("consumer").await;
}

/// Is slow, and tells what it is called for.
struct Slow(Mouth);

impl Consumer for Slow {
    type In = u64;

    async fn handle_events(&mut self, events: Batch<u64>, _: &mut Turn<'_, Nothing>) -> Result {
        tokio::time::sleep(Duration::from_millis(100)).await;
        self.0.tell(Told::Events("slow", events.into_values().collect()));
        Ok(())
    }

    async fn handle_subscribe(&mut self, peer: &Peer, _: &mut Turn<'_, Nothing>) -> Result {
        self.0.tell(Told::Subscribed("slow", peer.name.clone()));
        Ok(())
    }

    async fn handle_cancel(&mut self, peer: &Peer, left: &Left, _: &mut Turn<'_, Nothing>) -> Result {
        self.0.tell(Told::Cancelled("slow", peer.name.clone(), left.clone()));
        Ok(())
    }
}

fn events(numbers: &[u64]) -> Told {
    Told::Events("slow", numbers.to_vec())
}

fn cancelled(producer: &str) -> Told {
    Told::Cancelled("slow", producer.to_owned(), Left::Cancelled)
}

fn subscribed(producer: &str) -> Told {
    Told::Subscribed("slow", producer.to_owned())
}

#[tokio::test(start_paused = true)]
async fn what_a_subscription_has_brought_is_handled_before_the_one_that_takes_its_place_begins() {
    let ((mouth, mut ear), local, (nobody, _ear)) = (ear(), Local::new(), ear());
    let [old, new] =
        ["old", "new"].map(|name| local.start(Stage::producer(name, Counter::silent(&nobody)).group("slow")));
    old.info(Queue(vec![1, 2, 3, 4])).await.unwrap();
    new.info(Queue(vec![11, 12])).await.unwrap();
    let from = Upstream::new("old").max_demand(4).min_demand(2).permanent();
    let slow = local.start(Stage::consumer("slow", Slow(mouth)).subscribe_to(from));
    assert_eq!(ear.next().await, subscribed("old"));
    tokio::time::sleep(Duration::from_millis(50)).await;
    let second = slow.resubscribe(Subscribed::of_stage(0), "new").await.unwrap();
    old.info(Queue(vec![5])).await.unwrap();
    for told in [events(&[1, 2]), events(&[3, 4]), cancelled("old"), subscribed("new"), events(&[11, 12])] {
        assert_eq!(ear.next().await, told);
    }
    assert_eq!(old.status().await.unwrap().inputs, 1, "what came too late waits");
    slow.unsubscribe(second).await;
    assert_eq!(ear.next().await, cancelled("new"));
    ear.silence().await;
}

/// A producer of six events, and a slow consumer that works on the first two.
async fn slow_at_work() -> (Running, Running, Ear) {
    let ((mouth, mut ear), local, (nobody, _ear)) = (ear(), Local::new(), ear());
    let counter = local.start(Stage::producer("counter", Counter::silent(&nobody)).group("slow"));
    counter.info(Queue((1..=6).collect())).await.unwrap();
    let from = Upstream::new("counter").max_demand(2).min_demand(0);
    let slow = local.start(Stage::consumer("slow", Slow(mouth)).subscribe_to(from));
    assert_eq!(ear.next().await, subscribed("counter"));
    tokio::time::sleep(Duration::from_millis(50)).await;
    (counter, slow, ear)
}

#[tokio::test(start_paused = true)]
async fn a_stage_subscribes_to_the_same_output_on_other_terms_and_gets_nothing_twice() {
    let (counter, slow, mut ear) = slow_at_work().await;
    let wider = Upstream::new("counter").max_demand(8).min_demand(4);
    slow.resubscribe(Subscribed::of_stage(0), wider).await.unwrap();
    for told in [events(&[1, 2]), cancelled("counter"), subscribed("counter"), events(&[3, 4, 5, 6])] {
        assert_eq!(ear.next().await, told);
    }
    ear.silence().await;
    assert_eq!(counter.status().await.unwrap().inputs, 0);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_takes_the_place_of_one_that_has_not_begun_waits_for_the_same() {
    let (counter, slow, mut ear) = slow_at_work().await;
    let wider = || Upstream::new("counter").max_demand(8).min_demand(4);
    let second = slow.resubscribe(Subscribed::of_stage(0), wider()).await.unwrap();
    slow.resubscribe(second, wider()).await.unwrap();
    for told in [events(&[1, 2]), cancelled("counter"), subscribed("counter"), events(&[3, 4, 5, 6])] {
        assert_eq!(ear.next().await, told);
    }
    ear.silence().await;
    assert_eq!(counter.status().await.unwrap().inputs, 0);
}

/// Can't stand 2 and 3.
struct Choosy(Mouth);

impl Consumer for Choosy {
    type In = u64;

    async fn handle_events(&mut self, events: Batch<u64>, _: &mut Turn<'_, Nothing>) -> Result {
        let numbers: Vec<u64> = events.into_values().collect();
        self.0.tell(Told::Events("choosy", numbers.clone()));
        if numbers.contains(&2) {
            return Err("it is 2".into());
        }
        assert!(!numbers.contains(&3), "it is 3");
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_at_which_a_handler_fails_or_panics_too_often_is_rejected_alone() {
    let ((mouth, mut ear), local) = (ear(), Local::new());
    let counter = local.start(Stage::producer("counter", Counter::silent(&mouth)).group("choosy"));
    local.start(Stage::consumer("choosy", Choosy(mouth)).max_failures(2).subscribe_to("counter"));
    counter.info(Queue(vec![1, 2, 3, 4])).await.unwrap();
    let tries: [&[u64]; 7] = [&[1, 2, 3, 4], &[1], &[2], &[2], &[3], &[3], &[4]];
    assert_eq!(ear.batches("choosy", 7).await, tries);
    ear.silence_of("choosy").await;
    assert_eq!(counter.status().await.unwrap().inputs, 0, "all are settled");
}
