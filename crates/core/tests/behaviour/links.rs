//! Links: credit, violations, fencing, limits.

use jaiminho_core::{Credit, Disposition, GroupKind, LinkError, Outcome, Settled, Signal, Window};

use crate::bench::{Bench, config, subscribe};

fn is_violation<T>(result: Result<T, LinkError>) -> bool {
    matches!(result, Err(LinkError::Violation(_)))
}

#[test]
fn nothing_is_sent_without_credit_and_no_more_than_it() {
    let mut bench = Bench::new(&["convert"]);
    let link = bench.join("convert", "c-0");
    bench.push_many(None, 5);
    assert_eq!(bench.offsets(link), []);
    bench.grant(link, 3, 1_000);
    assert_eq!(bench.offsets(link), [0, 1, 2]);
    bench.grant(link, 3, 1_000);
    assert_eq!(bench.offsets(link), []);
    bench.grant(link, 4, 1_000);
    assert_eq!(bench.offsets(link), [3]);
}

#[test]
fn one_event_alone_may_overshoot_the_byte_credit() {
    let mut bench = Bench::new(&["convert"]);
    let link = bench.join("convert", "c-0");
    bench.push_sized(None, 99);
    bench.push_sized(None, 500);
    bench.push_sized(None, 0);
    bench.grant(link, 10, 100);
    assert_eq!(bench.offsets(link), [0, 1]);
}

#[test]
fn credit_beyond_the_window_is_a_violation() {
    let mut bench = Bench::new(&["convert"]);
    let link = bench.member("convert", "c-0");
    assert!(is_violation(bench.output.credit(link, Credit { events: 11, bytes: 1_000 })));
    assert!(is_violation(bench.output.credit(link, Credit { events: 10, bytes: 1_001 })));
    bench.push(None);
    assert_eq!(bench.offsets(link), [0]);
    bench.grant(link, 11, 1_010);
}

#[test]
fn a_disposition_above_the_last_delivery_is_a_violation() {
    let mut bench = Bench::new(&["convert"]);
    let link = bench.member("convert", "c-0");
    bench.push_many(None, 3);
    bench.offsets(link);
    let accepted = || Settled::Outcome(Outcome::Accepted);
    assert!(is_violation(bench.dispose(link, 1, 4, accepted())));
    assert!(is_violation(bench.dispose(link, 0, 2, accepted())));
    assert!(is_violation(bench.dispose(link, 3, 2, accepted())));
    assert!(is_violation(bench.dispose(link, u64::MAX, u64::MAX, accepted())));
    assert_eq!(bench.settled_offsets(), [], "a bad range settles nothing");
    bench.accept(link, 1, 3);
    assert_eq!(bench.settled_offsets(), [0, 1, 2]);
}

#[test]
fn an_assigned_delivery_that_was_not_handed_out_cannot_be_settled() {
    let mut bench = Bench::new(&["convert"]);
    let link = bench.member("convert", "c-0");
    bench.push(None);
    while bench.output.dispatch(bench.now) {}
    assert!(is_violation(bench.dispose(link, 1, 1, Settled::Outcome(Outcome::Accepted))));
}

#[test]
fn a_release_of_what_was_not_revoked_is_a_violation() {
    let mut bench = Bench::new(&["convert"]);
    let link = bench.member("convert", "c-0");
    bench.push(Some(1));
    bench.offsets(link);
    assert!(is_violation(bench.release(link, 1, 1)));
}

#[test]
fn calls_for_a_link_that_is_gone_change_nothing() {
    let mut bench = Bench::new(&["convert"]);
    let gone = bench.member("convert", "c-0");
    bench.push(None);
    bench.offsets(gone);
    bench.close(gone);
    let link = bench.member("convert", "c-0");
    assert_ne!(gone, link);
    bench.output.credit(gone, Credit { events: 1_000, bytes: 1 }).unwrap();
    let state = Settled::Outcome(Outcome::Accepted);
    bench.output.dispose(gone, &Disposition { first: 1, last: 1_000, state }).unwrap();
    bench.output.cancel(bench.now, gone, Some(bench.now.after(5_000)));
    bench.close(gone);
    assert_eq!(bench.settled_offsets(), []);
    assert_eq!(bench.take(link), [(1, 0, 2)]);
}

#[test]
fn a_greater_incarnation_fences_the_older_process() {
    let mut bench = Bench::new(&["convert"]);
    let old = bench.member("convert", "c-0");
    bench.push(Some(1));
    assert_eq!(bench.take(old), [(1, 0, 1)]);
    let mut newer = subscribe("convert", GroupKind::Required, "c-0");
    newer.instance.incarnation = 2;
    let link = bench.subscribe(&newer).unwrap();
    assert_eq!(bench.signals(), [(old, Signal::End(LinkError::Fenced("c-0".into())))]);
    bench.grant(link, 10, 1_000);
    assert_eq!(bench.take(link), [(1, 0, 2)], "what the old one had is released");
    let again = subscribe("convert", GroupKind::Required, "c-0");
    assert_eq!(bench.subscribe(&again), Err(LinkError::Fenced("c-0".into())));
    assert_eq!(bench.output.links(), [link]);
}

