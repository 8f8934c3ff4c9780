//! All partitions that this instance reads: what is held of each, what has left, what may be committed. No IO, no clock.
//!
//! ```text
//!             assign                        revoke                              released
//!   (theirs) -------> Reading ------------------------> Leaving(until) -----------------> (theirs)
//!                        |                                   all settled and committed, or late
//!                        +---------------- lost ------------------------------------------> (theirs)
//! ```
//!
//! Each assignment of a partition has a generation of its own: what comes back of an earlier one changes nothing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::offsets::Offsets;

/// Batches of one partition that are offered and not settled.
const BATCHES_MAX: usize = 8;
/// The same, and those settled behind the oldest of them: so much is read again at most when one event takes long.
const SPANS_MAX: usize = 64;
/// How long what is in flight of a revoked partition is waited for.
pub(super) const REVOKE_WAIT: Duration = Duration::from_secs(10);
/// And then for the last commit.
const COMMIT_WAIT: Duration = Duration::from_secs(5);
/// Between two commits: Event Hubs takes four a second of one partition.
const COMMIT_EVERY: Duration = Duration::from_millis(260);
/// With no room at all for so long, all partitions are paused, so that the client can be polled.
const PAUSE_AFTER: Duration = Duration::from_secs(1);

/// One partition of one of the source's topics, which are numbered as in its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    pub(super) topic: usize,
    pub(super) partition: i32,
}

/// Names a batch until it is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchId {
    pub(super) place: Place,
    generation: u64,
    number: u64,
}

/// Records of one partition, in order.
#[derive(Debug)]
pub(super) struct Batch<T> {
    pub(super) id: BatchId,
    pub(super) items: Vec<T>,
    /// True once nobody wants it any more: what is not offered stays so.
    pub(super) dropped: Arc<AtomicBool>,
}

/// What is held at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) held_records: usize,
    pub(super) held_bytes: u64,
    pub(super) batch_records: usize,
    pub(super) batch_bytes: u64,
}

#[derive(Debug)]
struct Held<T> {
    offset: i64,
    bytes: u64,
    item: T,
}

#[derive(Debug)]
struct Partition<T> {
    generation: u64,
    offsets: Offsets,
    held: VecDeque<Held<T>>,
    /// Of these, and of the batch that is offered.
    held_bytes: u64,
    /// Records and bytes of the batch that waits to be taken: the next one would overtake it.
    offering: Option<(usize, u64)>,
    /// Batches that have left and are not settled.
    unsettled: usize,
    paused: bool,
    /// Set: it is revoked, and given back at this time at the latest.
    leaving: Option<Instant>,
    dropped: Arc<AtomicBool>,
}

/// A commit under way.
type Commit = Vec<(Place, u64, i64)>;

/// See the module.
#[derive(Debug)]
pub(super) struct Intake<T> {
    limits: Limits,
    partitions: BTreeMap<Place, Partition<T>>,
    generation: u64,
    held_bytes: u64,
    held_records: usize,
    full_since: Option<Instant>,
    /// Whose batch left last: the next one's is another's.
    last: Option<Place>,
    committing: Option<Commit>,
    commit_at: Option<Instant>,
    /// The last commit: its successor waits in any case.
    commit_failed: bool,
    draining: bool,
}

