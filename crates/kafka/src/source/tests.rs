//! The source against the embedded broker, and its parts without one.

mod decode;
mod intake;

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use jaiminho_core::{Outcome, Reason, Trace};
use jaiminho_event::{CloudEvent, EventView};
use jaiminho_runtime::{Answer, NewEvent, Source as _, SourceError, SourceHandle, TestDesk, TestOffer};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::task::JoinHandle;

use super::*;
use crate::EmbeddedBroker;
use crate::tests::recorder;

const LONG: Duration = Duration::from_secs(30);

/// A source that runs, and the stage that a test plays.
struct Running {
    desk: TestDesk,
    source: JoinHandle<Result<(), SourceError>>,
}

impl Running {
    fn start(broker: &EmbeddedBroker, configure: impl FnOnce(&mut SourceConfig)) -> Self {
        Self::of_stage("s", broker, Tracer::default(), configure)
    }

    fn traced(broker: &EmbeddedBroker, tracer: Tracer, configure: impl FnOnce(&mut SourceConfig)) -> Self {
        Self::of_stage("s", broker, tracer, configure)
    }

    fn of_stage(
        stage: &str,
        broker: &EmbeddedBroker,
        tracer: Tracer,
        configure: impl FnOnce(&mut SourceConfig),
    ) -> Self {
        let mut config = SourceConfig::new(broker.bootstrap_servers(), &["in"], "g");
        // A member that is gone is noticed soon.
        config.properties.insert("session.timeout.ms".into(), crate::Scalar::Integer(6_000));
        configure(&mut config);
        let of = SourceStage {
            pipeline: "p".into(),
            stage: stage.into(),
            key: None,
            event_bytes_max: 1_000,
            log_events: 1_000,
            log_bytes: 1 << 20,
            tracer,
        };
        let source = KafkaSource::new(&config, of).unwrap();
        let (handle, desk) = SourceHandle::for_test();
        Self { desk, source: tokio::spawn(Box::new(source).run(handle)) }
    }

    async fn next(&mut self) -> TestOffer {
        tokio::time::timeout(LONG, self.desk.next()).await.expect("an offer in time").expect("a source")
    }

    /// Takes and accepts offers until there were `count` events; their ids.
    async fn accept(&mut self, count: usize) -> Vec<String> {
        let mut seen = Vec::new();
        while seen.len() < count {
            let offer = self.next().await;
            seen.extend(offer.offer.events.iter().map(id));
            let answers = vec![Answer::Settled(Outcome::Accepted); offer.offer.events.len()];
            offer.answer(answers);
        }
        seen
    }

    async fn drain(self) {
        self.desk.drain();
        tokio::time::timeout(LONG, self.source).await.expect("the end of the drain").unwrap().unwrap();
    }
}

fn id(event: &NewEvent) -> String {
    EventView::parse(&event.payload).unwrap().id().to_owned()
}

fn produce(broker: &EmbeddedBroker, topic: &str, partition: i32, values: &[String]) {
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", broker.bootstrap_servers()).create().unwrap();
    for value in values {
        producer.send(BaseRecord::<str, str>::to(topic).partition(partition).payload(value)).unwrap();
    }
    producer.flush(LONG).unwrap();
}

fn numbers(from: u32, to: u32) -> Vec<String> {
    (from..to).map(|number| number.to_string()).collect()
}

/// What group `g` has committed of topic `in`.
fn committed(broker: &EmbeddedBroker, partitions: i32) -> BTreeMap<i32, i64> {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", broker.bootstrap_servers()).set("group.id", "g").create().unwrap();
    let mut list = TopicPartitionList::new();
    (0..partitions).for_each(|partition| {
        list.add_partition("in", partition);
    });
    let found = consumer.committed_offsets(list, LONG).unwrap();
    let known = found.elements().into_iter().filter_map(|one| match one.offset() {
        Offset::Offset(offset) => Some((one.partition(), offset)),
        Offset::Beginning | Offset::End | Offset::Stored | Offset::Invalid | Offset::OffsetTail(_) => None,
    });
    known.collect()
}

async fn committed_is(broker: &EmbeddedBroker, expected: &[(i32, i64)]) {
    if let Err(found) = committed_within(broker, expected, LONG).await {
        panic!("{found:?}, not {expected:?}");
    }
}

