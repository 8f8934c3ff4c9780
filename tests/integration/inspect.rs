//! What a running pipeline tells: `top --once`, `topology`, `doctor`, `tap`, over the Inspect service of its stages.

use std::path::Path;
use std::time::Duration;

use jaiminho_tests::exit::{UNAVAILABLE, USAGE};
use jaiminho_tests::{
    Client, Cluster, Directory, Jaiminho, Kafka, Numbered, eventually, free_port, jaiminho, jaiminho_started,
    skip_kafka,
};
use serde_json::Value;

use crate::pipelines::{ThreeStages, three_stages};

/// In which the limit must be told after a change: 15 s, and what a busy machine takes for the programs that ask.
const SOON: Duration = Duration::from_secs(60);

async fn run(directory: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = jaiminho(directory, arguments).await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

async fn view(directory: &Path) -> Result<Value, String> {
    let (exit, stdout, stderr) = run(directory, &["top", "--once", "--json"]).await;
    if exit != Some(0) {
        return Err(format!("{exit:?}: {stderr}"));
    }
    serde_json::from_str(&stdout).map_err(|error| format!("{error}: {stdout}"))
}

fn stage<'a>(view: &'a Value, name: &str) -> &'a Value {
    let stages = view["stages"].as_array().expect("stages");
    stages.iter().find(|stage| stage["name"] == name).unwrap_or_else(|| panic!("no stage {name}: {view}"))
}

/// Waits until this stage is told as the limit.
async fn limit_is(directory: &Path, wanted: &str, kind: &str) {
    eventually(&format!("{wanted} is the limit"), SOON, || async {
        let view = view(directory).await?;
        let limit = &view["limit"];
        if limit["stage"] == wanted && limit["kind"] == kind { Ok(()) } else { Err(format!("{limit}")) }
    })
    .await;
}

/// Waits for a finding; its text.
async fn finding(directory: &Path, kind: &str, stage: &str) -> String {
    eventually(&format!("a finding {kind} of {stage}"), SOON, || async {
        let (exit, stdout, stderr) = run(directory, &["doctor", "--json"]).await;
        let told: Value = serde_json::from_str(&stdout).map_err(|error| format!("{error}: {stdout}{stderr}"))?;
        let findings = told["findings"].as_array().ok_or("no findings")?;
        let found = findings.iter().find(|finding| finding["kind"] == kind && finding["stage"] == stage);
        let found = found.ok_or_else(|| stdout.clone())?;
        if found["severity"] == "problem" {
            assert_eq!((exit, &told["healthy"]), (Some(1), &Value::from(false)), "{stdout}");
        }
        Ok(found["text"].as_str().unwrap_or_default().to_owned())
    })
    .await
}

const APART: [(&str, usize); 3] = [("ingest", 1), ("convert", 1), ("publish", 1)];

