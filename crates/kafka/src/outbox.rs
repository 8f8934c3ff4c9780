//! What the sink has not settled, in arrival order, and what happens to it. No IO and no clock: producing is a
//! trait, time an argument.
//!
//! ```text
//!            push             pump                 delivered ok
//!   event ────────► waiting ─────────► in flight ────────────────► settled
//!                      ▲                   │ error
//!                      └── restart ────────┤  retry, suspect
//!                      └── topic away ─────┤  after its turn, while others go on
//!                                          └► rejected: for good
//! ```

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use jaiminho_core::{Event, Outcome, Reason, Rejection};
use jaiminho_event::EventView;
use jaiminho_runtime::Receipt;
use jaiminho_telemetry::traces::{TraceContext, Tracer};
use rdkafka::types::RDKafkaErrorCode as Code;

use crate::fate::{self, Fate};
use crate::record::Shape;
use crate::traced::{Handed, Sending, Traced};

/// Records of a refused batch are sent again in groups of these sizes, each group alone, until one fails alone.
const SUSPECT_GROUPS: [usize; 3] = [64, 8, 1];
/// Before a topic that was away is tried again, doubled each time.
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// An answer to such a try that takes longer leaves unknown how the topic was before it.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// Gives one record to the client library.
pub(crate) trait Produce {
    /// Takes a copy of the record, or says why not. With the `traceparent` of the span that its delivery is, where sampled.
    fn produce(
        &mut self,
        seq: u64,
        topic: &str,
        shape: &Shape,
        event: &EventView<'_>,
        traceparent: Option<&str>,
    ) -> Result<(), Code>;

    /// Asks the cluster anew about a topic that was away. False: it doesn't answer.
    fn refresh(&mut self, topic: &str) -> bool;
}

/// Where a record is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
}

/// How a [`Outbox::pump`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pumped {
    /// All that may be sent now is.
    Done,
    /// The client's queue is full.
    Full,
    /// There may be more: the limit of one call was reached.
    More,
    /// The client can't go on: a new one is needed, then [`Outbox::restart`].
    Broken(Code),
}

#[derive(Debug)]
struct Entry {
    receipt: Receipt,
    event: Event,
    /// Resolved when it was first tried.
    topic: Option<usize>,
    in_flight: bool,
    /// How many of [`SUSPECT_GROUPS`] it failed in, plus one; 0: not suspect.
    suspicion: usize,
    /// Where sampled, since it was first given to a client.
    sending: Option<Box<Sending>>,
}

#[derive(Debug)]
struct Topic {
    name: String,
    /// Entries that are not settled.
    unsettled: usize,
    away: Option<Away>,
}

/// A topic whose records fail. One at a time is tried; the others keep behind it.
#[derive(Clone, Copy, Debug)]
struct Away {
    /// When the first answer said so, later by all the time after it in which the cluster did not answer. How long its records
    /// waited before says nothing of the topic.
    since: Instant,
    answered: Instant,
    try_at: Instant,
    trying: Option<u64>,
    tries: u32,
    /// The oldest entry that waits: where [`Outbox::pump`] has to look again.
    first: u64,
}

impl Away {
    /// The cluster has not answered since it last did.
    fn was_unknown(&mut self, now: Instant) {
        self.since += now.duration_since(self.answered);
        self.answered = now;
    }
}

#[derive(Debug)]
pub(crate) struct Outbox {
    shape: Shape,
    entries: BTreeMap<u64, Entry>,
    next: u64,
    /// Nothing below it waits, but what a topic away or a suspect holds back.
    cursor: u64,
    in_flight: usize,
    /// The group of suspects in flight: its size, and how many more may join.
    group: Option<(usize, usize)>,
    topics: Vec<Topic>,
    topic_ids: HashMap<String, usize>,
    topics_max: usize,
    grace: Duration,
    try_again: Duration,
    settled: Vec<(Receipt, Outcome)>,
    traced: Traced,
}

impl Outbox {
    /// `grace`: how long a topic may be away. `try_again`: the longest time between two tries of it.
    pub(crate) fn new(shape: Shape, topics_max: usize, grace: Duration, try_again: Duration) -> Self {
        Self {
            shape,
            entries: BTreeMap::new(),
            next: 1,
            cursor: 1,
            in_flight: 0,
            group: None,
            topics: Vec::new(),
            topic_ids: HashMap::new(),
            topics_max,
            grace,
            try_again,
            settled: Vec::new(),
            traced: Traced::new(Tracer::default()),
        }
    }

