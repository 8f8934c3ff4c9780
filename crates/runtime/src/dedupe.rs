//! Copies of events: the first one of an identity goes through, the others share what becomes of it.
//!
//! ```text
//!   arrived --+-- new --------> pending, its owner goes on --+-- accepted --> remembered --window--> forgotten
//!             |                    ^                         +-- rejected --> forgotten
//!             |                    |                         +-- given up ---> its first copy owns it; none: forgotten
//!             +-- of a pending one: waits, and shares its owner's outcome
//!             +-- of a remembered one: accepted at once
//! ```
//!
//! A copy that waits may yet become the owner. So what comes behind it of its key waits too, and order holds. Everything waits only
//! for what arrived before it: an owner before its copies, a copy before what stands behind it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use jaiminho_core::{Event, InputId, KeyHash, Outcome, Time};
use jaiminho_telemetry::names;

use crate::{
    lanes::Work,
    stage::Transform,
    task::{Doing, Task},
};

/// Which copies of events a [`Transform`] does not get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dedupe {
    /// How long an identity is remembered after its event was accepted.
    pub window: Duration,
    /// Identities known at once, pending ones included. Beyond it the oldest of those remembered is forgotten; where all are pending,
    /// a new event goes through as if it had none.
    pub ids_max: usize,
}

/// What a known identity costs: three entries of tables that double as they grow.
pub const ID_BYTES: u64 = 256;
/// What an event that waits costs beside its place in a window: two entries of trees.
pub const WAITING_BYTES: u64 = 384;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Pending,
    Accepted,
}

/// Where an event waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    Keyed(KeyHash),
    /// By the event's arrival: nothing waits behind it.
    Keyless(u64),
}

#[derive(Debug)]
struct Waiting {
    work: Work,
    /// None: it waits only for what stands before it in its lane.
    copy_of: Option<u128>,
}

/// What is to be done with an event that has arrived.
#[derive(Debug)]
pub(crate) enum Arrived {
    GoesOn(Work),
    Waits,
    /// A copy of one that was accepted.
    Known(Work),
}

/// The identities that a stage knows, and what waits because of them.
pub(crate) struct Copies {
    transform: Arc<dyn Transform>,
    window_ms: u64,
    ids_max: usize,
    ids: HashMap<u128, Known>,
    /// The inputs that own the pending ones.
    owners: HashMap<InputId, u128>,
    /// The accepted ones, in order of that time.
    remembered: VecDeque<(Time, u128)>,
    /// By lane and arrival.
    waiting: BTreeMap<(Lane, u64), Waiting>,
    /// Which of these are copies, by identity and arrival.
    copies: BTreeMap<(u128, u64), Lane>,
    /// Lanes of which something may go on.
    moving: BTreeSet<Lane>,
    arrivals: u64,
    dropped: u64,
    forgotten: u64,
}

impl Copies {
    /// None: the transform gets all copies.
    pub(crate) fn of(transform: &Arc<dyn Transform>) -> Option<Box<Self>> {
        let Dedupe { window, ids_max } = transform.dedupe()?;
        Some(Box::new(Self {
            transform: transform.clone(),
            window_ms: window.as_millis() as u64,
            ids_max,
            ids: HashMap::new(),
            owners: HashMap::new(),
            remembered: VecDeque::new(),
            waiting: BTreeMap::new(),
            copies: BTreeMap::new(),
            moving: BTreeSet::new(),
            arrivals: 0,
            dropped: 0,
            forgotten: 0,
        }))
    }

    pub(crate) fn arrived(&mut self, now: Time, work: Work) -> Arrived {
        self.expire(now);
        let id = self.identity(&work.event);
        let copy_of = match id.and_then(|id| self.ids.get(&id)) {
            Some(Known::Accepted) => {
                self.dropped += 1;
                return Arrived::Known(work);
            }
            Some(Known::Pending) => id,
            None => {
                if let Some(id) = id.filter(|_| self.has_room()) {
                    self.ids.insert(id, Known::Pending);
                    self.owners.insert(work.input, id);
                }
                None
            }
        };
        self.arrivals += 1;
        let (arrival, lane) = (self.arrivals, work.event.key.map_or(Lane::Keyless(self.arrivals), Lane::Keyed));
        if copy_of.is_none() && self.first_of(lane).is_none() {
            return Arrived::GoesOn(work);
        }
        if let Some(id) = copy_of {
            self.copies.insert((id, arrival), lane);
        }
        self.waiting.insert((lane, arrival), Waiting { work, copy_of });
        Arrived::Waits
    }

