//! GenStage's tests of demand between producer, producer-consumer and consumer: exact batches.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "in a test a panic is the failure")]

mod support;

use jaiminho::{Local, Stage, Upstream};
use support::{Counter, Discarder, Doubler, Ear, Forwarder, Mouth, Postponer, Sleeper, Told, ear, twice};

fn consumed(numbers: impl IntoIterator<Item = u64>) -> Told {
    Told::Events("consumer", numbers.into_iter().collect())
}

fn doubled(numbers: impl IntoIterator<Item = u64>) -> Told {
    Told::Events("doubler", numbers.into_iter().collect())
}

/// A counter, and a consumer on these terms.
fn counted(terms: impl FnOnce(Upstream) -> Upstream) -> Ear {
    let ((mouth, ear), local) = (ear(), Local::new());
    local.start(Stage::producer("counter", Counter::new(&mouth)).group("consumer"));
    let upstream = terms(Upstream::new("counter"));
    local.start(Stage::consumer("consumer", Forwarder("consumer", mouth)).subscribe_to(upstream));
    ear
}

#[tokio::test(start_paused = true)]
async fn with_default_max_and_min_demand_batches_are_of_500() {
    let mut ear = counted(|upstream| upstream);
    assert_eq!(ear.batches("consumer", 2).await, [(0..500).collect::<Vec<_>>(), (500..1_000).collect()]);
}

#[tokio::test(start_paused = true)]
async fn with_a_min_demand_of_80_percent_batches_are_of_20() {
    let mut ear = counted(|upstream| upstream.max_demand(100).min_demand(80));
    for (number, batch) in ear.batches("consumer", 60).await.into_iter().enumerate() {
        let first = 20 * number as u64;
        assert_eq!(batch, (first..first + 20).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn with_a_min_demand_of_20_percent_batches_are_what_gen_stage_makes_of_it() {
    let mut ear = counted(|upstream| upstream.max_demand(100).min_demand(20));
    let expected = [0..80, 80..100, 100..180, 180..260, 260..280];
    assert_eq!(ear.batches("consumer", 5).await, expected.map(|numbers| numbers.collect::<Vec<u64>>()));
}

#[tokio::test(start_paused = true)]
async fn with_a_max_demand_of_1_and_a_min_demand_of_0_each_event_comes_alone() {
    let mut ear = counted(|upstream| upstream.max_demand(1).min_demand(0));
    assert_eq!(ear.batches("consumer", 3).await, [[0], [1], [2]]);
}

/// A counter, a doubler on these terms, and a consumer with 100 and 50.
fn in_the_middle(stage: impl FnOnce(Mouth) -> Stage, max_demand: u64, min_demand: u64) -> Ear {
    let ((mouth, ear), local) = (ear(), Local::new());
    local.start(Stage::producer("counter", Counter::new(&mouth)).group("middle"));
    let upstream = Upstream::new("counter").max_demand(max_demand).min_demand(min_demand);
    local.start(stage(mouth.clone()).subscribe_to(upstream).group("consumer"));
    let upstream = Upstream::new("middle").max_demand(100).min_demand(50);
    local.start(Stage::consumer("consumer", Forwarder("consumer", mouth)).subscribe_to(upstream));
    ear
}

/// Where a list ends depends on who runs first; how it is cut doesn't.
#[tokio::test(start_paused = true)]
async fn a_producer_consumer_with_80_percent_gets_20_at_once_and_its_consumer_at_most_50_in_order() {
    let mut ear = in_the_middle(|mouth| Stage::producer_consumer("middle", Doubler(mouth)), 100, 80);
    let (mut next, mut consumed) = (0, Vec::new());
    while consumed.len() < 1_000 {
        match ear.next().await {
            Told::Events("doubler", batch) => {
                assert_eq!(batch, (next..next + 20).collect::<Vec<_>>());
                next += 20;
                assert!(2 * next <= consumed.len() as u64 + 300, "a window, and a list beyond it: {next}");
            }
            Told::Events(_, batch) => {
                assert!(batch.len() <= 50);
                consumed.extend(batch);
            }
            Told::Demand(_) | Told::Info(..) | Told::Subscribed(..) | Told::Cancelled(..) => {}
        }
    }
    assert!(consumed.iter().copied().eq(twice(0..=next).into_iter().take(consumed.len())));
}

#[tokio::test(start_paused = true)]
async fn a_producer_consumer_with_20_percent_and_its_consumer_get_gen_stages_batches() {
    let mut ear = in_the_middle(|mouth| Stage::producer_consumer("middle", Doubler(mouth)), 100, 20);
    ear.hear(doubled(0..80)).await;
    ear.hear(consumed(twice(0..=24))).await;
    ear.hear(consumed(twice(25..=49))).await;
    ear.hear(consumed(twice(50..=74))).await;
    ear.hear(doubled(100..180)).await;
}

#[tokio::test(start_paused = true)]
async fn a_producer_consumer_that_emits_nothing_does_not_stall() {
    let mut ear = in_the_middle(|mouth| Stage::producer_consumer("middle", Discarder(mouth)), 100, 80);
    ear.hear(Told::Events("discarder", (0..20).collect())).await;
    ear.hear(Told::Events("discarder", (100..120).collect())).await;
    ear.hear(Told::Events("discarder", (1_000..1_020).collect())).await;
}

#[tokio::test(start_paused = true)]
async fn a_producer_consumer_stops_asking_when_its_consumer_does() {
    let ((mouth, mut ear), local) = (ear(), Local::new());
    local.start(Stage::producer("counter", Counter::new(&mouth)).group("postponer"));
    let upstream = Upstream::new("counter").max_demand(10).min_demand(8);
    let postponer = Stage::producer_consumer("postponer", Postponer(mouth.clone()));
    local.start(postponer.subscribe_to(upstream).group("sleeper"));
    let upstream = Upstream::new("postponer").max_demand(10).min_demand(5);
    local.start(Stage::consumer("sleeper", Sleeper(mouth)).subscribe_to(upstream));
    let (mut postponed, mut slept) = (Vec::new(), Vec::new());
    while let Ok(Some(told)) = tokio::time::timeout(std::time::Duration::from_secs(5), ear.0.recv()).await {
        match told {
            Told::Events("postponer", batch) => postponed.push(batch),
            Told::Events(_, batch) => slept.push(batch),
            Told::Demand(_) | Told::Info(..) | Told::Subscribed(..) | Told::Cancelled(..) => {}
        }
    }
    assert_eq!(slept, [[0, 1]]);
    assert_eq!(postponed, [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]);
}

#[tokio::test(start_paused = true)]
async fn events_are_stored_while_there_is_no_demand_and_served_before_new_demand_is_told() {
    let ((mouth, mut ear), local) = (ear(), Local::new());
    let counter = local.start(Stage::producer("counter", Counter::new(&mouth)).group("consumer"));
    counter.info(support::Queue(vec![100, 101, 102, 103, 104])).await.unwrap();
    let upstream = Upstream::new("counter").max_demand(4).min_demand(0);
    local.start(Stage::consumer("consumer", Forwarder("consumer", mouth)).subscribe_to(upstream));
    let expected = [vec![100, 101, 102, 103], vec![104], vec![0, 1, 2], vec![3, 4, 5, 6]];
    assert_eq!(ear.batches("consumer", 4).await, expected);
}
