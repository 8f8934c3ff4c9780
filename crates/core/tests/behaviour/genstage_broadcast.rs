//! The cases of GenStage's BroadcastDispatcher: each consumer is a group of its own, and all get all.

use jaiminho_core::{GroupKind, LinkError, LinkId, Outcome, OutputConfig, Reason, Selector, Signal};

use crate::bench::{Bench, TTL_MS, config, rejected, subscribe};

fn bench() -> Bench {
    let sized = |min: u64| Selector::new(move |event| event.size() >= min);
    let selectors = [("medium".to_owned(), sized(20)), ("large".to_owned(), sized(30))].into();
    Bench::with(OutputConfig { broadcast: true, selectors, ..config(&[]) })
}

fn join(bench: &mut Bench, name: &str) -> LinkId {
    bench.subscribe(&subscribe(name, GroupKind::Attached, name)).unwrap()
}

fn selecting(bench: &mut Bench, name: &str, selector: &str) -> Result<LinkId, LinkError> {
    let mut wanted = subscribe(name, GroupKind::Attached, name);
    wanted.selector = Some(selector.into());
    bench.subscribe(&wanted)
}

fn ask(bench: &mut Bench, link: LinkId, events: u64) {
    bench.grant(link, events, 1_000);
}

#[test]
fn who_subscribes_and_cancels_a_broadcast_leaves_nothing_behind() {
    let mut bench = bench();
    let a = join(&mut bench, "a");
    assert_eq!((bench.output.demand(), bench.output.groups().count()), (0, 1));
    bench.close(a);
    assert_eq!((bench.output.demand(), bench.output.groups().count()), (0, 0), "and does not outlive its member");
    assert_eq!(bench.wait(2 * TTL_MS), None);
}

#[test]
fn what_is_pushed_with_no_consumer_there_waits() {
    let mut bench = bench();
    let a = join(&mut bench, "a");
    ask(&mut bench, a, 10);
    assert_eq!(bench.output.demand(), 10);
    bench.close(a);
    assert_eq!(bench.output.demand(), 0);
    bench.push_many(None, 3);
    bench.output.push_info(1).unwrap();
    assert_eq!((bench.settled_offsets(), bench.output.fill().events, bench.output.poll_info()), (vec![], 3, None));
}

#[test]
fn a_new_consumer_holds_demand_back_until_it_asks() {
    let mut bench = bench();
    let a = join(&mut bench, "a");
    ask(&mut bench, a, 10);
    assert_eq!(bench.output.demand(), 10);
    let b = join(&mut bench, "b");
    assert_eq!(bench.output.demand(), 0);
    bench.close(a);
    assert_eq!(bench.output.demand(), 0);
    ask(&mut bench, b, 10);
    assert_eq!(bench.output.demand(), 10);
}

#[test]
fn when_the_consumer_that_has_not_asked_leaves_the_others_demand_counts() {
    let mut bench = bench();
    let (a, b) = (join(&mut bench, "a"), join(&mut bench, "b"));
    ask(&mut bench, a, 5);
    assert_eq!(bench.output.demand(), 0);
    bench.close(b);
    assert_eq!(bench.output.demand(), 5);
    ask(&mut bench, a, 10);
    assert_eq!(bench.output.demand(), 10);
}

#[test]
fn all_consumers_get_all_and_the_slowest_decides_what_is_asked() {
    let mut bench = bench();
    let (a, b) = (join(&mut bench, "a"), join(&mut bench, "b"));
    ask(&mut bench, a, 3);
    ask(&mut bench, b, 2);
    assert_eq!(bench.output.demand(), 2);
    bench.push_many(None, 2);
    assert_eq!((bench.offsets(a), bench.offsets(b), bench.output.demand()), (vec![0, 1], vec![0, 1], 0));
    ask(&mut bench, b, 4);
    assert_eq!(bench.output.demand(), 1);
    bench.push_many(None, 2);
    assert_eq!((bench.offsets(a), bench.offsets(b)), (vec![2], vec![2, 3]), "one is ahead, and no more is asked");
    assert_eq!(bench.output.demand(), 0);
    let late = join(&mut bench, "late");
    ask(&mut bench, a, 6);
    ask(&mut bench, b, 7);
    ask(&mut bench, late, 3);
    bench.push_many(None, 2);
    assert_eq!((bench.offsets(a), bench.offsets(b), bench.offsets(late)), (vec![3, 4, 5], vec![4, 5], vec![4, 5]));
    assert_eq!(bench.output.demand(), 0);
}

