//! The sink that prints.

use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, ready};
use jaiminho_core::Event;
use jaiminho_runtime::{Receipt, Settler, Sink};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::io::{AsyncWriteExt, Stdout};

use super::lines::Lines;

/// Prints each event to standard output, as one line of CloudEvents JSON.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StdoutConfig {}

struct Printer {
    out: Stdout,
    settler: Settler,
}

/// A sink to standard output. An event is accepted when it is written; a closed output holds everything.
pub(crate) fn stdout(_config: &StdoutConfig, settler: Settler) -> Box<dyn Sink> {
    Box::new(Printer { out: tokio::io::stdout(), settler })
}

impl Sink for Printer {
    fn send<'a>(&'a mut self, events: &'a mut Vec<(Receipt, Event)>) -> BoxFuture<'a, ()> {
        async move {
            let lines = Lines::take(events);
            let written = match self.out.write_all(&lines.text).await {
                Ok(()) => self.out.flush().await,
                Err(error) => Err(error),
            };
            if let Err(error) = written {
                tracing::error!(%error, "standard output is gone: this sink takes nothing more");
                std::future::pending::<()>().await;
            }
            self.settler.settle_all(lines.outcomes);
        }
        .boxed()
    }

    fn drain(&mut self, _time_left: Duration) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }
}
