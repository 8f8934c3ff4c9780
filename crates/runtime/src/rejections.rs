//! What a stage rejects: its dead letters, and what comes behind a rejected event of a dead link.

use jaiminho_core::{Event, InputId, KeyHash, Outcome, Reason, Rejection, Settled, Settlement};
use jaiminho_telemetry::names::spans;

use crate::{
    admission,
    desk::Taken,
    handle::OfferSlot,
    outlet::Held,
    task::{Doing, Tag, Task},
    traces::{self, How},
    upstream::UpstreamLink,
};

impl Task {
    /// This stage rejects an input.
    pub(crate) fn reject(&mut self, input: InputId, event: &Event, reason: Reason, text: String) {
        self.drop_behind_input(input, event.key);
        self.bury(input, event, Rejection::new(reason, text));
        self.seal(input);
    }

    /// The source rejects an event that it brings.
    pub(crate) fn reject_offered(&mut self, mut slot: OfferSlot) {
        let has_room = !self.has_no_room_for_dead_letters();
        let (Doing::Source(desk), Some(rejection)) = (&mut self.doing, slot.rejection.take()) else { return };
        if let Some((decision, refusal)) = desk.refuses_rejected(has_room) {
            slot.refuse(refusal);
            return self.account.decided(decision);
        }
        self.account.decided(admission::TAKEN);
        let Some((offered, event, begun)) = desk.take_rejected(slot, self.clock) else { return };
        let input = self.inputs.open(Tag::Offered(offered));
        if let (Doing::Source(desk), Some(begun)) = (&mut self.doing, begun) {
            desk.hops.keep(Taken::Rejected(input), begun);
        }
        self.bury(input, &event, rejection);
        self.seal(input);
    }

    /// This stage rejects: it, and no other, writes the dead letter.
    pub(crate) fn bury(&mut self, input: InputId, event: &Event, rejection: Rejection) {
        let reason = rejection.reason;
        self.account.rejected(self.clock, event, &rejection);
        tracing::debug!(stage = self.stage, reason = reason.name(), error = rejection.text, "rejected");
        if event.trace.is_none() && self.tracer.is_on() {
            traces::notice(&self.tracer, &self.stage, event, spans::REJECTED, How::Rejected(&rejection));
        }
        let stored = self.dead_letter.as_ref().and_then(|(index, make)| {
            let log = self.logs.get_mut(*index)?;
            log.output.has_groups().then(|| (make(event, &rejection), &mut log.output))
        });
        match stored {
            Some((payload, output)) => {
                self.inputs.output_added(input);
                let offset = output.push(self.clock.now, input, Event { payload, attempt: 1, ..event.clone() });
                self.dying.insert(offset, rejection);
            }
            None => {
                self.warn_of_loss(event, &rejection);
                self.inputs.reject(input, rejection);
            }
        }
    }

    /// Nobody keeps the event: whoever reads the log must see it, at most once a second.
    fn warn_of_loss(&mut self, event: &Event, Rejection { reason, text, .. }: &Rejection) {
        let now = self.clock.now;
        if self.warned.is_none_or(|warned| now.since(warned) >= 1_000) {
            self.warned = Some(now);
            tracing::warn!(
                stage = self.stage,
                reason = reason.name(),
                error = text,
                attempt = event.attempt,
                "rejected, without a dead letter"
            );
        }
    }

    /// A dead letter has settled: its input's rejection is stored, or final without.
    pub(crate) fn buried(&mut self, Settlement { outcome, offset, refused, .. }: Settlement) -> Outcome {
        match self.dying.remove(&offset) {
            Some(rejection) => {
                let kept = self.dead_letter_log().is_some_and(|dead| self.logs[dead].output.has_required_groups());
                let stored = kept && outcome == Outcome::Accepted && refused.is_none();
                Outcome::Rejected(Box::new(Rejection { stored, ..rejection }))
            }
            None => outcome,
        }
    }

    /// The sink rejects an event: it waits for room among the dead letters.
    pub(crate) fn reject_held(&mut self, mut held: Held, reason: Reason, text: String) {
        traces::given_back(&self.tracer, &mut held.event);
        self.drop_behind(held.link, held.event.key);
        if let Doing::Sink(outlet) = &mut self.doing {
            outlet.rejected.push_back((held, Rejection::new(reason, text)));
        }
    }

    /// An event of a sink becomes an input only now: it may have to wait for its dead letter.
    pub(crate) fn place_rejected(&mut self) {
        while let Doing::Sink(outlet) = &mut self.doing {
            if self.logs.iter().any(|log| log.output.is_full()) {
                return;
            }
            let Some((held, rejection)) = outlet.rejected.pop_front() else { return };
            let Held { link, number, mut event, taken: _ } = held;
            traces::placed(&self.tracer, &mut event);
            let input = self.inputs.open(Tag::Sunk { link, number, bytes: event.size() });
            self.bury(input, &event, rejection);
            self.seal(input);
        }
    }

    /// Rule 5: once an event of a dead link is rejected, what came of its key behind it is dropped. It comes again.
    pub(crate) fn drop_behind(&mut self, link: UpstreamLink, key: Option<KeyHash>) {
        let Some(key) = key else { return };
        if self.upstreams.drop_key(link, key) {
            self.give_back(|from, of| from == link && of == key);
        }
    }

    /// The same of an input that is rejected.
    pub(crate) fn drop_behind_input(&mut self, input: InputId, key: Option<KeyHash>) {
        if let Some(Tag::Link { link, .. }) = self.inputs.value(input).copied() {
            self.drop_behind(link, key);
        }
    }

    /// Whether the result of an input is dropped; then the input is given up.
    pub(crate) fn is_dropped(&mut self, input: InputId, event: &Event) -> bool {
        let Some(Tag::Link { link, number }) = self.inputs.value(input).copied() else { return false };
        let is_dropped = event.key.is_some_and(|key| self.upstreams.is_dropped(link, key));
        if is_dropped {
            self.inputs.abandon(input);
            self.give_up_copies(input);
            self.upstreams.settle(link, number, Settled::Released);
        }
        is_dropped
    }
}
