//! The sink and the tail against the embedded broker.

mod config;
mod outbox;
mod relay;

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use jaiminho_core::{Event, KeyHash, Outcome, Reason, Rejection};
use jaiminho_event::{CloudEvent, Data, Value, key_hash};
use jaiminho_runtime::{Receipt, Settler, Sink};
use jaiminho_telemetry::traces::Tracer;
use jaiminho_telemetry::{Metrics, install_metrics};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use self::relay::Relay;
use crate::record::STRUCTURED;
use crate::tail::{Start, Tail, TailConfig, TailRecord};
use crate::{EmbeddedBroker, KafkaSink, Mode, SinkConfig, Timing};

const LONG: Duration = Duration::from_secs(20);

fn timing() -> Timing {
    Timing {
        grace: Duration::from_secs(3),
        topic_retry: Duration::from_millis(100),
        recover_min: Duration::from_millis(5),
        recover_max: Duration::from_millis(50),
        stall: Duration::from_millis(500),
    }
}

fn event(cloud: &CloudEvent) -> Event {
    let key = cloud.attribute("partitionkey").map(|key| KeyHash(key_hash(&key)));
    Event { key, ..Event::new(cloud.encode()) }
}

fn reading(id: u64, key: &str) -> CloudEvent {
    let mut cloud = CloudEvent::new(id.to_string(), "/test", "reading");
    cloud.set("partitionkey", key.into()).unwrap();
    cloud.set("datacontenttype", "application/json".into()).unwrap();
    cloud.data = Data::Text(format!("{{\"n\":{id}}}"));
    cloud
}

struct Bench {
    broker: EmbeddedBroker,
    sink: KafkaSink,
    settler: Settler,
    outcomes: HashMap<Receipt, Outcome>,
    sent: u64,
}

impl Bench {
    fn new(topics: &[(&str, i32)], configure: impl FnOnce(&mut SinkConfig)) -> Self {
        Self::on(EmbeddedBroker::start(topics).unwrap(), configure)
    }

    fn on(broker: EmbeddedBroker, configure: impl FnOnce(&mut SinkConfig)) -> Self {
        let mut config = SinkConfig::new(broker.bootstrap_servers(), "readings");
        configure(&mut config);
        let settler = Settler::default();
        let sink = KafkaSink::with_timing(&config, "publish", settler.clone(), Tracer::default(), timing()).unwrap();
        Self { broker, sink, settler, outcomes: HashMap::new(), sent: 0 }
    }

    async fn send(&mut self, clouds: &[CloudEvent]) -> Vec<Receipt> {
        let mut batch = Vec::new();
        for cloud in clouds {
            self.sent += 1;
            batch.push((Receipt::for_test(self.sent), event(cloud)));
        }
        let receipts = batch.iter().map(|(receipt, _)| *receipt).collect();
        self.sink.send(&mut batch).await;
        assert!(batch.is_empty());
        receipts
    }

    async fn settled(&mut self, count: u64) {
        let deadline = Instant::now() + LONG;
        while (self.outcomes.len() as u64) < count {
            let left = deadline.saturating_duration_since(Instant::now());
            let settled = tokio::time::timeout(left, self.settler.take()).await;
            for (receipt, outcome) in settled.expect("settled in time") {
                let again = self.outcomes.insert(receipt, outcome);
                assert!(again.is_none(), "{receipt:?} settled twice");
            }
        }
    }

    async fn all_settled(&mut self) {
        self.settled(self.sent).await;
    }

    fn is_settled(&self, receipt: Receipt) -> bool {
        self.outcomes.contains_key(&receipt)
    }

    fn rejection(&self, receipt: Receipt) -> &Rejection {
        match &self.outcomes[&receipt] {
            Outcome::Rejected(rejection) => rejection,
            Outcome::Accepted => panic!("{receipt:?} was accepted"),
        }
    }

    fn errors(&self, code: RDKafkaRespErr, count: usize) {
        self.broker.cluster().unwrap().request_errors(RDKafkaApiKey::Produce, &vec![code; count]);
    }

