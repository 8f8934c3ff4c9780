//! Attached groups and taps; outputs without a group.

use jaiminho_core::{
    EVENT_OVERHEAD_BYTES, GroupKind, LinkError, LinkId, Outcome, OutputConfig, Signal, TAPPED_BYTES_MAX, Window,
};

use crate::bench::{Bench, TTL_MS, config, subscribe};

fn attach(bench: &mut Bench, kind: GroupKind, name: &str) -> LinkId {
    let link = bench.subscribe(&subscribe("tail", kind, name)).unwrap();
    bench.grant(link, 10, 1_000);
    link
}

#[test]
fn an_attached_group_starts_at_the_tail_and_takes_no_part_in_settlement() {
    let mut bench = Bench::new(&["convert"]);
    let required = bench.member("convert", "c-0");
    bench.push(None);
    let tail = attach(&mut bench, GroupKind::Attached, "t-0");
    bench.push(None);
    assert_eq!((bench.offsets(tail), bench.offsets(required)), (vec![1], vec![0, 1]));
    bench.accept(required, 1, 2);
    assert_eq!(bench.settled_offsets(), [0, 1]);
    assert!(bench.output.is_settled());
    assert_eq!(bench.output.fill().events, 1, "held for the attached group");
    bench.accept(tail, 1, 1);
    assert_eq!(bench.output.fill().events, 0);
}

#[test]
fn an_attached_group_that_lags_more_than_half_the_capacity_is_ended_and_told_so() {
    let mut bench = Bench::new(&["convert"]);
    let required = bench.member("convert", "c-0");
    let tail = attach(&mut bench, GroupKind::Attached, "t-0");
    for number in 1..=50 {
        bench.push(None);
        bench.offsets(required);
        bench.accept(required, number, number);
        bench.grant(required, number + 10, number * 10 + 1_000);
    }
    assert_eq!(bench.signals(), []);
    assert_eq!(bench.output.fill().events, 50);
    bench.push(None);
    assert_eq!(bench.signals(), [(tail, Signal::End(LinkError::Lagged(50)))]);
    assert_eq!(bench.output.fill().events, 1);
    assert_eq!(bench.output.links(), [required]);
    let again = attach(&mut bench, GroupKind::Attached, "t-0");
    assert_eq!(bench.offsets(again), [], "from the tail again");
}

#[test]
fn an_attached_group_that_lags_more_than_half_the_bytes_is_ended() {
    let mut bench = Bench::new(&["convert"]);
    let tail = attach(&mut bench, GroupKind::Attached, "t-0");
    bench.push_sized(None, 5_000);
    assert_eq!(bench.signals(), []);
    bench.push_sized(None, 1);
    assert_eq!(bench.signals(), [(tail, Signal::End(LinkError::Lagged(50)))]);
}

#[test]
fn attached_groups_together_never_fill_the_log() {
    let mut bench = Bench::new(&["convert"]);
    let required = bench.member("convert", "c-0");
    for name in ["x", "y"] {
        bench.subscribe(&subscribe(name, GroupKind::Attached, "t-0")).unwrap();
    }
    for number in 1..=500 {
        assert!(!bench.output.is_full());
        bench.push_sized(None, 90);
        bench.offsets(required);
        bench.accept(required, number, number);
        bench.grant(required, number + 10, number * 90 + 1_000);
    }
}

#[test]
fn an_attached_group_outlives_its_last_member_by_its_name_for_a_time() {
    let mut bench = Bench::new(&["convert"]);
    let tail = attach(&mut bench, GroupKind::Attached, "t-0");
    bench.push(None);
    assert_eq!(bench.take(tail), [(1, 0, 1)]);
    bench.close(tail);
    let next = bench.wait(TTL_MS - 1);
    assert_eq!(next, Some(bench.now.after(1)));
    let back = attach(&mut bench, GroupKind::Attached, "t-1");
    assert_eq!(bench.take(back), [(1, 0, 2)]);
    bench.wait(10 * TTL_MS);
    assert_eq!(bench.output.groups().count(), 2, "it has a member");
    bench.close(back);
    assert_eq!(bench.wait(TTL_MS), None);
    assert_eq!(bench.output.groups().count(), 1);
    let late = attach(&mut bench, GroupKind::Attached, "t-1");
    assert_eq!(bench.offsets(late), [], "the name is forgotten");
}

