//! What is said on a link, as values: the same for a link in one process and over gRPC.

use crate::event::Event;

/// Identity of one running replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Instance {
    /// Stable: the pod's name, else host:port. At most 253 bytes.
    pub name: String,
    /// New at each start; the greater of two is the newer process.
    pub incarnation: u64,
}

/// How a group takes part (see DESIGN "Groups").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GroupKind {
    /// Named when the log was made; the log waits for it.
    Required,
    /// Ad-hoc, from the tail, no part in settlement, ends when it lags too far. In a broadcast it takes part, and leaves with its
    /// last member.
    Attached,
    /// Best effort: gets what it has credit for on arrival.
    Tap,
}

/// Most in flight unprocessed on one link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// `max_demand`
    pub events: u64,
    pub bytes: u64,
}

/// First message of a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    pub versions: Versions,
    pub pipeline: String,
    /// `STAGE` or `STAGE.OUTPUT`
    pub output: String,
    /// The consumer stage's name.
    pub group: String,
    pub kind: GroupKind,
    pub instance: Instance,
    /// Counts this instance's links to this output; the higher replaces the lower.
    pub link_counter: u64,
    pub window: Window,
    pub event_bytes_max: u64,
    pub frame_bytes_max: u64,
    /// The group gets only what this selector of the output selects. At most 253 bytes.
    pub selector: Option<String>,
    /// Which of a group's fixed partitions this member takes.
    pub partition: Option<u16>,
}

/// Frames are filled with what is ready, up to about so many payload bytes; one event may overshoot.
pub const FRAME_BYTES: u64 = 128 << 10;

/// Largest frame, encoded, of a consumer whose largest event has `event_bytes_max`: a filled one, and that event.
pub const fn frame_bytes_max(event_bytes_max: u64) -> u64 {
    event_bytes_max.saturating_add(FRAME_BYTES)
}

/// Versions of the protocol that a stage speaks, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    pub min: u32,
    pub max: u32,
}

impl Default for Versions {
    /// All that there are.
    fn default() -> Self {
        Self { min: 1, max: 1 }
    }
}

impl Versions {
    /// The highest version that both sides speak.
    ///
    /// # Errors
    /// [`LinkError::Version`] when there is none.
    pub fn common(self, peer: Self) -> Result<u32, LinkError> {
        let highest = peer.max.min(self.max);
        if peer.min <= peer.max && highest >= peer.min.max(self.min) {
            return Ok(highest);
        }
        Err(LinkError::Version { peer_min: peer.min, peer_max: peer.max, min: self.min, max: self.max })
    }
}

/// The producer's answer to `Subscribe`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribed {
    pub version: u32,
    pub window: Window,
    pub link_id: u64,
    pub instance: Instance,
    pub partition_count: u32,
    pub hash_version: u32,
    pub heartbeat_ms: u32,
}

/// Cumulative limits since the link opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credit {
    /// Deliveries up to and with this number may be sent.
    pub events: u64,
    pub bytes: u64,
}

/// Why an event was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// It is not what its format says.
    Malformed,
    /// A stage's rule refuses it (`abort`, a schema, a missing topic attribute).
    Invalid,
    /// Larger than a group, a topic or a limit allows.
    TooLarge,
    /// Its handler failed `max_failures` times.
    Exhausted,
    /// The sink's system refuses it for good.
    Refused,
}

impl Reason {
    /// In this order where counts of them stand in a row.
    pub const ALL: [Self; 5] = [Self::Malformed, Self::Invalid, Self::TooLarge, Self::Exhausted, Self::Refused];

    /// As answers, dead letters and metrics name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Invalid => "invalid",
            Self::TooLarge => "too_large",
            Self::Exhausted => "exhausted",
            Self::Refused => "refused",
        }
    }
}

/// Longest text of a rejection.
pub const REJECTION_TEXT_BYTES_MAX: usize = 256;

/// The text, cut to at most `bytes_max` between two characters.
pub fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// A rejection. Better when stored: the dead letter is safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub reason: Reason,
    /// At most [`REJECTION_TEXT_BYTES_MAX`].
    pub text: String,
    pub stored: bool,
}

impl Rejection {
    /// One that is not stored. The text is cut to [`REJECTION_TEXT_BYTES_MAX`].
    pub fn new(reason: Reason, text: impl Into<String>) -> Self {
        let mut text = text.into();
        text.truncate(cut(&text, REJECTION_TEXT_BYTES_MAX).len());
        Self { reason, text, stored: false }
    }
}

/// What became of a delivery. Ordered by `worst`: accepted < rejected and stored < rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Accepted,
    Rejected(Box<Rejection>),
}

/// A settled range of delivery numbers, both ends included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disposition {
    pub first: u64,
    pub last: u64,
    pub state: Settled,
}

/// `released` only answers a `Revoke`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    Outcome(Outcome),
    Released,
}

/// Consumer to producer, after `Subscribe`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToProducer {
    /// Also the heartbeat: repeated when idle.
    Credit(Credit),
    Dispositions(Vec<Disposition>),
    Cancel {
        drain: bool,
        time_left_ms: u64,
    },
}

/// One event on one link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// 1, 2, 3 … on its link, without gaps.
    pub number: u64,
    pub event: Event,
}

/// Producer to consumer, after `Subscribed`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToConsumer {
    /// Empty: the heartbeat.
    Events {
        deliveries: Vec<Delivery>,
        backlog: u64,
        pressure: bool,
    },
    Revoke {
        partitions: Vec<u16>,
    },
    /// Last of the data.
    Ended {
        last: u64,
        reason: EndReason,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// The producer has nothing more and never will (its source came to its end).
    Finished,
    /// The producer leaves; its successor has a new incarnation.
    Draining,
}

/// Why a link does not come about, or ends. The table in `stage.proto` says which to retry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    #[error("protocol error: {0}")]
    Violation(String),
    #[error("no common protocol version: peer speaks {peer_min}-{peer_max}, this side {min}-{max}")]
    Version { peer_min: u32, peer_max: u32, min: u32, max: u32 },
    #[error("unknown output {0}")]
    UnknownOutput(String),
    #[error("this is pipeline {ours}, not {theirs}")]
    WrongPipeline { ours: String, theirs: String },
    #[error("group {0} is not named by the pipeline; ask to attach or tap")]
    UnknownGroup(String),
    /// It has no such selector, or other members of the group have another.
    #[error("selector: {0}")]
    Selector(String),
    /// The group has no such partition, or it has a member, or none is named.
    #[error("partition: {0}")]
    Partition(String),
    /// A process of the same name and a greater incarnation is there: exit, never retry.
    #[error("fenced: a newer process has the name {0}")]
    Fenced(String),
    #[error("replaced by a newer link of the same process")]
    Replaced,
    /// Its certificate is not that of a member of the group.
    #[error("not allowed: {0}")]
    NotAllowed(String),
    #[error("limit reached: {0}")]
    Limit(String),
    #[error("attached group lagged more than max_lag {0} events behind")]
    Lagged(u64),
    #[error("peer silent for {0} ms")]
    Silent(u64),
    #[error("draining")]
    Draining,
    #[error("unavailable: {0}")]
    Unavailable(String),
}

impl Outcome {
    /// The worse of two; of two equal ones the first.
    #[must_use]
    pub fn worst(self, other: Self) -> Self {
        if other.rank() > self.rank() { other } else { self }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Accepted => 0,
            Self::Rejected(rejection) if rejection.stored => 1,
            Self::Rejected(_) => 2,
        }
    }
}
