//! An event as the log and the links see it: bytes that they never open, beside small columns.

use std::fmt;
use std::num::NonZeroU64;
use std::ops::Deref;
use std::sync::Arc;

/// Hash (xxh3, 64 bit) of an event's `partitionkey`: decides its partition, and so its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyHash(pub u64);

impl KeyHash {
    /// The partition that every event of this key belongs to: the same in every process with this
    /// [`HASH_VERSION`](crate::HASH_VERSION).
    pub fn partition(self) -> u16 {
        (self.0 % crate::PARTITIONS as u64) as u16
    }
}

/// Where an event was first taken in: identifies its arrival for diagnosis and for order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// Start time in ms and randomness of the ingest process.
    pub incarnation: u64,
    /// Offset in the log of that process.
    pub offset: u64,
}

/// W3C trace context of a sampled event: trace id (16 bytes), span id (8), flags (1).
pub type TraceContext = [u8; 25];

/// What travels with a sampled event. Nobody here looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Its trace, and the span that what follows is a child of.
    pub context: TraceContext,
    /// Unix time in ns at which what is done with the event just now began; 0: nobody measures it.
    pub since: u64,
}

/// A CloudEvent in its protobuf format: one allocation, its own, which clones share. Keeping it keeps nothing else alive.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload(Arc<[u8]>);

impl Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}

impl From<Arc<[u8]>> for Payload {
    fn from(bytes: Arc<[u8]>) -> Self {
        Self(bytes)
    }
}

impl From<&[u8]> for Payload {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub payload: Payload,
    /// None: the event has no order, and goes to whoever has demand.
    pub key: Option<KeyHash>,
    /// 1 at first; one more for each time it is dispatched again to the same group.
    pub attempt: u32,
    /// Unix time in ms at which the edge took it.
    pub arrived_ms: u64,
    /// Unix time in ms by which the client wants its answer.
    pub deadline_ms: Option<NonZeroU64>,
    /// Where it was taken in.
    pub origin: Origin,
    /// Only where sampled.
    pub trace: Option<Box<Trace>>,
}

impl Event {
    /// One without a key, that nobody has dispatched before.
    pub fn new(payload: impl Into<Payload>) -> Self {
        Self {
            payload: payload.into(),
            key: None,
            attempt: 1,
            arrived_ms: 0,
            deadline_ms: None,
            origin: Origin::default(),
            trace: None,
        }
    }

    /// Its length as credit counts it.
    pub fn size(&self) -> u64 {
        self.payload.len() as u64
    }
}

/// Bytes that an event costs beside its payload.
///
/// In a consumer's window: its columns. In a log, for each offset of a span of 16 times the capacity: its slot, its place in
/// four groups, a sixteenth of its columns, and the room into which these grow.
pub const EVENT_OVERHEAD_BYTES: u64 = 128;
