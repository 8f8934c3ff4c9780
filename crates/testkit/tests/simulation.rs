//! Whole runs. `cargo sim` makes many more.

use std::fs;
use std::path::Path;
use std::time::Duration;

use jaiminho_testkit::{Fault, Link, Mode, Plan, Report, Scheduled, run, run_plan};

#[test]
fn a_cluster_without_faults_publishes_everything_once_and_leaves_nothing_behind() {
    let report = run_plan(&Plan::of(1, [1, 1, 1], Duration::from_secs(5), vec![]), false);
    assert_eq!(report.wrong, [""; 0]);
    assert!(report.acknowledged > 0 && report.duplicates == 0, "{} acknowledged", report.acknowledged);
}

#[test]
fn a_seed_gives_the_same_history_twice_and_another_one_another() {
    let [first, second, other] = [3, 3, 4].map(|seed| run(seed, true).history);
    assert_eq!(first.trace(), second.trace());
    assert_eq!(first.hash(), second.hash());
    assert_ne!(first.hash(), other.hash());
}

#[test]
fn n5_a_network_that_parts_in_the_middle_of_a_window_loses_and_reorders_nothing_and_declares_its_duplicates() {
    let link = |publish: usize| Link { a: "convert-0".into(), b: format!("publish-{publish}") };
    let mut faults = Vec::new();
    for at in [1_000, 14_000] {
        for publish in 0..2 {
            faults.push(Scheduled::new(at, Fault::Partition(link(publish))));
        }
        for publish in 0..2 {
            faults.push(Scheduled::new(at + 300, Fault::Repair(link(publish))));
        }
    }
    let plan = |seed| Plan::of(seed, [1, 1, 2], Duration::from_secs(20), faults.clone()).patient();
    let reports = (0..5).map(|seed| good(plan(seed)));
    let (duplicates, undeclared) =
        reports.fold((0, 0), |sum, report| (sum.0 + report.duplicates, sum.1 + report.undeclared));
    assert!(duplicates > 0, "something was under way");
    assert_eq!(undeclared, 0);
}

#[test]
fn what_a_parted_network_brings_again_is_dropped_where_copies_are() {
    let link = || Link { a: "ingest-0".into(), b: "convert-0".into() };
    let faults: Vec<Scheduled> = [1_000, 14_000]
        .into_iter()
        .flat_map(|at| [Scheduled::new(at, Fault::Partition(link())), Scheduled::new(at + 300, Fault::Repair(link()))])
        .collect();
    let plan = |seed| Plan::of(seed, [1, 1, 1], Duration::from_secs(20), faults.clone()).patient();
    let duplicates = |plan: Plan| good(plan).duplicates;
    assert!((0..5).map(|seed| duplicates(plan(seed))).sum::<u64>() > 0, "something was under way");
    for seed in 0..5 {
        assert_eq!(duplicates(plan(seed).deduping(Duration::from_secs(60), 100_000)), 0, "seed {seed}");
    }
}

#[test]
fn n6_what_a_crashed_instance_had_received_and_not_settled_is_delivered_again() {
    let crash = |host: &str| Fault::Crash { host: host.into(), power: true };
    let faults = vec![
        Scheduled::new(1_000, Fault::Broker(Mode::Stalled)),
        Scheduled::new(3_000, crash("publish-0")),
        Scheduled::new(3_000, crash("convert-0")),
        Scheduled::new(4_000, Fault::Broker(Mode::Up)),
    ];
    let report = good(Plan::of(6, [1, 2, 2], Duration::from_secs(6), faults));
    let again = |line: &&String| line.contains("published") && !line.ends_with("attempt 1");
    assert!(report.history.trace().iter().any(|line| again(&line)), "redelivered");
}

#[test]
fn n8_a_frozen_instance_is_found_silent_within_the_bound_and_the_others_move_on() {
    let host = "convert-0".to_owned();
    let faults =
        vec![Scheduled::new(2_000, Fault::Freeze { host: host.clone() }), Scheduled::new(40_000, Fault::Thaw { host })];
    let report = good(Plan::of(8, [1, 2, 1], Duration::from_secs(41), faults));
    // A body waits for the keys of the frozen one; then they are the other's.
    let published = |from: f64, to: f64| {
        let lines =
            report.history.trace().iter().filter(|line| line.contains("published ") && line.contains("publish-"));
        lines.filter(|line| (from..to).contains(&seconds(line))).count()
    };
    let (before, after) = (published(3.0, 12.0), published(13.0, 40.0));
    assert!(after > 5 * before.max(1), "{before} while it was not yet found silent, {after} then");
}

#[test]
fn n14_a_drain_with_a_dead_downstream_ends_at_its_deadline_and_nothing_is_lost() {
    let (convert, within) = ("convert-0".to_owned(), Duration::from_secs(4));
    let faults = vec![
        Scheduled::new(2_000, Fault::Crash { host: "publish-0".into(), power: false }),
        Scheduled::new(3_000, Fault::Leave { host: convert.clone(), within }),
        Scheduled::new(12_000, Fault::Start { host: convert }),
        Scheduled::new(12_000, Fault::Start { host: "publish-0".into() }),
    ];
    let report = good(Plan::of(14, [1, 1, 1], Duration::from_secs(13), faults));
    let left = report.history.trace().iter().find(|line| line.contains("convert-0") && line.contains("ends: Drained"));
    let left = left.expect("it has drained");
    assert!(!left.contains("unsettled: 0"), "{left}");
    assert!((7.0..8.0).contains(&seconds(left)), "{left}");
}

#[test]
fn no_select_of_runtime_and_link_leaves_its_order_to_chance() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut folders = vec![crates.join("runtime/src"), crates.join("link/src")];
    while let Some(folder) = folders.pop() {
        for path in folder.read_dir().unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let after = text.split("select! {").skip(1).map(str::trim_start);
            assert!(after.into_iter().all(|first| first.starts_with("biased;")), "{}", path.display());
        }
    }
}

/// The report of a run in which nothing was wrong.
fn good(plan: Plan) -> Report {
    let report = run_plan(&plan, true);
    assert_eq!(report.wrong, [""; 0]);
    assert!(report.acknowledged > 0);
    report
}

/// When a line of a trace was seen.
fn seconds(line: &str) -> f64 {
    let word = line.split_whitespace().next();
    word.and_then(|word| word.parse().ok()).expect("a time in front")
}
