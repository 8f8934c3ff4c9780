//! The first five minutes: the whole pipeline in one process, with its embedded broker.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jaiminho_tests::{
    Client, Directory, Jaiminho, Reply, WebSocket, eventually, free_port, jaiminho, jaiminho_started,
};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

/// A pipeline that runs, found by other commands through the test's directory.
struct Running {
    directory: Directory,
    file: PathBuf,
    port: u16,
    up: Jaiminho,
}

impl Running {
    async fn start() -> Self {
        let directory = Directory::new("up");
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/pipelines/eugenio/pipeline.yaml");
        let file = file.canonicalize().expect("the pipeline file");
        let port = free_port();
        let listen = format!("stages.ingest.source.http.listen=127.0.0.1:{port}");
        let up = Jaiminho::up(directory.path(), &file, &["--set", &listen]);
        up.ready().await;
        Self { directory, file, port, up }
    }

    /// Another command, with the same pipeline file; its standard output.
    async fn command(&self, arguments: &[&str]) -> String {
        let file = self.file.to_string_lossy();
        let output = jaiminho(self.directory.path(), &[arguments, &["-f", &file]].concat()).await;
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{arguments:?}: {}\n{stdout}\n{stderr}", output.status);
        stdout.into_owned()
    }

    /// All records of the topics so far.
    async fn records(&self) -> Vec<Value> {
        let lines = self.command(&["tail", "--from", "beginning", "--no-follow", "--json"]).await;
        lines.lines().map(|line| serde_json::from_str(line).expect("JSON lines")).collect()
    }
}

