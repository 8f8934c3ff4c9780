//! A stage with a handler: what it is called for next, and what its turns come to.

use jaiminho_core::{Credit, Event, InputId, KeyHash, LinkError, Origin, Outcome};
use tokio::sync::oneshot;

use crate::{
    actor::{Acted, Actor, Batch, Letter},
    config::Cancel,
    consumer::Gone,
    handler::{Call, Emission, End, Info, Judgement, Key, Kind, Left, Turn},
    lanes::Work,
    peers::PeerId,
    task::{Doing, Tag, Task},
    traces,
    upstream::UpstreamLink,
};

impl Task {
    pub(crate) fn actor(&mut self) -> Option<&mut Actor> {
        match &mut self.doing {
            Doing::Handler(actor) => Some(actor),
            Doing::Source(_) | Doing::Transform { .. } | Doing::Sink(_) => None,
        }
    }

    /// A list that came from an upstream.
    pub(crate) fn start_list(&mut self, link: UpstreamLink, work: Vec<Work>) {
        let (batch_max, held_max) = (self.upstreams.batch_max(link), self.upstreams.held_max(link));
        if let Some(actor) = self.actor() {
            actor.push_list(link, work, batch_max, held_max);
        }
    }

    /// A consumer has raised its credit: each ask is answered apart, as long as nobody falls behind.
    pub(crate) fn asked(&mut self, peer: PeerId, credit: Credit) {
        let Doing::Handler(actor) = &mut self.doing else { return };
        let events = self.peers.asked(peer, credit.events);
        if events == 0 {
            return;
        }
        actor.asked(events);
        self.advance_logs();
        self.write_peers();
    }

    /// Puts what a call came to into the logs, as a whole, once there is room.
    pub(crate) fn place_acted(&mut self) {
        let Doing::Handler(actor) = &mut self.doing else { return };
        if self.logs.iter().any(|log| log.output.is_full()) {
            return;
        }
        let Some(Acted { call, mut turn, result, called }) = actor.acted.take() else { return };
        let inputs = std::mem::take(&mut actor.in_hand);
        let emitted = std::mem::take(&mut turn.emitted);
        actor.owed = actor.owed.saturating_sub(emitted.len() as u64);
        match call {
            Call::Events { mut events, .. } => {
                if let Some(called) = called {
                    called.record(&self.tracer, &mut events, emitted.iter().any(|emission| emission.of.is_none()));
                    events.iter_mut().for_each(|event| traces::placed(&self.tracer, event));
                }
                self.place_batch(&inputs, &events, emitted, &mut turn);
            }
            Call::Cancelled(peer, left) => {
                self.place_new(emitted);
                if let End::Producer(link) = peer.end {
                    self.has_left(link, &left);
                }
            }
            Call::Demand(_)
            | Call::Info(_)
            | Call::Subscribed(_)
            | Call::Wake
            | Call::Discarded(_)
            | Call::Settled(_) => {
                self.place_new(emitted);
            }
        }
        if let Err(failure) = result {
            tracing::error!(stage = self.stage, error = failure.text, "the handler failed too often; the stage ends");
            self.end_handler(Err(failure.text));
        }
        self.obey(turn);
    }

    /// Events that are nobody's results.
    fn place_new(&mut self, emitted: Vec<Emission>) {
        if emitted.is_empty() {
            return;
        }
        let made = self.inputs.open(Tag::Made);
        for Emission { payload, key, output, is_tracked, of: _ } in emitted {
            let tracked = is_tracked.then(|| self.actor().map(Actor::track)).flatten();
            let input = tracked.map_or(made, |number| self.inputs.open(Tag::Tracked(number)));
            let origin = Origin { incarnation: self.instance.incarnation, offset: self.made };
            self.made += 1;
            let arrived_ms = self.clock.wall(self.clock.now);
            let event = Event { key: given(key), arrived_ms, origin, ..Event::new(payload) };
            self.push(input, output, event);
            if tracked.is_some() {
                self.seal(input);
            }
        }
        self.seal(made);
    }

