//! A program of one's own: its components in its pipeline file, its commands.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "in a test a panic is the failure")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

/// The example beside its pipeline file, with any port.
struct Own(TempDir);

impl Own {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let yaml = include_str!("../examples/own_program/pipeline.yaml").replace(":8080", ":0");
        fs::write(folder.path().join("pipeline.yaml"), yaml).unwrap();
        Self(folder)
    }

    /// Cargo builds the examples before the tests, beside them.
    fn command(&self, args: &[&str]) -> Command {
        let tests: PathBuf = std::env::current_exe().unwrap();
        let program = tests.parent().and_then(Path::parent).unwrap().join("examples/own_program");
        let mut command = Command::new(program);
        command.args(args).current_dir(self.0.path()).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    async fn says(&self, args: &[&str]) -> Output {
        self.command(args).output().await.unwrap()
    }

    /// Waits until the file's lines are as wanted.
    async fn kept(&self, wanted: impl Fn(&str) -> bool) -> String {
        let began = Instant::now();
        loop {
            let text = fs::read_to_string(self.0.path().join("events.ndjson")).unwrap_or_default();
            if wanted(&text) {
                return text;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "only this was kept:\n{text}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn ticks(text: &str) -> usize {
    text.matches("clock.tick").count()
}

fn utf8(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

async fn terminated(mut child: Child) {
    let pid = child.id().unwrap().to_string();
    Command::new("kill").args(["-TERM", &pid]).status().await.unwrap();
    let status = tokio::time::timeout(Duration::from_secs(60), child.wait()).await.expect("it drains").unwrap();
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn a_source_of_its_own_and_the_built_in_one_both_arrive() {
    let own = Own::new();
    let mut up = own.command(&["up", "--json", "--admin", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(up.stdout.take().unwrap()).lines();
    let line = tokio::time::timeout(Duration::from_secs(60), lines.next_line()).await.unwrap().unwrap().unwrap();
    let running: serde_json::Value = serde_json::from_str(&line).unwrap();
    let url = running["http"].as_str().unwrap();
    let answer = reqwest::Client::new().post(url).json(&serde_json::json!({ "hello": "own" })).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let text = own.kept(|text| ticks(text) >= 3).await;
    assert!(text.contains(r#""hello":"own""#), "answered, and so kept: {text}");
    let first = text.lines().find(|line| line.contains("clock.tick")).unwrap();
    assert!(first.contains(r#""passed_ms":100"#), "{first}");
    terminated(up).await;
}

#[tokio::test]
async fn its_stages_run_as_processes() {
    let own = Own::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let at = ["time", "web"].map(|stage| format!("stages.{stage}.at={{list: ['{port}']}}"));
    let set = ["--set", &at[0], "--set", &at[1], "--admin", "127.0.0.1:0", "--log-level", "warn"];
    let listen = port.to_string();
    let time = own.command(&["stage", "time", "--listen", &listen]).args(set).spawn().unwrap();
    let keep = own.command(&["stage", "keep", "--listen", "127.0.0.1:0"]).args(set).spawn().unwrap();
    own.kept(|text| ticks(text) >= 3).await;
    terminated(time).await;
    terminated(keep).await;
}

#[tokio::test]
async fn its_commands_know_its_name_and_its_components() {
    let own = Own::new();
    let help = own.says(&["--help"]).await;
    assert!(utf8(&help.stdout).contains("Usage: own_program "), "{}", utf8(&help.stdout));
    assert!(utf8(&help.stdout).contains("  own_program send --count 10 && own_program tail"), "{}", utf8(&help.stdout));
    let validate = own.says(&["validate"]).await;
    let table = utf8(&validate.stdout);
    assert!(
        validate.status.success() && table.contains("component") && table.contains("`clock`, as it says"),
        "{table}"
    );
    let listed = own.says(&["list", "source.clock"]).await;
    assert_eq!(
        utf8(&listed.stdout),
        "source.clock: Tells how much time has passed.\n\n\
         every_ms  number  required  Milliseconds from one event to the next.\n"
    );
    let schema = own.says(&["schema"]).await;
    assert!(utf8(&schema.stdout).contains("Milliseconds from one event to the next."));
    let file = own.0.path().join("pipeline.yaml");
    fs::write(&file, fs::read_to_string(&file).unwrap().replace("every_ms", "evry_ms")).unwrap();
    let wrong = own.says(&["validate"]).await;
    let said = utf8(&wrong.stderr);
    let expected =
        "pipeline.yaml:5:24: error: unknown key `evry_ms` in `stages.time.source.clock` (did you mean `every_ms`?)";
    assert!(said.contains(expected), "{said}");
    assert_eq!(wrong.status.code(), Some(78));
}