#[test]
fn what_a_consumer_asked_before_another_joined_still_counts() {
    let mut bench = bench();
    let a = join(&mut bench, "a");
    ask(&mut bench, a, 10);
    bench.push_many(None, 3);
    assert_eq!((bench.offsets(a), bench.output.demand()), (vec![0, 1, 2], 7));
    let b = join(&mut bench, "b");
    assert_eq!(bench.output.demand(), 0);
    ask(&mut bench, b, 10);
    assert_eq!(bench.output.demand(), 7);
    bench.push_many(None, 7);
    assert_eq!((bench.offsets(a), bench.offsets(b)), ((3..10).collect(), (3..10).collect::<Vec<_>>()));
    assert_eq!(bench.output.demand(), 0);
}

#[test]
fn n3_what_was_brought_for_a_consumer_that_left_reaches_the_next() {
    let mut bench = bench();
    let a = join(&mut bench, "a");
    ask(&mut bench, a, 10);
    assert_eq!(bench.output.demand(), 10);
    bench.push_many(Some(1), 4);
    bench.close(a);
    bench.push_many(None, 6);
    assert_eq!(bench.settled_offsets(), [], "nobody was ever sent any of it");
    let b = join(&mut bench, "b");
    ask(&mut bench, b, 10);
    assert_eq!((bench.offsets(b), bench.output.demand()), ((0..10).collect(), 0));
    bench.push_many(None, 1);
    ask(&mut bench, b, 10);
    bench.accept(b, 1, 10);
    assert_eq!((bench.settled_offsets(), bench.output.fill().events), ((0..10).collect(), 1));
}

#[test]
fn when_the_blocking_consumer_leaves_all_that_the_others_asked_counts() {
    let mut bench = bench();
    let a = join(&mut bench, "a");
    ask(&mut bench, a, 5);
    let b = join(&mut bench, "b");
    ask(&mut bench, a, 10);
    assert_eq!(bench.output.demand(), 0);
    bench.output.cancel(bench.now, b, Some(bench.now.after(5_000)));
    assert_eq!(bench.output.demand(), 10, "a consumer that drains holds nobody back");
}

#[test]
fn a_consumer_gets_what_its_selector_wants_and_the_rest_costs_no_credit() {
    let mut bench = bench();
    let medium = selecting(&mut bench, "a", "medium").unwrap();
    let large = selecting(&mut bench, "b", "large").unwrap();
    ask(&mut bench, large, 4);
    ask(&mut bench, medium, 4);
    assert_eq!(bench.output.demand(), 4);
    for size in [30, 35, 20, 5] {
        bench.push_sized(None, size);
    }
    assert_eq!((bench.offsets(medium), bench.offsets(large)), (vec![0, 1, 2], vec![0, 1]));
    assert_eq!(bench.output.demand(), 1, "3 of 4 and 2 of 4 are used");
    assert_eq!(bench.settled_offsets(), [3], "nobody wants it");
    bench.accept(medium, 1, 3);
    assert_eq!(bench.settled_offsets(), [2]);
    bench.accept(large, 1, 2);
    assert_eq!((bench.settled_offsets(), bench.output.fill().span_used), (vec![0, 1], 0));
}

