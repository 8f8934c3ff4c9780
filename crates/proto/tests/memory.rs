//! What decoding takes at its peak, counted by an allocator, against the size of what a peer sent: a message is bounded
//! by the transport, and decoding it by a multiple of that.

#![allow(clippy::unwrap_used)]

use allocation_counter::measure;
use bytes::Bytes;
use jaiminho_core::{Delivery, Event, KeyHash, Origin};
use jaiminho_proto::v1::{ConsumerMessage, Events, ProducerMessage, producer_message};
use jaiminho_proto::{
    CONSUMER_MESSAGE_BYTES_MAX, EVENTS_PER_FRAME_MAX, FRAME_BYTES_MAX, decode_consumer, decode_producer, encode_events,
};
use proptest::prelude::*;
use prost::Message;

/// A number of one byte on the wire has eight in memory, and a list grows by doubling.
const FACTOR: u64 = 16;
/// An empty range of dispositions has two bytes on the wire; such a message has at most 256 KiB.
const CONSUMER_FACTOR: u64 = 48;
/// An event of a checked frame, in memory: its columns, and a payload of its own.
const EVENT_BYTES: u64 = 256;
/// Of an error's text, and the least of a list.
const SMALL: u64 = 4 << 10;

fn check(wire: &[u8]) {
    let bytes = Bytes::copy_from_slice(wire);
    let peak = measure(|| {
        if let Ok(message) = ProducerMessage::decode(bytes.clone()) {
            drop(decode_producer(message));
        }
    })
    .bytes_max;
    let events = (wire.len() as u64).min(EVENTS_PER_FRAME_MAX as u64) * EVENT_BYTES;
    let limit = wire.len() as u64 * FACTOR + events + SMALL;
    assert!(peak <= limit, "a frame of {} bytes takes {peak}, more than {limit}", wire.len());
    let peak = measure(|| {
        if let Ok(message) = ConsumerMessage::decode(bytes) {
            drop(decode_consumer(message));
        }
    })
    .bytes_max;
    let limit = wire.len() as u64 * CONSUMER_FACTOR + SMALL;
    assert!(peak <= limit, "a consumer's message of {} bytes takes {peak}, more than {limit}", wire.len());
}

fn wire(frame: Events) -> Vec<u8> {
    ProducerMessage { message: Some(producer_message::Message::Events(frame)) }.encode_to_vec()
}

#[test]
fn the_largest_frames_of_the_smallest_numbers_take_a_multiple_of_their_size() {
    let count = FRAME_BYTES_MAX - 64;
    for frame in [
        Events { key_hash: vec![1; count], ..Events::default() },
        Events { ends: vec![1; count], ..Events::default() },
        Events { origin_offset: vec![0; count / 2], arrived_ms: vec![0; count / 2], ..Events::default() },
        Events { traced: vec![1; count], ..Events::default() },
        Events { payloads: Bytes::from(vec![0; count]), ..Events::default() },
        Events { traces: Bytes::from(vec![0; count]), ..Events::default() },
        Events { ends: vec![0; EVENTS_PER_FRAME_MAX], first: 1, ..Events::default() },
    ] {
        check(&wire(frame));
    }
    // Not packed: a tag before each number.
    check(&[&[0x12, 0xff, 0xff, 0xff, 0x01], &[0x20u8, 0x01].repeat(1 << 20)[..]].concat());
}

#[test]
fn a_consumers_largest_messages_take_a_multiple_of_their_size() {
    for field in 1..6u8 {
        // Nested messages of no length, as many as there is room for; and one of text.
        for inner in 1..6u8 {
            let tag = |field: u8| field << 3 | 2;
            let items = [tag(inner), 0].repeat((CONSUMER_MESSAGE_BYTES_MAX - 16) / 2);
            let mut message = vec![tag(field)];
            prost::encoding::encode_varint(items.len() as u64, &mut message);
            message.extend(items);
            check(&message);
            let text = vec![b'x'; CONSUMER_MESSAGE_BYTES_MAX - 32];
            let mut inside = vec![tag(inner)];
            prost::encoding::encode_varint(text.len() as u64, &mut inside);
            inside.extend(text);
            let mut message = vec![tag(field)];
            prost::encoding::encode_varint(inside.len() as u64, &mut message);
            message.extend(inside);
            check(&message);
        }
    }
}

fn deliveries() -> impl Strategy<Value = Vec<Delivery>> {
    let event = (proptest::collection::vec(any::<u8>(), 0..40), any::<Option<u64>>(), any::<u64>(), any::<bool>());
    proptest::collection::vec(event, 0..40).prop_map(|events| {
        let events = events.into_iter().map(|(payload, key, offset, traced)| Event {
            payload: Bytes::from(payload),
            key: key.map(KeyHash),
            attempt: 1,
            arrived_ms: offset,
            deadline_ms: None,
            origin: Origin { incarnation: 1, offset },
            trace: traced.then(|| Box::new([1; 25])),
        });
        events.zip(1..).map(|(event, number)| Delivery { number, event }).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn random_bytes_take_a_multiple_of_their_number(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        check(&bytes);
    }

    #[test]
    fn changed_frames_take_a_multiple_of_their_size(
        deliveries in deliveries(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut wire = wire(encode_events(&deliveries, 5, true));
        for (at, byte) in changes {
            let at = at.index(wire.len());
            wire[at] = byte;
        }
        check(&wire);
        check(&wire[..cut.index(wire.len())]);
    }
}
