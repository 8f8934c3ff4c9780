//! Bodies of a source: who waits for the answer of which event, and until when.
//!
//! ```text
//!   open --> waits --all settled------------------> answered and forgotten
//!              |                                     ^
//!              +--due--> answered --all settled------+ (forgotten)
//!              +--withdrawn--------------------------+
//! ```
//!
//! An event is named by its body and its place in it. A body stays until all events that it brought are settled, even when
//! its answer is long out: a retry of an unsettled event still finds it here, and joins it until that retry is answered.

use std::{
    collections::{BTreeSet, HashMap},
    hash::BuildHasher as _,
};

use foldhash::quality::RandomState;
use hashbrown::{HashTable, hash_table::Entry};
use jaiminho_core::{InputId, Offset, Outcome, Time};
use slab::Slab;
use smallvec::SmallVec;

use crate::{
    handle::Reply,
    stage::{Answer, NewEvent},
};

/// A body; names another one once all its events are settled.
pub(crate) type BodyId = u32;

/// One event of one body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Place {
    body: BodyId,
    index: u32,
}

impl Place {
    fn input(self) -> InputId {
        InputId(u64::from(self.body) << 32 | u64::from(self.index))
    }

    fn of(input: InputId) -> Self {
        Self { body: (input.0 >> 32) as u32, index: input.0 as u32 }
    }
}

#[derive(Debug)]
struct Waiting {
    identity: u128,
    outcome: Option<Outcome>,
}

#[derive(Debug)]
struct Body {
    events: Vec<Waiting>,
    /// Events that are not settled.
    open: usize,
    due: Option<Time>,
    /// Where its first event stands in the log, when all were new; the others stand behind it.
    first: Option<Offset>,
    /// None: answered.
    reply: Option<Reply>,
}

/// All bodies with unsettled events, and which events these are.
#[derive(Debug, Default)]
pub(crate) struct Bodies {
    bodies: Slab<Body>,
    /// Places of the unsettled events, by identity. Bounded by the log.
    known: HashTable<Place>,
    /// Clients choose identities: they can't choose their hashes.
    hasher: RandomState,
    /// Who waits for an event besides its own body: only bodies that are not answered.
    joined: HashMap<Place, SmallVec<[Place; 1]>>,
    due: BTreeSet<(Time, BodyId)>,
}

impl Bodies {
    /// Whether an event of this identity is unsettled here.
    pub(crate) fn knows(&self, identity: u128) -> bool {
        self.find(identity).is_some()
    }

    /// Where the unsettled event of this identity stands.
    fn find(&self, identity: u128) -> Option<Place> {
        let is_it = |place: &Place| identity_of(&self.bodies, *place) == Some(identity);
        self.known.find(self.hasher.hash_one(identity), is_it).copied()
    }

    /// Opens a body that waits for these events; none, and answered, when there are none.
    pub(crate) fn open(&mut self, events: &[NewEvent], due: Option<Time>, reply: Reply) -> Option<BodyId> {
        let waiting = |event: &NewEvent| Waiting { identity: event.identity, outcome: None };
        let waiting: Vec<Waiting> = events.iter().map(waiting).collect();
        if waiting.is_empty() {
            // The client may have left: then nobody asks.
            let _gone = reply.send(Ok(Vec::new()));
            return None;
        }
        let open = waiting.len();
        let body = self.bodies.insert(Body { events: waiting, open, due, first: None, reply: Some(reply) }) as BodyId;
        if let Some(due) = due {
            self.due.insert((due, body));
        }
        Some(body)
    }

    /// The input of a body's event when it is new here and must be put into the log; none when it joins another.
    pub(crate) fn enter(&mut self, body: BodyId, index: u32) -> Option<InputId> {
        let (bodies, hasher, place) = (&self.bodies, &self.hasher, Place { body, index });
        let identity = identity_of(bodies, place)?;
        let is_it = |other: &Place| identity_of(bodies, *other) == Some(identity);
        let hash_of = |other: &Place| hasher.hash_one(identity_of(bodies, *other).unwrap_or_default());
        match self.known.entry(hasher.hash_one(identity), is_it, hash_of) {
            Entry::Occupied(original) => {
                self.joined.entry(*original.get()).or_default().push(place);
                None
            }
            Entry::Vacant(entry) => {
                entry.insert(place);
                Some(place.input())
            }
        }
    }

    /// All events of the body are new, and stand in the log from here on.
    pub(crate) fn stands_at(&mut self, body: BodyId, first: Offset) {
        if let Some(body) = self.bodies.get_mut(body as usize) {
            body.first = Some(first);
        }
    }

    /// An event that entered the log is settled: whoever waited for it is answered, once nothing else is open.
    pub(crate) fn settle(&mut self, input: InputId, outcome: &Outcome) {
        let place = Place::of(input);
        self.forget(place);
        if !self.joined.is_empty() {
            for waiter in self.joined.remove(&place).unwrap_or_default() {
                self.settle_one(waiter, outcome);
            }
        }
        self.settle_one(place, outcome);
    }

