//! Recounts everything that is kept incrementally. For tests: it takes time in proportion to the log.

use std::collections::{BTreeMap, BTreeSet};

use super::Output;
use super::api::{Demand, KeyShare};
use super::entries::{NONE, Place};
use super::group::Group;
use super::keyed::{Keyed, Move};
use super::link::{LinkState, tapped_size};
use crate::message::GroupKind;

impl Output {
    /// What of the core's laws 1, 2, 3, 4 and 7 does not hold. `is_dispatched`: nothing has changed since [`Self::dispatch`],
    /// so law 3 holds too.
    #[doc(hidden)]
    pub fn check(&self, is_dispatched: bool) -> Result<(), String> {
        self.check_log()?;
        self.check_links()?;
        for (_, group) in self.groups.iter().filter(|(_, group)| group.kind != GroupKind::Tap) {
            let check = self.check_places(group).and_then(|()| self.check_queues(group));
            check
                .and_then(|()| self.check_partitions(group))
                .and_then(|()| self.check_credit(group))
                .map_err(|what| format!("group {}: {what}", group.name))?;
            if is_dispatched && self.demand == Demand::Forward {
                self.check_causes(group).map_err(|what| format!("group {}: {what}", group.name))?;
            }
        }
        Ok(())
    }

    fn check_log(&self) -> Result<(), String> {
        let log = &self.shared.log;
        let (mut events, mut bytes, mut unsettled) = (0, 0, 0);
        for (offset, _, holders, waits) in log.iter() {
            let holding = |group: &&Group| {
                let place = group.entries.find(offset).map(|entry| entry.place);
                place.is_some_and(|place| !matches!(place, Place::Settled | Place::Withdrawn))
            };
            let groups = || self.groups.iter().map(|(_, group)| group).filter(holding);
            let required = groups().filter(|group| group.gates).count() as u32;
            let nobody = u32::from(!self.is_gated() && required == 0 && waits > 0);
            ensure(waits == required + nobody, || format!("{offset}: {waits} unsettled, but {required} groups"))?;
            ensure(holders == groups().count() as u32 + nobody, || format!("{offset}: wrong holders {holders}"))?;
            ensure(holders > 0, || format!("{offset}: held for nobody"))?;
            events += 1;
            bytes += log.size(offset);
            unsettled += u64::from(waits > 0);
        }
        ensure((events, bytes) == log.held(), || "held events and bytes are miscounted".into())?;
        ensure(unsettled == log.unsettled(), || "unsettled entries are miscounted".into())?;
        ensure(log.base() == log.end() || log.event(log.base()).is_some(), || "the watermark could be higher".into())?;
        let mut shares: BTreeMap<u16, KeyShare> = BTreeMap::new();
        for event in log.iter().map(|(_, held, ..)| &held.event) {
            if let Some(key) = event.key {
                let share = shares.entry(key.partition()).or_default();
                share.events += 1;
                share.bytes += event.size();
                ensure(share.events <= log.key_share(key).events, || "a key's share is miscounted".into())?;
            }
        }
        for event in log.iter().map(|(_, held, ..)| &held.event) {
            let wrong = event.key.is_some_and(|key| shares.get(&key.partition()) != Some(&log.key_share(key)));
            ensure(!wrong, || "a key's share is miscounted".into())?;
        }
        Ok(())
    }

    fn check_links(&self) -> Result<(), String> {
        let log = &self.shared.log;
        for (key, link) in self.shared.links.iter() {
            let [granted, assigned, sent] = link.allowance.totals();
            ensure(assigned.events <= granted.events, || format!("link {key}: more events than credit"))?;
            let largest = link.assigned.iter().map(|&offset| log.size(offset)).max().unwrap_or(0);
            let over = assigned.bytes.saturating_sub(granted.bytes);
            ensure(over == 0 || link.assigned.is_empty() || over < largest.max(1), || {
                format!("link {key}: over by {over}")
            })?;
            let waiting = link.assigned.len() + link.tapped.len();
            ensure(assigned.events - sent.events == waiting as u64, || format!("link {key}: demand lost or made"))?;
            let tapped: u64 = link.tapped.iter().map(crate::Event::size).sum();
            let bytes = link.assigned.iter().map(|&offset| log.size(offset)).sum::<u64>() + tapped;
            ensure(assigned.bytes - sent.bytes == bytes, || format!("link {key}: bytes lost or made"))?;
            ensure(link.sent.unsettled() == link.sent.iter().count() as u64, || {
                format!("link {key}: unsettled miscounted")
            })?;
            let is_member = self.groups[link.group].members.contains(&key);
            ensure(is_member == (link.state == LinkState::Open), || format!("link {key}: wrongly (no) member"))?;
        }
        let tapped = self.shared.links.iter().flat_map(|(_, link)| &link.tapped).map(tapped_size).sum::<u64>();
        ensure(tapped == self.shared.links.tapped_bytes, || "what taps hold is miscounted".into())?;
        let left = self.groups.iter().flat_map(|(_, group)| group.entries.iter());
        let left =
            left.filter(|(_, entry)| matches!(entry.place, Place::Waiting | Place::Parked) && entry.link != NONE);
        let mut leftovers: BTreeMap<u16, u64> = BTreeMap::new();
        for (_, entry) in left {
            *leftovers.entry(entry.link).or_default() += 1;
        }
        ensure(self.shared.links.leftovers().eq(leftovers), || "left-overs of dead links are miscounted".into())
    }

