//! The core of Jaiminho: no IO, no clock, no async. Time is an argument.

mod event;
mod message;

pub use event::{EVENT_OVERHEAD_BYTES, Event, KeyHash, Origin, TraceContext};
pub use message::{
    Credit, Delivery, Disposition, EndReason, GroupKind, Instance, LinkError, Outcome, Reason, Rejection, Settled, Subscribe,
    Subscribed, ToConsumer, ToProducer, Window,
};
