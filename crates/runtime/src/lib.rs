//! A stage's task: one owner of its logs, links and lanes, around the pure core.

mod link;
mod sink;
mod source;
mod stage;

pub use link::{Address, Connect, Discover, LinkHalf, Serve};
pub use sink::Settler;
pub use source::{Offer, Pending, SourceHandle};
#[doc(hidden)]
pub use source::{TestDesk, TestOffer};
pub use stage::{
    Acknowledge, Answer, Emitted, Failure, NewEvent, Receipt, Refusal, Sink, Source, SourceError, Transform, Verdict,
};
