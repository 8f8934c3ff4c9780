//! What a consumer group has committed, and records for it to read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::Numbered;

const PATIENCE: Duration = Duration::from_secs(20);

/// A consumer group and the topic that it reads.
#[derive(Clone, Debug)]
pub struct Group {
    pub bootstrap: String,
    pub name: String,
    pub topic: String,
    pub partitions: i32,
}

impl Group {
    /// What it has committed, of each partition; 0 where it has nothing.
    pub async fn committed(&self) -> BTreeMap<i32, i64> {
        let group = self.clone();
        tokio::task::spawn_blocking(move || group.ask()).await.expect("committed offsets")
    }

    /// Records that it has not committed.
    pub async fn lag(&self) -> i64 {
        let group = self.clone();
        let ends = tokio::task::spawn_blocking(move || {
            let consumer = group.consumer();
            let end = |partition| consumer.fetch_watermarks(&group.topic, partition, PATIENCE).expect("watermarks").1;
            (0..group.partitions).map(end).sum::<i64>()
        });
        ends.await.expect("ends") - self.committed().await.values().sum::<i64>()
    }

    fn ask(&self) -> BTreeMap<i32, i64> {
        let mut list = TopicPartitionList::new();
        for partition in 0..self.partitions {
            list.add_partition(&self.topic, partition);
        }
        let consumer = self.consumer();
        let deadline = Instant::now() + PATIENCE;
        let found = loop {
            // A new broker has no coordinator at first.
            match consumer.committed_offsets(list.clone(), PATIENCE) {
                Ok(found) => break found,
                Err(error) => assert!(Instant::now() < deadline, "committed offsets: {error}"),
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        let offset = |offset| if let Offset::Offset(offset) = offset { offset } else { 0 };
        found.elements().into_iter().map(|one| (one.partition(), offset(one.offset()))).collect()
    }

    fn consumer(&self) -> BaseConsumer {
        ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            .set("group.id", &self.name)
            .set("log_level", "0")
            .create()
            .expect("consumer")
    }
}

/// A record to write: key, value, headers.
pub type Written = (String, String, Vec<(String, String)>);

/// Writes records, each with a key, and waits until the broker has them.
#[derive(Clone)]
pub struct Writer(Arc<BaseProducer>);

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Writer")
    }
}

impl Writer {
    /// For all topics of a broker; one that is unknown is made.
    pub fn new(bootstrap: &str) -> Self {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("partitioner", "murmur2_random")
            .set("enable.idempotence", "true")
            .set("reconnect.backoff.max.ms", "1000")
            .set("log_level", "0")
            .create();
        Self(Arc::new(producer.expect("producer")))
    }

    /// As CloudEvents in binary mode.
    pub async fn events(&self, topic: &str, events: Vec<Numbered>) {
        let records = events.into_iter().map(|event| {
            let cloud = event.cloud_event();
            let text = |name: &str| cloud[name].as_str().unwrap_or_default().to_owned();
            let attributes = ["specversion", "id", "source", "type"].map(|name| (format!("ce_{name}"), text(name)));
            let content_type = ("content-type".to_owned(), text("datacontenttype"));
            let headers = attributes.into_iter().chain([content_type]).collect();
            (event.key, cloud["data"].to_string(), headers)
        });
        self.write(topic, records.collect()).await;
    }

    /// Records of key, value and headers.
    pub async fn write(&self, topic: &str, records: Vec<Written>) {
        let (producer, topic) = (Arc::clone(&self.0), topic.to_owned());
        let writing = tokio::task::spawn_blocking(move || {
            for (key, value, headers) in records {
                let headers = headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
                    headers.insert(Header { key, value: Some(value) })
                });
                let record = BaseRecord::to(&topic).key(&key).payload(&value).headers(headers);
                producer.send(record).map_err(|(error, _)| error).expect("room in the queue");
            }
            producer.flush(3 * PATIENCE).expect("written");
        });
        writing.await.expect("writer");
    }
}
