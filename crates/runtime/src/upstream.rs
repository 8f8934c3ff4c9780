//! Links to the instances of an upstream stage: discovers them, connects, connects again.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jaiminho_core::{LinkError, Subscribe, Window};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    backoff::Backoff,
    link::{Address, Connect, Discover, LinkHalf},
};

/// One link of this process, never used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct UpstreamLink(pub(crate) u64);

/// What happens on a link, told to the stage's task.
#[derive(Debug)]
pub(crate) enum UpstreamEvent {
    Opened(Box<Opened>),
    Refused(LinkError),
    /// The link is left to other consumers.
    Spared,
}

/// A new link. From now on the stage's task reads it.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) subscription: usize,
    pub(crate) address: Address,
    pub(crate) half: LinkHalf,
    /// Given back when all that the link brought is done.
    pub(crate) place: OwnedSemaphorePermit,
    pub(crate) over: oneshot::Sender<Over>,
}

/// How a link ended.
#[derive(Debug)]
pub(crate) struct Over {
    pub(crate) error: LinkError,
    pub(crate) again: Again,
}

/// Whether the stage would have a link again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    Never,
    /// After the shortest wait.
    Soon,
    /// The producer has said that nothing comes, or has broken the protocol and would do so again at once, or the link never
    /// brought anything: the waits grow.
    Later,
}

/// What an address is wanted for.
#[derive(Clone, Default)]
struct Wanted {
    /// No more links to it are opened.
    stop: CancellationToken,
    /// The one that is open is given up, too.
    spare: CancellationToken,
}

/// How a link ended, and the newer one to the same producer, if there is one.
struct Ended {
    error: LinkError,
    newer: Option<CancellationToken>,
}

/// Everything that the tasks of one subscription share.
#[derive(Clone)]
pub(crate) struct Subscription {
    pub(crate) index: usize,
    pub(crate) template: Subscribe,
    pub(crate) connect: Arc<dyn Connect>,
    pub(crate) links: Arc<AtomicU64>,
    /// Limit of all links of the stage, and what is left of it.
    pub(crate) links_max: usize,
    pub(crate) places: Arc<Semaphore>,
    /// The newest link to each producer instance, by its name, and when that has ended.
    pub(crate) live: Arc<Mutex<HashMap<String, (UpstreamLink, CancellationToken)>>>,
    pub(crate) events: mpsc::Sender<(UpstreamLink, UpstreamEvent)>,
    pub(crate) tasks: TaskTracker,
    /// No link is opened once this is cancelled.
    pub(crate) closing: CancellationToken,
}

impl Subscription {
    /// Follows the set of instances; one task for each that is there.
    pub(crate) async fn run(self, mut discover: Box<dyn Discover>) {
        let mut running: BTreeMap<Address, Wanted> = BTreeMap::new();
        loop {
            let present = tokio::select! {
                biased;
                present = discover.changed() => present,
                () = self.closing.cancelled() => return,
            };
            let present: BTreeSet<Address> = present.into_iter().collect();
            running.retain(|address, wanted| {
                let stays = present.contains(address);
                if !stays {
                    wanted.stop.cancel();
                }
                if discover.spared().contains(address) {
                    wanted.spare.cancel();
                }
                stays
            });
            for address in present {
                running.entry(address.clone()).or_insert_with(|| {
                    let wanted = Wanted { stop: self.closing.child_token(), ..Wanted::default() };
                    self.tasks.spawn(self.clone().keep_linked(address, wanted.clone()));
                    wanted
                });
            }
        }
    }

