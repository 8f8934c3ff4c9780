//! Entries taken back before anybody saw them.

use jaiminho_core::{GroupKind, Offset};

use crate::bench::{Bench, keys_of, subscribe};

fn withdraw(bench: &mut Bench, first: u64, end: u64) -> bool {
    let withdrawn = bench.output.withdraw(Offset(first)..Offset(end));
    bench.output.check(false).unwrap();
    withdrawn
}

#[test]
fn all_entries_are_withdrawn_or_none() {
    let mut bench = Bench::new(&["convert"]);
    let link = bench.join("convert", "c-0");
    bench.push_many(None, 4);
    bench.grant(link, 1, 1_000);
    assert_eq!(bench.offsets(link), [0]);
    assert!(!withdraw(&mut bench, 0, 3), "the first was sent");
    assert_eq!(bench.output.fill().events, 4);
    assert!(withdraw(&mut bench, 1, 3));
    assert!(!withdraw(&mut bench, 1, 3), "they are gone");
    bench.grant(link, 10, 1_000);
    assert_eq!(bench.offsets(link), [3]);
    bench.accept(link, 1, 2);
    assert_eq!(bench.settled_offsets(), [0, 3], "withdrawn entries are not reported");
    assert_eq!(bench.output.fill().span_used, 0);
    assert!(!withdraw(&mut bench, 3, 4) && !withdraw(&mut bench, 4, 5), "settled, or never pushed");
    assert!(!withdraw(&mut bench, 0, u64::MAX));
    assert!(withdraw(&mut bench, 2, 2), "nothing is all there is");
}

#[test]
fn an_assigned_entry_that_was_not_sent_can_be_withdrawn_and_its_credit_comes_back() {
    let mut bench = Bench::new(&["convert"]);
    let link = bench.join("convert", "c-0");
    bench.grant(link, 2, 1_000);
    bench.push_many(Some(1), 3);
    while bench.output.dispatch(bench.now) {}
    assert!(withdraw(&mut bench, 0, 2));
    assert_eq!(bench.take(link), [(1, 2, 1)]);
    assert_eq!(bench.output.waiting().groups[0].unused_credit, 1);
}

#[test]
fn an_entry_sent_to_one_of_two_groups_cannot_be_withdrawn() {
    let mut bench = Bench::new(&["convert", "archive"]);
    let link = bench.member("archive", "a-0");
    bench.push(None);
    bench.offsets(link);
    assert!(!withdraw(&mut bench, 0, 1));
    bench.close(link);
    assert!(!withdraw(&mut bench, 0, 1), "nor after its release");
}

#[test]
fn what_waits_in_the_middle_of_a_partition_can_be_withdrawn() {
    let (keys, others) = (keys_of("a", "b", 1), keys_of("b", "a", 1));
    let mut bench = Bench::new(&["convert"]);
    let (a, b) = (bench.join("convert", "a"), bench.member("convert", "b"));
    for _ in 0..3 {
        bench.push(Some(keys[0]));
        bench.push(Some(others[0]));
    }
    assert_eq!(bench.offsets(b), [1, 3, 5]);
    assert!(withdraw(&mut bench, 2, 3));
    bench.grant(a, 10, 1_000);
    assert_eq!(bench.offsets(a), [0, 4]);
}

#[test]
fn what_a_tap_saw_can_still_be_withdrawn() {
    let mut bench = Bench::new(&["convert"]);
    let tap = bench.subscribe(&subscribe("look", GroupKind::Tap, "t")).unwrap();
    bench.grant(tap, 10, 1_000);
    bench.push(None);
    assert_eq!(bench.offsets(tap), [0]);
    assert!(withdraw(&mut bench, 0, 1));
}

#[test]
fn an_event_for_no_group_can_be_withdrawn() {
    let mut bench = Bench::new(&[]);
    bench.push(None);
    assert!(withdraw(&mut bench, 0, 1));
    assert!(bench.output.is_settled());
}
