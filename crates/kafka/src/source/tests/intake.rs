//! The machine without IO, against a model that keeps every record.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use crate::source::intake::{BatchId, Intake, Limits, Place, REVOKE_WAIT};

const LIMITS: Limits = Limits { held_records: 40, held_bytes: 1_000, batch_records: 5, batch_bytes: 300 };

fn place(partition: i32) -> Place {
    Place { topic: 0, partition }
}

fn read(intake: &mut Intake<i64>, partition: i32, offsets: std::ops::Range<i64>) {
    offsets.for_each(|offset| intake.record(place(partition), offset, 10, offset));
}

#[test]
fn partitions_take_turns_and_a_batch_waits_for_the_one_before_it() {
    let mut intake = Intake::new(LIMITS);
    (0..2).for_each(|partition| intake.assign(place(partition), None));
    (0..2).for_each(|partition| read(&mut intake, partition, 0..10));
    let first = intake.next_batch().unwrap();
    let second = intake.next_batch().unwrap();
    assert_eq!((first.id.place, second.id.place), (place(0), place(1)));
    assert_eq!(first.items, [0, 1, 2, 3, 4]);
    assert!(intake.next_batch().is_none());
    intake.taken(second.id);
    assert_eq!(intake.next_batch().unwrap().items, [5, 6, 7, 8, 9]);
}

#[test]
fn a_hot_partition_is_paused_at_its_share_and_the_others_go_on() {
    let (mut intake, now) = (Intake::new(LIMITS), Instant::now());
    (0..2).for_each(|partition| intake.assign(place(partition), None));
    read(&mut intake, 0, 0..21);
    assert_eq!(intake.pauses(now), (vec![place(0)], vec![]));
    assert!(!intake.is_full() && intake.reads(place(1)));
    let first = intake.next_batch().unwrap();
    assert_eq!(intake.pauses(now), (vec![], vec![]), "not before half of it is gone");
    intake.taken(first.id);
    for _ in 0..2 {
        let next = intake.next_batch().unwrap();
        intake.taken(next.id);
    }
    assert_eq!(intake.pauses(now), (vec![], vec![place(0)]));
}

#[test]
fn without_any_room_all_are_paused_after_a_while_so_that_the_client_can_be_polled() {
    let (mut intake, now) = (Intake::new(LIMITS), Instant::now());
    (0..2).for_each(|partition| intake.assign(place(partition), None));
    (0..2).for_each(|partition| read(&mut intake, partition, 0..20));
    assert!(intake.is_full());
    assert_eq!(intake.pauses(now), (vec![], vec![]));
    assert_eq!(intake.pauses(now + Duration::from_secs(1)), (vec![place(0), place(1)], vec![]));
    assert!(intake.is_paused());
}

#[test]
fn a_revoked_partition_waits_for_what_is_in_flight_and_its_commit() {
    let (mut intake, now) = (Intake::new(LIMITS), Instant::now());
    intake.assign(place(0), None);
    read(&mut intake, 0, 0..8);
    let first = intake.next_batch().unwrap();
    intake.taken(first.id);
    intake.revoke(place(0), now);
    assert!(first.dropped.load(std::sync::atomic::Ordering::Relaxed) && intake.next_batch().is_none());
    assert_eq!(intake.released(now), []);
    intake.settled(first.id);
    assert_eq!(intake.released(now), [], "not committed yet");
    assert_eq!(intake.commit(now), Some(vec![(place(0), 5)]), "what was held comes again");
    intake.committed(true, now);
    assert_eq!(intake.released(now), [(place(0), false)]);
}

#[test]
fn a_revoked_partition_goes_in_the_end_with_what_is_settled_by_then() {
    let (mut intake, now) = (Intake::new(LIMITS), Instant::now());
    intake.assign(place(0), None);
    read(&mut intake, 0, 0..8);
    let first = intake.next_batch().unwrap();
    intake.taken(first.id);
    let second = intake.next_batch().unwrap();
    intake.taken(second.id);
    intake.revoke(place(0), now);
    intake.settled(first.id);
    let late = now + REVOKE_WAIT;
    assert_eq!(intake.commit(now), Some(vec![(place(0), 5)]));
    assert_eq!(intake.released(late), [], "its commit is under way");
    intake.committed(true, late);
    assert_eq!(intake.released(late), [(place(0), false)]);
    intake.settled(second.id);
    assert_eq!(intake.commit(late + REVOKE_WAIT), None);
}

#[test]
fn what_comes_back_of_an_earlier_generation_changes_nothing() {
    let (mut intake, now) = (Intake::new(LIMITS), Instant::now());
    intake.assign(place(0), None);
    read(&mut intake, 0, 0..5);
    let old = intake.next_batch().unwrap();
    intake.taken(old.id);
    intake.settled(old.id);
    assert_eq!(intake.commit(now), Some(vec![(place(0), 5)]));
    intake.lose(place(0));
    intake.assign(place(0), None);
    read(&mut intake, 0, 0..5);
    let new = intake.next_batch().unwrap();
    intake.committed(true, now);
    intake.settled(old.id);
    intake.settled(old.id);
    let later = now + Duration::from_secs(1);
    assert_eq!(intake.commit(later), None);
    intake.taken(new.id);
    intake.settled(new.id);
    assert_eq!(intake.commit(later), Some(vec![(place(0), 5)]));
}

