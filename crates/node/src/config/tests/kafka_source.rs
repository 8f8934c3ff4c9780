//! A pipeline that starts from a topic.

use super::*;

const REPLAY: &str = r#"version: 1
pipeline: again
stages:
  read:
    at: { dns: "read:7400" }
    key: "{{data.deviceId}}"
    source:
      kafka:
        bootstrap_servers: "${KAFKA:-embedded}"
        topics: [raw]
        group: again
        start: { timestamp: "2026-01-31T00:00:00Z" }
  publish:
    at: { dns: "publish:7400" }
    subscribe_to: [read]
    sink: { kafka: { bootstrap_servers: "${KAFKA:-embedded}", topic: out } }
  dead:
    subscribe_to: [read.dead_letter, publish.dead_letter]
    sink: { kafka: { bootstrap_servers: "${KAFKA:-embedded}", topic: dead } }
"#;

fn told(from: &str, to: &str) -> String {
    assert!(REPLAY.contains(from), "{from}");
    wrong(&REPLAY.replacen(from, to, 1))
}

#[test]
fn a_pipeline_from_topic_to_topic_is_valid_and_its_memory_is_summed_up() {
    assert_eq!(wrong(REPLAY), "");
    let config = load_text(REPLAY, &Overrides::default(), Setting::Apart).unwrap();
    let terms = memory::terms(&config, "read", &config.pipeline.stages["read"], 4);
    for name in ["log", "dead-letter log", "consumer's queue", "events held", "events that settle"] {
        assert!(terms.iter().any(|term| term.name == name && term.bytes > 0), "{name} in {terms:#?}");
    }
    assert!(memory::sum(&terms) <= 480 << 20, "{terms:#?}");
}

#[test]
fn mistakes_of_a_source_say_where_they_are_and_what_would_be_right() {
    let mut all = String::new();
    for (from, to) in [
        ("topics: [raw]", "topic: raw"),
        ("topics: [raw]", "topics: []"),
        ("topics: [raw]", "topics: [raw, \"^raw.*\"]"),
        ("        group: again\n", ""),
        ("start: { timestamp: \"2026-01-31T00:00:00Z\" }", "start: newest"),
        ("start: { timestamp: \"2026-01-31T00:00:00Z\" }", "start: { timestamp: yesterday }"),
        ("group: again", "group: again\n        properties: { enable.auto.commit: true, fetch.wait.max.ms: soon }"),
        ("group: again", "group: again\n        tls: {}\n        event_hubs: { namespace: n }"),
        ("read.dead_letter, ", ""),
        ("    sink: { kafka", "    limits: { event_bytes: 1KiB }\n    sink: { kafka"),
    ] {
        all.push_str(&format!("# {to}\n{}\n", told(from, to)));
    }
    insta::assert_snapshot!(all, @r##"
# topic: raw
p.yaml:8:7: error: `stages.read.source.kafka` needs a key `topics`
p.yaml:10:9: error: unknown key `topic` in `stages.read.source.kafka` (did you mean `topics`?)
# topics: []
p.yaml:10:9: error: `stages.read.source.kafka.topics`: the value has less than 1 item
# topics: [raw, "^raw.*"]
p.yaml:10:9: error: topics: topic "^raw.*" is not a name that Kafka allows: 1-249 of a-z, A-Z, 0-9, '.', '_' and '-'
# 
p.yaml:8:7: error: `stages.read.source.kafka` needs a key `group`
# start: newest
p.yaml:12:16: error: `stages.read.source.kafka.start` can't be `newest` (did you mean `latest`?)
# start: { timestamp: yesterday }
p.yaml:12:29: error: start.timestamp: `yesterday` is not an RFC 3339 time, as 2026-01-31T23:59:59.5Z
# group: again
        properties: { enable.auto.commit: true, fetch.wait.max.ms: soon }
p.yaml:12:43: error: property enable.auto.commit can't be set: offsets are committed when all before them is settled
p.yaml:12:68: error: property fetch.wait.max.ms: Invalid value for configuration property "fetch.wait.max.ms"
# group: again
        tls: {}
        event_hubs: { namespace: n }
p.yaml:13:9: error: bootstrap_servers and event_hubs exclude each other
# 
p.yaml:4:3: warning: nothing subscribes to `read.dead_letter`: records that can't be read are counted and logged, and gone
#     limits: { event_bytes: 1KiB }
    sink: { kafka
p.yaml:4:3: warning: source `read` reads events above 1024: what `publish` takes (its `limits.event_bytes`); larger ones are rejected only after they were taken
"##);
}

#[test]
fn a_source_apart_needs_a_real_broker() {
    let yaml = REPLAY.replace("${KAFKA:-embedded}", "embedded");
    let problems = load_text(&yaml, &Overrides::default(), Setting::Apart).unwrap_err().to_string();
    assert!(problems.contains("p.yaml:9:28: error: `embedded` is the broker inside `jaiminho up`"), "{problems}");
}
