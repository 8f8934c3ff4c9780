//! GenStage's `ConsumerSupervisor`: one bounded task for each event.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "in a test a panic is the failure")]

mod support;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use jaiminho::{Local, Result, Running, Stage, StageEnd, Upstream};
use support::{Counter, Queue, ear};
use tokio::sync::oneshot;

/// Tasks that end when a test says so.
#[derive(Clone, Default)]
struct Held(Arc<Mutex<Tasks>>);

#[derive(Default)]
struct Tasks {
    running: BTreeMap<u64, oneshot::Sender<Result>>,
    started: Vec<u64>,
}

impl Held {
    async fn run(self, number: u64) -> Result {
        let (end, ended) = oneshot::channel();
        {
            let mut tasks = self.0.lock().unwrap();
            tasks.started.push(number);
            tasks.running.insert(number, end);
        }
        ended.await?
    }

    /// Ends the task of this event.
    fn end(&self, number: u64, result: Result) {
        let task = self.0.lock().unwrap().running.remove(&number);
        task.expect("it runs").send(result).unwrap();
    }

    /// What runs, once nothing else happens.
    async fn running(&self) -> Vec<u64> {
        tokio::time::sleep(Duration::from_millis(10)).await;
        self.0.lock().unwrap().running.keys().copied().collect()
    }

    fn stage(&self) -> Stage {
        let held = self.clone();
        Stage::tasks("tasks", move |number: u64| held.clone().run(number))
    }
}

/// A counter, and tasks on these terms.
fn counted(held: &Held, max_demand: u64, min_demand: u64) -> (Local, Running, Running) {
    let ((mouth, _), local) = (ear(), Local::new());
    let counter = local.start(Stage::producer("counter", Counter::new(&mouth)).group("tasks"));
    let upstream = Upstream::new("counter").max_demand(max_demand).min_demand(min_demand);
    let tasks = local.start(held.stage().subscribe_to(upstream));
    (local, counter, tasks)
}

#[tokio::test(start_paused = true)]
async fn there_is_one_task_for_each_event_and_at_most_max_demand_of_them() {
    let held = Held::default();
    let _stages = counted(&held, 3, 2);
    assert_eq!(held.running().await, [0, 1, 2]);
    held.end(1, Ok(()));
    assert_eq!(held.running().await, [0, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn with_a_high_min_demand_each_end_brings_the_next_and_with_a_low_one_they_are_asked_for_together() {
    let (eager, lazy) = (Held::default(), Held::default());
    let (_eager, _lazy) = (counted(&eager, 4, 3), counted(&lazy, 4, 1));
    for held in [&eager, &lazy] {
        assert_eq!(held.running().await, [0, 1, 2, 3]);
        held.end(0, Ok(()));
        held.end(1, Ok(()));
    }
    assert_eq!(eager.running().await, [2, 3, 4, 5]);
    assert_eq!(lazy.running().await, [2, 3], "2 of 4 have ended, and 3 must have");
    lazy.end(2, Ok(()));
    assert_eq!(lazy.running().await, [3, 4, 5, 6]);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_fails_is_started_again_and_holds_its_place() {
    let held = Held::default();
    let _stages = counted(&held, 2, 1);
    assert_eq!(held.running().await, [0, 1]);
    held.end(0, Err("not yet".into()));
    assert_eq!(held.running().await, [1]);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(held.running().await, [0, 1]);
    assert_eq!(held.0.lock().unwrap().started, [0, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_always_fails_or_panics_is_rejected_and_makes_room() {
    let ((mouth, _ear), local) = (ear(), Local::new());
    let counter = local.start(Stage::producer("counter", Counter::silent(&mouth)).group("tasks"));
    let done: Arc<Mutex<Vec<u64>>> = Arc::default();
    let tasks = {
        let done = done.clone();
        Stage::tasks("tasks", move |number: u64| {
            let done = done.clone();
            async move {
                assert_ne!(number, 0, "poison");
                if number == 1 {
                    return Err("never".into());
                }
                done.lock().unwrap().push(number);
                Ok(())
            }
        })
    };
    local.start(tasks.subscribe_to(Upstream::new("counter").max_demand(2).min_demand(1)));
    counter.info(Queue(vec![0, 1, 2, 3])).await.unwrap();
    let settled = async {
        while counter.status().await.unwrap().inputs > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::sleep(Duration::from_millis(10)).await;
    tokio::time::timeout(Duration::from_secs(60), settled).await.unwrap();
    assert_eq!(*done.lock().unwrap(), [2, 3]);
}

#[tokio::test(start_paused = true)]
async fn tasks_go_on_when_their_producer_is_gone_and_the_next_one_gets_the_places_that_are_free() {
    let held = Held::default();
    let (local, counter, _tasks) = counted(&held, 2, 1);
    assert_eq!(held.running().await, [0, 1]);
    assert_eq!(counter.drain(Duration::ZERO).await, StageEnd::Drained { unsettled: 1 });
    assert_eq!(held.running().await, [0, 1]);
    local.start(Stage::from_iter("counter", 10_u64..20).group("tasks"));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(held.running().await, [0, 1, 10, 11], "each producer has a window of its own");
    held.end(0, Ok(()));
    held.end(10, Ok(()));
    assert_eq!(held.running().await, [1, 11, 12]);
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_drains_waits_for_its_tasks_until_its_deadline() {
    for (ends, unsettled) in [(true, 0), (false, 1)] {
        let held = Held::default();
        let (_local, _counter, tasks) = counted(&held, 2, 1);
        assert_eq!(held.running().await, [0, 1]);
        held.end(1, Ok(()));
        if ends {
            let held = held.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let all: Vec<u64> = held.0.lock().unwrap().running.keys().copied().collect();
                all.into_iter().for_each(|number| held.end(number, Ok(())));
            });
        }
        let end = tasks.drain(Duration::from_secs(3)).await;
        let StageEnd::Drained { unsettled: left } = end else { panic!("{end:?}") };
        assert_eq!(left > 0, unsettled > 0, "{left}");
    }
}
