//! Links come and go.

use super::Output;
use super::api::{Dispatch, LinkId, OutputConfig};
use super::entries::NONE;
use super::group::Group;
use super::link::{Link, LinkState};
use crate::message::{Credit, GroupKind, LinkError, Subscribe, Window};
use crate::time::Time;

/// Longest name of an instance or a group in bytes.
const NAME_BYTES_MAX: usize = 253;

/// Most links, whatever the configuration says: keys of links have 16 bits.
const LINKS_MAX: usize = 65_000;

impl Output {
    /// Opens a link. Everything is checked before anything changes. A window larger than the log's capacity is cut to it:
    /// [`Self::window`] says what holds.
    ///
    /// Of two links of one instance in a group the greater incarnation stays, and of one incarnation the higher link counter;
    /// the other is ended with [`super::Signal::End`], or refused. A dead link counts as one of [`super::OutputConfig::links_max`]
    /// until all that it left is dispatched again; but that never keeps out the first live member of a group, since then
    /// nobody could take the left-overs. Where all places are taken, the last tap is ended for whoever is none.
    ///
    /// The first member of a group decides on its selector, for as long as there are members.
    ///
    /// # Errors
    /// `Violation` for a window of 0 or a bad name, `UnknownGroup`, `Selector`, `Partition`, `Fenced`, `Replaced`, `Limit`.
    pub fn subscribe(&mut self, now: Time, subscribe: &Subscribe) -> Result<LinkId, LinkError> {
        check(subscribe)?;
        let is_meant = |group: &Group| group.kind == subscribe.kind && group.name == subscribe.group && !group.has_left;
        let group = self.groups.iter().find(|(_, group)| is_meant(group)).map(|(key, _)| key);
        if group.is_none() && subscribe.kind == GroupKind::Required {
            return Err(LinkError::UnknownGroup(subscribe.group.clone()));
        }
        let rival = self.rival(group, subscribe)?;
        let tap = self.check_limits(group, subscribe.kind, rival.is_some())?;
        let is_other =
            |link: &Link, key| Some(link.group) == group && rival.as_ref().is_none_or(|(rival, _)| *rival != key);
        let others = self.shared.links.iter().any(|(key, link)| is_other(link, key));
        let selector = self.selector(group, others, subscribe)?;
        if let Some(group) = group {
            let rival = rival.as_ref().map(|(rival, _)| *rival);
            self.check_partition(&self.groups[group], rival, subscribe.partition)?;
        } else if subscribe.partition.is_some() {
            return Err(LinkError::Partition(format!("none is fixed in group {}", subscribe.group)));
        }
        if let Some(tap) = tap {
            let group = self.shared.links.at(tap).group;
            self.release_link(now, tap);
            self.shared.links.end(tap, LinkError::Limit("a consumer takes this tap's place".into()));
            self.left(now, group);
        }
        // The group is made first: it must not end with the link that is replaced.
        let group = group.unwrap_or_else(|| self.add_group(subscribe.kind, &subscribe.group));
        let (link, id) = self.shared.links.open(group, subscribe, self.holding(subscribe.window));
        if let Some((rival, error)) = rival {
            self.release_link(now, rival);
            self.shared.links.end(rival, error);
        }
        if !others {
            self.groups[group].select(&mut self.shared, selector);
        }
        self.groups[group].join(now, &mut self.shared, link, self.config.handover_ms);
        Ok(id)
    }

    /// What holds of a wanted window: more than the log's capacity is never unprocessed on one link.
    fn holding(&self, wanted: Window) -> Window {
        let OutputConfig { capacity_events, capacity_bytes, .. } = self.config;
        Window { events: wanted.events.min(capacity_events.max(1)), bytes: wanted.bytes.min(capacity_bytes.max(1)) }
    }

