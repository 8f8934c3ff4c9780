//! A stage's output: a bounded log, groups with cursors over it, and their links.
//!
//! ```text
//!   push -> log -> group -> dispatch -> link -> next_frame
//!            ^       ^                    |
//!            |       +---- release -------+   link closed, cancelled, or its partition revoked
//!            |                            |
//!   poll_settled <------- dispose --------+   accepted or rejected, by all required groups
//! ```
//!
//! The caller owns time and IO: it passes what its links received in, calls [`Output::dispatch`] once for a batch, and then
//! takes signals, frames and settlements out until there are none. Nothing here panics on what a peer says: calls for links
//! that have ended change nothing, and breaches of the protocol are errors, after which the caller closes the link.

mod api;
mod broadcast;
mod check;
mod custom;
mod dispatch;
mod entries;
mod group;
mod infos;
mod keyed;
mod link;
mod log;
mod membership;
mod overflow;
mod owners;
mod ready;
mod seen;
mod select;
mod settle;
mod shares;
mod subscribe;

use slab::Slab;

pub use api::{
    Demand, Dispatch, Fill, GroupWaiting, HASH_VERSION, KeyShare, LinkId, Offset, OutputConfig, Overflow, PARTITIONS,
    Refused, RequiredGroup, Settlement, Signal, Waiting,
};
pub use custom::{Dispatcher, Member, NewDispatcher};
use group::{Group, Shared};
use infos::Infos;
pub use infos::{INFOS_MAX, InfosFull};
use link::Links;
pub use link::TAPPED_BYTES_MAX;
use log::Log;
pub use seen::{GroupSeen, LinkSeen};
pub use select::Selector;

use crate::event::{Event, KeyHash};
use crate::inputs::InputId;
use crate::message::{Delivery, GroupKind, LinkError, Window};
use crate::time::Time;

/// A stage's output.
#[derive(Debug)]
pub struct Output {
    config: OutputConfig,
    /// Required ones first, in the order of the configuration.
    groups: Slab<Group>,
    shared: Shared,
    demand: Demand,
    infos: Infos,
    dropped: u64,
    discarded: u64,
    tap_missed: u64,
}

impl Output {
    /// An empty log with its required groups.
    pub fn new(config: OutputConfig) -> Self {
        let mut groups = Slab::new();
        for group in &config.groups {
            let entry = groups.vacant_entry();
            let group = Group::new(entry.key(), &group.name, GroupKind::Required, &group.dispatch, 0);
            entry.insert(group);
        }
        let shared = Shared { log: Log::new(), links: Links::new(config.span) };
        Self {
            config,
            groups,
            shared,
            demand: Demand::default(),
            infos: Infos::default(),
            dropped: 0,
            discarded: 0,
            tap_missed: 0,
        }
    }

    /// At or over capacity in events, bytes or span. Never with an [`Overflow`] that discards.
    pub fn is_full(&self) -> bool {
        if self.config.overflow != Overflow::PushBack {
            return false;
        }
        let fill = self.fill();
        fill.events >= fill.capacity_events || fill.bytes >= fill.capacity_bytes || fill.span_used >= fill.span
    }

    /// How full the log is.
    pub fn fill(&self) -> Fill {
        let (events, bytes) = self.shared.log.held();
        Fill {
            events,
            bytes,
            capacity_events: self.config.capacity_events,
            capacity_bytes: self.config.capacity_bytes,
            span_used: self.shared.log.end() - self.shared.log.base(),
            span: self.config.span,
        }
    }

