//! The protocol on the wire (`proto/jaiminho/v1/stage.proto`), and the way between it and the core's messages.
//!
//! Whatever a peer sends is checked here, once: what a `decode_*` function returns keeps the protocol's static rules
//! (lengths, ranges, columns that fit), and everything else ends the link with a [`jaiminho_core::LinkError`]. The rules that need a
//! link's history (numbering, credit) are the core's.

mod codec;
mod consumer;
mod frame;
mod limits;
mod producer;
mod status;

/// What tonic-prost makes of `stage.proto` and `inspect.proto`. Only link's service boundary touches these types.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    tonic::include_proto!("jaiminho.v1");
}

/// What tonic-prost makes of KEDA's `externalscaler.proto`.
#[allow(missing_docs, clippy::all, clippy::too_many_lines)]
pub mod externalscaler {
    tonic::include_proto!("externalscaler");

    /// Its definitions, for gRPC reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/externalscaler.bin"));
}

/// All definitions of the stages' protocol, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/jaiminho.bin"));

pub use codec::{ExactCodec, ExactEncoder};
pub use consumer::{FromConsumer, check_version, decode_consumer, encode_subscribe, encode_to_producer};
pub use frame::{decode_events, encode_events, frames};
pub use limits::{
    CONSUMER_DECODING_FACTOR, CONSUMER_MESSAGE_BYTES_MAX, CONSUMER_MESSAGE_FACTOR, DECODED_EVENT_BYTES,
    DISPOSITIONS_PER_MESSAGE_MAX, EVENT_COLUMNS_BYTES_MAX, EVENTS_PER_FRAME_MAX, FRAME_BYTES_MAX,
    FRAME_DECODING_FACTOR, FRAME_OVERHEAD_BYTES, INSPECTION_BYTES_MAX, NAME_BYTES_MAX, PARTITIONS_MAX,
    STATUS_TEXT_BYTES_MAX, TEXT_BYTES_MAX,
};
pub use producer::{FromProducer, decode_producer, encode_framed, encode_subscribed, encode_to_consumer};
pub use status::{ERROR_KEY, link_error, status_of};
