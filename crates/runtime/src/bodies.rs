//! Bodies of a source: who waits for the answer of which event, and until when.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    ops::Range,
};

use jaiminho_core::{InputId, Offset, Outcome, Time};
use smallvec::SmallVec;
use tokio::sync::oneshot;

use crate::{source::Pending, stage::Answer};

/// One taken body, by a number that is never used twice.
pub(crate) type BodyId = u64;

/// Where a body stands in the log, when all its events are new.
#[derive(Clone, Debug)]
pub(crate) struct Entries {
    pub(crate) offsets: Range<Offset>,
    pub(crate) inputs: Vec<(InputId, u128)>,
}

#[derive(Debug)]
struct Body {
    answers: Vec<Option<Answer>>,
    open: usize,
    due: Option<Time>,
    /// Its entries in the log; none when an event joined another body's.
    entries: Option<Entries>,
    reply: oneshot::Sender<Vec<Answer>>,
}

/// All bodies whose answers are not out, and the events they wait for.
#[derive(Debug, Default)]
pub(crate) struct Bodies {
    bodies: HashMap<BodyId, Body>,
    /// Waiters of each unsettled event, by its identity. Bounded by the log, and by who waits for it.
    waiting: HashMap<u128, SmallVec<[(BodyId, u32); 1]>>,
    due: BTreeSet<(Time, BodyId)>,
    next: BodyId,
}

impl Bodies {
    /// Whether an event of this identity is unsettled here.
    pub(crate) fn knows(&self, identity: u128) -> bool {
        self.waiting.contains_key(&identity)
    }

    /// Opens a body of `count` events.
    pub(crate) fn open(&mut self, count: usize, due: Option<Time>) -> (BodyId, Pending) {
        let (reply, answers) = oneshot::channel();
        let id = self.next;
        self.next += 1;
        self.bodies.insert(id, Body { answers: vec![None; count], open: count, due, entries: None, reply });
        if let Some(due) = due {
            self.due.insert((due, id));
        }
        (id, Pending { answers, count })
    }

    /// The body waits for this event as its `index`th. True when the event is new here and must be put into the log.
    pub(crate) fn wait(&mut self, identity: u128, body: BodyId, index: u32) -> bool {
        match self.waiting.entry(identity) {
            Entry::Occupied(mut waiters) => {
                waiters.get_mut().push((body, index));
                false
            }
            Entry::Vacant(waiters) => {
                waiters.insert(SmallVec::from_elem((body, index), 1));
                true
            }
        }
    }

    /// All events of the body are new, and stand here.
    pub(crate) fn stands_at(&mut self, body: BodyId, entries: Entries) {
        if let Some(body) = self.bodies.get_mut(&body) {
            body.entries = Some(entries);
        }
    }

    /// Answers everybody who waits for this event.
    pub(crate) fn settle(&mut self, identity: u128, outcome: &Outcome) {
        for (id, index) in self.waiting.remove(&identity).unwrap_or_default() {
            let Some(body) = self.bodies.get_mut(&id) else { continue };
            if let Some(answer) = body.answers.get_mut(index as usize)
                && answer.replace(Answer::Settled(outcome.clone())).is_none()
            {
                body.open -= 1;
            }
            if body.open == 0 {
                self.answer(id, &Answer::Unknown);
            }
        }
    }

    /// The next body whose answer is due, with its entries where it may be withdrawn (nothing of it is answered).
    pub(crate) fn next_due(&self, now: Time) -> Option<(BodyId, Option<Entries>)> {
        let (due, id) = self.due.first()?;
        let body = self.bodies.get(id)?;
        (*due <= now).then(|| (*id, body.entries.clone().filter(|_| body.open == body.answers.len())))
    }

    /// Nobody will ever be sent this event.
    pub(crate) fn forget(&mut self, identity: u128) {
        self.waiting.remove(&identity);
    }

    /// Whether anybody but `body` waits for this event.
    pub(crate) fn shared(&self, identity: u128, body: BodyId) -> bool {
        self.waiting.get(&identity).is_some_and(|waiters| waiters.iter().any(|(id, _)| *id != body))
    }

    /// Answers the body, `rest` for what is not settled.
    pub(crate) fn answer(&mut self, id: BodyId, rest: &Answer) {
        let Some(body) = self.bodies.remove(&id) else { return };
        if let Some(due) = body.due {
            self.due.remove(&(due, id));
        }
        let answers = body.answers.into_iter().map(|answer| answer.unwrap_or_else(|| rest.clone())).collect();
        // The client may have left: then nobody asks.
        let _gone = body.reply.send(answers);
    }

    /// Bodies that wait for their answer.
    pub(crate) fn len(&self) -> usize {
        self.bodies.len()
    }
}
