//! The broker, and the sink that publishes to it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use jaiminho_core::{Event, Outcome};
use jaiminho_runtime::{Receipt, Settler, Sink};
use tokio::time::sleep;

use crate::event::{Numbered, Part};
use crate::world::World;

/// How the broker is just now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Takes everything, and confirms soon.
    #[default]
    Up,
    /// Takes nothing and says nothing.
    Stalled,
    /// Takes some of what it is sent, and says of all that it failed.
    Failing,
    /// Takes so many records a second.
    Throttled(u32),
}

/// Records, in the order in which it took them.
#[derive(Debug, Default)]
pub(crate) struct Broker {
    pub(crate) mode: Mode,
    parts: BTreeSet<Part>,
    /// Parts of which a copy came that said it was the first.
    firsts: BTreeSet<Part>,
    /// Copies that said so falsely.
    pub(crate) undeclared: u64,
    /// Of each key, the last part of which a first copy came.
    newest: BTreeMap<u32, Part>,
    pub(crate) records: u64,
}

impl Broker {
    /// An error: a first copy came after that of a later event of its key.
    fn append(&mut self, part: Part, attempt: u32) -> Result<(), String> {
        self.records += 1;
        self.undeclared += u64::from(attempt == 1 && !self.firsts.insert(part));
        if !self.parts.insert(part) || !part.of.is_keyed() {
            return Ok(());
        }
        match self.newest.insert(part.of.key, part) {
            Some(newest) if newest > part => Err(format!("order: first copy of {part:?} after that of {newest:?}")),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether all results of the event are there.
    pub(crate) fn has(&self, of: Numbered) -> bool {
        (0..of.parts()).all(|part| self.parts.contains(&Part { of, part }))
    }

    pub(crate) fn duplicates(&self) -> u64 {
        self.records - self.parts.len() as u64
    }
}

/// Publishes in order, and again what may have failed; settles what is confirmed a little later.
pub(crate) struct Publisher {
    pub(crate) world: World,
    pub(crate) host: String,
    pub(crate) settler: Settler,
}

const RETRY: Duration = Duration::from_millis(200);
const CONFIRMED_AFTER: Duration = Duration::from_millis(30);
/// What is published at once.
const CHUNK: usize = 16;

impl Publisher {
    async fn publish(&mut self, events: &[(Receipt, Event)]) {
        loop {
            self.world.thawed(&self.host).await;
            let mode = self.world.lock().broker.mode;
            match mode {
                Mode::Up => break,
                Mode::Stalled => sleep(RETRY).await,
                Mode::Failing => {
                    self.append(&events[..events.len() / 2]);
                    sleep(RETRY).await;
                }
                Mode::Throttled(per_second) => {
                    sleep(Duration::from_secs(1) * events.len() as u32 / per_second).await;
                    break;
                }
            }
        }
        self.append(events);
        let (settler, receipts) =
            (self.settler.clone(), events.iter().map(|(receipt, _)| *receipt).collect::<Vec<_>>());
        tokio::spawn(async move {
            sleep(CONFIRMED_AFTER).await;
            settler.settle_all(receipts.into_iter().map(|receipt| (receipt, Outcome::Accepted)));
        });
    }

    fn append(&self, events: &[(Receipt, Event)]) {
        for (_, event) in events {
            let Some(part) = Part::read(&event.payload) else {
                self.world.wrong(format!("{}: an event that nobody sent: {:?}", self.host, event.payload));
                continue;
            };
            self.world.record(
                &self.host,
                format_args!("published {}-{}/{} attempt {}", part.of.key, part.of.number, part.part, event.attempt),
            );
            let appended = self.world.lock().broker.append(part, event.attempt);
            if let Err(wrong) = appended {
                self.world.wrong(wrong);
            }
        }
    }
}

impl Sink for Publisher {
    fn send<'a>(&'a mut self, events: &'a mut Vec<(Receipt, Event)>) -> BoxFuture<'a, ()> {
        async move {
            let events = std::mem::take(events);
            for chunk in events.chunks(CHUNK) {
                self.publish(chunk).await;
            }
        }
        .boxed()
    }

    fn drain<'a>(&'a mut self, _time_left: Duration) -> BoxFuture<'a, ()> {
        // What is confirmed is settled without it.
        async {}.boxed()
    }
}