    /// Spans of sampled records go there.
    pub(crate) fn with_tracer(self, tracer: Tracer) -> Self {
        Self { traced: Traced::new(tracer), ..self }
    }

    pub(crate) fn push(&mut self, receipt: Receipt, event: Event) {
        let entry = Entry { receipt, event, topic: None, in_flight: false, suspicion: 0, sending: None };
        self.entries.insert(self.next, entry);
        self.next += 1;
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(crate) fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// The topic of the oldest record that is in flight.
    pub(crate) fn oldest_topic(&self) -> Option<&str> {
        let entry = self.entries.values().find(|entry| entry.in_flight)?;
        self.topics.get(entry.topic?).map(|topic| topic.name.as_str())
    }

    /// What was settled since the last call.
    pub(crate) fn take_settled(&mut self) -> Vec<(Receipt, Outcome)> {
        std::mem::take(&mut self.settled)
    }

    /// When to pump again although nothing happened.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.topics.iter().filter_map(|topic| topic.away.filter(|away| away.trying.is_none())).map(|a| a.try_at).min()
    }

    /// Sends what may be sent, in arrival order, at most `limit` records.
    pub(crate) fn pump(&mut self, now: Instant, limit: usize, out: &mut impl Produce) -> Pumped {
        self.look_again(now);
        let mut handed = Handed::default();
        let pumped = self.hand_over(now, limit, out, &mut handed);
        if !self.traced.handed_over(now, &handed) {
            for seq in handed.traced {
                if let Some(sending) = self.entries.get_mut(&seq).and_then(|entry| entry.sending.as_mut()) {
                    sending.was_alone();
                }
            }
        }
        pumped
    }

    fn hand_over(&mut self, now: Instant, limit: usize, out: &mut impl Produce, handed: &mut Handed) -> Pumped {
        for _ in 0..limit {
            let Some((&seq, entry)) = self.entries.range_mut(self.cursor..).next() else { return Pumped::Done };
            if entry.in_flight {
                self.cursor = seq + 1;
                continue;
            }
            match self.send(now, seq, out, handed) {
                Sent::Next => self.cursor = seq + 1,
                Sent::Wait => return Pumped::Done,
                Sent::Full => return Pumped::Full,
                Sent::Broken(code) => return Pumped::Broken(code),
            }
        }
        Pumped::More
    }

    /// A record's delivery report. True: the client can't go on, see [`Pumped::Broken`].
    pub(crate) fn delivered(&mut self, now: Instant, seq: u64, result: Result<Placed, Code>) -> bool {
        let Some(entry) = self.entries.get_mut(&seq).filter(|entry| entry.in_flight) else { return false };
        entry.in_flight = false;
        self.in_flight -= 1;
        if self.in_flight == 0 {
            self.group = None;
        }
        match result.map_err(|code| (code, fate::of_delivery(code))) {
            Ok(placed) => self.accept(now, seq, placed),
            Err((code, Fate::Reject(reason))) => self.reject(now, seq, reason, &describe(code)),
            Err((code, Fate::Suspect(reason))) => {
                return self.suspect(now, seq, reason, code);
            }
            Err((code, Fate::TopicAway)) => self.topic_away(now, seq, code),
            Err((_, Fate::Retry)) => {
                self.cursor = self.cursor.min(seq);
                return true;
            }
        }
        false
    }

    /// With a new client: all that is unsettled is sent again, in arrival order, before anything newer.
    pub(crate) fn restart(&mut self) {
        for entry in self.entries.values_mut() {
            entry.in_flight = false;
        }
        for away in self.topics.iter_mut().filter_map(|topic| topic.away.as_mut()) {
            away.trying = None;
        }
        self.in_flight = 0;
        self.group = None;
        self.cursor = 0;
    }

    fn look_again(&mut self, now: Instant) {
        for away in self.topics.iter().filter_map(|topic| topic.away) {
            if away.trying.is_none() && away.try_at <= now {
                self.cursor = self.cursor.min(away.first);
            }
        }
    }

