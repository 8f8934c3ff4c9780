//! The cases of GenStage's PartitionDispatcher, and dispatchers of one's own.

use jaiminho_core::{
    Dispatch, Dispatcher, Event, GroupKind, LinkError, LinkId, Member, NewDispatcher, OutputConfig, RequiredGroup,
    Selector, Subscribe,
};

use crate::bench::{Bench, config, subscribe};

fn with(dispatch: Dispatch) -> Bench {
    let groups = vec![RequiredGroup { name: "convert".into(), dispatch }];
    Bench::with(OutputConfig { groups, ..config(&[]) })
}

fn bench(partitions: u16) -> Bench {
    with(Dispatch::Fixed { partitions })
}

fn wanted(name: &str, partition: Option<u16>) -> Subscribe {
    Subscribe { partition, ..subscribe("convert", GroupKind::Required, name) }
}

fn join(bench: &mut Bench, name: &str, partition: u16, asks: u64) -> LinkId {
    let link = bench.subscribe(&wanted(name, Some(partition))).unwrap();
    bench.grant(link, asks, 1_000);
    link
}

/// Pushes an event for each key; its partition is the key modulo their number.
fn push(bench: &mut Bench, keys: impl IntoIterator<Item = u64>) {
    for key in keys {
        bench.push(Some(key));
    }
}

#[test]
fn demand_of_a_partitions_consumer_goes_when_it_does_and_events_wait_for_the_next() {
    let mut bench = bench(2);
    let a = join(&mut bench, "a", 0, 10);
    assert_eq!(bench.output.demand(), 10);
    bench.close(a);
    let b = join(&mut bench, "a", 1, 5);
    assert_eq!(bench.output.demand(), 5, "its name may take another partition");
    bench.close(b);
    push(&mut bench, 0..4);
    assert_eq!((bench.output.demand(), bench.undispatched()), (0, 4));
}

#[test]
fn a_partitions_consumer_gets_what_it_asks_for() {
    let mut bench = bench(1);
    let a = join(&mut bench, "a", 0, 3);
    push(&mut bench, [1]);
    assert_eq!((bench.offsets(a), bench.output.demand()), (vec![0], 2));
    bench.grant(a, 6, 1_000);
    assert_eq!(bench.output.demand(), 5);
    push(&mut bench, [2, 5, 6, 7, 8, 9, 11]);
    assert_eq!((bench.offsets(a), bench.output.demand(), bench.undispatched()), ((1..6).collect(), 0, 2));
}

#[test]
fn the_author_partitions_by_the_key() {
    let mut bench = bench(2);
    let odd = join(&mut bench, "odd", 1, 3);
    push(&mut bench, [1, 3, 2, 5]);
    assert_eq!(bench.offsets(odd), [0, 1, 3]);
    let even = join(&mut bench, "even", 0, 3);
    assert_eq!(bench.offsets(even), [2]);
    push(&mut bench, [u64::MAX]);
    bench.grant(odd, 4, 1_000);
    assert_eq!(bench.offsets(odd), [4]);
}

#[test]
fn an_event_without_a_key_goes_to_nobody_and_costs_no_demand() {
    let mut bench = bench(2);
    let (even, odd) = (join(&mut bench, "even", 0, 4), join(&mut bench, "odd", 1, 4));
    assert_eq!(bench.output.demand(), 8);
    for number in 1..=12_u64 {
        bench.push((number % 3 != 0).then_some(number));
    }
    assert_eq!((bench.offsets(even), bench.offsets(odd)), (vec![1, 3, 7, 9], vec![0, 4, 6, 10]));
    assert_eq!((bench.output.demand(), bench.undispatched()), (0, 0));
    assert_eq!(bench.settled_offsets(), [2, 5, 8, 11]);
}

#[test]
fn what_comes_before_its_partitions_consumer_waits_for_it() {
    let mut bench = bench(2);
    let one = join(&mut bench, "one", 1, 5);
    push(&mut bench, [2, 4, 6, 8, 10]);
    assert_eq!((bench.offsets(one), bench.output.demand()), (vec![], 0), "a hot partition holds demand back");
    push(&mut bench, [12, 14]);
    let zero = join(&mut bench, "zero", 0, 5);
    assert_eq!((bench.offsets(zero), bench.output.demand()), ((0..5).collect(), 3));
    push(&mut bench, [1, 3]);
    assert_eq!((bench.offsets(one), bench.offsets(zero)), (vec![7, 8], vec![]));
}

