//! Who looks at a pipeline while it is started again.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "in a test a panic is the failure")]

use std::{fs, process::Stdio, time::Duration};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// A pipeline in a folder of its own, in which its processes also find each other.
struct Made(TempDir);

impl Made {
    fn write(&self, sink: &str) {
        let yaml = format!(
            "version: 1\npipeline: again\nstages:\n  make:\n    source: {{ generate: {{ rate: 10 }} }}\n  \
             {sink}:\n    subscribe_to: [make]\n    sink: {{ blackhole: {{}} }}\n"
        );
        fs::write(self.0.path().join("pipeline.yaml"), yaml).unwrap();
    }

    /// Starts it, and waits for the line of JSON that it says when it runs.
    async fn running(&self, arguments: &[&str]) -> (Child, Value) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_jaiminho"));
        command.args(arguments).arg("--json").current_dir(self.0.path()).env("XDG_RUNTIME_DIR", self.0.path());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().expect("a line");
        (child, serde_json::from_str(&line).unwrap())
    }

    async fn up(&self) -> (Child, Value) {
        self.running(&["up", "--admin", "127.0.0.1:0", "--console", "off"]).await
    }
}

/// Waits for a look of which this is true.
async fn seen(console: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let looks = async {
        let mut answer = reqwest::get(format!("{console}api/view")).await.unwrap();
        let mut text = String::new();
        loop {
            text.push_str(std::str::from_utf8(&answer.chunk().await.unwrap().expect("looks go on")).unwrap());
            while let Some((look, rest)) = text.split_once("\n\n") {
                let view = look.strip_prefix("data: ").map(|json| serde_json::from_str(json).unwrap());
                if let Some(view) = view.filter(&wanted) {
                    return view;
                }
                text = rest.to_owned();
            }
        }
    };
    timeout(PATIENCE, looks).await.expect("a look that is wanted")
}

fn instances(view: &Value) -> usize {
    let stages = view["stages"].as_array().unwrap().iter();
    stages.map(|stage| stage["instances"].as_array().unwrap().len()).sum()
}

#[tokio::test]
async fn a_console_finds_an_up_that_has_started_again_with_other_stages() {
    let made = Made(TempDir::new().unwrap());
    made.write("drop");
    let (mut up, _) = made.up().await;
    let (_console, said) = made.running(&["console", "--listen", "127.0.0.1:0"]).await;
    let console = said["console"].as_str().unwrap();
    seen(console, |view| instances(view) == 2).await;
    up.kill().await.unwrap();
    let is_refused =
        |view: &Value| view["findings"][0]["text"].as_str().is_some_and(|text| text.contains("connection refused"));
    seen(console, |view| instances(view) == 0 && is_refused(view)).await;
    made.write("forget");
    let (_up, running) = made.up().await;
    let view = seen(console, |view| instances(view) == 2).await;
    assert_eq!(view["stages"][1]["name"], "forget");
    assert_eq!(view["stages"][1]["instances"][0]["address"], running["inspect"]);
}
