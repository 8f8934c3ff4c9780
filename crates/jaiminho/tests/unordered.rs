//! Stages that settle their inputs before their results are settled.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "in a test a panic is the failure")]

mod support;

use std::time::Duration;

use jaiminho::{Batch, Harness, Local, ProducerConsumer, Result, Running, Stage, Turn};
use support::{Counter, Queue, Sleeper, ear};

/// Passes numbers on; what it has got is accepted at once.
struct Early;

impl ProducerConsumer for Early {
    type In = u64;
    type Out = u64;

    async fn handle_events(&mut self, events: Batch<u64>, turn: &mut Turn<'_, u64>) -> Result {
        for event in &events {
            turn.emit_of(event, event.value);
            turn.accept_early(event)?;
        }
        Ok(())
    }
}

async fn unsettled(stage: &Running) -> u64 {
    tokio::time::sleep(Duration::from_secs(5)).await;
    stage.status().await.unwrap().logs[0].1
}

#[tokio::test(start_paused = true)]
async fn an_unordered_stage_accepts_what_it_has_put_into_its_log() {
    let ((mouth, mut ear), local) = (ear(), Local::new());
    let counter = local.start(Stage::producer("counter", Counter::silent(&mouth)).group("early"));
    let early = Stage::producer_consumer("early", Early).subscribe_to("counter").group("out").unordered();
    let early = local.start(early);
    // It handles events while somebody wants its own: one that never settles any.
    local.start(Stage::consumer("out", Sleeper(mouth.clone())).subscribe_to("early"));
    counter.info(Queue(vec![1, 2, 3])).await.unwrap();
    assert_eq!((unsettled(&counter).await, unsettled(&early).await), (0, 3));
    assert_eq!(ear.batches("sleeper", 1).await, [[1, 2, 3]]);
}

#[tokio::test]
async fn a_handler_that_settles_early_in_an_ordered_stage_is_told_what_that_takes() {
    let failure = Harness::producer_consumer(Early).events([1]).await.expect_err("it may not");
    let text = format!("{failure:?}");
    assert_eq!(text, "a stage that settles an event before its results are must say that it is unordered");
}
