//! What links take of memory at most, beside what waits in logs and what credit counts. Each figure follows from limits that
//! are set in this crate.

use jaiminho_core::{FRAME_BYTES, frame_bytes_max};
use jaiminho_proto::{
    CONSUMER_DECODING_FACTOR, CONSUMER_MESSAGE_BYTES_MAX, CONSUMER_MESSAGE_FACTOR, DECODED_EVENT_BYTES,
    EVENTS_PER_FRAME_MAX, FRAME_BYTES_MAX, FRAME_DECODING_FACTOR, INSPECTION_BYTES_MAX,
};

use crate::connector::http_window_bytes;
use crate::inspect::ASKERS_MAX;
use crate::server::{CONNECTION_WINDOW_BYTES, HEADER_BYTES_MAX, HTTP_FRAME_BYTES, STREAMS_MAX};

/// Largest event that a stage may take: one in a frame of the largest size.
pub const EVENT_BYTES_MAX: u64 = FRAME_BYTES_MAX as u64 - FRAME_BYTES;

/// What hyper puts into HTTP/2's buffer of a stream before it stops to ask for more.
const SEND_BUFFER_BYTES: u64 = 400 << 10;
/// The smallest header has 33 bytes as HTTP/2 counts them, and a map that grows by doubling holds it in up to eight times that.
const HEADER_FACTOR: u64 = 8;
/// Tasks, timers and the codec of one connection with its streams.
const CONNECTION_BYTES: u64 = 64 << 10;

/// Of each link from a producer: HTTP/2's window and frame, and a frame of events as it comes in, to a buffer that doubles.
pub fn unread_bytes_max(window_bytes: u64, event_bytes_max: u64) -> u64 {
    let http = u64::from(http_window_bytes(window_bytes)) + u64::from(HTTP_FRAME_BYTES);
    frame_bytes_max(event_bytes_max).saturating_mul(2).saturating_add(http + CONNECTION_BYTES)
}

/// Of each link to a consumer: HTTP/2's buffer with one frame of events beyond its limit, and the next one.
pub fn unsent_bytes_max(event_bytes_max: u64) -> u64 {
    frame_bytes_max(event_bytes_max).saturating_mul(2).saturating_add(SEND_BUFFER_BYTES)
}

/// Of each connection that a server accepts, whatever it is used for: what is not read yet, and its requests' heads.
pub fn connection_bytes_max() -> u64 {
    let heads = u64::from(STREAMS_MAX) * u64::from(HEADER_BYTES_MAX) * HEADER_FACTOR;
    u64::from(CONNECTION_WINDOW_BYTES) + heads + CONNECTION_BYTES
}

/// Of each message of a consumer, once it is checked.
pub const CONSUMER_MESSAGE_BYTES: u64 = CONSUMER_MESSAGE_FACTOR * CONSUMER_MESSAGE_BYTES_MAX as u64;

/// Of each thread that serves links: one message that it reads, from bytes to checked, or one frame that it writes.
pub fn coding_bytes_max(event_bytes_max: u64) -> u64 {
    let of_consumer = CONSUMER_DECODING_FACTOR * CONSUMER_MESSAGE_BYTES_MAX as u64;
    let events = EVENTS_PER_FRAME_MAX as u64 * DECODED_EVENT_BYTES;
    frame_bytes_max(event_bytes_max).saturating_mul(FRAME_DECODING_FACTOR).saturating_add(events).max(of_consumer)
}

/// What an answer of the `Inspect` service takes as a message, as a multiple of its size on the wire.
const INSPECTION_FACTOR: u64 = 6;

/// Of who asks what stages tell of themselves: what they tell, and for each who is answered a message, and the same encoded.
pub const INSPECTION_MEMORY_BYTES: u64 = {
    let (size, askers) = (INSPECTION_BYTES_MAX as u64, ASKERS_MAX as u64);
    size * INSPECTION_FACTOR * (1 + askers) + size * askers
};
