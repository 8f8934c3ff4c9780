//! Dispatchers of the library's user.

use std::fmt;
use std::sync::Arc;

use super::api::LinkId;
use super::entries::Place;
use super::group::{Group, Shared};
use super::link::Links;
use crate::event::Event;
use crate::message::Window;
use crate::time::Time;

/// A member of a group, as its dispatcher sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Names it to the group.
    pub link: LinkId,
    /// Its instance's name.
    pub name: String,
    /// The window that holds on its link.
    pub window: Window,
    /// Deliveries that its credit still allows.
    pub unused: u64,
}

/// Decides which member of a group gets an event. The log keeps order, credit, settlement and redelivery; so whatever it decides,
/// nothing is lost.
pub trait Dispatcher: fmt::Debug + Send {
    /// A member has joined, without credit.
    fn joined(&mut self, _member: &Member) {}

    /// A member has asked: its limits were raised, or repeated.
    fn asked(&mut self, _member: &Member) {}

    /// A member takes no more.
    fn left(&mut self, _member: &Member) {}

    /// Who gets an event: one of the members, in order of joining, that has unused credit. With any other answer the event
    /// waits, and all behind it; it is asked for again at the next [`Output::dispatch`](crate::Output::dispatch).
    fn pick(&mut self, event: &Event, members: &[Member]) -> Option<LinkId>;

    /// What the group asks for, of all the unused credit of its members: the same by default. What waits for the group is
    /// taken off.
    fn demand(&self, unused: u64) -> u64 {
        unused
    }
}

/// Makes a dispatcher for each output that is made from a configuration.
#[derive(Clone)]
pub struct NewDispatcher(Arc<dyn Fn() -> Box<dyn Dispatcher> + Send + Sync>);

impl NewDispatcher {
    /// From a function that makes one.
    pub fn new<D: Dispatcher + 'static>(make: impl Fn() -> D + Send + Sync + 'static) -> Self {
        Self(Arc::new(move || Box::new(make())))
    }
}

impl fmt::Debug for NewDispatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewDispatcher")
    }
}

impl PartialEq for NewDispatcher {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for NewDispatcher {}

/// A dispatcher, and its members as it was last told of them.
#[derive(Debug)]
pub(crate) struct Custom {
    dispatcher: Box<dyn Dispatcher>,
    members: Vec<Member>,
}

impl Custom {
    pub(crate) fn new(new: &NewDispatcher) -> Self {
        Self { dispatcher: (new.0)(), members: Vec::new() }
    }

    pub(crate) fn join(&mut self, links: &Links, link: u16) {
        let link = links.at(link);
        let window = link.allowance.window();
        let member = Member { link: link.id, name: link.name.clone(), window, unused: link.unused() };
        self.dispatcher.joined(&member);
        self.members.push(member);
    }

    pub(crate) fn leave(&mut self, link: LinkId) {
        if let Some(index) = self.members.iter().position(|member| member.link == link) {
            let member = self.members.remove(index);
            self.dispatcher.left(&member);
        }
    }

    pub(crate) fn ask(&mut self, link: LinkId, unused: u64) {
        if let Some(member) = self.members.iter_mut().find(|member| member.link == link) {
            member.unused = unused;
            self.dispatcher.asked(member);
        }
    }

    pub(crate) fn demand(&self, unused: u64) -> u64 {
        self.dispatcher.demand(unused)
    }

    /// Index of the member that gets an event.
    fn pick(&mut self, event: &Event) -> Option<usize> {
        let link = self.dispatcher.pick(event, &self.members)?;
        self.members.iter().position(|member| member.link == link && member.unused > 0)
    }
}

impl Group {
    /// One entry after the other, as far as the dispatcher finds a member.
    pub(crate) fn dispatch_custom(&mut self, now: Time, shared: &mut Shared) -> bool {
        let Some(mut custom) = self.custom.take() else { return false };
        for (member, &link) in custom.members.iter_mut().zip(&self.members) {
            member.unused = shared.links.at(link).unused();
        }
        let mut stopped = false;
        while let (false, Some(offset)) = (stopped, self.next_in_order()) {
            let Some(event) = shared.log.event(offset) else { break };
            let too_large = (event.size() > self.event_bytes_max).then_some(0);
            let Some(index) = too_large.or_else(|| custom.pick(event)) else { break };
            let link = self.members[index];
            self.keyless.remove(&offset);
            self.cursor = self.cursor.max(offset + 1);
            stopped = self.place(now, shared, link, offset, None);
            custom.members[index].unused = shared.links.at(link).unused();
        }
        self.custom = Some(custom);
        stopped
    }

    /// The first entry that waits, in a group that has no partitions.
    fn next_in_order(&mut self) -> Option<u64> {
        if let Some(&offset) = self.keyless.first() {
            return Some(offset);
        }
        self.cursor = self.cursor.max(self.entries.base());
        while self.cursor < self.entries.end() && self.entries.at(self.cursor).place != Place::Fresh {
            self.cursor += 1;
        }
        (self.cursor < self.entries.end()).then_some(self.cursor)
    }
}
