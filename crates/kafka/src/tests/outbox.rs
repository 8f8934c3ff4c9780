//! The outbox against a made-up client that fails at random, as a gapless idempotent producer does: once a record
//! of a topic fails, nothing after it in any queue gets through until a new client is made.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use jaiminho_core::{Event, Outcome, Trace};
use jaiminho_event::EventView;
use jaiminho_runtime::Receipt;
use jaiminho_telemetry::traces::{KeyValue, SpanKind, TraceContext, Tracer};
use rdkafka::types::RDKafkaErrorCode as Code;

use super::{event, reading};
use crate::SinkConfig;
use crate::outbox::{Outbox, Placed, Produce, Pumped};
use crate::record::Shape;
use crate::traced::SENDING_MAX;

struct Random(u64);

impl Random {
    /// SplitMix64
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }
}

#[derive(Default)]
struct Client {
    /// In flight, by topic: sequence number and event id.
    queues: BTreeMap<String, VecDeque<(u64, u64)>>,
    /// What the broker has, by topic.
    stored: BTreeMap<String, Vec<u64>>,
    away: BTreeMap<String, bool>,
    full: bool,
    /// The cluster does not answer; what the client knows of its topics stays.
    silent: bool,
    /// Of what it took.
    traceparents: Vec<Option<String>>,
}

impl Produce for Client {
    fn produce(
        &mut self,
        seq: u64,
        topic: &str,
        _: &Shape,
        event: &EventView<'_>,
        traceparent: Option<&str>,
    ) -> Result<(), Code> {
        if self.full {
            return Err(Code::QueueFull);
        }
        if self.away.get(topic).copied().unwrap_or(false) {
            return Err(Code::TopicAuthorizationFailed);
        }
        self.traceparents.push(traceparent.map(str::to_owned));
        self.queues.entry(topic.to_owned()).or_default().push_back((seq, event.id().parse().unwrap()));
        Ok(())
    }

    fn refresh(&mut self, _: &str) -> bool {
        !self.silent
    }
}

impl Client {
    /// The broker answers the oldest record of one topic. True: the client is finished.
    fn answer(&mut self, now: Instant, random: &mut Random, outbox: &mut Outbox) -> bool {
        let topics: Vec<String> =
            self.queues.iter().filter(|(_, queue)| !queue.is_empty()).map(|(topic, _)| topic.clone()).collect();
        let Some(topic) = topics.get(random.next() as usize % topics.len().max(1)) else { return false };
        let queue = self.queues.get_mut(topic).unwrap();
        let (seq, id) = *queue.front().unwrap();
        if random.one_in(12) {
            let code = [Code::PolicyViolation, Code::MessageSizeTooLarge, Code::TopicAuthorizationFailed]
                [random.next() as usize % 3];
            // A batch fails as one.
            for (seq, _) in queue.drain(..) {
                outbox.delivered(now, seq, Err(code));
            }
            return true;
        }
        queue.pop_front();
        self.stored.entry(topic.clone()).or_default().push(id);
        outbox.delivered(now, seq, Ok(Placed::default()))
    }
}

fn history(seed: u64) {
    let mut random = Random(seed);
    let mut config = SinkConfig::new("none:1", "{{type}}");
    config.topics_max = 3;
    let never = Duration::from_secs(1_000_000);
    let mut outbox = Outbox::new(Shape::new(&config).unwrap(), 3, never, Duration::from_millis(50));
    let mut client = Client::default();
    let mut now = Instant::now();
    let mut outcomes: HashMap<Receipt, Outcome> = HashMap::new();
    let (mut id, total) = (0, 300);
    for step in 0..200_000 {
        let calm = step > 3_000;
        now += Duration::from_millis(random.next() % 20);
        if id < total && random.one_in(2) {
            let mut cloud = reading(id, "k");
            cloud.ty = format!("topic-{}", random.next() % 3);
            outbox.push(Receipt::for_test(id), event(&cloud));
            id += 1;
        }
        client.full = !calm && random.one_in(8);
        let away = !calm && random.one_in(6);
        client.away.insert(format!("topic-{}", random.next() % 3), away);
        let mut broken = matches!(outbox.pump(now, 10, &mut client), Pumped::Broken(_));
        broken |= if calm {
            answer_well(&mut client, now, &mut outbox)
        } else {
            client.answer(now, &mut random, &mut outbox)
        };
        if broken || (!calm && random.one_in(100)) {
            // What was in flight may or may not have been stored before the client went: here it was not.
            client.queues.clear();
            outbox.restart();
        }
        for (receipt, outcome) in outbox.take_settled() {
            assert!(outcomes.insert(receipt, outcome).is_none(), "settled twice");
        }
        if id == total && outbox.len() == 0 {
            break;
        }
    }
    assert_eq!((outbox.len(), outbox.in_flight()), (0, 0), "seed {seed}: something is stuck");
    assert_eq!(outcomes.len() as u64, total);
    for (topic, ids) in &client.stored {
        assert!(ids.is_sorted(), "seed {seed}: {topic} is out of order: {ids:?}");
    }
    let accepted = outcomes.values().filter(|outcome| **outcome == Outcome::Accepted).count();
    let stored: usize = client.stored.values().map(Vec::len).sum();
    assert_eq!(accepted, stored, "seed {seed}");
}