    fn place_batch(&mut self, inputs: &[InputId], events: &[Event], emitted: Vec<Emission>, turn: &mut Turn) {
        let mut judged: Vec<Option<Judgement>> = std::iter::repeat_with(|| None).take(events.len()).collect();
        for (index, judgement) in turn.judged.drain(..) {
            if let Some(judged) = judged.get_mut(index) {
                *judged = Some(judgement);
            }
        }
        let mut live = Vec::with_capacity(inputs.len());
        for ((input, event), judged) in inputs.iter().zip(events).zip(&judged) {
            let is_live = !self.is_dropped(*input, event);
            live.push(is_live);
            if is_live {
                self.processed(*input, event.size());
            }
            // What of its key is behind it in this very batch is dropped, too.
            if let (true, Some(Judgement::Reject(_))) = (is_live, judged) {
                self.drop_behind_input(*input, event.key);
            }
        }
        let waits = |index: usize| live[index] && judged[index].is_none();
        let waiting: Vec<InputId> =
            (0..inputs.len()).filter(|index| waits(*index)).map(|index| inputs[index]).collect();
        let is_shared = emitted.iter().any(|emission| emission.of.is_none());
        let shared = is_shared.then(|| self.share(waiting));
        let is_early = |judged: &Option<Judgement>| matches!(judged, Some(Judgement::AcceptEarly));
        let apart = judged.iter().any(is_early).then(|| self.inputs.open(Tag::Apart));
        let traced = events.iter().find_map(|event| event.trace.clone());
        for Emission { payload, of, key, output, is_tracked: _ } in emitted {
            let trace =
                of.map_or_else(|| traced.clone(), |index| events.get(index).and_then(|event| event.trace.clone()));
            let parent = match of {
                None => shared.zip(events.first()),
                Some(index) => live.get(index).is_some_and(|live| *live).then(|| {
                    let own = apart.filter(|_| is_early(&judged[index]));
                    (own.unwrap_or(inputs[index]), &events[index])
                }),
            };
            let Some((input, parent)) = parent else { continue };
            let key = if key == Key::Inherited { parent.key } else { given(key) };
            self.push(input, output, Event { payload, key, attempt: 1, trace, ..parent.clone() });
        }
        for results in shared.into_iter().chain(apart) {
            self.seal(results);
        }
        let is_consumer = self.actor().is_some_and(|actor| actor.kind == Kind::Consumer);
        for (index, judgement) in judged.into_iter().enumerate().filter(|(index, _)| live[*index]) {
            match judgement {
                Some(Judgement::Reject(rejection)) => {
                    self.reject(inputs[index], &events[index], rejection.reason, rejection.text);
                }
                Some(Judgement::Accept | Judgement::AcceptEarly) | None => {
                    if is_consumer {
                        self.notice_slow(&events[index]);
                    }
                    self.seal(inputs[index]);
                }
            }
        }
    }

    /// An input whose outputs are results of all these.
    fn share(&mut self, members: Vec<InputId>) -> InputId {
        for member in &members {
            self.inputs.output_added(*member);
        }
        let slot = match &mut self.doing {
            Doing::Handler(actor) => actor.shared.insert(members),
            Doing::Source(_) | Doing::Transform { .. } | Doing::Sink(_) => 0,
        };
        self.inputs.open(Tag::Shared(slot))
    }

    /// All results of a batch are settled.
    pub(crate) fn shared_settled(&mut self, slot: usize, outcome: &Outcome) {
        let members = self.actor().and_then(|actor| actor.shared.try_remove(slot));
        for member in members.unwrap_or_default() {
            self.output_settled(member, outcome.clone());
        }
    }

