//! From push to settlement: order, release, outcomes, freeing.

use jaiminho_core::{
    Dispatch, GroupKind, InputId, Outcome, OutputConfig, Reason, Rejection, RequiredGroup, Settled, Time, Window,
};

use crate::bench::{Bench, config, keys_of, rejected, subscribe};

#[test]
fn a_released_entry_comes_before_newer_ones_of_its_key_with_one_more_attempt() {
    let mut bench = Bench::new(&["convert"]);
    let lost = bench.join("convert", "c-0");
    bench.push_many(Some(1), 4);
    bench.grant(lost, 2, 1_000);
    assert_eq!(bench.take(lost), [(1, 0, 1), (2, 1, 1)]);
    bench.close(lost);
    let link = bench.member("convert", "c-1");
    assert_eq!(bench.take(link), [(1, 0, 2), (2, 1, 2), (3, 2, 1), (4, 3, 1)]);
}

#[test]
fn what_was_assigned_but_never_sent_is_no_second_attempt() {
    let mut bench = Bench::new(&["convert"]);
    let lost = bench.member("convert", "c-0");
    bench.push_many(Some(1), 2);
    while bench.output.dispatch(bench.now) {}
    bench.close(lost);
    let link = bench.member("convert", "c-1");
    assert_eq!(bench.take(link), [(1, 0, 1), (2, 1, 1)]);
}

