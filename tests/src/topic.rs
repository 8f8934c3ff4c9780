//! What arrived in a topic.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::Value;

use crate::{Ledger, Numbered};

/// One record.
#[derive(Clone, Debug)]
pub struct Record {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<String>,
    pub headers: HashMap<String, String>,
    pub value: Vec<u8>,
}

impl Record {
    /// The value as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.value).unwrap_or(Value::Null)
    }
}

/// All records of one topic, in order within each partition.
#[derive(Clone, Debug)]
pub struct Topic {
    pub name: String,
    pub records: Vec<Record>,
}

/// A topic compared with what was acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Acknowledged, and not there.
    pub missing: Vec<Numbered>,
    /// Copies beyond the first.
    pub duplicates: u64,
    /// Copies with another CloudEvents id than the first.
    pub foreign_ids: Vec<Numbered>,
    /// First copies that came after the first copy of a later event of their key.
    pub disordered: Vec<Numbered>,
    /// Different events found.
    pub distinct: u64,
}

impl Topic {
    /// Reads from the start to the present end. A topic that does not exist is empty.
    pub async fn read(bootstrap: &str, name: &str) -> Self {
        let (bootstrap, topic) = (bootstrap.to_owned(), name.to_owned());
        tokio::task::spawn_blocking(move || read(&bootstrap, &topic)).await.expect("reader")
    }

    /// What `file` sinks wrote, one after the other. A last line that a killed process did not finish is left out.
    pub fn of_files(paths: &[PathBuf]) -> Self {
        let texts = paths.iter().map(|path| std::fs::read_to_string(path).expect("a sink's file"));
        let events = texts.flat_map(|text| text.lines().map(serde_json::from_str::<Value>).collect::<Vec<_>>());
        let records = events.flatten().zip(0..).map(|(event, offset)| Record {
            partition: 0,
            offset,
            key: None,
            headers: HashMap::from([("ce_id".to_owned(), event["id"].as_str().unwrap_or_default().to_owned())]),
            value: event["data"].to_string().into_bytes(),
        });
        Self { name: "files".to_owned(), records: records.collect() }
    }

    /// The JSON values, in the order of their records.
    pub fn values(&self) -> Vec<Value> {
        self.records.iter().map(Record::json).collect()
    }

    /// Compares with the ledger. Events are known by `key` and `number` in their data.
    pub fn check(&self, ledger: &Ledger) -> Verdict {
        let mut verdict = Verdict::default();
        let mut first_ids: HashMap<Numbered, String> = HashMap::new();
        let mut last: HashMap<String, u64> = HashMap::new();
        for record in &self.records {
            let Some(event) = Numbered::of(&record.json()) else { continue };
            let id = record.headers.get("ce_id").cloned().unwrap_or_default();
            if let Some(first) = first_ids.get(&event) {
                verdict.duplicates += 1;
                if *first != id {
                    verdict.foreign_ids.push(event);
                }
                continue;
            }
            if last.insert(event.key.clone(), event.number).is_some_and(|before| before > event.number) {
                verdict.disordered.push(event.clone());
            }
            first_ids.insert(event, id);
        }
        verdict.distinct = first_ids.len() as u64;
        verdict.missing = ledger.acknowledged().into_iter().filter(|event| !first_ids.contains_key(event)).collect();
        verdict
    }
}

fn read(bootstrap: &str, name: &str) -> Topic {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "reader")
        .set("enable.auto.commit", "false")
        .set("allow.auto.create.topics", "false")
        .set("log_level", "0")
        .create()
        .expect("consumer");
    let patience = Duration::from_secs(20);
    let metadata = consumer.fetch_metadata(Some(name), patience).expect("metadata of the topic");
    let partitions = metadata.topics().first().map(|topic| topic.partitions().len()).unwrap_or_default();
    let mut assignment = TopicPartitionList::new();
    let mut left = HashMap::new();
    for partition in 0..i32::try_from(partitions).expect("partitions") {
        let (low, high) = consumer.fetch_watermarks(name, partition, patience).expect("watermarks");
        if high > low {
            assignment.add_partition_offset(name, partition, Offset::Beginning).expect("assignment");
            left.insert(partition, high);
        }
    }
    consumer.assign(&assignment).expect("assignment");
    let mut records = Vec::new();
    while !left.is_empty() {
        let message = consumer.poll(patience).expect("a record before the topic's end").expect("a readable record");
        let (partition, offset) = (message.partition(), message.offset());
        if left.get(&partition).is_some_and(|high| offset < *high) {
            records.push(record(&message));
        }
        if left.get(&partition).is_some_and(|high| offset + 1 >= *high) {
            left.remove(&partition);
        }
    }
    records.sort_by_key(|record| (record.partition, record.offset));
    Topic { name: name.to_owned(), records }
}

fn record(message: &impl Message) -> Record {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = message.headers().map(|headers| {
        headers.iter().map(|header| (header.key.to_owned(), header.value.map(text).unwrap_or_default())).collect()
    });
    Record {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(text),
        headers: headers.unwrap_or_default(),
        value: message.payload().unwrap_or_default().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(events: &[(&str, u64, &str)]) -> Topic {
        let records = events.iter().enumerate().map(|(offset, (key, number, id))| Record {
            partition: 0,
            offset: offset as i64,
            key: None,
            headers: HashMap::from([("ce_id".to_owned(), (*id).to_owned())]),
            value: serde_json::json!({ "key": key, "number": number }).to_string().into_bytes(),
        });
        Topic { name: "t".to_owned(), records: records.collect() }
    }

    fn ledger(events: &[(&str, u64)]) -> Ledger {
        let ledger = Ledger::default();
        for (key, number) in events {
            ledger.acknowledge(&[Numbered { key: (*key).to_owned(), number: *number }]);
        }
        ledger
    }

    #[test]
    fn an_acknowledged_event_that_is_not_in_the_topic_is_missing() {
        let verdict = topic(&[("a", 1, "x")]).check(&ledger(&[("a", 1), ("a", 2)]));
        assert_eq!(verdict.missing, [Numbered { key: "a".to_owned(), number: 2 }]);
    }

    #[test]
    fn an_older_first_copy_after_a_newer_one_is_out_of_order_and_a_repeat_is_not() {
        let verdict = topic(&[("a", 1, "1"), ("a", 3, "3"), ("a", 1, "1"), ("a", 2, "2")]).check(&ledger(&[]));
        assert_eq!(verdict.disordered, [Numbered { key: "a".to_owned(), number: 2 }]);
        assert_eq!(verdict.duplicates, 1);
        assert_eq!(verdict.foreign_ids, []);
    }

    #[test]
    fn a_copy_with_another_id_is_told() {
        let verdict = topic(&[("a", 1, "1"), ("a", 1, "2")]).check(&ledger(&[]));
        assert_eq!(verdict.foreign_ids, [Numbered { key: "a".to_owned(), number: 1 }]);
    }
}
