//! What decoding takes at its peak, counted by an allocator, against the size of what a peer sent: a message is bounded
//! by the transport, and decoding it by a multiple of that.

#![allow(clippy::unwrap_used)]

use allocation_counter::measure;
use bytes::Bytes;
use jaiminho_core::{Delivery, Event, KeyHash, Origin, Trace};
use jaiminho_proto::v1::{self, ConsumerMessage, Events, ProducerMessage, producer_message::Message};
use jaiminho_proto::{
    CONSUMER_DECODING_FACTOR, CONSUMER_MESSAGE_BYTES_MAX, CONSUMER_MESSAGE_FACTOR, DECODED_EVENT_BYTES,
    DISPOSITIONS_PER_MESSAGE_MAX, EVENTS_PER_FRAME_MAX, FRAME_BYTES_MAX, FRAME_DECODING_FACTOR, decode_consumer,
    decode_producer, encode_events,
};
use proptest::prelude::*;
use prost::Message as _;

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
    let events = (wire.len() as u64).min(EVENTS_PER_FRAME_MAX as u64) * DECODED_EVENT_BYTES;
    let limit = wire.len() as u64 * FRAME_DECODING_FACTOR + events + SMALL;
    assert!(peak <= limit, "a frame of {} bytes takes {peak}, more than {limit}", wire.len());
    let peak = measure(|| {
        if let Ok(message) = ConsumerMessage::decode(bytes) {
            drop(decode_consumer(message));
        }
    })
    .bytes_max;
    let limit = wire.len() as u64 * CONSUMER_DECODING_FACTOR + SMALL;
    assert!(peak <= limit, "a consumer's message of {} bytes takes {peak}, more than {limit}", wire.len());
}

fn wire(frame: Events) -> Vec<u8> {
    ProducerMessage { message: Some(Message::Events(frame)) }.encode_to_vec()
}

#[test]
fn the_largest_frames_take_a_multiple_of_their_size() {
    let count = FRAME_BYTES_MAX - 64;
    for frame in [
        Events { key_hash: vec![1; count / 8], ..Events::default() },
        Events { ends: vec![1; count / 4], ..Events::default() },
        Events { origin_offset: vec![0; count / 16], arrived_ms: vec![0; count / 16], ..Events::default() },
        Events { traced: vec![1; count / 4], ..Events::default() },
        Events { payloads: Bytes::from(vec![0; count]), ends: vec![count as u32], first: 1, ..Events::default() },
        Events { traces: Bytes::from(vec![0; count]), ..Events::default() },
        Events { ends: vec![0; EVENTS_PER_FRAME_MAX], first: 1, ..Events::default() },
    ] {
        check(&wire(frame));
    }
    let revoke = Message::Revoke(v1::Revoke { partitions: vec![1; count / 4] });
    check(&ProducerMessage { message: Some(revoke) }.encode_to_vec());
    // Not packed: a tag before each number; and every message several times over, which are one.
    let ends = [0x15u8, 1, 0, 0, 0].repeat(800_000);
    let mut unpacked = vec![0x12];
    prost::encoding::encode_varint(ends.len() as u64, &mut unpacked);
    check(&[unpacked, ends].concat());
    check(&wire(Events { key_hash: vec![1; 1_000], ..Events::default() }).repeat(500));
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

#[test]
fn a_checked_message_of_a_consumer_takes_a_multiple_of_the_largest_one() {
    let rejection = |text: String| Some(v1::Rejection { reason: 1, text, stored: true });
    let disposition =
        |text: &str| v1::Disposition { first: 1, last: 1, state: 2, rejection: rejection(text.to_owned()) };
    let accepted = v1::Disposition { first: 1, last: 1, state: 1, rejection: None };
    for dispositions in [
        vec![accepted; DISPOSITIONS_PER_MESSAGE_MAX],
        vec![disposition("xxxx"); DISPOSITIONS_PER_MESSAGE_MAX],
        vec![disposition(&"x".repeat(256)); CONSUMER_MESSAGE_BYTES_MAX / 280],
    ] {
        let dispositions = v1::Dispositions { dispositions };
        let message = ConsumerMessage { message: Some(v1::consumer_message::Message::Dispositions(dispositions)) };
        let wire = Bytes::from(message.encode_to_vec());
        assert!(wire.len() <= CONSUMER_MESSAGE_BYTES_MAX, "{}", wire.len());
        let mut checked = None;
        let info = measure(|| checked = decode_consumer(ConsumerMessage::decode(wire).unwrap()).ok());
        assert!(checked.is_some());
        let (held, limit) = (info.bytes_current, CONSUMER_MESSAGE_FACTOR as i64 * CONSUMER_MESSAGE_BYTES_MAX as i64);
        assert!(held <= limit, "{held} bytes, more than {limit}");
    }
}

fn deliveries() -> impl Strategy<Value = Vec<Delivery>> {
    let event = (proptest::collection::vec(any::<u8>(), 0..40), any::<Option<u64>>(), any::<u64>(), any::<bool>());
    proptest::collection::vec(event, 0..40).prop_map(|events| {
        let events = events.into_iter().map(|(payload, key, offset, traced)| Event {
            payload: payload.into(),
            key: key.map(KeyHash),
            attempt: 1,
            arrived_ms: offset,
            deadline_ms: None,
            origin: Origin { incarnation: 1, offset },
            trace: traced.then(|| Box::new(Trace { context: [1; 25], since: 1 })),
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
