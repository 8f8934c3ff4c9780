//! A producer is told what became of its events.

use std::time::Duration;

use jaiminho::{Batch, Consumer, Local, Nothing, Outcome, Producer, Result, Stage, StageEnd, Turn};
use tokio::sync::mpsc;

/// Emits the numbers to 6, those above 0 tracked, and ends.
struct Reader(mpsc::UnboundedSender<Vec<bool>>);

impl Producer for Reader {
    type Out = u64;

    async fn handle_demand(&mut self, _: u64, turn: &mut Turn<'_, u64>) -> Result {
        turn.emit(0);
        (1..=6).for_each(|number| turn.emit_tracked(number));
        turn.stop();
        Ok(())
    }

    async fn handle_settled(&mut self, outcomes: &[Outcome], _: &mut Turn<'_, u64>) -> Result {
        self.0.send(outcomes.iter().map(|outcome| matches!(outcome, Outcome::Accepted)).collect())?;
        Ok(())
    }
}

/// What it was told in all, once it has ended.
async fn told(mut told: mpsc::UnboundedReceiver<Vec<bool>>) -> Vec<bool> {
    let mut all = Vec::new();
    while let Some(outcomes) = told.recv().await {
        all.extend(outcomes);
    }
    all
}

struct Picky;

impl Consumer for Picky {
    type In = u64;

    async fn handle_events(&mut self, events: Batch<u64>, turn: &mut Turn<'_, Nothing>) -> Result {
        events.iter().filter(|event| event.value % 3 == 0).for_each(|event| turn.reject(event, "a third"));
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_producer_is_told_of_each_event_that_it_tracks_once_also_when_it_has_come_to_its_end() {
    let ((mouth, ear), local) = (mpsc::unbounded_channel(), Local::new());
    let reader = local.start(Stage::producer("reader", Reader(mouth)).group("picky"));
    local.start(Stage::consumer("picky", Picky).subscribe_to("reader"));
    assert_eq!(reader.ended().await, StageEnd::Drained { unsettled: 0 });
    assert_eq!(told(ear).await, [true, true, false, true, true, false]);
}

#[tokio::test(start_paused = true)]
async fn what_is_settled_out_of_order_is_told_in_order() {
    let ((mouth, mut ear), local) = (mpsc::unbounded_channel(), Local::new());
    let reader = local.start(Stage::producer("reader", Reader(mouth)).group("tasks"));
    let run = |number: u64| async move {
        tokio::time::sleep(Duration::from_secs(if number == 2 { 60 } else { number })).await;
        Ok(())
    };
    local.start(Stage::tasks("tasks", run).subscribe_to("reader"));
    assert_eq!(ear.recv().await.unwrap(), [true]);
    let began = tokio::time::Instant::now();
    assert_eq!(ear.recv().await.unwrap(), [true; 5], "2, and what waited for it");
    assert!(began.elapsed() >= Duration::from_secs(50), "{:?}", began.elapsed());
    assert_eq!(reader.ended().await, StageEnd::Drained { unsettled: 0 });
    assert_eq!(told(ear).await, [] as [bool; 0]);
}
