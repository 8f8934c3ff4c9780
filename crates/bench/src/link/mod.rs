//! One hop between two processes: a producing side, a consuming side, and the run that starts both.
//!
//! ```text
//!   run_job ──starts──▶ producer: listens, sends, waits until all is settled ──▶ a line on standard output
//!           ──starts──▶ consumer: connects, takes, waits until all has arrived ─▶ a line on standard output
//!           ──closes the standard input of both──▶ they say what CPU they took, and end
//! ```
//!
//! A pass-through stage stands in a third process between them; without a wire, one process has both sides.

mod bare;
mod events;
mod in_process;
mod ours;
mod rounds;
mod sides;

use serde::{Deserialize, Serialize};

pub use rounds::{Round, run_job};
pub use sides::{Open, Producer, alone, consume};

/// What carries the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Contender {
    /// A bare tonic stream, one message an event.
    BareEvents,
    /// A bare tonic stream of byte frames, in which a batch of events stands ready-made.
    BareFrames,
    /// Our link: log, credit, settlement.
    Link,
    /// The same within one process, whose threads are as many as its cores.
    InProcess,
    /// Our link twice, with a stage between that passes events on as they are.
    PassThrough,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    pub contender: Contender,
    /// Events in all, each different.
    pub count: u64,
    /// Bytes of an event, at least [`EVENT_BYTES_MIN`].
    pub size: usize,
    /// Events that are offered at once, and events of a bare frame.
    pub batch: usize,
    /// Credit of a link, in events.
    pub window: u64,
    /// Different keys; 0: no event has one. A bare stream knows no keys.
    pub keys: u64,
    /// Members of the group. A bare stream has one.
    pub consumers: u32,
    /// Events a second, one by one, in an open loop: each carries when it was handed over. None: as fast as it goes.
    pub rate: Option<u32>,
}

/// Its number and when it was handed over.
pub const EVENT_BYTES_MIN: usize = 16;

/// What the producing side knows when all is sent, and for a link settled.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Sent {
    /// On [`crate::process::monotonic_ns`].
    pub started_ns: u64,
    pub finished_ns: u64,
    /// None for a bare stream.
    pub settled: Option<u64>,
}

/// What the consuming side knows when all has arrived.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Arrived {
    pub finished_ns: u64,
    pub count: u64,
    /// Sum of the events' numbers: each arrived once.
    pub sum: u64,
    /// Of a run with a rate.
    pub hop: Option<Hop>,
}

/// How long events were under way, from hand-over to hand-over.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hop {
    pub p50_ns: u64,
    pub p99_ns: u64,
}

/// What one side took, from its first connection until all was settled.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Taken {
    pub cpu_seconds: f64,
}
