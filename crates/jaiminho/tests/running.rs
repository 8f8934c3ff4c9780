//! What a running stage says of itself, subscriptions that come later, and handlers that fail.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "in a test a panic is the failure")]

mod support;

use std::time::Duration;

use jaiminho::{Batch, Consumer, Local, Nothing, Result, Stage, Turn, Upstream};
use support::{Counter, Forwarder, Mouth, Queue, Told, ear};

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