    /// The older link of the same instance that a new one would end, and with what.
    fn rival(&self, group: Option<usize>, subscribe: &Subscribe) -> Result<Option<(u16, LinkError)>, LinkError> {
        let instance = &subscribe.instance;
        let mut links = self.shared.links.iter();
        let Some((key, rival)) = links.find(|(_, link)| Some(link.group) == group && link.name == instance.name) else {
            return Ok(None);
        };
        let fenced = || LinkError::Fenced(instance.name.clone());
        match rival.incarnation.cmp(&instance.incarnation) {
            std::cmp::Ordering::Less => Ok(Some((key, fenced()))),
            std::cmp::Ordering::Equal if rival.counter < subscribe.link_counter => Ok(Some((key, LinkError::Replaced))),
            std::cmp::Ordering::Equal => Err(LinkError::Replaced),
            std::cmp::Ordering::Greater => Err(fenced()),
        }
    }

    /// Whether there is a place for one more; the tap that makes room for it, where one must.
    fn check_limits(&self, group: Option<usize>, kind: GroupKind, replaces: bool) -> Result<Option<u16>, LinkError> {
        let (max, links) = (self.config.links_max.min(LINKS_MAX), &self.shared.links);
        let replaced = usize::from(replaces);
        // Nobody else can take what waits in a fixed partition.
        let shares = |group: &usize| self.groups[*group].keyed.as_ref().is_none_or(|keyed| !keyed.is_fixed);
        let others = group.filter(shares).map_or(0, |group| self.groups[group].members.len()).saturating_sub(replaced);
        let ghosts = if others > 0 { links.ghosts() } else { 0 };
        let made = if group.is_none() { self.groups.len() - self.config.groups.len() } else { 0 };
        let fits = |gone: usize| links.len() - replaced - gone + ghosts < max && made.saturating_sub(gone) < max;
        if fits(0) {
            return Ok(None);
        }
        let is_tap = |link: &Link| self.groups[link.group].kind == GroupKind::Tap;
        let last = links.iter().filter(|(_, link)| is_tap(link)).max_by_key(|(_, link)| link.id);
        match last {
            Some((tap, _)) if kind != GroupKind::Tap && fits(1) => Ok(Some(tap)),
            Some(_) | None if made >= max => Err(LinkError::Limit(format!("{max} attached groups and taps"))),
            Some(_) | None => {
                Err(LinkError::Limit(format!("{max} links, {} of them dead with left-overs", links.ghosts())))
            }
        }
    }

    /// The partition that a subscription names, exactly where partitions are fixed, must be one of the group's, and free.
    fn check_partition(&self, group: &Group, rival: Option<u16>, wanted: Option<u16>) -> Result<(), LinkError> {
        let keyed = group.keyed.as_ref().filter(|keyed| keyed.is_fixed);
        let refuse = |what: &str| Err(LinkError::Partition(format!("{what} in group {}", group.name)));
        match (keyed, wanted) {
            (None, None) => Ok(()),
            (None, Some(_)) => refuse("none is fixed"),
            (Some(_), None) => refuse("each member names one"),
            (Some(keyed), Some(partition)) => match keyed.partitions.get(usize::from(partition)) {
                None => refuse(&format!("no {partition}, but 0 to {},", keyed.partitions.len() - 1)),
                Some(_) => match keyed.owners.owner(partition) {
                    owner if owner == NONE || Some(owner) == rival => Ok(()),
                    owner => refuse(&format!("{partition} is {}'s", self.shared.links.at(owner).name)),
                },
            },
        }
    }

    fn add_group(&mut self, kind: GroupKind, name: &str) -> usize {
        let gates = self.config.broadcast && kind == GroupKind::Attached;
        let is_first = gates && !self.is_gated();
        let entry = self.groups.vacant_entry();
        let key = entry.key();
        let group = entry.insert(Group::new(key, name, kind, &Dispatch::Keyed, self.shared.log.end()));
        group.gates = gates;
        if is_first {
            self.take_over(key);
        }
        key
    }

    /// Raises a link's limits; a repeated or lower one changes nothing.
    ///
    /// # Errors
    /// A violation for more than the window beyond what was sent: the consumer can't have processed more. Then the caller
    /// closes the link.
    pub fn credit(&mut self, link: LinkId, credit: Credit) -> Result<(), LinkError> {
        let Some(key) = self.shared.links.find(link) else { return Ok(()) };
        let to = self.shared.links.at_mut(key);
        to.allowance.grant(credit).map_err(|excess| LinkError::Violation(excess.to_string()))?;
        let (group, unused) = (to.group, to.unused());
        let group = &mut self.groups[group];
        group.recount(&mut self.shared.links, key);
        if let Some(custom) = group.custom.as_mut() {
            custom.ask(link, unused);
        }
        Ok(())
    }