#[test]
fn attached_groups_without_members_are_limited_too() {
    let mut bench = Bench::with(OutputConfig { links_max: 3, ..config(&["convert"]) });
    for name in ["x", "y", "z"] {
        let link = bench.subscribe(&subscribe(name, GroupKind::Attached, "t-0")).unwrap();
        bench.close(link);
    }
    let fourth = bench.subscribe(&subscribe("w", GroupKind::Attached, "t-0"));
    assert!(matches!(fourth, Err(LinkError::Limit(_))));
}

#[test]
fn a_tap_gets_what_it_has_credit_for_on_arrival_and_the_rest_is_counted() {
    let mut bench = Bench::new(&["convert"]);
    let tap = bench.subscribe(&subscribe("tail", GroupKind::Tap, "t-0")).unwrap();
    bench.push(None);
    bench.grant(tap, 2, 1_000);
    bench.push_many(None, 5);
    assert_eq!(bench.offsets(tap), [1, 2]);
    assert_eq!(bench.output.tap_missed(), 4);
    bench.accept(tap, 1, 2);
    assert_eq!(bench.settled_offsets(), []);
}

#[test]
fn taps_that_never_read_hold_no_more_than_their_bound_together() {
    let large = OutputConfig { capacity_events: 1_000_000, capacity_bytes: u64::MAX, ..config(&["convert"]) };
    let mut bench = Bench::with(OutputConfig { span: 1_000_000, ..large });
    let taps = ["t-0", "t-1"].map(|name| {
        let mut wanted = subscribe(name, GroupKind::Tap, name);
        wanted.window = Window { events: u64::MAX, bytes: u64::MAX };
        let tap = bench.subscribe(&wanted).unwrap();
        bench.grant(tap, 1_000_000, u64::MAX);
        tap
    });
    let fits = TAPPED_BYTES_MAX.div_ceil(900 + EVENT_OVERHEAD_BYTES);
    for _ in 0..fits {
        bench.push_sized(None, 900);
    }
    assert_eq!(bench.output.tap_missed(), fits, "each event waits for two taps, so half of them are missed");
    bench.close(taps[0]);
    bench.push_sized(None, 900);
    assert_eq!(bench.output.tap_missed(), fits, "there is room again");
}

#[test]
fn a_tap_holds_nothing() {
    let mut bench = Bench::new(&["convert"]);
    let required = bench.member("convert", "c-0");
    let tap = attach(&mut bench, GroupKind::Tap, "t-0");
    bench.push(None);
    bench.offsets(required);
    bench.accept(required, 1, 1);
    assert_eq!(bench.output.fill().span_used, 0);
    assert_eq!(bench.output.next_frame(tap, 100).map(|frame| frame[0].event.payload.len()), Some(10));
    bench.output.cancel(bench.now, tap, Some(bench.now.after(5_000)));
    assert_eq!(bench.signals(), [(tap, Signal::Drained)]);
    bench.close(tap);
    assert_eq!(bench.output.groups().count(), 1);
}

#[test]
fn an_output_without_a_group_holds_its_events() {
    let mut bench = Bench::new(&[]);
    bench.push_many(None, 100);
    assert!(bench.output.is_full() && !bench.output.is_settled());
    assert_eq!(bench.settled(), []);
}

#[test]
fn a_dead_letter_output_without_a_group_drops_and_counts() {
    let mut bench = Bench::with(OutputConfig { drops_without_group: true, ..config(&[]) });
    bench.push_many(None, 3);
    let settled = bench.settled();
    assert!(settled.len() == 3 && settled.iter().all(|settled| settled.outcome == Outcome::Accepted));
    assert_eq!((bench.output.dropped(), bench.output.fill().events), (3, 0));
    assert!(bench.output.is_settled());
}