#[test]
fn an_info_comes_once_all_consumers_were_sent_what_was_before_it() {
    let mut bench = bench();
    let (a, b) = (join(&mut bench, "a"), join(&mut bench, "b"));
    ask(&mut bench, a, 3);
    bench.output.push_info(1).unwrap();
    assert_eq!(bench.output.poll_info(), Some(1));
    bench.push(None);
    bench.output.push_info(2).unwrap();
    bench.offsets(a);
    assert_eq!(bench.output.poll_info(), None);
    ask(&mut bench, b, 1);
    bench.offsets(b);
    assert_eq!(bench.output.poll_info(), Some(2));
}

#[test]
fn a_second_subscription_of_the_same_instance_is_refused() {
    let mut bench = bench();
    let a = join(&mut bench, "a");
    let again = bench.subscribe(&subscribe("a", GroupKind::Attached, "a"));
    assert_eq!((again, bench.output.links()), (Err(LinkError::Replaced), vec![a]));
}

#[test]
fn a_new_link_of_an_instance_that_is_the_only_member_takes_over_what_the_old_one_had() {
    let mut bench = bench();
    let a = join(&mut bench, "a");
    ask(&mut bench, a, 2);
    bench.push_many(None, 3);
    assert_eq!(bench.offsets(a), [0, 1]);
    let mut wanted = subscribe("a", GroupKind::Attached, "a");
    wanted.link_counter = 2;
    let again = bench.subscribe(&wanted).unwrap();
    assert_eq!(bench.signals(), [(a, Signal::End(LinkError::Replaced))]);
    ask(&mut bench, again, 10);
    assert_eq!(bench.take(again), [(1, 0, 2), (2, 1, 2), (3, 2, 1)]);
    assert_eq!(bench.settled_offsets(), []);
}

#[test]
fn a_slow_consumer_is_never_ended_but_fills_the_log() {
    let mut bench = bench();
    let (fast, slow) = (join(&mut bench, "fast"), join(&mut bench, "slow"));
    for number in 1..=100 {
        bench.grant(fast, number, number * 10);
        bench.push(None);
        bench.offsets(fast);
        bench.accept(fast, number, number);
    }
    assert!(bench.output.is_full());
    assert_eq!((bench.signals(), bench.settled_offsets()), (vec![], vec![]));
    bench.close(slow);
    assert_eq!(bench.settled_offsets(), (0..100).collect::<Vec<_>>(), "leaving counts as accepted");
    assert!(!bench.output.is_full() && bench.output.is_settled());
}

#[test]
fn what_a_consumer_was_sent_when_it_left_counts_as_accepted_even_if_it_was_the_last() {
    let mut bench = bench();
    let a = join(&mut bench, "a");
    ask(&mut bench, a, 2);
    bench.push_many(Some(3), 3);
    bench.offsets(a);
    bench.dispose(a, 1, 1, jaiminho_core::Settled::Outcome(rejected(false))).unwrap();
    bench.close(a);
    let settled: Vec<_> = bench.settled().into_iter().map(|one| (one.offset.0, one.outcome)).collect();
    assert_eq!(settled, [(0, rejected(false)), (1, Outcome::Accepted)]);
    let b = join(&mut bench, "b");
    ask(&mut bench, b, 10);
    assert_eq!(bench.take(b), [(1, 2, 1)]);
}

#[test]
fn a_draining_consumer_settles_what_it_was_sent_and_no_new_events_wait_for_it() {
    let mut bench = bench();
    let (a, b) = (join(&mut bench, "a"), join(&mut bench, "b"));
    ask(&mut bench, a, 2);
    ask(&mut bench, b, 10);
    bench.push_many(Some(3), 3);
    assert_eq!((bench.offsets(a).len(), bench.offsets(b).len()), (2, 3));
    bench.accept(b, 1, 3);
    bench.output.cancel(bench.now, a, Some(bench.now.after(5_000)));
    assert_eq!(bench.settled_offsets(), [2], "it will not be sent that any more");
    let back = bench.subscribe(&subscribe("a", GroupKind::Attached, "a")).unwrap();
    ask(&mut bench, back, 10);
    bench.push(None);
    assert_eq!((bench.offsets(b), bench.offsets(back)), (vec![3], vec![3]), "and from the tail again");
    bench.dispose(a, 2, 2, jaiminho_core::Settled::Outcome(rejected(true))).unwrap();
    assert_eq!(bench.settled()[0].outcome, rejected(true));
    bench.release(a, 1, 1).unwrap();
    assert_eq!((bench.settled_offsets(), bench.signals()), (vec![0], vec![(a, Signal::Drained)]));
    bench.close(a);
    assert_eq!(bench.output.groups().count(), 2);
}

