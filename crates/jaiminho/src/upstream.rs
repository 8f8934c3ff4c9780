//! What a stage subscribes to, and on what terms.

use jaiminho_core::{GroupKind, Window};
use jaiminho_runtime::{Asking, Cancel};

/// Bytes of a link's window, unless said otherwise.
const WINDOW_BYTES: u64 = 1 << 20;

/// A subscription: to all instances of one output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    pub(crate) output: String,
    pub(crate) kind: GroupKind,
    pub(crate) window: Window,
    pub(crate) min_demand: Option<u64>,
    pub(crate) asking: Asking,
    pub(crate) cancel: Cancel,
    pub(crate) selector: Option<String>,
    pub(crate) partition: Option<u16>,
}

impl Upstream {
    /// `STAGE`, or `STAGE.OUTPUT` such as `STAGE.dead_letter`.
    pub fn new(output: impl Into<String>) -> Self {
        Self {
            output: output.into(),
            kind: GroupKind::Required,
            window: Window { events: 1_000, bytes: WINDOW_BYTES },
            min_demand: None,
            asking: Asking::Automatic,
            cancel: Cancel::Temporary,
            selector: None,
            partition: None,
        }
    }

    /// Most events in flight on each link (1,000).
    #[must_use]
    pub fn max_demand(mut self, events: u64) -> Self {
        self.window.events = events.max(1);
        self
    }

    /// More is asked for when only so many are left to handle (half of `max_demand`). A batch has at most
    /// `max_demand - min_demand` events.
    #[must_use]
    pub fn min_demand(mut self, events: u64) -> Self {
        self.min_demand = Some(events);
        self
    }

    /// Most bytes in flight on each link (1 MiB).
    #[must_use]
    pub fn bytes(mut self, bytes: u64) -> Self {
        self.window.bytes = bytes.max(1);
        self
    }

    /// Nothing is asked for but by [`Turn::ask`](crate::Turn::ask).
    #[must_use]
    pub fn manual(mut self) -> Self {
        self.asking = Asking::Manual;
        self
    }

    /// What the end of a link means for this stage ([`Cancel::Temporary`]: it goes on, and connects again).
    #[must_use]
    pub fn cancel(mut self, cancel: Cancel) -> Self {
        self.cancel = cancel;
        self
    }

    /// The stage ends when a link does.
    #[must_use]
    pub fn permanent(self) -> Self {
        self.cancel(Cancel::Permanent)
    }

    /// The stage ends when a link is lost.
    #[must_use]
    pub fn transient(self) -> Self {
        self.cancel(Cancel::Transient)
    }

    /// Joins ad hoc, from the next event on: the producer need not name this stage, and does not wait for it.
    #[must_use]
    pub fn attached(mut self) -> Self {
        self.kind = GroupKind::Attached;
        self
    }

    /// Looks on: gets what it has credit for on arrival, and nothing else.
    #[must_use]
    pub fn tap(mut self) -> Self {
        self.kind = GroupKind::Tap;
        self
    }

    /// Gets only what this [selector](crate::Stage::selector) of the producer's selects: the same for all instances of this
    /// stage.
    #[must_use]
    pub fn selector(mut self, name: impl Into<String>) -> Self {
        self.selector = Some(name.into());
        self
    }

    /// Takes one of the [fixed partitions](crate::Dispatch::Fixed) of its group.
    #[must_use]
    pub fn partition(mut self, partition: u16) -> Self {
        self.partition = Some(partition);
        self
    }

    pub(crate) fn stage(&self) -> &str {
        self.output.split('.').next().unwrap_or_default()
    }

    pub(crate) fn min_demand_or_half(&self) -> u64 {
        self.min_demand.unwrap_or(self.window.events / 2)
    }
}

impl<T: Into<String>> From<T> for Upstream {
    fn from(output: T) -> Self {
        Self::new(output)
    }
}
