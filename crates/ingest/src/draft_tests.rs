//! Mutations of valid input, and random bytes: never a panic, and what passes is an event that the next stage can read.

use http::{HeaderMap, HeaderName, HeaderValue};
use jaiminho_core::KeyHash;
use jaiminho_event::{identity, key_hash};
use proptest::prelude::*;

use super::*;
use crate::headers;

pub(crate) fn drafter() -> Drafter {
    Drafter {
        ty: "t".to_owned(),
        source: "/s".to_owned(),
        key: Some(Template::parse("{{data.k}}").unwrap()),
        event_bytes_max: 4_096,
        events_max: 50,
    }
}

const SEEDS: [&str; 7] = [
    r#"{"k":"a","n":[1,2.5e3,null,true],"s":"\u00e9\n"}"#,
    r#"[{"k":1},"x",[],{}, 3]"#,
    "{\"k\":\"a\"}\n\n[1]\r\n\"x\"\n",
    r#"{"specversion":"1.0","id":"1","source":"/a","type":"t","time":"2024-01-01T00:00:00Z","data":{"k":"x"}}"#,
    r#"[{"specversion":"1.0","id":"1","source":"/a","type":"t","data_base64":"AAEC"},{"specversion":"1.0","source":"/","type":"t"}]"#,
    r#"{"specversion":"1.0","id":"1","source":"/a","type":"t","datacontenttype":"text/plain","data":"x","subject":"s"}"#,
    r#"{"n":1,"event":{"specversion":"1.0","id":"1","source":"/a","type":"t"}}"#,
];

/// A seed with a few bytes replaced, removed, repeated or added.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![any::<u8>(), prop::sample::select(b"{}[]\",:\\ \n0-e".to_vec())];
    let edits = prop::collection::vec((any::<prop::sample::Index>(), 0..4u8, byte), 0..6);
    (prop::sample::select(SEEDS.to_vec()), edits).prop_map(|(seed, edits)| {
        let mut bytes = seed.as_bytes().to_vec();
        for (at, kind, byte) in edits {
            let at = at.index(bytes.len().max(1));
            match kind {
                0 if at < bytes.len() => bytes[at] = byte,
                1 if at < bytes.len() => drop(bytes.remove(at)),
                2 => bytes.truncate(at + 1),
                _ => bytes.insert(at.min(bytes.len()), byte),
            }
        }
        bytes
    })
}

pub(crate) fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![4 => mutated(), 1 => prop::collection::vec(any::<u8>(), 0..300)]
}

fn check(result: Result<Drafts, Fault>, body: &[u8]) {
    match result {
        Ok(drafts) => {
            assert_eq!(drafts.events.len(), drafts.ids.len());
            for (event, id) in drafts.events.iter().zip(&drafts.ids) {
                let read = CloudEvent::decode(&event.payload).unwrap();
                read.validate().unwrap();
                assert!(event.payload.len() <= 4_096);
                assert_eq!((event.identity, &read.id), (identity(&read.source, &read.id), &id.text));
                let key = read.attribute("partitionkey").map(|key| KeyHash(key_hash(&key)));
                assert_eq!(event.key, key);
            }
        }
        Err(fault) => {
            assert!(fault.byte.is_none_or(|byte| byte <= body.len()), "{fault:?}");
            assert!(fault.problem(body).status.is_client_error());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn bodies_of_every_format_never_panic(body in body()) {
        for format in [Format::Json, Format::Ndjson, Format::Structured, Format::Batch] {
            check(drafter().body(format, &body, &Common::default(), usize::MAX), &body);
        }
        let mut event = CloudEvent::new("", "/a", "t");
        for content_type in [None, Some("application/json"), Some("text/plain"), Some("image/png")] {
            if let Some(content_type) = content_type {
                event.set("datacontenttype", Value::String(content_type.to_owned())).unwrap();
            }
            check(drafter().body(Format::Binary(Box::new(event.clone())), &body, &Common::default(), usize::MAX), &body);
        }
    }

    #[test]
    fn messages_never_panic(body in body()) {
        if let Ok(text) = std::str::from_utf8(&body) {
            let one = |drafted: Result<(NewEvent, EventId), Fault>| {
                drafted.map(|(event, id)| Drafts { events: vec![event], ids: vec![id], ..Drafts::default() })
            };
            check(one(drafter().message(text, &Common::default())), &body);
            check(one(drafter().structured_message(text, &Common::default())), &body);
            let _frame = crate::websocket::EventFrame::parse(text);
        }
    }

    #[test]
    fn headers_never_panic(
        pairs in prop::collection::vec((
            prop::sample::select(vec!["ce-id", "ce-source", "ce-type", "ce-specversion", "ce-time", "ce-x", "ce-a-b", "ce-",
                "ce-partitionkey", "ce-dataschema", "content-type", "content-encoding", "traceparent"]),
            prop_oneof![prop::sample::select(vec!["1.0", "%41%", "\"a\\", "\"\"", "application/json;charset", "gzip,", "%ed%a0%80"])
                .prop_map(|text| text.as_bytes().to_vec()), prop::collection::vec(any::<u8>(), 0..40)],
        ), 0..8),
    ) {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
            }
        }
        let _coding = headers::coding(&map);
        let common = headers::common(&map, &[("traceparent".parse().unwrap(), "tp".to_owned())]);
        if let (Ok(format), Ok(common)) = (headers::format(&map), common) {
            check(drafter().body(format, b"{\"k\":\"a\"}", &common, usize::MAX), b"{\"k\":\"a\"}");
        }
    }
}
