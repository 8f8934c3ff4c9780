//! Transforms that the pipeline file names, in a running pipeline.

use std::path::Path;
use std::time::Duration;

use jaiminho_tests::{Client, Directory, Jaiminho, eventually, free_port};
use serde_json::{Value, json};

/// A pipeline of these stages behind an `ingest`, and its client.
async fn up(directory: &Directory, stages: &str) -> (Jaiminho, Client) {
    let port = free_port();
    let file = directory.path().join("p.yaml");
    let ingest = format!("  ingest:\n    source: {{ http: {{ listen: \"127.0.0.1:{port}\" }} }}\n");
    std::fs::write(&file, format!("version: 1\npipeline: p\nstages:\n{ingest}{stages}")).expect("written");
    let up = Jaiminho::up(directory.path(), &file, &[]);
    up.ready().await;
    (up, Client::new(port))
}

/// `data.t` of the events in a file of a `file` sink.
fn written(path: &Path) -> Vec<i64> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let data = |line: &str| serde_json::from_str::<Value>(line).expect("JSON")["data"]["t"].as_i64().expect("a number");
    text.lines().map(data).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_sends_events_to_the_stages_that_subscribe_to_its_outputs() {
    let directory = Directory::new("route");
    let stages = "  split:
    subscribe_to: [ingest]
    transform: { route: { outputs: { hot: '.data.t > 30 ?? false', even: 'mod!(.data.t, 2) == 0' }, else: rest } }
  hot: { subscribe_to: [split.hot], sink: { file: { path: hot } } }
  even: { subscribe_to: [split.even], sink: { file: { path: even } } }
  rest: { subscribe_to: [split.rest, split.dead_letter], sink: { file: { path: rest } } }
";
    let (up, client) = up(&directory, stages).await;
    for t in [1, 2, 31, 32] {
        let answer = client.json(&json!({ "t": t })).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    up.child.terminate();
    assert!(up.child.exit(Duration::from_secs(30)).await.success(), "{}", up.child.log_tail());
    let file = |name: &str| written(&directory.path().join(name));
    assert_eq!((file("hot"), file("even"), file("rest")), (vec![31, 32], vec![2, 32], vec![1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttle_rejects_what_is_over_and_a_sample_keeps_a_key_or_drops_it() {
    let directory = Directory::new("throttle");
    let stages = "  calm:
    subscribe_to: [ingest]
    transform:
      - sample: { rate: 0.5, key: '{{data.t}}' }
      - throttle: { rate: 0.001, burst: 2, key: '{{data.t}}', over: reject }
  out: { subscribe_to: [calm, calm.dead_letter], sink: { file: { path: out } } }
";
    let (_up, client) = up(&directory, stages).await;
    let mut statuses = Vec::new();
    for t in 0..20 {
        let mut of_key = Vec::new();
        for _ in 0..3 {
            of_key.push(client.json(&json!({ "t": t })).await.status);
        }
        statuses.push(of_key);
    }
    let (kept, dropped): (Vec<_>, Vec<_>) = statuses.into_iter().partition(|of_key| of_key[2] == 422);
    assert!(kept.iter().all(|of_key| of_key[..2] == [200, 200]), "{kept:?}");
    assert!(dropped.iter().all(|of_key| *of_key == [200; 3]), "{dropped:?}");
    assert!(!kept.is_empty() && !dropped.is_empty(), "{} kept", kept.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stages_rate_is_read_again_at_sighup() {
    let directory = Directory::new("rate");
    let stages = "  out: { subscribe_to: [ingest], rate: 0.01, sink: { file: { path: out } } }\n";
    let (up, client) = up(&directory, stages).await;
    assert_eq!(client.json(&json!({ "t": 0 })).await.status, 200);
    let second = tokio::spawn(async move { client.json(&json!({ "t": 1 })).await.status });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!second.is_finished(), "the second would have to wait for 100 s");
    let file = directory.path().join("p.yaml");
    let yaml = std::fs::read_to_string(&file).expect("the file");
    let reread = |rate: &str| {
        std::fs::write(&file, yaml.replace("rate: 0.01", rate)).expect("written");
        up.child.hang_up();
    };
    reread("rate: -1");
    eventually("the wrong rate is told", Duration::from_secs(30), || async {
        let log = up.child.log();
        if log.contains("rates stay as they are") { Ok(()) } else { Err(log) }
    })
    .await;
    reread("rate: 1000");
    assert_eq!(tokio::time::timeout(Duration::from_secs(25), second).await.expect("in time").expect("an answer"), 200);
}

/// An event with this id, in the structured JSON format.
fn event(id: &str, t: i64) -> String {
    json!({ "specversion": "1.0", "id": id, "source": "/meter", "type": "t", "data": { "t": t } }).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dedupe_lets_an_id_through_once_within_its_window_and_again_behind_it() {
    let directory = Directory::new("dedupe");
    let stages =
        "  once: { subscribe_to: [ingest], transform: [{ dedupe: { window: 10s } }, { filter: .data.t != 9 }] }
  out: { subscribe_to: [once, once.dead_letter], sink: { file: { path: out } } }
";
    let (up, client) = up(&directory, stages).await;
    let post = async |id: &str, t: i64| {
        let answer = client.post("application/cloudevents+json", event(id, t)).await.expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text);
    };
    for (id, t) in [("a", 1), ("b", 2), ("a", 3), ("a", 4), ("b", 5), ("c", 9), ("c", 6)] {
        post(id, t).await;
    }
    let file = directory.path().join("out");
    assert_eq!(written(&file), [1, 2], "of each id the first, and what was filtered is done as well");
    eventually("four are counted", Duration::from_secs(30), async || {
        let dropped = up.metric("jaiminho_duplicates_total", "stage=\"once\"").await;
        if dropped == 4.0 { Ok(()) } else { Err(format!("{dropped}")) }
    })
    .await;
    let again = async {
        while written(&file) == [1, 2] {
            tokio::time::sleep(Duration::from_millis(500)).await;
            post("a", 7).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), again).await.expect("the window passes");
    assert_eq!(written(&file), [1, 2, 7]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_becomes_one_event_and_its_clients_are_answered_together() {
    let directory = Directory::new("batch");
    let stages = "  gather:
    subscribe_to: [ingest]
    transform: { batch: { events: 3, time: 10s, type: readings } }
  out: { subscribe_to: [gather, gather.dead_letter], sink: { file: { path: out } } }
";
    let (_up, client) = up(&directory, stages).await;
    let bodies = [1, 2, 3].map(|t| json!({ "t": t }));
    let start = std::time::Instant::now();
    let answers = tokio::join!(client.json(&bodies[0]), client.json(&bodies[1]), client.json(&bodies[2]));
    assert_eq!([answers.0.status, answers.1.status, answers.2.status], [200; 3]);
    assert!(start.elapsed() < Duration::from_secs(8), "at its events, not at its time: {:?}", start.elapsed());
    let text = std::fs::read_to_string(directory.path().join("out")).expect("written");
    let batch: Value = serde_json::from_str(text.trim()).expect("one event");
    let head = (&batch["type"], &batch["datacontenttype"], &batch["source"]);
    assert_eq!(head, (&json!("readings"), &json!("application/cloudevents-batch+json"), &json!("/p/gather")));
    let mut all: Vec<i64> = batch["data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|event| event["data"]["t"].as_i64().expect("a number"))
        .collect();
    all.sort_unstable();
    assert_eq!(all, [1, 2, 3]);
}
