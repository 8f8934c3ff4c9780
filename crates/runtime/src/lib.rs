//! A stage's task: one owner of its logs, links and lanes, around the pure core.

mod absent;
mod account;
mod acting;
mod actor;
mod admission;
mod backoff;
mod batching;
mod bodies;
mod changes;
mod config;
mod consumer;
mod dedupe;
mod desk;
mod handle;
mod handler;
mod inspection;
mod jitter;
mod lanes;
mod latency;
mod link;
mod meters;
mod outlet;
mod peers;
mod rate;
mod rejections;
mod serve;
mod settlement;
mod sink;
mod source;
mod spawn;
mod spent;
mod stage;
mod subscriptions;
mod task;
mod traces;
mod upstream;

pub use batching::{Batching, HELD_BYTES};
pub use config::{
    Asking, Cancel, DeadLetter, DeadLetterSpec, OutputSpec, Role, StageConfig, StageLimits, UpstreamSpec,
};
pub use dedupe::{Dedupe, ID_BYTES, WAITING_BYTES};
pub use handle::{NotTaken, StageEnd, StageHandle, StageStatus};
pub use handler::{Call, Emission, Handler, Info, Kind, Left, Peer, Turn};
pub use inspection::{
    ConsumerSeen, Counts, GroupSeen, InputSeen, Inspection, Load, OutputSeen, REJECTED_BYTES_MAX, REJECTIONS_MAX,
    RejectionSeen, RoleSeen, Trouble, Troubles, Usage, Usages,
};
pub use lanes::results_max;
pub use latency::{LATENCY_BOUNDS_MS, LatencySeen};
pub use link::{Address, Connect, Discover, LinkHalf, Serve};
pub use peers::{FRAMES_PER_LINK, consumer_messages_max};
pub use rate::{Pace, Rate};
pub use sink::Settler;
pub use source::{Offer, Outside, Pending, SourceHandle};
#[doc(hidden)]
pub use source::{TestAnswers, TestDesk, TestOffer};
pub use spawn::{spawn, spawn_at};
pub use stage::{
    Acknowledge, Answer, Emitted, Failure, NewEvent, Receipt, Refusal, Sink, Source, SourceError, Transform, Verdict,
};
pub use traces::{SPAN_OPEN_BYTES, SPANS_OPEN_MAX};
