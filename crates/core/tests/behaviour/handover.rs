//! Partitions move from member to member.

use jaiminho_core::{GroupKind, KeyHash, LinkId, Signal, Time};

use crate::bench::{Bench, HANDOVER_MS, keys_of, subscribe};

/// `a` has three deliveries of a key that `b` owns as soon as it joins.
fn moving() -> (Bench, LinkId, LinkId, u64) {
    let key = keys_of("b", "a", 1)[0];
    let mut bench = Bench::new(&["convert"]);
    let a = bench.member("convert", "a");
    bench.push_many(Some(key), 3);
    assert_eq!(bench.offsets(a), [0, 1, 2]);
    let b = bench.member("convert", "b");
    bench.push(Some(key));
    (bench, a, b, key)
}

#[test]
fn a_partition_moves_only_when_its_old_owner_has_settled_all_of_it() {
    let (mut bench, a, b, key) = moving();
    assert_eq!(bench.signals(), [(a, Signal::Revoke(vec![KeyHash(key).partition()]))]);
    assert_eq!((bench.offsets(a), bench.offsets(b)), (vec![], vec![]));
    bench.accept(a, 1, 2);
    assert_eq!(bench.offsets(b), []);
    bench.accept(a, 3, 3);
    assert_eq!(bench.take(b), [(1, 3, 1)]);
}

#[test]
fn what_the_old_owner_releases_comes_first_and_in_order_at_the_new_one() {
    let (mut bench, a, b, _) = moving();
    bench.release(a, 3, 3).unwrap();
    bench.release(a, 1, 1).unwrap();
    assert_eq!(bench.offsets(b), []);
    bench.accept(a, 2, 2);
    assert_eq!(bench.take(b), [(1, 0, 2), (2, 2, 2), (3, 3, 1)]);
    assert_eq!(bench.settled_offsets(), [1]);
}

#[test]
fn the_producer_releases_what_the_old_owner_kept_past_the_handover_time() {
    let (mut bench, a, b, _) = moving();
    bench.accept(a, 1, 1);
    assert_eq!(bench.wait(HANDOVER_MS - 1), Some(Time(1_000 + HANDOVER_MS)));
    assert_eq!(bench.offsets(b), []);
    assert_eq!(bench.wait(1), None);
    assert_eq!(bench.take(b), [(1, 1, 2), (2, 2, 2), (3, 3, 1)]);
    bench.accept(a, 2, 3);
    assert_eq!(bench.settled_offsets(), [0], "too late: it is the new owner's");
}

#[test]
fn an_old_owner_that_is_lost_hands_over_at_once() {
    let (mut bench, a, b, _) = moving();
    bench.release(a, 2, 2).unwrap();
    bench.close(a);
    assert_eq!(bench.take(b), [(1, 0, 2), (2, 1, 2), (3, 2, 2), (4, 3, 1)]);
}

#[test]
fn a_new_owner_that_is_lost_while_it_waits_gives_the_partition_back_after_the_handover() {
    let (mut bench, a, b, _) = moving();
    bench.signals();
    bench.close(b);
    assert_eq!(bench.offsets(a), [], "a revocation cannot be taken back");
    bench.accept(a, 1, 2);
    bench.release(a, 3, 3).unwrap();
    assert_eq!(bench.take(a), [(4, 2, 2), (5, 3, 1)]);
}

#[test]
fn what_was_assigned_but_not_sent_moves_at_once() {
    let key = keys_of("b", "a", 1)[0];
    let mut bench = Bench::new(&["convert"]);
    let a = bench.member("convert", "a");
    bench.push_many(Some(key), 3);
    while bench.output.dispatch(bench.now) {}
    let b = bench.member("convert", "b");
    assert_eq!(bench.signals(), []);
    assert_eq!(bench.take(b), [(1, 0, 1), (2, 1, 1), (3, 2, 1)]);
    assert_eq!(bench.output.waiting().groups[0].unused_credit, 17, "the credit is the old owner's again");
    assert_eq!(bench.output.next_frame(a, 100), None);
}

#[test]
fn no_frame_overtakes_a_revoke() {
    let (mut bench, a, b, _) = moving();
    bench.close(b);
    bench.push(None);
    while bench.output.dispatch(bench.now) {}
    assert!(bench.output.next_frame(a, 100).is_none() && !bench.output.has_frame(a));
    bench.output.ready_links();
    assert_eq!(bench.signals().len(), 1);
    assert_eq!(bench.output.ready_links(), [a], "it is named again");
    assert!(bench.output.next_frame(a, 100).is_some());
}

#[test]
fn partitions_of_a_draining_member_move_as_they_empty() {
    let keys = keys_of("a", "b", 2);
    let mut bench = Bench::new(&["convert"]);
    let (a, b) = (bench.member("convert", "a"), bench.member("convert", "b"));
    bench.push(Some(keys[0]));
    bench.push(Some(keys[1]));
    assert_eq!(bench.offsets(a), [0, 1]);
    bench.output.cancel(bench.now, a, Some(bench.now.after(20 * HANDOVER_MS)));
    bench.push(Some(keys[0]));
    bench.push(Some(keys[1]));
    assert_eq!(bench.signals(), [], "no revoke: it takes nothing more anyway");
    assert_eq!(bench.offsets(b), []);
    bench.accept(a, 2, 2);
    assert_eq!(bench.offsets(b), [3]);
    bench.wait(10 * HANDOVER_MS);
    assert_eq!(bench.offsets(b), [], "it has its own deadline");
    bench.release(a, 1, 1).unwrap();
    assert_eq!(bench.take(b), [(2, 0, 2), (3, 2, 1)]);
    assert_eq!(bench.signals(), [(a, Signal::Drained)]);
}

#[test]
fn a_redelivered_entry_that_is_lost_again_counts_its_attempts() {
    let mut bench = Bench::new(&["convert"]);
    bench.push(Some(1));
    for attempt in 1..6 {
        let mut subscribe = subscribe("convert", GroupKind::Required, "c-0");
        subscribe.link_counter = u64::from(attempt);
        let link = bench.subscribe(&subscribe).unwrap();
        bench.grant(link, 10, 1_000);
        assert_eq!(bench.take(link), [(1, 0, attempt)]);
    }
    assert_eq!(bench.output.waiting().groups[0].redispatched, 4);
}
