//! Everything that could be seen of a run, in order.

use std::fmt::Arguments;
use std::time::Duration;

use xxhash_rust::xxh3::Xxh3Default;

/// A hash over all observations, and their text where it is wanted.
pub struct History {
    hash: Xxh3Default,
    count: u64,
    trace: Option<Vec<String>>,
}

impl History {
    /// Nothing seen yet. A run with its trace has the same hash as one without.
    pub(crate) fn new(is_traced: bool) -> Self {
        Self { hash: Xxh3Default::new(), count: 0, trace: is_traced.then(Vec::new) }
    }

    pub(crate) fn record(&mut self, at: Duration, who: &str, what: Arguments<'_>) {
        let line = format!("{:>9.3} {who:<12} {what}", at.as_secs_f64());
        self.hash.update(line.as_bytes());
        self.hash.update(b"\n");
        self.count += 1;
        if let Some(trace) = &mut self.trace {
            trace.push(line);
        }
    }

    /// Of all observations so far.
    pub fn hash(&self) -> u64 {
        self.hash.digest()
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// One line an observation, if the run was traced.
    pub fn trace(&self) -> &[String] {
        self.trace.as_deref().unwrap_or_default()
    }
}
