//! The stage's links to its upstreams: what came, what may be asked for, what is owed; and what dead ones have left here.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    task::Poll,
};

use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use jaiminho_core::{
    Delivery, EndReason, Instance, Intake, KeyHash, LinkError, Outcome, Settled, ToConsumer, ToProducer, Window,
};
use tokio::sync::{
    OwnedSemaphorePermit,
    mpsc::{self, error::TrySendError},
    oneshot,
};

use crate::{
    config::{Asking, Cancel},
    handler::Left,
    inspection::InputSeen,
    link::{Address, LinkHalf},
    meters::{self, LinkCounts},
    peers::{IDLE_TICKS, SILENT_TICKS, TICK_MS},
    subscriptions::Terms,
    traces::{Hops, Likeness},
    upstream::{Again, Opened, Over, UpstreamLink},
};

/// Messages of one upstream taken at once.
const MESSAGES: usize = 16;
/// What a link that is cancelled alone may take to settle.
const UNWANTED_MS: u64 = 25_000;

#[derive(Debug)]
struct Upstream {
    address: Address,
    subscription: usize,
    terms: Terms,
    producer: Instance,
    like: Arc<Likeness>,
    /// Most events of a list that a handler gets at once.
    batch_max: usize,
    window: Window,
    intake: Intake,
    to_producer: mpsc::Sender<ToProducer>,
    /// That channel is full: room in it is waited for.
    is_blocked: bool,
    from_producer: mpsc::Receiver<Result<ToConsumer, LinkError>>,
    over: oneshot::Sender<Over>,
    /// It has brought something.
    lived: bool,
    pressure: bool,
    /// `Ended` came: nothing more will.
    ended: Option<EndReason>,
    cancelled: bool,
    /// This stage wants the link no more, but goes on.
    unwanted: bool,
    silent: u32,
    /// So long a silence ends it.
    silent_ticks: u32,
    idle: u32,
    place: OwnedSemaphorePermit,
}

/// A link that has ended before all that it brought was done.
#[derive(Debug)]
struct Dead {
    left: u64,
    /// Keys of which something was rejected: what came behind it is dropped.
    dropped: HashSet<KeyHash>,
    /// A flapping link can't pile up left-overs.
    _place: OwnedSemaphorePermit,
}

/// A link that has ended.
#[derive(Debug)]
pub(crate) struct Gone {
    pub(crate) subscription: usize,
    pub(crate) cancel: Cancel,
    pub(crate) output: Arc<str>,
}

/// All links to upstreams.
#[derive(Debug)]
pub(crate) struct Upstreams {
    open: BTreeMap<UpstreamLink, Upstream>,
    /// The link that is read first the next time: none is starved by those before it.
    turn: UpstreamLink,
    /// Half of each window may be held back: the other half has to come back by itself.
    holds_back: bool,
    dead: BTreeMap<UpstreamLink, Dead>,
    /// Links that have ended, until their subscription has a say.
    over: BTreeMap<UpstreamLink, Gone>,
    /// Full channels: each resolves when its own has room.
    full: FuturesUnordered<BoxFuture<'static, UpstreamLink>>,
    /// Sampled deliveries that are not settled.
    pub(crate) hops: Hops<(UpstreamLink, u64)>,
    pub(crate) counts: LinkCounts,
}

/// How a link ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Closed {
    pub(crate) address: Address,
    pub(crate) error: LinkError,
    pub(crate) left: Left,
}

impl Upstreams {
    /// No links yet, of a stage that holds events back or doesn't.
    pub(crate) fn new(holds_back: bool, hops: Hops<(UpstreamLink, u64)>) -> Self {
        let (open, turn, dead, over, full) = Default::default();
        let counts = LinkCounts::default();
        Self { open, turn, holds_back, dead, over, full, hops, counts }
    }

    pub(crate) fn opened(&mut self, link: UpstreamLink, opened: Opened, terms: Terms) {
        let Opened { address, half, place, over, subscription } = opened;
        let silent_ticks = silent_ticks(half.subscribed.heartbeat_ms);
        let LinkHalf { subscribed, to_producer, from_producer } = half;
        let window = subscribed.window;
        let least = if self.holds_back { window.events / 2 } else { 0 };
        let min_demand = terms.min_demand.max(least).min(window.events.saturating_sub(1));
        let (intake, batch_max) = match terms.asking {
            Asking::Automatic => {
                let batch_max = usize::try_from(window.events - min_demand).unwrap_or(usize::MAX);
                (Intake::new(window, min_demand), batch_max)
            }
            Asking::Manual => (Intake::manual(window), usize::MAX),
        };
        let like = self.hops.of_link(&terms.output, &subscribed.instance.name);
        let upstream = Upstream {
            like,
            address,
            subscription,
            terms,
            producer: subscribed.instance,
            batch_max,
            window,
            intake,
            to_producer,
            is_blocked: false,
            from_producer,
            over,
            silent_ticks,
            lived: false,
            pressure: false,
            ended: None,
            cancelled: false,
            unwanted: false,
            silent: 0,
            idle: 0,
            place,
        };
        self.open.insert(link, upstream);
        self.counts.ups += 1;
    }

