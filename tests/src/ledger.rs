//! What clients were told is done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::{Value, json};

/// An event's place in the order of its key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Numbered {
    pub key: String,
    pub number: u64,
}

impl Numbered {
    /// Finds it again in a record's data.
    pub fn of(data: &Value) -> Option<Self> {
        Some(Self { key: data.get("key")?.as_str()?.to_owned(), number: data.get("number")?.as_u64()? })
    }

    /// As a CloudEvent in JSON. The same each time: a repeat has the same source and id.
    pub fn cloud_event(&self) -> Value {
        json!({
            "specversion": "1.0", "id": self.id(), "source": "urn:jaiminho:test", "type": "test.numbered",
            "datacontenttype": "application/json",
            "data": { "key": self.key, "number": self.number, "padding": "x".repeat(100) },
        })
    }

    /// Its id.
    pub fn id(&self) -> String {
        format!("{}-{}", self.key, self.number)
    }
}

/// One body or message that was refused at first: when, and when it was taken.
#[derive(Clone, Debug)]
pub struct Refused {
    pub refusals: Vec<Instant>,
    pub taken: Instant,
}

/// An HTTP request that was not answered with 200.
#[derive(Clone, Debug)]
pub struct Failed {
    /// The edge's.
    pub port: u16,
    pub sent: Instant,
    /// The answer, or why there was none.
    pub told: String,
}

/// Shared by all clients of a test.
#[derive(Clone, Debug, Default)]
pub struct Ledger(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    acknowledged: BTreeSet<Numbered>,
    /// When how many were acknowledged.
    progress: Vec<(Instant, u64)>,
    repeats: u64,
    refused: Vec<Refused>,
    failed: Vec<Failed>,
    answers: BTreeMap<String, u64>,
    rejected: Vec<(Numbered, String)>,
}

impl Ledger {
    /// The broker has them: they must be found.
    pub fn acknowledge(&self, events: &[Numbered]) {
        let mut inner = self.lock();
        inner.acknowledged.extend(events.iter().cloned());
        inner.progress.push((Instant::now(), events.len() as u64));
    }

    /// A good event was refused for good. That is always a failure of the test.
    pub fn reject(&self, event: Numbered, answer: String) {
        self.lock().rejected.push((event, answer));
    }

    /// So many events are sent again, though the first copy may have got through.
    pub fn repeat(&self, events: u64) {
        self.lock().repeats += events;
    }

    /// Counts what clients were told, or what went wrong, for whoever reads a failed test.
    pub fn answered(&self, answer: &str) {
        *self.lock().answers.entry(answer.chars().take(120).collect()).or_default() += 1;
    }

    /// How often clients were told what.
    pub fn answers(&self) -> BTreeMap<String, u64> {
        self.lock().answers.clone()
    }

    /// Taken after refusals.
    pub fn taken_after(&self, refusals: Vec<Instant>) {
        if !refusals.is_empty() {
            self.lock().refused.push(Refused { refusals, taken: Instant::now() });
        }
    }

    /// A request was not answered with 200.
    pub fn fail(&self, port: u16, sent: Instant, told: &str) {
        self.lock().failed.push(Failed { port, sent, told: told.to_owned() });
    }

    /// Requests that were not answered with 200.
    pub fn failed(&self) -> Vec<Failed> {
        self.lock().failed.clone()
    }

    /// All that were acknowledged.
    pub fn acknowledged(&self) -> Vec<Numbered> {
        self.lock().acknowledged.iter().cloned().collect()
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.lock().acknowledged.len() as u64
    }

    /// The clients' own repeats.
    pub fn repeats(&self) -> u64 {
        self.lock().repeats
    }

    /// Good events that were rejected, with the answer.
    pub fn rejected(&self) -> Vec<(Numbered, String)> {
        self.lock().rejected.clone()
    }

    /// Bodies that were refused at first.
    pub fn refused(&self) -> Vec<Refused> {
        self.lock().refused.clone()
    }

    /// Events acknowledged from `from` to `to`, a second.
    pub fn rate(&self, from: Instant, to: Instant) -> f64 {
        let inner = self.lock();
        let inside = inner.progress.iter().filter(|(at, _)| *at >= from && *at < to);
        inside.map(|(_, events)| *events as f64).sum::<f64>() / (to - from).as_secs_f64().max(f64::EPSILON)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