    fn obey(&mut self, turn: Turn) {
        let Turn { asked, cancelled, infos, wake, stop, emitted: _, judged: _, terms: _ } = turn;
        for (link, events) in asked {
            self.upstreams.ask(link, events);
        }
        for end in cancelled {
            self.cancel_link(end);
        }
        for info in infos {
            // As many as fit: a handler that floods itself is told in the log.
            if !self.inform(info) {
                tracing::warn!(stage = self.stage, "too many messages of the handler to itself; one is dropped");
            }
        }
        if let (Some(after), Some(actor)) = (wake, self.actor()) {
            actor.wake = Some(tokio::time::Instant::now() + after);
        }
        if stop {
            self.end_handler(Ok(()));
        }
    }

    /// Queues a message for the handler. False: there is no handler, it has ended, or too many wait.
    pub(crate) fn inform(&mut self, info: Info) -> bool {
        self.actor().is_some_and(|actor| actor.ended.is_none() && actor.push_info(info))
    }

    pub(crate) fn cancel_link(&mut self, end: End) {
        match end {
            End::Producer(link) => self.upstreams.cancel(link, self.drain.as_millis() as u64),
            End::Consumer(peer) => self.end_link(peer, LinkError::Draining, Left::Cancelled),
        }
    }

    /// The handler has ended: nothing new is taken, what it has is finished.
    pub(crate) fn end_handler(&mut self, how: Result<(), String>) {
        let Some(actor) = self.actor() else { return };
        // What a producer that has come to its end has brought is finished, however long that takes.
        let is_unhurried = actor.kind == Kind::Producer && how.is_ok();
        actor.ended.get_or_insert(how);
        if !is_unhurried {
            self.begin_own_drain();
        }
    }

    /// A link to a producer has ended, and what it brought is handled: its subscription says whether the stage goes on.
    pub(crate) fn has_left(&mut self, link: UpstreamLink, left: &Left) {
        let Some(Gone { subscription, cancel, output }) = self.upstreams.forget(link) else { return };
        let is_succeeded = self.subscriptions.has_successor(subscription);
        self.succeed(subscription);
        let stays = match cancel {
            Cancel::Temporary => true,
            _ if is_succeeded => true,
            Cancel::Transient => left.is_normal(),
            Cancel::Permanent => false,
        };
        if stays || self.leave.is_some() {
            return;
        }
        tracing::info!(stage = self.stage, %output, %left, "the stage ends with its subscription");
        let end = if left.is_normal() { Ok(()) } else { Err(format!("{output}: {left}")) };
        self.resigned = Some(end.clone());
        self.end_handler(end);
        self.begin_own_drain();
    }

    /// Messages to the handler wait in the log, behind the events that are there. It is told what the log discards, too.
    pub(crate) fn pass_infos(&mut self) {
        let Doing::Handler(actor) = &mut self.doing else { return };
        let Some(log) = self.logs.first_mut().filter(|_| actor.kind != Kind::Consumer) else { return };
        let is_free = !actor.is_busy && actor.acted.is_none();
        while let Some(Letter::Info(info)) = actor.letters.front().filter(|_| is_free) {
            if log.output.push_info(actor.passed).is_err() {
                break;
            }
            actor.in_log.push_back(info.clone());
            actor.passed += 1;
            actor.letters.pop_front();
        }
        while log.output.poll_info().is_some() {
            actor.urgent.extend(actor.in_log.pop_front().map(Letter::Info));
        }
        if let Some(events) = log.output.poll_discarded() {
            tracing::warn!(stage = self.stage, output = log.name, events, "no room: events are discarded");
            actor.urgent.push_back(Letter::Discarded(events));
        }
    }

    /// Queues the batches whose time has come; under pressure all of them.
    pub(crate) fn complete_batches(&mut self) {
        let is_flush = self.pressure();
        if let Some(actor) = self.actor() {
            actor.complete(is_flush);
        }
    }