    fn settle_one(&mut self, Place { body: id, index }: Place, outcome: &Outcome) {
        let Some(body) = self.bodies.get_mut(id as usize) else { return };
        let Some(event) = body.events.get_mut(index as usize) else { return };
        if event.outcome.replace(outcome.clone()).is_none() {
            body.open -= 1;
        }
        if body.open == 0 {
            self.reply(id, &Answer::Unknown);
            self.bodies.remove(id as usize);
        }
    }

    fn forget(&mut self, place: Place) {
        let Some(identity) = identity_of(&self.bodies, place) else { return };
        if let Ok(entry) = self.known.find_entry(self.hasher.hash_one(identity), |other| *other == place) {
            entry.remove();
        }
    }

    /// The next body whose answer is due.
    pub(crate) fn next_due(&self, now: Time) -> Option<BodyId> {
        self.due.first().filter(|(due, _)| *due <= now).map(|(_, body)| *body)
    }

    /// Where a body stands in the log, as offset and count, when it may be withdrawn: nothing of it is settled, and nobody
    /// else waits for any of it.
    pub(crate) fn withdrawable(&self, id: BodyId) -> Option<(Offset, u64)> {
        let body = self.bodies.get(id as usize)?;
        let count = body.events.len();
        let is_shared = |index| self.joined.contains_key(&Place { body: id, index });
        let is_free = body.open == count && (self.joined.is_empty() || !(0..count as u32).any(is_shared));
        body.first.filter(|_| is_free).map(|first| (first, count as u64))
    }

    /// A body was taken out of the log.
    pub(crate) fn withdrawn(&mut self, id: BodyId) {
        self.reply(id, &Answer::Withdrawn);
        let count = self.bodies.get(id as usize).map_or(0, |body| body.events.len() as u32);
        for index in 0..count {
            self.forget(Place { body: id, index });
        }
        self.bodies.try_remove(id as usize);
    }

    /// Answers a body before all of it is settled, `rest` for what is not. It no longer waits for what it joined; events of
    /// its own are remembered until they are settled.
    pub(crate) fn answer(&mut self, id: BodyId, rest: &Answer) {
        self.reply(id, rest);
        let count = self.bodies.get(id as usize).map_or(0, |body| body.events.len() as u32);
        let mut left = 0;
        for index in 0..count {
            left += usize::from(self.leave(Place { body: id, index }));
        }
        let Some(body) = self.bodies.get_mut(id as usize) else { return };
        body.open -= left;
        if body.open == 0 {
            self.bodies.remove(id as usize);
        }
    }

    /// Stops waiting for an event that another body brought; whether it did wait.
    fn leave(&mut self, place: Place) -> bool {
        let Some(original) = identity_of(&self.bodies, place).and_then(|identity| self.find(identity)) else {
            return false;
        };
        let Some(waiters) = self.joined.get_mut(&original) else { return false };
        let before = waiters.len();
        waiters.retain(|waiter| *waiter != place);
        let has_left = waiters.len() < before;
        if waiters.is_empty() {
            self.joined.remove(&original);
        }
        has_left
    }

    /// Bodies whose clients have left before their answer.
    pub(crate) fn deserted(&self) -> Vec<BodyId> {
        let is_deserted = |body: &Body| body.reply.as_ref().is_some_and(|reply| reply.is_closed());
        self.bodies.iter().filter(|(_, body)| is_deserted(body)).map(|(id, _)| id as BodyId).collect()
    }

    fn reply(&mut self, id: BodyId, rest: &Answer) {
        let Some(body) = self.bodies.get_mut(id as usize) else { return };
        if let Some(due) = body.due.take() {
            self.due.remove(&(due, id));
        }
        if let Some(reply) = body.reply.take() {
            let answer = |event: &Waiting| event.outcome.clone().map_or_else(|| rest.clone(), Answer::Settled);
            // The client may have left: then nobody asks.
            let _gone = reply.send(Ok(body.events.iter().map(answer).collect()));
        }
    }

    /// Whether every body is answered.
    pub(crate) fn are_answered(&self) -> bool {
        self.bodies.iter().all(|(_, body)| body.reply.is_none())
    }
}

fn identity_of(bodies: &Slab<Body>, place: Place) -> Option<u128> {
    Some(bodies.get(place.body as usize)?.events.get(place.index as usize)?.identity)
}

#[cfg(test)]
mod tests {
    use jaiminho_core::{Reason, Rejection};
    use tokio::sync::oneshot;

    use super::*;

    type Answers = oneshot::Receiver<Result<Vec<Answer>, crate::stage::Refusal>>;

    fn events(identities: &[u128]) -> Vec<NewEvent> {
        let event = |&identity: &u128| NewEvent { payload: Vec::new().into(), key: None, identity, trace: None };
        identities.iter().map(event).collect()
    }

