//! Deliveries until their disposition: `send`, and in which waits its time before that went.

use std::{collections::BTreeMap, sync::Arc};

use jaiminho_core::{Delivery, Disposition, Offset, Output};
use jaiminho_telemetry::{
    names::spans,
    traces::{KeyValue, Span, TraceContext, Tracer, UnixNanos},
};

use super::{Begun, How, Likeness, SPANS_OPEN_MAX, dry::Dry};
use crate::peers::PeerId;

/// Shorter waits are not told of.
const WAIT_NS_MIN: UnixNanos = 10_000;

/// A consumer's link.
#[derive(Debug)]
struct Link {
    group: Arc<str>,
    peer: Arc<str>,
    like: Arc<Likeness>,
    dry: Dry,
}

/// An entry of an output's log, as one group sees it.
pub(super) type Entry = (usize, Offset, Arc<str>);

/// A delivery, and its place in the log.
pub(super) type Sent = (Begun, Offset);

/// All of a stage. Without a tracer, and without sampled events, all of this costs nothing.
#[derive(Debug)]
pub(crate) struct Sends {
    tracer: Tracer,
    stage: String,
    links: BTreeMap<PeerId, Link>,
    /// By link and number.
    open: BTreeMap<(PeerId, u64), Sent>,
    /// Since when what was sent before waits to be sent again.
    released: BTreeMap<Entry, UnixNanos>,
}

impl Sends {
    pub(crate) fn new(tracer: Tracer, stage: &str) -> Self {
        let (links, open, released) = Default::default();
        Self { tracer, stage: stage.to_owned(), links, open, released }
    }

    /// A link to an instance of a group has opened.
    pub(crate) fn joined(&mut self, id: PeerId, output: &str, group: &str, peer: &str) {
        if self.tracer.is_on() {
            let like = Likeness::new(spans::SEND, group, &self.stage, output);
            let like = Arc::new(like.with(spans::GROUP, group).with(spans::PEER, peer));
            let dry = Dry::since(self.tracer.now());
            self.links.insert(id, Link { group: group.into(), peer: peer.into(), like, dry });
        }
    }

    /// From now on a link has credit, or has none.
    pub(crate) fn credit(&mut self, id: PeerId, has_credit: bool) {
        if let Some(link) = self.links.get_mut(&id) {
            link.dry.enter(has_credit, || self.tracer.now());
        }
    }

    /// A frame is handed over to be sent: a consumer's spans are below those of its deliveries.
    pub(crate) fn sent(&mut self, id: PeerId, output: &Output, frame: &mut [Delivery]) {
        let mut now = None;
        for Delivery { number, event } in frame.iter_mut().filter(|delivery| delivery.event.trace.is_some()) {
            let attempt = event.attempt;
            let Some(trace) = event.trace.as_deref_mut() else { continue };
            let now = *now.get_or_insert_with(|| self.tracer.now());
            let waited_since = std::mem::replace(&mut trace.since, now);
            // A tap has none: nobody settles what it gets.
            let (Some(link), Some(offset)) = (self.links.get(&id), output.offset(id.link, *number)) else { continue };
            if waited_since == 0 {
                continue;
            }
            if self.open.len() >= SPANS_OPEN_MAX {
                self.tracer.miss();
                continue;
            }
            let again = (attempt > 1).then(|| self.released.remove(&(id.output, offset, link.group.clone()))).flatten();
            let start = again.unwrap_or(waited_since);
            let begun = Begun::below(&TraceContext::from_bytes(&trace.context), start, attempt, &link.like);
            trace.context = begun.context.to_bytes();
            for (has_credit, from, to) in link.dry.cut(start, now) {
                if to - from >= WAIT_NS_MIN {
                    self.tracer.record(wait(&begun.context, link, has_credit, (from, to)));
                }
            }
            self.open.insert((id, *number), (begun, offset));
        }
    }

    /// What a consumer said of its deliveries.
    pub(crate) fn disposed(&mut self, id: PeerId, Disposition { first, last, state }: &Disposition) {
        self.end(id, (*first, *last), state.into());
    }

    /// A link is over: what is unsettled on it is released.
    pub(crate) fn lost(&mut self, id: PeerId, why: &str) {
        self.end(id, (0, u64::MAX), How::Lost(why));
        self.links.remove(&id);
    }

    /// The stage has ended.
    pub(crate) fn leave(&mut self) {
        let now = self.tracer.now();
        for (_, (begun, _)) in std::mem::take(&mut self.open) {
            begun.end(&self.tracer, now, How::Lost("the stage has ended"));
        }
    }

    fn end(&mut self, id: PeerId, (first, last): (u64, u64), how: How<'_>) {
        if self.open.is_empty() || first > last {
            return;
        }
        let (now, is_again) = (self.tracer.now(), matches!(how, How::Released | How::Lost(_)));
        for (_, (begun, offset)) in self.open.extract_if((id, first)..=(id, last), |_, _| true) {
            begun.end(&self.tracer, now, how);
            let Some(link) = self.links.get(&id).filter(|_| is_again) else { continue };
            if self.released.len() >= SPANS_OPEN_MAX {
                self.released.pop_first();
            }
            self.released.insert((id.output, offset, link.group.clone()), now);
        }
    }
}

fn wait(of: &TraceContext, link: &Link, has_credit: bool, (from, to): (UnixNanos, UnixNanos)) -> Span {
    if has_credit {
        Span::part(of, spans::WAIT_LOG, from, to)
    } else {
        Span::part(of, spans::WAIT_CREDIT, from, to).with(KeyValue::new(spans::PEER, link.peer.clone()))
    }
}