#[test]
fn a_higher_link_counter_replaces_the_older_link_and_a_lower_one_is_refused() {
    let mut bench = Bench::new(&["convert"]);
    let old = bench.member("convert", "c-0");
    bench.push(Some(1));
    bench.offsets(old);
    let mut newer = subscribe("convert", GroupKind::Required, "c-0");
    newer.link_counter = 3;
    let link = bench.subscribe(&newer).unwrap();
    assert_eq!(bench.signals(), [(old, Signal::End(LinkError::Replaced))]);
    newer.link_counter = 2;
    assert_eq!(bench.subscribe(&newer), Err(LinkError::Replaced));
    newer.link_counter = 3;
    assert_eq!(bench.subscribe(&newer), Err(LinkError::Replaced));
    bench.grant(link, 10, 1_000);
    assert_eq!(bench.take(link), [(1, 0, 2)]);
}

#[test]
fn the_same_name_in_two_groups_is_two_members() {
    let mut bench = Bench::new(&["convert", "archive"]);
    bench.member("convert", "host");
    bench.member("archive", "host");
    assert_eq!((bench.output.links().len(), bench.signals()), (2, vec![]));
}

#[test]
fn a_bad_subscribe_is_refused_and_changes_nothing() {
    let mut bench = Bench::new(&["convert"]);
    let good = subscribe("convert", GroupKind::Required, "c-0");
    for (events, bytes) in [(0, 1), (1, 0)] {
        let bad = jaiminho_core::Subscribe { window: Window { events, bytes }, ..good.clone() };
        assert!(is_violation(bench.subscribe(&bad)));
    }
    assert!(is_violation(bench.subscribe(&subscribe("convert", GroupKind::Required, ""))));
    assert!(is_violation(bench.subscribe(&subscribe("convert", GroupKind::Required, &"x".repeat(254)))));
    assert!(is_violation(bench.subscribe(&subscribe("", GroupKind::Attached, "c-0"))));
    let unknown = bench.subscribe(&subscribe("other", GroupKind::Required, "c-0"));
    assert_eq!(unknown, Err(LinkError::UnknownGroup("other".into())));
    assert_eq!(bench.output.links(), []);
}

#[test]
fn links_beyond_the_limit_are_refused() {
    let mut bench = Bench::with(jaiminho_core::OutputConfig { links_max: 2, ..config(&["convert"]) });
    bench.join("convert", "c-0");
    bench.join("convert", "c-1");
    let third = subscribe("convert", GroupKind::Required, "c-2");
    assert!(matches!(bench.subscribe(&third), Err(LinkError::Limit(_))));
    let mut replacing = subscribe("convert", GroupKind::Required, "c-1");
    replacing.link_counter = 2;
    assert!(bench.subscribe(&replacing).is_ok(), "one that replaces another takes its place");
}

#[test]
fn a_tap_gives_its_place_up_to_a_consumer_and_the_last_one_first() {
    let mut bench = Bench::with(jaiminho_core::OutputConfig { links_max: 3, ..config(&["convert"]) });
    let stays = bench.join("convert", "c-0");
    let taps = ["t-0", "t-1"].map(|name| bench.subscribe(&subscribe(name, GroupKind::Tap, name)).unwrap());
    let third = bench.subscribe(&subscribe("t-2", GroupKind::Tap, "t-2"));
    assert!(matches!(third, Err(LinkError::Limit(_))), "no tap gives way to a tap");
    for (name, tap) in [("c-1", taps[1]), ("c-2", taps[0])] {
        bench.join("convert", name);
        let signals = bench.signals();
        let [(ended, Signal::End(LinkError::Limit(why)))] = signals.as_slice() else { panic!("{signals:?}") };
        assert_eq!((*ended, why.as_str()), (tap, "a consumer takes this tap's place"));
    }
    assert!(matches!(bench.subscribe(&subscribe("convert", GroupKind::Required, "c-3")), Err(LinkError::Limit(_))));
    assert_eq!(bench.output.groups().count(), 1, "their groups went with them");
    bench.push(None);
    bench.grant(stays, 1, 1_000);
    assert_eq!(bench.take(stays), [(1, 0, 1)]);
}

#[test]
fn a_dead_link_counts_until_its_left_overs_are_dispatched_again() {
    let mut bench = Bench::with(jaiminho_core::OutputConfig { links_max: 2, ..config(&["convert"]) });
    let stuck = bench.join("convert", "stuck");
    let dead = bench.member("convert", "flapping");
    bench.push(None);
    assert_eq!(bench.offsets(dead), [0]);
    bench.close(dead);
    let again = subscribe("convert", GroupKind::Required, "flapping");
    assert!(matches!(bench.subscribe(&again), Err(LinkError::Limit(_))), "the dead link has a left-over");
    bench.grant(stuck, 10, 1_000);
    assert_eq!(bench.take(stuck), [(1, 0, 2)]);
    assert!(bench.subscribe(&again).is_ok());
}