    /// Calls the handler for what comes next, if anything may.
    pub(crate) fn call_handler(&mut self) {
        let demand = self.demand();
        let room = self.room();
        let is_full = self.logs.iter().any(|log| log.output.is_full());
        let is_leaving = self.leave.is_some();
        let Some(actor) = self.actor().filter(|actor| !actor.is_busy && actor.acted.is_none()) else { return };
        if let Some(letter) = actor.urgent.pop_front() {
            return actor.deliver(letter);
        }
        if let Some(settled) = actor.next_settled() {
            return actor.call(Call::Settled(settled));
        }
        let is_blocked = match actor.letters.front() {
            Some(Letter::Batch(batch)) => {
                is_full
                    || actor.kind == Kind::ProducerConsumer && batch.is_first && demand == 0
                    || !actor.throttle.take_whole(batch.work.len())
            }
            Some(Letter::Info(_) | Letter::Discarded(_) | Letter::Subscribed(_) | Letter::Cancelled(..)) => false,
            None => true,
        };
        if !is_blocked {
            if let Some(Letter::Batch(batch)) = actor.letters.front() {
                actor.batch_events.record(batch.work.len() as f64);
            }
            if let Some(letter) = actor.letters.pop_front() {
                actor.deliver(letter);
            }
            return;
        }
        if actor.ended.is_some() || is_leaving {
            return;
        }
        if actor.wake.is_some_and(|wake| wake <= tokio::time::Instant::now()) {
            actor.wake = None;
            return actor.call(Call::Wake);
        }
        if actor.kind == Kind::Producer
            && !is_full
            && let Some(told) = actor.next_demand(demand.min(room))
        {
            actor.call(Call::Demand(told));
        }
    }

    /// What consumers want and nobody has brought yet: the least of all outputs.
    pub(crate) fn demand(&self) -> u64 {
        self.logs[..self.outputs()].iter().map(|log| log.output.demand()).min().unwrap_or(0)
    }

    fn room(&self) -> u64 {
        let room = |log: &crate::task::Log| log.output.fill().capacity_events.saturating_sub(log.output.fill().events);
        self.logs.iter().map(room).min().unwrap_or(0)
    }

    /// A subscription that is made while the stage runs; its number. None: the stage leaves.
    /// `instead_of` another one: that one ends, and all that it has brought is handled first.
    pub(crate) fn subscribe_to(
        &mut self,
        spec: crate::config::UpstreamSpec,
        instead_of: Option<usize>,
        reply: oneshot::Sender<usize>,
    ) {
        if self.leave.is_some() {
            return;
        }
        let index = match instead_of {
            Some(old) => {
                let index = self.subscriptions.add_after(old, spec);
                self.unsubscribe(old);
                self.succeed(old);
                index
            }
            None => self.subscriptions.add(spec),
        };
        // Whoever asked may have left: the subscription stays.
        let _gone = reply.send(index);
    }

    fn succeed(&mut self, subscription: usize) {
        if !self.upstreams.has_links(subscription) {
            self.subscriptions.is_over(subscription);
        }
    }

    /// Ends a subscription and its links.
    pub(crate) fn unsubscribe(&mut self, index: usize) {
        if let Some(terms) = self.subscriptions.terms(index) {
            terms.stop.cancel();
        }
        for link in self.upstreams.of_subscription(index) {
            self.upstreams.cancel(link, self.drain.as_millis() as u64);
        }
    }
}

impl Actor {
    fn deliver(&mut self, letter: Letter) {
        let call = match letter {
            Letter::Batch(Batch { from, work, .. }) => {
                self.in_hand = work.iter().map(|work| work.input).collect();
                Call::Events { from, events: work.into_iter().map(|work| work.event).collect() }
            }
            Letter::Info(info) => {
                self.infos -= 1;
                Call::Info(info)
            }
            Letter::Discarded(events) => Call::Discarded(events),
            Letter::Subscribed(peer) => Call::Subscribed(peer),
            Letter::Cancelled(peer, left) => Call::Cancelled(peer, left),
        };
        self.call(call);
    }
}

fn given(key: Key) -> Option<KeyHash> {
    match key {
        Key::Given(key) => key,
        Key::Inherited => None,
    }
}