    /// Resolves when upstreams have said something, which is then in `said` (an error is a link's end), or when a full channel
    /// to one has room again, for what waits to be flushed.
    pub(crate) async fn changed(&mut self, said: &mut Vec<(UpstreamLink, Result<ToConsumer, LinkError>)>) {
        std::future::poll_fn(|context| {
            let mut read = |(link, upstream): (&UpstreamLink, &mut Upstream)| {
                for _ in 0..MESSAGES {
                    let Poll::Ready(message) = upstream.from_producer.poll_recv(context) else { break };
                    let is_over = message.is_none();
                    let gone = || Err(LinkError::Unavailable("the connection closed".into()));
                    said.push((*link, message.unwrap_or_else(gone)));
                    if is_over {
                        break;
                    }
                }
            };
            self.open.range_mut(self.turn..).for_each(&mut read);
            self.open.range_mut(..self.turn).for_each(&mut read);
            let next = self.open.range(self.turn..).nth(1).map(|(link, _)| *link);
            self.turn = next.unwrap_or_default();
            let mut has_room = false;
            while let Poll::Ready(Some(link)) = self.full.poll_next_unpin(context) {
                has_room = true;
                if let Some(upstream) = self.open.get_mut(&link) {
                    upstream.is_blocked = false;
                }
            }
            if said.is_empty() && !has_room { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    /// Checks what came on the link; a violation ends it.
    pub(crate) fn received(
        &mut self,
        link: UpstreamLink,
        deliveries: &mut [Delivery],
        pressure: bool,
    ) -> Result<(), LinkError> {
        let Some(upstream) = self.open.get_mut(&link) else { return Ok(()) };
        upstream.silent = 0;
        upstream.lived = true;
        upstream.pressure = pressure;
        if upstream.ended.is_some() && !deliveries.is_empty() {
            return Err(LinkError::Violation("events after Ended".into()));
        }
        upstream.intake.received(deliveries)?;
        if self.hops.tracer.is_on() {
            let events = deliveries.iter_mut().map(|delivery| ((link, delivery.number), &mut delivery.event));
            self.hops.received(events, &upstream.like);
        }
        Ok(())
    }

    pub(crate) fn is_open(&self, link: UpstreamLink) -> bool {
        self.open.contains_key(&link)
    }

    /// `Ended` came; it names the last delivery.
    pub(crate) fn ended(&mut self, link: UpstreamLink, last: u64, reason: EndReason) -> Result<(), LinkError> {
        let Some(upstream) = self.open.get_mut(&link) else { return Ok(()) };
        let received = upstream.intake.received_max();
        if last != received {
            return Err(LinkError::Violation(format!("ended after delivery {last}, but {received} came")));
        }
        upstream.ended = Some(reason);
        Ok(())
    }

    /// The link is over; where it led, and how it ended. What it brought goes on, and keeps its place among the links.
    pub(crate) fn closed(&mut self, link: UpstreamLink, error: LinkError) -> Option<Closed> {
        let upstream = self.open.remove(&link)?;
        let Upstream { address, subscription, terms, intake, place: _place, over, lived, ended, unwanted, .. } =
            upstream;
        let left_as_it_said = ended.is_some() && matches!(error, LinkError::Unavailable(_));
        let error = if left_as_it_said { LinkError::Draining } else { error };
        let left = match (&error, ended) {
            _ if unwanted => Left::Cancelled,
            (LinkError::Draining, Some(EndReason::Finished)) => Left::Finished,
            (LinkError::Draining, Some(EndReason::Draining) | None) => Left::Draining,
            _ => Left::Down(error.clone()),
        };
        let again = match (&error, &left) {
            _ if unwanted => Again::Never,
            (LinkError::Violation(_), _) | (_, Left::Finished) => Again::Later,
            _ if lived => Again::Soon,
            _ => Again::Later,
        };
        self.counts.down(match left {
            Left::Cancelled => "cancelled",
            Left::Finished => "finished",
            Left::Draining | Left::Down(_) => meters::reason(&error),
        });
        // When the stage ends, nobody waits to connect again.
        let _gone = over.send(Over { error: error.clone(), again });
        // A newer link of this stage took its place.
        let cancel = if error == LinkError::Replaced { Cancel::Temporary } else { terms.cancel };
        self.over.insert(link, Gone { subscription, cancel, output: terms.output });
        let count = intake.unsettled();
        if count > 0 {
            self.dead.insert(link, Dead { left: count, dropped: HashSet::new(), _place });
        }
        Some(Closed { address, error, left })
    }

    /// A link that has ended needs no more words: its subscription's terms, once.
    pub(crate) fn forget(&mut self, link: UpstreamLink) -> Option<Gone> {
        self.over.remove(&link)
    }

    /// Most events of one list of this link that a handler gets at once.
    pub(crate) fn batch_max(&self, link: UpstreamLink) -> usize {
        self.open.get(&link).map_or(usize::MAX, |upstream| upstream.batch_max)
    }

    /// How much of a link an unfinished batch may hold.
    pub(crate) fn held_max(&self, link: UpstreamLink) -> Window {
        let window = self.open.get(&link).map_or(Window { events: 0, bytes: 0 }, |upstream| upstream.window);
        Window { events: (window.events / 2).max(1), bytes: (window.bytes / 2).max(1) }
    }

    /// More is asked for by hand.
    pub(crate) fn ask(&mut self, link: UpstreamLink, events: u64) {
        if let Some(upstream) = self.open.get_mut(&link) {
            upstream.intake.ask(events);
        }
    }

    /// Ends a link: no more deliveries are wanted on it.
    pub(crate) fn cancel(&mut self, link: UpstreamLink, time_left_ms: u64) {
        if let Some(upstream) = self.open.get_mut(&link) {
            upstream.unwanted = true;
            upstream.cancel(time_left_ms);
        }
    }

    /// Whether a subscription has a link that is open, or has ended and not had its say.
    pub(crate) fn has_links(&self, subscription: usize) -> bool {
        let is_its = |of: usize| of == subscription;
        self.open.values().any(|link| is_its(link.subscription))
            || self.over.values().any(|link| is_its(link.subscription))
    }

    /// Whether a producer has used up what it was allowed.
    pub(crate) fn any_is_used_up(&self) -> bool {
        self.open.values().any(|upstream| !upstream.cancelled && upstream.intake.is_used_up())
    }

    /// All open links.
    pub(crate) fn seen(&self) -> Vec<(UpstreamLink, InputSeen)> {
        let seen = |(link, upstream): (&UpstreamLink, &Upstream)| {
            let [granted, received, processed] = upstream.intake.totals();
            let seen = InputSeen {
                output: upstream.terms.output.to_string(),
                producer: upstream.producer.name.clone(),
                address: upstream.address.0.clone(),
                window: upstream.window,
                granted,
                received,
                processed,
                unsettled: upstream.intake.unsettled(),
                pressure: upstream.pressure,
            };
            (*link, seen)
        };
        self.open.iter().map(seen).collect()
    }

    /// Open links of one subscription.
    pub(crate) fn of_subscription(&self, subscription: usize) -> Vec<UpstreamLink> {
        let is_its = |(_, upstream): &(&UpstreamLink, &Upstream)| upstream.subscription == subscription;
        self.open.iter().filter(is_its).map(|(link, _)| *link).collect()
    }

    /// Output and instance of each open link's producer.
    pub(crate) fn producers(&self) -> Vec<(String, String)> {
        let name = |upstream: &Upstream| (upstream.terms.output.to_string(), upstream.producer.name.clone());
        self.open.values().map(name).collect()
    }

    /// From now on drops what came of this key, if the link is dead; whether it is.
    pub(crate) fn drop_key(&mut self, link: UpstreamLink, key: KeyHash) -> bool {
        let Some(dead) = self.dead.get_mut(&link) else { return false };
        dead.dropped.insert(key);
        true
    }

    pub(crate) fn is_dropped(&self, link: UpstreamLink, key: KeyHash) -> bool {
        self.dead.get(&link).is_some_and(|dead| dead.dropped.contains(&key))
    }

    pub(crate) fn processed(&mut self, link: UpstreamLink, bytes: u64) {
        if let Some(upstream) = self.open.get_mut(&link) {
            upstream.intake.processed(1, bytes);
        }
    }

    /// A delivery is processed, and accepted.
    pub(crate) fn accepted(&mut self, link: UpstreamLink, number: u64, bytes: u64) {
        self.done(link, number, bytes, Settled::Outcome(Outcome::Accepted));
    }

    /// A delivery is given back.
    pub(crate) fn released(&mut self, link: UpstreamLink, number: u64, bytes: u64) {
        self.done(link, number, bytes, Settled::Released);
    }

    /// A delivery is processed, and settled.
    pub(crate) fn done(&mut self, link: UpstreamLink, number: u64, bytes: u64, settled: Settled) {
        if let Some(upstream) = self.open.get_mut(&link) {
            upstream.intake.processed(1, bytes);
        }
        self.settle(link, number, settled);
    }

    pub(crate) fn settle(&mut self, link: UpstreamLink, number: u64, settled: Settled) {
        self.hops.end((link, number), &settled);
        if let Some(upstream) = self.open.get_mut(&link) {
            upstream.intake.settle(number, settled);
        } else if let Some(dead) = self.dead.get_mut(&link) {
            dead.left -= 1;
            if dead.left == 0 {
                self.dead.remove(&link);
            }
        }
    }

    /// Whether any upstream reports pressure.
    pub(crate) fn pressure(&self) -> bool {
        self.open.values().any(|upstream| upstream.pressure)
    }

    /// No more deliveries are wanted.
    pub(crate) fn cancel_all(&mut self, time_left_ms: u64) {
        for upstream in self.open.values_mut() {
            upstream.cancel(time_left_ms);
        }
    }

    /// Sends credit and dispositions where the channel has room; the rest stays coalesced until it has.
    pub(crate) fn flush(&mut self) {
        for (&link, upstream) in self.open.iter_mut().filter(|(_, upstream)| !upstream.is_blocked) {
            upstream.flush_dispositions();
            match upstream.to_producer.try_reserve() {
                Ok(permit) => {
                    let credit = if upstream.cancelled { None } else { upstream.intake.next_credit() };
                    if let Some(credit) = credit {
                        permit.send(ToProducer::Credit(credit));
                        upstream.idle = 0;
                    }
                }
                Err(TrySendError::Full(())) => {
                    let channel = upstream.to_producer.clone();
                    upstream.is_blocked = true;
                    self.full.push(Box::pin(async move {
                        // A closed one is seen where it is read. The permit goes back at once: `flush` takes it again.
                        let _room = channel.reserve().await;
                        link
                    }));
                }
                Err(TrySendError::Closed(())) => {}
            }
        }
    }

    /// One tick has passed: heartbeats go out; returns links that are silent for too long, or done.
    pub(crate) fn tick(&mut self) -> Vec<(UpstreamLink, LinkError)> {
        let mut over = Vec::new();
        for (link, upstream) in &mut self.open {
            upstream.silent += 1;
            upstream.idle += 1;
            if upstream.unwanted {
                upstream.cancel(UNWANTED_MS);
            }
            if upstream.silent >= upstream.silent_ticks {
                over.push((*link, LinkError::Silent(u64::from(upstream.silent_ticks) * TICK_MS)));
            } else if upstream.ended.is_some() && upstream.intake.is_settled() {
                over.push((*link, LinkError::Draining));
            } else if upstream.idle >= IDLE_TICKS
                && let Ok(permit) = upstream.to_producer.try_reserve()
            {
                permit.send(ToProducer::Credit(upstream.intake.credit()));
                upstream.idle = 0;
            }
        }
        over
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }
}

impl Upstream {
    fn flush_dispositions(&mut self) {
        if let Ok(permit) = self.to_producer.try_reserve()
            && let dispositions = self.intake.take_dispositions()
            && !dispositions.is_empty()
        {
            permit.send(ToProducer::Dispositions(dispositions));
            self.idle = 0;
        }
    }

    /// Tried again at the next tick where the channel is full.
    fn cancel(&mut self, time_left_ms: u64) {
        if !self.cancelled {
            // A producer that is told to wait no time doesn't hear what is said after that.
            self.flush_dispositions();
            let cancel = ToProducer::Cancel { drain: true, time_left_ms };
            self.cancelled = self.to_producer.try_send(cancel).is_ok();
        }
    }
}

/// Five heartbeats of the producer's, but no less than of our own, and a minute at most.
fn silent_ticks(heartbeat_ms: u32) -> u32 {
    (heartbeat_ms.saturating_mul(5) / TICK_MS as u32).clamp(SILENT_TICKS, 240)
}

#[cfg(test)]
mod tests;
