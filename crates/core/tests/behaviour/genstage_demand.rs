//! The cases of GenStage's DemandDispatcher, and of its demand on a network.

use jaiminho_core::{Demand, GroupKind, INFOS_MAX, InfosFull, LinkError, Window};

use crate::bench::{Bench, subscribe};

fn bench() -> Bench {
    Bench::new(&["convert"])
}

#[test]
fn who_subscribes_and_cancels_asks_for_nothing() {
    let mut bench = bench();
    assert_eq!(bench.output.demand(), 0, "no consumer");
    let a = bench.join("convert", "a");
    assert_eq!(bench.output.demand(), 0);
    bench.close(a);
    assert_eq!(bench.output.demand(), 0);
}

#[test]
fn what_a_consumer_that_left_had_asked_for_is_not_asked_for_twice() {
    let mut bench = bench();
    let a = bench.member("convert", "a");
    assert_eq!(bench.output.demand(), 10);
    bench.close(a);
    assert_eq!(bench.output.demand(), 0);
    let b = bench.join("convert", "b");
    bench.grant(b, 5, 1_000);
    assert_eq!(bench.output.demand(), 5);
    bench.push_many(None, 3);
    assert_eq!(bench.output.demand(), 2, "three are brought, whether dispatched or not");
    assert_eq!(bench.offsets(b), [0, 1, 2]);
    assert_eq!(bench.output.demand(), 2);
    bench.close(b);
    bench.push_many(None, 10);
    assert_eq!((bench.output.demand(), bench.undispatched()), (0, 13), "what nobody is there for waits");
}

#[test]
fn when_one_of_two_leaves_the_other_gets_what_it_asked_for_and_the_rest_waits() {
    let mut bench = bench();
    let (a, b) = (bench.join("convert", "a"), bench.join("convert", "b"));
    bench.grant(a, 3, 1_000);
    bench.grant(b, 3, 1_000);
    assert_eq!(bench.output.demand(), 6);
    bench.close(a);
    assert_eq!(bench.output.demand(), 3);
    bench.push_many(None, 5);
    assert_eq!(bench.offsets(b), [0, 1, 2]);
    assert_eq!((bench.output.demand(), bench.undispatched()), (0, 2));
}

#[test]
fn asks_add_up_and_what_is_beyond_them_waits() {
    let mut bench = bench();
    let a = bench.join("convert", "a");
    bench.grant(a, 3, 1_000);
    bench.push(None);
    assert_eq!((bench.offsets(a), bench.output.demand()), (vec![0], 2));
    bench.grant(a, 6, 1_000);
    assert_eq!(bench.output.demand(), 5);
    bench.push_many(None, 7);
    assert_eq!((bench.offsets(a), bench.output.demand()), ((1..6).collect(), 0));
    bench.push_many(None, 2);
    assert_eq!((bench.offsets(a), bench.output.demand()), (vec![], 0));
    assert_eq!(bench.undispatched(), 4);
    bench.grant(a, 11, 1_000);
    assert_eq!((bench.offsets(a), bench.output.demand()), (vec![6, 7, 8, 9], 1), "what waited costs demand");
}

#[test]
fn demand_is_the_sum_of_what_the_consumers_ask() {
    let mut bench = bench();
    let links = ["a", "b", "c"].map(|name| bench.join("convert", name));
    for (link, events) in links.into_iter().zip([4, 2, 3]) {
        bench.grant(link, events, 1_000);
    }
    assert_eq!(bench.output.demand(), 9);
    bench.grant(links[2], 5, 1_000);
    assert_eq!(bench.output.demand(), 11);
    bench.grant(links[1], 6, 1_000);
    assert_eq!(bench.output.demand(), 15);
}

#[test]
fn events_go_to_the_consumers_that_asked_for_most() {
    let mut bench = bench();
    let (a, b) = (bench.join("convert", "a"), bench.join("convert", "b"));
    bench.grant(a, 3, 1_000);
    bench.grant(b, 2, 1_000);
    bench.push_many(None, 5);
    assert_eq!((bench.offsets(a).len(), bench.offsets(b).len()), (3, 2));
    bench.push_many(None, 3);
    assert_eq!((bench.offsets(a), bench.offsets(b)), (vec![], vec![]));
    bench.grant(a, 6, 1_000);
    bench.grant(b, 4, 1_000);
    let (to_a, to_b) = (bench.offsets(a), bench.offsets(b));
    assert_eq!((to_a.len(), to_b.len(), bench.output.demand()), (2, 1, 2), "a asked for three, b for two");
    bench.push_many(None, 3);
    assert_eq!((bench.offsets(a).len(), bench.offsets(b).len()), (1, 1));
    assert_eq!(bench.undispatched(), 1);
}