fn answer_well(client: &mut Client, now: Instant, outbox: &mut Outbox) -> bool {
    client.away.clear();
    for (topic, queue) in &mut client.queues {
        for (seq, id) in queue.drain(..) {
            client.stored.entry(topic.clone()).or_default().push(id);
            outbox.delivered(now, seq, Ok(Placed::default()));
        }
    }
    false
}

#[test]
fn whatever_fails_each_topic_gets_its_records_in_order_and_each_is_settled_once() {
    for seed in 0..200 {
        history(seed);
    }
}

#[test]
fn a_topic_that_stays_away_is_given_up_and_others_are_not() {
    let mut config = SinkConfig::new("none:1", "{{type}}");
    config.topics_max = 2;
    let mut outbox = Outbox::new(Shape::new(&config).unwrap(), 2, Duration::from_secs(60), Duration::from_secs(5));
    let mut client = Client::default();
    client.away.insert("bad".to_owned(), true);
    let began = Instant::now();
    for (id, topic) in ["bad", "good", "bad", "good"].into_iter().enumerate() {
        push(&mut outbox, id as u64, topic);
    }
    let mut rejected_at = None;
    for second in 0..70 {
        let now = began + Duration::from_secs(second);
        outbox.pump(now, 100, &mut client);
        answer_all(&mut client, now, &mut outbox);
        for (receipt, outcome) in outbox.take_settled() {
            let is_bad = [Receipt::for_test(0), Receipt::for_test(2)].contains(&receipt);
            assert_eq!(is_bad, outcome != Outcome::Accepted, "{receipt:?}");
            if is_bad {
                rejected_at.get_or_insert(second);
            }
        }
    }
    assert_eq!(outbox.len(), 0);
    assert!((60..=66).contains(&rejected_at.unwrap()), "{rejected_at:?}");
    // The name that was never good makes room for another.
    let now = began + Duration::from_secs(100);
    push(&mut outbox, 9, "new");
    outbox.pump(now, 100, &mut client);
    answer_all(&mut client, now, &mut outbox);
    assert_eq!(outbox.take_settled(), [(Receipt::for_test(9), Outcome::Accepted)]);
}

#[test]
fn a_record_that_waited_out_an_outage_is_not_rejected_by_the_first_answer_about_its_topic() {
    let shape = Shape::new(&SinkConfig::new("none:1", "{{type}}")).unwrap();
    let mut outbox = Outbox::new(shape, 1, Duration::from_secs(60), Duration::from_secs(5));
    let mut client = Client::default();
    let began = Instant::now();
    push(&mut outbox, 0, "late");
    push(&mut outbox, 1, "late");
    outbox.pump(began, 100, &mut client);
    client.queues.clear();
    let back = began + Duration::from_secs(90);
    outbox.delivered(back, 1, Err(Code::UnknownTopicOrPartition));
    assert_eq!(outbox.take_settled(), []);
    outbox.restart();
    let again = back + Duration::from_secs(5);
    outbox.pump(again, 100, &mut client);
    answer_all(&mut client, again, &mut outbox);
    outbox.pump(again, 100, &mut client);
    answer_all(&mut client, again, &mut outbox);
    let accepted = [0, 1].map(|id| (Receipt::for_test(id), Outcome::Accepted));
    assert_eq!(outbox.take_settled(), accepted);
}

/// An outbox with one record for `late`, which was said to be unknown when it `began`.
fn unknown(began: Instant) -> (Outbox, Client) {
    let shape = Shape::new(&SinkConfig::new("none:1", "{{type}}")).unwrap();
    let mut outbox = Outbox::new(shape, 1, Duration::from_secs(60), Duration::from_secs(5));
    let mut client = Client::default();
    push(&mut outbox, 0, "late");
    outbox.pump(began, 100, &mut client);
    outbox.delivered(began, 1, Err(Code::UnknownTopicOrPartition));
    (outbox, client)
}

