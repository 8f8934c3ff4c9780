//! From what the logs and a sink have settled to what upstreams and clients are told.

use jaiminho_core::{Event, InputId, Outcome, Reason, Settled, Settlement};
use jaiminho_telemetry::names::spans;

use crate::{
    desk::Taken,
    stage::{Receipt, SourceError},
    task::{Doing, Tag, Task},
    traces::{self, How},
};

impl Task {
    pub(crate) fn seal(&mut self, input: InputId) {
        if let Some((tag, outcome)) = self.inputs.seal(input) {
            self.finish(input, tag, outcome);
        }
    }

    /// Passes on what the logs have settled; what they reject, as long as there is room for its dead letter. True when there
    /// was anything.
    pub(crate) fn settle(&mut self) -> bool {
        let mut any = false;
        for index in 0..self.logs.len() {
            let is_dead_letter = self.dead_letter_log() == Some(index);
            loop {
                let waits = self.logs[index].output.refuses_next() && self.has_no_room_for_dead_letters();
                if waits && !is_dead_letter {
                    break;
                }
                let Some(settlement) = self.logs[index].output.poll_settled() else { break };
                any = true;
                if is_dead_letter {
                    let input = settlement.input;
                    let outcome = self.buried(settlement);
                    self.output_settled(input, outcome);
                } else {
                    self.settled(settlement);
                }
            }
        }
        any
    }

    /// What a log rejected, this stage did. A source's events are their own inputs.
    fn settled(&mut self, Settlement { input, outcome, offset, pushed, refused }: Settlement) {
        self.account.settled(self.clock, pushed);
        let input = match (&mut self.doing, &refused) {
            (Doing::Source(desk), None) => {
                desk.hops.end(Taken::Log(offset), &outcome);
                return self.answer(Tag::Offered(input), outcome);
            }
            (Doing::Source(desk), Some(_)) => {
                let offered = self.inputs.open(Tag::Offered(input));
                desk.hops.rename(Taken::Log(offset), Taken::Rejected(offered));
                self.inputs.output_added(offered);
                // Its one output is unsettled yet: nothing comes back.
                let _unsettled = self.inputs.seal(offered);
                offered
            }
            (Doing::Transform { .. } | Doing::Sink(_) | Doing::Handler(_), _) => input,
        };
        if let Some(mut refused) = refused {
            traces::given_back(&self.tracer, &mut refused.event);
            self.bury(input, &refused.event, refused.rejection);
        }
        self.output_settled(input, outcome);
    }

    pub(crate) fn output_settled(&mut self, input: InputId, outcome: Outcome) {
        if let Some((tag, outcome)) = self.inputs.output_settled(input, outcome) {
            self.finish(input, tag, outcome);
        }
    }

    fn finish(&mut self, input: InputId, tag: Tag, outcome: Outcome) {
        self.settle_copies(input, &outcome);
        if let (Tag::Offered(_), Doing::Source(desk)) = (tag, &mut self.doing) {
            desk.hops.end(Taken::Rejected(input), &outcome);
        }
        self.answer(tag, outcome);
    }

    /// An input is settled: its upstream, or its client, is told.
    fn answer(&mut self, tag: Tag, outcome: Outcome) {
        match tag {
            Tag::Shared(slot) => return self.shared_settled(slot, &outcome),
            Tag::Apart => return,
            Tag::Link { .. } | Tag::Sunk { .. } | Tag::Offered(_) | Tag::Made | Tag::Tracked(_) => {}
        }
        match &outcome {
            Outcome::Accepted => self.account.counts.accepted += 1,
            Outcome::Rejected(_) => self.account.counts.rejected += 1,
        }
        match tag {
            Tag::Made | Tag::Apart | Tag::Shared(_) => {}
            Tag::Tracked(number) => {
                if let Some(actor) = self.actor() {
                    actor.tracked_settled(number, outcome);
                }
            }
            Tag::Link { link, number } => self.upstreams.settle(link, number, Settled::Outcome(outcome)),
            Tag::Sunk { link, number, bytes } => self.upstreams.done(link, number, bytes, Settled::Outcome(outcome)),
            Tag::Offered(input) => {
                if let Doing::Source(desk) = &mut self.doing {
                    desk.settle(input, &outcome);
                }
            }
        }
    }

    pub(crate) fn sink_settled(&mut self, settled: Vec<(Receipt, Outcome)>) {
        for (receipt, outcome) in settled {
            let Doing::Sink(outlet) = &mut self.doing else { return };
            let Some(held) = outlet.settled(receipt) else { continue };
            self.account.finished += 1;
            match outcome {
                Outcome::Accepted => {
                    self.notice_slow(&held.event);
                    self.account.counts.accepted += 1;
                    self.account.delivered(self.clock, &held);
                    self.upstreams.accepted(held.link, held.number, held.event.size());
                }
                Outcome::Rejected(rejection) => self.reject_held(held, rejection.reason, rejection.text),
            }
        }
    }

    /// An event has come to its end here: one that is not sampled is told of where that took long.
    pub(crate) fn notice_slow(&self, event: &Event) {
        let Some(slow) = self.tracer.slow().filter(|_| event.trace.is_none() && event.arrived_ms > 0) else { return };
        let since = self.clock.wall(self.clock.now).saturating_sub(event.arrived_ms);
        if u128::from(since) > slow.as_millis() {
            traces::notice(&self.tracer, &self.stage, event, spans::SLOW, How::Accepted);
        }
    }

    /// All that is unsettled goes to the sink again, but for an event at which it has panicked too often.
    pub(crate) fn sink_panicked(&mut self) {
        let Doing::Sink(outlet) = &mut self.doing else { return };
        if let Some(held) = outlet.panicked() {
            self.reject_held(held, Reason::Exhausted, "the sink panicked at it, again and again".into());
        }
    }

    /// What a source had brought is finished, even when it failed.
    pub(crate) fn source_ended(&mut self, result: Result<(), SourceError>) {
        if let Err(error) = &result {
            tracing::error!(target: jaiminho_telemetry::LIFE, stage = self.stage, %error, "the source has failed");
            self.begin_own_drain();
        }
        if let Doing::Source(desk) = &mut self.doing {
            desk.ended = Some(result);
        }
    }
}