#[test]
fn consumers_that_asked_for_the_same_take_turns() {
    let mut bench = bench();
    let (a, b) = (bench.member("convert", "a"), bench.member("convert", "b"));
    for number in 1..=6 {
        bench.push(None);
        let (to_a, to_b) = (bench.offsets(a), bench.offsets(b));
        assert_eq!(to_a.len() + to_b.len(), 1);
        assert_eq!(to_a.is_empty(), number % 2 == 0, "delivery {number}");
    }
}

#[test]
fn an_info_comes_at_once_when_nothing_waits() {
    let mut bench = bench();
    bench.output.push_info(7).unwrap();
    assert_eq!(bench.output.poll_info(), Some(7));
    let a = bench.member("convert", "a");
    bench.push_many(None, 3);
    bench.offsets(a);
    bench.output.push_info(8).unwrap();
    assert_eq!((bench.output.poll_info(), bench.output.poll_info()), (Some(8), None), "dispatched is enough");
    assert_eq!(bench.output.demand(), 7, "it costs no demand");
}

#[test]
fn who_asks_for_more_than_its_window_is_told_so() {
    let mut bench = bench();
    let a = bench.join("convert", "a");
    let asked = bench.output.credit(a, jaiminho_core::Credit { events: 11, bytes: 1_000 });
    assert!(matches!(asked, Err(LinkError::Violation(_))));
    assert_eq!(bench.output.demand(), 0);
}

#[test]
fn infos_wait_for_what_was_there_before_them_and_keep_their_order() {
    let mut bench = bench();
    let a = bench.join("convert", "a");
    bench.push_many(Some(1), 2);
    bench.output.push_info(1).unwrap();
    bench.output.push_info(2).unwrap();
    bench.push(Some(2));
    bench.output.push_info(3).unwrap();
    for (credit, expected) in [(1, vec![]), (2, vec![1, 2]), (3, vec![3])] {
        bench.grant(a, credit, 1_000);
        bench.offsets(a);
        assert_eq!(std::iter::from_fn(|| bench.output.poll_info()).collect::<Vec<_>>(), expected);
    }
    bench.close(a);
    bench.output.push_info(4).unwrap();
    assert_eq!(bench.output.poll_info(), Some(4), "what was dispatched once was heard of, whatever became of it");
    bench.push(None);
    bench.output.push_info(4).unwrap();
    for _ in 1..INFOS_MAX {
        bench.output.push_info(5).unwrap();
    }
    assert_eq!(bench.output.push_info(6), Err(InfosFull));
}

#[test]
fn an_info_behind_events_for_nobody_waits_until_they_are_withdrawn() {
    let mut bench = Bench::new(&[]);
    let first = bench.push(None);
    bench.output.push_info(1).unwrap();
    assert_eq!(bench.output.poll_info(), None);
    assert!(bench.output.withdraw(first..jaiminho_core::Offset(1)));
    assert_eq!(bench.output.poll_info(), Some(1));
}

#[test]
fn while_demand_accumulates_nothing_is_asked_and_nothing_dispatched() {
    let mut bench = bench();
    bench.output.set_demand(Demand::Accumulate);
    bench.output.set_demand(Demand::Accumulate);
    let a = bench.member("convert", "a");
    bench.push_many(None, 4);
    bench.output.push_info(1).unwrap();
    assert_eq!((bench.output.demand(), bench.offsets(a)), (0, vec![]));
    assert_eq!(bench.output.poll_info(), None);
    bench.output.set_demand(Demand::Forward);
    assert_eq!((bench.output.demand(), bench.offsets(a)), (6, vec![0, 1, 2, 3]));
    assert_eq!(bench.output.poll_info(), Some(1));
}

#[test]
fn the_slowest_required_group_decides_what_is_asked() {
    let mut bench = Bench::new(&["convert", "archive"]);
    let (a, b) = (bench.member("convert", "a"), bench.join("archive", "b"));
    assert_eq!(bench.output.demand(), 0);
    bench.grant(b, 4, 1_000);
    assert_eq!(bench.output.demand(), 4);
    bench.push_many(None, 4);
    bench.offsets(a);
    assert_eq!(bench.output.demand(), 0);
    let tail = bench.subscribe(&subscribe("tail", GroupKind::Attached, "t")).unwrap();
    bench.grant(b, 6, 1_000);
    assert_eq!(bench.output.demand(), 2, "attached groups have no say");
    bench.close(tail);
}

