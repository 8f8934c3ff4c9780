//! The protocol's limits, and the checks that several messages share.

use jaiminho_core::LinkError;

/// Largest encoded message from a producer, unless a consumer takes less. To be set as tonic's decoding limit.
pub const FRAME_BYTES_MAX: usize = 4 << 20;

/// Most that a frame of one event has beside its payload.
pub const FRAME_OVERHEAD_BYTES: usize = 256;

/// Most that the columns take for one event.
pub const EVENT_COLUMNS_BYTES_MAX: usize = 80;

/// Most events of a frame.
pub const EVENTS_PER_FRAME_MAX: usize = 4_096;

/// What decoding a frame takes at its peak, as a multiple of the frame: lists of numbers grow by doubling.
pub const FRAME_DECODING_FACTOR: u64 = 4;

/// What an event of a checked frame takes at its peak beside its payload.
pub const DECODED_EVENT_BYTES: u64 = 256;

/// Largest encoded message from a consumer. To be set as tonic's decoding limit.
pub const CONSUMER_MESSAGE_BYTES_MAX: usize = 8 << 10;

/// What decoding a consumer's message takes at its peak, as a multiple of its size: an empty range of dispositions has two
/// bytes on the wire.
pub const CONSUMER_DECODING_FACTOR: u64 = 48;

/// What a consumer's message takes once it is checked, as a multiple of [`CONSUMER_MESSAGE_BYTES_MAX`].
pub const CONSUMER_MESSAGE_FACTOR: u64 = 4;

/// Most ranges of one `Dispositions`.
pub const DISPOSITIONS_PER_MESSAGE_MAX: usize = 256;

/// Longest name: of a pipeline, an output, a group, an instance.
pub const NAME_BYTES_MAX: usize = 253;

/// Longest text of a rejection.
pub const TEXT_BYTES_MAX: usize = jaiminho_core::REJECTION_TEXT_BYTES_MAX;

/// Longest text of a status.
pub const STATUS_TEXT_BYTES_MAX: usize = 512;

/// Largest answer of the `Inspect` service.
pub const INSPECTION_BYTES_MAX: usize = 256 << 10;

/// Partitions of an output.
pub const PARTITIONS_MAX: usize = 4_096;

pub(crate) fn violation(problem: impl Into<String>) -> LinkError {
    LinkError::Violation(problem.into())
}

/// A name is 1 to 253 bytes without control characters.
pub(crate) fn check_name(field: &str, name: String) -> Result<String, LinkError> {
    match name.len() {
        0 => Err(violation(format!("{field} is empty"))),
        length if length > NAME_BYTES_MAX => {
            Err(violation(format!("{field} has {length} bytes, more than {NAME_BYTES_MAX}")))
        }
        _ if name.chars().any(char::is_control) => Err(violation(format!("{field} has a control character"))),
        _ => Ok(name),
    }
}
