//! What an output does, one sentence at a time.

mod bench;
mod delivery;
mod groups;
mod handover;
mod links;
mod withdrawal;
