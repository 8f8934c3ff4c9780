//! The cases of GenStage's buffer, and its `buffer_keep`.

use jaiminho_core::{GroupKind, Offset, Outcome, OutputConfig, Overflow};

use crate::bench::{Bench, config, subscribe};

fn bench(capacity_events: u64, overflow: Overflow) -> Bench {
    Bench::with(OutputConfig { capacity_events, overflow, ..config(&["convert"]) })
}

/// The infos that are due.
fn infos(bench: &mut Bench) -> Vec<u64> {
    std::iter::from_fn(|| bench.output.poll_info()).collect()
}

fn inform(bench: &mut Bench, tokens: &[u64]) {
    for &token in tokens {
        bench.output.push_info(token).unwrap();
    }
}

#[test]
fn infos_do_not_count_as_events() {
    let mut bench = bench(10, Overflow::KeepFirst);
    bench.push_many(None, 2);
    inform(&mut bench, &[3, 4]);
    assert_eq!(bench.output.fill().events, 2);
}

#[test]
fn keep_first_discards_what_comes_when_there_is_no_room() {
    let mut bench = bench(3, Overflow::KeepFirst);
    bench.push_many(None, 3);
    assert_eq!(bench.output.poll_discarded(), None);
    bench.push_many(None, 3);
    assert_eq!((bench.output.poll_discarded(), bench.output.poll_discarded()), (Some(3), None));
    assert!(!bench.output.is_full(), "it pushes nobody back");
    let settled = bench.settled();
    assert_eq!(settled.iter().map(|one| one.input.0).collect::<Vec<_>>(), [3, 4, 5]);
    assert!(settled.iter().all(|one| one.outcome == Outcome::Accepted && one.offset.0 >= 1 << 63));
    let a = bench.member("convert", "a");
    assert_eq!(bench.offsets(a), [0, 1, 2]);
    bench.accept(a, 1, 1);
    assert_eq!(bench.push(None), Offset(3), "there is room again, and no gap");
    assert_eq!(bench.output.fill().span_used, 3);
}

#[test]
fn a_large_log_stores_what_nobody_asks_for() {
    let mut bench = bench(1_000, Overflow::PushBack);
    for _ in 0..1_000 {
        bench.push_sized(None, 1);
    }
    assert_eq!((bench.output.fill().events, bench.output.poll_discarded()), (1_000, None));
    assert!(bench.output.is_full());
}

#[test]
fn keep_last_discards_the_oldest() {
    let mut bench = bench(3, Overflow::KeepLast);
    bench.push_many(None, 6);
    assert_eq!((bench.output.poll_discarded(), bench.settled_offsets()), (Some(3), vec![0, 1, 2]));
    let a = bench.member("convert", "a");
    assert_eq!((bench.offsets(a), bench.output.is_full()), (vec![3, 4, 5], false));
}

#[test]
fn an_info_comes_at_once_when_the_events_before_it_are_discarded() {
    let mut bench = bench(3, Overflow::KeepLast);
    bench.push_many(None, 2);
    inform(&mut bench, &[3, 4]);
    bench.push(None);
    assert_eq!(infos(&mut bench), []);
    bench.push_many(None, 2);
    assert_eq!((bench.output.poll_discarded(), infos(&mut bench)), (Some(2), vec![3, 4]));
}

#[test]
fn an_info_does_not_wait_in_an_empty_log() {
    let mut bench = bench(10, Overflow::PushBack);
    inform(&mut bench, &[1]);
    assert_eq!(infos(&mut bench), [1]);
}

#[test]
fn from_an_empty_log_nothing_is_taken() {
    let mut bench = bench(10, Overflow::KeepLast);
    let a = bench.member("convert", "a");
    assert_eq!((bench.offsets(a), bench.output.has_frame(a), bench.output.demand()), (vec![], false, 10));
}

#[test]
fn events_come_in_order_and_an_info_only_after_those_before_it() {
    let mut bench = bench(10, Overflow::KeepFirst);
    bench.push_many(None, 2);
    inform(&mut bench, &[3]);
    bench.push(None);
    let a = bench.join("convert", "a");
    bench.grant(a, 1, 1_000);
    assert_eq!((bench.offsets(a), infos(&mut bench)), (vec![0], vec![]));
    bench.grant(a, 2, 1_000);
    assert_eq!((bench.offsets(a), infos(&mut bench)), (vec![1], vec![3]));
    bench.grant(a, 5, 1_000);
    assert_eq!((bench.offsets(a), bench.output.demand()), (vec![2], 2));
}

#[test]
fn infos_at_the_same_place_keep_their_order() {
    let mut bench = bench(10, Overflow::KeepFirst);
    bench.push_many(None, 2);
    inform(&mut bench, &[5, 3, 4]);
    let a = bench.member("convert", "a");
    assert_eq!((bench.offsets(a), infos(&mut bench)), (vec![0, 1], vec![5, 3, 4]));
}