    /// Law 1: each entry is in one place, and the other side of that place knows it.
    fn check_places(&self, group: &Group) -> Result<(), String> {
        let mut assigned: Vec<(u64, u16)> = Vec::new();
        let mut sent: Vec<(u64, u16)> = Vec::new();
        for (key, link) in self.shared.links.iter().filter(|(_, link)| link.group == group.key) {
            assigned.extend(link.assigned.iter().map(|&offset| (offset, key)));
            sent.extend(link.sent.iter().map(|(_, offset)| (offset, key)));
        }
        assigned.sort_unstable();
        sent.sort_unstable();
        let on = |place| group.entries.iter().filter(move |(_, entry)| entry.place == place);
        ensure(on(Place::Assigned).map(|(offset, entry)| (offset, entry.link)).eq(assigned), || {
            "assigned entries differ".into()
        })?;
        ensure(on(Place::Sent).map(|(offset, entry)| (offset, entry.link)).eq(sent), || "sent entries differ".into())?;
        let mut waiting: Vec<u64> = group.keyless.iter().copied().collect();
        let mut parked = Vec::new();
        if let Some(keyed) = &group.keyed {
            let lists = self.busy(group, keyed).into_iter().map(|partition| keyed.at(partition).waiting);
            waiting.extend(lists.flat_map(|list| list.iter(&group.entries)));
            parked.extend(keyed.parked.values().flatten().copied());
        }
        waiting.sort_unstable();
        parked.sort_unstable();
        ensure(on(Place::Waiting).map(|(offset, _)| offset).eq(waiting.iter().copied()), || {
            "waiting entries differ".into()
        })?;
        ensure(on(Place::Parked).map(|(offset, _)| offset).eq(parked.iter().copied()), || {
            "parked entries differ".into()
        })?;
        let fresh: Vec<u64> = on(Place::Fresh).map(|(offset, _)| offset).collect();
        ensure(fresh.first().is_none_or(|&first| first >= group.cursor), || "fresh before the cursor".into())?;
        for (offset, entry) in group.entries.iter() {
            let done = matches!(entry.place, Place::Settled | Place::Withdrawn);
            ensure(done || self.shared.log.event(offset).is_some(), || format!("{offset}: freed too early"))?;
        }
        let undispatched = waiting.len() + parked.len() + fresh.len();
        ensure(undispatched as u64 == group.undispatched, || "undispatched entries are miscounted".into())?;
        let base = group.entries.base();
        ensure(group.entries.end() == self.shared.log.end() && base >= self.shared.log.base(), || {
            "ring and log differ".into()
        })
    }

    /// Partitions that may have anything; now and then all, to find what should have nothing.
    fn busy(&self, group: &Group, keyed: &Keyed) -> BTreeSet<u16> {
        if self.shared.log.end() % 64 == 63 {
            return (0..keyed.partitions.len() as u16).collect();
        }
        let ready = group.members.iter().flat_map(|&link| self.shared.links.at(link).ready.iter());
        let mut busy: BTreeSet<u16> =
            ready.map(|(_, partition)| partition).chain(keyed.parked.keys().copied()).collect();
        busy.extend(group.entries.iter().filter_map(|(offset, _)| group.partition(&self.shared.log, offset)));
        busy
    }