    fn identity(&self, event: &Event) -> Option<u128> {
        // An author's panic must not end the stage's task.
        std::panic::catch_unwind(AssertUnwindSafe(|| self.transform.identity(event))).unwrap_or_default()
    }

    /// Room for one more identity.
    fn has_room(&mut self) -> bool {
        if self.ids.len() < self.ids_max {
            return true;
        }
        self.forgotten += 1;
        let oldest = self.remembered.pop_front();
        oldest.is_some_and(|(_, oldest)| self.ids.remove(&oldest).is_some())
    }

    /// Forgets what is older than the window.
    fn expire(&mut self, now: Time) {
        while let Some((_, id)) = self.remembered.pop_front_if(|(since, _)| now.since(*since) >= self.window_ms) {
            self.ids.remove(&id);
        }
    }

    fn first_of(&self, lane: Lane) -> Option<(Lane, u64)> {
        self.waiting.range((lane, 0)..=(lane, u64::MAX)).next().map(|(place, _)| *place)
    }

    /// An owner is settled: its copies, which share its outcome.
    pub(crate) fn settled(&mut self, now: Time, input: InputId, is_accepted: bool) -> Vec<Work> {
        let Some(id) = self.owners.remove(&input) else { return Vec::new() };
        if is_accepted {
            self.ids.insert(id, Known::Accepted);
            self.remembered.push_back((now, id));
        } else {
            self.ids.remove(&id);
        }
        let copies = self.copies.extract_if((id, 0)..=(id, u64::MAX), |_, _| true);
        let places: Vec<(Lane, u64)> = copies.map(|((_, arrival), lane)| (lane, arrival)).collect();
        self.moving.extend(places.iter().map(|(lane, _)| *lane));
        let copies: Vec<Work> = places.iter().filter_map(|place| Some(self.waiting.remove(place)?.work)).collect();
        self.dropped += copies.len() as u64;
        copies
    }

    /// An input is given up, its outcome unknown: where it is an owner, its first copy takes its place.
    pub(crate) fn given_up(&mut self, input: InputId) {
        let Some(id) = self.owners.remove(&input) else { return };
        let first = self.copies.range((id, 0)..=(id, u64::MAX)).next().map(|((_, arrival), lane)| (*lane, *arrival));
        let Some((place, heir)) = first.and_then(|place| Some((place, self.waiting.get_mut(&place)?))) else {
            self.ids.remove(&id);
            return;
        };
        heir.copy_of = None;
        self.owners.insert(heir.work.input, id);
        self.copies.remove(&(id, place.1));
        self.moving.insert(place.0);
    }

    /// Takes back what waits, where `wanted`.
    pub(crate) fn recall(&mut self, mut wanted: impl FnMut(&Work) -> bool) -> Vec<Work> {
        let mut recalled = Vec::new();
        for ((lane, arrival), Waiting { work, copy_of }) in
            self.waiting.extract_if(.., |_, waiting| wanted(&waiting.work))
        {
            if let Some(id) = copy_of {
                self.copies.remove(&(id, arrival));
            }
            self.moving.insert(lane);
            recalled.push(work);
        }
        recalled
    }

    /// What no longer waits, in order.
    pub(crate) fn moved(&mut self) -> Vec<Work> {
        let mut moved = Vec::new();
        for lane in std::mem::take(&mut self.moving) {
            while let Some(first) = self.first_of(lane).filter(|first| self.waiting[first].copy_of.is_none()) {
                moved.extend(self.waiting.remove(&first).map(|waiting| waiting.work));
            }
        }
        moved
    }

    fn count(&mut self, now: Time, stage: &str) {
        self.expire(now);
        let stage = stage.to_owned();
        metrics::counter!(names::DUPLICATES, "stage" => stage.clone()).absolute(self.dropped);
        metrics::counter!(names::IDS_FORGOTTEN, "stage" => stage.clone()).absolute(self.forgotten);
        metrics::gauge!(names::DUPLICATES_WAITING, "stage" => stage.clone()).set(self.copies.len() as f64);
        metrics::gauge!(names::IDS_KNOWN, "stage" => stage).set(self.ids.len() as f64);
    }
}

impl Task {
    fn copies(&mut self) -> Option<&mut Copies> {
        match &mut self.doing {
            Doing::Transform { copies, .. } => copies.as_deref_mut(),
            Doing::Source(_) | Doing::Sink(_) | Doing::Handler(_) => None,
        }
    }

    /// An event for a transform has arrived.
    pub(crate) fn start_one(&mut self, work: Work) {
        let Doing::Transform { lanes, copies, .. } = &mut self.doing else { return };
        let arrived = match copies {
            None => Arrived::GoesOn(work),
            Some(copies) => copies.arrived(self.clock.now, work),
        };
        match arrived {
            Arrived::GoesOn(work) => lanes.push(work),
            Arrived::Waits => {}
            Arrived::Known(Work { input, event }) => {
                self.processed(input, event.size());
                self.seal(input);
            }
        }
    }

