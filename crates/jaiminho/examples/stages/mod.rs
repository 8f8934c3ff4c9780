//! Three stages: where they run is no concern of theirs.

use jaiminho::{Batch, Consumer, Nothing, Producer, ProducerConsumer, Result, Turn};

/// Counts to 1,000.
pub(crate) struct Counter(pub(crate) u64);

impl Producer for Counter {
    type Out = u64;

    async fn handle_demand(&mut self, demand: u64, turn: &mut Turn<'_, u64>) -> Result {
        let end = (self.0 + demand).min(1_000);
        (self.0..end).for_each(|number| turn.emit(number));
        self.0 = end;
        if end == 1_000 {
            turn.stop();
        }
        Ok(())
    }
}

/// Doubles each number.
pub(crate) struct Doubler;

impl ProducerConsumer for Doubler {
    type In = u64;
    type Out = u64;

    async fn handle_events(&mut self, numbers: Batch<u64>, turn: &mut Turn<'_, u64>) -> Result {
        numbers.iter().for_each(|number| turn.emit_of(number, 2 * number.value));
        Ok(())
    }
}

/// Prints each number.
pub(crate) struct Printer;

impl Consumer for Printer {
    type In = u64;

    async fn handle_events(&mut self, numbers: Batch<u64>, _: &mut Turn<'_, Nothing>) -> Result {
        use std::io::Write as _;
        let lines: String = numbers.into_values().map(|number| format!("{number}\n")).collect();
        Ok(std::io::stdout().write_all(lines.as_bytes())?)
    }
}