#[derive(Debug, Clone)]
enum Act {
    Assign(i32),
    Revoke(i32),
    Lose(i32),
    Read { partition: i32, gap: i64, bytes: u64 },
    Offer,
    Take(usize),
    Settle(usize),
    Commit,
    Answer(bool),
    Wait(u64),
    Release,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let partition = 0_i32..3;
    let act = prop_oneof![
        2 => partition.clone().prop_map(Act::Assign),
        1 => partition.clone().prop_map(Act::Revoke),
        1 => partition.clone().prop_map(Act::Lose),
        12 => (partition, 0_i64..3, 1_u64..200).prop_map(|(partition, gap, bytes)| Act::Read { partition, gap, bytes }),
        6 => Just(Act::Offer),
        6 => any::<usize>().prop_map(Act::Take),
        6 => any::<usize>().prop_map(Act::Settle),
        4 => Just(Act::Commit),
        4 => any::<bool>().prop_map(Act::Answer),
        2 => (0_u64..9_000).prop_map(Act::Wait),
        2 => Just(Act::Release),
    ];
    proptest::collection::vec(act, 0..300)
}

/// Every record by partition and offset: whether some batch that had it was settled, in whatever generation.
#[derive(Default)]
struct Model {
    settled: BTreeSet<(i32, i64)>,
    read: BTreeMap<i32, BTreeSet<i64>>,
    next: BTreeMap<i32, i64>,
    committed: BTreeMap<i32, i64>,
    offered: Vec<(BatchId, Vec<i64>)>,
    taken: Vec<(BatchId, Vec<i64>)>,
    last_offered: BTreeMap<i32, i64>,
}

proptest! {
    #[test]
    fn nothing_unsettled_is_ever_committed_and_each_partition_is_offered_in_order(acts in acts()) {
        let (mut intake, mut now, mut model) = (Intake::new(LIMITS), Instant::now(), Model::default());
        let (mut ours, mut committing): (BTreeSet<i32>, Option<Vec<(Place, i64)>>) = Default::default();
        for act in acts {
            match act {
                Act::Assign(partition) if !ours.contains(&partition) => {
                    ours.insert(partition);
                    intake.assign(place(partition), None);
                    // A new owner begins where the group is.
                    let from = model.committed.get(&partition).copied().unwrap_or(0);
                    model.next.insert(partition, from);
                    model.last_offered.insert(partition, -1);
                }
                Act::Revoke(partition) => intake.revoke(place(partition), now),
                Act::Lose(partition) => {
                    ours.remove(&partition);
                    intake.lose(place(partition));
                }
                Act::Read { partition, gap, bytes } if intake.reads(place(partition)) && !intake.is_full() => {
                    let next = model.next.get_mut(&partition).unwrap();
                    let known = model.read.entry(partition).or_default();
                    // What was read once is there again; new records may leave gaps.
                    let offset = known.range(*next..).next().copied().unwrap_or(*next + gap);
                    known.insert(offset);
                    *next = offset + 1;
                    intake.record(place(partition), offset, bytes, offset);
                }
                Act::Offer => if let Some(batch) = intake.next_batch() {
                    let partition = batch.id.place.partition;
                    prop_assert!(batch.items.len() <= LIMITS.batch_records && !batch.items.is_empty());
                    let last = model.last_offered.insert(partition, *batch.items.last().unwrap()).unwrap();
                    prop_assert!(batch.items[0] > last && batch.items.is_sorted());
                    prop_assert!(!model.offered.iter().any(|(id, _)| *id == batch.id));
                    model.offered.push((batch.id, batch.items));
                },
                Act::Take(pick) if !model.offered.is_empty() => {
                    let batch = model.offered.swap_remove(pick % model.offered.len());
                    intake.taken(batch.0);
                    model.taken.push(batch);
                }
                Act::Settle(pick) if !model.taken.is_empty() => {
                    let (id, items) = model.taken.swap_remove(pick % model.taken.len());
                    model.settled.extend(items.iter().map(|offset| (id.place.partition, *offset)));
                    intake.settled(id);
                }
                Act::Commit => if let Some(offsets) = intake.commit(now) {
                    prop_assert!(committing.is_none());
                    for (place, offset) in &offsets {
                        let partition = place.partition;
                        prop_assert!(ours.contains(&partition));
                        let before = model.read.get(&partition).into_iter().flat_map(|read| read.range(..*offset));
                        for below in before {
                            prop_assert!(model.settled.contains(&(partition, *below)), "{below} is below {offset}");
                        }
                    }
                    committing = Some(offsets);
                },
                Act::Answer(ok) => if let Some(offsets) = committing.take() {
                    // The broker refuses what a former owner commits.
                    for (place, offset) in offsets.into_iter().filter(|(place, _)| ok && ours.contains(&place.partition)) {
                        let known = model.committed.entry(place.partition).or_default();
                        *known = offset.max(*known);
                    }
                    intake.committed(ok, now);
                },
                Act::Wait(ms) => now += Duration::from_millis(ms),
                Act::Release => for (place, _) in intake.released(now) {
                    ours.remove(&place.partition);
                },
                Act::Assign(_) | Act::Read { .. } | Act::Take(_) | Act::Settle(_) => {}
            }
            intake.pauses(now);
            prop_assert_eq!(intake.places().len(), ours.len());
        }
        // What is left in flight is settled: then nothing is in the way of a drain.
        intake.drain();
        for (id, _) in model.offered { intake.dropped(id); }
        for (id, _) in model.taken { intake.settled(id); }
        if committing.is_some() { intake.committed(true, now); }
        now += Duration::from_secs(60);
        while intake.commit(now).is_some() { intake.committed(true, now); }
        prop_assert!(intake.is_drained() && !intake.is_full());
    }
}
