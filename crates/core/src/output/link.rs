//! A producer's side of its links: what each was assigned and sent, and what their peers must be told.
//!
//! ```text
//!   Open --cancel--> Cancelled --all settled--> Drained
//!    |                   |                         |
//!    +-------------------+--- close, or ended by the producer: removed
//! ```
//!
//! A removed link that leaves sent entries behind becomes a *ghost*, a count of those not dispatched again.

use std::collections::VecDeque;

use slab::Slab;

use super::api::{LinkId, Signal};
use super::entries::NONE;
use super::ready::Ready;
use crate::credit::Allowance;
use crate::event::{EVENT_OVERHEAD_BYTES, Event};
use crate::message::{LinkError, Subscribe, Window};
use crate::time::Time;

/// How far a link is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkState {
    Open,
    Cancelled,
    /// Its peer's task has been told to close it.
    Drained,
}

/// Deliveries that were handed out, by number.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// Number before that of the first in the ring.
    settled_to: u64,
    /// Offset of each; [`SETTLED`] once settled. The first is unsettled.
    ring: VecDeque<u64>,
    unsettled: u64,
}

const SETTLED: u64 = u64::MAX;

impl Sent {
    pub(crate) fn push(&mut self, offset: u64) {
        self.ring.push_back(offset);
        self.unsettled += 1;
    }

    /// Numbers of the range that may be unsettled.
    pub(crate) fn clip(&self, first: u64, last: u64) -> std::ops::RangeInclusive<u64> {
        first.max(self.settled_to + 1)..=last
    }

    /// Offset of an unsettled delivery.
    pub(crate) fn find(&self, number: u64) -> Option<u64> {
        let index = number.checked_sub(self.settled_to + 1)?;
        self.ring.get(index as usize).copied().filter(|&offset| offset != SETTLED)
    }

    /// Settles a delivery; its offset, if it was unsettled.
    pub(crate) fn settle(&mut self, number: u64) -> Option<u64> {
        let offset = self.find(number)?;
        self.ring[(number - self.settled_to - 1) as usize] = SETTLED;
        self.unsettled -= 1;
        while self.ring.front() == Some(&SETTLED) {
            self.ring.pop_front();
            self.settled_to += 1;
        }
        Some(offset)
    }

    /// Number and offset of each unsettled delivery.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        (self.settled_to + 1..).zip(self.ring.iter().copied()).filter(|&(_, offset)| offset != SETTLED)
    }

    pub(crate) fn unsettled(&self) -> u64 {
        self.unsettled
    }

    /// Length of the ring, holes included.
    pub(crate) fn span(&self) -> u64 {
        self.ring.len() as u64
    }
}

/// One link.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: LinkId,
    /// Key of its group.
    pub(crate) group: usize,
    pub(crate) name: String,
    pub(crate) incarnation: u64,
    pub(crate) counter: u64,
    pub(crate) event_bytes_max: u64,
    /// The one that it has named, where partitions are fixed.
    pub(crate) partition: Option<u16>,
    pub(crate) allowance: Allowance,
    /// Its index among its group's members.
    pub(crate) member: u16,
    /// What its group counts of it as unused.
    pub(crate) counted: u64,
    /// In its group's list of those that may be sent what waits.
    pub(crate) is_awake: bool,
    /// Its partitions with something to dispatch.
    pub(crate) ready: Ready,
    /// Offsets that it will be sent, in this order.
    pub(crate) assigned: VecDeque<u64>,
    /// What a tap will be sent: the events themselves, since a tap holds nothing in the log.
    pub(crate) tapped: VecDeque<Event>,
    pub(crate) sent: Sent,
    /// Longest ring of `sent`: beyond it nothing is assigned.
    sent_span_max: u64,
    pub(crate) state: LinkState,
    /// When a cancelled link's time to settle is up.
    pub(crate) leaves: Option<Time>,
    /// `Revoke` signals not polled yet: no frame overtakes them.
    revokes: u32,
    /// In `Links::ready`.
    flagged: bool,
}

