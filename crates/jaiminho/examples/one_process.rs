//! Counts, doubles and prints, in one process: `cargo run -p jaiminho --example one_process`.

use std::time::Duration;

use jaiminho::{Batch, Consumer, Local, Nothing, Producer, ProducerConsumer, Result, Stage, Turn, Upstream};

struct Counter(u64);

impl Producer for Counter {
    type Out = u64;

    async fn handle_demand(&mut self, demand: u64, turn: &mut Turn<'_, u64>) -> Result {
        let last = (self.0 + demand).min(1_000);
        (self.0..last).for_each(|number| turn.emit(number));
        self.0 = last;
        if last == 1_000 {
            turn.stop();
        }
        Ok(())
    }
}

struct Doubler;

impl ProducerConsumer for Doubler {
    type In = u64;
    type Out = u64;

    async fn handle_events(&mut self, numbers: Batch<u64>, turn: &mut Turn<'_, u64>) -> Result {
        numbers.iter().for_each(|number| turn.emit_of(number, 2 * number.value));
        Ok(())
    }
}

struct Printer;

impl Consumer for Printer {
    type In = u64;

    async fn handle_events(&mut self, numbers: Batch<u64>, _: &mut Turn<'_, Nothing>) -> Result {
        use std::io::Write as _;
        let lines: String = numbers.into_values().map(|number| format!("{number}\n")).collect();
        Ok(std::io::stdout().write_all(lines.as_bytes())?)
    }
}

#[tokio::main]
async fn main() {
    let local = Local::new();
    local.start(Stage::producer("counter", Counter(0)).group("doubler"));
    let from = Upstream::new("counter").permanent();
    local.start(Stage::producer_consumer("doubler", Doubler).subscribe_to(from).group("printer"));
    let from = Upstream::new("doubler").max_demand(100).permanent();
    let printer = local.start(Stage::consumer("printer", Printer).subscribe_to(from));
    let end = tokio::time::timeout(Duration::from_secs(60), printer.ended()).await;
    tracing::info!(?end, "done");
}
