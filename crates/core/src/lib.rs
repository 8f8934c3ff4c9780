//! The core of Jaiminho: no IO, no clock, no async. Time is an argument.

mod credit;
mod event;
mod inputs;
mod intake;
mod message;
mod output;
mod time;

pub use event::{EVENT_OVERHEAD_BYTES, Event, KeyHash, Origin, Payload, Trace, TraceContext};
pub use inputs::{InputId, Inputs};
pub use intake::Intake;
pub use message::{
    Credit, Delivery, Disposition, EndReason, FRAME_BYTES, GroupKind, Instance, LinkError, Outcome,
    REJECTION_TEXT_BYTES_MAX, Reason, Rejection, Settled, Subscribe, Subscribed, ToConsumer, ToProducer, Versions,
    Window, cut, frame_bytes_max,
};
pub use output::{
    Demand, Dispatch, Dispatcher, Fill, GroupSeen, GroupWaiting, HASH_VERSION, INFOS_MAX, InfosFull, KeyShare, LinkId,
    LinkSeen, Member, NewDispatcher, Offset, Output, OutputConfig, Overflow, PARTITIONS, Refused, RequiredGroup,
    Selector, Settlement, Signal, TAPPED_BYTES_MAX, Waiting,
};
pub use time::Time;
