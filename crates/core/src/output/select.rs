//! Selectors: which events a group gets at all.

use std::fmt;
use std::sync::Arc;

use super::Output;
use super::group::{Group, Shared};
use crate::event::Event;
use crate::message::{LinkError, Outcome, Subscribe};

/// Says which events a group gets. What it refuses is settled for that group at once, and costs it no credit.
///
/// It is asked once for each event that is pushed while the group is there: it must be quick, and must not panic.
#[derive(Clone)]
pub struct Selector(Arc<dyn Fn(&Event) -> bool + Send + Sync>);

impl Selector {
    /// From a function of the event alone.
    pub fn new(selects: impl Fn(&Event) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(selects))
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Selector")
    }
}

impl PartialEq for Selector {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Selector {}

impl Output {
    /// The selector that a subscription names. All members of a group name the same; `others`: there are such members.
    pub(super) fn selector(
        &self,
        group: Option<usize>,
        others: bool,
        subscribe: &Subscribe,
    ) -> Result<Option<(String, Selector)>, LinkError> {
        let wanted = subscribe.selector.as_ref();
        let group = group.map(|group| &self.groups[group]).filter(|_| others);
        if let Some(selected) = group.map(|group| group.selector.as_ref().map(|(name, _)| name))
            && selected != wanted
        {
            let selected = selected.map_or("no selector", String::as_str);
            return Err(LinkError::Selector(format!("members of group {} have {selected}", subscribe.group)));
        }
        let Some(name) = wanted else { return Ok(None) };
        let found = self.config.selectors.get(name).ok_or_else(|| LinkError::Selector(format!("unknown: {name}")))?;
        Ok(Some((name.clone(), found.clone())))
    }
}

impl Group {
    /// Whether the group is to get an event.
    pub(crate) fn selects(&self, event: &Event) -> bool {
        let has_partition = event.key.is_some() || self.keyed.as_ref().is_none_or(|keyed| !keyed.is_fixed);
        has_partition && !self.has_left && self.selector.as_ref().is_none_or(|(_, selector)| (selector.0)(event))
    }

    /// The first member brings a selector: what waits goes by it too.
    pub(crate) fn select(&mut self, shared: &mut Shared, selector: Option<(String, Selector)>) {
        self.selector = selector;
        if self.selector.is_none() {
            return;
        }
        for offset in self.entries.base()..self.entries.end() {
            let refused = shared.log.event(offset).is_some_and(|event| !self.selects(event));
            if refused && self.take_out(&mut shared.links, &shared.log, offset) {
                self.finish(shared, offset, Outcome::Accepted);
            }
        }
    }
}
