//! Events that a stage has taken or received, until they are settled: `create` and `process`.

use std::{collections::BTreeMap, fmt, ops::RangeBounds, sync::Arc};

use jaiminho_core::{Event, Trace};
use jaiminho_telemetry::{
    names::spans,
    traces::{TraceContext, Tracer, UnixNanos},
};

use super::{Begun, How, Likeness, SPANS_OPEN_MAX, part};

/// A longer way between two stages is none: their clocks differ.
const WIRE_NS_MAX: UnixNanos = 600_000_000_000;

/// All of a stage, each named by what settles it. Without sampled events all of this costs nothing.
#[derive(Debug)]
pub(crate) struct Hops<K> {
    pub(crate) tracer: Tracer,
    stage: String,
    open: BTreeMap<K, Begun>,
}

impl<K: Copy + Ord + fmt::Debug> Hops<K> {
    pub(crate) fn new(tracer: Tracer, stage: &str) -> Self {
        Self { tracer, stage: stage.to_owned(), open: BTreeMap::new() }
    }

    /// What the `process` spans of a link have in common.
    pub(crate) fn of_link(&self, output: &str, producer: &str) -> Arc<Likeness> {
        Arc::new(Likeness::new(spans::PROCESS, &self.stage, &self.stage, output).with(spans::PEER, producer))
    }

    /// What the `create` spans of a source's stage have in common.
    pub(crate) fn of_source(&self) -> Arc<Likeness> {
        Arc::new(Likeness::new(spans::CREATE, &self.stage, &self.stage, &self.stage))
    }

    /// A source's event is offered no longer, since now: what that took is told.
    pub(crate) fn waited(&self, offered: &Trace) -> UnixNanos {
        let now = self.tracer.now();
        if offered.since > 0 {
            let parent = TraceContext::from_bytes(&offered.context);
            self.tracer.waited(&parent, spans::WAIT_ROOM, (offered.since, now));
        }
        now
    }

    /// A source's event was taken, and goes on with its `create`: what is to be kept of that.
    pub(crate) fn taken(&self, trace: &mut Trace, like: &Arc<Likeness>) -> Option<Begun> {
        let now = self.waited(trace);
        if !self.tracer.is_on() || !self.has_room() {
            trace.since = 0;
            return None;
        }
        let begun = Begun::below(&TraceContext::from_bytes(&trace.context), now, 1, like);
        *trace = Trace { context: begun.context.to_bytes(), since: now };
        Some(begun)
    }

    /// Events of a link, some of them sampled maybe.
    pub(crate) fn received<'a>(&mut self, events: impl Iterator<Item = (K, &'a mut Event)>, like: &Arc<Likeness>) {
        let mut received = None;
        for (key, event) in events {
            let attempt = event.attempt;
            let Some(trace) = event.trace.as_deref_mut() else { continue };
            let parent = TraceContext::from_bytes(&trace.context);
            if !parent.is_sampled() || parent.trace == [0; 16] || parent.span == [0; 8] {
                event.trace = None;
                continue;
            }
            if !self.has_room() {
                trace.since = 0;
                continue;
            }
            let now = *received.get_or_insert_with(|| self.tracer.now());
            let is_told = trace.since <= now && now - trace.since <= WIRE_NS_MAX;
            let sent = if is_told { trace.since } else { now };
            let begun = Begun::below(&parent, sent, attempt, like);
            *trace = Trace { context: begun.context.to_bytes(), since: sent };
            part(&self.tracer, trace, spans::WIRE, now);
            self.open.insert(key, begun);
        }
    }

    /// Whether one more can be kept; if not it is counted.
    fn has_room(&self) -> bool {
        let has_room = self.open.len() < SPANS_OPEN_MAX;
        if !has_room {
            self.tracer.miss();
        }
        has_room
    }

    pub(crate) fn keep(&mut self, key: K, begun: Begun) {
        self.open.insert(key, begun);
    }

    /// From now on it is named otherwise.
    pub(crate) fn rename(&mut self, from: K, to: K) {
        if let Some(begun) = self.open.remove(&from) {
            self.open.insert(to, begun);
        }
    }

    pub(crate) fn end<'a>(&mut self, key: K, how: impl Into<How<'a>>) {
        if !self.open.is_empty()
            && let Some(begun) = self.open.remove(&key)
        {
            begun.end(&self.tracer, self.tracer.now(), how.into());
        }
    }

    /// All of these at once.
    pub(crate) fn end_all(&mut self, keys: impl RangeBounds<K>, how: How<'_>) {
        if self.open.is_empty() {
            return;
        }
        let now = self.tracer.now();
        for (_, begun) in self.open.extract_if(keys, |_, _| true) {
            begun.end(&self.tracer, now, how);
        }
    }

    /// The stage has ended.
    pub(crate) fn leave(&mut self) {
        self.end_all(.., How::Lost("the stage has ended"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of an event of this context, sent so long before it is received.
    fn received(context: [u8; 25], sent: impl Fn(UnixNanos) -> UnixNanos) -> (Option<UnixNanos>, Event, usize) {
        let (tracer, mut recorded) = Tracer::new(10);
        let mut hops = Hops::new(tracer.clone(), "mid");
        let trace = Some(Box::new(Trace { context, since: sent(tracer.now()) }));
        let mut event = Event { trace, ..Event::new(&b"x"[..]) };
        hops.received([(1, &mut event)].into_iter(), &hops.of_link("in", "in-0"));
        let open = hops.open.len();
        hops.end(1, How::Accepted);
        let spans = recorded.take();
        (spans.first().map(|wire| wire.end - wire.start), event, open)
    }

    #[test]
    fn the_wire_is_what_the_sender_says_as_long_as_clocks_agree() {
        let context = TraceContext::root().to_bytes();
        let wire = |sent: fn(UnixNanos) -> UnixNanos| received(context, sent).0.unwrap();
        let told = wire(|now| now - 1_000_000);
        assert!((1_000_000..60_000_000_000).contains(&told), "{told}");
        assert_eq!([wire(|now| now + 60_000_000_000), wire(|_| 1), wire(|_| 0), wire(|_| UnixNanos::MAX)], [0; 4]);
    }

    #[test]
    fn a_context_that_is_not_sampled_or_no_context_at_all_is_dropped() {
        let root = TraceContext::root();
        for wrong in [
            TraceContext { flags: 0, ..root },
            TraceContext { trace: [0; 16], ..root },
            TraceContext { span: [0; 8], ..root },
        ] {
            let (wire, event, open) = received(wrong.to_bytes(), |now| now);
            assert_eq!((wire, event.trace, open), (None, None, 0));
        }
        let (_, event, open) = received(root.to_bytes(), |now| now);
        assert_eq!((event.trace.is_some(), open), (true, 1));
    }
}
