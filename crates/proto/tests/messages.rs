//! The other messages and the statuses: there and back, limits, and unknown values.

#![allow(clippy::unwrap_used)]

use jaiminho_core::{
    Credit, Disposition, EndReason, GroupKind, Instance, LinkError, Outcome, Reason, Rejection, Settled, Subscribe,
    Subscribed, ToConsumer, ToProducer, Versions, Window,
};
use jaiminho_proto::v1::{self, consumer_message, producer_message};
use jaiminho_proto::{
    CONSUMER_MESSAGE_BYTES_MAX, DISPOSITIONS_PER_MESSAGE_MAX, ERROR_KEY, FILE_DESCRIPTOR_SET, FromConsumer,
    FromProducer, NAME_BYTES_MAX, check_version, decode_consumer, decode_producer, encode_subscribe, encode_subscribed,
    encode_to_consumer, encode_to_producer, link_error, status_of,
};
use proptest::prelude::*;
use prost::Message;
use tonic::{Code, Status};

fn name() -> impl Strategy<Value = String> {
    "[a-zA-Zäß.:-]{1,60}"
}

fn instance() -> impl Strategy<Value = Instance> {
    (name(), any::<u64>()).prop_map(|(name, incarnation)| Instance { name, incarnation })
}

fn window() -> impl Strategy<Value = Window> {
    (1..u64::MAX, 1..u64::MAX).prop_map(|(events, bytes)| Window { events, bytes })
}

fn subscribe() -> impl Strategy<Value = Subscribe> {
    let kinds = prop_oneof![Just(GroupKind::Required), Just(GroupKind::Attached), Just(GroupKind::Tap)];
    let choice = (proptest::option::of(name()), proptest::option::of(0..4_096u16));
    let names = (name(), name(), name());
    (0..2u32, 1..9u32, names, kinds, instance(), any::<u64>(), window(), 1..1u64 << 40, choice).prop_map(
        |(min, max, names, kind, instance, link_counter, window, event_bytes_max, choice)| {
            let ((pipeline, output, group), (selector, partition)) = (names, choice);
            Subscribe {
                versions: Versions { min, max },
                pipeline,
                output,
                group,
                kind,
                instance,
                link_counter,
                window,
                event_bytes_max,
                frame_bytes_max: event_bytes_max + 256,
                selector,
                partition,
            }
        },
    )
}

fn disposition() -> impl Strategy<Value = Disposition> {
    let reasons = prop_oneof![
        Just(Reason::Malformed),
        Just(Reason::Invalid),
        Just(Reason::TooLarge),
        Just(Reason::Exhausted),
        Just(Reason::Refused)
    ];
    let rejection = (reasons, ".{0,60}", any::<bool>())
        .prop_map(|(reason, text, stored)| Outcome::Rejected(Box::new(Rejection { reason, text, stored })));
    let state = prop_oneof![
        Just(Settled::Released),
        Just(Settled::Outcome(Outcome::Accepted)),
        rejection.prop_map(Settled::Outcome)
    ];
    (1..u64::MAX, any::<u64>(), state).prop_map(|(first, more, state)| Disposition {
        first,
        last: first.saturating_add(more),
        state,
    })
}

fn to_producer() -> impl Strategy<Value = ToProducer> {
    prop_oneof![
        any::<(u64, u64)>().prop_map(|(events, bytes)| ToProducer::Credit(Credit { events, bytes })),
        any::<(bool, u64)>().prop_map(|(drain, time_left_ms)| ToProducer::Cancel { drain, time_left_ms }),
        proptest::collection::vec(disposition(), 1..8).prop_map(ToProducer::Dispositions),
    ]
}

fn error() -> impl Strategy<Value = LinkError> {
    let text = || ".{0,100}";
    prop_oneof![
        text().prop_map(LinkError::Violation),
        any::<(u32, u32, u32, u32)>().prop_map(|(peer_min, peer_max, min, max)| LinkError::Version {
            peer_min,
            peer_max,
            min,
            max
        }),
        text().prop_map(LinkError::UnknownOutput),
        (text(), text()).prop_map(|(ours, theirs)| LinkError::WrongPipeline { ours, theirs }),
        text().prop_map(LinkError::UnknownGroup),
        text().prop_map(LinkError::Selector),
        text().prop_map(LinkError::Partition),
        text().prop_map(LinkError::NotAllowed),
        text().prop_map(LinkError::Fenced),
        Just(LinkError::Replaced),
        text().prop_map(LinkError::Limit),
        any::<u64>().prop_map(LinkError::Lagged),
        any::<u64>().prop_map(LinkError::Silent),
        Just(LinkError::Draining),
        text().prop_map(LinkError::Unavailable),
    ]
}

