//! The benchmarks, small: every figure is there, and events that go missing would be noticed.

use std::time::Duration;

use jaiminho_tests::{Directory, Kafka, jaiminho, jaiminho_within, skip_kafka};
use serde_json::Value;

const LINK: [&str; 20] = [
    "events_speed",
    "events_cpu",
    "frames_speed",
    "frames_cpu",
    "link_speed",
    "link_cpu",
    "link_to_events",
    "link_to_frames",
    "group_speed",
    "group_cpu",
    "group_to_link_cpu",
    "bare_hop_p50",
    "bare_hop_p99",
    "link_hop_p50",
    "link_hop_p99",
    "hop_p50_ratio",
    "hop_p99_ratio",
    "in_process_speed",
    "in_process_cpu",
    "pass_cpu",
];

const PIPELINE: [&str; 11] = [
    "batches_cpu",
    "batches_speed",
    "singles_cpu",
    "singles_speed",
    "open_cpu",
    "open_p50",
    "open_p99",
    "repeats",
    "bare_speed",
    "publisher_speed",
    "publisher_to_bare",
];

const TELEMETRY: [&str; 10] = [
    "batches_off_cpu",
    "batches_metrics",
    "batches_sampled",
    "batches_all",
    "singles_off_cpu",
    "singles_metrics",
    "singles_sampled",
    "singles_all",
    "all_spans",
    "all_memory",
];

/// Runs `jaiminho bench ARGUMENTS --json`.
async fn bench(arguments: &[&str]) -> Value {
    let directory = Directory::new("bench");
    let output =
        jaiminho_within(Duration::from_secs(300), directory.path(), &[&["bench"], arguments, &["--json"]].concat())
            .await;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {}\n{stdout}\n{stderr}", output.status);
    serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"))
}

/// Exactly these, each with a sound spread of one run.
fn assert_figures(report: &Value, names: &[&str]) {
    let figures = report["figures"].as_array().expect("figures");
    let found: Vec<&str> = figures.iter().filter_map(|figure| figure["name"].as_str()).collect();
    assert_eq!(found, names);
    for figure in figures {
        assert_eq!(figure["runs"], 1, "{figure}");
        assert!(figure["median"].as_f64().is_some_and(|median| median >= 0.0), "{figure}");
        assert_eq!(figure["goal"].is_object(), figure["met"].is_boolean(), "{figure}");
    }
}

fn median(report: &Value, name: &str) -> f64 {
    let figures = report["figures"].as_array().into_iter().flatten();
    let figure = figures.into_iter().find(|figure| figure["name"] == name);
    figure.and_then(|figure| figure["median"].as_f64()).unwrap_or_else(|| panic!("{name} in {report}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_benchmark_of_the_link_gives_every_figure() {
    let report = bench(&["link", "--count", "2000", "--runs", "1", "--consumers", "3"]).await;
    assert_figures(&report, &LINK);
    assert_eq!(report["bench"], "link");
    assert!(median(&report, "link_speed") > 0.0 && median(&report, "link_cpu") > 0.0);
    assert!(median(&report, "link_hop_p50") <= median(&report, "link_hop_p99"));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_without_keys_and_larger_than_a_frame_are_measured_too() {
    let report = bench(&["link", "--count", "600", "--runs", "1", "--keys", "0", "--size", "65536"]).await;
    assert_figures(&report, &LINK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_benchmark_of_the_pipeline_gives_every_figure() {
    if skip_kafka() {
        return;
    }
    let kafka = Kafka::shared().await;
    let report =
        bench(&["pipeline", "--kafka", &kafka.bootstrap(), "--count", "2000", "--runs", "1", "--no-idle"]).await;
    assert_figures(&report, &PIPELINE);
    assert!(median(&report, "batches_speed") > 0.0 && median(&report, "publisher_to_bare") > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_benchmark_of_telemetry_gives_every_figure_and_all_traced_events_arrive() {
    if skip_kafka() {
        return;
    }
    let kafka = Kafka::shared().await;
    let report =
        bench(&["telemetry", "--kafka", &kafka.bootstrap(), "--count", "2000", "--runs", "1", "--no-scrape"]).await;
    assert_figures(&report, &TELEMETRY);
    assert!(median(&report, "all_spans") > 5.0, "of three stages: {report}");
}

#[tokio::test]
async fn a_benchmark_without_kafka_says_how_to_start_one() {
    let directory = Directory::new("bench");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let nobody = taken.local_addr().expect("its address").to_string();
    drop(taken);
    for (arguments, code, said) in [
        (vec!["bench", "pipeline"], 64, "--kafka is missing"),
        (vec!["bench", "telemetry"], 64, "--kafka is missing"),
        (vec!["bench", "pipeline", "--kafka", &nobody], 69, "no Kafka at"),
    ] {
        let output = jaiminho(directory.path(), &arguments).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(said) && stderr.contains("tests/kafka/up"), "{arguments:?}: {stderr}");
    }
}