    /// Connects to one instance as long as it is named; a link that is open outlives the name.
    async fn keep_linked(self, address: Address, wanted: Wanted) {
        let seed = (&self.template.instance, &address);
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5), seed);
        let mut told = None;
        while let Some(place) = self.place(&address, &wanted.stop).await {
            let ended = self.link(&address, &wanted, &mut backoff, &mut told, place).await;
            let newer = match ended {
                None | Some(Ended { error: LinkError::Fenced(_), .. }) => return,
                Some(Ended { error: LinkError::Replaced, newer }) => newer,
                Some(_) => None,
            };
            let wait = async {
                // Replaced through another address of the same producer: this one is left alone while that link lives.
                if let Some(newer) = newer {
                    newer.cancelled().await;
                }
                tokio::time::sleep(backoff.next()).await;
            };
            tokio::select! {
                biased;
                () = wait => {}
                () = wanted.stop.cancelled() => return,
            }
        }
    }

    /// A place among the stage's links. None: no link is wanted any more.
    async fn place(&self, address: &Address, stop: &CancellationToken) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            return (!stop.is_cancelled()).then_some(place);
        }
        let Self { template: Subscribe { output, group, .. }, links_max, .. } = self;
        tracing::warn!(stage = group, output, address = address.0, links_max, "not linked: `limits.links` is reached");
        tokio::select! {
            biased;
            place = self.places.clone().acquire_owned() => place.ok(),
            () = stop.cancelled() => None,
        }
    }

    /// One link from beginning to end. None: the stage is gone or wants no more. `told` is why there was none before: the
    /// same reason is logged once, however often it is tried again.
    async fn link(
        &self,
        address: &Address,
        wanted: &Wanted,
        backoff: &mut Backoff,
        told: &mut Option<LinkError>,
        place: OwnedSemaphorePermit,
    ) -> Option<Ended> {
        let link = UpstreamLink(self.links.fetch_add(1, Ordering::Relaxed));
        let subscribe = Subscribe { link_counter: link.0, ..self.template.clone() };
        let connected = tokio::select! {
            biased;
            connected = self.connect.connect(address, subscribe) => connected,
            () = wanted.stop.cancelled() => return None,
        };
        let half = match connected.and_then(|half| agreed(half, self.template.window)) {
            Ok(half) => {
                *told = None;
                half
            }
            Err(error) => {
                let (stage, output) = (&self.template.group, &self.template.output);
                if told.as_ref() == Some(&error) {
                    tracing::debug!(stage, output, address = address.0, %error, "no link to a producer");
                } else {
                    tracing::warn!(stage, output, address = address.0, %error, "no link to a producer; trying again");
                    *told = Some(error.clone());
                }
                self.events.send((link, UpstreamEvent::Refused(error.clone()))).await.ok()?;
                return Some(Ended { error, newer: None });
            }
        };
        let producer = half.subscribed.instance.name.clone();
        let gone = CancellationToken::new();
        let alive = gone.clone().drop_guard();
        self.live().insert(producer.clone(), (link, gone));
        let (over, mut ended) = oneshot::channel();
        let opened = Opened { subscription: self.index, address: address.clone(), half, place, over };
        self.events.send((link, UpstreamEvent::Opened(Box::new(opened)))).await.ok()?;
        let over = tokio::select! {
            biased;
            over = &mut ended => over,
            () = wanted.spare.cancelled() => {
                self.events.send((link, UpstreamEvent::Spared)).await.ok()?;
                ended.await
            }
        };
        let Over { error, again } = over.ok()?;
        drop(alive);
        let newer = {
            let mut live = self.live();
            let newer = live.get(&producer).filter(|(newest, _)| *newest != link).map(|(_, gone)| gone.clone());
            if newer.is_none() {
                live.remove(&producer);
            }
            newer
        };
        match again {
            Again::Never => return None,
            Again::Soon => backoff.reset(),
            Again::Later => {}
        }
        Some(Ended { error, newer })
    }

    fn live(&self) -> MutexGuard<'_, HashMap<String, (UpstreamLink, CancellationToken)>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The producer may give less than the wanted window, not more: it is a term of this stage's memory.
fn agreed(mut half: LinkHalf, wanted: Window) -> Result<LinkHalf, LinkError> {
    let Window { events, bytes } = half.subscribed.window;
    if events == 0 || bytes == 0 {
        return Err(LinkError::Violation(format!("a window of {events} events and {bytes} bytes")));
    }
    half.subscribed.window = Window { events: events.min(wanted.events), bytes: bytes.min(wanted.bytes) };
    Ok(half)
}

#[cfg(test)]
mod tests {
    use futures_util::future::BoxFuture;
    use jaiminho_core::{GroupKind, Instance};

    use super::*;

    struct Half;

    impl Connect for Half {
        fn connect<'a>(&'a self, _: &'a Address, _: Subscribe) -> BoxFuture<'a, Result<LinkHalf, LinkError>> {
            Box::pin(async { Ok(LinkHalf::for_test()) })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_producer_that_is_given_up_for_good_leaves_nothing_behind() {
        let (events, mut told) = mpsc::channel(1);
        let instance = Instance { name: "mid-0".into(), incarnation: 1 };
        let limits = crate::config::StageLimits::default();
        let template = crate::subscriptions::template("p", "mid", &instance, &limits);
        let subscription = Subscription {
            index: 0,
            template: Subscribe { kind: GroupKind::Required, window: Window { events: 4, bytes: 100 }, ..template },
            connect: Arc::new(Half),
            links: Arc::default(),
            links_max: 1,
            places: Arc::new(Semaphore::new(1)),
            live: Arc::default(),
            events,
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
        };
        let linked = tokio::spawn(subscription.clone().keep_linked(Address("in".into()), Wanted::default()));
        let Some((_, UpstreamEvent::Opened(opened))) = told.recv().await else { panic!("it connects") };
        assert_eq!(subscription.live().len(), 1);
        let unwanted = LinkError::Unavailable("the connection closed".into());
        opened.over.send(Over { error: unwanted, again: Again::Never }).unwrap();
        linked.await.unwrap();
        assert!(subscription.live().is_empty());
    }
}