    /// What is kept of the members' credit.
    fn check_credit(&self, group: &Group) -> Result<(), String> {
        let members = || group.members.iter().map(|&link| (link, self.shared.links.at(link)));
        ensure(group.unused == members().map(|(_, link)| link.unused()).sum(), || {
            "unused credit is miscounted".into()
        })?;
        ensure(group.hungry == members().filter(|(_, link)| link.can_take()).count(), || {
            "hungry are miscounted".into()
        })?;
        for (index, (key, link)) in members().enumerate() {
            let (kept, share) = (group.shares.at(index), link.share());
            ensure(usize::from(link.member) == index && link.counted == link.unused(), || {
                format!("link {key} is not kept")
            })?;
            ensure(kept >= share && (kept > 0) == (share > 0), || {
                format!("link {key}: share {share} is kept as {kept}")
            })?;
            let is_awake = group.keyed.as_ref().is_some_and(|keyed| keyed.awake.contains(&key));
            ensure(is_awake == link.is_awake, || format!("link {key}: awake or not"))?;
            ensure(is_awake || !link.can_take() || link.ready.first().is_none(), || format!("link {key} sleeps"))?;
        }
        let stray = |link: &&u16| !group.members.contains(link);
        let stray = group.keyed.as_ref().and_then(|keyed| keyed.awake.iter().find(stray));
        ensure(stray.is_none(), || format!("{stray:?} is awake, but no member"))
    }

    /// Lists ascend, and what was released comes before what is newer.
    fn check_queues(&self, group: &Group) -> Result<(), String> {
        let ascends = |list: &[u64]| list.is_sorted_by(|a, b| a < b);
        let Some(keyed) = &group.keyed else { return Ok(()) };
        for partition in self.busy(group, keyed) {
            let at = keyed.at(partition);
            let waiting: Vec<u64> = at.waiting.iter(&group.entries).collect();
            ensure(ascends(&waiting), || format!("partition {partition} out of order {waiting:?}"))?;
            let strays = waiting.iter().any(|&offset| group.partition(&self.shared.log, offset) != Some(partition));
            ensure(!strays, || format!("partition {partition} has another's entries"))?;
        }
        Ok(())
    }

    fn check_partitions(&self, group: &Group) -> Result<(), String> {
        let Some(keyed) = &group.keyed else { return Ok(()) };
        let mut held: BTreeMap<u16, (u16, u32)> = BTreeMap::new();
        for (offset, entry) in
            group.entries.iter().filter(|(_, entry)| matches!(entry.place, Place::Assigned | Place::Sent))
        {
            if let Some(partition) = group.partition(&self.shared.log, offset) {
                let at = held.entry(partition).or_insert((entry.link, 0));
                ensure(at.0 == entry.link, || format!("partition {partition} on two links"))?;
                at.1 += 1;
            }
        }
        let mut ready = Vec::new();
        for partition in self.busy(group, keyed) {
            let at = keyed.at(partition);
            let (holder, count) = held.get(&partition).copied().unwrap_or((NONE, 0));
            ensure((at.holder, at.held) == (holder, count), || format!("partition {partition}: held miscounted"))?;
            ensure(at.owner == keyed.owners.owner(partition), || format!("partition {partition}: not its owner's"))?;
            let settled = at.moving == Move::No;
            ensure(count > 0 || settled, || format!("partition {partition} moves though nothing holds it"))?;
            ensure(count == 0 || !settled || holder == at.owner, || {
                format!("partition {partition} is not moving, but should")
            })?;
            ensure(!settled || !keyed.parked.contains_key(&partition), || {
                format!("partition {partition}: parked for ever")
            })?;
            if let (Some(first), true, true) = (at.waiting.first(), settled, at.owner != NONE) {
                ready.push((at.owner, first, partition));
            }
        }
        let of = |&link: &u16| {
            self.shared.links.at(link).ready.iter().map(move |(first, partition)| (link, first, partition))
        };
        let mut found: Vec<_> = group.members.iter().flat_map(of).collect();
        found.sort_unstable();
        ready.sort_unstable();
        ensure(ready == found, || format!("heaps {found:?}, but ready are {ready:?}"))
    }

    /// Law 3: what is undispatched has a cause.
    fn check_causes(&self, group: &Group) -> Result<(), String> {
        let has_credit = |link: u16| self.shared.links.at(link).can_take();
        let anyone = group.members.iter().any(|&link| has_credit(link));
        for (offset, entry) in group.entries.iter() {
            let keyed = group.keyed.as_ref().zip(group.partition(&self.shared.log, offset));
            let caused = match (entry.place, keyed) {
                (Place::Assigned | Place::Sent | Place::Settled | Place::Withdrawn, _) => true,
                (Place::Parked, Some((keyed, partition))) => keyed.at(partition).moving != Move::No,
                (Place::Fresh | Place::Waiting, Some((keyed, partition))) => {
                    keyed.receiver(partition).is_none_or(|link| !has_credit(link))
                }
                (Place::Fresh | Place::Waiting | Place::Parked, None) => !anyone || group.custom.is_some(),
            };
            ensure(caused, || format!("{offset} is undispatched for no reason: {entry:?}"))?;
        }
        Ok(())
    }
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}
