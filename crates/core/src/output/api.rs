//! What an [`Output`](crate::Output) is made from, and the values that it gives back.

use std::collections::BTreeMap;

use super::custom::NewDispatcher;
use super::select::Selector;
use crate::message::{LinkError, Outcome};
use crate::time::Time;

/// Number of partitions that keys are hashed to, in every group.
pub const PARTITIONS: usize = 4096;

/// Version of the rule that turns a key's hash into a partition, and members' names into owners.
pub const HASH_VERSION: u32 = 1;

/// Place of an entry in its log: 0, 1, 2 … in order of arrival, never used twice. That of an event which was discarded when it
/// came is 2^63 or above: no place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Offset(pub u64);

/// One link to one output, for as long as the output lives: never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub u64);

/// How a group shares its events among its members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Dispatch {
    /// Events with a key go to the owner of the key's partition, in order; those without go by demand.
    #[default]
    Keyed,
    /// All go to the member with the largest unused share of its window: no order.
    Demand,
    /// Each member takes one of so many partitions (1 to [`PARTITIONS`]), and is the only one to do so. An event belongs to the
    /// partition that its key's hash gives modulo their number; one without a key goes to nobody, and is settled at once.
    /// What is there for a partition without a member waits, also from one member to the next.
    Fixed {
        /// How many.
        partitions: u16,
    },
    /// A dispatcher of the user's decides.
    Custom(NewDispatcher),
}

/// Whether what consumers ask for reaches the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Demand {
    /// Entries are dispatched as consumers ask.
    #[default]
    Forward,
    /// What consumers ask, and what is pushed, waits.
    Accumulate,
}

/// What becomes of an event for which the log has no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Overflow {
    /// None comes: the log is full, and says so.
    #[default]
    PushBack,
    /// It is discarded.
    KeepFirst,
    /// The oldest that are on no link are discarded for it; when all are on a link, it is.
    KeepLast,
}

/// A group that the log waits for, also while it has no member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequiredGroup {
    /// The consumer stage's name.
    pub name: String,
    /// How its members share the events.
    pub dispatch: Dispatch,
}

/// Limits and groups of an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputConfig {
    /// Unsettled events at which the log is full.
    pub capacity_events: u64,
    /// Unsettled bytes of payload at which the log is full.
    pub capacity_bytes: u64,
    /// Offsets between the low watermark and the end at which the log is full: 16 times `capacity_events`. At most 2^31.
    pub span: u64,
    /// Most links at once; a dead link counts until what it left is dispatched again.
    pub links_max: usize,
    /// How long an old owner may keep deliveries of a revoked partition unsettled.
    pub handover_ms: u64,
    /// Attached groups take part in settlement, and are not ended for their lag: the slowest one decides what is asked for,
    /// and in the end the log is full. Without any group events wait for the first one.
    pub broadcast: bool,
    /// Whether a log without room pushes back, or loses events. What is discarded is settled as accepted, and counted; nothing
    /// that is on its way on a link ever is.
    pub overflow: Overflow,
    /// By the names with which subscriptions ask for them.
    pub selectors: BTreeMap<String, Selector>,
    /// How long an attached group outlives its last member; in a broadcast it leaves with it.
    pub attached_ttl_ms: u64,
    /// Without a group whose settlement counts events are dropped and counted, not held: for dead letters.
    pub drops_without_group: bool,
    /// All required groups.
    pub groups: Vec<RequiredGroup>,
}

/// For an output of 10,000 events and 16 MiB, 64 links, without groups.
impl Default for OutputConfig {
    fn default() -> Self {
        Self {
            capacity_events: 10_000,
            capacity_bytes: 16 << 20,
            span: 160_000,
            links_max: 64,
            handover_ms: 10_000,
            attached_ttl_ms: 30_000,
            broadcast: false,
            overflow: Overflow::default(),
            selectors: BTreeMap::new(),
            drops_without_group: false,
            groups: Vec::new(),
        }
    }
}

/// How full a log is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fill {
    /// Held events.
    pub events: u64,
    /// Their bytes of payload.
    pub bytes: u64,
    /// Limit of `events`.
    pub capacity_events: u64,
    /// Limit of `bytes`.
    pub capacity_bytes: u64,
    /// Offsets from the low watermark to the end.
    pub span_used: u64,
    /// Limit of `span_used`.
    pub span: u64,
}

impl Fill {
    /// Over 80 % of any of the limits: consumers that hold inputs back should flush.
    pub fn is_pressure(&self) -> bool {
        let over = |used: u64, limit: u64| u128::from(used) * 5 > u128::from(limit) * 4;
        over(self.events, self.capacity_events)
            || over(self.bytes, self.capacity_bytes)
            || over(self.span_used, self.span)
    }
}

/// Part of a log that one partition takes up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyShare {
    /// Held events of the partition.
    pub events: u64,
    /// Their bytes of payload.
    pub bytes: u64,
}

/// What the peer of a link must be told, or done to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Send `Revoke`: nothing more of these partitions comes on this link until its handover of them is over.
    Revoke(Vec<u16>),
    /// The link has ended, with what was unsettled on it released: send the status and close the stream.
    End(LinkError),
    /// A cancelled link has nothing unsettled any more: close it.
    Drained,
}

/// An entry that all groups that take part in settlement have settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The input that it was pushed for.
    pub input: crate::InputId,
    /// The worst that its groups' members said.
    pub outcome: Outcome,
    /// Its place in the log.
    pub offset: Offset,
    /// When it was pushed; none: no group had to settle it.
    pub pushed: Option<Time>,
    /// The log itself rejected it for a group: the caller, and nobody else, stores it as a dead letter, and counts the
    /// rejection into the input's outcome.
    pub refused: Option<Box<Refused>>,
}

/// An event that was too large for a group, and was sent to none of its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// As it was pushed.
    pub event: crate::Event,
    /// Why; not stored.
    pub rejection: crate::Rejection,
}

/// What waits in each required group: for admission and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// In the order of [`OutputConfig::groups`].
    pub groups: Vec<GroupWaiting>,
}

/// One group's backlog and demand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupWaiting {
    /// The consumer stage's name.
    pub name: String,
    /// Events not on any link: never dispatched, or released and not yet dispatched again.
    pub undispatched: u64,
    /// Deliveries that its members' credit still allows.
    pub unused_credit: u64,
    /// Dispatches since the start, repeated ones included.
    pub dispatched: u64,
    /// Of them, those that were repeated.
    pub redispatched: u64,
    /// When the last dispatch was.
    pub last_dispatch: Option<Time>,
    /// Links that take part in the dispatch.
    pub members: usize,
}