#[test]
fn events_and_infos_at_several_places_interleave() {
    let mut bench = bench(10, Overflow::KeepFirst);
    bench.push_many(None, 2);
    inform(&mut bench, &[3, 4]);
    bench.push_many(None, 3);
    inform(&mut bench, &[8, 9]);
    bench.push(None);
    inform(&mut bench, &[11]);
    let a = bench.join("convert", "a");
    for (credit, events, tokens) in
        [(2, vec![0, 1], vec![3, 4]), (5, vec![2, 3, 4], vec![8, 9]), (6, vec![5], vec![11])]
    {
        bench.grant(a, credit, 1_000);
        assert_eq!((bench.offsets(a), infos(&mut bench)), (events, tokens));
    }
}

#[test]
fn nothing_that_is_on_a_link_is_discarded() {
    let mut bench = bench(3, Overflow::KeepLast);
    let a = bench.join("convert", "a");
    bench.grant(a, 2, 1_000);
    bench.push_many(Some(1), 2);
    while bench.output.dispatch(bench.now) {}
    bench.push(Some(1));
    bench.push(Some(1));
    assert_eq!(bench.settled_offsets(), [2], "the first two are assigned");
    assert_eq!(bench.offsets(a), [0, 1]);
    bench.grant(a, 3, 1_000);
    assert_eq!(bench.offsets(a), [3]);
    bench.push(Some(1));
    assert_eq!(
        bench.settled().iter().map(|one| one.input.0).collect::<Vec<_>>(),
        [4],
        "all are sent: the new one is it"
    );
    assert_eq!(bench.output.poll_discarded(), Some(2));
    bench.close(a);
    bench.push_many(Some(1), 2);
    assert_eq!(bench.settled_offsets(), [0, 1], "their link is gone, so they may be discarded");
    let b = bench.member("convert", "b");
    assert_eq!(bench.take(b), [(1, 3, 2), (2, 5, 1), (3, 6, 1)]);
}

#[test]
fn what_one_group_has_is_discarded_for_the_other_when_it_is_on_no_link() {
    let mut bench =
        Bench::with(OutputConfig { capacity_events: 3, overflow: Overflow::KeepLast, ..config(&["x", "y"]) });
    let fast = bench.member("x", "a");
    let tail = bench.subscribe(&subscribe("tail", GroupKind::Attached, "t")).unwrap();
    bench.push_many(Some(1), 3);
    assert_eq!(bench.offsets(fast), [0, 1, 2]);
    bench.accept(fast, 2, 2);
    bench.push(Some(1));
    assert_eq!(bench.settled_offsets(), [1], "the others are on the way to x");
    bench.close(tail);
    bench.accept(fast, 1, 1);
    bench.push(Some(1));
    assert_eq!((bench.settled_offsets(), bench.output.poll_discarded()), (vec![0], Some(2)));
    let slow = bench.member("y", "b");
    bench.grant(fast, 6, 1_000);
    assert_eq!((bench.offsets(slow), bench.offsets(fast)), (vec![2, 3, 4], vec![3, 4]));
}

#[test]
fn a_large_event_takes_the_place_of_several() {
    let mut bench = bench(100, Overflow::KeepLast);
    bench.push_sized(None, 4_000);
    bench.push_sized(Some(1), 4_000);
    bench.push_sized(None, 2_000);
    bench.push_sized(None, 1);
    assert_eq!((bench.output.poll_discarded(), bench.settled_offsets()), (Some(1), vec![0]));
    bench.push_sized(None, 20_000);
    assert_eq!(bench.output.poll_discarded(), None, "it overshoots by itself alone");
    bench.push_sized(None, 1);
    assert_eq!((bench.output.poll_discarded(), bench.settled_offsets()), (Some(4), vec![1, 2, 3, 4]));
}

#[test]
fn one_event_that_stays_on_its_link_does_not_let_the_log_grow() {
    for overflow in [Overflow::KeepFirst, Overflow::KeepLast] {
        let mut bench = bench(10, overflow);
        let a = bench.join("convert", "a");
        bench.grant(a, 1, 1_000);
        bench.push(None);
        bench.offsets(a);
        for _ in 0..5_000 {
            bench.push(None);
        }
        let fill = bench.output.fill();
        assert!(fill.events <= 10 && fill.span_used <= fill.span, "{fill:?}");
        assert_eq!(bench.output.poll_discarded().unwrap() + fill.events, 5_001);
    }
}

#[test]
fn what_waits_for_a_broadcasts_first_group_is_discarded_too() {
    let broadcast = OutputConfig { broadcast: true, overflow: Overflow::KeepLast, ..config(&[]) };
    let mut bench = Bench::with(OutputConfig { capacity_events: 3, ..broadcast });
    bench.push_many(None, 5);
    assert_eq!((bench.output.poll_discarded(), bench.settled_offsets()), (Some(2), vec![0, 1]));
    let a = bench.subscribe(&subscribe("a", GroupKind::Attached, "a")).unwrap();
    bench.grant(a, 3, 1_000);
    assert_eq!(bench.offsets(a), [2, 3, 4]);
}

#[test]
fn a_body_of_which_something_was_discarded_is_not_withdrawn() {
    let mut bench = bench(1, Overflow::KeepFirst);
    let first = bench.push(None);
    let second = bench.push(None);
    assert!(!bench.output.withdraw(first..second));
    assert!(!bench.output.withdraw(second..Offset(second.0 + 1)));
    assert_eq!(bench.output.fill().events, 1);
}