    /// Appends an event for `input`. Never refuses: the caller asks [`Self::is_full`] once for a whole body. Where an
    /// [`Overflow`] discards, this event may be the one.
    ///
    /// Without a group that takes part in settlement the event is held until one comes (in a broadcast), or it is withdrawn; or,
    /// with [`OutputConfig::drops_without_group`], it is counted, and settled as accepted at once. So is one that no selector wants.
    pub fn push(&mut self, now: Time, input: InputId, event: Event) -> Offset {
        if !self.make_room() {
            return self.discard_new(input);
        }
        let (mut gating, mut lagging, mut is_gated) = (0, 0, false);
        for (_, group) in &mut self.groups {
            let selects = group.selects(&event);
            match group.kind {
                GroupKind::Tap if selects => {
                    let got = group.tap(&mut self.shared.links, &event);
                    self.tap_missed += u64::from(!got);
                }
                GroupKind::Tap => {}
                GroupKind::Required | GroupKind::Attached => {
                    group.push(selects);
                    is_gated |= group.gates && !group.has_left;
                    *(if group.gates { &mut gating } else { &mut lagging }) += u32::from(selects);
                }
            }
        }
        if !is_gated {
            gating = u32::from(!self.config.drops_without_group);
            self.dropped += u64::from(self.config.drops_without_group);
        }
        let offset = self.shared.log.push(now, input, event, gating, lagging);
        if lagging > 0 {
            self.end_lagging();
        }
        Offset(offset)
    }

    /// Outside a broadcast. Ends attached groups whose oldest unsettled entry is more than half the capacity behind the end.
    ///
    /// Counted in offsets and bytes from that entry on, so that attached groups together never fill the log.
    fn end_lagging(&mut self) {
        let (events_max, bytes_max) = (self.config.capacity_events / 2, self.config.capacity_bytes / 2);
        let log = &self.shared.log;
        let lags = |group: &Group| {
            let oldest = group.entries.base();
            log.end() - oldest > events_max || log.bytes_since(oldest) > bytes_max
        };
        let lagging = self.groups.iter().filter(|(_, group)| group.kind == GroupKind::Attached && lags(group));
        for key in lagging.map(|(key, _)| key).collect::<Vec<_>>() {
            for link in self.shared.links.of_group(key) {
                self.shared.links.end(link, LinkError::Lagged(events_max));
            }
            self.groups.remove(key).dissolve(&mut self.shared);
        }
    }

    /// Assigns waiting entries to links with credit: afterwards each member is without credit, or nothing waits that it may
    /// have. An entry that is larger than its group's smallest `event_bytes_max` is rejected for that group instead:
    /// its settlement says so. Nothing is while demand accumulates. True: a group stopped behind such an entry, so that the caller may make room for what it says of
    /// it; to be called again.
    #[must_use]
    pub fn dispatch(&mut self, now: Time) -> bool {
        if self.demand == Demand::Accumulate {
            return false;
        }
        self.groups.iter_mut().fold(false, |stopped, (_, group)| group.dispatch(now, &mut self.shared) || stopped)
    }

    /// Events that consumers have asked for, and that nobody has brought yet: of each group that takes part in settlement the
    /// unused credit of its members, less what waits for them; of all groups the least. 0 without a group, and while
    /// demand accumulates. A member that leaves takes its unused credit with it.
    ///
    /// It is what may be pushed now, not a request: whoever asks twice is told the same twice.
    pub fn demand(&self) -> u64 {
        let gating = self.groups.iter().map(|(_, group)| group).filter(|group| group.gates && !group.has_left);
        let least = gating.map(|group| group.demand()).min();
        least.filter(|_| self.demand == Demand::Forward).unwrap_or(0)
    }

    /// From now on demand accumulates, or is forwarded again. Taps get what they have credit for in any case.
    pub fn set_demand(&mut self, demand: Demand) {
        self.demand = demand;
    }

    /// The next deliveries of a link, at most `bytes_max` of payload, but at least one. None while
    /// nothing is assigned, or while a `Revoke` for this link has not been polled.
    pub fn next_frame(&mut self, link: LinkId, bytes_max: usize) -> Option<Vec<Delivery>> {
        let link = self.shared.links.find(link)?;
        if !self.shared.links.at(link).has_frame() {
            return None;
        }
        let group = self.groups.get_mut(self.shared.links.at(link).group)?;
        let frame = group.hand_out(&mut self.shared, link, bytes_max as u64);
        group.recount_if_changed(&mut self.shared.links, link);
        Some(frame)
    }