    fn send(&mut self, now: Instant, seq: u64, out: &mut impl Produce, handed: &mut Handed) -> Sent {
        let Some(entry) = self.entries.get(&seq) else { return Sent::Next };
        if !self.may_join(entry.suspicion) {
            return Sent::Wait;
        }
        let payload = entry.event.payload.clone();
        let known = entry.topic;
        let view = match EventView::parse(&payload) {
            Ok(view) => view,
            Err(error) => {
                self.reject(now, seq, Reason::Malformed, &error.to_string());
                return Sent::Next;
            }
        };
        let topic = match known.map_or_else(|| self.resolve(&view), Ok) {
            Ok(topic) => topic,
            Err(text) => {
                self.reject(now, seq, Reason::Invalid, &text);
                return Sent::Next;
            }
        };
        if known.is_none() {
            self.topics[topic].unsettled += 1;
        }
        if let Some(entry) = self.entries.get_mut(&seq) {
            entry.topic = Some(topic);
        }
        if !self.may_try(now, topic, seq, out) {
            return Sent::Next;
        }
        let traceparent = self.traceparent(now, seq, &view, handed);
        match out.produce(seq, &self.topics[topic].name, &self.shape, &view, traceparent.as_deref()) {
            Ok(()) => {
                handed.events += 1;
                self.sent(seq);
                Sent::Next
            }
            Err(Code::QueueFull) => {
                if let Some(away) = &mut self.topics[topic].away {
                    away.trying = None;
                }
                Sent::Full
            }
            Err(code) => self.not_taken(now, seq, code),
        }
    }

    /// Of the span of a sampled record's delivery, which begins when it is first tried. Where nothing is told here, the trace goes on.
    fn traceparent(&mut self, now: Instant, seq: u64, view: &EventView<'_>, handed: &mut Handed) -> Option<String> {
        let entry = self.entries.get_mut(&seq)?;
        let trace = entry.event.trace.as_deref()?;
        if entry.sending.is_none() {
            entry.sending = self.traced.begin(now, seq, trace, view, handed);
        }
        let carried = || TraceContext::from_bytes(&trace.context).to_traceparent();
        Some(entry.sending.as_ref().map_or_else(carried, |sending| sending.traceparent()))
    }

    fn not_taken(&mut self, now: Instant, seq: u64, code: Code) -> Sent {
        match fate::of_produce(code) {
            Fate::Retry => return Sent::Broken(code),
            Fate::Reject(reason) | Fate::Suspect(reason) => self.reject(now, seq, reason, &describe(code)),
            Fate::TopicAway => self.topic_away(now, seq, code),
        }
        Sent::Next
    }

    /// Suspects are in flight with nobody but their group, so that its failure is theirs.
    fn may_join(&self, suspicion: usize) -> bool {
        let size = suspicion.checked_sub(1).map(|tried| SUSPECT_GROUPS[tried]);
        match (size, self.group) {
            (None, group) => group.is_none(),
            (Some(_), None) => self.in_flight == 0,
            (Some(size), Some((group_size, left))) => size == group_size && left > 0,
        }
    }

    fn sent(&mut self, seq: u64) {
        self.in_flight += 1;
        if let Some(entry) = self.entries.get_mut(&seq) {
            entry.in_flight = true;
            if let Some(tried) = entry.suspicion.checked_sub(1) {
                let size = SUSPECT_GROUPS[tried];
                let left = self.group.map_or(size, |(_, left)| left);
                self.group = Some((size, left - 1));
            }
        }
    }

    fn resolve(&mut self, view: &EventView<'_>) -> Result<usize, String> {
        let name = self.shape.topic(view)?;
        if let Some(&id) = self.topic_ids.get(&*name) {
            return Ok(id);
        }
        let name = name.into_owned();
        let topic = Topic { name: name.clone(), unsettled: 0, away: None };
        let id = if self.topics.len() < self.topics_max.max(1) {
            self.topics.push(topic);
            self.topics.len() - 1
        } else {
            // Names that were never good must not keep out those that are.
            let unused = self.topics.iter().position(|topic| topic.unsettled == 0 && topic.away.is_some());
            let id = unused.ok_or_else(|| format!("topic {name} is one more than topics_max {}", self.topics_max))?;
            self.topic_ids.remove(&self.topics[id].name);
            self.topics[id] = topic;
            id
        };
        self.topic_ids.insert(name, id);
        Ok(id)
    }