#[test]
fn left_overs_never_keep_out_the_first_member_of_a_group() {
    let mut bench = Bench::with(jaiminho_core::OutputConfig { links_max: 1, ..config(&["convert"]) });
    for round in 1..5 {
        let link = bench.member("convert", "flapping");
        if round == 1 {
            bench.push(None);
        }
        assert_eq!(bench.take(link), [(1, 0, round)]);
        bench.close(link);
    }
}

#[test]
fn a_cancelled_link_is_drained_when_its_last_delivery_is_settled() {
    let mut bench = Bench::new(&["convert"]);
    let link = bench.member("convert", "c-0");
    bench.push_many(Some(1), 2);
    bench.offsets(link);
    bench.output.cancel(bench.now, link, Some(bench.now.after(5_000)));
    bench.push(Some(1));
    assert_eq!(bench.offsets(link), [], "nothing more comes");
    bench.accept(link, 1, 1);
    assert_eq!(bench.signals(), []);
    bench.accept(link, 2, 2);
    assert_eq!(bench.signals(), [(link, Signal::Drained)]);
    bench.output.cancel(bench.now, link, Some(bench.now.after(5_000)));
    assert_eq!(bench.signals(), [], "said once");
    bench.close(link);
    assert_eq!(bench.undispatched(), 1);
}

#[test]
fn a_cancel_without_drain_releases_everything_at_once() {
    let mut bench = Bench::new(&["convert"]);
    let leaving = bench.member("convert", "c-0");
    bench.push_many(None, 2);
    bench.offsets(leaving);
    let other = bench.member("convert", "c-1");
    bench.output.cancel(bench.now, leaving, None);
    assert_eq!(bench.signals(), [(leaving, Signal::Drained)]);
    assert_eq!(bench.take(other), [(1, 0, 2), (2, 1, 2)]);
}

#[test]
fn a_drain_past_its_time_is_over_and_what_is_unsettled_is_released() {
    let mut bench = Bench::new(&["convert"]);
    let leaving = bench.member("convert", "c-0");
    bench.push_many(Some(1), 3);
    bench.offsets(leaving);
    let other = bench.member("convert", "c-1");
    bench.output.cancel(bench.now, leaving, Some(bench.now.after(2_000)));
    bench.accept(leaving, 1, 1);
    bench.signals();
    assert_eq!(bench.wait(1_999), Some(bench.now.after(1)), "wants to be called when the time is up");
    assert_eq!((bench.signals(), bench.take(other)), (vec![], vec![]), "the time is not up");
    bench.wait(1);
    assert_eq!(bench.signals(), [(leaving, Signal::Drained)]);
    assert_eq!(bench.take(other), [(1, 1, 2), (2, 2, 2)]);
    bench.accept(leaving, 2, 3);
    assert_eq!(bench.settled_offsets(), [0], "a disposition that comes too late settles nothing");
}

#[test]
fn a_repeated_cancel_brings_the_end_nearer_and_never_puts_it_off() {
    let mut bench = Bench::new(&["convert"]);
    let link = bench.member("convert", "c-0");
    bench.push(None);
    bench.offsets(link);
    bench.output.cancel(bench.now, link, Some(bench.now.after(1_000)));
    bench.output.cancel(bench.now, link, Some(bench.now.after(u64::MAX)));
    bench.wait(1_000);
    assert_eq!(bench.signals(), [(link, Signal::Drained)]);
}

#[test]
fn a_link_with_something_to_send_is_named_once() {
    let mut bench = Bench::new(&["convert"]);
    let link = bench.member("convert", "c-0");
    let idle = bench.join("convert", "c-1");
    bench.push_many(None, 2);
    while bench.output.dispatch(bench.now) {}
    assert_eq!(bench.output.ready_links(), [link]);
    assert_eq!(bench.output.ready_links(), []);
    assert!(bench.output.has_frame(link) && !bench.output.has_frame(idle));
}

#[test]
fn a_frame_has_at_least_one_event_and_else_keeps_to_its_size() {
    let mut bench = Bench::new(&["convert"]);
    let link = bench.member("convert", "c-0");
    for size in [200, 30, 30, 30] {
        bench.push_sized(None, size);
    }
    while bench.output.dispatch(bench.now) {}
    let mut frame = |bytes_max| bench.output.next_frame(link, bytes_max).map_or(0, |frame| frame.len());
    assert_eq!([frame(60), frame(60), frame(60), frame(60)], [1, 2, 1, 0]);
}

#[test]
fn a_window_beyond_the_capacity_of_the_log_is_cut_to_it() {
    let mut bench = Bench::new(&["convert"]);
    let mut wanted = subscribe("convert", GroupKind::Required, "c-0");
    wanted.window = Window { events: u64::MAX, bytes: u64::MAX };
    let link = bench.subscribe(&wanted).unwrap();
    assert_eq!(bench.output.window(link), Some(Window { events: 100, bytes: 10_000 }));
    assert!(is_violation(bench.output.credit(link, Credit { events: 101, bytes: 10_000 })));
    bench.grant(link, 100, 10_000);
}
