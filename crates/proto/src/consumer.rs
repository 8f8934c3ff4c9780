//! What a consumer says: `Subscribe`, `Credit`, `Dispositions`, `Cancel`.

use std::iter::Peekable;

use jaiminho_core::{
    Credit, Disposition, GroupKind, Instance, LinkError, Outcome, Reason, Rejection, Settled, Subscribe, ToProducer,
    Versions, Window, cut,
};
use prost::Message as _;

use crate::limits::{
    CONSUMER_MESSAGE_BYTES_MAX, DISPOSITIONS_PER_MESSAGE_MAX, FRAME_OVERHEAD_BYTES, PARTITIONS_MAX, TEXT_BYTES_MAX,
    check_name, violation,
};
use crate::v1::consumer_message::Message;
use crate::v1::{self, disposition::State, rejection};

/// Of a message around its dispositions, and of each disposition around its fields: tags and lengths.
const MESSAGE_OVERHEAD_BYTES: usize = 16;
const DISPOSITION_OVERHEAD_BYTES: usize = 4;

/// A consumer's message, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromConsumer {
    /// The first message of a link, and of no other place.
    Subscribe(Box<Subscribe>),
    /// Any other.
    Message(ToProducer),
}

/// Whether a link may open with this message. To be asked before [`decode_consumer`]: another version may mean something else
/// by the rest.
///
/// # Errors
/// [`LinkError::Version`] for a `Subscribe` that has no version in common with `ours`.
pub fn check_version(message: &v1::ConsumerMessage, ours: Versions) -> Result<(), LinkError> {
    let Some(Message::Subscribe(subscribe)) = &message.message else { return Ok(()) };
    ours.common(versions(subscribe)).map(drop)
}

fn versions(subscribe: &v1::Subscribe) -> Versions {
    Versions { min: subscribe.version_min, max: subscribe.version_max }
}

/// The message that opens a link.
pub fn encode_subscribe(subscribe: &Subscribe) -> v1::ConsumerMessage {
    let kind = match subscribe.kind {
        GroupKind::Required => v1::GroupKind::Required,
        GroupKind::Attached => v1::GroupKind::Attached,
        GroupKind::Tap => v1::GroupKind::Tap,
    };
    message(Message::Subscribe(v1::Subscribe {
        version_min: subscribe.versions.min,
        version_max: subscribe.versions.max,
        features: 0,
        pipeline: subscribe.pipeline.clone(),
        output: subscribe.output.clone(),
        group: subscribe.group.clone(),
        kind: kind.into(),
        instance: Some(encode_instance(&subscribe.instance)),
        link_counter: subscribe.link_counter,
        window: Some(encode_window(subscribe.window)),
        event_bytes_max: subscribe.event_bytes_max,
        frame_bytes_max: subscribe.frame_bytes_max,
        selector: subscribe.selector.clone(),
        partition: subscribe.partition.map(u32::from),
    }))
}

/// The messages for one of the core's: several when there are more dispositions than one may have, none when there are
/// no dispositions. Too long a text of a rejection is cut.
pub fn encode_to_producer(to_producer: &ToProducer) -> Vec<v1::ConsumerMessage> {
    match to_producer {
        ToProducer::Credit(credit) => {
            vec![message(Message::Credit(v1::Credit { events: credit.events, bytes: credit.bytes }))]
        }
        ToProducer::Cancel { drain, time_left_ms } => {
            vec![message(Message::Cancel(v1::Cancel { drain: *drain, time_left_ms: *time_left_ms }))]
        }
        ToProducer::Dispositions(dispositions) => {
            let mut messages = Vec::new();
            let mut rest = dispositions.iter().map(encode_disposition).peekable();
            while rest.peek().is_some() {
                let dispositions = next_run(&mut rest);
                messages.push(message(Message::Dispositions(v1::Dispositions { dispositions })));
            }
            messages
        }
    }
}