#[test]
fn what_a_partitions_consumer_has_not_asked_for_waits_for_it_and_nobody_else() {
    let mut bench = bench(2);
    let (zero, one) = (join(&mut bench, "zero", 0, 5), join(&mut bench, "one", 1, 5));
    assert_eq!(bench.output.demand(), 10);
    push(&mut bench, std::iter::repeat_n(4, 10));
    assert_eq!((bench.offsets(zero), bench.offsets(one)), ((0..5).collect(), vec![]));
    assert_eq!(bench.output.demand(), 0);
    bench.grant(zero, 10, 1_000);
    assert_eq!((bench.offsets(zero), bench.output.demand()), ((5..10).collect(), 5));
}

#[test]
fn n4_a_partitions_queue_survives_its_consumer() {
    let mut bench = bench(2);
    let (zero, one) = (join(&mut bench, "zero", 0, 2), join(&mut bench, "one", 1, 10));
    push(&mut bench, [2, 4, 1, 6]);
    bench.output.push_info(1).unwrap();
    assert_eq!((bench.offsets(zero), bench.offsets(one)), (vec![0, 1], vec![2]));
    bench.close(zero);
    assert_eq!((bench.output.poll_info(), bench.undispatched()), (None, 3), "nothing is dropped");
    let next = join(&mut bench, "next", 0, 10);
    assert_eq!(bench.take(next), [(1, 0, 2), (2, 1, 2), (3, 3, 1)]);
    assert_eq!(bench.output.poll_info(), Some(1));
}

#[test]
fn a_partitions_next_consumer_waits_until_the_draining_one_holds_nothing() {
    let mut bench = bench(2);
    let old = join(&mut bench, "old", 0, 2);
    push(&mut bench, [2, 4, 6]);
    assert_eq!(bench.offsets(old), [0, 1]);
    bench.output.cancel(bench.now, old, Some(bench.now.after(5_000)));
    let new = join(&mut bench, "new", 0, 10);
    assert_eq!((bench.offsets(new), bench.signals()), (vec![], vec![]));
    bench.accept(old, 1, 1);
    bench.release(old, 2, 2).unwrap();
    assert_eq!(bench.take(new), [(1, 1, 2), (2, 2, 1)]);
}

#[test]
fn an_info_comes_at_once_when_no_partition_has_anything_waiting() {
    let mut bench = bench(2);
    bench.output.push_info(1).unwrap();
    assert_eq!(bench.output.poll_info(), Some(1), "without consumers");
    join(&mut bench, "zero", 0, 0);
    join(&mut bench, "one", 1, 3);
    bench.output.push_info(2).unwrap();
    assert_eq!((bench.output.poll_info(), bench.output.demand()), (Some(2), 3));
}

#[test]
fn an_info_waits_for_the_partition_that_is_backed_up() {
    let mut bench = bench(2);
    let (zero, one) = (join(&mut bench, "zero", 0, 0), join(&mut bench, "one", 1, 3));
    push(&mut bench, [1, 2, 5]);
    bench.output.push_info(1).unwrap();
    assert_eq!((bench.offsets(one), bench.output.poll_info()), (vec![0, 2], None));
    bench.grant(zero, 5, 1_000);
    bench.offsets(zero);
    assert_eq!(bench.output.poll_info(), Some(1));
}

#[test]
fn a_partition_that_the_group_does_not_have_is_refused() {
    let mut bench = bench(2);
    for partition in [2, u16::MAX] {
        assert!(matches!(bench.subscribe(&wanted("a", Some(partition))), Err(LinkError::Partition(_))));
    }
    assert_eq!(bench.output.links(), []);
}

#[test]
fn a_partition_is_named_exactly_where_partitions_are_fixed() {
    let mut fixed = bench(2);
    assert!(matches!(fixed.subscribe(&wanted("a", None)), Err(LinkError::Partition(_))));
    let mut elastic = Bench::new(&["convert"]);
    assert!(matches!(elastic.subscribe(&wanted("a", Some(0))), Err(LinkError::Partition(_))));
    let attached = Subscribe { kind: GroupKind::Attached, ..wanted("a", Some(0)) };
    assert!(matches!(elastic.subscribe(&attached), Err(LinkError::Partition(_))));
    assert_eq!(elastic.output.groups().count(), 1);
}

#[test]
fn no_partition_and_more_than_there_can_be_count_as_the_nearest_number() {
    for (partitions, last) in [(0, 0), (u16::MAX, 4_095)] {
        let mut bench = bench(partitions);
        let link = join(&mut bench, "a", last, 10);
        assert!(bench.subscribe(&wanted("b", Some(last + 1))).is_err());
        push(&mut bench, [u64::from(last)]);
        assert_eq!(bench.offsets(link), [0]);
    }
}

