//! Stages with several outputs.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "in a test a panic is the failure")]

mod support;

use std::time::Duration;

use jaiminho::{Batch, Consumer, Harness, Local, Nothing, ProducerConsumer, Result, Stage, Turn};
use support::{Counter, Forwarder, Mouth, Queue, Told, ear};

/// Even numbers here, odd ones there; and the greatest of each batch to a third place.
struct Sorter;

impl ProducerConsumer for Sorter {
    type In = u64;
    type Out = u64;

    async fn handle_events(&mut self, numbers: Batch<u64>, turn: &mut Turn<'_, u64>) -> Result {
        for number in &numbers {
            match number.value % 2 {
                0 => turn.emit_of(number, number.value),
                _ => turn.emit_of_to("odd", number, number.value),
            }
        }
        let greatest = numbers.into_values().max();
        greatest.into_iter().for_each(|number| turn.emit_to("greatest", number));
        Ok(())
    }
}

/// Takes ten seconds.
struct Slow(Mouth);

impl Consumer for Slow {
    type In = u64;

    async fn handle_events(&mut self, numbers: Batch<u64>, _: &mut Turn<'_, Nothing>) -> Result {
        tokio::time::sleep(Duration::from_secs(10)).await;
        self.0.tell(Told::Events("greatest", numbers.into_values().collect()));
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn others_consume_an_output_by_its_name_and_an_event_is_done_when_its_results_in_all_outputs_are() {
    let ((mouth, mut ear), local, (nobody, _ear)) = (ear(), Local::new(), ear());
    let counter = local.start(Stage::producer("counter", Counter::silent(&nobody)).group("sorter"));
    let sorter = Stage::producer_consumer("sorter", Sorter).subscribe_to("counter").group("even");
    local.start(sorter.output("odd", ["odd"]).output("greatest", ["greatest"]));
    local.start(Stage::consumer("even", Forwarder("even", mouth.clone())).subscribe_to("sorter"));
    local.start(Stage::consumer("odd", Forwarder("odd", mouth.clone())).subscribe_to("sorter.odd"));
    counter.info(Queue(vec![1, 2, 3, 4])).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    local.start(Stage::consumer("greatest", Slow(mouth)).subscribe_to("sorter.greatest"));
    let mut told = Vec::new();
    while told.len() < 3 {
        if let Told::Events(stage, numbers) = ear.next().await {
            if stage != "greatest" {
                assert_eq!(counter.status().await.unwrap().inputs, 1, "what was emitted waits for the slow one");
            }
            told.push((stage, numbers));
        }
    }
    assert_eq!(told.pop(), Some(("greatest", vec![4])), "the slow one");
    told.sort();
    assert_eq!(told, [("even", vec![2, 4]), ("odd", vec![1, 3])]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(counter.status().await.unwrap().inputs, 0);
}

#[tokio::test]
async fn an_output_that_the_stage_does_not_have_fails_the_call() {
    let failure = Harness::producer_consumer(Sorter).output("greatest").events([1]).await.unwrap_err();
    assert_eq!(format!("{failure:?}"), "the stage has no output `odd`");
    let said = Harness::producer_consumer(Sorter).output("greatest").output("odd").events([1, 2]).await.unwrap();
    assert_eq!(said.emitted, [2]);
    assert_eq!(said.emitted_to, [("odd".to_owned(), 1), ("greatest".to_owned(), 2)]);
}