/// As many as one message may have.
fn next_run(rest: &mut Peekable<impl Iterator<Item = v1::Disposition>>) -> Vec<v1::Disposition> {
    let (mut run, mut bytes) = (Vec::new(), MESSAGE_OVERHEAD_BYTES);
    while let Some(disposition) = rest.next_if(|next| {
        bytes += next.encoded_len() + DISPOSITION_OVERHEAD_BYTES;
        run.len() < DISPOSITIONS_PER_MESSAGE_MAX && bytes <= CONSUMER_MESSAGE_BYTES_MAX
    }) {
        run.push(disposition);
    }
    run
}

/// Checks a consumer's message.
///
/// # Errors
/// [`LinkError::Violation`] that names the field.
pub fn decode_consumer(message: v1::ConsumerMessage) -> Result<FromConsumer, LinkError> {
    let message = message.message.ok_or_else(|| violation("a message that this side does not know, or none"))?;
    Ok(match message {
        Message::Subscribe(subscribe) => FromConsumer::Subscribe(Box::new(decode_subscribe(subscribe)?)),
        Message::Credit(credit) => {
            FromConsumer::Message(ToProducer::Credit(Credit { events: credit.events, bytes: credit.bytes }))
        }
        Message::Cancel(cancel) => {
            FromConsumer::Message(ToProducer::Cancel { drain: cancel.drain, time_left_ms: cancel.time_left_ms })
        }
        Message::Dispositions(v1::Dispositions { dispositions }) => {
            let count = dispositions.len();
            if count > DISPOSITIONS_PER_MESSAGE_MAX {
                return Err(violation(format!("{count} dispositions, more than {DISPOSITIONS_PER_MESSAGE_MAX}")));
            }
            let dispositions = dispositions.into_iter().map(decode_disposition).collect::<Result<_, _>>()?;
            FromConsumer::Message(ToProducer::Dispositions(dispositions))
        }
    })
}

fn message(message: Message) -> v1::ConsumerMessage {
    v1::ConsumerMessage { message: Some(message) }
}

fn decode_subscribe(subscribe: v1::Subscribe) -> Result<Subscribe, LinkError> {
    let kind = match v1::GroupKind::try_from(subscribe.kind) {
        Ok(v1::GroupKind::Required) => GroupKind::Required,
        Ok(v1::GroupKind::Attached) => GroupKind::Attached,
        Ok(v1::GroupKind::Tap) => GroupKind::Tap,
        Ok(v1::GroupKind::Unspecified) | Err(_) => {
            return Err(violation(format!("kind of group {} is unknown", subscribe.kind)));
        }
    };
    let (event, frame) = (subscribe.event_bytes_max, subscribe.frame_bytes_max);
    if event == 0 || frame < event.saturating_add(FRAME_OVERHEAD_BYTES as u64) {
        return Err(violation(format!(
            "event_bytes_max {event} must be above 0, and frame_bytes_max {frame} greater by {FRAME_OVERHEAD_BYTES}"
        )));
    }
    Ok(Subscribe {
        versions: versions(&subscribe),
        pipeline: check_name("pipeline", subscribe.pipeline)?,
        output: check_name("output", subscribe.output)?,
        group: check_name("group", subscribe.group)?,
        kind,
        instance: decode_instance(subscribe.instance)?,
        link_counter: subscribe.link_counter,
        window: decode_window(subscribe.window)?,
        event_bytes_max: event,
        frame_bytes_max: frame,
        selector: subscribe.selector.map(|name| check_name("selector", name)).transpose()?,
        partition: subscribe.partition.map(decode_partition).transpose()?,
    })
}

fn decode_partition(partition: u32) -> Result<u16, LinkError> {
    let found = u16::try_from(partition).ok().filter(|partition| usize::from(*partition) < PARTITIONS_MAX);
    found.ok_or_else(|| violation(format!("partition {partition}, of {PARTITIONS_MAX}")))
}

