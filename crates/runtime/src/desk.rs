//! What a source's stage keeps: offers, bodies and their answers, admission.

use std::{num::NonZeroU64, sync::Arc};

use jaiminho_core::{Event, InputId, Offset, Origin, Outcome, Output, Time};
use tokio::sync::watch;

use crate::{
    admission::{self, Admission},
    bodies::{Bodies, BodyId},
    handle::{OfferSlot, Reply},
    source::Offer,
    stage::{Acknowledge, Answer, NewEvent, Refusal, SourceError},
    task::Clock,
    traces::{Begun, Hops, How, Likeness},
};

/// Input of an event that was acknowledged when it was taken: nobody waits for it.
const TAKEN: InputId = InputId(u64::MAX);

/// A source's share of its stage's state.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) bodies: Bodies,
    pub(crate) admission: Admission,
    pub(crate) incarnation: u64,
    /// Events taken since the start: without those that joined one that is unsettled here.
    pub(crate) taken: u64,
    /// Bytes of these.
    pub(crate) taken_bytes: u64,
    /// Of these, not settled.
    pub(crate) unsettled: u64,
    /// The last offer was refused for want of room or time.
    refuses: bool,
    /// How the source has ended, once it has.
    pub(crate) ended: Option<Result<(), SourceError>>,
    pub(crate) room: watch::Sender<bool>,
    pub(crate) hops: Hops<Taken>,
    like: Arc<Likeness>,
}

/// What an event that was taken is known by, until it is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Taken {
    /// Its place in the log.
    Log(Offset),
    /// The source, or the log, has rejected it.
    Rejected(InputId),
}

impl Desk {
    /// Nothing taken yet.
    pub(crate) fn new(incarnation: u64, room: watch::Sender<bool>, hops: Hops<Taken>) -> Self {
        let (bodies, admission) = (Bodies::default(), Admission::new(incarnation));
        let (ended, like) = (None, hops.of_source());
        Self {
            bodies,
            admission,
            incarnation,
            taken: 0,
            taken_bytes: 0,
            unsettled: 0,
            refuses: false,
            ended,
            room,
            hops,
            like,
        }
    }

