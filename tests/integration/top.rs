//! `jaiminho top` at a terminal.

use std::time::Duration;

use jaiminho_tests::{Directory, Jaiminho, Terminal, eventually, free_port, jaiminho};
use rustix::process::{Pid, Signal, kill_process};

const PATIENCE: Duration = Duration::from_secs(30);
const PIPELINE: &str = r#"version: 1
pipeline: watched
stages:
  ingest:
    source: { http: { listen: "127.0.0.1:PORT" } }
  out:
    subscribe_to: [ingest]
    sink: { blackhole: {} }
"#;
/// Of a terminal: to the screen for programs, and back.
const ENTERED: &str = "\u{1b}[?1049h";
const LEFT: &str = "\u{1b}[?1049l";

async fn watched() -> (Directory, Jaiminho) {
    let directory = Directory::new("top");
    let file = directory.write("pipeline.yaml", &PIPELINE.replace("PORT", &free_port().to_string()));
    let up = Jaiminho::up(directory.path(), &file, &[]);
    up.ready().await;
    (directory, up)
}

async fn shows(terminal: &Terminal, text: &str) {
    eventually(text, PATIENCE, || async {
        let written = terminal.written();
        if written.contains(text) { Ok(()) } else { Err(written) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn top_shows_what_runs_and_leaves_the_terminal_as_it_was() {
    let (directory, _up) = watched().await;
    let mut terminal = Terminal::jaiminho(directory.path(), &["top"]);
    for text in [ENTERED, "watched", "ingest", "starved"] {
        shows(&terminal, text).await;
    }
    terminal.press("?").await;
    shows(&terminal, "Keys and words").await;
    terminal.press("xq").await;
    assert!(terminal.exit(PATIENCE).await.success(), "{}", terminal.written());
    assert!(terminal.written().contains(LEFT));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_leaves_the_terminal_as_it_was_too() {
    let (directory, _up) = watched().await;
    let mut terminal = Terminal::jaiminho(directory.path(), &["top"]);
    shows(&terminal, "starved").await;
    let pid = Pid::from_raw(i32::try_from(terminal.pid()).expect("a process id")).expect("a process id");
    kill_process(pid, Signal::TERM).expect("it runs");
    terminal.exit(PATIENCE).await;
    assert!(terminal.written().contains(LEFT), "{}", terminal.written());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_terminal_top_says_what_works_there() {
    let (directory, _up) = watched().await;
    let output = jaiminho(directory.path(), &["top"]).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(64) && said.contains("--once"), "{said}");
}