impl Link {
    pub(crate) fn can_take(&self) -> bool {
        self.allowance.can_take() && self.state == LinkState::Open && self.sent.span() < self.sent_span_max
    }

    /// Deliveries that may still be assigned.
    pub(crate) fn unused(&self) -> u64 {
        if self.can_take() { self.allowance.unused() } else { 0 }
    }

    /// Its unused share of its window; 0 when it can take nothing.
    pub(crate) fn share(&self) -> u64 {
        if self.can_take() { self.allowance.share() } else { 0 }
    }

    /// Whether a frame could be taken now.
    pub(crate) fn has_frame(&self) -> bool {
        self.revokes == 0 && !(self.assigned.is_empty() && self.tapped.is_empty())
    }
}

/// All links of an output.
#[derive(Debug)]
pub(crate) struct Links {
    slab: Slab<Link>,
    /// Makes ids unique though slab keys are used again.
    serial: u32,
    /// For each dead link with left-overs, how many there are.
    ghosts: Slab<u64>,
    /// Links that got something to send.
    flagged: Vec<LinkId>,
    signals: VecDeque<(LinkId, Signal)>,
    sent_span_max: u64,
    /// What all `tapped` hold, at most [`TAPPED_BYTES_MAX`] and one event.
    pub(crate) tapped_bytes: u64,
}

/// What waits for an output's taps, all together, before they miss events: bytes of events and their overhead.
pub const TAPPED_BYTES_MAX: u64 = 1 << 20;

pub(crate) fn tapped_size(event: &Event) -> u64 {
    event.size() + EVENT_OVERHEAD_BYTES
}

impl Links {
    pub(crate) fn new(sent_span_max: u64) -> Self {
        Self {
            slab: Slab::new(),
            serial: 0,
            ghosts: Slab::new(),
            flagged: Vec::new(),
            signals: VecDeque::new(),
            sent_span_max: sent_span_max.max(1),
            tapped_bytes: 0,
        }
    }

    pub(crate) fn open(&mut self, group: usize, subscribe: &Subscribe, window: Window) -> (u16, LinkId) {
        let entry = self.slab.vacant_entry();
        let key = entry.key() as u16;
        let id = LinkId(u64::from(self.serial) << 32 | u64::from(key));
        self.serial = self.serial.wrapping_add(1);
        entry.insert(Link {
            id,
            group,
            name: subscribe.instance.name.clone(),
            incarnation: subscribe.instance.incarnation,
            counter: subscribe.link_counter,
            event_bytes_max: subscribe.event_bytes_max,
            partition: subscribe.partition,
            allowance: Allowance::new(window),
            member: 0,
            counted: 0,
            is_awake: false,
            ready: Ready::default(),
            assigned: VecDeque::new(),
            tapped: VecDeque::new(),
            sent: Sent::default(),
            sent_span_max: self.sent_span_max,
            state: LinkState::Open,
            leaves: None,
            revokes: 0,
            flagged: false,
        });
        (key, id)
    }

    /// Key of a link that has not ended.
    pub(crate) fn find(&self, id: LinkId) -> Option<u16> {
        let key = id.0 as u16;
        self.slab.get(key as usize).filter(|link| link.id == id).map(|_| key)
    }

    pub(crate) fn at(&self, key: u16) -> &Link {
        &self.slab[key as usize]
    }

    pub(crate) fn at_mut(&mut self, key: u16) -> &mut Link {
        &mut self.slab[key as usize]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u16, &Link)> {
        self.slab.iter().map(|(key, link)| (key as u16, link))
    }

    /// Keys of a group's links, cancelled ones included.
    pub(crate) fn of_group(&self, group: usize) -> Vec<u16> {
        self.iter().filter(|(_, link)| link.group == group).map(|(key, _)| key).collect()
    }

    pub(crate) fn remove(&mut self, key: u16) -> Link {
        self.untap(key);
        self.slab.remove(key as usize)
    }

