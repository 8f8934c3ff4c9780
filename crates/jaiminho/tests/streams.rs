//! A stage from an iterator or a stream, and a stream of a stage's events.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "in a test a panic is the failure")]

mod support;

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use jaiminho::{Events, Harness, Items, Json, Left, Local, Lost, Raw, Stage, StageEnd, Upstream};
use support::{Counter, Do, Doubler, Forwarder, Told, ear};

/// A stream of what `upstream` says.
fn reader(local: &Local, upstream: Upstream) -> Events<u64> {
    let (stage, events) = Stage::events("reader", Json);
    local.start(stage.subscribe_to(upstream));
    events
}

/// The values of so many events.
async fn read(events: &mut Events<u64>, count: usize) -> Vec<u64> {
    let all = events.take(count).map(|event| event.unwrap()).collect();
    tokio::time::timeout(Duration::from_secs(20), all).await.unwrap()
}

async fn next(events: &mut Events<u64>) -> Option<Result<u64, Lost>> {
    tokio::time::timeout(Duration::from_secs(20), events.next()).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_stream_gives_fewer_events_than_its_window_or_more() {
    for (max_demand, count) in [(1_000, 10), (100, 300)] {
        let ((mouth, _ear), local) = (ear(), Local::new());
        local.start(Stage::producer("counter", Counter::new(&mouth)).group("reader"));
        let mut events = reader(&local, Upstream::new("counter").max_demand(max_demand));
        assert_eq!(read(&mut events, count).await, (0..count as u64).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_dropped_stream_had_not_given_out_goes_to_the_next_one() {
    let local = Local::new();
    let counter = local.start(Stage::from_iter("counter", 0_u64..100).group("reader"));
    let mut events = reader(&local, Upstream::new("counter").max_demand(50));
    assert_eq!(read(&mut events, 7).await, [0, 1, 2, 3, 4, 5, 6]);
    drop(events);
    let mut events = reader(&local, Upstream::new("counter").permanent());
    assert_eq!(read(&mut events, 93).await, (7..100).collect::<Vec<_>>());
    assert_eq!(next(&mut events).await, None);
    drop(events);
    assert_eq!(counter.ended().await, StageEnd::Drained { unsettled: 0 });
}

#[tokio::test(start_paused = true)]
async fn a_producer_is_told_once_that_a_stream_was_dropped() {
    let ((mouth, mut ear), local) = (ear(), Local::new());
    local.start(Stage::producer("counter", Counter::new(&mouth)).group("reader"));
    let mut events = reader(&local, Upstream::new("counter"));
    read(&mut events, 1).await;
    drop(events);
    let Told::Subscribed("counter", reader) = ear.next().await else { panic!("no reader came") };
    let Told::Cancelled("counter", gone, _) = ear.next().await else { panic!("no reader left") };
    assert_eq!(gone, reader);
    ear.silence().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_with_its_producer_as_its_subscription_says() {
    let permanent = || Upstream::new("middle").permanent();
    let transient = || Upstream::new("middle").transient();
    for (upstream, order, is_lost) in
        [(permanent(), Do::Stop, false), (permanent(), Do::Fail, true), (transient(), Do::Fail, true)]
    {
        let ((mouth, _ear), local) = (ear(), Local::new());
        let middle = local.start(Stage::producer_consumer("middle", Doubler(mouth)).group("reader").max_failures(1));
        let mut events = reader(&local, upstream);
        while middle.status().await.unwrap().consumers.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        middle.info(order).await.unwrap();
        let end = next(&mut events).await;
        assert_eq!(matches!(end, Some(Err(Lost(_)))), is_lost, "{end:?}");
        assert!(is_lost || end.is_none());
        assert_eq!(events.next().await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_temporary_stream_goes_on_with_the_next_instance() {
    let local = Local::new();
    local.start(Stage::from_iter("counter", 0_u64..3).group("reader"));
    let mut events = reader(&local, Upstream::new("counter"));
    assert_eq!(read(&mut events, 3).await, [0, 1, 2]);
    local.start(Stage::from_iter("counter", 3_u64..5).group("reader"));
    assert_eq!(read(&mut events, 2).await, [3, 4]);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_can_t_be_read_is_rejected_and_left_out() {
    let local = Local::new();
    let letters = [&b"1"[..], b"no number", b"3"].map(jaiminho::Payload::from);
    local.start(Stage::producer_with("counter", Items::new(letters), Raw).group("reader"));
    let mut events = reader(&local, Upstream::new("counter").permanent());
    assert_eq!((read(&mut events, 2).await, next(&mut events).await), (vec![1, 3], None));
}

#[tokio::test]
async fn an_iterator_is_asked_for_as_much_as_is_wanted_and_ends_its_stage() {
    let mut items = Harness::producer(Items::new(0_u64..5));
    let said = items.demand(3).await.unwrap();
    assert_eq!((said.emitted, said.stopped), (vec![0, 1, 2], false));
    let said = items.demand(3).await.unwrap();
    assert_eq!((said.emitted, said.stopped), (vec![3, 4], true));
}

#[tokio::test]
async fn an_iterator_may_end_with_its_last_consumer() {
    for (items, stopped) in [(Items::new(0_u64..5), false), (Items::new(0_u64..5).until_alone(), true)] {
        let mut items = Harness::producer(items);
        items.subscribe().await.unwrap();
        items.subscribe().await.unwrap();
        assert!(!items.cancel(Left::Cancelled).await.unwrap().stopped);
        assert_eq!(items.cancel(Left::Cancelled).await.unwrap().stopped, stopped);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_slow_gives_what_it_has_and_ends_its_stage() {
    let ((mouth, mut ear), local) = (ear(), Local::new());
    let slow = stream::unfold(0_u64, |number| async move {
        if number % 3 == 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        (number < 9).then_some((number, number + 1))
    });
    local.start(Stage::from_stream("counter", slow).group("consumer"));
    let upstream = Upstream::new("counter").permanent();
    let consumer = local.start(Stage::consumer("consumer", Forwarder("consumer", mouth)).subscribe_to(upstream));
    assert_eq!(ear.batches("consumer", 3).await, [[0, 1, 2], [3, 4, 5], [6, 7, 8]]);
    assert_eq!(consumer.ended().await, StageEnd::Drained { unsettled: 0 });
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_items_leaves_when_its_stage_drains() {
    let local = Local::new();
    let silent = local.start(Stage::from_stream("counter", stream::pending::<u64>()).group("reader"));
    let _events = reader(&local, Upstream::new("counter"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(silent.drain(Duration::from_secs(2)).await, StageEnd::Drained { unsettled: 0 });
}
