//! GenStage's cases of `handle_subscribe` and `handle_cancel`: once each, on both sides, behind the events that were there
//! before; and what the end of a link means for the stage that consumes.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "in a test a panic is the failure")]

mod support;

use std::time::Duration;

use jaiminho::{
    Batch, Cancel, Consumer, Info, Left, Local, Nothing, Peer, Producer, Result, Running, Stage, StageEnd, Subscribed,
    Turn, Upstream,
};
use std::sync::Arc;
use support::{Counter, Do, Doubler, Ear, Forwarder, Mouth, Queue, Told, ear};

/// Emits what it is told to, ends when it is told to.
struct Obedient(Mouth);

impl Producer for Obedient {
    type Out = u64;

    async fn handle_demand(&mut self, _: u64, _: &mut Turn<'_, u64>) -> Result {
        Ok(())
    }

    async fn handle_info(&mut self, info: Info, turn: &mut Turn<'_, u64>) -> Result {
        if let Some(queue) = info.downcast_ref::<Queue>() {
            queue.0.iter().for_each(|number| turn.emit(*number));
        } else if matches!(info.downcast_ref::<Do>(), Some(Do::Stop)) {
            turn.stop();
        } else {
            return Err("told to fail".into());
        }
        Ok(())
    }

    async fn handle_subscribe(&mut self, peer: &Peer, _: &mut Turn<'_, u64>) -> Result {
        self.0.tell(Told::Subscribed("producer", peer.name.clone()));
        Ok(())
    }

    async fn handle_cancel(&mut self, peer: &Peer, left: &Left, _: &mut Turn<'_, u64>) -> Result {
        self.0.tell(Told::Cancelled("producer", peer.name.clone(), left.clone()));
        Ok(())
    }
}

#[derive(Clone, Copy, Debug)]
enum Way {
    /// The consumer cancels.
    Unsubscribe,
    /// The producer has come to its end.
    Finish,
    /// The producer leaves in order.
    Drain,
    /// The producer is lost.
    Lose,
}

struct Ended {
    /// What the consumer was told.
    left: Left,
    /// How the consumer ended, if it did.
    end: Option<StageEnd>,
}

/// Two stages, linked; of the second, which is made so.
async fn linked(terms: Cancel, stage: impl FnOnce(Mouth) -> Stage) -> (Running, Running, Ear, &'static str) {
    let ((mouth, mut ear), local) = (ear(), Local::new());
    let producer = Stage::producer("producer", Obedient(mouth.clone())).group("consumer").max_failures(1);
    let producer = local.start(producer);
    let consumer = local.start(stage(mouth).subscribe_to(Upstream::new("producer").cancel(terms)));
    let mut subscribed = Vec::new();
    while subscribed.len() < 2 {
        if let Told::Subscribed(stage, peer) = ear.next().await {
            subscribed.push((stage, peer));
        }
    }
    subscribed.sort_by_key(|(stage, _)| *stage == "producer");
    let (stage, peer) = &subscribed[0];
    assert_eq!(peer, "producer");
    assert_eq!(subscribed[1], ("producer", "consumer".to_owned()));
    (producer, consumer, ear, stage)
}

/// How it is with the consumer after its one link has ended. Both sides are told of that once.
async fn ended(terms: Cancel, way: Way, stage: impl FnOnce(Mouth) -> Stage) -> Ended {
    let (producer, consumer, mut ear, name) = linked(terms, stage).await;
    match way {
        Way::Unsubscribe => consumer.unsubscribe(Subscribed::of_stage(0)).await,
        Way::Finish => producer.info(Do::Stop).await.unwrap(),
        Way::Drain => drop(producer.drain(Duration::from_secs(5)).await),
        Way::Lose => producer.info(Do::Fail).await.unwrap(),
    }
    // A link that was lost is tried again, in vain.
    let end = tokio::time::timeout(Duration::from_secs(60), consumer.ended()).await.ok();
    let mut told = Vec::new();
    while let Ok(one) = ear.0.try_recv() {
        if let Told::Cancelled(stage, _, left) = one {
            told.push((stage, left));
        }
    }
    let of = |stage: &str| told.iter().filter(|(told, _)| *told == stage).count();
    assert_eq!(of(name), 1, "{told:?}");
    let by_consumer = usize::from(matches!(way, Way::Unsubscribe));
    assert_eq!(of("producer"), by_consumer, "{told:?}");
    let (_, left) = told.into_iter().find(|(stage, _)| *stage == name).unwrap();
    Ended { left, end }
}