#[test]
fn keyless_entries_are_released_oldest_first() {
    let mut bench = Bench::new(&["convert"]);
    let (a, b) = (bench.member("convert", "a"), bench.member("convert", "b"));
    bench.push_many(None, 6);
    let (of_a, of_b) = (bench.offsets(a), bench.offsets(b));
    assert_eq!((of_a.len(), of_b.len()), (3, 3), "shared by demand");
    bench.close(b);
    bench.close(a);
    bench.push(None);
    let link = bench.member("convert", "c");
    assert_eq!(bench.offsets(link), [0, 1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_settled_delivery_stays_settled_whatever_is_said_of_it_later() {
    let mut bench = Bench::new(&["convert"]);
    let link = bench.member("convert", "c-0");
    bench.push_many(None, 2);
    bench.offsets(link);
    bench.accept(link, 1, 1);
    bench.accept(link, 1, 1);
    bench.dispose(link, 1, 1, Settled::Outcome(rejected(false))).unwrap();
    bench.release(link, 1, 1).unwrap();
    let settled = bench.settled();
    assert_eq!(
        settled.iter().map(|settled| (settled.input, settled.outcome.clone())).collect::<Vec<_>>(),
        [(InputId(0), Outcome::Accepted)]
    );
}

#[test]
fn an_entry_is_settled_after_all_its_groups_with_the_worst_outcome() {
    let mut bench = Bench::new(&["convert", "archive", "index"]);
    let links = ["convert", "archive", "index"].map(|group| bench.member(group, "m"));
    bench.push(None);
    for link in links {
        assert_eq!(bench.offsets(link), [0]);
    }
    bench.dispose(links[0], 1, 1, Settled::Outcome(rejected(true))).unwrap();
    bench.dispose(links[1], 1, 1, Settled::Outcome(rejected(false))).unwrap();
    assert_eq!(bench.settled(), []);
    bench.accept(links[2], 1, 1);
    let settled = bench.settled();
    assert_eq!(settled.len(), 1);
    assert_eq!(settled[0].outcome, rejected(false));
    assert!(bench.output.is_settled());
}

#[test]
fn an_event_above_the_smallest_limit_of_a_groups_members_is_rejected_for_that_group_unsent() {
    let mut bench = Bench::new(&["convert", "archive"]);
    let (large, archive) = (bench.member("convert", "large"), bench.member("archive", "a"));
    let mut small = subscribe("convert", GroupKind::Required, "small");
    small.event_bytes_max = 100;
    let small = bench.subscribe(&small).unwrap();
    bench.push_sized(None, 101);
    bench.push_sized(None, 100);
    assert_eq!(bench.offsets(large), [1]);
    assert_eq!(bench.offsets(archive), [0, 1]);
    bench.accept(archive, 1, 2);
    let settled = bench.settled();
    let [only] = &settled[..] else { panic!("{settled:?}") };
    let refused = only.refused.as_ref().unwrap();
    assert_eq!((only.offset.0, &only.outcome), (0, &Outcome::Accepted), "the archive has it");
    assert_eq!((refused.event.size(), refused.rejection.reason), (101, Reason::TooLarge));
    assert!(!refused.rejection.stored, "that is the caller's to do");
    bench.close(small);
    bench.push_sized(None, 101);
    assert_eq!(bench.offsets(large), [2], "the small one's limit went with it");
}

#[test]
fn a_partition_without_credit_does_not_hold_up_the_others() {
    let keys = keys_of("a", "b", 1);
    let others = keys_of("b", "a", 1);
    let mut bench = Bench::new(&["convert"]);
    let (a, b) = (bench.join("convert", "a"), bench.member("convert", "b"));
    bench.push_many(Some(keys[0]), 3);
    bench.push_many(Some(others[0]), 2);
    assert_eq!(bench.offsets(b), [3, 4]);
    bench.grant(a, 2, 1_000);
    assert_eq!(bench.offsets(a), [0, 1]);
}

#[test]
fn a_members_credit_goes_to_the_lowest_offset_among_its_partitions_and_the_keyless() {
    let mut bench = Bench::new(&["convert"]);
    let link = bench.join("convert", "a");
    for key in [Some(1), None, Some(2), Some(1), None, Some(3)] {
        bench.push(key);
    }
    for offset in 0..6 {
        bench.grant(link, offset + 1, 1_000);
        assert_eq!(bench.offsets(link), [offset]);
    }
}

#[test]
fn a_keyless_entry_that_came_back_takes_its_turn_among_the_waiting_partitions() {
    let key = keys_of("a", "b", 1)[0];
    for (keys, expected) in [([Some(key), None, Some(key)], [0, 1, 2]), ([None, Some(key), None], [0, 1, 2])] {
        let mut bench = Bench::new(&["convert"]);
        let (a, b) = (bench.join("convert", "a"), bench.member("convert", "b"));
        for key in keys {
            bench.push(key);
        }
        bench.offsets(b);
        bench.close(b);
        for offset in expected {
            bench.grant(a, offset + 1, 1_000);
            assert_eq!(bench.offsets(a), [offset]);
        }
    }
}

#[test]
fn demand_counts_as_a_share_of_the_window_so_a_large_one_does_not_starve_a_small_one() {
    let groups = vec![RequiredGroup { name: "convert".into(), dispatch: Dispatch::Demand }];
    let mut bench = Bench::with(OutputConfig { groups, ..config(&[]) });
    let mut large = subscribe("convert", GroupKind::Required, "large");
    large.window = Window { events: 80, bytes: 8_000 };
    let large = bench.subscribe(&large).unwrap();
    bench.grant(large, 80, 8_000);
    let small = bench.member("convert", "small");
    bench.push_many(Some(1), 45);
    let (large, small) = (bench.offsets(large).len(), bench.offsets(small).len());
    assert_eq!((large, small), (40, 5));
}

#[test]
fn ties_of_demand_go_round() {
    let mut bench = Bench::new(&["convert"]);
    let links = ["a", "b", "c"].map(|name| bench.member("convert", name));
    for round in 0..3 {
        bench.push(None);
        let got = links.map(|link| bench.offsets(link).len());
        let mut expected = [0; 3];
        expected[round] = 1;
        assert_eq!(got, expected);
        let number = bench.output.last_sent(links[round]);
        bench.accept(links[round], number, number);
        bench.grant(links[round], 11, 1_010);
    }
}

#[test]
fn an_events_memory_is_freed_when_all_groups_have_settled_it_even_behind_an_older_one() {
    let mut bench = Bench::new(&["convert"]);
    let link = bench.member("convert", "c-0");
    bench.push_many(None, 3);
    bench.offsets(link);
    bench.accept(link, 2, 3);
    let fill = bench.output.fill();
    assert_eq!((fill.events, fill.bytes, fill.span_used), (1, 10, 3));
    bench.accept(link, 1, 1);
    assert_eq!(bench.output.fill().span_used, 0);
}

#[test]
fn the_log_is_full_in_events_in_bytes_or_in_span() {
    let full = |capacity_events, capacity_bytes, span| {
        let mut bench = Bench::with(OutputConfig { capacity_events, capacity_bytes, span, ..config(&["convert"]) });
        let link = bench.member("convert", "c-0");
        let mut pushed = 0;
        while !bench.output.is_full() && pushed < 50 {
            bench.push(None);
            pushed += 1;
            bench.offsets(link);
            if pushed > 1 {
                bench.accept(link, pushed, pushed);
            }
            let _more =
                bench.output.credit(link, jaiminho_core::Credit { events: pushed + 5, bytes: 10 * pushed + 500 });
        }
        pushed
    };
    assert_eq!((full(1, 1_000, 50), full(100, 10, 50), full(100, 1_000, 7), full(100, 1_000, 100)), (1, 1, 7, 50));
}

#[test]
fn over_eighty_percent_is_pressure() {
    let mut bench = Bench::new(&["convert"]);
    bench.push_many(None, 80);
    assert!(!bench.output.fill().is_pressure());
    bench.push(None);
    assert!(bench.output.fill().is_pressure() && !bench.output.is_full());
}

#[test]
fn events_of_an_absent_group_wait_for_its_first_member() {
    let mut bench = Bench::new(&["convert", "archive"]);
    let link = bench.member("convert", "c-0");
    bench.push_many(Some(1), 3);
    bench.offsets(link);
    bench.accept(link, 1, 3);
    assert!(bench.settled().is_empty() && !bench.output.is_settled());
    assert_eq!(bench.output.waiting().groups[1].undispatched, 3);
    let archive = bench.member("archive", "a-0");
    assert_eq!(bench.offsets(archive), [0, 1, 2]);
    bench.accept(archive, 1, 3);
    assert_eq!(bench.settled_offsets(), [0, 1, 2]);
}

#[test]
fn waiting_tells_backlog_demand_and_the_last_dispatch() {
    let mut bench = Bench::new(&["convert"]);
    let link = bench.join("convert", "c-0");
    bench.push_many(None, 5);
    bench.grant(link, 3, 1_000);
    bench.offsets(link);
    bench.wait(500);
    bench.grant(link, 4, 1_000);
    bench.offsets(link);
    bench.grant(link, 14, 1_000);
    let group = bench.output.waiting().groups.remove(0);
    assert_eq!((group.undispatched, group.unused_credit, group.dispatched, group.members), (1, 10, 4, 1));
    assert_eq!((group.last_dispatch, bench.output.oldest_unsettled()), (Some(Time(1_500)), Some(Time(1_000))));
    assert_eq!(bench.output.backlog(link), 1);
}

#[test]
fn a_keys_share_counts_its_partition_until_it_is_freed() {
    let mut bench = Bench::new(&["convert"]);
    let link = bench.member("convert", "c-0");
    bench.push_many(Some(5), 3);
    bench.push(Some(6));
    let share = |bench: &Bench| bench.output.key_share(jaiminho_core::KeyHash(5));
    assert_eq!((share(&bench).events, share(&bench).bytes), (3, 30));
    bench.offsets(link);
    bench.accept(link, 1, 2);
    assert_eq!((share(&bench).events, share(&bench).bytes), (1, 10));
}

#[test]
fn a_rejections_text_is_cut_between_two_characters() {
    let text = |text: &str| Rejection::new(Reason::Invalid, text).text;
    assert_eq!(text("short"), "short");
    assert_eq!(text(&format!("a{}", "é".repeat(200))), format!("a{}", "é".repeat(127)));
}
