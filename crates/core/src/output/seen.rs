//! What an output shows of itself: its groups and links, for whoever looks from outside.

use super::Output;
use super::api::{KeyShare, LinkId};
use super::group::Group;
use super::link::{Link, LinkState, Links};
use crate::message::{Credit, GroupKind, Window};
use crate::time::Time;

/// A group and its links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSeen {
    /// The consumer stage's name.
    pub name: String,
    /// How it takes part.
    pub kind: GroupKind,
    /// Its events that are on no link.
    pub undispatched: u64,
    /// Dispatches since the start, repeated ones included.
    pub dispatched: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of them, those that were repeated.
    pub redispatched: u64,
    /// When the last dispatch was.
    pub last_dispatch: Option<Time>,
    /// All of them, cancelled ones included.
    pub links: Vec<LinkSeen>,
}

/// One link: all counts are cumulative since it opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkSeen {
    /// Never used twice by an output.
    pub id: LinkId,
    /// The consumer's.
    pub instance: String,
    /// The one that holds.
    pub window: Window,
    /// What the consumer has allowed.
    pub granted: Credit,
    /// What of it is used.
    pub assigned: Credit,
    /// Deliveries that were handed out.
    pub sent: Credit,
    /// Of them, those without a disposition.
    pub unsettled: u64,
    /// It gets nothing more.
    pub is_cancelled: bool,
}

impl Output {
    /// All groups, required ones first.
    pub fn seen(&self) -> Vec<GroupSeen> {
        self.groups.iter().map(|(key, group)| group.seen(key, &self.shared.links)).collect()
    }

    /// Whether more may be sent on a link. After a dispatch: then nothing waits that it may have.
    pub fn has_credit(&self, link: LinkId) -> bool {
        self.shared.links.find(link).is_some_and(|link| self.shared.links.at(link).unused() > 0)
    }

    /// Whether a group that takes part in settlement has events on no link. After a dispatch they lack credit, a member, or the
    /// end of a move.
    pub fn is_held_up(&self) -> bool {
        self.groups.iter().any(|(_, group)| group.gates && group.undispatched > 0)
    }

    /// The fullest partition's part of the log.
    pub fn largest_share(&self) -> KeyShare {
        self.shared.log.largest_share()
    }
}

impl Group {
    fn seen(&self, key: usize, links: &Links) -> GroupSeen {
        GroupSeen {
            name: self.name.clone(),
            kind: self.kind,
            undispatched: self.undispatched,
            dispatched: self.dispatched,
            bytes: self.dispatched_bytes,
            redispatched: self.redispatched,
            last_dispatch: self.last_dispatch,
            links: links.iter().filter(|(_, link)| link.group == key).map(|(_, link)| link.seen()).collect(),
        }
    }
}

impl Link {
    fn seen(&self) -> LinkSeen {
        let [granted, assigned, sent] = self.allowance.totals();
        LinkSeen {
            id: self.id,
            instance: self.name.clone(),
            window: self.allowance.window(),
            granted,
            assigned,
            sent,
            unsettled: self.sent.unsettled(),
            is_cancelled: self.state != LinkState::Open,
        }
    }
}