/// What was committed instead, after so long.
async fn committed_within(
    broker: &EmbeddedBroker,
    expected: &[(i32, i64)],
    wait: Duration,
) -> Result<(), BTreeMap<i32, i64>> {
    let deadline = Instant::now() + wait;
    let expected: BTreeMap<i32, i64> = expected.iter().copied().collect();
    loop {
        match committed(broker, 2) {
            found if found == expected => return Ok(()),
            found if Instant::now() >= deadline => return Err(found),
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sampled_record_waits_for_the_stage_since_its_receipt_however_often_it_is_refused() {
    let broker = EmbeddedBroker::start(&[("in", 1)]).unwrap();
    produce(&broker, "in", 0, &numbers(0, 1));
    let (tracer, mut recorded) = Tracer::new(10);
    let mut running = Running::traced(&broker, tracer, |_| {});
    for _ in 0..3 {
        let (cause, retry_after) = ("full".to_owned(), Duration::from_secs(1));
        running.next().await.refuse(Refusal::Overloaded { cause, retry_after });
    }
    let offer = running.next().await;
    let trace = *offer.offer.events[0].trace.clone().unwrap();
    offer.answer(vec![Answer::Settled(Outcome::Accepted)]);
    running.drain().await;
    let spans = recorded.take();
    let [receive] = spans.as_slice() else { panic!("{spans:?}") };
    assert_eq!(receive.name, "receive in");
    assert_eq!(trace, Trace { context: receive.context.to_bytes(), since: receive.end });
}

#[tokio::test(flavor = "multi_thread")]
async fn each_partition_is_read_in_order_and_a_member_that_comes_later_goes_on_behind_what_was_settled() {
    let broker = EmbeddedBroker::start(&[("in", 2)]).unwrap();
    produce(&broker, "in", 0, &numbers(0, 30));
    produce(&broker, "in", 1, &numbers(0, 20));
    let mut first = Running::start(&broker, |_| {});
    let seen = first.accept(50).await;
    for (partition, count) in [(0, 30), (1, 20)] {
        let of: Vec<_> = seen.iter().filter(|id| id.starts_with(&format!("in/{partition}/"))).cloned().collect();
        assert_eq!(of, (0..count).map(|offset| format!("in/{partition}/{offset}")).collect::<Vec<_>>());
    }
    committed_is(&broker, &[(0, 30), (1, 20)]).await;
    first.drain().await;
    produce(&broker, "in", 0, &numbers(30, 32));
    let mut second = Running::start(&broker, |_| {});
    assert_eq!(second.accept(2).await, ["in/0/30", "in/0/31"]);
    second.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_committed_past_what_is_not_settled() {
    let broker = EmbeddedBroker::start(&[("in", 2)]).unwrap();
    produce(&broker, "in", 0, &numbers(0, 3));
    let mut running = Running::start(&broker, |_| {});
    let (mut held, mut events) = (Vec::new(), 0);
    while events < 3 {
        let (offer, answers) = running.next().await.take();
        events += offer.events.len();
        held.push((answers, offer.events.len()));
    }
    produce(&broker, "in", 0, &numbers(3, 6));
    running.accept(3).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(committed(&broker, 2), BTreeMap::new());
    for (answers, count) in held {
        answers.send(vec![Answer::Settled(Outcome::Accepted); count]);
    }
    committed_is(&broker, &[(0, 6)]).await;
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_without_room_is_made_again_and_holds_up_no_other_partition() {
    let broker = EmbeddedBroker::start(&[("in", 2)]).unwrap();
    produce(&broker, "in", 0, &numbers(0, 5));
    produce(&broker, "in", 1, &numbers(0, 5));
    let mut running = Running::start(&broker, |_| {});
    let (mut seen, mut refused) = (Vec::new(), 0);
    while !(seen.iter().filter(|id: &&String| id.starts_with("in/1/")).count() == 5 && refused > 5) {
        let offer = running.next().await;
        let ids: Vec<_> = offer.offer.events.iter().map(id).collect();
        if ids[0].starts_with("in/0/") {
            refused += 1;
            offer.refuse(Refusal::Overloaded { cause: "the log is full".into(), retry_after: LONG });
        } else {
            seen.extend(ids);
            let answers = vec![Answer::Settled(Outcome::Accepted); offer.offer.events.len()];
            offer.answer(answers);
        }
    }
    assert_eq!(running.accept(5).await, (0..5).map(|offset| format!("in/0/{offset}")).collect::<Vec<_>>());
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_rejected_and_read_past() {
    let broker = EmbeddedBroker::start(&[("in", 2)]).unwrap();
    produce(&broker, "in", 0, &["1".into(), "x".repeat(2_000), "3".into()]);
    let mut running = Running::start(&broker, |_| {});
    let mut rejected = Vec::new();
    let mut seen = Vec::new();
    while seen.len() + rejected.len() < 3 {
        let offer = running.next().await;
        let ids: Vec<_> = offer.offer.events.iter().map(id).collect();
        match offer.rejection.clone() {
            Some(rejection) => {
                rejected.push((ids[0].clone(), rejection.reason));
                offer.answer(vec![Answer::Settled(Outcome::Rejected(Box::new(rejection)))]);
            }
            None => {
                let answers = vec![Answer::Settled(Outcome::Accepted); ids.len()];
                seen.extend(ids);
                offer.answer(answers);
            }
        }
    }
    assert_eq!(rejected, [("in/0/1".to_owned(), Reason::TooLarge)]);
    assert_eq!(seen, ["in/0/0", "in/0/2"]);
    committed_is(&broker, &[(0, 3)]).await;
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_at_the_end_holds_although_nothing_was_settled_before_a_crash() {
    let broker = EmbeddedBroker::start(&[("in", 2)]).unwrap();
    produce(&broker, "in", 0, &numbers(0, 5));
    let latest = |config: &mut SourceConfig| config.start = StartAt::End(StartEnd::Latest);
    let running = Running::start(&broker, latest);
    committed_is(&broker, &[(0, 5), (1, 0)]).await;
    running.source.abort();
    drop(running.desk);
    produce(&broker, "in", 0, &numbers(5, 8));
    let mut running = Running::start(&broker, latest);
    assert_eq!(running.accept(3).await, ["in/0/5", "in/0/6", "in/0/7"]);
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_changes_hands_when_what_is_in_flight_of_it_is_settled() {
    /// The embedded broker takes no commit, other than a real one, while its members have not all agreed on the next generation;
    /// on a busy machine that may take longer than a member waits.
    const TRIES: u32 = 8;
    for number in 1..=TRIES {
        match hand_over(&format!("hands-over-{number}")).await {
            Ok(()) => return,
            Err(found) => eprintln!("try {number}: {found:?} is committed"),
        }
    }
    panic!("nothing was committed in {TRIES} tries");
}

/// What was committed instead.
async fn hand_over(first: &str) -> Result<(), BTreeMap<i32, i64>> {
    let broker = EmbeddedBroker::start(&[("in", 2)]).unwrap();
    produce(&broker, "in", 0, &numbers(0, 4));
    produce(&broker, "in", 1, &numbers(0, 4));
    let metrics = recorder();
    let revoked = format!("jaiminho_kafka_rebalances_total{{pipeline=\"p\",stage=\"{first}\",kind=\"revoked\"}} 1");
    let mut first = Running::of_stage(first, &broker, Tracer::default(), |_| {});
    let (mut held, mut events) = (Vec::new(), 0);
    while events < 8 {
        let (offer, answers) = first.next().await.take();
        events += offer.events.len();
        held.push((answers, offer.events.len()));
    }
    let mut second = Running::start(&broker, |_| {});
    let deadline = Instant::now() + LONG;
    while !metrics.render().contains(&revoked) {
        assert!(Instant::now() < deadline, "nothing is revoked");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let early = tokio::time::timeout(Duration::from_secs(2), second.desk.next()).await;
    assert!(early.is_err(), "the second member reads what is in flight at the first");
    for (answers, count) in held {
        answers.send(vec![Answer::Settled(Outcome::Accepted); count]);
    }
    // A member gives back what is revoked, committed or not, fifteen seconds after it is asked to.
    committed_within(&broker, &[(0, 4), (1, 4)], Duration::from_secs(10)).await?;
    let owners = owners(&broker, &mut first, &mut second).await;
    assert_eq!(owners.len(), 2, "each has one partition: {owners:?}");
    first.drain().await;
    second.drain().await;
    Ok(())
}

/// Who reads which partition, each event once.
async fn owners(broker: &EmbeddedBroker, first: &mut Running, second: &mut Running) -> HashMap<i32, usize> {
    let deadline = Instant::now() + LONG;
    let mut number = 4;
    loop {
        let mut owners = HashMap::new();
        for partition in [0, 1] {
            produce(broker, "in", partition, &numbers(number, number + 1));
            let (owner, offer) = tokio::select! {
                offer = first.next() => (0, offer),
                offer = second.next() => (1, offer),
            };
            assert_eq!(id(&offer.offer.events[0]), format!("in/{partition}/{number}"));
            offer.answer(vec![Answer::Settled(Outcome::Accepted)]);
            owners.insert(owner, partition);
        }
        number += 1;
        if owners.len() == 2 {
            return owners.into_iter().map(|(owner, partition)| (partition, owner)).collect();
        }
        assert!(Instant::now() < deadline, "one member has all");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

#[test]
fn a_property_that_belongs_to_the_source_is_refused() {
    for (name, reason) in [
        ("enable.auto.commit", "settled"),
        ("group.id", "field group"),
        ("auto.offset.reset", "field start"),
        ("partition.assignment.strategy", "cooperative"),
        ("queued.max.messages.kbytes", "queue_bytes"),
        ("sasl.password", "sasl.password"),
    ] {
        let mut config = SourceConfig::new("localhost:9092", &["in"], "g");
        config.properties.insert(name.into(), crate::Scalar::Text("1".into()));
        let error = config.check().remove(0).to_string();
        assert!(error.contains(name) && error.contains(reason), "{error}");
    }
}

#[test]
fn a_source_that_cannot_be_is_refused_with_the_reason() {
    type Change = fn(&mut SourceConfig);
    let wrong: [(Change, &str); 8] = [
        (|config| config.topics.clear(), "topics"),
        (|config| config.topics.push("in".into()), "twice"),
        (|config| config.topics = vec!["^in.*".into()], "^in.*"),
        (|config| config.group = String::new(), "group"),
        (|config| config.bootstrap_servers = None, "bootstrap_servers"),
        (|config| config.start = StartAt::Time(StartTime { timestamp: "yesterday".into() }), "start.timestamp"),
        (|config| config.held_bytes.0 = 1, "held_bytes"),
        (|config| config.ty = Some(String::new()), "type"),
    ];
    for (change, word) in wrong {
        let mut config = SourceConfig::new("localhost:9092", &["in"], "g");
        change(&mut config);
        let error = config.check().remove(0).to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn event_hubs_gives_a_consumer_nothing_that_only_producers_have() {
    let mut config = SourceConfig::new("", &["in"], "g");
    config.bootstrap_servers = None;
    config.event_hubs = serde_json::from_value(serde_json::json!({
        "connection_string": "Endpoint=sb://ns.servicebus.windows.net/;SharedAccessKeyName=n;SharedAccessKey=k"
    }))
    .unwrap();
    assert_eq!(config.check().len(), 0, "{:?}", config.check());
    let client = config.client_config().unwrap();
    assert_eq!(client["bootstrap.servers"], "ns.servicebus.windows.net:9093");
    assert!(!client.contains_key("request.timeout.ms"));
}

#[test]
fn a_start_is_one_of_three_forms() {
    let read = |json: serde_json::Value| serde_json::from_value::<StartAt>(json);
    assert_eq!(read("latest".into()).unwrap(), StartAt::End(StartEnd::Latest));
    assert_eq!(read("earliest".into()).unwrap(), StartAt::default());
    let time = StartAt::Time(StartTime { timestamp: "2026-01-01T00:00:01.5Z".into() });
    assert_eq!(read(serde_json::json!({ "timestamp": "2026-01-01T00:00:01.5Z" })).unwrap(), time);
    let config = SourceConfig { start: time, ..SourceConfig::new("h:1", &["in"], "g") };
    assert_eq!(config.begin().unwrap(), config::Begin::At(1_767_225_601_500));
    assert!(read("middle".into()).is_err());
}