    /// Links that got something to send or were revoked something since the last call, each once. A frame left untaken is
    /// not named again: see [`Self::has_frame`].
    pub fn ready_links(&mut self) -> Vec<LinkId> {
        self.shared.links.take_flagged()
    }

    /// The next thing to tell a link's peer. Poll signals before frames.
    pub fn poll_signal(&mut self) -> Option<(LinkId, Signal)> {
        self.shared.links.poll_signal()
    }

    /// Whether anybody is to get what is pushed.
    pub fn has_groups(&self) -> bool {
        !self.groups.is_empty()
    }

    /// Whether what is pushed waits for anybody to settle it.
    pub fn has_required_groups(&self) -> bool {
        self.is_gated()
    }

    /// The next entry that all groups that take part in settlement have settled.
    pub fn poll_settled(&mut self) -> Option<Settlement> {
        self.shared.log.poll_settled()
    }

    /// Whether the next settlement is of an entry that was too large for a group.
    pub fn refuses_next(&self) -> bool {
        self.shared.log.refuses_next()
    }

    /// Whether all groups that take part in settlement have settled everything.
    pub fn is_settled(&self) -> bool {
        self.shared.log.unsettled() == 0
    }

    /// Backlog and demand of the required groups.
    pub fn waiting(&self) -> Waiting {
        let required = self.groups.iter().filter(|(_, group)| group.kind == GroupKind::Required);
        let groups = required.map(|(_, group)| group.waiting()).collect();
        Waiting { groups }
    }

    /// What the partition of a key takes up of the log.
    pub fn key_share(&self, key: KeyHash) -> KeyShare {
        self.shared.log.key_share(key)
    }

    /// When the oldest held entry was pushed.
    pub fn oldest_unsettled(&self) -> Option<Time> {
        self.shared.log.oldest()
    }

    /// Events of this link's group that are on no link: for the heartbeat's `backlog`.
    pub fn backlog(&self, link: LinkId) -> u64 {
        let key = self.shared.links.find(link).map(|link| self.shared.links.at(link).group);
        key.and_then(|key| self.groups.get(key)).map_or(0, |group| group.undispatched)
    }

    /// Number of the last delivery handed out on a link: for `Ended`.
    pub fn last_sent(&self, link: LinkId) -> u64 {
        self.shared.links.find(link).map_or(0, |link| self.shared.links.at(link).allowance.last_sent())
    }

    /// The window that holds on a link.
    pub fn window(&self, link: LinkId) -> Option<Window> {
        self.shared.links.find(link).map(|link| self.shared.links.at(link).allowance.window())
    }

    /// Deliveries handed out on a link and not settled. A tap has none.
    pub fn unsettled(&self, link: LinkId) -> u64 {
        self.shared.links.find(link).map_or(0, |link| self.shared.links.at(link).sent.unsettled())
    }

    /// Where an unsettled delivery stands in the log; none for a tap's, which holds nothing there.
    pub fn offset(&self, link: LinkId, number: u64) -> Option<Offset> {
        self.shared.links.find(link).and_then(|link| self.shared.links.at(link).sent.find(number)).map(Offset)
    }

    /// Whether [`Self::next_frame`] has something to give.
    pub fn has_frame(&self, link: LinkId) -> bool {
        self.shared.links.find(link).is_some_and(|link| self.shared.links.at(link).has_frame())
    }

    /// All open links, cancelled ones included.
    pub fn links(&self) -> Vec<LinkId> {
        self.shared.links.iter().map(|(_, link)| link.id).collect()
    }

    /// All groups, required ones first.
    pub fn groups(&self) -> impl Iterator<Item = (GroupKind, &str)> {
        self.groups.iter().map(|(_, group)| (group.kind, group.name.as_str()))
    }

    /// Events dropped because there is no group ([`OutputConfig::drops_without_group`]).
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Events that taps had no credit for, or could not take.
    pub fn tap_missed(&self) -> u64 {
        self.tap_missed
    }
}