    /// An input is settled: so are the copies of its event.
    pub(crate) fn settle_copies(&mut self, input: InputId, outcome: &Outcome) {
        let now = self.clock.now;
        let Some(copies) = self.copies() else { return };
        for Work { input, event } in copies.settled(now, input, *outcome == Outcome::Accepted) {
            self.processed(input, event.size());
            if let Outcome::Rejected(rejection) = outcome {
                self.drop_behind_input(input, event.key);
                self.inputs.reject(input, (**rejection).clone());
            }
            self.seal(input);
        }
    }

    /// Writes the metrics.
    pub(crate) fn count_copies(&mut self) {
        if let Doing::Transform { copies: Some(copies), .. } = &mut self.doing {
            copies.count(self.clock.now, &self.stage);
        }
    }

    /// An input was given up.
    pub(crate) fn give_up_copies(&mut self, input: InputId) {
        if let Some(copies) = self.copies() {
            copies.given_up(input);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::BoxFuture;

    use super::*;
    use crate::stage::{Failure, Verdict};

    /// An event's payload is its identity; `?` has none, at `!` it panics.
    struct Named(Dedupe);

    impl Transform for Named {
        fn dedupe(&self) -> Option<Dedupe> {
            Some(self.0)
        }

        fn identity(&self, event: &Event) -> Option<u128> {
            assert_ne!(*event.payload, *b"!");
            (*event.payload != *b"?").then(|| u128::from(event.payload[0]))
        }

        fn process<'a>(&'a self, _: &'a Event) -> BoxFuture<'a, Result<Verdict, Failure>> {
            unreachable!("nobody calls it")
        }
    }

    fn copies(ids_max: usize) -> Copies {
        let named: Arc<dyn Transform> = Arc::new(Named(Dedupe { window: Duration::from_millis(100), ids_max }));
        *Copies::of(&named).unwrap()
    }

    /// What becomes of the event `name` of a key at a time; its input's number.
    fn arrives(copies: &mut Copies, now: u64, input: u64, name: &str, key: Option<u64>) -> &'static str {
        let event = Event { key: key.map(KeyHash), ..Event::new(name.as_bytes().to_vec()) };
        match copies.arrived(Time(now), Work { input: InputId(input), event }) {
            Arrived::GoesOn(_) => "goes on",
            Arrived::Waits => "waits",
            Arrived::Known(_) => "known",
        }
    }

    fn inputs(work: Vec<Work>) -> Vec<u64> {
        work.into_iter().map(|work| work.input.0).collect()
    }

    #[test]
    fn a_copy_waits_until_the_first_is_accepted_and_from_then_on_is_known_for_the_window() {
        let mut copies = copies(10);
        assert_eq!(arrives(&mut copies, 0, 1, "a", None), "goes on");
        assert_eq!(arrives(&mut copies, 10, 2, "a", None), "waits");
        assert_eq!(arrives(&mut copies, 10, 3, "b", None), "goes on");
        assert_eq!(arrives(&mut copies, 10, 4, "a", None), "waits");
        assert_eq!(inputs(copies.settled(Time(50), InputId(1), true)), [2, 4]);
        assert_eq!(inputs(copies.moved()), [0; 0]);
        assert_eq!(arrives(&mut copies, 149, 5, "a", None), "known");
        assert_eq!(arrives(&mut copies, 150, 6, "a", None), "goes on");
        assert_eq!((copies.dropped, copies.forgotten), (3, 0));
        assert!(copies.waiting.is_empty() && copies.copies.is_empty());
    }

    #[test]
    fn what_was_rejected_is_forgotten_once_its_copies_have_shared_that() {
        let mut copies = copies(10);
        arrives(&mut copies, 0, 1, "a", None);
        arrives(&mut copies, 0, 2, "a", None);
        assert_eq!(inputs(copies.settled(Time(0), InputId(1), false)), [2]);
        assert_eq!(arrives(&mut copies, 0, 3, "a", None), "goes on");
    }

    #[test]
    fn the_first_copy_takes_the_place_of_what_is_given_up_and_without_one_it_is_forgotten() {
        let mut copies = copies(10);
        for input in 1..=3 {
            arrives(&mut copies, 0, input, "a", None);
        }
        copies.given_up(InputId(1));
        assert_eq!(inputs(copies.moved()), [2]);
        assert_eq!(inputs(copies.settled(Time(0), InputId(1), true)), [0; 0], "it owns nothing any more");
        assert_eq!(inputs(copies.settled(Time(0), InputId(2), true)), [3]);
        arrives(&mut copies, 0, 4, "b", None);
        copies.given_up(InputId(4));
        assert_eq!(arrives(&mut copies, 0, 5, "b", None), "goes on");
    }

    #[test]
    fn what_comes_behind_a_waiting_copy_of_its_key_waits_and_keeps_its_order() {
        let mut copies = copies(10);
        assert_eq!(arrives(&mut copies, 0, 1, "a", Some(7)), "goes on");
        assert_eq!(arrives(&mut copies, 0, 2, "a", Some(7)), "waits");
        assert_eq!(arrives(&mut copies, 0, 3, "b", Some(7)), "waits");
        assert_eq!(arrives(&mut copies, 0, 4, "?", Some(7)), "waits", "what has no identity, too");
        assert_eq!(arrives(&mut copies, 0, 5, "b", Some(7)), "waits");
        assert_eq!(arrives(&mut copies, 0, 6, "c", Some(7)), "waits");
        assert_eq!(arrives(&mut copies, 0, 7, "d", Some(8)), "goes on");
        assert_eq!(inputs(copies.moved()), [0; 0]);
        copies.given_up(InputId(1));
        assert_eq!(inputs(copies.moved()), [2, 3, 4], "up to the copy of `b`");
        assert_eq!(inputs(copies.settled(Time(0), InputId(3), true)), [5]);
        assert_eq!(inputs(copies.moved()), [6]);
    }

    #[test]
    fn what_is_recalled_lets_go_on_what_stood_behind_it() {
        let mut copies = copies(10);
        for (input, name) in [(1, "a"), (2, "a"), (3, "b"), (4, "a"), (5, "c")] {
            arrives(&mut copies, 0, input, name, Some(7));
        }
        assert_eq!(inputs(copies.recall(|work| work.input == InputId(2))), [2]);
        copies.given_up(InputId(2));
        assert_eq!(inputs(copies.moved()), [3]);
        assert_eq!(inputs(copies.recall(|work| work.input == InputId(5))), [5]);
        copies.given_up(InputId(5));
        assert_eq!(arrives(&mut copies, 0, 6, "c", None), "goes on", "it was forgotten");
        copies.given_up(InputId(1));
        assert_eq!(inputs(copies.moved()), [4], "the first copy of `a` that is still there");
    }

    #[test]
    fn without_room_the_oldest_accepted_is_forgotten_and_a_pending_one_never() {
        let mut copies = copies(2);
        for (input, name) in [(1, "a"), (2, "b")] {
            arrives(&mut copies, 0, input, name, None);
            copies.settled(Time(0), InputId(input), true);
        }
        assert_eq!(arrives(&mut copies, 0, 3, "c", None), "goes on");
        assert_eq!(arrives(&mut copies, 0, 4, "b", None), "known");
        assert_eq!(copies.forgotten, 1, "`a`");
        assert_eq!(arrives(&mut copies, 0, 5, "a", None), "goes on");
        assert_eq!(arrives(&mut copies, 0, 6, "d", None), "goes on");
        assert_eq!(arrives(&mut copies, 0, 7, "d", None), "goes on", "all the room is taken by pending ones");
        assert_eq!(arrives(&mut copies, 0, 8, "c", None), "waits");
        assert_eq!((copies.forgotten, copies.ids.len()), (4, 2));
    }

    #[test]
    fn an_event_without_an_identity_is_a_copy_of_nothing() {
        let mut copies = copies(2);
        for (input, name) in [(1, "?"), (2, "?"), (3, "!")] {
            assert_eq!(arrives(&mut copies, 0, input, name, Some(1)), "goes on");
        }
        assert!(copies.ids.is_empty());
    }

    #[test]
    fn an_identity_and_a_waiting_copy_cost_no_more_than_they_are_said_to() {
        // A hash table is between 7/16 and 7/8 full, with a byte beside each entry, and half of it is there twice as it grows.
        let table = |entry: usize| (entry + 1) * 16 / 7;
        let tables = table(size_of::<(u128, Known)>()) * 3 / 2 + table(size_of::<(InputId, u128)>());
        assert!(tables + 2 * size_of::<(Time, u128)>() <= ID_BYTES as usize, "{tables}");
        // A node of a tree has 5 to 11 entries; its event's own size is in the window's sum.
        let trees = (size_of::<((Lane, u64), Waiting)>() + size_of::<((u128, u64), Lane)>()) * 11 / 5;
        assert!(trees - size_of::<Work>() <= WAITING_BYTES as usize, "{trees}");
    }
}