    fn read(&self, topics: &[&str], count: usize) -> Vec<TailRecord> {
        let mut tail = Tail::open(TailConfig {
            bootstrap_servers: self.broker.bootstrap_servers(),
            properties: BTreeMap::new(),
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            start: Start::Beginning,
            stops: false,
        })
        .unwrap();
        let deadline = Instant::now() + LONG;
        let mut records = Vec::new();
        while records.len() < count || !tail.is_at_end() {
            assert!(Instant::now() < deadline, "{} of {count} records", records.len());
            records.extend(tail.next(Duration::from_millis(100)).unwrap());
        }
        records
    }
}

fn header<'a>(record: &'a TailRecord, name: &str) -> Option<&'a str> {
    record.headers.iter().find(|(key, _)| key == name).map(|(_, text)| text.as_str())
}

/// First copies of each key are in order, none is missing.
fn assert_in_order(records: &[TailRecord], count: u64) {
    let mut last: HashMap<Vec<u8>, u64> = HashMap::new();
    let mut seen = std::collections::BTreeSet::new();
    let mut records: Vec<&TailRecord> = records.iter().collect();
    records.sort_by_key(|record| (record.partition, record.offset));
    for record in records {
        let id: u64 = record.event.as_ref().unwrap().id.parse().unwrap();
        if seen.insert(id) {
            let before = last.insert(record.key.clone().unwrap(), id);
            assert!(before.is_none_or(|before| before < id), "{id} after {before:?}");
        }
    }
    assert_eq!(seen.len() as u64, count, "records missing");
}

fn keyed(from: u64, to: u64) -> Vec<CloudEvent> {
    (from..to).map(|id| reading(id, &format!("device-{}", id % 7))).collect()
}

#[tokio::test]
async fn binary_mode_follows_the_binding_exactly() {
    let mut bench = Bench::new(&[("readings", 1)], |config| {
        config.headers.insert("tenant".into(), "t-{{data.n}}".into());
        config.headers.insert("absent".into(), "{{data.nothing}}".into());
    });
    let mut cloud = reading(1, "device-1");
    cloud.set("time", "2026-01-02T03:04:05Z".into()).unwrap();
    cloud.set("sequence", Value::Integer(9)).unwrap();
    bench.send(std::slice::from_ref(&cloud)).await;
    bench.all_settled().await;
    let records = bench.read(&["readings"], 1);
    let record = &records[0];
    let mut headers = record.headers.clone();
    headers.sort();
    let expected = [
        ("ce_id", "1"),
        ("ce_partitionkey", "device-1"),
        ("ce_sequence", "9"),
        ("ce_source", "/test"),
        ("ce_specversion", "1.0"),
        ("ce_time", "2026-01-02T03:04:05Z"),
        ("ce_type", "reading"),
        ("content-type", "application/json"),
        ("tenant", "t-1"),
    ];
    assert_eq!(headers, expected.map(|(key, text)| (key.to_owned(), text.to_owned())));
    assert_eq!(record.key.as_deref(), Some(&b"device-1"[..]));
    cloud.set("sequence", "9".into()).unwrap();
    assert_eq!(record.event.as_ref(), Some(&cloud));
}

#[tokio::test]
async fn structured_mode_is_the_whole_event_as_json() {
    let mut bench = Bench::new(&[("readings", 1)], |config| {
        config.mode = Mode::Structured;
        config.key = Some("{{source}}:{{data.n}}".into());
    });
    let cloud = reading(5, "device-1");
    bench.send(std::slice::from_ref(&cloud)).await;
    bench.all_settled().await;
    let records = bench.read(&["readings"], 1);
    assert_eq!(header(&records[0], "content-type"), Some(STRUCTURED));
    assert_eq!(records[0].headers.len(), 1);
    assert_eq!(records[0].key.as_deref(), Some(&b"/test:5"[..]));
    assert_eq!(records[0].event.as_ref(), Some(&cloud));
}

#[tokio::test]
async fn no_data_is_a_tombstone_and_no_key_is_null() {
    let mut bench = Bench::new(&[("readings", 1)], |_| {});
    let cloud = CloudEvent::new("1", "/test", "gone");
    bench.send(std::slice::from_ref(&cloud)).await;
    bench.all_settled().await;
    let records = bench.read(&["readings"], 1);
    assert_eq!(records[0].key, None);
    assert_eq!(records[0].value, None);
    assert_eq!(records[0].event.as_ref(), Some(&cloud));
}

#[tokio::test]
async fn a_missing_key_field_is_a_null_key() {
    let mut bench = Bench::new(&[("readings", 1)], |config| config.key = Some("{{data.deviceId}}".into()));
    bench.send(&[reading(1, "k")]).await;
    bench.all_settled().await;
    assert_eq!(bench.read(&["readings"], 1)[0].key, None);
}