/// All terms, all ways.
async fn holds_for(stage: fn(Mouth) -> Stage) {
    for (way, is_normal) in [(Way::Unsubscribe, true), (Way::Finish, true), (Way::Drain, true), (Way::Lose, false)] {
        for terms in [Cancel::Permanent, Cancel::Transient, Cancel::Temporary] {
            let Ended { left, end } = ended(terms, way, stage).await;
            match way {
                Way::Unsubscribe => assert_eq!(left, Left::Cancelled),
                Way::Finish => assert_eq!(left, Left::Finished),
                Way::Drain => assert_eq!(left, Left::Draining),
                Way::Lose => assert!(matches!(left, Left::Down(_)), "{left:?}"),
            }
            let ends = terms == Cancel::Permanent || terms == Cancel::Transient && !is_normal;
            match end {
                None => assert!(!ends, "{terms:?} {way:?}: goes on"),
                Some(StageEnd::Drained { unsettled: 0 }) => assert!(ends && is_normal, "{terms:?} {way:?}: drained"),
                Some(StageEnd::Failed(text)) => assert!(ends && !is_normal, "{terms:?} {way:?}: {text}"),
                Some(other) => panic!("{terms:?} {way:?}: {other:?}"),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_consumer_ends_with_its_link_or_goes_on_as_its_subscription_says() {
    holds_for(|mouth| Stage::consumer("consumer", Forwarder("consumer", mouth))).await;
}

#[tokio::test(start_paused = true)]
async fn a_producer_consumer_ends_with_its_link_or_goes_on_as_its_subscription_says() {
    holds_for(|mouth| Stage::producer_consumer("consumer", Doubler(mouth))).await;
}

#[tokio::test(start_paused = true)]
async fn queued_events_of_a_lost_producer_are_handled_before_its_cancel() {
    let ((mouth, mut ear), local) = (ear(), Local::new());
    let producer = Stage::producer("producer", Obedient(mouth.clone())).group("middle").max_failures(1);
    let producer = local.start(producer);
    let from = Upstream::new("producer").max_demand(4).min_demand(2);
    local.start(Stage::producer_consumer("middle", Doubler(mouth.clone())).subscribe_to(from).group("consumer"));
    ear.hear(Told::Subscribed("doubler", "producer".into())).await;
    producer.info(Queue(vec![1, 2, 3, 4])).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    producer.info(Do::Fail).await.unwrap();
    producer.ended().await;
    ear.silence_of("doubler").await;
    // Now somebody wants them.
    let from = Upstream::new("middle");
    local.start(Stage::consumer("consumer", Forwarder("consumer", mouth)).subscribe_to(from));
    let mut told = Vec::new();
    while told.len() < 3 {
        match ear.next().await {
            Told::Events("doubler", batch) => told.push(Ok(batch)),
            Told::Cancelled("doubler", _, left) => told.push(Err(left)),
            Told::Events(..) | Told::Demand(_) | Told::Info(..) | Told::Subscribed(..) | Told::Cancelled(..) => {}
        }
    }
    assert!(matches!(&told[..], [Ok(first), Ok(second), Err(Left::Down(_))] if first == &[1, 2] && second == &[3, 4]));
}

/// Asks by hand, as it is told to.
struct Asker(Mouth, Option<Arc<Peer>>);

impl Consumer for Asker {
    type In = u64;

    async fn handle_events(&mut self, events: Batch<u64>, _: &mut Turn<'_, Nothing>) -> Result {
        self.1 = Some(events.from.clone());
        self.0.tell(Told::Events("asker", events.into_values().collect()));
        Ok(())
    }

    async fn handle_subscribe(&mut self, peer: &Peer, turn: &mut Turn<'_, Nothing>) -> Result {
        turn.ask(peer, 3);
        Ok(())
    }

    async fn handle_info(&mut self, info: Info, turn: &mut Turn<'_, Nothing>) -> Result {
        let more = info.downcast::<u64>().map_err(|_| "no number")?;
        turn.ask(self.1.as_deref().ok_or("nobody to ask")?, *more);
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn with_manual_demand_only_what_is_asked_for_comes_and_it_comes_whole() {
    let ((mouth, mut ear), local) = (ear(), Local::new());
    local.start(Stage::producer("counter", Counter::new(&mouth)).group("asker"));
    let from = Upstream::new("counter").max_demand(10).min_demand(9).manual();
    let asker = local.start(Stage::consumer("asker", Asker(mouth, None)).subscribe_to(from));
    assert_eq!(ear.batches("asker", 1).await, [[0, 1, 2]]);
    ear.silence_of("asker").await;
    asker.info(4_u64).await.unwrap();
    assert_eq!(ear.batches("asker", 1).await, [[3, 4, 5, 6]]);
    ear.silence_of("asker").await;
}
