//! The examples run, and print what they say.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the failure")]

use std::{net::TcpListener, path::PathBuf, process::Stdio, time::Duration};

use tokio::process::{Child, Command};

/// Cargo builds the examples before the tests, beside them.
fn example(name: &str, args: &[&str]) -> Child {
    let tests: PathBuf = std::env::current_exe().unwrap();
    let program = tests.parent().and_then(|deps| deps.parent()).unwrap().join("examples").join(name);
    Command::new(program).args(args).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap()
}

async fn printed(child: Child) -> String {
    let output = tokio::time::timeout(Duration::from_secs(60), child.wait_with_output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

fn doubled() -> String {
    (0..1_000).map(|number| format!("{}\n", 2 * number)).collect()
}

/// Two ports in a row that are free just now.
fn ports() -> String {
    let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let first = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    std::iter::repeat_with(first).find(|port| port.checked_add(1).is_some_and(free)).unwrap().to_string()
}

#[tokio::test]
async fn in_one_process_all_numbers_are_printed_in_order_and_it_ends() {
    assert_eq!(printed(example("one_process", &[])).await, doubled());
}

#[tokio::test]
async fn in_three_processes_all_numbers_are_printed_in_order_and_all_end() {
    let port = ports();
    let [printer, doubler, counter] =
        ["printer", "doubler", "counter"].map(|stage| example("three_processes", &[stage, &port]));
    assert_eq!(printed(printer).await, doubled());
    assert_eq!(printed(doubler).await, "");
    assert_eq!(printed(counter).await, "");
}
