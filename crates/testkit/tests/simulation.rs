//! Whole runs. `cargo sim` makes many more.

use jaiminho_testkit::{Plan, run, run_plan};

#[test]
fn a_cluster_without_faults_publishes_everything_once_and_leaves_nothing_behind() {
    let report = run_plan(&Plan::calm(1, [1, 1, 1]), false);
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