impl<T> Intake<T> {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            partitions: BTreeMap::new(),
            generation: 0,
            held_bytes: 0,
            held_records: 0,
            full_since: None,
            last: None,
            committing: None,
            commit_at: None,
            commit_failed: false,
            draining: false,
        }
    }

    /// The partition is ours; see [`Offsets::new`].
    pub(super) fn assign(&mut self, place: Place, first: Option<i64>) {
        self.remove(place);
        self.generation += 1;
        let partition = Partition {
            generation: self.generation,
            offsets: Offsets::new(first),
            held: VecDeque::new(),
            held_bytes: 0,
            offering: None,
            unsettled: 0,
            paused: false,
            leaving: None,
            dropped: Arc::default(),
        };
        self.partitions.insert(place, partition);
    }

    /// Nothing more of it is offered; what is in flight is waited for.
    pub(super) fn revoke(&mut self, place: Place, now: Instant) {
        self.drop_held(place);
        if let Some(partition) = self.partitions.get_mut(&place) {
            partition.leaving = Some(now + REVOKE_WAIT);
        }
    }

    /// Another has the partition already: it is forgotten at once.
    pub(super) fn lose(&mut self, place: Place) {
        self.remove(place);
    }

    /// All are lost, and a commit under way will not be answered.
    pub(super) fn lose_all(&mut self) {
        for place in self.places() {
            self.remove(place);
        }
        self.committing = None;
    }

    /// Takes nothing more, offers nothing more.
    pub(super) fn drain(&mut self) {
        self.draining = true;
        for place in self.places() {
            self.drop_held(place);
        }
    }

    /// Whether [`Self::drain`] was said.
    pub(super) fn is_draining(&self) -> bool {
        self.draining
    }

    /// Whether all that was offered is settled and committed.
    pub(super) fn is_drained(&self) -> bool {
        self.draining && self.committing.is_none() && self.partitions.values().all(Partition::is_done)
    }

    /// Whether the partition's records are wanted.
    pub(super) fn reads(&self, place: Place) -> bool {
        !self.draining && self.partitions.get(&place).is_some_and(|partition| partition.leaving.is_none())
    }

    /// A record that is wanted.
    pub(super) fn record(&mut self, place: Place, offset: i64, bytes: u64, item: T) {
        let Some(partition) = self.partitions.get_mut(&place) else { return };
        if partition.offsets.read(offset) {
            partition.held.push_back(Held { offset, bytes, item });
            partition.held_bytes += bytes;
            self.held_bytes += bytes;
            self.held_records += 1;
        }
    }

    /// Whether no further record is taken, whosever it is.
    pub(super) fn is_full(&self) -> bool {
        self.held_bytes >= self.limits.held_bytes || self.held_records >= self.limits.held_records
    }

    /// What is to be offered next. Of a partition one batch after the other; the partitions take turns.
    pub(super) fn next_batch(&mut self) -> Option<Batch<T>> {
        let is_ready = |partition: &Partition<T>| {
            let has_room = partition.unsettled < BATCHES_MAX && partition.offsets.spans() < SPANS_MAX;
            has_room && partition.offering.is_none() && !partition.held.is_empty()
        };
        let mut ready = self.partitions.iter().filter(|(_, partition)| is_ready(partition)).map(|(place, _)| *place);
        let first = ready.next()?;
        let place = match self.last {
            Some(last) if first <= last => ready.find(|place| *place > last).unwrap_or(first),
            Some(_) | None => first,
        };
        self.last = Some(place);
        let partition = self.partitions.get_mut(&place)?;
        let (mut items, mut bytes) = (Vec::new(), 0);
        let number = partition.offsets.leave(partition.held.front()?.offset);
        while let Some(held) = partition.held.pop_front_if(|held| {
            items.is_empty() || items.len() < self.limits.batch_records && bytes + held.bytes <= self.limits.batch_bytes
        }) {
            bytes += held.bytes;
            items.push(held.item);
        }
        partition.offering = Some((items.len(), bytes));
        partition.unsettled += 1;
        let id = BatchId { place, generation: partition.generation, number };
        Some(Batch { id, items, dropped: partition.dropped.clone() })
    }

    /// The stage has the batch.
    pub(super) fn taken(&mut self, id: BatchId) {
        if self.of(id).is_some() {
            self.give_up_offer(id.place);
        }
    }

    /// The stage won't have the batch: its records are never settled here.
    pub(super) fn dropped(&mut self, id: BatchId) {
        self.taken(id);
        if let Some(partition) = self.of(id) {
            partition.unsettled -= 1;
        }
    }

    /// All of a batch that was taken is settled.
    pub(super) fn settled(&mut self, id: BatchId) {
        if let Some(partition) = self.of(id) {
            partition.unsettled -= 1;
            partition.offsets.settle(id.number);
        }
    }

    /// Which partitions to pause, and which to resume: each may hold its share, and is resumed with half of it.
    pub(super) fn pauses(&mut self, now: Instant) -> (Vec<Place>, Vec<Place>) {
        self.full_since = if self.is_full() { self.full_since.or(Some(now)) } else { None };
        let is_stuck = self.full_since.is_some_and(|since| now >= since + PAUSE_AFTER);
        let count = self.partitions.len().max(1);
        let (records, bytes) = (self.limits.held_records / count, self.limits.held_bytes / count as u64);
        let (mut pause, mut resume) = (Vec::new(), Vec::new());
        for (place, partition) in &mut self.partitions {
            let (records, bytes) = if partition.paused { (records / 2, bytes / 2) } else { (records, bytes) };
            let has_share = partition.held.len() > records || partition.held_bytes > bytes;
            let is_paused = has_share || is_stuck || self.draining || partition.paused && self.full_since.is_some();
            if is_paused != partition.paused && partition.leaving.is_none() {
                partition.paused = is_paused;
                if is_paused { &mut pause } else { &mut resume }.push(*place);
            }
        }
        (pause, resume)
    }

    /// Whether all partitions are paused: polling brings no record.
    pub(super) fn is_paused(&self) -> bool {
        self.partitions.values().all(|partition| partition.paused || partition.leaving.is_some())
    }

    /// What to commit now. The answer is due to [`Self::committed`], before anything else is committed.
    pub(super) fn commit(&mut self, now: Instant) -> Option<Vec<(Place, i64)>> {
        let hurries = self.draining || self.partitions.values().any(|partition| partition.leaving.is_some());
        let waits = self.commit_at.is_some_and(|at| now < at) && (self.commit_failed || !hurries);
        if self.committing.is_some() || waits {
            return None;
        }
        let due = |(place, partition): (&Place, &Partition<T>)| Some((*place, partition.generation, partition.due()?));
        let commit: Commit = self.partitions.iter().filter_map(due).collect();
        if commit.is_empty() {
            return None;
        }
        let places = commit.iter().map(|(place, _, offset)| (*place, *offset)).collect();
        self.committing = Some(commit);
        Some(places)
    }

    /// What became of the commit under way. One that failed is tried again.
    pub(super) fn committed(&mut self, ok: bool, now: Instant) {
        self.commit_at = Some(now + COMMIT_EVERY);
        self.commit_failed = !ok;
        for (place, generation, offset) in self.committing.take().into_iter().flatten().filter(|_| ok) {
            let partition = self.partitions.get_mut(&place).filter(|partition| partition.generation == generation);
            if let Some(partition) = partition {
                partition.offsets.committed(offset);
            }
        }
    }

    /// Whether an answer is due to [`Self::committed`].
    pub(super) fn is_committing(&self) -> bool {
        self.committing.is_some()
    }

    /// The revoked partitions, once all of them may go, and which of them are paused.
    pub(super) fn released(&mut self, now: Instant) -> Vec<(Place, bool)> {
        let may_go = |partition: &Partition<T>, until: Instant| {
            let is_quiet = partition.unsettled == 0 || now >= until;
            is_quiet && partition.due().is_none() || now >= until + COMMIT_WAIT
        };
        let leaving =
            self.partitions.iter().filter_map(|(place, partition)| Some((*place, partition, partition.leaving?)));
        let leaving: Vec<_> = leaving.collect();
        if !leaving.iter().all(|(_, partition, until)| may_go(partition, *until)) {
            return Vec::new();
        }
        let places: Vec<(Place, bool)> =
            leaving.iter().map(|(place, partition, _)| (*place, partition.paused)).collect();
        for (place, _) in &places {
            self.remove(*place);
        }
        places
    }

    /// Batches that are offered or taken, and not settled.
    pub(super) fn unsettled(&self) -> usize {
        self.partitions.values().map(|partition| partition.unsettled).sum()
    }

    /// All partitions that are ours.
    pub(super) fn places(&self) -> Vec<Place> {
        self.partitions.keys().copied().collect()
    }

    fn of(&mut self, id: BatchId) -> Option<&mut Partition<T>> {
        self.partitions.get_mut(&id.place).filter(|partition| partition.generation == id.generation)
    }

    fn drop_held(&mut self, place: Place) {
        if let Some(partition) = self.partitions.get_mut(&place) {
            partition.dropped.store(true, Ordering::Relaxed);
            // They stay in the way of what would be committed.
            if let Some(first) = partition.held.front() {
                partition.offsets.leave(first.offset);
            }
            let bytes: u64 = partition.held.iter().map(|held| held.bytes).sum();
            self.held_bytes -= bytes;
            self.held_records -= partition.held.len();
            partition.held_bytes -= bytes;
            partition.held.clear();
        }
    }

    fn give_up_offer(&mut self, place: Place) {
        let Some(partition) = self.partitions.get_mut(&place) else { return };
        if let Some((records, bytes)) = partition.offering.take() {
            partition.held_bytes -= bytes;
            self.held_bytes -= bytes;
            self.held_records -= records;
        }
    }

    fn remove(&mut self, place: Place) {
        self.drop_held(place);
        self.give_up_offer(place);
        self.partitions.remove(&place);
    }
}

impl<T> Partition<T> {
    fn due(&self) -> Option<i64> {
        self.offsets.due(self.held.front().map(|held| held.offset))
    }

    fn is_done(&self) -> bool {
        self.unsettled == 0 && self.due().is_none()
    }
}
