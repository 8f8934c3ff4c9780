//! What an operator reads in the log: a line for each change, none for each event.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use jaiminho_tests::exit::UNAVAILABLE;
use jaiminho_tests::{Child, Client, Directory, Jaiminho, Place, eventually, free_port};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);

/// The lines so far. What else a process prints is no object.
fn lines(child: &Child) -> Vec<Value> {
    child.log().lines().filter_map(|line| serde_json::from_str(line).ok()).filter(Value::is_object).collect()
}

/// Resolves with the first line of this message that has these fields.
async fn told(child: &Child, message: &str, fields: &[(&str, &str)]) -> Value {
    eventually(&format!("{message} {fields:?}"), PATIENCE, || async {
        let has = |line: &Value| {
            let text = line["message"].as_str().unwrap_or_default();
            text.starts_with(message) && fields.iter().all(|(name, value)| line[*name].as_str() == Some(*value))
        };
        lines(child).into_iter().find(has).ok_or_else(|| child.log_tail())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_events_leave_a_few_lines() {
    let directory = Directory::new("logs");
    let file = r"version: 1
pipeline: logs
stages:
  in: { source: { generate: { count: 10000 } } }
  mid: { subscribe_to: [in], transform: { vrl: { inline: '.data.seen = true' } } }
  out: { subscribe_to: [mid], sink: { file: { path: out.ndjson } } }
";
    let file = directory.write("pipeline.yaml", file);
    let up = Jaiminho::up(directory.path(), &file, &[]);
    assert!(up.child.exit(Duration::from_secs(60)).await.success(), "{}", up.child.log_tail());
    let written = std::fs::read_to_string(directory.path().join("out.ndjson")).expect("the sink's file");
    assert_eq!(written.lines().count(), 10_000);
    let lines = lines(&up.child);
    let mut counts = BTreeMap::<_, usize>::new();
    for line in &lines {
        *counts.entry((line["message"].as_str(), line["stage"].as_str())).or_default() += 1;
    }
    assert!((5..40).contains(&lines.len()) && counts.values().all(|count| *count <= 2), "{counts:#?}");
}

/// Stages apart: a source that holds ten events, and a sink.
struct Apart {
    directory: Directory,
    file: PathBuf,
    source: (Jaiminho, Client),
}

impl Apart {
    async fn start() -> Self {
        let (directory, place, port) = (Directory::new("logs"), Place::local(), free_port());
        let (source, rate) = (format!("listen: '127.0.0.1:{port}'"), "rate: 1000");
        let file = format!(
            "version: 1
pipeline: logs
stages:
  in:
    at: {{ list: ['{}'] }}
    log: {{ events: 10 }}
    source: {{ acknowledge: accepted, http: {{ {source} }} }}
  out: {{ subscribe_to: [in], {rate}, sink: {{ blackhole: {{}} }} }}
",
            place.address()
        );
        let file = directory.write("pipeline.yaml", &file);
        let process = Jaiminho::named(directory.path(), &file, "in", &place, "in-0");
        process.ready().await;
        Self { directory, file, source: (process, Client::new(port)) }
    }

    fn sink(&self, name: &str) -> Jaiminho {
        Jaiminho::named(self.directory.path(), &self.file, "out", &Place::local(), name)
    }

    /// Posts events until there is no room for one more.
    async fn fill(&self) {
        eventually("there is no room", PATIENCE, || async {
            let answer = self.source.1.json(&Value::from(1)).await;
            if answer.status == 429 { Ok(()) } else { Err(answer.text) }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_change_of_a_stages_state_has_its_line() {
    let apart = Apart::start().await;
    let source = &apart.source.0.child;
    let runs = told(source, "stage runs", &[("pipeline", "logs")]).await;
    assert!(runs["http"].is_string() && runs["commit"].is_string() && runs["version"].is_string(), "{runs}");
    told(source, "no instance of this required group", &[("level", "WARN"), ("output", "in"), ("group", "out")]).await;
    apart.fill().await;
    told(source, "the log is full", &[("level", "WARN"), ("output", "in")]).await;

    let sink = apart.sink("out-0");
    let up = told(source, "link to a consumer is up", &[("output", "in"), ("group", "out"), ("peer", "out-0")]).await;
    assert!(up["link"].is_u64(), "{up}");
    told(source, "the group is connected again", &[("group", "out")]).await;
    told(source, "the log has room again", &[("output", "in")]).await;
    let address = &apart.source.0.place.address();
    told(&sink.child, "link to a producer is up", &[("output", "in"), ("peer", "in-0"), ("address", address)]).await;

    sink.child.kill();
    let down = [("output", "in"), ("group", "out"), ("peer", "out-0"), ("reason", "unavailable")];
    told(source, "link to a consumer is down", &down).await;
    let older = apart.sink("out-1");
    told(&older.child, "link to a producer is up", &[]).await;
    let newer = apart.sink("out-1");
    told(&older.child, "fenced", &[("level", "ERROR"), ("stage", "out"), ("peer", "out-1")]).await;
    assert_eq!(older.child.exit(PATIENCE).await.code(), Some(UNAVAILABLE));
    told(source, "link to a consumer is down", &[("peer", "out-1"), ("reason", "fenced")]).await;

    source.hang_up();
    told(source, "the pipeline file is read again", &[]).await;
    source.terminate();
    assert!(source.exit(PATIENCE).await.success(), "{}", source.log_tail());
    for (message, fields) in [("told to drain", &[][..]), ("draining", &[]), ("drained", &[])] {
        told(source, message, fields).await;
    }
    told(&newer.child, "link to a producer is down", &[("address", address)]).await;

    for (child, stage, instance) in [(source, "in", "in-0"), (&newer.child, "out", "out-1")] {
        for line in lines(child) {
            let who = [&line["stage"], &line["instance"]].map(Value::as_str);
            assert_eq!(who, [Some(stage), Some(instance)], "{line}");
            assert!(line["timestamp"].is_string() && line["level"].is_string() && line["target"].is_string(), "{line}");
        }
    }
}
