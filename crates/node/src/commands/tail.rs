//! `jaiminho tail`: what is in Kafka.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jaiminho_kafka::{Start, Tail, TailConfig, TailRecord, client_config};
use serde_json::json;

use super::{Found, file_or_running};
use crate::cli::{From, Global, Tail as Arguments};
use crate::config::component::{KafkaConfig, Sink};
use crate::exit::Failure;
use crate::output::{line, printable, printable_json};
use crate::running::Running;

/// Records of each partition that are shown at first.
const LAST_DEFAULT: u32 = 10;
/// How long to wait for one record before looking whether the end is reached.
const WAIT: Duration = Duration::from_millis(250);
/// Topics that are told to who asked for others.
const TOPICS_TOLD_MAX: usize = 20;

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<(), Failure> {
    let (bootstrap_servers, properties) = cluster(global, arguments)?;
    let start = match (arguments.from, arguments.last) {
        (Some(From::Beginning), _) => Start::Beginning,
        (Some(From::End), _) => Start::End,
        (None, last) => Start::Last(last.unwrap_or(LAST_DEFAULT)),
    };
    let config = TailConfig {
        bootstrap_servers: bootstrap_servers.clone(),
        properties,
        topics: arguments.topic.clone(),
        start,
        stops: arguments.no_follow,
    };
    let unavailable = |error: jaiminho_kafka::TailError| Failure::unavailable(format!("{bootstrap_servers}: {error}"));
    let mut tail = Tail::open(config).map_err(unavailable)?;
    if let Some(none) = no_topic(&tail.unmatched(), tail.existing()) {
        eprintln!("{none}{}", if arguments.no_follow { "" } else { "; waiting" });
    }
    let mut left = arguments.count.unwrap_or(u64::MAX);
    while left > 0 {
        match tail.next(WAIT).map_err(unavailable)? {
            Some(record) => {
                line(if global.json { printable_json(&as_json(&record).to_string()) } else { text(&record) })?;
                left -= 1;
            }
            None if arguments.no_follow && tail.is_at_end() => break,
            None => {}
        }
    }
    Ok(())
}

/// What is said when there is nothing to read, or less than was asked for.
fn no_topic(unmatched: &[&str], existing: &BTreeSet<String>) -> Option<String> {
    let wanted = unmatched.iter().map(|pattern| format!("`{pattern}`")).collect::<Vec<_>>().join(", ");
    let told: Vec<&str> = existing.iter().map(String::as_str).take(TOPICS_TOLD_MAX).collect();
    let more = match existing.len() - told.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    match (unmatched.is_empty(), existing.is_empty()) {
        (true, false) => None,
        (true, true) => Some("there is no topic yet".into()),
        (false, true) => Some(format!("no topic matches {wanted}: there is none yet")),
        (false, false) => Some(format!("no topic matches {wanted}; there are: {}{more}", told.join(", "))),
    }
}

/// Where the records are: named, or of the `up` that runs this file, or of the pipeline's sinks.
fn cluster(global: &Global, arguments: &Arguments) -> Result<(String, BTreeMap<String, String>), Failure> {
    if let Some(named) = &arguments.bootstrap_servers {
        return Ok((named.clone(), BTreeMap::new()));
    }
    let config = match file_or_running(global, "--bootstrap-servers HOST:PORT a broker")? {
        Found::Running(Running { pipeline, bootstrap_servers, .. }) => {
            let embedded = bootstrap_servers.ok_or_else(|| {
                Failure::usage(format!(
                    "the running pipeline `{pipeline}` has no broker of its own; -f FILE names its file, --bootstrap-servers HOST:PORT a broker"
                ))
            });
            return Ok((embedded?, BTreeMap::new()));
        }
        Found::File(config) => config,
    };
    let pipeline = &config.pipeline.pipeline;
    let sinks: Vec<&KafkaConfig> = config
        .pipeline
        .stages
        .values()
        .filter_map(|stage| match stage.sink.as_ref()? {
            Sink::Kafka(kafka) => Some(&**kafka),
            Sink::Stdout(_) | Sink::File(_) | Sink::Blackhole(_) | Sink::Own(_) => None,
        })
        .collect();
    let elsewhere = match Running::find_of(pipeline, &global.file) {
        Ok(Some(Running { bootstrap_servers: Some(embedded), .. })) => return Ok((embedded, BTreeMap::new())),
        Ok(_) => format!(
            "the broker of pipeline `{pipeline}` is inside `jaiminho up`, which does not run; start it, or name a broker by --bootstrap-servers"
        ),
        Err(other) => format!("{other}; --bootstrap-servers names a broker"),
    };
    let Some(sink) = sinks.iter().find(|sink| !sink.is_embedded()) else {
        return Err(Failure::unavailable(match sinks.is_empty() {
            true => format!("pipeline `{pipeline}` has no Kafka sink; --bootstrap-servers names a broker"),
            false => elsewhere,
        }));
    };
    let mut properties = client_config(sink).map_err(Failure::config)?;
    let servers = properties.remove("bootstrap.servers").unwrap_or_default();
    Ok((servers, properties))
}

fn as_json(record: &TailRecord) -> serde_json::Value {
    let headers: serde_json::Map<String, serde_json::Value> =
        record.headers.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
    json!({
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp_ms,
        "key": record.key.as_deref().map(String::from_utf8_lossy),
        "headers": headers,
        "event": record.event.as_ref().map(jaiminho_event::CloudEvent::to_json),
        "value": record.value.as_deref().map(String::from_utf8_lossy),
    })
}

fn text(record: &TailRecord) -> String {
    let key = record.key.as_deref().map_or("none".into(), |key| printable(&String::from_utf8_lossy(key)));
    let mut text = format!("{} [{}] @{}  key {key}\n", printable(&record.topic), record.partition, record.offset);
    for (name, value) in &record.headers {
        text.push_str(&format!("  {}: {}\n", printable(name), printable(value)));
    }
    match (&record.event, &record.value) {
        (Some(event), _) => text.push_str(&format!("{}\n", printable_json(&format!("{:#}", event.to_json())))),
        (None, Some(value)) => text.push_str(&format!("{}\n", printable(&String::from_utf8_lossy(value)))),
        (None, None) => text.push_str("(empty)\n"),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_a_topic_that_is_not_there_is_told_which_are() {
        let topics = |count: usize| (0..count).map(|number| format!("t{number:02}")).collect();
        assert_eq!(no_topic(&[], &topics(1)), None);
        assert_eq!(no_topic(&[], &topics(0)).unwrap(), "there is no topic yet");
        assert_eq!(no_topic(&["a"], &topics(0)).unwrap(), "no topic matches `a`: there is none yet");
        assert_eq!(no_topic(&["a", "b*"], &topics(2)).unwrap(), "no topic matches `a`, `b*`; there are: t00, t01");
        assert!(no_topic(&["a"], &topics(23)).unwrap().ends_with("t18, t19 and 3 more"));
    }
}
