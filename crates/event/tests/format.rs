//! The protobuf format: there and back, against prost's own reading of the published definition, and mutated.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use jaiminho_event::{ATTRIBUTES_MAX, CloudEvent, Data, DataRef, EventView, Value, ValueRef, identity, key_hash};
use proptest::prelude::*;
use prost::Message;

/// `io.cloudevents.v1.CloudEvent` as prost has it: the reference.
#[derive(Clone, PartialEq, prost::Message)]
struct Reference {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    source: String,
    #[prost(string, tag = "3")]
    spec_version: String,
    #[prost(string, tag = "4")]
    ty: String,
    #[prost(map = "string, message", tag = "5")]
    attributes: HashMap<String, ReferenceValue>,
    #[prost(oneof = "ReferenceData", tags = "6, 7, 8")]
    data: Option<ReferenceData>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum ReferenceData {
    #[prost(bytes = "vec", tag = "6")]
    Binary(Vec<u8>),
    #[prost(string, tag = "7")]
    Text(String),
    #[prost(message, tag = "8")]
    Proto(ReferenceAny),
}

#[derive(Clone, PartialEq, prost::Message)]
struct ReferenceAny {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ReferenceValue {
    #[prost(oneof = "ReferenceAttribute", tags = "1, 2, 3, 4, 5, 6, 7")]
    value: Option<ReferenceAttribute>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum ReferenceAttribute {
    #[prost(bool, tag = "1")]
    Boolean(bool),
    #[prost(int32, tag = "2")]
    Integer(i32),
    #[prost(string, tag = "3")]
    String(String),
    #[prost(bytes = "vec", tag = "4")]
    Binary(Vec<u8>),
    #[prost(string, tag = "5")]
    Uri(String),
    #[prost(string, tag = "6")]
    UriRef(String),
    #[prost(message, tag = "7")]
    Timestamp(ReferenceTimestamp),
}

#[derive(Clone, PartialEq, prost::Message)]
struct ReferenceTimestamp {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

fn reference_of(event: &CloudEvent) -> Reference {
    let value = |value: &Value| match value.clone() {
        Value::Boolean(value) => ReferenceAttribute::Boolean(value),
        Value::Integer(value) => ReferenceAttribute::Integer(value),
        Value::String(text) => ReferenceAttribute::String(text),
        Value::Binary(bytes) => ReferenceAttribute::Binary(bytes.to_vec()),
        Value::Uri(text) => ReferenceAttribute::Uri(text),
        Value::UriRef(text) => ReferenceAttribute::UriRef(text),
        Value::Timestamp(text) => {
            let (seconds, nanos) = jaiminho_event::parse_timestamp(&text).unwrap();
            ReferenceAttribute::Timestamp(ReferenceTimestamp { seconds, nanos: nanos as i32 })
        }
    };
    let attributes = &event.attributes;
    Reference {
        id: event.id.clone(),
        source: event.source.clone(),
        spec_version: "1.0".into(),
        ty: event.ty.clone(),
        attributes: attributes
            .iter()
            .map(|(name, it)| (name.clone(), ReferenceValue { value: Some(value(it)) }))
            .collect(),
        data: match &event.data {
            Data::None => None,
            Data::Text(text) => Some(ReferenceData::Text(text.clone())),
            Data::Binary(bytes) => Some(ReferenceData::Binary(bytes.to_vec())),
        },
    }
}

fn value() -> impl Strategy<Value = Value> {
    let text = "[ -~äöüß🎈]{0,20}";
    prop_oneof![
        any::<bool>().prop_map(Value::Boolean),
        any::<i32>().prop_map(Value::Integer),
        text.prop_map(Value::String),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| Value::Binary(Bytes::from(bytes))),
        text.prop_map(Value::Uri),
        text.prop_map(Value::UriRef),
        (-62_135_596_800..253_402_300_800i64, prop_oneof![Just(0), 0..1_000_000_000u32])
            .prop_map(|(seconds, nanos)| Value::Timestamp(jaiminho_event::format_timestamp(seconds, nanos).unwrap())),
    ]
}

fn event() -> impl Strategy<Value = CloudEvent> {
    let data = prop_oneof![
        Just(Data::None),
        ".{0,60}".prop_map(Data::Text),
        proptest::collection::vec(any::<u8>(), 0..200).prop_map(|bytes| Data::Binary(Bytes::from(bytes))),
    ];
    let attributes = proptest::collection::btree_map("x[a-z0-9]{0,20}", value(), 0..6);
    ("[!-~ö]{1,40}", "[!-~]{1,200}", "[!-~]{1,20}", attributes, data)
        .prop_map(|(id, source, ty, attributes, data)| CloudEvent { id, source, ty, attributes, data })
}

proptest! {
    #[test]
    fn an_event_comes_back_as_it_was(event in event()) {
        prop_assert_eq!(event.validate(), Ok(()));
        prop_assert_eq!(CloudEvent::decode(&event.encode()), Ok(event));
    }

    #[test]
    fn prost_reads_what_is_written(event in event()) {
        prop_assert_eq!(Reference::decode(&event.encode()[..]).unwrap(), reference_of(&event));
    }

    #[test]
    fn what_prost_writes_is_read(event in event()) {
        prop_assert_eq!(CloudEvent::decode(&reference_of(&event).encode_to_vec()), Ok(event));
    }

    #[test]
    fn the_view_shows_what_the_event_has(event in event()) {
        let bytes = event.encode();
        let view = EventView::parse(&bytes).unwrap();
        prop_assert_eq!((view.id(), view.source(), view.ty()), (&event.id[..], &event.source[..], &event.ty[..]));
        prop_assert_eq!(view.is_json(), event.is_json());
        prop_assert_eq!(view.attributes().len(), event.attributes.len());
        for name in event.attributes.keys().map(String::as_str).chain(["id", "source", "type", "specversion", "nothing"]) {
            prop_assert_eq!(view.attribute(name), event.attribute(name));
        }
        let inside = |part: &[u8]| part.is_empty() || bytes.as_ptr_range().contains(&part.as_ptr());
        prop_assert!(inside(view.id().as_bytes()));
        match view.data() {
            DataRef::None => {}
            DataRef::Text(text) => prop_assert!(inside(text.as_bytes())),
            DataRef::Binary(bytes) => prop_assert!(inside(bytes)),
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = CloudEvent::decode(&bytes);
    }

    /// Where both read changed bytes, they read the same; what prost refuses, we refuse.
    #[test]
    fn changed_bytes_never_panic_and_agree_with_prost(
        event in event(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = event.encode().to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        for bytes in [&bytes[..], &bytes[..cut.index(bytes.len())]] {
            if let Ok(event) = CloudEvent::decode(bytes) {
                let reference = Reference::decode(bytes);
                prop_assert!(reference.is_ok(), "prost: {reference:?}, we: {event:?}");
                let reference = reference.unwrap();
                prop_assert_eq!(&reference.id, &event.id);
                if !matches!(reference.data, Some(ReferenceData::Proto(_))) {
                    prop_assert_eq!(reference, reference_of(&event));
                }
                prop_assert_eq!(CloudEvent::decode(&event.encode()), Ok(event));
            }
        }
    }
}

fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    out.push(u8::try_from(content.len()).unwrap());
    out.extend_from_slice(content);
    out
}

fn attribute(name: &str, value: &[u8]) -> Vec<u8> {
    field(5, &[field(1, name.as_bytes()), field(2, value)].concat())
}

fn problem(parts: &[Vec<u8>]) -> String {
    EventView::parse(&parts.concat()).unwrap_err().to_string()
}

#[test]
fn broken_bytes_are_told_what_breaks_them_and_where() {
    let head = [field(1, b"i"), field(2, b"s"), field(3, b"1.0"), field(4, b"t")].concat();
    assert!(EventView::parse(&head).is_ok());
    let with = |tail: Vec<u8>| problem(&[head.clone(), tail]);
    assert_eq!(problem(&[]), "`id` is missing or empty: every CloudEvent has one");
    assert_eq!(problem(&[field(1, b"i")]), "`source` is missing or empty: every CloudEvent has one");
    assert_eq!(with(field(4, b"")), "`type` is missing or empty: every CloudEvent has one");
    assert_eq!(with(field(3, b"0.3")), "specversion is `0.3`, and must be `1.0`");
    assert_eq!(with(field(1, b"ab\xff")), "`id` is not UTF-8 (at byte 18)");
    assert_eq!(with(vec![0x0a, 5, 1]), "not protobuf: a field of 5 bytes where 1 are left (at byte 14)");
    assert_eq!(with(vec![0x08, 1]), "not a CloudEvent: `id` must be length-delimited (at byte 14)");
    assert_eq!(with(vec![0x0b]), "not protobuf: wire type 3 is not in use (at byte 14)");
    assert_eq!(with(vec![0x00]), "not protobuf: field number out of range (at byte 14)");
    assert_eq!(with(vec![0xff; 11]), "not protobuf: a varint that has no end, or more than 64 bits (at byte 14)");
    assert_eq!(with(vec![0x80]), "not protobuf: a varint that has no end, or more than 64 bits (at byte 14)");
    let name = "is no attribute name: 1 to 64 of a-z and 0-9 (at byte 14)";
    assert_eq!(with(attribute("A", &[8, 1])), format!("`A` {name}"));
    assert_eq!(with(attribute("", &[8, 1])), format!("`` {name}"));
    assert_eq!(with(attribute("data", &[8, 1])), "`data` can't be the name of an extension attribute (at byte 14)");
    assert_eq!(with(attribute("a", &[])), "attribute `a` has no value (at byte 14)");
    assert_eq!(with(attribute("a", &[10, 0])), "not a CloudEvent: `ce_boolean` must be a varint (at byte 21)");
    let time = "a time outside the years 1 to 9999, or its nanos above a second (at byte 24)";
    assert_eq!(with(attribute("time", &field(7, &[16, 255, 255, 255, 255, 15]))), time);
    assert_eq!(with(attribute("time", &field(7, &[8, 255, 255, 255, 255, 255, 255, 255, 127]))), time);
}

#[test]
fn attributes_have_a_limit_and_repeats_do_not_count() {
    let mut bytes = CloudEvent::new("i", "s", "t").encode().to_vec();
    for number in 0..ATTRIBUTES_MAX {
        bytes.extend(attribute(&format!("a{number}"), &[8, 0]));
    }
    bytes.extend(attribute("a0", &[8, 1]));
    let view = EventView::parse(&bytes).unwrap();
    assert_eq!(view.value("a0"), Some(ValueRef::Boolean(true)));
    assert_eq!(view.attributes().len(), ATTRIBUTES_MAX);
    bytes.extend(attribute("one", &[8, 1]));
    let error = EventView::parse(&bytes).unwrap_err();
    assert!(error.problem().contains("more than 128 attributes"), "{error}");
}

#[test]
fn proto_data_is_binary_with_its_type_as_schema() {
    let any = ReferenceAny { type_url: "type.googleapis.com/x.Y".into(), value: vec![1, 2] };
    let reference =
        Reference { data: Some(ReferenceData::Proto(any)), ..reference_of(&CloudEvent::new("i", "s", "t")) };
    let event = CloudEvent::decode(&reference.encode_to_vec()).unwrap();
    assert_eq!(event.data, Data::Binary(Bytes::from_static(&[1, 2])));
    assert_eq!(event.attribute("dataschema").unwrap(), "type.googleapis.com/x.Y");
    assert_eq!(event.attribute("datacontenttype").unwrap(), "application/protobuf");
}

#[test]
fn attributes_get_their_type_and_wrong_ones_change_nothing() {
    let mut event = CloudEvent::new("i", "s", "t");
    event.set("time", Value::from("2026-01-31T23:59:59.500+01:00")).unwrap();
    assert_eq!(event.attributes["time"], Value::Timestamp("2026-01-31T22:59:59.5Z".into()));
    event.set("dataschema", Value::from("http://x/y")).unwrap();
    assert_eq!(event.attributes["dataschema"], Value::Uri("http://x/y".into()));
    event.set("id", Value::from("other")).unwrap();
    assert_eq!(event.id, "other");
    let before = event.clone();
    for (name, value, problem) in [
        ("time", "yesterday", "`time`: `yesterday` is not an RFC 3339 time, as 2026-01-31T23:59:59.5Z"),
        ("id", "", "`id` is missing or empty: every CloudEvent has one"),
        ("specversion", "0.3", "specversion is `0.3`, and must be `1.0`"),
        ("subject", "", "`subject` is empty: leave it out, or give it a value"),
        ("Partition", "x", "`Partition` is no attribute name: 1 to 64 of a-z and 0-9"),
        ("data", "x", "`data` can't be the name of an extension attribute"),
        ("x", "a\u{7}", "`x` has the character U+0007 at byte 1: control characters and noncharacters are not allowed"),
        (
            "x",
            "\u{fffe}",
            "`x` has the character U+FFFE at byte 0: control characters and noncharacters are not allowed",
        ),
    ] {
        assert_eq!(event.set(name, Value::from(value)).unwrap_err().to_string(), problem);
    }
    assert_eq!(event.set("partitionkey", Value::from(1)).unwrap_err().to_string(), "`partitionkey` must be a string");
    assert_eq!(event, before);
    let wrong = BTreeMap::from([("time".to_owned(), Value::from("x"))]);
    assert!(CloudEvent { attributes: wrong, ..event }.validate().is_err());
}

#[test]
fn values_have_their_canonical_text() {
    assert_eq!(Value::from(true).to_text(), "true");
    assert_eq!(Value::from(-5).to_text(), "-5");
    assert_eq!(Value::Binary(Bytes::from_static(b"\xff\x00")).to_text(), "/wA=");
    assert_eq!(ValueRef::Timestamp { seconds: 0, nanos: 1 }.to_text(), "1970-01-01T00:00:00.000000001Z");
}

#[test]
fn data_is_json_by_its_content_type_or_for_want_of_one() {
    let cases = [
        (None, true),
        (Some("application/json"), true),
        (Some("text/JSON; charset=utf-8"), true),
        (Some("application/problem+json"), true),
        (Some("text/plain"), false),
        (Some("application/jsonl"), false),
        (Some("+json"), false),
    ];
    for (content_type, json) in cases {
        let mut event = CloudEvent::new("i", "s", "t");
        event.data = Data::Text("1".into());
        if let Some(content_type) = content_type {
            event.set("datacontenttype", Value::from(content_type)).unwrap();
        }
        assert_eq!(event.is_json(), json, "{content_type:?}");
        event.data = Data::Binary(Bytes::from_static(b"1"));
        assert!(!event.is_json());
    }
}

#[test]
fn hashes_are_part_of_the_protocol_and_stay() {
    assert_eq!(key_hash("device-1"), xxhash_rust::xxh3::xxh3_64(b"device-1"));
    assert_eq!(key_hash(""), 0x2d06_8005_38d3_94c2);
    assert_eq!(identity("s", "i"), xxhash_rust::xxh3::xxh3_128(b"s\0i"));
    assert_ne!(identity("a", "bc"), identity("ab", "c"));
}