    /// Whether taps may be given more.
    pub(crate) fn can_tap(&self) -> bool {
        self.tapped_bytes < TAPPED_BYTES_MAX
    }

    /// Gives a tap an event.
    pub(crate) fn tap(&mut self, key: u16, event: &Event) {
        let link = self.at_mut(key);
        link.allowance.take(event.size());
        link.tapped.push_back(event.clone());
        self.tapped_bytes += tapped_size(event);
        self.flag(key);
    }

    /// What a tap is sent next.
    pub(crate) fn take_tapped(&mut self, key: u16) -> Option<Event> {
        let event = self.at_mut(key).tapped.pop_front()?;
        self.tapped_bytes -= tapped_size(&event);
        Some(event)
    }

    /// A tap's events go nowhere.
    pub(crate) fn untap(&mut self, key: u16) {
        while self.take_tapped(key).is_some() {}
    }

    /// Ends a link that has been taken out of its group: its peer will be told why.
    pub(crate) fn end(&mut self, key: u16, error: LinkError) {
        let link = self.remove(key);
        self.signals.push_back((link.id, Signal::End(error)));
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    /// Puts a link among those with something to send.
    pub(crate) fn flag(&mut self, key: u16) {
        let link = &mut self.slab[key as usize];
        if !link.flagged {
            link.flagged = true;
            self.flagged.push(link.id);
        }
    }

    pub(crate) fn take_flagged(&mut self) -> Vec<LinkId> {
        let flagged = std::mem::take(&mut self.flagged);
        for &id in &flagged {
            if let Some(key) = self.find(id) {
                self.at_mut(key).flagged = false;
            }
        }
        flagged
    }

    pub(crate) fn revoke(&mut self, key: u16, partitions: Vec<u16>) {
        let link = self.at_mut(key);
        link.revokes += 1;
        let id = link.id;
        self.signals.push_back((id, Signal::Revoke(partitions)));
        self.flag(key);
    }

    /// Tells a cancelled link's task once that nothing of it is unsettled.
    pub(crate) fn drained(&mut self, key: u16) {
        let link = self.at_mut(key);
        if link.state == LinkState::Cancelled && link.sent.unsettled() == 0 {
            link.state = LinkState::Drained;
            let id = link.id;
            self.signals.push_back((id, Signal::Drained));
        }
    }

    pub(crate) fn poll_signal(&mut self) -> Option<(LinkId, Signal)> {
        loop {
            let (id, signal) = self.signals.pop_front()?;
            match (&signal, self.find(id)) {
                (Signal::End(_), _) | (Signal::Drained, Some(_)) => return Some((id, signal)),
                (Signal::Revoke(_), Some(key)) => {
                    let link = self.at_mut(key);
                    link.revokes -= 1;
                    if link.has_frame() {
                        self.flag(key);
                    }
                    return Some((id, signal));
                }
                (Signal::Revoke(_) | Signal::Drained, None) => {}
            }
        }
    }

    /// A dead link's place, until what it left is dispatched again; [`NONE`] when it left nothing, or there are too many.
    pub(crate) fn bury(&mut self, leftovers: u64) -> u16 {
        if leftovers == 0 || self.ghosts.len() >= usize::from(NONE) {
            NONE
        } else {
            self.ghosts.insert(leftovers) as u16
        }
    }

    /// One entry that a dead link left is dispatched again, or needs it no more.
    pub(crate) fn leftover_done(&mut self, ghost: u16) {
        if let Some(left) = self.ghosts.get_mut(ghost as usize) {
            *left -= 1;
            if *left == 0 {
                self.ghosts.remove(ghost as usize);
            }
        }
    }

    /// Dead links with left-overs.
    pub(crate) fn ghosts(&self) -> usize {
        self.ghosts.len()
    }

    /// Left-overs of each dead link, by its ghost: for checks.
    pub(crate) fn leftovers(&self) -> impl Iterator<Item = (u16, u64)> {
        self.ghosts.iter().map(|(ghost, &left)| (ghost as u16, left))
    }
}
