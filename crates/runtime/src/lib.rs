//! A stage's task: one owner of its logs, links and lanes, around the pure core.

mod absent;
mod admission;
mod backoff;
mod bodies;
mod config;
mod consumer;
mod desk;
mod handle;
mod jitter;
mod lanes;
mod link;
mod outlet;
mod peers;
mod rejections;
mod serve;
mod sink;
mod source;
mod stage;
mod task;
mod upstream;

pub use config::{DeadLetter, DeadLetterSpec, OutputSpec, Role, StageConfig, StageLimits, UpstreamSpec};
pub use handle::{StageEnd, StageHandle, StageStatus};
pub use lanes::results_max;
pub use link::{Address, Connect, Discover, LinkHalf, Serve};
pub use peers::{FRAMES_PER_LINK, consumer_messages_max};
pub use sink::Settler;
pub use source::{Offer, Outside, Pending, SourceHandle};
#[doc(hidden)]
pub use source::{TestAnswers, TestDesk, TestOffer};
pub use stage::{
    Acknowledge, Answer, Emitted, Failure, NewEvent, Receipt, Refusal, Sink, Source, SourceError, Transform, Verdict,
};
pub use task::{spawn, spawn_at};
