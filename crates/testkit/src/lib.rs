//! A simulated cluster: the real runtime and the real link (tonic, HTTP/2) on a simulated network, with simulated time.
//!
//! A run has three tiers (ingest, convert, publish) of up to five instances each, clients that offer numbered events and
//! remember what they were told, and a broker that can stall, fail and throttle. All of it follows from one seed: sizes,
//! limits, load, and which faults come when. [`run`] makes a run and says what was wrong with it:
//!
//! - an acknowledged event that the broker doesn't have, or a good event that was rejected;
//! - first copies of a key out of order;
//! - a log, its inputs or its links over their limits;
//! - something that is not settled within [`SETTLE_WITHIN`] of the last fault;
//! - a drain that gives events up, or a task that outlives its stage.
//!
//! Everything observable goes into a [`History`] with its simulated time. Two runs of one seed must have the same one, in
//! different processes: nothing may depend on a clock, a hash or chance that the seed does not decide.

mod broker;
mod client;
mod cluster;
mod convert;
mod event;
mod fault;
mod history;
mod instance;
mod network;
mod panics;
mod plan;
mod run;
mod world;

pub use broker::Mode;
pub use fault::{Fault, Scheduled};
pub use history::History;
pub use network::{Port, Simulated};
pub use plan::{Link, Plan, TIERS, Tier};
pub use run::{Report, SETTLE_WITHIN, run, run_plan};