    /// Takes the offer whole, or refuses it whole; what was decided, as metrics name it.
    pub(crate) fn offer(&mut self, slot: OfferSlot, log: &mut Output, clock: Clock) -> &'static str {
        let refusal = self.refusal(&slot.offer, log);
        self.refuses = matches!(refusal, Some((_, Refusal::Overloaded { .. })));
        if let Some((decision, refusal)) = refusal {
            slot.refuse(refusal);
            return decision;
        }
        let OfferSlot { offer, taken, rejection: _, reserved: _given_back, reply } = slot;
        // A client that left before its answer: what was taken goes on.
        let _gone = taken.map(|taken| taken.send(()));
        self.take(offer, reply, log, clock);
        admission::TAKEN
    }

    /// What it took keeps it from taking more.
    pub(crate) fn is_held_up(&self) -> bool {
        self.refuses && self.unsettled > 0
    }

    /// Takes an event that the source rejects; none when it joins one that is unsettled here.
    pub(crate) fn take_rejected(&mut self, slot: OfferSlot, clock: Clock) -> Option<(InputId, Event, Option<Begun>)> {
        let OfferSlot { offer, taken, rejection: _, reserved: _, reply } = slot;
        let _gone = taken.map(|taken| taken.send(()));
        let body = self.bodies.open(&offer.events, None, reply)?;
        let event = offer.events.into_iter().next()?;
        let input = self.enter(body, 0, &event)?;
        let (event, begun) = self.event(event, None, clock);
        Some((input, event, begun))
    }

    /// Why an event that the source rejects is not taken.
    pub(crate) fn refuses_rejected(&mut self, has_room: bool) -> Option<(&'static str, Refusal)> {
        if matches!(self.ended, Some(Err(_))) {
            return Some((admission::DRAINING, Refusal::Draining));
        }
        let cause = "the dead letters' log is full".to_owned();
        let refuse = || Refusal::Overloaded { cause, retry_after: self.admission.retry_after() };
        (!has_room).then(|| (admission::DEAD_LETTERS_FULL, refuse()))
    }

    fn refusal(&mut self, offer: &Offer, log: &Output) -> Option<(&'static str, Refusal)> {
        if matches!(self.ended, Some(Err(_))) {
            return Some((admission::DRAINING, Refusal::Draining));
        }
        let fill = log.fill();
        let is_hot = |event: &NewEvent| {
            event.key.is_some_and(|key| {
                let share = log.key_share(key);
                share.events * 4 > fill.capacity_events || share.bytes * 4 > fill.capacity_bytes
            })
        };
        let (mut events, mut bytes, mut any_hot) = (0, 0, false);
        for event in offer.events.iter().filter(|event| !self.bodies.knows(event.identity)) {
            events += 1;
            bytes += event.payload.len() as u64;
            any_hot |= is_hot(event);
        }
        if events == 0 {
            return None;
        }
        if events > fill.capacity_events || bytes > fill.capacity_bytes {
            return Some((admission::NEVER_FITS, Refusal::NeverFits { events, bytes }));
        }
        let (decision, cause) = if log.is_full() {
            (admission::LOG_FULL, "the log is full".into())
        } else if let Some(wait) = self.too_slow(offer) {
            (admission::PREDICTED_WAIT, format!("predicted wait {} s", wait.as_secs()))
        } else if any_hot {
            (admission::HOT_KEY, "the key's partition has over a quarter of the log".into())
        } else {
            return None;
        };
        Some((decision, Refusal::Overloaded { cause, retry_after: self.admission.retry_after() }))
    }

    fn too_slow(&self, offer: &Offer) -> Option<std::time::Duration> {
        let wait = self.admission.predicted_wait();
        let deadline = offer.deadline.filter(|_| offer.acknowledge == Acknowledge::Published)?;
        (wait > deadline / 2).then_some(wait)
    }

    fn take(&mut self, Offer { events, deadline, acknowledge }: Offer, reply: Reply, log: &mut Output, clock: Clock) {
        let count = events.len();
        if acknowledge == Acknowledge::Accepted {
            for event in events {
                self.push(event, None, TAKEN, log, clock);
            }
            let _gone = reply.send(Ok(vec![Answer::Settled(Outcome::Accepted); count]));
            return;
        }
        let due = deadline.map(|deadline| clock.now.after(deadline.as_millis() as u64));
        let Some(body) = self.bodies.open(&events, due, reply) else { return };
        let (mut first, mut new) = (None, 0);
        for (index, event) in (0..).zip(events) {
            if let Some(input) = self.enter(body, index, &event) {
                let offset = self.push(event, due, input, log, clock);
                first.get_or_insert(offset);
                new += 1;
            }
        }
        if let Some(first) = first.filter(|_| new == count) {
            self.bodies.stands_at(body, first);
        }
    }

    /// None: it has joined the same event, which is unsettled here. That it waits no longer is told now.
    fn enter(&mut self, body: BodyId, index: u32, event: &NewEvent) -> Option<InputId> {
        let input = self.bodies.enter(body, index);
        if let (None, Some(trace)) = (input, &event.trace) {
            self.hops.waited(trace);
        }
        input
    }

    fn push(&mut self, event: NewEvent, due: Option<Time>, input: InputId, log: &mut Output, clock: Clock) -> Offset {
        let (event, begun) = self.event(event, due, clock);
        let offset = log.push(clock.now, input, event);
        if let Some(begun) = begun {
            self.hops.keep(Taken::Log(offset), begun);
        }
        offset
    }

    /// One more event that was taken.
    fn event(&mut self, event: NewEvent, due: Option<Time>, clock: Clock) -> (Event, Option<Begun>) {
        let origin = Origin { incarnation: self.incarnation, offset: self.taken };
        self.taken += 1;
        self.taken_bytes += event.payload.len() as u64;
        self.unsettled += 1;
        let mut trace = event.trace;
        let begun = trace.as_deref_mut().and_then(|trace| self.hops.taken(trace, &self.like));
        let event = Event {
            payload: event.payload,
            key: event.key,
            attempt: 1,
            arrived_ms: clock.wall(clock.now),
            deadline_ms: due.and_then(|due| NonZeroU64::new(clock.wall(due))),
            origin,
            trace,
        };
        (event, begun)
    }

    /// An event that was taken is settled.
    pub(crate) fn settle(&mut self, input: InputId, outcome: &Outcome) {
        self.unsettled -= 1;
        if input != TAKEN {
            self.bodies.settle(input, outcome);
        }
    }

    /// Measures the groups' pace, and answers bodies that are due: withdrawn where nobody has seen them.
    pub(crate) fn tick(&mut self, log: &mut Output, now: Time) {
        self.admission.measure(now, &log.waiting().groups);
        while let Some(body) = self.bodies.next_due(now) {
            match self.bodies.withdrawable(body) {
                Some((first, count)) if log.withdraw(first..Offset(first.0 + count)) => {
                    self.unsettled -= count;
                    self.hops.end_all(Taken::Log(first)..Taken::Log(Offset(first.0 + count)), How::Withdrawn);
                    self.bodies.withdrawn(body);
                }
                Some(_) | None => self.bodies.answer(body, &Answer::Unknown),
            }
        }
        for body in self.bodies.deserted() {
            self.bodies.answer(body, &Answer::Unknown);
        }
        let room = !log.is_full();
        self.room.send_if_modified(|old| std::mem::replace(old, room) != room);
    }
}
