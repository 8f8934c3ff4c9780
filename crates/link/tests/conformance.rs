//! What every link does, whatever carries it. Each test runs in one process and over gRPC.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::Duration;

use jaiminho_core::{
    Credit, Delivery, Disposition, EndReason, GroupKind, LinkError, Outcome, Reason, Rejection, Settled, ToConsumer,
    ToProducer,
};
use jaiminho_runtime::Address;
use support::{Rig, check, event, frame, soon, subscribe, subscribed, usual_frame};

macro_rules! suite {
    ($($name:ident),* $(,)?) => {
        mod in_process { $(#[tokio::test] async fn $name() { super::$name(super::Rig::in_process().await).await; })* }
        mod grpc { $(#[tokio::test] async fn $name() { super::$name(super::Rig::grpc().await).await; })* }
    };
}

suite!(
    subscribe_and_its_answer_arrive_whole,
    each_refusal_arrives_unchanged,
    an_address_without_a_stage_is_unavailable,
    frames_arrive_in_order_with_all_columns,
    credit_dispositions_and_cancel_arrive_in_order,
    what_a_consumer_says_last_arrives_before_its_end,
    what_a_producer_says_last_arrives_before_its_end,
    an_error_is_the_last_item,
    a_dropped_consumer_half_ends_the_producer_half,
    a_dropped_producer_half_ends_the_consumer_half,
    a_consumer_that_never_reads_does_not_block_its_own_credit,
    a_producer_that_never_reads_does_not_block_its_own_events,
    frames_of_the_largest_size_arrive,
    more_events_than_a_frame_holds_arrive_all_the_same,
    a_link_that_is_stuck_does_not_stop_another,
);

async fn subscribe_and_its_answer_arrive_whole(mut rig: Rig) {
    for kind in [GroupKind::Required, GroupKind::Attached, GroupKind::Tap] {
        let (selector, partition) = (Some("large".to_owned()), Some(7));
        let wanted = jaiminho_core::Subscribe { kind, selector, partition, ..subscribe() };
        let consumer = soon(rig.connect.connect(&rig.address, wanted.clone())).await.unwrap();
        assert_eq!(consumer.subscribed, subscribed());
        assert_eq!(soon(rig.opened.recv()).await.unwrap().subscribe, wanted);
    }
}

async fn each_refusal_arrives_unchanged(rig: Rig) {
    let text = || "because: \u{e9}".to_owned();
    for error in [
        LinkError::Violation(text()),
        LinkError::Version { peer_min: 1, peer_max: 2, min: 3, max: 4 },
        LinkError::UnknownOutput(text()),
        LinkError::WrongPipeline { ours: "a".into(), theirs: "b".into() },
        LinkError::UnknownGroup(text()),
        LinkError::Selector(text()),
        LinkError::Partition(text()),
        LinkError::NotAllowed(text()),
        LinkError::Fenced(text()),
        LinkError::Replaced,
        LinkError::Limit(text()),
        LinkError::Lagged(5_000),
        LinkError::Silent(10_000),
        LinkError::Draining,
        LinkError::Unavailable(text()),
    ] {
        rig.refuse(error.clone());
        let refused = soon(rig.connect.connect(&rig.address, subscribe())).await;
        assert_eq!(refused.err(), Some(error));
    }
}

async fn an_address_without_a_stage_is_unavailable(rig: Rig) {
    let refused = soon(rig.connect.connect(&Address("127.0.0.1:1".into()), subscribe())).await;
    assert!(matches!(refused, Err(LinkError::Unavailable(_))), "{refused:?}");
}

async fn frames_arrive_in_order_with_all_columns(mut rig: Rig) {
    let (mut consumer, producer) = rig.link().await;
    let frames: Vec<_> = (0..50).map(|i| frame(1 + i * 20, 20)).collect();
    let other = [
        ToConsumer::Events { deliveries: vec![], backlog: u64::MAX, pressure: false },
        ToConsumer::Revoke { partitions: vec![0, 7, 4_095] },
        ToConsumer::Ended { last: 1_000, reason: EndReason::Draining },
    ];
    let said: Vec<_> = frames.into_iter().chain(other).collect();
    let expected = said.clone();
    let sender = tokio::spawn(async move {
        for message in said {
            producer.to_consumer.send(Ok(message)).await.unwrap();
        }
    });
    for message in expected {
        assert_eq!(soon(consumer.from_producer.recv()).await, Some(Ok(message)));
    }
    sender.await.unwrap();
    assert_eq!(soon(consumer.from_producer.recv()).await, None);
}

fn accepted(first: u64, last: u64) -> Disposition {
    Disposition { first, last, state: Settled::Outcome(Outcome::Accepted) }
}

fn rejected(number: u64, stored: bool) -> Disposition {
    let rejection = Rejection { reason: Reason::Invalid, text: format!("no topic in {number}"), stored };
    Disposition { first: number, last: number, state: Settled::Outcome(Outcome::Rejected(Box::new(rejection))) }
}

async fn credit_dispositions_and_cancel_arrive_in_order(mut rig: Rig) {
    let (consumer, mut producer) = rig.link().await;
    let many: Vec<_> = (0..2_000).map(|i| rejected(100 + i, i % 2 == 0)).collect();
    let said = [
        ToProducer::Credit(Credit { events: 1_000, bytes: u64::MAX }),
        ToProducer::Dispositions(vec![
            accepted(1, 50),
            rejected(51, true),
            Disposition { first: 52, last: 60, state: Settled::Released },
        ]),
        ToProducer::Dispositions(many.clone()),
        ToProducer::Cancel { drain: true, time_left_ms: 30_000 },
    ];
    for message in said.clone() {
        consumer.to_producer.send(message).await.unwrap();
    }
    assert_eq!(soon(producer.from_consumer.recv()).await.as_ref(), Some(&said[0]));
    assert_eq!(soon(producer.from_consumer.recv()).await.as_ref(), Some(&said[1]));
    let mut arrived = Vec::new();
    while arrived.len() < many.len() {
        let Some(ToProducer::Dispositions(part)) = soon(producer.from_consumer.recv()).await else { panic!("no part") };
        arrived.extend(part);
    }
    assert_eq!(arrived, many);
    assert_eq!(soon(producer.from_consumer.recv()).await.as_ref(), Some(&said[3]));
}

async fn what_a_consumer_says_last_arrives_before_its_end(mut rig: Rig) {
    for _ in 0..20 {
        let (consumer, mut producer) = rig.link().await;
        let said: Vec<_> = (0..4).map(|i| ToProducer::Dispositions(vec![accepted(i + 1, i + 1)])).collect();
        for message in said.clone() {
            consumer.to_producer.send(message).await.unwrap();
        }
        drop(consumer);
        for message in said {
            assert_eq!(soon(producer.from_consumer.recv()).await, Some(message));
        }
        assert_eq!(soon(producer.from_consumer.recv()).await, None);
    }
}

async fn what_a_producer_says_last_arrives_before_its_end(mut rig: Rig) {
    for _ in 0..20 {
        let (mut consumer, producer) = rig.link().await;
        for i in 0..4 {
            producer.to_consumer.send(Ok(usual_frame(i + 1))).await.unwrap();
        }
        drop(producer);
        for i in 0..4 {
            assert_eq!(soon(consumer.from_producer.recv()).await, Some(Ok(usual_frame(i + 1))));
        }
        assert_eq!(soon(consumer.from_producer.recv()).await, None);
    }
}

async fn an_error_is_the_last_item(mut rig: Rig) {
    for error in [LinkError::Replaced, LinkError::Fenced("convert-0".into()), LinkError::Violation("a gap".into())] {
        let (mut consumer, producer) = rig.link().await;
        producer.to_consumer.send(Ok(frame(1, 2))).await.unwrap();
        producer.to_consumer.send(Err(error.clone())).await.unwrap();
        drop(producer);
        assert_eq!(soon(consumer.from_producer.recv()).await, Some(Ok(frame(1, 2))));
        assert_eq!(soon(consumer.from_producer.recv()).await, Some(Err(error)));
        assert_eq!(soon(consumer.from_producer.recv()).await, None);
        soon(consumer.to_producer.closed()).await;
    }
}

async fn a_dropped_consumer_half_ends_the_producer_half(mut rig: Rig) {
    let (consumer, mut producer) = rig.link().await;
    drop(consumer);
    assert_eq!(soon(producer.from_consumer.recv()).await, None);
    soon(producer.to_consumer.closed()).await;
}

async fn a_dropped_producer_half_ends_the_consumer_half(mut rig: Rig) {
    let (mut consumer, producer) = rig.link().await;
    drop(producer);
    assert_eq!(soon(consumer.from_producer.recv()).await, None);
    soon(consumer.to_producer.closed()).await;
}

/// Until nothing more goes in.
async fn fill(mut send: impl AsyncFnMut(u64)) {
    let mut number = 1;
    while tokio::time::timeout(Duration::from_millis(300), send(number)).await.is_ok() {
        number += 1;
        assert!(number < 10_000, "a link without bound");
    }
}

async fn a_consumer_that_never_reads_does_not_block_its_own_credit(mut rig: Rig) {
    let (consumer, mut producer) = rig.link().await;
    fill(async |number| producer.to_consumer.send(Ok(usual_frame(number))).await.unwrap()).await;
    for events in 1..500 {
        let credit = ToProducer::Credit(Credit { events, bytes: events });
        consumer.to_producer.send(credit.clone()).await.unwrap();
        assert_eq!(soon(producer.from_consumer.recv()).await, Some(credit));
    }
}

async fn a_producer_that_never_reads_does_not_block_its_own_events(mut rig: Rig) {
    let (mut consumer, producer) = rig.link().await;
    let many: Vec<_> = (1..500).map(|i| rejected(i, false)).collect();
    fill(async |_| consumer.to_producer.send(ToProducer::Dispositions(many.clone())).await.unwrap()).await;
    for number in 1..100 {
        producer.to_consumer.send(Ok(usual_frame(number))).await.unwrap();
        assert_eq!(soon(consumer.from_producer.recv()).await, Some(Ok(usual_frame(number))));
    }
}

async fn frames_of_the_largest_size_arrive(mut rig: Rig) {
    let (mut consumer, producer) = rig.link().await;
    let payload = vec![7; usize::try_from(subscribe().event_bytes_max).unwrap()];
    let large = ToConsumer::Events {
        deliveries: vec![Delivery { number: 1, event: event(1, payload) }],
        backlog: 1,
        pressure: false,
    };
    for message in [large, frame(2, 4_096)] {
        producer.to_consumer.send(Ok(message.clone())).await.unwrap();
        assert!(soon(consumer.from_producer.recv()).await == Some(Ok(message)));
    }
}

async fn more_events_than_a_frame_holds_arrive_all_the_same(mut rig: Rig) {
    let (mut consumer, producer) = rig.link().await;
    producer.to_consumer.send(Ok(frame(1, 40_000))).await.unwrap();
    let mut numbers = Vec::new();
    while numbers.len() < 40_000 {
        let Some(Ok(ToConsumer::Events { deliveries, .. })) = soon(consumer.from_producer.recv()).await else {
            panic!("the link ended after {} events", numbers.len());
        };
        numbers.extend(deliveries.iter().map(|delivery| delivery.number));
    }
    assert!(numbers.into_iter().eq(1..=40_000));
}

async fn a_link_that_is_stuck_does_not_stop_another(mut rig: Rig) {
    let (_stuck, producer) = rig.link().await;
    fill(async |number| producer.to_consumer.send(Ok(usual_frame(number))).await.unwrap()).await;
    let (mut consumer, mut other) = rig.link().await;
    check(&mut consumer, &mut other).await;
}
