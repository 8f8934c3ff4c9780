//! The JSON format: there and back, its rules, and bad input.

#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use jaiminho_event::{CloudEvent, DATA_DEPTH_MAX, Data, Value, check_json};
use proptest::prelude::*;
use serde_json::json;

fn head(tail: &str) -> String {
    format!(r#"{{"specversion":"1.0","id":"i","source":"s","type":"t"{tail}}}"#)
}

fn read(tail: &str) -> CloudEvent {
    CloudEvent::from_json_slice(head(tail).as_bytes()).unwrap()
}

fn refused(tail: &str) -> String {
    CloudEvent::from_json_slice(head(tail).as_bytes()).unwrap_err().problem().to_owned()
}

fn tree() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|value| json!(value)),
        any::<i64>().prop_map(|value| json!(value)),
        ".{0,12}".prop_map(|text| json!(text)),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|list| json!(list)),
            proptest::collection::hash_map(".{0,5}", inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
}

fn event() -> impl Strategy<Value = CloudEvent> {
    let scalar = prop_oneof![
        any::<bool>().prop_map(Value::Boolean),
        any::<i32>().prop_map(Value::Integer),
        "[ -~ö]{0,12}".prop_map(Value::String)
    ];
    let data = prop_oneof![
        Just((None, Data::None)),
        tree().prop_map(|tree| (None, Data::Text(tree.to_string()))),
        tree().prop_map(|tree| (Some("application/x+json"), Data::Text(tree.to_string()))),
        ".{0,20}".prop_map(|text| (Some("text/plain"), Data::Text(text))),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| (None, Data::Binary(Bytes::from(bytes)))),
    ];
    ("[!-~]{1,20}", "[!-~]{1,20}", "[!-~]{1,20}", proptest::collection::btree_map("x[a-z0-9]{1,9}", scalar, 0..5), data)
        .prop_map(|(id, source, ty, attributes, (content_type, data))| {
            let mut event = CloudEvent { id, source, ty, attributes, data };
            if let Some(content_type) = content_type {
                event.set("datacontenttype", Value::from(content_type)).unwrap();
            }
            event
        })
}

proptest! {
    #[test]
    fn an_event_comes_back_as_it_was(event in event()) {
        prop_assert_eq!(&CloudEvent::from_json(&event.to_json()), &Ok(event.clone()));
        prop_assert_eq!(&CloudEvent::from_json_slice(&event.to_json_bytes()), &Ok(event));
    }

    #[test]
    fn tree_and_text_say_the_same(event in event()) {
        let text: serde_json::Value = serde_json::from_slice(&event.to_json_bytes()).unwrap();
        prop_assert_eq!(text, event.to_json());
    }

    #[test]
    fn random_and_changed_text_never_panics(
        event in event(),
        noise in proptest::collection::vec(any::<u8>(), 0..60),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let _ = CloudEvent::from_json_slice(&noise);
        let mut text = event.to_json_bytes();
        for (at, byte) in changes {
            let at = at.index(text.len());
            text[at] = byte;
        }
        match CloudEvent::from_json_slice(&text) {
            Ok(event) => {
                prop_assert_eq!(event.validate(), Ok(()));
                prop_assert_eq!(CloudEvent::decode(&event.encode()), Ok(event.clone()));
                prop_assert_eq!(CloudEvent::from_json_slice(&event.to_json_bytes()), Ok(event));
            }
            Err(error) => prop_assert!(error.position.is_none_or(|at| at <= text.len())),
        }
    }

    #[test]
    fn a_random_tree_never_panics(tree in tree()) {
        let _ = CloudEvent::from_json(&tree);
    }
}

