//! From a link's frame to the settlement of its entries; withdrawal; time-outs.

use std::collections::BTreeSet;
use std::ops::Range;

use super::Output;
use super::api::GroupWaiting;
use super::api::{LinkId, Offset};
use super::entries::Place;
use super::group::{Group, Shared};
use super::link::Links;
use crate::event::Event;
use crate::message::{Delivery, Disposition, LinkError, Settled};
use crate::time::Time;

impl Output {
    /// Settles deliveries. What is settled already stays as it was.
    ///
    /// # Errors
    /// A violation for numbers that were never sent, and for a release of what was not revoked. Then the caller closes the
    /// link; what the disposition said before the breach holds.
    pub fn dispose(&mut self, link: LinkId, disposition: &Disposition) -> Result<(), LinkError> {
        let Some(key) = self.shared.links.find(link) else { return Ok(()) };
        let Disposition { first, last, state } = disposition;
        let sent = self.shared.links.at(key).allowance.last_sent();
        if *first == 0 || first > last || *last > sent {
            return Err(LinkError::Violation(format!(
                "disposition of {first}-{last}, but the last delivery is {sent}"
            )));
        }
        let Some(group) = self.groups.get_mut(self.shared.links.at(key).group) else { return Ok(()) };
        for number in self.shared.links.at(key).sent.clip(*first, *last) {
            let Some(offset) = self.shared.links.at(key).sent.find(number) else { continue };
            match state {
                Settled::Outcome(outcome) => {
                    self.shared.links.at_mut(key).sent.settle(number);
                    group.settle(&mut self.shared, offset, outcome.clone());
                }
                Settled::Released if group.may_release(&self.shared, key, offset) => {
                    self.shared.links.at_mut(key).sent.settle(number);
                    group.release(&mut self.shared, offset, super::entries::NONE);
                }
                Settled::Released => {
                    return Err(LinkError::Violation(format!("delivery {number} released, but it was not revoked")));
                }
            }
        }
        group.recount_if_changed(&mut self.shared.links, key);
        self.shared.links.drained(key);
        Ok(())
    }

    /// Takes entries back, all or none: only if all are in the log, unsettled, and none was ever sent to a group's member
    /// (taps don't count: they only look). They are freed, and not reported by [`Self::poll_settled`].
    pub fn withdraw(&mut self, offsets: Range<Offset>) -> bool {
        let offsets = offsets.start.0..offsets.end.0;
        if !offsets.clone().all(|offset| self.shared.log.can_withdraw(offset)) {
            return false;
        }
        for (_, group) in &mut self.groups {
            let on_link = |offset| group.entries.find(offset).filter(|entry| entry.place == Place::Assigned);
            let links: BTreeSet<u16> = offsets.clone().filter_map(on_link).map(|entry| entry.link).collect();
            for link in links {
                group.take_back(&mut self.shared, link, |_, _, offset| !offsets.contains(&offset));
            }
            for offset in offsets.clone() {
                group.withdraw(&mut self.shared, offset);
            }
        }
        for offset in offsets {
            self.shared.log.withdraw(offset);
        }
        true
    }

    /// Time-outs of hand-overs and drains, and the end of attached groups without members. Returns when it wants to be called
    /// next.
    pub fn tick(&mut self, now: Time) -> Option<Time> {
        let mut next = self.end_drains(now);
        let mut expired = Vec::new();
        for (key, group) in &mut self.groups {
            group.end_handovers(now, &mut self.shared);
            if group.expires.is_some_and(|expires| expires <= now) {
                expired.push(key);
                continue;
            }
            for wanted in [group.handover_next, group.expires].into_iter().flatten() {
                next = Some(next.map_or(wanted, |next| next.min(wanted)));
            }
        }
        for key in expired {
            self.groups.remove(key).dissolve(&mut self.shared);
        }
        next
    }
}

impl Group {
    /// Hands out what is assigned to a link, numbered.
    pub(crate) fn hand_out(&mut self, shared: &mut Shared, link: u16, bytes_max: u64) -> Vec<Delivery> {
        let fits = |deliveries: &[Delivery], bytes: u64| deliveries.is_empty() || bytes <= bytes_max;
        let (mut deliveries, mut bytes) = (Vec::new(), 0);
        while let Some(size) = shared.links.at(link).tapped.front().map(Event::size) {
            bytes += size;
            if !fits(&deliveries, bytes) {
                return deliveries;
            }
            let Some(event) = shared.links.take_tapped(link) else { break };
            let number = shared.links.at_mut(link).allowance.hand_out(size);
            deliveries.push(Delivery { number, event });
        }
        let Shared { log, links } = shared;
        let to = links.at_mut(link);
        deliveries.reserve(to.assigned.len().min(1024));
        while let Some(held) = to.assigned.front().and_then(|&offset| log.find_mut(offset)) {
            let size = held.event.size();
            bytes += size;
            if !fits(&deliveries, bytes) {
                break;
            }
            held.sent = true;
            let mut event = held.event.clone();
            let Some(offset) = to.assigned.pop_front() else { break };
            let entry = self.entries.at_mut(offset);
            entry.place = Place::Sent;
            event.attempt = event.attempt.saturating_add(u32::from(entry.again));
            to.sent.push(offset);
            let number = to.allowance.hand_out(size);
            deliveries.push(Delivery { number, event });
        }
        deliveries
    }

    /// Offers an event to a tap's neediest member. False: none could take it.
    pub(crate) fn tap(&mut self, links: &mut Links, event: &Event) -> bool {
        if !links.can_tap() {
            return false;
        }
        let takers = self.members.iter().copied().filter(|&link| {
            let link = links.at(link);
            link.can_take() && link.event_bytes_max >= event.size()
        });
        let Some(link) = takers.max_by_key(|&link| links.at(link).allowance.share()) else { return false };
        links.tap(link, event);
        self.recount(links, link);
        true
    }

    /// Events that the group asks for, and that nobody has brought yet.
    pub(crate) fn demand(&self) -> u64 {
        let asked = self.custom.as_ref().map_or(self.unused, |custom| custom.demand(self.unused));
        asked.saturating_sub(self.undispatched)
    }

    /// Backlog and demand.
    pub(crate) fn waiting(&self) -> GroupWaiting {
        GroupWaiting {
            name: self.name.clone(),
            undispatched: self.undispatched,
            unused_credit: self.unused,
            dispatched: self.dispatched,
            redispatched: self.redispatched,
            last_dispatch: self.last_dispatch,
            members: self.members.len(),
        }
    }
}
