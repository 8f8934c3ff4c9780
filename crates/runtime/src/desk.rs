//! What a source's stage keeps: offers, bodies and their answers, admission.

use jaiminho_core::{Event, InputId, Inputs, Offset, Origin, Outcome, Output, Time};
use tokio::sync::{oneshot, watch};

use crate::{
    admission::Admission,
    bodies::{Bodies, Entries},
    handle::OfferSlot,
    source::{Offer, Pending},
    stage::{Acknowledge, Answer, NewEvent, Refusal},
    task::{Clock, Tag},
};

/// A source's share of its stage's state.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) bodies: Bodies,
    pub(crate) admission: Admission,
    pub(crate) incarnation: u64,
    /// Events taken since the start.
    pub(crate) taken: u64,
    /// The source has come to its end.
    pub(crate) ended: bool,
    pub(crate) room: watch::Sender<bool>,
}

impl Desk {
    /// Nothing taken yet.
    pub(crate) fn new(incarnation: u64, room: watch::Sender<bool>) -> Self {
        let (bodies, admission) = (Bodies::default(), Admission::default());
        Self { bodies, admission, incarnation, taken: 0, ended: false, room }
    }

    /// Takes the offer whole, or refuses it whole; whether it was taken.
    pub(crate) fn offer(
        &mut self,
        (offer, reply): OfferSlot,
        log: &mut Output,
        inputs: &mut Inputs<Tag>,
        clock: Clock,
    ) -> bool {
        let answer = match self.refusal(&offer, log) {
            Some(refusal) => Err(refusal),
            None => Ok(self.take(offer, log, inputs, clock)),
        };
        // A client that left before its answer: what was taken goes on.
        let taken = answer.is_ok();
        let _gone = reply.send(answer);
        taken
    }

    fn refusal(&self, offer: &Offer, log: &Output) -> Option<Refusal> {
        let new = || offer.events.iter().filter(|event| !self.bodies.knows(event.identity));
        new().next()?;
        let (events, bytes) = new().fold((0, 0), |(n, bytes), event| (n + 1, bytes + event.payload.len() as u64));
        let fill = log.fill();
        if events > fill.capacity_events || bytes > fill.capacity_bytes {
            return Some(Refusal::NeverFits { events, bytes });
        }
        let refuse = |cause: String| Some(Refusal::Overloaded { cause, retry_after: self.admission.retry_after() });
        if log.is_full() {
            return refuse("the log is full".into());
        }
        if let Some(wait) = self.too_slow(offer) {
            return refuse(format!("predicted wait {} s", wait.as_secs()));
        }
        let hot = |event: &NewEvent| {
            event.key.is_some_and(|key| {
                let share = log.key_share(key);
                share.events * 4 > fill.capacity_events || share.bytes * 4 > fill.capacity_bytes
            })
        };
        if new().any(hot) {
            return refuse("the key's partition has over a quarter of the log".into());
        }
        None
    }

    fn too_slow(&self, offer: &Offer) -> Option<std::time::Duration> {
        let wait = self.admission.predicted_wait();
        let deadline = offer.deadline.filter(|_| offer.acknowledge == Acknowledge::Published)?;
        (wait > deadline / 2).then_some(wait)
    }

    fn take(&mut self, offer: Offer, log: &mut Output, inputs: &mut Inputs<Tag>, clock: Clock) -> Pending {
        let Offer { events, deadline, acknowledge } = offer;
        let count = events.len();
        if acknowledge == Acknowledge::Accepted {
            for event in events {
                self.push(event, None, Tag::Taken, log, inputs, clock);
            }
            let (reply, answers) = oneshot::channel();
            let _waits = reply.send(vec![Answer::Settled(Outcome::Accepted); count]);
            return Pending { answers, count };
        }
        let due = deadline.map(|deadline| clock.now.after(deadline.as_millis() as u64));
        let (body, pending) = self.bodies.open(count, due);
        let mut stands: Option<Entries> = None;
        for (index, event) in events.into_iter().enumerate() {
            let identity = event.identity;
            if !self.bodies.wait(identity, body, index as u32) {
                continue;
            }
            let (offset, input) = self.push(event, due, Tag::Body(identity), log, inputs, clock);
            let entries = stands.get_or_insert_with(|| Entries { offsets: offset..offset, inputs: Vec::new() });
            entries.offsets.end = Offset(offset.0 + 1);
            entries.inputs.push((input, identity));
        }
        if let Some(entries) = stands.filter(|entries| entries.inputs.len() == count) {
            self.bodies.stands_at(body, entries);
        }
        if count == 0 {
            self.bodies.answer(body, &Answer::Unknown);
        }
        pending
    }

    fn push(
        &mut self,
        event: NewEvent,
        due: Option<Time>,
        tag: Tag,
        log: &mut Output,
        inputs: &mut Inputs<Tag>,
        clock: Clock,
    ) -> (Offset, InputId) {
        let origin = Origin { incarnation: self.incarnation, offset: self.taken };
        self.taken += 1;
        let event = Event {
            payload: event.payload,
            key: event.key,
            attempt: 1,
            arrived_ms: clock.wall(clock.now),
            deadline_ms: due.map(|due| clock.wall(due)),
            origin,
            trace: event.trace,
        };
        let input = inputs.open(tag);
        inputs.output_added(input);
        let offset = log.push(clock.now, input, event);
        // Its one output is unsettled yet: nothing comes back.
        let _unsettled = inputs.seal(input);
        (offset, input)
    }

    /// Measures the groups' pace, and answers bodies that are due: withdrawn where nobody has seen them.
    pub(crate) fn tick(&mut self, log: &mut Output, inputs: &mut Inputs<Tag>, now: Time) {
        self.admission.measure(now, &log.waiting().groups);
        while let Some((body, entries)) = self.bodies.next_due(now) {
            let withdrawn = entries.is_some_and(|entries| self.withdraw(body, entries, log, inputs, now));
            self.bodies.answer(body, if withdrawn { &Answer::Withdrawn } else { &Answer::Unknown });
        }
        let room = !log.is_full();
        self.room.send_if_modified(|old| std::mem::replace(old, room) != room);
    }

    fn withdraw(&mut self, body: u64, entries: Entries, log: &mut Output, inputs: &mut Inputs<Tag>, now: Time) -> bool {
        let shared = entries.inputs.iter().any(|(_, identity)| self.bodies.shared(*identity, body));
        if shared || !log.withdraw(now, entries.offsets) {
            return false;
        }
        for (input, identity) in entries.inputs {
            inputs.abandon(input);
            self.bodies.forget(identity);
        }
        true
    }
}
