//! A dead letter: a CloudEvent that carries the rejected event, and says who rejected it and why.

use bytes::Bytes;
use jaiminho_core::{Event, Payload, Rejection};
use jaiminho_event::{CloudEvent, Data, EventView, Value, format_timestamp, identity};

/// `type` of every dead letter.
pub(crate) const TYPE: &str = "jaiminho.dead_letter.v1";
/// Largest dead letter, whatever its consumers take: what a broker takes.
pub(crate) const BYTES_MAX: u64 = 1 << 20;
/// Room for attributes, beside the key.
const ATTRIBUTES_BYTES: u64 = 4 << 10;

/// Makes one of at most `bytes_max`. The same for each redelivery, but for `attempt`: its id follows from the rejected event's.
///
/// Data: the rejected event in CloudEvents' JSON format; its bytes where it is no CloudEvent, or (cut, with
/// `truncated`) where it is too large.
pub(crate) fn dead_letter(
    pipeline: &str,
    stage: &str,
    event: &Event,
    rejection: &Rejection,
    bytes_max: u64,
) -> Payload {
    let view = EventView::parse(&event.payload).ok();
    let id = match &view {
        Some(view) => identity(view.source(), view.id()),
        None => xxhash_rust::xxh3::xxh3_128(&event.payload),
    };
    let mut letter = CloudEvent::new(format!("{id:032x}"), format!("/{pipeline}/{stage}"), TYPE);
    let mut set = |name: &str, value: Value| {
        letter.attributes.insert(name.to_owned(), value);
    };
    set("stage", stage.into());
    set("reason", rejection.reason.name().into());
    set("reasontext", rejection.text.chars().filter(|next| !next.is_control()).collect::<String>().into());
    set("attempt", Value::Integer(i32::try_from(event.attempt).unwrap_or(i32::MAX)));
    let nanos = u32::try_from(event.arrived_ms % 1000).unwrap_or_default() * 1_000_000;
    if let Some(time) = format_timestamp(i64::try_from(event.arrived_ms / 1000).unwrap_or_default(), nanos) {
        set("time", Value::Timestamp(time));
    }
    let mut data_bytes_max = bytes_max.min(BYTES_MAX).saturating_sub(ATTRIBUTES_BYTES);
    if let Some(key) = view.as_ref().and_then(|view| view.attribute("partitionkey")) {
        data_bytes_max = data_bytes_max.saturating_sub(key.len() as u64);
        set("partitionkey", key.into_owned().into());
    }
    let data_bytes_max = usize::try_from(data_bytes_max).unwrap_or(usize::MAX);
    // Not `application/cloudevents+…`: a record with that content type is taken for an event in structured mode.
    let text = view.map(|view| view.to_event().to_json().to_string());
    match text.filter(|text| text.len() <= data_bytes_max) {
        Some(text) => {
            set("datacontenttype", "application/json".into());
            letter.data = Data::Text(text);
        }
        None => {
            set("datacontenttype", "application/protobuf".into());
            let length = event.payload.len().min(data_bytes_max);
            if length < event.payload.len() {
                set("truncated", Value::Boolean(true));
            }
            letter.data = Data::Binary(Bytes::copy_from_slice(&event.payload[..length]));
        }
    }
    letter.encode().into()
}

#[cfg(test)]
mod tests {
    use jaiminho_core::{Origin, Reason};

    use super::*;

    fn rejected(payload: impl Into<Payload>) -> CloudEvent {
        CloudEvent::decode(&letter(payload, BYTES_MAX)).unwrap()
    }

    fn letter(payload: impl Into<Payload>, bytes_max: u64) -> Payload {
        let event = Event {
            payload: payload.into(),
            key: None,
            attempt: 2,
            arrived_ms: 1_500,
            deadline_ms: None,
            origin: Origin::default(),
            trace: None,
        };
        let rejection = Rejection { reason: Reason::Invalid, text: "no unit\n".into(), stored: false };
        dead_letter("p", "convert", &event, &rejection, bytes_max)
    }

    #[test]
    fn it_shows_the_event_and_why_it_was_rejected() {
        let mut event = CloudEvent::new("1", "/s", "t");
        event.set("partitionkey", "k".into()).unwrap();
        event.data = Data::Text("{\"temp\":1}".into());
        let letter = rejected(event.encode());
        letter.validate().unwrap();
        let json = letter.to_json();
        assert_eq!(json["data"]["data"]["temp"], 1);
        assert_eq!(json["datacontenttype"], "application/json");
        assert_eq!(
            (&json["reason"], &json["reasontext"], &json["stage"]),
            (&"invalid".into(), &"no unit".into(), &"convert".into())
        );
        assert_eq!((&json["partitionkey"], &json["time"]), (&"k".into(), &"1970-01-01T00:00:01.5Z".into()));
        assert_eq!(json["id"], format!("{:032x}", identity("/s", "1")));
    }

    #[test]
    fn it_is_no_larger_than_its_consumers_take() {
        let mut event = CloudEvent::new("1", "/s", "t");
        event.set("partitionkey", "k".repeat(5_000).into()).unwrap();
        for data in [Data::Text("\"\u{e9}".repeat(30_000)), Data::Binary(vec![0xff; 60_000].into())] {
            event.data = data;
            for bytes_max in [16 << 10, 64 << 10, 80 << 10] {
                let bytes = letter(event.encode(), bytes_max);
                assert!(bytes.len() as u64 <= bytes_max && bytes.len() as u64 > bytes_max / 2, "{}", bytes.len());
                CloudEvent::decode(&bytes).unwrap().validate().unwrap();
            }
        }
    }

    #[test]
    fn what_is_no_event_or_too_large_is_kept_as_bytes() {
        let letter = rejected(&b"\xff\xff garbage"[..]);
        assert_eq!(letter.data, Data::Binary(Bytes::from_static(b"\xff\xff garbage")));
        let letter = rejected(vec![0xff; 2 << 20]);
        assert_eq!(letter.attribute("truncated").unwrap(), "true");
        assert!(letter.encode().len() < 1 << 20);
    }
}