fn over_the_wire<M: Message + Default>(message: &M) -> M {
    M::decode(&message.encode_to_vec()[..]).unwrap()
}

proptest! {
    #[test]
    fn a_subscribe_comes_back_as_it_was(subscribe in subscribe()) {
        let received = decode_consumer(over_the_wire(&encode_subscribe(&subscribe)));
        prop_assert_eq!(received, Ok(FromConsumer::Subscribe(Box::new(subscribe))));
    }

    #[test]
    fn what_a_consumer_says_comes_back_as_it_was(message in to_producer()) {
        let [wire] = &encode_to_producer(&message)[..] else { panic!("one message") };
        prop_assert_eq!(decode_consumer(over_the_wire(wire)), Ok(FromConsumer::Message(message)));
    }

    #[test]
    fn what_a_producer_says_comes_back_as_it_was(
        partitions in proptest::collection::vec(0..4096u16, 0..20), last: u64, finished: bool,
    ) {
        let reason = if finished { EndReason::Finished } else { EndReason::Draining };
        for message in [ToConsumer::Revoke { partitions }, ToConsumer::Ended { last, reason }] {
            let received = decode_producer(over_the_wire(&encode_to_consumer(&message)));
            prop_assert_eq!(received, Ok(FromProducer::Message(message)));
        }
    }

    #[test]
    fn a_subscribed_comes_back_as_it_was(window in window(), link_id: u64, instance in instance(), bits in 0..13u32) {
        let sent = Subscribed {
            version: 1, window, link_id, instance, partition_count: 1 << bits, hash_version: 1, heartbeat_ms: 2_000,
        };
        let received = decode_producer(over_the_wire(&encode_subscribed(&sent)));
        prop_assert_eq!(received, Ok(FromProducer::Subscribed(sent)));
    }

    #[test]
    fn an_error_survives_the_trip_as_a_status(error in error()) {
        let headers = status_of(&error).into_http::<()>().into_parts().0.headers;
        let received = Status::from_header_map(&headers).unwrap();
        prop_assert_eq!(link_error(&received), error);
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        if let Ok(message) = v1::ConsumerMessage::decode(&bytes[..]) {
            let _ = decode_consumer(message);
        }
        let mut status = Status::internal("x");
        status.metadata_mut().insert_bin(ERROR_KEY, tonic::metadata::MetadataValue::from_bytes(&bytes));
        let _ = link_error(&status);
    }

    #[test]
    fn changed_bytes_never_panic(
        subscribe in subscribe(), message in to_producer(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        for mut wire in [encode_subscribe(&subscribe).encode_to_vec(), encode_to_producer(&message)[0].encode_to_vec()] {
            for (at, byte) in &changes {
                let at = at.index(wire.len());
                wire[at] = *byte;
            }
            if let Ok(message) = v1::ConsumerMessage::decode(&wire[..]) {
                let _ = decode_consumer(message);
            }
        }
    }
}

fn valid() -> v1::Subscribe {
    v1::Subscribe {
        version_min: 1,
        version_max: 1,
        features: 0,
        pipeline: "p".into(),
        output: "o".into(),
        group: "g".into(),
        kind: 1,
        instance: Some(v1::Instance { name: "i".into(), incarnation: 1 }),
        link_counter: 1,
        window: Some(v1::Window { events: 1, bytes: 1 }),
        event_bytes_max: 1,
        frame_bytes_max: 257,
        selector: None,
        partition: None,
    }
}

fn message(subscribe: v1::Subscribe) -> v1::ConsumerMessage {
    v1::ConsumerMessage { message: Some(consumer_message::Message::Subscribe(subscribe)) }
}

fn subscribing(subscribe: v1::Subscribe) -> Result<FromConsumer, LinkError> {
    decode_consumer(message(subscribe))
}

#[test]
fn a_bad_subscribe_is_told_what_is_wrong() {
    assert!(subscribing(valid()).is_ok());
    let long = "x".repeat(NAME_BYTES_MAX + 1);
    let instance = |name: &str| Some(v1::Instance { name: name.into(), incarnation: 1 });
    let limits = "event_bytes_max 1 must be above 0, and frame_bytes_max 256 greater by 256";
    let cases = [
        (v1::Subscribe { pipeline: String::new(), ..valid() }, "pipeline is empty"),
        (v1::Subscribe { output: long.clone(), ..valid() }, "output has 254 bytes, more than 253"),
        (v1::Subscribe { group: "a\nb".into(), ..valid() }, "group has a control character"),
        (v1::Subscribe { kind: 0, ..valid() }, "kind of group 0 is unknown"),
        (v1::Subscribe { kind: 9, ..valid() }, "kind of group 9 is unknown"),
        (v1::Subscribe { instance: None, ..valid() }, "instance is missing"),
        (v1::Subscribe { instance: instance(""), ..valid() }, "instance.name is empty"),
        (v1::Subscribe { instance: instance(&long), ..valid() }, "instance.name has 254 bytes, more than 253"),
        (v1::Subscribe { window: None, ..valid() }, "window is missing"),
        (
            v1::Subscribe { window: Some(v1::Window { events: 0, bytes: 1 }), ..valid() },
            "a window of 0 events and 1 bytes: both must be above 0",
        ),
        (v1::Subscribe { frame_bytes_max: 256, ..valid() }, limits),
        (v1::Subscribe { selector: Some(String::new()), ..valid() }, "selector is empty"),
        (v1::Subscribe { selector: Some(long.clone()), ..valid() }, "selector has 254 bytes, more than 253"),
        (v1::Subscribe { partition: Some(4_096), ..valid() }, "partition 4096, of 4096"),
        (v1::Subscribe { partition: Some(u32::MAX), ..valid() }, "partition 4294967295, of 4096"),
    ];
    for (subscribe, text) in cases {
        assert_eq!(subscribing(subscribe), Err(LinkError::Violation(text.to_owned())));
    }
    let huge = v1::Subscribe { event_bytes_max: u64::MAX, frame_bytes_max: u64::MAX, ..valid() };
    assert!(subscribing(huge).is_ok());
}

#[test]
fn a_version_without_overlap_is_told_whatever_else_is_wrong() {
    let ours = Versions { min: 1, max: 2 };
    let offered = |version_min, version_max| {
        check_version(&message(v1::Subscribe { version_min, version_max, ..v1::Subscribe::default() }), ours)
    };
    for (min, max) in [(3, 4), (0, 0), (3, 1)] {
        assert_eq!(offered(min, max), Err(LinkError::Version { peer_min: min, peer_max: max, min: 1, max: 2 }));
    }
    for (min, max, highest) in [(1, 7, 2), (0, 1, 1), (2, 2, 2)] {
        assert_eq!(offered(min, max), Ok(()));
        assert_eq!(ours.common(Versions { min, max }), Ok(highest));
    }
}

#[test]
fn many_dispositions_become_several_messages_within_the_limit() {
    let rejection = Rejection { reason: Reason::Refused, text: "é".repeat(400), stored: true };
    let state = Settled::Outcome(Outcome::Rejected(Box::new(rejection)));
    let disposition = |number: u64| Disposition { first: number, last: number, state: state.clone() };
    let count = 2 * DISPOSITIONS_PER_MESSAGE_MAX as u64 + 1;
    let messages = encode_to_producer(&ToProducer::Dispositions((1..=count).map(disposition).collect()));
    assert!(messages.len() > 3, "{}", messages.len());
    let mut numbers = Vec::new();
    for message in messages {
        assert!(message.encoded_len() <= CONSUMER_MESSAGE_BYTES_MAX);
        let Ok(FromConsumer::Message(ToProducer::Dispositions(dispositions))) = decode_consumer(message) else {
            panic!("dispositions")
        };
        numbers.extend(dispositions.iter().map(|disposition| disposition.first));
    }
    assert!(numbers.into_iter().eq(1..=count));
    assert_eq!(encode_to_producer(&ToProducer::Dispositions(Vec::new())), []);
}

#[test]
fn a_disposition_that_contradicts_itself_is_a_violation() {
    let rejection = |reason, text: String| Some(v1::Rejection { reason, text, stored: false });
    let cases = [
        (0, 1, 1, None, "disposition of 0 to 1 is no range of deliveries"),
        (2, 1, 1, None, "disposition of 2 to 1 is no range of deliveries"),
        (1, 1, 0, None, "state of disposition 0 is unknown"),
        (1, 1, 7, None, "state of disposition 7 is unknown"),
        (1, 1, 2, None, "a rejected disposition without its rejection"),
        (1, 1, 1, rejection(1, String::new()), "a rejection in a disposition that is not rejected"),
        (1, 1, 2, rejection(0, String::new()), "a rejection without a reason"),
        (1, 1, 2, rejection(1, "x".repeat(257)), "a rejection's text has 257 bytes, more than 256"),
    ];
    for (first, last, state, rejection, text) in cases {
        let dispositions = vec![v1::Disposition { first, last, state, rejection }];
        let message = consumer_message::Message::Dispositions(v1::Dispositions { dispositions });
        let received = decode_consumer(v1::ConsumerMessage { message: Some(message) });
        assert_eq!(received, Err(LinkError::Violation(text.to_owned())));
    }
}

#[test]
fn a_reason_of_a_later_version_counts_as_the_documented_one() {
    let rejection = Some(v1::Rejection { reason: 99, text: String::new(), stored: false });
    let dispositions = vec![v1::Disposition { first: 1, last: 1, state: 2, rejection }];
    let message = consumer_message::Message::Dispositions(v1::Dispositions { dispositions });
    let Ok(FromConsumer::Message(ToProducer::Dispositions(received))) =
        decode_consumer(v1::ConsumerMessage { message: Some(message) })
    else {
        panic!("dispositions")
    };
    let refused = Rejection { reason: Reason::Refused, text: String::new(), stored: false };
    assert_eq!(received[0].state, Settled::Outcome(Outcome::Rejected(Box::new(refused))));

    let ended = producer_message::Message::Ended(v1::Ended { last: 3, reason: 99 });
    assert_eq!(
        decode_producer(v1::ProducerMessage { message: Some(ended) }),
        Ok(FromProducer::Message(ToConsumer::Ended { last: 3, reason: EndReason::Draining }))
    );
}

#[test]
fn an_empty_message_and_partitions_that_are_none_are_violations() {
    assert!(matches!(decode_consumer(v1::ConsumerMessage::default()), Err(LinkError::Violation(_))));
    assert!(matches!(decode_producer(v1::ProducerMessage::default()), Err(LinkError::Violation(_))));
    for partitions in [vec![4096], vec![u32::MAX], vec![0; 4097]] {
        let revoke = producer_message::Message::Revoke(v1::Revoke { partitions });
        let received = decode_producer(v1::ProducerMessage { message: Some(revoke) });
        assert!(matches!(received, Err(LinkError::Violation(_))), "{received:?}");
    }
}

#[test]
fn a_status_of_no_stage_never_means_to_stop() {
    for code in 0..=16 {
        let error = link_error(&Status::new(Code::from_i32(code), "proxy says no"));
        let ends = matches!(error, LinkError::Fenced(_) | LinkError::Replaced | LinkError::Lagged(_));
        assert!(!ends, "{code}: {error:?}");
        assert!(error.to_string().contains("proxy says no"));
    }
    let mut status = Status::already_exists("later kind");
    let failure = v1::LinkFailure { kind: 99, ..v1::LinkFailure::default() };
    status.metadata_mut().insert_bin(ERROR_KEY, tonic::metadata::MetadataValue::from_bytes(&failure.encode_to_vec()));
    assert!(matches!(link_error(&status), LinkError::Unavailable(_)));
}

#[test]
fn a_long_text_is_cut_so_that_the_trailers_stay_small() {
    let error = LinkError::WrongPipeline { ours: "é".repeat(9_000), theirs: "x".repeat(9_000) };
    let status = status_of(&error);
    assert!(status.message().len() <= 512);
    let LinkError::WrongPipeline { ours, theirs } = link_error(&status) else { panic!("{status:?}") };
    assert_eq!((ours.len(), theirs.len()), (512, 512));
}

#[test]
fn the_descriptors_name_the_service() {
    let set = prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    assert!(set.file.iter().any(|file| file.package() == "jaiminho.v1" && file.service[0].name() == "Stage"));
}
