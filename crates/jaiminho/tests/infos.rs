//! GenStage's cases of messages to a stage itself: behind the events that were there before, in order. And a stage's alarm.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "in a test a panic is the failure")]

mod support;

use std::time::Duration;

use jaiminho::{Batch, Consumer, Info, Local, Nothing, Peer, Producer, Result, Running, Stage, Turn, Upstream};
use support::{Counter, Do, Doubler, Ear, Forwarder, Mouth, Queue, Sleeper, Told, ear};

/// What is told within a while, but links and demand.
async fn told(ear: &mut Ear) -> Vec<Told> {
    tokio::time::sleep(Duration::from_secs(1)).await;
    let told = std::iter::from_fn(|| ear.0.try_recv().ok());
    told.filter(|told| matches!(told, Told::Events(..) | Told::Info(..))).collect()
}

fn infos(numbers: &[u64]) -> Vec<Told> {
    numbers.iter().map(|number| Told::Info("counter", *number)).collect()
}

fn producer() -> (Running, Local, Mouth, Ear) {
    let ((mouth, ear), local) = (ear(), Local::new());
    let counter = local.start(Stage::producer("counter", Counter::silent(&mouth)).group("consumer"));
    (counter, local, mouth, ear)
}

#[tokio::test(start_paused = true)]
async fn a_producer_hears_an_info_at_once_when_nothing_waits() {
    let (counter, _, _, mut ear) = producer();
    counter.info(7_u64).await.unwrap();
    assert_eq!(told(&mut ear).await, infos(&[7]));
}

#[tokio::test(start_paused = true)]
async fn a_producer_hears_infos_in_order_once_what_was_there_before_is_dispatched() {
    let (counter, local, mouth, mut ear) = producer();
    counter.info(Queue(vec![1, 2, 3])).await.unwrap();
    for info in [10_u64, 11, 12] {
        counter.info(info).await.unwrap();
    }
    assert_eq!(told(&mut ear).await, []);
    let from = Upstream::new("counter").max_demand(3).min_demand(0);
    local.start(Stage::consumer("consumer", Sleeper(mouth)).subscribe_to(from));
    let mut heard = told(&mut ear).await;
    heard.retain(|told| matches!(told, Told::Info(..)));
    assert_eq!(heard, infos(&[10, 11, 12]));
    // The consumer asks for no more.
    counter.info(Queue(vec![4])).await.unwrap();
    counter.info(13_u64).await.unwrap();
    assert_eq!(told(&mut ear).await, []);
}

#[tokio::test(start_paused = true)]
async fn a_producer_consumer_hears_an_info_after_the_events_that_came_before_it() {
    let ((mouth, mut ear), local) = (ear(), Local::new());
    let counter = local.start(Stage::producer("counter", Counter::silent(&mouth)).group("doubler"));
    let doubler = Stage::producer_consumer("doubler", Doubler(mouth.clone())).subscribe_to("counter");
    let doubler = local.start(doubler.group("consumer"));
    doubler.info(Do::Say(1)).await.unwrap();
    assert_eq!(told(&mut ear).await, [Told::Info("doubler", 1)]);
    counter.info(Queue(vec![1, 2])).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    doubler.info(Do::Say(2)).await.unwrap();
    assert_eq!(told(&mut ear).await, []);
    local.start(Stage::consumer("consumer", Forwarder("consumer", mouth)).subscribe_to("doubler"));
    let mut heard = told(&mut ear).await;
    heard.retain(|told| !matches!(told, Told::Events("consumer", _)));
    assert_eq!(heard, [Told::Events("doubler", vec![1, 2]), Told::Info("doubler", 2)]);
}

#[tokio::test(start_paused = true)]
async fn a_consumer_hears_an_info_at_once() {
    let ((mouth, mut ear), local) = (ear(), Local::new());
    let consumer = local.start(Stage::consumer("consumer", Forwarder("consumer", mouth)));
    consumer.info(Do::Say(7)).await.unwrap();
    assert_eq!(told(&mut ear).await, [Told::Info("consumer", 7)]);
}

/// Its alarm comes while it works.
struct Waker(Mouth);

impl Consumer for Waker {
    type In = u64;

    async fn handle_events(&mut self, events: Batch<u64>, _: &mut Turn<'_, Nothing>) -> Result {
        tokio::time::sleep(Duration::from_millis(500)).await;
        self.0.tell(Told::Events("waker", events.into_values().collect()));
        Ok(())
    }

    async fn handle_subscribe(&mut self, _: &Peer, turn: &mut Turn<'_, Nothing>) -> Result {
        turn.wake(Duration::from_millis(100));
        Ok(())
    }

    async fn handle_wake(&mut self, _: &mut Turn<'_, Nothing>) -> Result {
        self.0.tell(Told::Info("waker", 0));
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn an_alarm_that_comes_while_the_handler_works_waits_for_it_and_is_heard_once() {
    let (counter, local, mouth, mut ear) = producer();
    counter.info(Queue(vec![1])).await.unwrap();
    local.start(Stage::consumer("consumer", Waker(mouth)).subscribe_to("counter"));
    assert_eq!(told(&mut ear).await, [Told::Events("waker", vec![1]), Told::Info("waker", 0)]);
}

/// Emits one event and is at its end.
struct Single;

impl Producer for Single {
    type Out = u64;

    async fn handle_demand(&mut self, _: u64, _: &mut Turn<'_, u64>) -> Result {
        Ok(())
    }

    async fn handle_info(&mut self, _: Info, turn: &mut Turn<'_, u64>) -> Result {
        turn.emit(1);
        turn.stop();
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_has_come_to_its_end_takes_no_more_infos() {
    let single = Local::new().start(Stage::producer("single", Single).group("consumer"));
    single.info(0_u64).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(single.status().await.unwrap().logs[0].1, 1, "its event waits for a consumer");
    assert!(single.info(1_u64).await.is_err());
}