#[test]
fn what_is_too_large_for_a_broadcasts_consumer_is_rejected() {
    let mut bench = bench();
    let a = join(&mut bench, "a");
    ask(&mut bench, a, 2);
    bench.push_sized(None, 2_000);
    bench.offsets(a);
    let settled = bench.settled();
    assert_eq!(settled[0].refused.as_ref().map(|refused| refused.rejection.reason), Some(Reason::TooLarge));
}

#[test]
fn a_selector_that_is_unknown_or_not_the_groups_is_refused() {
    let mut bench = bench();
    let unknown = selecting(&mut bench, "a", "huge");
    assert_eq!(unknown, Err(LinkError::Selector("unknown: huge".into())));
    assert_eq!(bench.output.groups().count(), 0);
    let link = selecting(&mut bench, "a", "large").unwrap();
    let mut other = subscribe("a", GroupKind::Attached, "b");
    assert!(matches!(bench.subscribe(&other), Err(LinkError::Selector(_))), "none at all is another one");
    other.selector = Some("large".into());
    bench.subscribe(&other).unwrap();
    bench.close(link);
    let partition = jaiminho_core::Subscribe { partition: Some(0), ..other };
    assert!(matches!(bench.subscribe(&partition), Err(LinkError::Replaced)), "who it is comes first");
}

#[test]
fn a_required_groups_selector_is_its_first_members_and_holds_for_what_waits() {
    let selectors = [("large".to_owned(), Selector::new(|event| event.size() >= 30))].into();
    let mut bench = Bench::with(OutputConfig { selectors, ..config(&["convert"]) });
    let member = |selector: Option<&str>, counter| {
        let mut wanted = subscribe("convert", GroupKind::Required, "c");
        (wanted.selector, wanted.link_counter) = (selector.map(str::to_owned), counter);
        wanted
    };
    let old = bench.subscribe(&member(None, 1)).unwrap();
    bench.grant(old, 10, 1_000);
    for (key, size) in [(None, 10), (Some(1), 30), (Some(1), 10), (None, 30)] {
        bench.push_sized(key, size);
    }
    assert_eq!(bench.offsets(old).len(), 4);
    bench.push_sized(Some(2), 10);
    let link = bench.subscribe(&member(Some("large"), 2)).unwrap();
    let settled = bench.settled();
    assert_eq!(settled.iter().map(|one| one.offset.0).collect::<Vec<_>>(), [0, 2, 4]);
    assert!(settled.iter().all(|one| one.outcome == Outcome::Accepted && one.refused.is_none()));
    bench.push_sized(None, 5);
    bench.grant(link, 10, 1_000);
    assert_eq!(bench.take(link), [(1, 1, 2), (2, 3, 2)]);
    assert_eq!((bench.output.demand(), bench.settled_offsets()), (8, vec![5]));
}

#[test]
fn a_tap_with_a_selector_misses_only_what_it_wanted() {
    let mut bench = bench();
    let mut wanted = subscribe("look", GroupKind::Tap, "t");
    wanted.selector = Some("large".into());
    let tap = bench.subscribe(&wanted).unwrap();
    ask(&mut bench, tap, 1);
    for size in [10, 30, 10, 30] {
        bench.push_sized(None, size);
    }
    assert_eq!((bench.offsets(tap), bench.output.tap_missed()), (vec![1], 1));
}