fn encode_disposition(disposition: &Disposition) -> v1::Disposition {
    let (state, rejection) = match &disposition.state {
        Settled::Outcome(Outcome::Accepted) => (State::Accepted, None),
        Settled::Outcome(Outcome::Rejected(rejection)) => (State::Rejected, Some(encode_rejection(rejection))),
        Settled::Released => (State::Released, None),
    };
    v1::Disposition { first: disposition.first, last: disposition.last, state: state.into(), rejection }
}

fn decode_disposition(disposition: v1::Disposition) -> Result<Disposition, LinkError> {
    let v1::Disposition { first, last, state, rejection } = disposition;
    if first == 0 || last < first {
        return Err(violation(format!("disposition of {first} to {last} is no range of deliveries")));
    }
    let state = match (State::try_from(state), rejection) {
        (Ok(State::Accepted), None) => Settled::Outcome(Outcome::Accepted),
        (Ok(State::Rejected), Some(rejection)) => {
            Settled::Outcome(Outcome::Rejected(Box::new(decode_rejection(rejection)?)))
        }
        (Ok(State::Released), None) => Settled::Released,
        (Ok(State::Rejected), None) => return Err(violation("a rejected disposition without its rejection")),
        (Ok(State::Accepted | State::Released), Some(_)) => {
            return Err(violation("a rejection in a disposition that is not rejected"));
        }
        (Ok(State::Unspecified) | Err(_), _) => {
            return Err(violation(format!("state of disposition {state} is unknown")));
        }
    };
    Ok(Disposition { first, last, state })
}

fn encode_rejection(rejection: &Rejection) -> v1::Rejection {
    let reason = match rejection.reason {
        Reason::Malformed => rejection::Reason::Malformed,
        Reason::Invalid => rejection::Reason::Invalid,
        Reason::TooLarge => rejection::Reason::TooLarge,
        Reason::Exhausted => rejection::Reason::Exhausted,
        Reason::Refused => rejection::Reason::Refused,
    };
    let text = cut(&rejection.text, TEXT_BYTES_MAX).to_owned();
    v1::Rejection { reason: reason.into(), text, stored: rejection.stored }
}

fn decode_rejection(rejection: v1::Rejection) -> Result<Rejection, LinkError> {
    let v1::Rejection { reason, text, stored } = rejection;
    let reason = match rejection::Reason::try_from(reason) {
        Ok(rejection::Reason::Malformed) => Reason::Malformed,
        Ok(rejection::Reason::Invalid) => Reason::Invalid,
        Ok(rejection::Reason::TooLarge) => Reason::TooLarge,
        Ok(rejection::Reason::Exhausted) => Reason::Exhausted,
        Ok(rejection::Reason::Refused) | Err(_) => Reason::Refused,
        Ok(rejection::Reason::Unspecified) => return Err(violation("a rejection without a reason")),
    };
    if text.len() > TEXT_BYTES_MAX {
        return Err(violation(format!("a rejection's text has {} bytes, more than {TEXT_BYTES_MAX}", text.len())));
    }
    Ok(Rejection { reason, text, stored })
}

pub(crate) fn encode_instance(instance: &Instance) -> v1::Instance {
    v1::Instance { name: instance.name.clone(), incarnation: instance.incarnation }
}

pub(crate) fn decode_instance(instance: Option<v1::Instance>) -> Result<Instance, LinkError> {
    let v1::Instance { name, incarnation } = instance.ok_or_else(|| violation("instance is missing"))?;
    Ok(Instance { name: check_name("instance.name", name)?, incarnation })
}

pub(crate) fn encode_window(window: Window) -> v1::Window {
    v1::Window { events: window.events, bytes: window.bytes }
}

pub(crate) fn decode_window(window: Option<v1::Window>) -> Result<Window, LinkError> {
    let v1::Window { events, bytes } = window.ok_or_else(|| violation("window is missing"))?;
    if events == 0 || bytes == 0 {
        return Err(violation(format!("a window of {events} events and {bytes} bytes: both must be above 0")));
    }
    Ok(Window { events, bytes })
}
