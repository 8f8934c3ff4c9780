//! The consumers of this stage's outputs: what goes to each, when its channel has room, and whether it still lives.

use std::collections::{HashMap, VecDeque};

use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use jaiminho_core::{Delivery, LinkError, LinkId, ToConsumer};
use tokio::sync::mpsc::{self, OwnedPermit, error::TrySendError};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Housekeeping runs this often; silence is counted in its ticks, so that time in which the process stood still is none.
pub(crate) const TICK_MS: u64 = 250;
/// Heartbeat when idle: 2 s.
pub(crate) const IDLE_TICKS: u32 = 8;
/// Five missed heartbeats end a link.
pub(crate) const SILENT_TICKS: u32 = 40;
/// Frames under way to one consumer.
pub const FRAMES_PER_LINK: usize = 2;

/// One link of one output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PeerId {
    pub(crate) output: usize,
    pub(crate) link: LinkId,
}

type Item = Result<ToConsumer, LinkError>;

#[derive(Debug)]
struct Peer {
    channel: mpsc::Sender<Item>,
    /// Go before any events.
    signals: VecDeque<Item>,
    /// A permit is being waited for.
    blocked: bool,
    ending: bool,
    silent: u32,
    idle: u32,
    /// Dropped with the peer: its transport then ends, even one that is never read from.
    _alive: DropGuard,
}

/// All of them.
#[derive(Default)]
pub(crate) struct Peers {
    peers: HashMap<PeerId, Peer>,
    permits: FuturesUnordered<BoxFuture<'static, (PeerId, Option<OwnedPermit<Item>>)>>,
}

impl Peers {
    /// `gone` is cancelled when the peer is given up.
    pub(crate) fn add(&mut self, id: PeerId, channel: mpsc::Sender<Item>, gone: CancellationToken) {
        let (signals, _alive) = (VecDeque::new(), gone.drop_guard());
        let peer = Peer { channel, signals, blocked: false, ending: false, silent: 0, idle: 0, _alive };
        self.peers.insert(id, peer);
    }

    pub(crate) fn remove(&mut self, id: PeerId) {
        self.peers.remove(&id);
    }

    /// Something came from it.
    pub(crate) fn heard(&mut self, id: PeerId) -> bool {
        let Some(peer) = self.peers.get_mut(&id) else { return false };
        peer.silent = 0;
        !peer.ending
    }

    /// Queues a signal; an error or `Ended` is the last that the peer gets.
    pub(crate) fn signal(&mut self, id: PeerId, item: Item) {
        if let Some(peer) = self.peers.get_mut(&id).filter(|peer| !peer.ending) {
            peer.ending = !matches!(item, Ok(ToConsumer::Revoke { .. }));
            peer.idle = 0;
            peer.signals.push_back(item);
        }
    }

    /// Sends what is ready as long as the channel has room. True: the peer is at its end and gone.
    pub(crate) fn flush(&mut self, id: PeerId, mut frame: impl FnMut() -> Option<(Vec<Delivery>, u64, bool)>) -> bool {
        let Some(peer) = self.peers.get_mut(&id) else { return false };
        if peer.blocked {
            return false;
        }
        loop {
            if peer.signals.is_empty() && peer.ending {
                self.peers.remove(&id);
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

    /// Resolves when a full channel has room again; its peer is then to be flushed.
    pub(crate) async fn room(&mut self) -> PeerId {
        if self.permits.is_empty() {
            return std::future::pending().await;
        }
        loop {
            match self.permits.next().await {
                // The permit goes back at once: `flush` takes it again.
                Some((id, _permit)) => {
                    if let Some(peer) = self.peers.get_mut(&id) {
                        peer.blocked = false;
                        return id;
                    }
                }
                None => return std::future::pending().await,
            }
        }
    }

    /// One tick has passed: which peers want a heartbeat, and which are dead. One that does not take its last word
    /// in the time of a heartbeat is given up.
    pub(crate) fn tick(&mut self) -> (Vec<PeerId>, Vec<PeerId>) {
        let (mut idle, mut silent) = (Vec::new(), Vec::new());
        self.peers.retain(|_, peer| !peer.ending || peer.idle < IDLE_TICKS);
        for (id, peer) in &mut self.peers {
            peer.idle += 1;
            peer.silent += 1;
            if peer.ending {
                continue;
            }
            if peer.silent >= SILENT_TICKS {
                silent.push(*id);
            } else if peer.idle >= IDLE_TICKS {
                idle.push(*id);
            }
        }
        (idle, silent)
    }

    pub(crate) fn ids(&self) -> Vec<PeerId> {
        self.peers.keys().copied().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.peers.len()
    }
}
