//! A program with a source of its own: `cargo run -p jaiminho-node --example own_program -- up -f FILE`.

use std::{process::ExitCode, time::Duration};

use jaiminho::app::{App, Settings};
use jaiminho::{CloudEvent, Data, Producer, Result, Turn};

/// Tells how much time has passed.
#[derive(Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Clock {
    /// Milliseconds from one event to the next.
    every_ms: u64,
    #[serde(skip)]
    ticks: u64,
    #[serde(skip)]
    wanted: u64,
}

impl Settings for Clock {
    fn memory_bytes_max(&self) -> u64 {
        1024
    }
}

impl Producer for Clock {
    type Out = CloudEvent;

    async fn handle_demand(&mut self, demand: u64, turn: &mut Turn<'_, CloudEvent>) -> Result {
        if self.wanted == 0 {
            turn.wake(Duration::from_millis(self.every_ms));
        }
        self.wanted += demand;
        Ok(())
    }

    async fn handle_wake(&mut self, turn: &mut Turn<'_, CloudEvent>) -> Result {
        self.ticks += 1;
        let mut event = CloudEvent::new(self.ticks.to_string(), "/clock", "clock.tick");
        event.data = Data::Text(format!("{{\"passed_ms\":{}}}", self.ticks * self.every_ms));
        turn.emit(event);
        self.wanted -= 1;
        if self.wanted > 0 {
            turn.wake(Duration::from_millis(self.every_ms));
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    App::new().producer("clock", |clock: &Clock, _| Ok(clock.clone())).run()
}