/// Events that are made up, a conversion, and a sink that forgets them, each a process.
fn made_up(name: &str, at: &dyn Fn(&str) -> String, rates: [Option<u32>; 2]) -> String {
    let [convert, publish] = rates.map(|rate| rate.map_or(String::new(), |rate| format!("rate: {rate}, ")));
    format!(
        r#"version: 1
pipeline: {name}
stages:
  ingest: {{ at: {}, source: {{ generate: {{ rate: 500 }} }}, log: {{ events: 1000 }} }}
  convert: {{ at: {}, {convert}subscribe_to: [ingest], window: {{ max_demand: 50 }}, log: {{ events: 400 }}, transform: {{ vrl: ".data.x = 1" }} }}
  publish: {{ at: {}, {publish}subscribe_to: [convert], window: {{ max_demand: 50 }}, sink: {{ blackhole: {{}} }} }}
"#,
        at("ingest"),
        at("convert"),
        at("publish")
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stage_that_is_made_slow_is_named_as_the_limit_whichever_it_is() {
    let mut kept = None;
    let mut cluster = Cluster::new("limits", &APART, |at| {
        kept = Some(["ingest", "convert", "publish"].map(|stage| (stage, at(stage))));
        made_up("limits", at, [None, None])
    });
    let places = kept.expect("the places");
    let at = |stage: &str| places.iter().find(|(name, _)| *name == stage).expect("a place").1.clone();
    for (stage, _) in APART {
        cluster.start(stage, 0);
    }
    cluster.ready().await;
    let directory = cluster.directory().to_owned();
    limit_is(&directory, "ingest", "source").await;
    for (rates, slow, kind) in [
        ([Some(100), None], "convert", "busy"),
        ([None, Some(60)], "publish", "busy"),
        ([None, None], "ingest", "source"),
    ] {
        std::fs::write(cluster.file(), made_up("limits", &at, rates)).expect("write");
        for stage in ["convert", "publish"] {
            cluster.instance(stage, 0).child.hang_up();
        }
        limit_is(&directory, slow, kind).await;
    }
    cluster.kill("publish", 0);
    limit_is(&directory, "publish", "no_instance").await;
    let text = finding(&directory, "no_instance", "publish").await;
    assert!(text.contains("No instance of `publish` is there; ") && text.contains("connection refused"), "{text}");
    cluster.start("publish", 0);
    eventually("all is well again", SOON, || async {
        match run(&directory, &["doctor"]).await {
            (Some(0), stdout, _) if stdout.contains("nothing is wrong") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    cluster.assert_running();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_top_shows_of_stages_apart_is_what_was_sent() {
    if skip_kafka() {
        return;
    }
    let kafka = Kafka::start().await;
    let port = free_port();
    let stages = [("ingest", 1), ("convert", 2), ("publish", 1), ("dead", 1)];
    let mut cluster = Cluster::new("seen", &stages, |at| {
        // Little is in flight to the sink, so that a few events wait for it.
        three_stages(&ThreeStages { http_port: port, at, bootstrap: &kafka.bootstrap(), topic: "seen" })
            .replace("subscribe_to: [convert]\n", "subscribe_to: [convert]\n    window: { max_demand: 20 }\n")
    });
    for (stage, count) in stages {
        (0..count).for_each(|index| cluster.start(stage, index));
    }
    cluster.ready().await;
    cluster.members("ingest", 0, "convert", 2.0).await;
    for convert in 0..2 {
        cluster.members("convert", convert, "publish", 1.0).await;
    }
    let directory = cluster.directory().to_owned();
    let client = Client::new(port);
    let of_key = |key: u64| (1..=10).map(move |number| Numbered { key: format!("k{key}"), number });
    let events: Vec<Numbered> = (0..40).flat_map(of_key).collect();
    for body in events.chunks(50) {
        assert_eq!(client.events(body).await.expect("an answer").status, 200);
    }
    let seen = eventually("a view of all instances", SOON, || async {
        let seen = view(&directory).await?;
        let is_whole = |name: &&str| stage(&seen, name)["totals"]["accepted"] == 400;
        if ["ingest", "convert", "publish"].iter().all(is_whole) { Ok(seen) } else { Err(seen.to_string()) }
    })
    .await;
    for name in ["ingest", "convert", "publish"] {
        let stage = stage(&seen, name);
        let totals = &stage["totals"];
        assert_eq!((&totals["events_in"], &totals["accepted"]), (&400.into(), &400.into()), "{name}: {stage}");
        assert!(stage["instances"][0]["resident_bytes"].as_u64() > Some(1 << 20), "{stage}");
        assert!(stage["instances"][0]["memory_bytes_max"].as_u64() > Some(1 << 26), "{stage}");
        let of = &stage["instances"][0];
        let within = of["clock_within_ms"].as_i64().unwrap_or_default();
        assert!(of["clock_ahead_ms"].as_i64().is_some_and(|ahead| ahead.abs() < 100 + within), "{stage}");
    }
    assert_eq!(stage(&seen, "convert")["instances"].as_array().map(Vec::len), Some(2));
    let subscriptions = seen["subscriptions"].as_array().expect("subscriptions");
    let publish = subscriptions.iter().find(|of| of["id"] == "convert>publish").expect("a subscription");
    assert_eq!((&publish["deliveries"], publish["links"].as_array().map(Vec::len)), (&400.into(), Some(2)));
    assert_eq!(publish["links"][0]["window_events"], 20);
    // It has no `at`, and is known by its links alone.
    assert_eq!(stage(&seen, "dead")["instances"].as_array().map(Vec::len), Some(0));
    let (exit, stdout, _) = run(&directory, &["doctor"]).await;
    assert_eq!(exit, Some(0), "{stdout}");

    kafka.freeze();
    let sending = tokio::spawn(async move { client.events(&events).await });
    limit_is(&directory, "publish", "busy").await;
    let text = finding(&directory, "trouble", "publish").await;
    assert!(text.contains("kafka sink of `publish` has not worked for"), "{text}");
    kafka.thaw();
    let _answered = sending.await;
}

/// All stages in one process, which has no `at`.
fn together(name: &str, source: &str, sink: &str) -> (Directory, Jaiminho) {
    let directory = Directory::new(name);
    let file = directory.write(
        "pipeline.yaml",
        &format!(
            r#"version: 1
pipeline: {name}
stages:
  in: {{ {source} }}
  out: {{ subscribe_to: [in], {sink} }}
"#
        ),
    );
    let up = Jaiminho::up(directory.path(), &file, &[]);
    (directory, up)
}

const GENERATE: &str = "source: { generate: { rate: 200, keys: 5, type: made.up } }";
const BLACKHOLE: &str = "sink: { blackhole: {} }";

#[tokio::test(flavor = "multi_thread")]
async fn an_up_is_looked_at_with_its_file_and_without() {
    let (directory, up) = together("looked", GENERATE, BLACKHOLE);
    up.ready().await;
    let elsewhere = directory.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).expect("a folder");
    for folder in [directory.path(), &elsewhere] {
        let (exit, stdout, stderr) = run_in(&directory, folder, &["top", "--once"]).await;
        assert_eq!(exit, Some(0), "{stderr}");
        assert!(
            stdout.starts_with("looked at ") && stdout.contains("generate") && stdout.contains("blackhole"),
            "{stdout}"
        );
        assert!(stdout.contains("limit: `in` brings "), "{stdout}");
        let (exit, stdout, stderr) = run_in(&directory, folder, &["topology"]).await;
        assert_eq!(exit, Some(0), "{stderr}");
        assert!(stdout.contains("/s, credit ") && stdout.contains("─▶ out"), "{stdout}");
        let (exit, stdout, _) = run_in(&directory, folder, &["doctor"]).await;
        assert_eq!(exit, Some(0), "{stdout}");
    }
}

/// In a folder below the test's directory, where the state of `up` is found all the same.
async fn run_in(directory: &Directory, folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = jaiminho_tests::jaiminho_in(directory.path(), folder, arguments).await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_for_all_events_is_found() {
    let sink = "rate: 20, window: { max_demand: 10 }, sink: { blackhole: {} }";
    let source = "log: { events: 1000 }, source: { generate: { rate: 300, keys: 1 } }";
    let (directory, up) = together("skewed", source, sink);
    up.ready().await;
    let text = finding(directory.path(), "skewed_keys", "in").await;
    assert!(text.contains("of the log of `in`"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tap_shows_what_passes_as_it_is_wanted_and_slows_nothing() {
    let (directory, up) = together("tapped", GENERATE, BLACKHOLE);
    up.ready().await;
    let path = directory.path();
    let (exit, stdout, stderr) = run(path, &["tap", "in", "--count", "5", "--rate", "100", "--json"]).await;
    assert_eq!(exit, Some(0), "{stderr}");
    let events: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(events.len(), 5);
    assert!(events.iter().all(|event| event["type"] == "made.up" && event["specversion"] == "1.0"), "{stdout}");
    assert!(stderr.contains("5 events shown"), "{stderr}");

    let filter = ".partitionkey == \"device-2\"";
    let (exit, stdout, stderr) = run(path, &["tap", "in", "--filter", filter, "--count", "3", "--json"]).await;
    assert_eq!(exit, Some(0), "{stderr}");
    let keys: Vec<_> = stdout.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")).collect();
    assert!(keys.len() == 3 && keys.iter().all(|event| event["partitionkey"] == "device-2"), "{stdout}");
    assert!(stderr.contains("not wanted by the filter"), "{stderr}");

    let tap = jaiminho_started(path, &["tap", "in", "--rate", "2"]);
    eventually("events", SOON, || async {
        let log = tap.log();
        if log.matches("\"specversion\"").count() >= 4 { Ok(()) } else { Err(log) }
    })
    .await;
    tap.interrupt();
    let status = tap.exit(SOON).await;
    assert!(status.success(), "{}", tap.log_tail());
    let said = tap.log();
    let summary = said.lines().last().unwrap_or_default();
    assert!(summary.contains(" shown, ") && summary.contains(" passed by unseen"), "{summary}");

    let seen = eventually("200 events a second", SOON, || async {
        let seen = view(path).await?;
        let rate = stage(&seen, "in")["rates"]["events_in"].as_f64();
        if rate.is_some_and(|rate| (100.0..300.0).contains(&rate)) { Ok(seen) } else { Err(seen.to_string()) }
    })
    .await;
    let source = stage(&seen, "in");
    assert_eq!((&source["totals"]["refused"], &source["totals"]["redelivered"]), (&0.into(), &0.into()), "{source}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_what_is_not_there_is_told_what_is() {
    let directory = Directory::new("absent");
    let port = free_port();
    directory.write(
        "pipeline.yaml",
        &format!(
            r#"version: 1
pipeline: absent
stages:
  in: {{ at: {{ list: ["127.0.0.1:{port}"] }}, source: {{ generate: {{}} }} }}
  out: {{ subscribe_to: [in], sink: {{ blackhole: {{}} }} }}
"#
        ),
    );
    let nothing =
        format!("in at 127.0.0.1:{port}: nothing answers (connection refused); is `jaiminho stage in` running there?");
    for (arguments, exit, told) in [
        (&["top", "--once"][..], UNAVAILABLE, nothing.as_str()),
        (&["tap", "in"], UNAVAILABLE, "is `jaiminho stage in` running there?"),
        (&["tap", "inn"], USAGE, "there is no output `inn` (did you mean `in`?)"),
        (&["tap", "in", "--filter", ".a ="], USAGE, "the filter is no condition"),
        (&["tap", "in", "--rate", "0"], USAGE, "must be a number of at least 0.001"),
    ] {
        let (code, stdout, stderr) = run(directory.path(), arguments).await;
        assert_eq!(code, Some(exit), "{arguments:?}: {stdout}{stderr}");
        assert!(stderr.contains(told), "{arguments:?}: {stderr}");
    }
    let (exit, stdout, _) = run(directory.path(), &["doctor"]).await;
    assert_eq!(exit, Some(1));
    assert!(stdout.contains("No instance of `in` is there.") && stdout.contains("connection refused"), "{stdout}");
    for (format, wanted) in [("text", "─▶ out"), ("mermaid", "s_in --> s_out"), ("dot", "\"in\" -> \"out\"")] {
        let (exit, stdout, stderr) = run(directory.path(), &["topology", "--format", format]).await;
        assert_eq!(exit, Some(0), "{stderr}");
        assert!(stdout.contains(wanted), "{stdout}");
        assert!(stderr.contains("pipeline `absent` does not answer: this is what its file says"), "{stderr}");
    }
}
