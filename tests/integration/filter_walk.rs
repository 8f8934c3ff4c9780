//! The README's walk: adding a stage to a pipeline file.

use std::path::Path;

use jaiminho_tests::{Client, Cluster, Kafka, Topic, free_port, skip_kafka};

const README: &str = include_str!("../../README.md");
const PIPELINE: &str = include_str!("../../deploy/pipelines/eugenio/pipeline.yaml");
const STAGES: [(&str, usize); 5] = [("ingest", 1), ("convert", 1), ("real", 1), ("publish", 1), ("dead", 1)];

/// The first block of YAML under the heading.
fn walk() -> &'static str {
    let section = README.split_once("\n## Add a stage\n").expect("the walk's heading").1;
    let block = section.split_once("```yaml\n").expect("the walk's block").1;
    block.split_once("```").expect("the block's end").0
}

/// Replaces what must be there.
fn replace(text: &str, old: &str, new: &str) -> String {
    assert!(text.contains(old), "no {old} in:\n{text}");
    text.replace(old, new)
}

#[tokio::test(flavor = "multi_thread")]
async fn four_lines_add_a_filter() {
    if skip_kafka() {
        return;
    }
    assert_eq!(walk().lines().count(), 4);
    let kafka = Kafka::shared().await;
    let port = free_port();
    let mappings = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/pipelines/eugenio/mappings/");
    let mut cluster = Cluster::new("walk", &STAGES, |at| {
        // What the README says.
        let mut file = replace(PIPELINE, "  publish:\n", &format!("{}  publish:\n", walk()));
        // The rest only puts it on this machine.
        for stage in ["ingest", "convert", "real", "publish"] {
            file = replace(&file, &format!("{{ dns: \"{stage}:7400\" }}"), &at(stage));
        }
        file = replace(&file, "mappings/", &mappings.to_string_lossy());
        file = replace(&file, "${KAFKA:-embedded}", &kafka.bootstrap());
        replace(&file, "0.0.0.0:8080", &format!("127.0.0.1:{port}"))
    });
    for (stage, _) in STAGES {
        cluster.start(stage, 0);
    }
    cluster.ready().await;

    for device in ["a-1", "test-1", "a-2"] {
        let event = serde_json::json!({ "deviceId": device, "ts": 1_772_366_400_000_u64,
            "readings": [{ "metric": "m", "unit": "K", "value": 300 }] });
        let answer = Client::new(port).json(&event).await;
        assert_eq!(answer.status, 200, "a filtered event is done: {}", answer.text);
    }
    let topic = Topic::read(&kafka.bootstrap(), "eugenio.eugenio.measurement.v1").await;
    let mut devices: Vec<_> = topic.values().iter().map(|data| data["deviceId"].to_string()).collect();
    devices.sort();
    assert_eq!(devices, [r#""a-1""#, r#""a-2""#]);
}