fn pump_each_second(outbox: &mut Outbox, client: &mut Client, began: Instant, seconds: RangeInclusive<u64>) {
    for second in seconds {
        outbox.pump(began + Duration::from_secs(second), 100, client);
    }
}

#[test]
fn an_outage_between_two_answers_that_a_topic_is_unknown_is_no_time_in_which_it_was() {
    let began = Instant::now();
    let (mut outbox, mut client) = unknown(began);
    outbox.pump(began + Duration::from_secs(1), 100, &mut client);
    for second in (90..=145).step_by(5) {
        let now = began + Duration::from_secs(second);
        outbox.delivered(now, 1, Err(Code::UnknownTopicOrPartition));
        outbox.pump(now + Duration::from_secs(5), 100, &mut client);
    }
    assert_eq!(outbox.take_settled(), []);
    outbox.delivered(began + Duration::from_secs(150), 1, Err(Code::UnknownTopicOrPartition));
    assert_eq!(outbox.take_settled().len(), 1);
}

#[test]
fn a_record_for_a_topic_that_was_given_up_is_rejected_at_the_first_answer() {
    let began = Instant::now();
    let (mut outbox, mut client) = unknown(began);
    client.away.insert("late".to_owned(), true);
    pump_each_second(&mut outbox, &mut client, began, 1..=70);
    assert_eq!(outbox.take_settled().len(), 1);
    push(&mut outbox, 1, "late");
    outbox.pump(began + Duration::from_secs(100), 100, &mut client);
    assert_eq!(outbox.take_settled().len(), 1);
}

#[test]
fn one_question_that_is_not_answered_takes_only_its_own_time_from_the_grace() {
    let began = Instant::now();
    let (mut outbox, mut client) = unknown(began);
    client.away.insert("late".to_owned(), true);
    for second in 1..=75 {
        client.silent = second % 30 < 5;
        outbox.pump(began + Duration::from_secs(second), 100, &mut client);
    }
    assert_eq!(outbox.take_settled().len(), 1);
}

#[test]
fn what_the_client_knew_of_a_topic_before_an_outage_is_no_answer() {
    let began = Instant::now();
    let (mut outbox, mut client) = unknown(began);
    client.away.insert("late".to_owned(), true);
    client.silent = true;
    pump_each_second(&mut outbox, &mut client, began, 1..=90);
    client.silent = false;
    pump_each_second(&mut outbox, &mut client, began, 91..=145);
    assert_eq!(outbox.take_settled(), []);
    pump_each_second(&mut outbox, &mut client, began, 146..=160);
    assert_eq!(outbox.take_settled().len(), 1);
}

fn push(outbox: &mut Outbox, id: u64, topic: &str) {
    let mut cloud = reading(id, "k");
    cloud.ty = topic.to_owned();
    outbox.push(Receipt::for_test(id), event(&cloud));
}

fn answer_all(client: &mut Client, now: Instant, outbox: &mut Outbox) {
    for queue in client.queues.values_mut() {
        for (seq, _) in queue.drain(..) {
            outbox.delivered(now, seq, Ok(Placed::default()));
        }
    }
}

fn of_type(id: u64, ty: &str) -> Event {
    let mut cloud = reading(id, "k");
    ty.clone_into(&mut cloud.ty);
    event(&cloud)
}

/// A sampled event, and the stage's span that it is handed to the sink with.
fn sampled(id: u64, ty: &str) -> (Event, TraceContext) {
    let (context, mut event) = (TraceContext::root(), of_type(id, ty));
    event.trace = Some(Box::new(Trace { context: context.to_bytes(), since: 0 }));
    (event, context)
}