    /// No more deliveries. Until `until` dispositions go on, and partitions move as they empty; then [`Self::tick`] releases
    /// the rest. Without it, or once it has passed, all that is unsettled is released at once. A repeated call can only
    /// bring the end nearer. [`super::Signal::Drained`] says when nothing is unsettled.
    pub fn cancel(&mut self, now: Time, link: LinkId, until: Option<Time>) {
        let Some(key) = self.shared.links.find(link) else { return };
        self.stop_link(now, key);
        let (until, link) = (until.unwrap_or(now), self.shared.links.at_mut(key));
        let group = link.group;
        link.leaves = Some(link.leaves.map_or(until, |leaves| leaves.min(until)));
        self.leave_broadcast(group);
        self.end_drains(now);
        self.shared.links.drained(key);
    }

    /// Releases what cancelled links have not settled in their time. When the next one's time is up.
    pub(super) fn end_drains(&mut self, now: Time) -> Option<Time> {
        let leaving = self.shared.links.iter().filter(|(_, link)| link.state == LinkState::Cancelled);
        let leaving: Vec<_> = leaving.filter_map(|(key, link)| Some((key, link.group, link.leaves?))).collect();
        let mut next: Option<Time> = None;
        for (key, group, leaves) in leaving {
            if leaves <= now {
                self.groups[group].release_all(&mut self.shared, key, false);
                self.shared.links.drained(key);
            } else {
                next = Some(next.map_or(leaves, |next| next.min(leaves)));
            }
        }
        next
    }

    /// The stream is gone: releases what was unsettled.
    pub fn close(&mut self, now: Time, link: LinkId) {
        let Some(key) = self.shared.links.find(link) else { return };
        let group = self.shared.links.at(key).group;
        self.release_link(now, key);
        self.leave_broadcast(group);
        self.shared.links.remove(key);
        self.left(now, group);
    }

    /// A link of a group is gone, and with the last one perhaps the group.
    fn left(&mut self, now: Time, group: usize) {
        if self.shared.links.iter().any(|(_, link)| link.group == group) {
            return;
        }
        match self.groups[group].kind {
            GroupKind::Required => {}
            GroupKind::Attached if self.groups[group].gates => {
                self.groups.remove(group);
            }
            GroupKind::Attached => self.groups[group].expires = Some(now.after(self.config.attached_ttl_ms)),
            GroupKind::Tap => {
                self.groups.remove(group);
            }
        }
    }

    /// Takes a link out of its group's dispatch.
    fn stop_link(&mut self, now: Time, key: u16) {
        let link = self.shared.links.at_mut(key);
        if link.state == LinkState::Open {
            link.state = LinkState::Cancelled;
            let group = link.group;
            self.shared.links.untap(key);
            self.groups[group].leave(now, &mut self.shared, key, self.config.handover_ms);
        }
    }

    /// Takes a link out of its group, with all that it had.
    fn release_link(&mut self, now: Time, key: u16) {
        self.stop_link(now, key);
        let group = self.shared.links.at(key).group;
        self.groups[group].release_all(&mut self.shared, key, true);
    }
}

fn check(subscribe: &Subscribe) -> Result<(), LinkError> {
    let named = |name: &str| (1..=NAME_BYTES_MAX).contains(&name.len());
    if subscribe.window.events == 0 || subscribe.window.bytes == 0 {
        return Err(LinkError::Violation("window of 0 events or bytes".into()));
    }
    let selector = subscribe.selector.as_deref();
    if !named(&subscribe.instance.name) || !named(&subscribe.group) || !selector.is_none_or(named) {
        return Err(LinkError::Violation(format!(
            "names of instance, group and selector have 1 to {NAME_BYTES_MAX} bytes"
        )));
    }
    Ok(())
}