    /// Whether a record may go to its topic now. One that may not waits behind the one that is tried.
    fn may_try(&mut self, now: Instant, topic: usize, seq: u64, out: &mut impl Produce) -> bool {
        let topic = &mut self.topics[topic];
        let Some(away) = &mut topic.away else { return true };
        if away.trying.is_some() || away.try_at > now {
            away.first = away.first.min(seq);
            return false;
        }
        away.trying = Some(seq);
        away.try_at = now;
        if !out.refresh(&topic.name) {
            away.was_unknown(now);
        }
        true
    }

    fn accept(&mut self, now: Instant, seq: u64, placed: Placed) {
        let Some(mut entry) = self.remove(seq) else { return };
        if let (Some(sending), Some(topic)) = (entry.sending.take(), entry.topic) {
            let key =
                EventView::parse(&entry.event.payload).ok().and_then(|view| self.shape.key(&view).map(String::from));
            self.traced.confirmed(now, *sending, &self.topics[topic].name, key.as_deref(), placed);
        }
        if let Some(away) = entry.topic.and_then(|topic| self.topics[topic].away.take()) {
            self.cursor = self.cursor.min(away.first);
        }
        self.settled.push((entry.receipt, Outcome::Accepted));
    }

    fn reject(&mut self, now: Instant, seq: u64, reason: Reason, text: &str) {
        let Some(mut entry) = self.remove(seq) else { return };
        if let (Some(sending), Some(topic)) = (entry.sending.take(), entry.topic) {
            self.traced.rejected(now, *sending, &self.topics[topic].name, reason, text);
        }
        // Its topic's next record is tried at once: this one's fault says nothing of the topic.
        if let Some(away) = entry.topic.and_then(|topic| self.topics[topic].away.as_mut()) {
            away.trying = away.trying.filter(|trying| *trying != seq);
        }
        self.settled.push((entry.receipt, Outcome::Rejected(Box::new(Rejection::new(reason, text)))));
    }

    fn remove(&mut self, seq: u64) -> Option<Entry> {
        let entry = self.entries.remove(&seq)?;
        if let Some(topic) = entry.topic {
            self.topics[topic].unsettled -= 1;
        }
        Some(entry)
    }

    fn suspect(&mut self, now: Instant, seq: u64, reason: Reason, code: Code) -> bool {
        let Some(entry) = self.entries.get_mut(&seq) else { return false };
        if entry.suspicion == SUSPECT_GROUPS.len() {
            self.reject(now, seq, reason, &describe(code));
        } else {
            entry.suspicion += 1;
            self.cursor = self.cursor.min(seq);
        }
        true
    }

    fn topic_away(&mut self, now: Instant, seq: u64, code: Code) {
        let Some(topic) = self.entries.get(&seq).and_then(|entry| entry.topic) else { return };
        let slot = &mut self.topics[topic].away;
        let is_new = slot.is_none();
        let away =
            slot.get_or_insert(Away { since: now, answered: now, try_at: now, trying: None, tries: 0, first: seq });
        away.first = away.first.min(seq);
        if now > away.try_at + ANSWER_WAIT {
            away.was_unknown(now);
        }
        away.answered = now;
        if is_new || away.trying == Some(seq) {
            away.trying = None;
            away.tries += 1;
            let wait = FIRST_WAIT.saturating_mul(1 << away.tries.min(10));
            away.try_at = now + wait.min(self.try_again);
        }
        if now.duration_since(away.since) >= self.grace {
            self.give_up(now, topic, code);
        }
    }

    /// Everything that waits for the topic is rejected; what comes later waits for the next try of it.
    fn give_up(&mut self, now: Instant, topic: usize, code: Code) {
        let first = self.topics[topic].away.map_or(0, |away| away.first);
        let waiting: Vec<u64> = self
            .entries
            .range(first..)
            .filter(|(_, entry)| entry.topic == Some(topic) && !entry.in_flight)
            .map(|(seq, _)| *seq)
            .collect();
        let text = format!("topic {}: {}", self.topics[topic].name, describe(code));
        for seq in waiting {
            self.reject(now, seq, Reason::Refused, &text);
        }
        if let Some(away) = &mut self.topics[topic].away {
            away.first = u64::MAX;
        }
    }
}

enum Sent {
    Next,
    Wait,
    Full,
    Broken(Code),
}

fn describe(code: Code) -> String {
    code.to_string()
}