#[test]
fn a_sampled_record_goes_out_with_its_spans_context_and_keeps_it_however_often_it_is_tried() {
    let (tracer, mut recorded) = Tracer::new(100);
    let shape = Shape::new(&SinkConfig::new("none:1", "{{type}}")).unwrap();
    let mut outbox = Outbox::new(shape, 3, Duration::from_secs(60), Duration::from_secs(5)).with_tracer(tracer.clone());
    let mut client = Client::default();
    let began = Instant::now();
    let (mut event, parent) = sampled(1, "a");
    let given = tracer.at(began);
    event.trace.as_mut().unwrap().since = given;
    outbox.push(Receipt::for_test(1), event);
    let began = began + Duration::from_millis(10);
    outbox.pump(began, 10, &mut client);
    outbox.restart();
    outbox.pump(began + Duration::from_secs(1), 10, &mut client);
    let placed = Placed { partition: 3, offset: 9 };
    outbox.delivered(began + Duration::from_secs(2), 1, Ok(placed));
    let spans = recorded.take();
    let [wait, span] = spans.as_slice() else { panic!("{spans:?}") };
    assert_eq!((wait.name.as_ref(), wait.parent), ("wait send", Some(parent.span)));
    assert_eq!((wait.start, wait.end, (wait.end - wait.start) / 1_000_000), (given, span.start, 10));
    assert_eq!((span.name.as_ref(), span.parent, span.context.trace), ("send a", Some(parent.span), parent.trace));
    assert_eq!((span.end - span.start) / 1_000_000, 2_000);
    let traceparent = Some(span.context.to_traceparent());
    assert_eq!(client.traceparents, [traceparent.clone(), traceparent]);
    let values = |name: &str| span.attributes.iter().find(|a| a.key.as_str() == name).map(|a| a.value.to_string());
    assert_eq!(values("messaging.destination.partition.id").as_deref(), Some("3"));
    assert_eq!(values("messaging.kafka.offset").as_deref(), Some("9"));
    assert_eq!(values("messaging.message.id").as_deref(), Some("1"));
    assert_eq!((values("messaging.batch.message_count"), span.links.len()), (None, 0));
}

#[test]
fn sampled_records_that_go_out_with_others_link_to_the_span_of_the_hand_over() {
    let (tracer, mut recorded) = Tracer::new(100);
    let shape = Shape::new(&SinkConfig::new("none:1", "{{type}}")).unwrap();
    let mut outbox = Outbox::new(shape, 3, Duration::from_secs(60), Duration::from_secs(5)).with_tracer(tracer);
    let (mut client, now) = (Client::default(), Instant::now());
    outbox.push(Receipt::for_test(1), sampled(1, "a").0);
    outbox.push(Receipt::for_test(2), of_type(2, "a"));
    outbox.push(Receipt::for_test(3), sampled(3, "b").0);
    outbox.pump(now, 10, &mut client);
    outbox.delivered(now, 1, Ok(Placed::default()));
    outbox.delivered(now, 3, Err(Code::InvalidTopic));
    assert_eq!(client.traceparents.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);
    let spans = recorded.take();
    let [batch, accepted, rejected] = spans.as_slice() else { panic!("{spans:?}") };
    assert_eq!((batch.name.as_ref(), batch.parent, batch.kind.clone()), ("send", None, SpanKind::Client));
    assert!(batch.attributes.contains(&KeyValue::new("messaging.batch.message_count", 3)));
    assert_eq!((&accepted.links[..], &rejected.links[..]), (&[batch.context][..], &[batch.context][..]));
    assert!(accepted.error.is_none() && rejected.error.is_some());
    assert!(rejected.attributes.contains(&KeyValue::new("error.type", "refused")), "{rejected:?}");
}

#[test]
fn spans_of_records_under_way_are_limited_and_what_is_over_goes_out_in_its_trace_without_one() {
    let (tracer, mut recorded) = Tracer::new(2 * SENDING_MAX);
    let shape = Shape::new(&SinkConfig::new("none:1", "{{type}}")).unwrap();
    let mut outbox = Outbox::new(shape, 3, Duration::from_secs(60), Duration::from_secs(5)).with_tracer(tracer.clone());
    let (mut client, now) = (Client::default(), Instant::now());
    let count = SENDING_MAX as u64 + 5;
    let mut parents = Vec::new();
    for id in 1..=count {
        let (event, parent) = sampled(id, "a");
        parents.push(Some(parent.to_traceparent()));
        outbox.push(Receipt::for_test(id), event);
    }
    outbox.pump(now, usize::MAX, &mut client);
    let carried = client.traceparents.iter().zip(&parents).filter(|(told, parent)| told == parent).count();
    assert_eq!((client.traceparents.len(), carried), (parents.len(), 5), "theirs is that of the stage's span");
    for seq in 1..=count {
        outbox.delivered(now, seq, Ok(Placed::default()));
    }
    assert_eq!((tracer.dropped(), recorded.take().len()), (5, SENDING_MAX + 1));
    let (event, parent) = sampled(count + 1, "a");
    outbox.push(Receipt::for_test(count + 1), event);
    outbox.pump(now, 1, &mut client);
    assert_ne!(client.traceparents.pop().unwrap(), Some(parent.to_traceparent()), "there is room again");
}