#[test]
fn a_partition_that_is_taken_is_refused_to_all_but_its_own_instance() {
    let mut bench = bench(2);
    let zero = join(&mut bench, "zero", 0, 10);
    assert!(matches!(bench.subscribe(&wanted("other", Some(0))), Err(LinkError::Partition(_))));
    push(&mut bench, [2]);
    assert_eq!(bench.offsets(zero), [0]);
    let again = bench.subscribe(&Subscribe { link_counter: 2, ..wanted("zero", Some(0)) }).unwrap();
    bench.grant(again, 10, 1_000);
    assert_eq!(bench.take(again), [(1, 0, 2)]);
}

#[test]
fn a_selector_applies_in_partitions_too() {
    let selectors = [("large".to_owned(), Selector::new(|event| event.size() >= 30))].into();
    let groups = vec![RequiredGroup { name: "convert".into(), dispatch: Dispatch::Fixed { partitions: 2 } }];
    let mut bench = Bench::with(OutputConfig { groups, selectors, ..config(&[]) });
    bench.push_sized(Some(0), 10);
    bench.push_sized(Some(0), 30);
    bench.push_sized(None, 30);
    let wanted = Subscribe { selector: Some("large".into()), ..wanted("zero", Some(0)) };
    let zero = bench.subscribe(&wanted).unwrap();
    bench.grant(zero, 10, 1_000);
    assert_eq!((bench.offsets(zero), bench.settled_offsets()), (vec![1], vec![2, 0]));
}

/// Sends each event to the member with the name of its size, and asks for events only when none has credit left.
#[derive(Debug, Default)]
struct BySize {
    told: Vec<String>,
}

impl Dispatcher for BySize {
    fn joined(&mut self, member: &Member) {
        self.told.push(format!("joined {}", member.name));
    }

    fn asked(&mut self, member: &Member) {
        self.told.push(format!("asked {} {}", member.name, member.unused));
    }

    fn left(&mut self, member: &Member) {
        self.told.push(format!("left {}", member.name));
    }

    fn pick(&mut self, event: &Event, members: &[Member]) -> Option<LinkId> {
        assert!(!self.told.is_empty(), "members join before they are picked");
        let name = event.size().to_string();
        members.iter().find(|member| member.name == name).map(|member| member.link)
    }

    fn demand(&self, unused: u64) -> u64 {
        if self.told.iter().any(|told| told == "asked 10 4") { unused } else { 0 }
    }
}

#[test]
fn a_dispatcher_of_ones_own_picks_the_member_and_what_it_places_nowhere_waits_in_order() {
    let mut bench = with(Dispatch::Custom(NewDispatcher::new(BySize::default)));
    let (ten, twenty) = (bench.join("convert", "10"), bench.join("convert", "20"));
    bench.grant(twenty, 2, 1_000);
    assert_eq!(bench.output.demand(), 0, "the dispatcher says so");
    bench.grant(ten, 4, 1_000);
    assert_eq!(bench.output.demand(), 6);
    for size in [10, 20, 20, 20, 10, 30, 10] {
        bench.push_sized(Some(1), size);
    }
    assert_eq!(bench.output.demand(), 0);
    assert_eq!((bench.offsets(ten), bench.offsets(twenty)), (vec![0], vec![1, 2]), "the third 20 has no credit");
    bench.grant(twenty, 3, 1_000);
    assert_eq!((bench.offsets(ten), bench.offsets(twenty)), (vec![4], vec![3]), "nobody is called 30");
    let thirty = bench.member("convert", "30");
    assert_eq!((bench.offsets(thirty), bench.offsets(ten)), (vec![5], vec![6]));
    bench.close(ten);
    assert_eq!(bench.undispatched(), 3);
    let again = bench.member("convert", "10");
    assert_eq!(bench.take(again), [(1, 0, 2), (2, 4, 2), (3, 6, 2)]);
}

#[test]
fn what_is_too_large_is_rejected_whatever_a_dispatcher_says() {
    let mut bench = with(Dispatch::Custom(NewDispatcher::new(BySize::default)));
    let ten = bench.member("convert", "10");
    bench.push_sized(None, 2_000);
    bench.push(None);
    assert_eq!(bench.offsets(ten), [1]);
    assert!(bench.settled()[0].refused.is_some());
}
