//! The consumers of this stage's outputs: what goes to each, when its channel has room, and whether it still lives.

use std::{
    collections::{BTreeMap, VecDeque},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use jaiminho_core::{Delivery, EndReason, LinkError, LinkId, ToConsumer, ToProducer};
use tokio::sync::mpsc::{self, OwnedPermit, error::TrySendError};

use crate::{
    meters::{self, LinkCounts},
    spent::Spent,
};

/// Housekeeping runs this often; silence is counted in its ticks, so that time in which the process stood still is none.
pub(crate) const TICK_MS: u64 = 250;
/// Heartbeat when idle: 2 s.
pub(crate) const IDLE_TICKS: u32 = 8;
/// Five missed heartbeats end a link.
pub(crate) const SILENT_TICKS: u32 = 40;
/// Frames under way to one consumer.
pub const FRAMES_PER_LINK: usize = 2;
/// Messages of one consumer that wait for the stage's task in their channel. It takes as many out at once.
pub(crate) const TO_PRODUCER: usize = 4;

/// Messages of consumers that a stage with so many links from them holds at once, before it looks at them.
pub fn consumer_messages_max(links: u64) -> u64 {
    // One more waits at the transport.
    links.saturating_mul(2 * TO_PRODUCER as u64 + 1)
}

/// One link of one output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PeerId {
    pub(crate) output: usize,
    pub(crate) link: LinkId,
}

type Item = Result<ToConsumer, LinkError>;

#[derive(Debug)]
struct Peer {
    name: (String, String),
    channel: mpsc::Sender<Item>,
    /// Dropped with the peer: its transport then ends, even one that is never read from.
    said: mpsc::Receiver<ToProducer>,
    /// Go before any events.
    signals: VecDeque<Item>,
    /// A permit is being waited for.
    blocked: bool,
    ending: bool,
    /// Why, as metrics name it.
    ends_as: &'static str,
    silent: u32,
    idle: u32,
    /// Cumulative, as it was granted last.
    credit: u64,
    /// Without credit, and with it.
    spent: Spent<2>,
}

/// What a consumer's transport has brought.
#[derive(Debug)]
pub(crate) enum Said {
    Messages(Vec<ToProducer>),
    /// It is gone; nothing more will come.
    Gone,
}

/// All of them.
#[derive(Default)]
pub(crate) struct Peers {
    stage: String,
    outputs: Vec<String>,
    peers: BTreeMap<PeerId, Peer>,
    /// As it was at the last tick.
    pressure: bool,
    permits: FuturesUnordered<BoxFuture<'static, (PeerId, Option<OwnedPermit<Item>>)>>,
    pub(crate) counts: LinkCounts,
}

impl Peers {
    /// None yet, of a stage with these outputs.
    pub(crate) fn new(stage: &str, outputs: Vec<String>) -> Self {
        Self { stage: stage.to_owned(), outputs, ..Self::default() }
    }

    /// `name` is the consumer's group and instance.
    pub(crate) fn add(
        &mut self,
        now: Duration,
        id: PeerId,
        name: (String, String),
        channel: mpsc::Sender<Item>,
        said: mpsc::Receiver<ToProducer>,
    ) {
        let signals = VecDeque::new();
        let (blocked, ending, ends_as, spent) = (false, false, "unavailable", Spent::new(now, 0));
        let (silent, idle, credit) = (0, 0, 0);
        let peer = Peer { name, channel, said, signals, blocked, ending, ends_as, silent, idle, credit, spent };
        self.peers.insert(id, peer);
        self.counts.ups += 1;
    }

