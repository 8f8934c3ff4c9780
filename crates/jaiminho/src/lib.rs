#![doc = include_str!("guide.md")]

#[cfg(feature = "app")]
pub mod app;
mod codec;
mod events;
mod failure;
mod grpc;
mod handlers;
mod harness;
mod instance;
mod local;
mod running;
mod sources;
mod stage;
mod tasks;
mod turn;
mod upstream;

pub use codec::{Cloud, Codec, Json, Keyed, NoCodec, Nothing, Raw};
pub use events::{Events, Lost};
pub use failure::{Failure, Result};
pub use grpc::{Grpc, StartError};
pub use handlers::{Consumer, Producer, ProducerConsumer};
pub use harness::{Harness, Said};
pub use local::Local;
pub use running::{Running, Subscribed};
pub use sources::{Items, Streamed};
pub use stage::Stage;
pub use turn::{Batch, Received, Turn};
pub use upstream::Upstream;

/// The runtime's own traits, for what must be fastest or settles late: see [`Stage::new`].
pub mod raw {
    pub use jaiminho_core::Trace;
    pub use jaiminho_runtime::{
        Acknowledge, Answer, Dedupe, Emitted, Failure, NewEvent, Offer, Pending, Receipt, Refusal, Settler, Sink,
        Source, SourceError, SourceHandle, Transform, Verdict,
    };
}

#[doc = include_str!("gen_stage.md")]
pub mod gen_stage {}

pub use jaiminho_core::{
    Dispatch, Dispatcher, Event, KeyHash, LinkError, NewDispatcher, Outcome, Overflow, Payload, Reason, Rejection,
    Selector,
};
pub use jaiminho_discovery::At;
pub use jaiminho_event::{CloudEvent, Data};
pub use jaiminho_link::Tls;
pub use jaiminho_runtime::{Asking, Batching, Cancel, Info, Left, NotTaken, Peer, Rate, Role, StageEnd, StageStatus};
