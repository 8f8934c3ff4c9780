//! The sink that forgets.

use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, ready};
use jaiminho_core::{Event, Outcome};
use jaiminho_runtime::{Receipt, Settler, Sink};
use schemars::JsonSchema;
use serde::Deserialize;

/// Accepts every event and forgets it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BlackholeConfig {}

struct Blackhole(Settler);

/// A sink that accepts at once.
pub(crate) fn blackhole(_config: &BlackholeConfig, settler: Settler) -> Box<dyn Sink> {
    Box::new(Blackhole(settler))
}

impl Sink for Blackhole {
    fn send<'a>(&'a mut self, events: &'a mut Vec<(Receipt, Event)>) -> BoxFuture<'a, ()> {
        self.0.settle_all(events.drain(..).map(|(receipt, _)| (receipt, Outcome::Accepted)));
        ready(()).boxed()
    }

    fn drain(&mut self, _time_left: Duration) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }
}