#[test]
fn members_become_attributes_of_their_type() {
    let event = read(
        r#","time":"2026-01-31T23:59:59Z","dataschema":"http://x","subject":"z","ext":5,"flag":true,"none":null,"data":{"a": 1.50}"#,
    );
    assert_eq!(event.attributes["time"], Value::Timestamp("2026-01-31T23:59:59Z".into()));
    assert_eq!(event.attributes["dataschema"], Value::Uri("http://x".into()));
    assert_eq!(event.attributes["ext"], Value::Integer(5));
    assert_eq!(event.attributes["flag"], Value::Boolean(true));
    assert!(!event.attributes.contains_key("none"));
    assert_eq!(event.data, Data::Text(r#"{"a": 1.50}"#.into()));
}

#[test]
fn data_keeps_its_own_text_and_digits() {
    let data = r#"{"n":12345678901234567890123, "d":1.10}"#;
    let event = read(&format!(r#","data": {data} "#));
    assert_eq!(event.data, Data::Text(data.into()));
    assert!(String::from_utf8(event.to_json_bytes()).unwrap().contains(data));
}

#[test]
fn data_is_a_string_where_it_is_not_json() {
    assert_eq!(read(r#","data":"<x/>","datacontenttype":"text/xml""#).data, Data::Text("<x/>".into()));
    assert_eq!(read(r#","datacontenttype":"text/xml","data":null"#).data, Data::None);
    assert_eq!(read(r#","data":"text""#).data, Data::Text("\"text\"".into()));
    assert_eq!(read(r#","data":null"#).data, Data::Text("null".into()));
    assert_eq!(read(r#","data_base64":"/wA=""#).data, Data::Binary(Bytes::from_static(b"\xff\0")));
    let text = CloudEvent { data: Data::Text("not json".into()), ..CloudEvent::new("i", "s", "t") };
    assert_eq!(text.to_json()["data"], "not json");
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&text.to_json_bytes()).unwrap()["data"], "not json");
}

#[test]
fn bad_text_is_told_what_is_wrong() {
    let number = "an attribute's number is whole and has 32 bits; write others as strings";
    let scalar = "an attribute is a string, a whole number or a boolean; structure belongs into `data`";
    for (tail, problem) in [
        (r#","x":1.5"#, format!("`x` is 1.5: {number}")),
        (r#","x":3000000000"#, format!("`x` is 3000000000: {number}")),
        (r#","x":[]"#, format!("`x`: {scalar}")),
        (r#","x":{}"#, format!("`x`: {scalar}")),
        (r#","x":1,"x":2"#, "`x` stands twice".into()),
        (r#","data":1,"data":2"#, "`data` stands twice".into()),
        (r#","data":1,"data_base64":"""#, "`data` and `data_base64` exclude each other".into()),
        (r#","data_base64":1"#, "`data_base64` must be a string".into()),
        (r#","data_base64":"?""#, "`data_base64` is not base64: Invalid symbol 63, offset 0.".into()),
        (r#","X":1"#, "`X` is no attribute name: 1 to 64 of a-z and 0-9".into()),
        (
            r#","data":{},"datacontenttype":"text/plain""#,
            "`data` must be a string where datacontenttype is `text/plain`".into(),
        ),
        (r#","data":"\ud800""#, "`data`: not JSON: unexpected end of hex escape".into()),
        (r#","data":1e999"#, "`data`: not JSON: number out of range".into()),
        (r#","data":}"#, "not JSON: expected value".into()),
    ] {
        assert_eq!(refused(tail), problem, "{tail}");
    }
    let of = |text: &str| CloudEvent::from_json_slice(text.as_bytes()).unwrap_err().to_string();
    assert_eq!(of(" \"[]\""), "invalid type: string, expected a CloudEvent: an object (at byte 0)");
    assert_eq!(of("[]"), "invalid type: sequence, expected a CloudEvent: an object (at byte 0)");
    assert_eq!(of("{}"), "`specversion` is missing: a CloudEvent has \"specversion\": \"1.0\"");
    assert_eq!(of(r#"{"specversion":"1.0"}"#), "`id` is missing or empty: every CloudEvent has one");
    assert_eq!(of(r#"{"specversion":"1.0","id":5}"#), "`id` must be a string (at byte 27)");
    assert_eq!(of("{\n \"a\": x"), "not JSON: expected value (at byte 8)");
}

#[test]
fn an_error_in_data_is_told_at_its_place_in_the_whole() {
    let text = head(r#","data":[1,"\ud800"]"#);
    let error = CloudEvent::from_json_slice(text.as_bytes()).unwrap_err();
    let at = text.find("ud800").unwrap();
    assert!(error.position.is_some_and(|position| position == at + 5), "{error} in {text}");
}

#[test]
fn nesting_has_a_limit_that_leaves_the_whole_event_readable() {
    let deep = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    let event = read(&format!(r#","data":{}"#, deep(DATA_DEPTH_MAX)));
    assert!(serde_json::from_slice::<serde_json::Value>(&event.to_json_bytes()).is_ok());
    assert!(refused(&format!(r#","data":{}"#, deep(DATA_DEPTH_MAX + 1))).contains("nested deeper than 120"));
    assert!(check_json(deep(100_000).as_bytes()).is_err());
}

#[test]
fn members_have_a_limit() {
    let many: String = (0..1_000).map(|number| format!(r#","a{number}":null"#)).collect();
    assert_eq!(refused(&many), "more than 134 members");
    let many: String = (0..200).map(|number| format!(r#","a{number}":1"#)).collect();
    assert_eq!(refused(&many), "more than 128 attributes");
}
