//! Members come, go, and hand partitions over.

use std::collections::{BTreeMap, BTreeSet};

use super::entries::NONE;
use super::group::{Group, Shared};
use super::keyed::Move;
use super::link::{LinkState, Links};
use crate::time::Time;

impl Group {
    /// An open link takes part in the dispatch.
    pub(crate) fn join(&mut self, now: Time, shared: &mut Shared, link: u16, handover_ms: u64) {
        self.expires = None;
        self.members.push(link);
        self.count_members(&mut shared.links);
        self.limit_events(shared);
        if let Some(custom) = self.custom.as_mut() {
            custom.join(&shared.links, link);
        }
        if let Some(keyed) = self.keyed.as_mut() {
            let joining = shared.links.at(link);
            let gained = match joining.partition {
                Some(partition) => keyed.owners.claim(partition, link),
                None => keyed.owners.join(&joining.name, link),
            };
            self.move_partitions(now.after(handover_ms), shared, &gained);
        }
    }

    /// A link that is no longer open takes part no more; what it was sent stays with it.
    pub(crate) fn leave(&mut self, now: Time, shared: &mut Shared, link: u16, handover_ms: u64) {
        let Some(index) = self.members.iter().position(|&member| member == link) else { return };
        self.members.remove(index);
        if index < self.turn {
            self.turn -= 1;
        }
        self.unused -= std::mem::take(&mut shared.links.at_mut(link).counted);
        self.count_members(&mut shared.links);
        self.limit_events(shared);
        self.take_back(shared, link, |_, _, _| false);
        if let Some(custom) = self.custom.as_mut() {
            custom.leave(shared.links.at(link).id);
        }
        if let Some(keyed) = self.keyed.as_mut() {
            // Nobody inherits a partition that its member has named.
            let others = if keyed.is_fixed { &[][..] } else { &self.members };
            let others: Vec<(&str, u16)> =
                others.iter().map(|&member| (shared.links.at(member).name.as_str(), member)).collect();
            let lost = keyed.owners.leave(link, &others);
            self.move_partitions(now.after(handover_ms), shared, &lost);
        }
        if let Some(keyed) = self.keyed.as_mut() {
            shared.links.at_mut(link).is_awake = false;
            keyed.awake.retain(|&awake| awake != link);
        }
    }

    /// Members have come or gone.
    fn count_members(&mut self, links: &mut Links) {
        for (index, &link) in (0..).zip(&self.members) {
            links.at_mut(link).member = index;
        }
        self.shares.reset(self.members.iter().map(|&link| links.at(link).share()));
        self.hungry = self.members.iter().filter(|&&link| links.at(link).can_take()).count();
    }

    /// A member's ring of deliveries has grown or shrunk: at its limit it can take nothing.
    pub(crate) fn recount_if_changed(&mut self, links: &mut Links, link: u16) {
        let member = links.at(link);
        if member.unused() != member.counted {
            self.recount(links, link);
        }
    }

    /// A member may have more or less credit than before.
    pub(crate) fn recount(&mut self, links: &mut Links, link: u16) {
        let member = links.at_mut(link);
        if member.state != LinkState::Open {
            return;
        }
        let (before, now) = (member.counted, member.unused());
        member.counted = now;
        self.shares.set(usize::from(member.member), member.share());
        self.unused = self.unused + now - before;
        self.hungry = self.hungry + usize::from(now > 0) - usize::from(before > 0);
        if let Some(keyed) = self.keyed.as_mut().filter(|_| now > 0) {
            keyed.wake(links, link);
        }
    }

    fn limit_events(&mut self, shared: &Shared) {
        let limits = self.members.iter().map(|&member| shared.links.at(member).event_bytes_max);
        self.event_bytes_max = limits.min().unwrap_or(u64::MAX);
    }

    /// Brings partitions to the owners that the table gives them: at once where the old one holds nothing that was sent,
    /// else when it has handed over.
    fn move_partitions(&mut self, deadline: Time, shared: &mut Shared, changed: &[u16]) {
        let Some(keyed) = self.keyed.as_mut() else { return };
        for &partition in changed {
            keyed.reassign(&mut shared.links, partition);
        }
        for link in self.members.clone() {
            self.take_back(shared, link, |group, log, offset| {
                let keyed = group.keyed.as_ref().zip(group.partition(log, offset));
                keyed.is_none_or(|(keyed, partition)| keyed.at(partition).owner == link)
            });
        }
        let Some(keyed) = self.keyed.as_mut() else { return };
        let mut revoked: BTreeMap<u16, Vec<u16>> = BTreeMap::new();
        for &partition in changed {
            let at = keyed.at_mut(partition);
            if at.held > 0 && at.holder != at.owner && at.moving == Move::No {
                at.moving = match shared.links.at(at.holder).state {
                    LinkState::Open => {
                        revoked.entry(at.holder).or_default().push(partition);
                        Move::Revoked(deadline)
                    }
                    LinkState::Cancelled | LinkState::Drained => Move::Leaving,
                };
            }
            keyed.refresh(&mut shared.links, partition);
        }
        for (link, partitions) in revoked {
            self.handover_next = Some(self.handover_next.map_or(deadline, |next| next.min(deadline)));
            shared.links.revoke(link, partitions);
        }
    }

    /// Whether a member may release a delivery of this entry: it was revoked, or the member leaves.
    pub(crate) fn may_release(&self, shared: &Shared, link: u16, offset: u64) -> bool {
        let moving = self.partition(&shared.log, offset).zip(self.keyed.as_ref());
        shared.links.at(link).state != LinkState::Open
            || moving.is_some_and(|(partition, keyed)| keyed.at(partition).moving != Move::No)
    }

    /// Releases all that a link was sent and has not settled. How many entries that were.
    pub(crate) fn release_all(&mut self, shared: &mut Shared, link: u16, is_dead: bool) {
        let sent: Vec<(u64, u64)> = shared.links.at(link).sent.iter().collect();
        let ghost = if is_dead { shared.links.bury(sent.len() as u64) } else { NONE };
        for (number, offset) in sent {
            shared.links.at_mut(link).sent.settle(number);
            self.release(shared, offset, ghost);
        }
    }

    /// Releases what old owners have kept of revoked partitions past their time.
    pub(crate) fn end_handovers(&mut self, now: Time, shared: &mut Shared) {
        if self.handover_next.is_none_or(|next| next > now) {
            return;
        }
        self.handover_next = None;
        let Some(keyed) = self.keyed.as_ref() else { return };
        let mut due = BTreeSet::new();
        for at in &keyed.partitions {
            match at.moving {
                Move::Revoked(deadline) if deadline <= now => {
                    due.insert(at.holder);
                }
                Move::Revoked(deadline) => {
                    self.handover_next = Some(self.handover_next.map_or(deadline, |next| next.min(deadline)));
                }
                Move::No | Move::Leaving => {}
            }
        }
        for link in due {
            let sent: Vec<(u64, u64)> = shared.links.at(link).sent.iter().collect();
            for (number, offset) in sent {
                let over = self.partition(&shared.log, offset).zip(self.keyed.as_ref()).is_some_and(|(partition, keyed)| {
                    matches!(keyed.at(partition).moving, Move::Revoked(deadline) if deadline <= now)
                });
                if over {
                    shared.links.at_mut(link).sent.settle(number);
                    self.release(shared, offset, NONE);
                }
            }
            self.recount(&mut shared.links, link);
            shared.links.drained(link);
        }
    }
}