/// A device's batch: two readings, so two events.
fn telemetry(device: &str) -> Value {
    serde_json::json!({
        "deviceId": device, "ts": 1_772_366_400_000_u64,
        "readings": [
            { "metric": "outside", "unit": "°F", "value": 68 },
            { "metric": "boiler", "unit": "bar", "value": 1.5, "ts": 1_772_366_401_500_u64 },
        ],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_posted_is_published_and_tail_shows_it() {
    let running = Running::start().await;
    let answer = Client::new(running.port).json(&telemetry("a-1")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let records = running.records().await;
    assert_eq!(records.len(), 2, "one a reading");
    for record in &records {
        assert_eq!(record["key"], "a-1", "{record}");
        assert_eq!(record["event"]["type"], "eugenio.measurement.v1", "{record}");
        assert_eq!(record["event"]["data"]["deviceId"], "a-1", "{record}");
    }
    let data = &records[0]["event"]["data"];
    assert_eq!((&data["value"], &data["unit"]), (&20.0.into(), &"Cel".into()), "68 °F");
    assert_eq!(data["time"], "2026-03-01T12:00:00.000Z");
    running.up.child.terminate();
    assert!(running.up.child.exit(Duration::from_secs(30)).await.success(), "{}", running.up.child.log_tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_up_says_to_try_works() {
    let running = Running::start().await;
    let log = eventually("it says so", PATIENCE, || async {
        let log = running.up.child.log();
        if log.contains("Ctrl-C drains and stops.") { Ok(log) } else { Err(log) }
    })
    .await;
    let curl = log.lines().find_map(|line| line.strip_prefix("  curl -i ")).expect("a curl");
    let (place, body) = curl.split_once(" -d '").expect("a body");
    let url = format!("http://127.0.0.1:{}/events", running.port);
    assert_eq!(place, format!("{url} -H 'content-type: application/json'"));
    let body: Value = serde_json::from_str(body.trim_end_matches('\'')).expect("JSON");
    let answer = Client::new(running.port).json(&body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    for command in ["send", "tail"] {
        let typed = format!("  jaiminho {command} -f {}", running.file.display());
        assert!(log.lines().any(|line| line.starts_with(&typed)), "{typed}: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_client_is_told_of_each_event() {
    let running = Running::start().await;
    let mut socket = WebSocket::connect(running.port, Some("jaiminho.v1")).await.expect("a connection");
    assert_eq!(socket.reply(PATIENCE).await, Ok(Reply::Credit));
    socket.send(&telemetry("w-1")).await.expect("room for a message");
    assert_eq!(socket.reply(PATIENCE).await, Ok(Reply::Published(1)));
    assert_eq!(running.records().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn send_finds_the_running_pipeline() {
    let running = Running::start().await;
    let lines: String = (0..50).map(|number| format!("{}\n", telemetry(&format!("s-{number}")))).collect();
    let file = running.directory.write("readings.ndjson", &lines);
    running.command(&["send", &file.to_string_lossy()]).await;
    assert_eq!(running.records().await.len(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_that_runs_alone_is_found_without_its_file_and_of_several_none() {
    let running = Running::start().await;
    let directory = running.directory.path();
    let sent = jaiminho(directory, &["send", "--count", "3"]).await;
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    let tailed = jaiminho(directory, &["tail", "--no-follow", "--from", "beginning", "--json"]).await;
    assert_eq!(String::from_utf8_lossy(&tailed.stdout).lines().count(), 3);

    let second = "version: 1\npipeline: second\nstages:\n  made: { source: { generate: { rate: 1 } } }\n  \
        gone: { subscribe_to: [made], sink: { blackhole: {} } }\n";
    let second = Jaiminho::up(directory, &running.directory.write("second.yaml", second), &[]);
    second.ready().await;
    let tailed = jaiminho(directory, &["tail"]).await;
    assert_eq!(
        String::from_utf8_lossy(&tailed.stderr).trim_end(),
        "pipeline.yaml: there is no such file, and several pipelines run here (eugenio, second); \
         -f FILE or JAIMINHO_FILE names one, --bootstrap-servers HOST:PORT a broker"
    );
    drop(running.up);
    for (command, told) in [
        (&["tail"][..], "no broker of its own; -f FILE names its file, --bootstrap-servers HOST:PORT a broker"),
        (&["send", "--count", "1"], "no HTTP source; --url URL says where to post"),
    ] {
        let output = jaiminho(directory, command).await;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(stderr.trim_end(), format!("the running pipeline `second` has {told}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_says_that_no_topic_matches_and_goes_on_waiting() {
    let running = Running::start().await;
    let directory = running.directory.path();
    let tail = jaiminho_started(directory, &["tail", "--topic", "eugenio.*", "--count", "1", "--json"]);
    let told = "no topic matches `eugenio.*`: there is none yet; waiting\n";
    eventually("it says so", PATIENCE, || async { (tail.log() == told).then_some(()).ok_or_else(|| tail.log()) }).await;
    Client::new(running.port).json(&telemetry("a-1")).await;
    assert!(tail.exit(PATIENCE).await.success(), "{}", tail.log());
    assert_eq!(tail.log().lines().count(), 2, "that once, and a record: {}", tail.log());
    let tailed = jaiminho(directory, &["tail", "--topic", "other", "--no-follow"]).await;
    let stderr = String::from_utf8_lossy(&tailed.stderr);
    assert_eq!(stderr, "no topic matches `other`; there are: eugenio.eugenio.measurement.v1\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_converted_is_rejected_with_its_reason_and_kept_as_a_dead_letter() {
    let running = Running::start().await;
    let answer = Client::new(running.port).json(&serde_json::json!({ "deviceId": "a-1", "nonsense": true })).await;
    assert_eq!(answer.status, 422, "{}", answer.text);
    assert_eq!(answer.body["events"][0]["stored"], true, "{}", answer.text);
    let records = running.records().await;
    assert_eq!(records.len(), 1);
    assert_eq!(records[0]["topic"], "eugenio.dead");
}

#[tokio::test]
async fn the_mapping_tests_of_the_pipeline_pass() {
    let directory = Directory::new("mapping");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/pipelines/eugenio/pipeline.yaml");
    let output = jaiminho(directory.path(), &["test", "-f", &file.to_string_lossy()]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
