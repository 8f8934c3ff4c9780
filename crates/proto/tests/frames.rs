//! Frames of events: there and back, and whatever a bad peer makes of them.

#![allow(clippy::unwrap_used)]

use std::num::NonZeroU64;

use bytes::Bytes;
use jaiminho_core::{Delivery, Event, KeyHash, LinkError, Origin, ToConsumer, Trace};
use jaiminho_proto::v1::{self, Events};
use jaiminho_proto::{
    EVENTS_PER_FRAME_MAX, FRAME_BYTES_MAX, FRAME_OVERHEAD_BYTES, FromProducer, decode_events, decode_producer,
    encode_events, encode_to_consumer, frames,
};
use proptest::prelude::*;
use prost::Message;

/// Traced events of one frame were all sent with it.
const SENT: u64 = u64::MAX - 7;

fn event() -> impl Strategy<Value = Event> {
    let trace = any::<[u8; 25]>().prop_map(|context| Some(Box::new(Trace { context, since: SENT })));
    let rare = prop_oneof![4 => Just(None), 1 => trace];
    (
        proptest::collection::vec(any::<u8>(), 0..40),
        proptest::option::of(prop_oneof![Just(0), any::<u64>()]),
        prop_oneof![Just(1), 1..9u32],
        prop_oneof![Just(0), any::<u64>()],
        any::<Option<NonZeroU64>>(),
        prop_oneof![Just(7), any::<u64>()],
        any::<u64>(),
        rare,
    )
        .prop_map(|(payload, key, attempt, arrived_ms, deadline_ms, incarnation, offset, trace)| Event {
            payload: payload.into(),
            key: key.map(KeyHash),
            attempt,
            arrived_ms,
            deadline_ms,
            origin: Origin { incarnation, offset },
            trace,
        })
}

fn deliveries() -> impl Strategy<Value = Vec<Delivery>> {
    // Sometimes all alike, so that columns of one value and none occur.
    let events = prop_oneof![
        proptest::collection::vec(event(), 0..24),
        (event(), 0..24usize).prop_map(|(event, count)| vec![event; count]),
    ];
    (events, 1..u64::MAX / 2).prop_map(|(events, first)| {
        events.into_iter().enumerate().map(|(at, event)| Delivery { number: first + at as u64, event }).collect()
    })
}

fn plain(payload: &[u8]) -> Event {
    Event::new(payload)
}

fn numbered(events: Vec<Event>) -> Vec<Delivery> {
    events.into_iter().zip(1..).map(|(event, number)| Delivery { number, event }).collect()
}

