//! Our Kafka sink beside a bare producer loop: the same records, the same properties.
//!
//! All records are made before the clock starts, and a first part of them warms the connection up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jaiminho_core::Window;
use jaiminho_event::{CloudEvent, Data, EventError};
use jaiminho_kafka::{BareRecord, BareRun, KafkaSink, SinkConfig};
use jaiminho_link::InProcess;
use jaiminho_runtime::{NewEvent, Outside, Role, Settler, SourceHandle, StageConfig, spawn};

use crate::BenchError;
use crate::stages::{self, CONSUMER, Feed, PRODUCER};

const SOURCE: &str = "/jaiminho/bench";
const TYPE: &str = "jaiminho.bench.v1";
const JSON: &str = "application/json";
/// As a pipeline file's defaults.
const WINDOW: Window = Window { events: 2_000, bytes: 1 << 20 };
const BATCH: usize = 500;
const WARM_UP: usize = 1_000;
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);

/// One run.
#[derive(Clone, Debug)]
pub struct PublishJob {
    pub bootstrap_servers: String,
    pub topic: String,
    pub count: usize,
    /// Bytes of a record's value.
    pub size: usize,
    pub keys: usize,
}

/// A JSON object of so many bytes (if it can be so small), with its device among `keys`.
pub fn json_event(number: usize, keys: usize, size: usize) -> String {
    let mut text = format!("{{\"deviceId\":\"{}\",\"number\":{number},\"filling\":\"", device(number, keys));
    let filling = size.saturating_sub(text.len() + 2);
    text.extend(std::iter::repeat_n('x', filling));
    text.push_str("\"}");
    text
}

fn device(number: usize, keys: usize) -> String {
    format!("device-{}", number % keys.max(1))
}

/// Events a second of a bare producer loop. Blocks.
pub fn bare(job: &PublishJob) -> Result<f64, BenchError> {
    let kafka = |error: jaiminho_kafka::ConfigError| BenchError::Kafka(error.to_string());
    let record = |number| BareRecord {
        key: device(number, job.keys),
        headers: vec![
            ("ce_specversion", "1.0".to_owned()),
            ("ce_id", number.to_string()),
            ("ce_source", SOURCE.to_owned()),
            ("ce_type", TYPE.to_owned()),
            ("content-type", JSON.to_owned()),
            ("ce_partitionkey", device(number, job.keys)),
        ],
        value: json_event(number, job.keys, job.size).into_bytes(),
    };
    let records: Vec<BareRecord> = (0..job.count + WARM_UP).map(record).collect();
    let (warm_up, records) = records.split_at(WARM_UP);
    let run = BareRun::new(&config(job)).map_err(kafka)?;
    let warm = run.send_all(warm_up).map_err(kafka)?;
    let began = Instant::now();
    let all = run.send_all(records).map_err(kafka)?;
    per_second(job, all - warm, began)
}

/// Events a second of our sink, behind a link in this process.
pub async fn ours(job: &PublishJob) -> Result<f64, BenchError> {
    let events: Result<Vec<NewEvent>, EventError> =
        (0..job.count + WARM_UP).map(|number| new_event(job, number)).collect();
    let mut warm_up = events.map_err(|error| BenchError::Kafka(error.to_string()))?;
    let events = warm_up.split_off(WARM_UP);
    let outputs = vec![stages::output(PRODUCER, CONSUMER, &WINDOW, 1)];
    let source = Role::Source(Box::new(Outside));
    let producer = spawn(StageConfig { outputs, ..stages::stage(PRODUCER, PRODUCER, source) });
    let links = InProcess::new();
    links.register(PRODUCER, Arc::new(producer.clone()));
    let settler = Settler::default();
    let sink =
        KafkaSink::new(&config(job), "bench", settler.clone()).map_err(|error| BenchError::Kafka(error.to_string()))?;
    let role = Role::Sink(Box::new(sink), settler);
    let upstreams = vec![stages::upstream(PRODUCER, WINDOW, InProcess::address(PRODUCER), Arc::new(links))];
    let consumer = spawn(StageConfig { upstreams, ..stages::stage(CONSUMER, CONSUMER, role) });
    let source = producer.source();
    publish(&source, warm_up).await?;
    let began = Instant::now();
    let settled = publish(&source, events).await?;
    let rate = per_second(job, settled, began);
    consumer.drain(DRAIN_DEADLINE).await;
    producer.drain(DRAIN_DEADLINE).await;
    rate
}

async fn publish(source: &SourceHandle, events: Vec<NewEvent>) -> Result<u64, BenchError> {
    // A log full of them, so that it is the sink that limits.
    let unsettled_max = WINDOW.events as usize * 3;
    stages::offer_all(source, Made(events.into_iter()), BATCH, unsettled_max).await
}

struct Made(std::vec::IntoIter<NewEvent>);

impl Feed for Made {
    async fn next(&mut self, events_max: usize) -> Vec<NewEvent> {
        self.0.by_ref().take(events_max).collect()
    }
}

fn config(job: &PublishJob) -> SinkConfig {
    SinkConfig::new(&job.bootstrap_servers, &job.topic)
}

fn new_event(job: &PublishJob, number: usize) -> Result<NewEvent, EventError> {
    let mut event = CloudEvent::new(number.to_string(), SOURCE, TYPE);
    event.set("datacontenttype", JSON.into())?;
    event.set("partitionkey", device(number, job.keys).into())?;
    event.data = Data::Text(json_event(number, job.keys, job.size));
    Ok(NewEvent::from(&event))
}

fn per_second(job: &PublishJob, delivered: u64, began: Instant) -> Result<f64, BenchError> {
    if delivered != job.count as u64 {
        return Err(BenchError::Incomplete(format!("of {} records the broker confirmed {delivered}", job.count)));
    }
    Ok(job.count as f64 / began.elapsed().as_secs_f64().max(1e-9))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_the_size_that_was_asked_for() {
        for number in [0, 7, 99_999] {
            let event = json_event(number, 1_000, 241);
            assert_eq!(event.len(), 241);
            assert!(serde_json::from_str::<serde_json::Value>(&event).is_ok());
        }
        assert!(json_event(1, 1, 3).len() > 3, "its fields take more");
    }

    #[tokio::test]
    async fn both_publish_every_record() {
        let broker = jaiminho_kafka::EmbeddedBroker::start(&[("bench", 2)]).unwrap();
        let job = PublishJob {
            bootstrap_servers: broker.bootstrap_servers(),
            topic: "bench".to_owned(),
            count: 2_000,
            size: 241,
            keys: 10,
        };
        assert!(ours(&job).await.unwrap() > 0.0);
        let of_bare = job.clone();
        assert!(tokio::task::spawn_blocking(move || bare(&of_bare)).await.unwrap().unwrap() > 0.0);
    }
}