#[test]
fn n1_a_consumer_that_leaves_idle_with_credit_takes_it_along_and_the_order_holds() {
    let mut bench = bench();
    let (a, idle) = (bench.member("convert", "a"), bench.member("convert", "idle"));
    assert_eq!(bench.output.demand(), 20);
    bench.close(idle);
    let mut got = Vec::new();
    for round in 0..50 {
        let demand = bench.output.demand();
        assert!(demand <= 10, "never more than the window of who is there: {demand}");
        bench.push_many(Some(1), demand as usize);
        got.extend(bench.offsets(a));
        assert_eq!(bench.undispatched(), 0, "round {round}");
        let last = got.len() as u64;
        bench.accept(a, last.saturating_sub(demand) + 1, last);
        bench.grant(a, last + 10, last * 10 + 1_000);
    }
    assert_eq!(got, (0..500).collect::<Vec<_>>());
}

#[test]
fn n2_when_all_consumers_leave_nothing_is_asked_and_the_log_pushes_back() {
    let mut bench = bench();
    let links = ["a", "b"].map(|name| bench.member("convert", name));
    bench.push_many(None, 20);
    for link in links {
        assert_eq!(bench.offsets(link).len(), 10);
        bench.close(link);
    }
    assert_eq!(bench.output.demand(), 0);
    bench.push_many(None, 80);
    assert!(bench.output.is_full(), "for a source that does not wait to be asked");
    let c = bench.member("convert", "c");
    assert_eq!((bench.offsets(c), bench.output.demand()), ((0..10).collect(), 0));
}

#[test]
fn n12_windows_that_do_not_match_are_cut_to_what_the_log_holds() {
    let mut bench = bench();
    let mut eager = subscribe("convert", GroupKind::Required, "eager");
    eager.window = Window { events: 1_000_000, bytes: 1 << 40 };
    let eager = bench.subscribe(&eager).unwrap();
    assert_eq!(bench.output.window(eager), Some(Window { events: 100, bytes: 10_000 }));
    let too_much = jaiminho_core::Credit { events: 1_000_000, bytes: 1 << 40 };
    assert!(matches!(bench.output.credit(eager, too_much), Err(LinkError::Violation(_))));
    bench.close(eager);
    let timid = bench.member("convert", "timid");
    bench.push_many(None, 100);
    let mut done = 0;
    while done < 100 {
        let count = bench.offsets(timid).len() as u64;
        assert!(count > 0, "credit for one event at a time is enough");
        bench.accept(timid, done + 1, done + count);
        done += count;
        bench.grant(timid, done + 1, done * 10 + 1);
    }
    assert!(bench.output.is_settled());
}

#[test]
fn n13_a_huge_event_needs_one_byte_of_credit() {
    let mut bench = bench();
    let mut small = subscribe("convert", GroupKind::Required, "small");
    small.window = Window { events: 10, bytes: 1 };
    small.event_bytes_max = 1 << 20;
    let link = bench.subscribe(&small).unwrap();
    bench.grant(link, 10, 1);
    let sizes = [5_000, 9_000, 1, 0];
    for size in sizes {
        bench.push_sized(Some(1), size);
    }
    let mut sent = 0;
    for (number, size) in (1..).zip(sizes) {
        assert_eq!(bench.take(link), [(number, number - 1, 1)]);
        sent += size as u64;
        bench.accept(link, number, number);
        bench.grant(link, number + 10, sent + 1);
    }
}

#[test]
fn n16_a_consumer_with_a_small_window_is_not_starved_by_one_with_a_large_window() {
    let mut bench = bench();
    let (mut large, mut small) =
        (subscribe("convert", GroupKind::Required, "large"), subscribe("convert", GroupKind::Required, "small"));
    large.window = Window { events: 100, bytes: 10_000 };
    small.window = Window { events: 2, bytes: 10_000 };
    let links = [large, small].map(|wanted| {
        let link = bench.subscribe(&wanted).unwrap();
        bench.grant(link, wanted.window.events, 10_000);
        (link, wanted.window.events)
    });
    let mut counts = [0_u64; 2];
    for _ in 0..400 {
        bench.push(None);
        for (count, (link, window)) in counts.iter_mut().zip(links) {
            for _ in bench.offsets(link) {
                *count += 1;
                bench.accept(link, *count, *count);
                bench.grant(link, *count + window, *count * 10 + 10_000);
            }
        }
    }
    assert!(counts.iter().all(|&count| count >= 190), "at a trickle both take half: {counts:?}");
}