    /// From now on it has credit, or has none.
    pub(crate) fn account(&mut self, now: Duration, id: PeerId, has_credit: bool) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.spent.enter(now, usize::from(has_credit));
        }
    }

    /// Time without credit, and with it.
    pub(crate) fn spent(&self, now: Duration, id: PeerId) -> [Duration; 2] {
        self.peers.get(&id).map_or([Duration::ZERO; 2], |peer| peer.spent.until(now))
    }

    pub(crate) fn remove(&mut self, id: PeerId) {
        if let Some(Peer { name: (group, peer), ends_as: reason, .. }) = self.peers.remove(&id) {
            let (stage, output, link) = (&self.stage, self.outputs.get(id.output), id.link.0);
            tracing::info!(stage, output, group, peer, link, reason, "link to a consumer is down");
            self.counts.down(reason);
        }
    }

    /// Something came from it.
    pub(crate) fn heard(&mut self, id: PeerId) -> bool {
        let Some(peer) = self.peers.get_mut(&id) else { return false };
        peer.silent = 0;
        !peer.ending
    }

    /// A consumer has granted credit up to so many events; how many more than before.
    pub(crate) fn asked(&mut self, id: PeerId, credit: u64) -> u64 {
        let Some(peer) = self.peers.get_mut(&id) else { return 0 };
        let more = credit.saturating_sub(peer.credit);
        peer.credit += more;
        more
    }

    /// Queues a signal; an error or `Ended` is the last that the peer gets.
    pub(crate) fn signal(&mut self, id: PeerId, item: Item) {
        if let Some(peer) = self.peers.get_mut(&id).filter(|peer| !peer.ending) {
            peer.ending = !matches!(item, Ok(ToConsumer::Revoke { .. }));
            peer.ends_as = match &item {
                Ok(ToConsumer::Ended { reason: EndReason::Draining, .. }) => "draining",
                Ok(ToConsumer::Ended { reason: EndReason::Finished, .. }) => "finished",
                Ok(ToConsumer::Revoke { .. } | ToConsumer::Events { .. }) => peer.ends_as,
                Err(error) => meters::reason(error),
            };
            peer.idle = 0;
            peer.signals.push_back(item);
        }
    }

    /// The peer gets what is queued for it, and then the end of the stream.
    pub(crate) fn end(&mut self, id: PeerId) {
        if let Some(peer) = self.peers.get_mut(&id) {
            (peer.ending, peer.ends_as) = (true, "cancelled");
        }
    }

    /// Sends what is ready as long as the channel has room. True: the peer is at its end, and to be removed.
    pub(crate) fn flush(&mut self, id: PeerId, mut frame: impl FnMut() -> Option<(Vec<Delivery>, u64, bool)>) -> bool {
        let Some(peer) = self.peers.get_mut(&id) else { return false };
        if peer.blocked {
            return false;
        }
        loop {
            if peer.signals.is_empty() && peer.ending {
                return true;
            }
            let permit = match peer.channel.clone().try_reserve_owned() {
                Ok(permit) => permit,
                Err(TrySendError::Closed(_)) => return false,
                Err(TrySendError::Full(channel)) => {
                    peer.blocked = true;
                    self.permits.push(Box::pin(async move { (id, channel.reserve_owned().await.ok()) }));
                    return false;
                }
            };
            let item = match peer.signals.pop_front() {
                Some(item) => item,
                None => match frame() {
                    Some((deliveries, backlog, pressure)) => Ok(ToConsumer::Events { deliveries, backlog, pressure }),
                    None => return false,
                },
            };
            permit.send(item);
            peer.idle = 0;
        }
    }

    /// Resolves when consumers have said something, which is then in `said`, or when a full channel has room again: its peer
    /// is then to be flushed.
    pub(crate) async fn changed(&mut self, said: &mut Vec<(PeerId, Said)>) -> Option<PeerId> {
        std::future::poll_fn(|context| {
            self.poll_said(context, said);
            match self.poll_room(context) {
                Poll::Ready(peer) => Poll::Ready(Some(peer)),
                Poll::Pending if said.is_empty() => Poll::Pending,
                Poll::Pending => Poll::Ready(None),
            }
        })
        .await
    }

    fn poll_said(&mut self, context: &mut Context<'_>, said: &mut Vec<(PeerId, Said)>) {
        for (id, peer) in &mut self.peers {
            let mut messages = Vec::new();
            match peer.said.poll_recv_many(context, &mut messages, TO_PRODUCER) {
                Poll::Ready(0) => said.push((*id, Said::Gone)),
                Poll::Ready(_) => said.push((*id, Said::Messages(messages))),
                Poll::Pending => {}
            }
        }
    }

    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<PeerId> {
        while let Poll::Ready(Some((id, _permit))) = self.permits.poll_next_unpin(context) {
            // The permit goes back at once: `flush` takes it again.
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.blocked = false;
                return Poll::Ready(id);
            }
        }
        Poll::Pending
    }

    /// One tick has passed: which peers want a heartbeat, which are dead, and which did not take their last word in the time
    /// of a heartbeat. Pressure that begins is told at once.
    pub(crate) fn tick(&mut self, pressure: bool) -> [Vec<PeerId>; 3] {
        let begins = !std::mem::replace(&mut self.pressure, pressure) && pressure;
        let [mut idle, mut silent, mut deaf] = [Vec::new(), Vec::new(), Vec::new()];
        for (id, peer) in &mut self.peers {
            peer.idle += 1;
            peer.silent += 1;
            if peer.ending {
                if peer.idle > IDLE_TICKS {
                    deaf.push(*id);
                }
            } else if peer.silent >= SILENT_TICKS {
                silent.push(*id);
            } else if begins || peer.idle >= IDLE_TICKS {
                idle.push(*id);
            }
        }
        [idle, silent, deaf]
    }

    pub(crate) fn ids(&self) -> Vec<PeerId> {
        self.peers.keys().copied().collect()
    }

    /// Its group and instance.
    pub(crate) fn name(&self, id: PeerId) -> (&str, &str) {
        self.peers.get(&id).map_or(("", ""), |peer| (&peer.name.0, &peer.name.1))
    }

    /// Group and instance of each.
    pub(crate) fn names(&self) -> Vec<(String, String)> {
        let mut names: Vec<_> = self.peers.values().map(|peer| peer.name.clone()).collect();
        names.sort_unstable();
        names
    }

    pub(crate) fn len(&self) -> usize {
        self.peers.len()
    }
}
