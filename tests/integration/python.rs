//! Stages in another language: the two programs of tests/python against real stages, in drain, crash and silence.

mod consumer;
mod producer;

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use jaiminho_tests::{Child, eventually};

const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than five missed heartbeats.
const SILENCE: Duration = Duration::from_secs(13);

/// Whether tests that need Python are left out: `tests/run` decides it.
fn skip_python() -> bool {
    let skip = std::env::var_os("JAIMINHO_SKIP_PYTHON").is_some_and(|value| !value.is_empty());
    if skip {
        eprintln!("left out: no Python");
    }
    skip
}

/// Starts a program of tests/python; its output is appended to `log`.
fn python(directory: &Path, log: &str, arguments: &[&str]) -> Child {
    const RUN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python/run");
    static IS_SET_UP: OnceLock<bool> = OnceLock::new();
    let is_set_up = IS_SET_UP.get_or_init(|| Command::new(RUN).status().is_ok_and(|status| status.success()));
    assert!(is_set_up, "tests/python/run failed: no Python, or no packages");
    let mut command = Command::new(RUN);
    command.args(arguments);
    Child::spawn(log, &command, &directory.join(log))
}

/// How often the log of a process has a line with `text`.
fn count(log: &str, text: &str) -> usize {
    log.lines().filter(|line| line.contains(text)).count()
}

/// Waits until a log has `times` lines with `text`, or more.
async fn told(child: &Child, text: &str, times: usize) {
    eventually(&format!("`{text}`, {times} times"), PATIENCE, || async {
        let log = child.log();
        if count(&log, text) >= times { Ok(()) } else { Err(child.log_tail()) }
    })
    .await;
}
