//! What reading an event takes at its peak, counted by an allocator, against the size of what was given.

#![allow(clippy::unwrap_used)]

use allocation_counter::measure;
use jaiminho_event::{CloudEvent, Data, EventView, Template, check_json};
use proptest::prelude::*;

/// The attributes of one event, at most, and an error's text.
const WORK_BYTES: u64 = 48 << 10;

fn check(bytes: &[u8]) {
    let template = Template::parse("{{data.k}}{{type}}{{subject}}").unwrap();
    let size = bytes.len() as u64;
    let peak = |what: &str, factor: u64, peak: u64| {
        let limit = size * factor + WORK_BYTES;
        assert!(peak <= limit, "{what}: {peak} bytes of {limit} for {size}");
    };
    // A view borrows.
    let view = measure(|| drop(EventView::parse(bytes).map(drop))).bytes_max;
    peak("view", 0, view);
    peak("decode", 2, measure(|| drop(CloudEvent::decode(bytes))).bytes_max);
    peak("json", 3, measure(|| drop(CloudEvent::from_json_slice(bytes))).bytes_max);
    peak("check", 2, measure(|| drop(check_json(bytes))).bytes_max);
    if let Ok(view) = EventView::parse(bytes) {
        peak("template", 4, measure(|| drop(template.render(&view))).bytes_max);
    }
}

fn event(data: Data) -> CloudEvent {
    let mut event = CloudEvent::new("1", "/a", "t");
    event.data = data;
    event
}

#[test]
fn bombs_take_a_small_multiple_of_their_size() {
    let json = |member: &str| format!(r#"{{"specversion":"1.0","id":"1","source":"/a","type":"t",{member}}}"#);
    let many = |count: usize| (0..count).map(|n| format!("\"a{n}\":1")).collect::<Vec<_>>().join(",");
    for bomb in [
        json(&many(128)),
        json(&many(20_000)),
        json(&format!("\"{}\":1", "x".repeat(200 << 10))),
        json(&format!("\"x\":\"{}\"", "\\u00e9".repeat(30 << 10))),
        json(&format!("\"data\":{}", "[".repeat(200 << 10))),
        json(&format!("\"data\":[{}1]", "[],".repeat(80 << 10))),
        json(&format!("\"data_base64\":\"{}\"", "AAAA".repeat(60 << 10))),
        format!("\"{}\"", "x".repeat(200 << 10)),
        "[".repeat(200 << 10),
        "{\"a\":".repeat(40 << 10),
    ] {
        check(bomb.as_bytes());
    }
    // Protobuf: attributes without content, as many as there is room for; repeated data; deep and wide JSON as data.
    check(&[0x2a, 0x00].repeat(100_000));
    check(&[0x3a, 0x00].repeat(100_000));
    check(&event(Data::Text("[".repeat(200 << 10))).encode());
    check(&event(Data::Text(format!("{{\"k\":[{}1]}}", "{},".repeat(80 << 10)))).encode());
    check(&event(Data::Text(format!("{{\"k\":\"{}\"}}", "\\u00e9".repeat(30 << 10)))).encode());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn random_bytes_take_a_small_multiple_of_their_number(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        check(&bytes);
    }

    #[test]
    fn changed_events_take_a_small_multiple_of_their_size(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        data in "[ -~]{0,200}",
    ) {
        let event = event(Data::Text(data));
        for mut bytes in [event.encode().to_vec(), event.to_json_bytes()] {
            for (at, byte) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            check(&bytes);
        }
    }
}