proptest! {
    #[test]
    fn a_frame_comes_back_as_it_was(deliveries in deliveries(), backlog: u64, pressure: bool) {
        let sent = ToConsumer::Events { deliveries, backlog, pressure };
        let wire = encode_to_consumer(&sent).encode_to_vec();
        let received = decode_producer(v1::ProducerMessage::decode(&wire[..]).unwrap());
        prop_assert_eq!(received, Ok(FromProducer::Message(sent)));
    }

    #[test]
    fn a_frame_is_at_most_as_long_as_frames_counts_it(deliveries in deliveries(), room in 0..2_000usize) {
        let max = room + FRAME_OVERHEAD_BYTES + 40;
        let mut seen = Vec::new();
        for frame in frames(&deliveries, max) {
            let message = v1::ProducerMessage { message: Some(v1::producer_message::Message::Events(
                encode_events(frame, u64::MAX, true))) };
            prop_assert!(message.encoded_len() <= max, "{} > {max}", message.encoded_len());
            seen.extend_from_slice(frame);
        }
        prop_assert_eq!(seen, deliveries);
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(events) = Events::decode(&bytes[..]) {
            let _ = decode_events(&events);
        }
        if let Ok(message) = v1::ProducerMessage::decode(&bytes[..]) {
            let _ = decode_producer(message);
        }
    }

    #[test]
    fn changed_bytes_never_panic(
        deliveries in deliveries(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut wire = encode_events(&deliveries, 5, true).encode_to_vec();
        for (at, byte) in changes {
            let at = at.index(wire.len());
            wire[at] = byte;
        }
        for bytes in [&wire[..], &wire[..cut.index(wire.len())]] {
            if let Ok(events) = Events::decode(bytes) {
                check(&events)?;
            }
        }
    }

    #[test]
    fn a_frame_with_a_column_that_does_not_fit_is_a_violation(
        deliveries in deliveries(), column in 0..10usize, value in any::<u32>(), length in 0..40usize,
    ) {
        let mut frame = encode_events(&deliveries, 0, false);
        match column {
            0 => frame.ends.resize(length, value),
            1 => frame.key_hash.resize(length, value.into()),
            2 => frame.keyless = Bytes::from(vec![value as u8; length]),
            3 => frame.attempt.resize(length, value),
            4 => frame.arrived_ms.resize(length, value.into()),
            5 => frame.deadline_ms.resize(length, value.into()),
            6 => frame.origin_incarnation.resize(length, value.into()),
            7 => frame.origin_offset.resize(length, value.into()),
            8 => frame.traced.resize(length, value),
            _ => frame.traces = Bytes::from(vec![value as u8; length]),
        }
        check(&frame)?;
    }
}

/// Either an error that says what, or one delivery for each end, whose payloads are all of the byte field.
fn check(frame: &Events) -> Result<(), TestCaseError> {
    match decode_events(frame) {
        Err(LinkError::Violation(text)) => prop_assert!(text.starts_with("frame: "), "{text}"),
        Err(other) => return Err(TestCaseError::fail(format!("{other:?}"))),
        Ok(ToConsumer::Events { deliveries, .. }) => {
            prop_assert_eq!(deliveries.len(), frame.ends.len());
            let payloads: Vec<u8> = deliveries.iter().flat_map(|delivery| delivery.event.payload.to_vec()).collect();
            prop_assert_eq!(&payloads[..], &frame.payloads[..]);
            prop_assert!(deliveries.windows(2).all(|pair| pair[0].number + 1 == pair[1].number));
            for column in [&frame.key_hash, &frame.arrived_ms, &frame.deadline_ms, &frame.origin_offset] {
                prop_assert!(matches!(column.len(), 0 | 1) || column.len() == deliveries.len());
            }
        }
        Ok(other) => return Err(TestCaseError::fail(format!("{other:?}"))),
    }
    Ok(())
}

#[test]
fn columns_that_are_all_default_are_left_out() {
    let frame = encode_events(&numbered(vec![plain(b"abc"), plain(b"defg")]), 0, false);
    assert_eq!(
        frame,
        Events { payloads: Bytes::from_static(b"abcdefg"), ends: vec![3, 7], first: 1, ..Events::default() }
    );
}

#[test]
fn an_event_keeps_nothing_of_its_frame_alive() {
    let frame = encode_events(&numbered(vec![plain(b"abc"), plain(b"defg")]), 0, false);
    let range = frame.payloads.as_ptr_range();
    let ToConsumer::Events { deliveries, .. } = decode_events(&frame).unwrap() else { panic!("no events") };
    assert!(deliveries.iter().all(|delivery| !range.contains(&delivery.event.payload.as_ptr())));
}

#[test]
fn the_byte_field_is_not_copied_between_socket_and_decoding() {
    let wire = Bytes::from(encode_events(&numbered(vec![plain(&[9; 300])]), 0, false).encode_to_vec());
    let frame = Events::decode(wire.clone()).unwrap();
    assert!(wire.as_ptr_range().contains(&frame.payloads.as_ptr()));
}

#[test]
fn when_a_frame_was_sent_is_said_only_for_traced_events() {
    let traced = Event { trace: Some(Box::new(Trace { context: [1; 25], since: SENT })), ..plain(b"x") };
    assert_eq!(encode_events(&numbered(vec![plain(b"y"), traced, plain(b"z")]), 0, false).sent_unix_ns, SENT);
    assert_eq!(encode_events(&numbered(vec![plain(b"y")]), 0, false).sent_unix_ns, 0);
    let told = Events { sent_unix_ns: SENT, ..encode_events(&numbered(vec![plain(b"y")]), 0, false) };
    let untraced = ToConsumer::Events { deliveries: numbered(vec![plain(b"y")]), backlog: 0, pressure: false };
    assert_eq!(decode_events(&told), Ok(untraced));
}

#[test]
fn a_key_whose_hash_is_zero_is_a_key() {
    let keyed = Event { key: Some(KeyHash(0)), ..plain(b"x") };
    for events in [vec![keyed.clone()], vec![plain(b"y"), keyed.clone()], vec![keyed.clone(), keyed]] {
        let sent = numbered(events);
        let received = decode_events(&encode_events(&sent, 0, false)).unwrap();
        assert_eq!(received, ToConsumer::Events { deliveries: sent, backlog: 0, pressure: false });
    }
}

#[test]
fn a_broken_frame_is_told_what_breaks_it() {
    let good = || Events { payloads: Bytes::from_static(b"abcdef"), ends: vec![3, 6], first: 1, ..Events::default() };
    assert!(decode_events(&good()).is_ok());
    let cases: Vec<(Events, &str)> = vec![
        (Events { ends: vec![3, 2], ..good() }, "frame: ends decrease"),
        (Events { ends: vec![3, 5], ..good() }, "frame: the last event ends at 5, payloads at 6"),
        (Events { ends: vec![3, 7], ..good() }, "frame: the last event ends at 7, payloads at 6"),
        (Events { ends: vec![], ..good() }, "frame: the last event ends at 0, payloads at 6"),
        (Events { first: 0, ..good() }, "frame: 2 events with numbers from 0"),
        (Events { first: u64::MAX, ..good() }, "frame: 2 events with numbers from 18446744073709551615"),
        (Events { first: 3, ..Events::default() }, "frame: 0 events with numbers from 3"),
        (Events { key_hash: vec![1; 3], ..good() }, "frame: key_hash has 3 values for 2 events"),
        (Events { keyless: vec![1].into(), ..good() }, "frame: keyless has 1 bytes for 2 events and 0 hashes"),
        (
            Events { keyless: vec![1, 1].into(), key_hash: vec![1, 2], ..good() },
            "frame: keyless has 2 bytes for 2 events and 2 hashes",
        ),
        (Events { attempt: vec![1, 0], ..good() }, "frame: an attempt of 0; the first is 1"),
        (Events { attempt: vec![2], ..Events::default() }, "frame: attempt has 1 values for 0 events"),
        (Events { traced: vec![0], ..good() }, "frame: traces has 0 bytes for 1 events of 25"),
        (
            Events { traced: vec![2], traces: vec![0; 25].into(), ..good() },
            "frame: traced does not ascend within 2 events",
        ),
        (
            Events { traced: vec![1, 1], traces: vec![0; 50].into(), ..good() },
            "frame: traced does not ascend within 2 events",
        ),
        (
            Events { payloads: Bytes::new(), ends: vec![0; EVENTS_PER_FRAME_MAX + 1], ..good() },
            "frame: 4097 events, more than 4096",
        ),
    ];
    for (frame, text) in cases {
        assert_eq!(decode_events(&frame), Err(LinkError::Violation(text.to_owned())));
    }
}

#[test]
fn a_full_frame_of_the_smallest_events_is_within_the_limit() {
    let events = (0..EVENTS_PER_FRAME_MAX as u64).map(|at| Event {
        key: Some(KeyHash(at)),
        attempt: at as u32 + 1,
        arrived_ms: at,
        deadline_ms: NonZeroU64::new(at + 1),
        origin: Origin { incarnation: at, offset: at },
        trace: Some(Box::new(Trace { context: [1; 25], since: u64::MAX })),
        ..plain(b"12345678")
    });
    let frame = encode_events(&numbered(events.collect()), u64::MAX, true);
    assert!(frame.encoded_len() < FRAME_BYTES_MAX, "{}", frame.encoded_len());
}
