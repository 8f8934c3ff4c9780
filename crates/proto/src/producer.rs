//! What a producer says: `Subscribed`, `Events`, `Revoke`, `Ended`.

use jaiminho_core::{EndReason, LinkError, Subscribed, ToConsumer};

use crate::consumer::{decode_instance, decode_window, encode_instance, encode_window};
use crate::frame::{decode_events, encode_events, frames};
use crate::limits::{PARTITIONS_MAX, violation};
use crate::v1::producer_message::Message;
use crate::v1::{self, ended};

/// A producer's message, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromProducer {
    /// The first message of a link, and of no other place.
    Subscribed(Subscribed),
    /// Any other.
    Message(ToConsumer),
}

/// The answer that opens a link.
pub fn encode_subscribed(subscribed: &Subscribed) -> v1::ProducerMessage {
    message(Message::Subscribed(v1::Subscribed {
        version: subscribed.version,
        features: 0,
        window: Some(encode_window(subscribed.window)),
        link_id: subscribed.link_id,
        instance: Some(encode_instance(&subscribed.instance)),
        partition_count: subscribed.partition_count,
        hash_version: subscribed.hash_version,
        heartbeat_ms: subscribed.heartbeat_ms,
    }))
}

/// The message for one of the core's. Of `Events` see [`encode_events`].
pub fn encode_to_consumer(to_consumer: &ToConsumer) -> v1::ProducerMessage {
    message(match to_consumer {
        ToConsumer::Events { deliveries, backlog, pressure } => {
            Message::Events(encode_events(deliveries, *backlog, *pressure))
        }
        ToConsumer::Revoke { partitions } => {
            Message::Revoke(v1::Revoke { partitions: partitions.iter().copied().map(u32::from).collect() })
        }
        ToConsumer::Ended { last, reason } => {
            let reason = match reason {
                EndReason::Finished => ended::Reason::Finished,
                EndReason::Draining => ended::Reason::Draining,
            };
            Message::Ended(v1::Ended { last: *last, reason: reason.into() })
        }
    })
}

/// The messages for one of the core's: `Events` in as many frames as the consumer's limit asks for.
pub fn encode_framed(to_consumer: &ToConsumer, frame_bytes_max: usize) -> Vec<v1::ProducerMessage> {
    match to_consumer {
        ToConsumer::Events { deliveries, backlog, pressure } if !deliveries.is_empty() => {
            let frame = |run| message(Message::Events(encode_events(run, *backlog, *pressure)));
            frames(deliveries, frame_bytes_max).map(frame).collect()
        }
        ToConsumer::Events { .. } | ToConsumer::Revoke { .. } | ToConsumer::Ended { .. } => {
            vec![encode_to_consumer(to_consumer)]
        }
    }
}

/// Checks a producer's message.
///
/// # Errors
/// [`LinkError::Violation`] that names the field.
pub fn decode_producer(message: v1::ProducerMessage) -> Result<FromProducer, LinkError> {
    let message = message.message.ok_or_else(|| violation("a message that this side does not know, or none"))?;
    Ok(match message {
        Message::Subscribed(subscribed) => FromProducer::Subscribed(decode_subscribed(subscribed)?),
        Message::Events(events) => FromProducer::Message(decode_events(&events)?),
        Message::Revoke(v1::Revoke { partitions }) => {
            if partitions.len() > PARTITIONS_MAX {
                return Err(violation(format!("{} partitions to revoke, of {PARTITIONS_MAX}", partitions.len())));
            }
            let partitions = partitions.into_iter().map(decode_partition).collect::<Result<_, _>>()?;
            FromProducer::Message(ToConsumer::Revoke { partitions })
        }
        Message::Ended(v1::Ended { last, reason }) => {
            let reason = match ended::Reason::try_from(reason) {
                Ok(ended::Reason::Finished) => EndReason::Finished,
                Ok(ended::Reason::Draining) | Err(_) => EndReason::Draining,
                Ok(ended::Reason::Unspecified) => return Err(violation("Ended without a reason")),
            };
            FromProducer::Message(ToConsumer::Ended { last, reason })
        }
    })
}

fn message(message: Message) -> v1::ProducerMessage {
    v1::ProducerMessage { message: Some(message) }
}

fn decode_subscribed(subscribed: v1::Subscribed) -> Result<Subscribed, LinkError> {
    let partition_count = subscribed.partition_count;
    if !partition_count.is_power_of_two() || partition_count as usize > PARTITIONS_MAX {
        return Err(violation(format!(
            "partition_count {partition_count} must be a power of two, at most {PARTITIONS_MAX}"
        )));
    }
    if subscribed.hash_version == 0 || subscribed.heartbeat_ms == 0 {
        return Err(violation("hash_version and heartbeat_ms must be above 0"));
    }
    Ok(Subscribed {
        version: subscribed.version,
        window: decode_window(subscribed.window)?,
        link_id: subscribed.link_id,
        instance: decode_instance(subscribed.instance)?,
        partition_count,
        hash_version: subscribed.hash_version,
        heartbeat_ms: subscribed.heartbeat_ms,
    })
}

fn decode_partition(partition: u32) -> Result<u16, LinkError> {
    u16::try_from(partition)
        .ok()
        .filter(|partition| usize::from(*partition) < PARTITIONS_MAX)
        .ok_or_else(|| violation(format!("partition {partition} to revoke, of {PARTITIONS_MAX}")))
}
