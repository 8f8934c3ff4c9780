//! What an output does, one sentence at a time.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod bench;
mod delivery;
mod genstage_broadcast;
mod genstage_buffer;
mod genstage_demand;
mod genstage_partition;
mod groups;
mod handover;
mod links;
mod withdrawal;