#[tokio::test]
async fn topics_follow_the_template_up_to_topics_max() {
    let mut bench = Bench::new(&[], |config| {
        config.topic = "eugenio.{{data.site}}".into();
        config.topics_max = 2;
    });
    let site = |id: u64, data: &str| {
        let mut cloud = reading(id, "k");
        cloud.data = Data::Text(data.to_owned());
        cloud
    };
    let receipts = bench
        .send(&[
            site(1, r#"{"site":"a"}"#),
            site(2, r#"{"site":"b"}"#),
            site(3, r#"{"site":"c"}"#),
            site(4, r#"{"other":1}"#),
            site(5, r#"{"site":"no name/"}"#),
            site(6, r#"{"site":"a"}"#),
        ])
        .await;
    bench.all_settled().await;
    assert_eq!(bench.rejection(receipts[2]).text, "topic eugenio.c is one more than topics_max 2");
    for (receipt, text) in [(3, "data.site"), (4, "no topic's name: \"eugenio.no name/\"")] {
        let rejection = bench.rejection(receipts[receipt]);
        assert_eq!(rejection.reason, Reason::Invalid);
        assert!(rejection.text.contains(text), "{}", rejection.text);
    }
    for accepted in [0, 1, 5] {
        assert_eq!(bench.outcomes[&receipts[accepted]], Outcome::Accepted);
    }
    let records = bench.read(&["eugenio.*"], 3);
    assert_eq!(records.iter().filter(|record| record.topic == "eugenio.a").count(), 2);
}

#[tokio::test]
async fn bytes_that_are_no_event_are_rejected_as_malformed() {
    let mut bench = Bench::new(&[("readings", 1)], |_| {});
    bench.sent = 1;
    let mut broken = event(&reading(1, "k"));
    broken.payload = b"\xff\xff"[..].into();
    bench.sink.send(&mut vec![(Receipt::for_test(1), broken)]).await;
    bench.all_settled().await;
    assert_eq!(bench.rejection(Receipt::for_test(1)).reason, Reason::Malformed);
}

#[tokio::test]
async fn a_record_above_the_clients_limit_is_rejected_alone() {
    let mut bench = Bench::new(&[("readings", 1)], |_| {});
    let mut large = reading(2, "k");
    large.data = Data::Text(format!("\"{}\"", "x".repeat(1_100_000)));
    let receipts = bench.send(&[reading(1, "k"), large, reading(3, "k")]).await;
    bench.all_settled().await;
    assert_eq!(bench.rejection(receipts[1]).reason, Reason::TooLarge);
    assert_eq!(bench.read(&["readings"], 2).len(), 2);
}

#[tokio::test]
async fn errors_that_pass_lose_nothing_and_keep_each_keys_order() {
    use RDKafkaRespErr::*;
    for code in [
        RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        RD_KAFKA_RESP_ERR__TRANSPORT,
        RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
    ] {
        let mut bench = Bench::new(&[("readings", 3)], |config| {
            config.properties.insert("batch.num.messages".into(), crate::Scalar::Integer(10));
        });
        bench.errors(code, 5);
        for from in (0..400).step_by(50) {
            bench.send(&keyed(from, from + 50)).await;
        }
        bench.all_settled().await;
        assert!(bench.outcomes.values().all(|outcome| *outcome == Outcome::Accepted), "{code:?}");
        assert_in_order(&bench.read(&["readings"], 400), 400);
    }
}

/// A policy violation ends librdkafka's producer for good, since it leaves a gap: the real fatal path.
#[tokio::test]
async fn a_throttled_batch_ends_the_producer_and_a_new_one_sends_all_again_in_order() {
    let mut bench = Bench::new(&[("readings", 3)], |config| {
        config.properties.insert("batch.num.messages".into(), crate::Scalar::Integer(10));
    });
    for from in (0..600).step_by(50) {
        if from % 100 == 0 {
            bench.errors(RDKafkaRespErr::RD_KAFKA_RESP_ERR_POLICY_VIOLATION, 1);
        }
        bench.send(&keyed(from, from + 50)).await;
        tokio::time::sleep(Duration::from_millis(7)).await;
    }
    bench.all_settled().await;
    assert!(bench.outcomes.values().all(|outcome| *outcome == Outcome::Accepted));
    assert_in_order(&bench.read(&["readings"], 600), 600);
}

#[tokio::test]
async fn a_new_producer_at_any_moment_loses_nothing() {
    let mut bench = Bench::new(&[("readings", 3)], |_| {});
    for from in (0..500).step_by(50) {
        bench.send(&keyed(from, from + 50)).await;
        bench.sink.recover().await;
    }
    bench.all_settled().await;
    assert!(bench.outcomes.values().all(|outcome| *outcome == Outcome::Accepted));
    assert_in_order(&bench.read(&["readings"], 500), 500);
}

#[tokio::test]
async fn a_refused_batch_takes_no_innocent_record_with_it() {
    let mut bench = Bench::new(&[("readings", 1)], |_| {});
    bench.errors(RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, 1);
    bench.send(&keyed(0, 100)).await;
    bench.all_settled().await;
    assert!(bench.outcomes.values().all(|outcome| *outcome == Outcome::Accepted));
    assert_in_order(&bench.read(&["readings"], 100), 100);
}

#[tokio::test]
async fn a_record_that_is_refused_alone_is_rejected() {
    let mut bench = Bench::new(&[("readings", 1)], |_| {});
    for (code, reason) in [
        (RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, Reason::TooLarge),
        (RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_RECORD, Reason::Refused),
    ] {
        // Once in company, and once in a group of each size.
        bench.errors(code, 4);
        let receipts = bench.send(&[reading(1, "k")]).await;
        bench.all_settled().await;
        assert_eq!(bench.rejection(receipts[0]).reason, reason);
    }
    let good = bench.send(&[reading(2, "k")]).await;
    bench.all_settled().await;
    assert_eq!(bench.outcomes[&good[0]], Outcome::Accepted);
}

#[tokio::test]
async fn a_topic_without_authorization_is_rejected_after_the_grace_time_and_disturbs_no_other() {
    let mut bench = Bench::new(&[("good", 1), ("bad", 1)], |config| config.topic = "{{type}}".into());
    let cluster = bench.broker.cluster().unwrap();
    cluster.topic_error("bad", RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED).unwrap();
    drop(cluster);
    let to = |id: u64, topic: &str| {
        let mut cloud = reading(id, "k");
        cloud.ty = topic.to_owned();
        cloud
    };
    let began = Instant::now();
    let receipts = bench.send(&[to(1, "bad"), to(2, "good"), to(3, "bad"), to(4, "good")]).await;
    bench.settled(2).await;
    assert!(bench.is_settled(receipts[1]) && bench.is_settled(receipts[3]));
    bench.all_settled().await;
    assert!(began.elapsed() >= timing().grace, "rejected before the grace time was over");
    for bad in [0, 2] {
        assert_eq!(bench.rejection(receipts[bad]).reason, Reason::Refused);
        assert!(bench.rejection(receipts[bad]).text.contains("topic bad"), "{}", bench.rejection(receipts[bad]).text);
    }
}

#[tokio::test]
async fn a_topic_that_comes_back_within_the_grace_time_gets_all_its_records_in_order() {
    let mut bench = Bench::new(&[("readings", 3)], |_| {});
    bench
        .broker
        .cluster()
        .unwrap()
        .topic_error("readings", RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
        .unwrap();
    bench.send(&keyed(0, 50)).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    bench.send(&keyed(50, 100)).await;
    bench.broker.cluster().unwrap().topic_error("readings", RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).unwrap();
    bench.all_settled().await;
    assert!(bench.outcomes.values().all(|outcome| *outcome == Outcome::Accepted));
    assert_in_order(&bench.read(&["readings"], 100), 100);
}

#[tokio::test]
async fn an_unknown_topic_is_rejected_only_after_the_grace_time() {
    let mut bench = Bench::new(&[("readings", 1)], |_| {});
    bench
        .broker
        .cluster()
        .unwrap()
        .topic_error("readings", RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
        .unwrap();
    let began = Instant::now();
    let receipts = bench.send(&[reading(1, "k")]).await;
    bench.all_settled().await;
    assert!(began.elapsed() >= timing().grace);
    assert_eq!(bench.rejection(receipts[0]).reason, Reason::Refused);
}

#[tokio::test]
async fn a_broker_that_is_down_is_waited_for() {
    let mut bench = Bench::new(&[("readings", 1)], |config| {
        config.properties.insert("reconnect.backoff.max.ms".into(), crate::Scalar::Integer(200));
    });
    bench.send(&keyed(0, 10)).await;
    bench.all_settled().await;
    bench.broker.cluster().unwrap().broker_down(-1).unwrap();
    bench.send(&keyed(10, 20)).await;
    let early = tokio::time::timeout(Duration::from_millis(1500), bench.settler.take()).await;
    assert!(early.is_err(), "{early:?}");
    bench.broker.cluster().unwrap().broker_up(-1).unwrap();
    bench.all_settled().await;
    assert_in_order(&bench.read(&["readings"], 20), 20);
}

/// As after a broker stood still for longer than its session: for a moment the cluster has none.
#[tokio::test]
async fn a_client_that_was_told_of_no_broker_at_all_is_replaced_once_there_is_one() {
    let broker = EmbeddedBroker::start(&[("readings", 1)]).unwrap();
    let relay = Relay::start(broker.bootstrap_servers()).await;
    let mut bench = Bench::on(broker, |config| {
        config.bootstrap_servers = Some(relay.bootstrap_servers());
        config.properties.insert("topic.metadata.refresh.interval.ms".into(), crate::Scalar::Integer(100));
    });
    bench.send(&keyed(0, 10)).await;
    bench.all_settled().await;
    relay.fence(true);
    let deadline = Instant::now() + LONG;
    while relay.blank_answers() == 0 {
        assert!(Instant::now() < deadline, "nobody asked for metadata");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // The client has still to read that answer, and to forget its broker.
    tokio::time::sleep(Duration::from_millis(500)).await;
    bench.send(&keyed(10, 20)).await;
    let early = tokio::time::timeout(Duration::from_secs(2), bench.settler.take()).await;
    assert!(early.is_err(), "{early:?}");
    relay.fence(false);
    bench.all_settled().await;
    assert_in_order(&bench.read(&["readings"], 20), 20);
}

#[tokio::test]
async fn a_full_queue_makes_the_sink_wait_and_keeps_order() {
    let mut bench = Bench::new(&[("readings", 3)], |config| config.queue_events = 20);
    for from in (0..2_000).step_by(100) {
        bench.send(&keyed(from, from + 100)).await;
    }
    bench.all_settled().await;
    assert_in_order(&bench.read(&["readings"], 2_000), 2_000);
}

#[tokio::test]
async fn a_drain_flushes_what_it_has() {
    let mut bench = Bench::new(&[("readings", 3)], |_| {});
    bench.send(&keyed(0, 200)).await;
    bench.sink.drain(LONG).await;
    let settled = tokio::time::timeout(Duration::ZERO, bench.settler.take()).await.expect("settled at once");
    assert_eq!(settled.len(), 200);
}

#[tokio::test]
async fn a_drain_ends_in_time_without_a_broker_and_settles_nothing() {
    let config = SinkConfig::new("127.0.0.1:1", "readings");
    let settler = Settler::default();
    let mut sink = KafkaSink::with_timing(&config, "publish", settler.clone(), Tracer::default(), timing()).unwrap();
    sink.send(&mut vec![(Receipt::for_test(1), event(&reading(1, "k")))]).await;
    let began = Instant::now();
    sink.drain(Duration::from_millis(300)).await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(tokio::time::timeout(Duration::from_millis(50), settler.take()).await.is_err());
}

#[tokio::test]
async fn a_tail_from_the_end_shows_what_comes_and_new_topics_from_their_beginning() {
    let mut bench = Bench::new(&[("a", 2)], |config| config.topic = "{{type}}".into());
    let to = |id: u64, topic: &str| {
        let mut cloud = reading(id, "k");
        cloud.ty = topic.to_owned();
        cloud
    };
    bench.send(&[to(1, "a")]).await;
    bench.all_settled().await;
    let mut tail = Tail::open(TailConfig {
        bootstrap_servers: bench.broker.bootstrap_servers(),
        properties: BTreeMap::new(),
        topics: Vec::new(),
        start: Start::End,
        stops: false,
    })
    .unwrap();
    // Only once it has found the ends is what follows "after" them.
    let deadline = Instant::now() + LONG;
    while !tail.is_at_end() {
        assert!(Instant::now() < deadline);
        assert!(tail.next(Duration::from_millis(50)).unwrap().is_none());
    }
    bench.send(&[to(2, "a"), to(3, "b")]).await;
    bench.all_settled().await;
    assert_eq!(shown(&mut tail, 2), ["2", "3"]);
    tail.strand();
    bench.send(&[to(4, "a"), to(5, "b")]).await;
    bench.all_settled().await;
    assert_eq!(shown(&mut tail, 2), ["4", "5"], "a client that has lost its brokers is replaced");
}

#[tokio::test]
async fn a_tail_that_stops_shows_what_was_there_when_it_began() {
    let mut bench = Bench::new(&[("a", 1)], |config| config.topic = "a".into());
    bench.send(&[reading(1, "k"), reading(2, "k")]).await;
    bench.all_settled().await;
    let mut tail = Tail::open(TailConfig {
        bootstrap_servers: bench.broker.bootstrap_servers(),
        properties: BTreeMap::new(),
        topics: Vec::new(),
        start: Start::Beginning,
        stops: true,
    })
    .unwrap();
    bench.send(&[reading(3, "k")]).await;
    bench.all_settled().await;
    assert_eq!(shown(&mut tail, 2), ["1", "2"]);
    let deadline = Instant::now() + LONG;
    while !tail.is_at_end() {
        assert!(Instant::now() < deadline);
        assert!(tail.next(Duration::from_millis(50)).unwrap().is_none(), "it was written later");
    }
}

fn shown(tail: &mut Tail, count: usize) -> Vec<String> {
    let deadline = Instant::now() + LONG;
    let mut ids = Vec::new();
    while ids.len() < count {
        assert!(Instant::now() < deadline, "{ids:?}");
        ids.extend(tail.next(Duration::from_millis(50)).unwrap().map(|record| record.event.unwrap().id));
    }
    ids.sort();
    ids
}

/// This process's metrics.
pub(crate) fn recorder() -> &'static Metrics {
    static METRICS: LazyLock<Metrics> = LazyLock::new(|| install_metrics("p").unwrap());
    &METRICS
}

#[test]
fn each_sink_of_a_process_has_metrics_of_its_own() {
    let metrics = recorder();
    let config = SinkConfig::new("127.0.0.1:1", "readings");
    let _sinks = ["of-one", "of-two"].map(|stage| KafkaSink::new(&config, stage, Settler::default()).unwrap());
    let text = metrics.render();
    for sample in
        ["recoveries_total{pipeline=\"p\",stage=\"of-one\"} 0", "recoveries_total{pipeline=\"p\",stage=\"of-two\"} 0"]
    {
        assert!(text.contains(&format!("jaiminho_kafka_{sample}")), "{sample} in:\n{text}");
    }
    assert!(
        text.contains("jaiminho_kafka_settled_total{pipeline=\"p\",stage=\"of-two\",outcome=\"rejected\"} 0"),
        "{text}"
    );
}

#[tokio::test]
async fn a_broker_that_confirms_nothing_is_told_of_and_so_is_its_return() {
    let mut bench = Bench::new(&[("readings", 1)], |_| {});
    bench.send(&[reading(1, "a")]).await;
    bench.all_settled().await;
    assert_eq!(bench.settler.troubles().current(), None);
    let servers = bench.broker.bootstrap_servers();
    bench.broker.cluster().unwrap().broker_down(1).unwrap();
    bench.send(&[reading(2, "a")]).await;
    let deadline = Instant::now() + LONG;
    let trouble = loop {
        assert!(Instant::now() < deadline, "nobody is told");
        match bench.settler.troubles().current() {
            Some(trouble) => break trouble,
            None => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    let rest = trouble.text.strip_prefix(&format!("no record confirmed by {servers} for "));
    let (seconds, rest) = rest.and_then(|rest| rest.split_once(" s, ")).unwrap_or_else(|| panic!("{}", trouble.text));
    assert!((5..=15).contains(&seconds.parse::<u64>().unwrap()) && rest.starts_with("1 wait"), "{}", trouble.text);
    assert!(trouble.text.contains("down") || trouble.text.contains("refused"), "{}", trouble.text);
    bench.broker.cluster().unwrap().broker_up(1).unwrap();
    bench.all_settled().await;
    while bench.settler.troubles().current().is_some() {
        assert!(Instant::now() < deadline, "its return is not told");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
