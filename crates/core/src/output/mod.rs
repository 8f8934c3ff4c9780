//! A stage's output: a bounded log, groups with cursors over it, and their links.

mod api;

use std::ops::Range;

pub use api::{
    Dispatch, Fill, GroupWaiting, HASH_VERSION, KeyShare, LinkId, Offset, OutputConfig, PARTITIONS, RequiredGroup,
    Settlement, Signal, Waiting,
};

use crate::event::{Event, KeyHash};
use crate::inputs::InputId;
use crate::message::{Credit, Delivery, Disposition, LinkError, Subscribe};
use crate::time::Time;

/// A stage's output.
#[derive(Debug)]
pub struct Output {}

#[expect(unused_variables, clippy::todo)]
impl Output {
    /// An empty log with its required groups.
    pub fn new(config: OutputConfig) -> Self {
        todo!()
    }

    /// At or over capacity in events, bytes or span.
    pub fn is_full(&self) -> bool {
        todo!()
    }

    /// How full the log is.
    pub fn fill(&self) -> Fill {
        todo!()
    }

    /// Appends an event for `input`. Never refuses: the caller asks [`Self::is_full`] once for a whole body.
    pub fn push(&mut self, now: Time, input: InputId, event: Event) -> Offset {
        todo!()
    }

    /// Opens a link. Limits, fencing and replacement are checked before anything changes.
    pub fn subscribe(&mut self, now: Time, subscribe: &Subscribe) -> Result<LinkId, LinkError> {
        todo!()
    }

    /// Raises a link's limits. On an error the caller closes the link.
    pub fn credit(&mut self, link: LinkId, credit: Credit) -> Result<(), LinkError> {
        todo!()
    }

    /// Settles deliveries. On an error the caller closes the link.
    pub fn dispose(&mut self, now: Time, link: LinkId, disposition: &Disposition) -> Result<(), LinkError> {
        todo!()
    }

    /// No more deliveries. With `drain` dispositions go on until `Signal::Drained`; without, all is released at once.
    pub fn cancel(&mut self, now: Time, link: LinkId, drain: bool) {
        todo!()
    }

    /// The stream is gone: releases what was unsettled. Unknown or ended links: nothing.
    pub fn close(&mut self, now: Time, link: LinkId) {
        todo!()
    }

    /// Assigns waiting entries to links with credit.
    pub fn dispatch(&mut self, now: Time) {
        todo!()
    }

    /// The next deliveries of a link, up to about `bytes_max` (at least one). None while nothing is assigned, or while a
    /// `Revoke` for this link has not been polled.
    pub fn next_frame(&mut self, link: LinkId, bytes_max: usize) -> Option<Vec<Delivery>> {
        todo!()
    }

    /// Links that got something to send since the last call, each once. A frame left untaken is not named again.
    pub fn ready_links(&mut self) -> Vec<LinkId> {
        todo!()
    }

    /// The next thing to tell a link's peer. Poll signals before frames.
    pub fn poll_signal(&mut self) -> Option<(LinkId, Signal)> {
        todo!()
    }

    /// The next entry that all required groups have settled.
    pub fn poll_settled(&mut self) -> Option<Settlement> {
        todo!()
    }

    /// Takes entries back, all or none: only if none of them was ever sent to a group. They are not reported by [`Self::poll_settled`].
    pub fn withdraw(&mut self, now: Time, offsets: Range<Offset>) -> bool {
        todo!()
    }

    /// Whether all required groups have settled everything.
    pub fn is_settled(&self) -> bool {
        todo!()
    }

    /// Handover time-outs, and the end of attached groups without members. Returns when it wants to be called next.
    pub fn tick(&mut self, now: Time) -> Option<Time> {
        todo!()
    }

    /// Backlog and demand of the required groups.
    pub fn waiting(&self) -> Waiting {
        todo!()
    }

    /// What the partition of a key takes up of the log.
    pub fn key_share(&self, key: KeyHash) -> KeyShare {
        todo!()
    }

    /// When the oldest held entry was pushed.
    pub fn oldest_unsettled(&self) -> Option<Time> {
        todo!()
    }

    /// Events of this link's group that are on no link: for the heartbeat's `backlog`.
    pub fn backlog(&self, link: LinkId) -> u64 {
        todo!()
    }

    /// Number of the last delivery handed out on a link: for `Ended`.
    pub fn last_sent(&self, link: LinkId) -> u64 {
        todo!()
    }

    /// Deliveries handed out on a link and not settled.
    pub fn unsettled(&self, link: LinkId) -> u64 {
        todo!()
    }

    /// Whether [`Self::next_frame`] has something to give.
    pub fn has_frame(&self, link: LinkId) -> bool {
        todo!()
    }

    /// All open links.
    pub fn links(&self) -> Vec<LinkId> {
        todo!()
    }

    /// Events dropped because there is no group ([`OutputConfig::drops_without_group`]).
    pub fn dropped(&self) -> u64 {
        todo!()
    }

    /// Events that taps had no credit for.
    pub fn tap_missed(&self) -> u64 {
        todo!()
    }
}