    /// A body, who waits for it, and the inputs that it puts into the log.
    fn open(bodies: &mut Bodies, identities: &[u128], due: Option<Time>) -> (BodyId, Answers, Vec<Option<InputId>>) {
        let (reply, answers) = oneshot::channel();
        let body = bodies.open(&events(identities), due, reply).unwrap();
        let inputs = (0..identities.len() as u32).map(|index| bodies.enter(body, index)).collect();
        (body, answers, inputs)
    }

    fn rejected() -> Outcome {
        Outcome::Rejected(Box::new(Rejection { reason: Reason::Invalid, text: "no".into(), stored: false }))
    }

    #[test]
    fn a_body_is_answered_in_its_order_when_its_last_event_is_settled() {
        let mut bodies = Bodies::default();
        let (_, mut pending, inputs) = open(&mut bodies, &[1, 2], None);
        bodies.settle(inputs[1].unwrap(), &rejected());
        assert!(pending.try_recv().is_err() && bodies.knows(1) && !bodies.knows(2));
        bodies.settle(inputs[0].unwrap(), &Outcome::Accepted);
        assert_eq!(
            pending.try_recv().unwrap().unwrap(),
            [Answer::Settled(Outcome::Accepted), Answer::Settled(rejected())]
        );
        assert!(bodies.are_answered() && bodies.bodies.is_empty() && bodies.known.is_empty());
    }

    #[test]
    fn a_retry_joins_an_unsettled_event_even_when_the_first_answer_is_out() {
        let mut bodies = Bodies::default();
        let (first, mut late, inputs) = open(&mut bodies, &[7], Some(Time(5)));
        assert_eq!((bodies.next_due(Time(4)), bodies.next_due(Time(5))), (None, Some(first)));
        bodies.answer(first, &Answer::Unknown);
        assert_eq!((late.try_recv().unwrap().unwrap(), bodies.next_due(Time(9))), (vec![Answer::Unknown], None));
        let (_, mut retry, joined) = open(&mut bodies, &[7, 7], None);
        assert_eq!(joined, [None, None], "nothing new for the log");
        bodies.settle(inputs[0].unwrap(), &Outcome::Accepted);
        assert_eq!(retry.try_recv().unwrap().unwrap(), vec![Answer::Settled(Outcome::Accepted); 2]);
        assert!(bodies.bodies.is_empty() && bodies.known.is_empty() && bodies.joined.is_empty());
    }

    #[test]
    fn retries_that_are_answered_or_given_up_leave_nothing_behind() {
        let mut bodies = Bodies::default();
        let (first, _late, inputs) = open(&mut bodies, &[7, 8], Some(Time(5)));
        bodies.answer(first, &Answer::Unknown);
        for _ in 0..3 {
            let (retry, mut answer, _) = open(&mut bodies, &[7, 8, 7], Some(Time(9)));
            bodies.answer(retry, &Answer::Unknown);
            assert_eq!(answer.try_recv().unwrap().unwrap(), vec![Answer::Unknown; 3]);
        }
        let (given_up, answer, _) = open(&mut bodies, &[8], None);
        drop(answer);
        assert_eq!(bodies.deserted(), [given_up]);
        bodies.answer(given_up, &Answer::Unknown);
        assert!(bodies.joined.is_empty() && bodies.deserted().is_empty());
        assert_eq!((bodies.bodies.len(), bodies.known.len()), (1, 2), "the first stands in the log");
        inputs.into_iter().flatten().for_each(|input| bodies.settle(input, &Outcome::Accepted));
        assert!(bodies.bodies.is_empty() && bodies.known.is_empty());
    }

    #[test]
    fn only_a_body_that_nobody_has_joined_and_nothing_of_which_is_settled_may_be_withdrawn() {
        let mut bodies = Bodies::default();
        let (body, mut pending, inputs) = open(&mut bodies, &[1, 2], Some(Time(5)));
        bodies.stands_at(body, Offset(40));
        assert_eq!(bodies.withdrawable(body), Some((Offset(40), 2)));
        let (retry, _waits, _) = open(&mut bodies, &[2], None);
        assert_eq!((bodies.withdrawable(body), bodies.withdrawable(retry)), (None, None));
        bodies.settle(inputs[1].unwrap(), &Outcome::Accepted);
        assert_eq!(bodies.withdrawable(body), None, "one is settled");

        let (free, mut waits, _) = open(&mut bodies, &[3, 4], Some(Time(6)));
        bodies.stands_at(free, Offset(42));
        bodies.withdrawn(free);
        assert_eq!(waits.try_recv().unwrap().unwrap(), vec![Answer::Withdrawn; 2]);
        assert!(!bodies.knows(3) && !bodies.knows(4) && bodies.knows(1));
        assert!(pending.try_recv().is_err());
    }

    #[test]
    fn an_empty_body_is_answered_at_once() {
        let mut bodies = Bodies::default();
        let (reply, mut answers) = oneshot::channel();
        assert_eq!(bodies.open(&[], None, reply), None);
        assert_eq!(answers.try_recv().unwrap().unwrap(), []);
        assert!(bodies.are_answered());
    }
}
