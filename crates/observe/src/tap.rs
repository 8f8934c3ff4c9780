//! A sample of the events of an output, as they pass.
//!
//! It joins each instance of the output's stage over a usual link, as a group of kind tap: a producer sends it what it has credit
//! for and holds nothing for it, so that it neither slows nor loses anything. Credit comes back as events are shown, so that
//! without a filter no more are sent than may be shown.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    future::poll_fn,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, join_all},
    stream::FuturesUnordered,
};
use jaiminho_core::{
    Credit, Delivery, Disposition, Event, GroupKind, Instance, LinkError, Outcome, Settled, Subscribe, ToConsumer,
    ToProducer, Versions, Window, frame_bytes_max,
};
use jaiminho_link::{Asker, Tls, memory::EVENT_BYTES_MAX};
use jaiminho_runtime::{Address, Connect, Discover, LinkHalf};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep, sleep_until, timeout, timeout_at};

use crate::gather::other_of_localhost;

/// In flight on each link, where a filter looks at more events than are shown.
const FILTERED_WINDOW_EVENTS: u64 = 1_000;
const WINDOW_BYTES: u64 = 1 << 20;
/// What passes the filter waits to be shown, within these bounds; more of it is dropped.
const QUEUE_MAX: usize = 1_000;
const QUEUE_BYTES_MAX: u64 = 16 << 20;
/// Instances that are tapped.
const LINKS_MAX: usize = crate::INSTANCES_MAX;
/// Discovery, and the first links, have so long.
const OPEN_DEADLINE: Duration = Duration::from_secs(5);
/// Once there is a link, nobody waits longer than this for the others.
const OTHERS_DEADLINE: Duration = Duration::from_secs(1);
/// Addresses without an instance that are told one by one.
const UNREACHED_TOLD_MAX: usize = 5;
const AGAIN: Duration = Duration::from_secs(1);
const HEARTBEAT: Duration = Duration::from_secs(2);
const ASK_DEADLINE: Duration = Duration::from_secs(1);

/// Whether an event is to be shown.
pub type Filter = Arc<dyn Fn(&Event) -> bool + Send + Sync>;

/// What is tapped, and how much of it.
pub struct Tap {
    /// The stage's instances.
    pub discover: Box<dyn Discover>,
    /// How to reach them.
    pub connect: Arc<dyn Connect>,
    /// How to ask them what taps have missed.
    pub tls: Option<Tls>,
    /// The pipeline's name.
    pub pipeline: String,
    /// `STAGE` or `STAGE.NAME`
    pub output: String,
    /// Names the tap, and nothing else at the same time.
    pub name: String,
    /// Events a second, at most.
    pub rate: f64,
    /// None: all are.
    pub filter: Option<Filter>,
}

/// What comes of a tap.
#[derive(Clone, Debug, PartialEq)]
pub enum Tapped {
    /// An event, and the instance that sent it.
    Event(String, Box<Event>),
    /// What happens to its links, in words.
    Note(String),
}

/// Events, since the tap was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TapSummary {
    /// Shown.
    pub shown: u64,
    /// Seen, and not what the filter wants.
    pub filtered: u64,
    /// What the filter wants, but too many to be shown.
    pub dropped: u64,
    /// Passed by unseen, of this output by all of its taps; none: the instances don't tell.
    pub missed: Option<u64>,
}

/// Why there is no tap.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TapError {
    /// Discovery gave nothing.
    #[error("no address of the stage is known")]
    NoAddress,
    /// Each address, with the reason.
    #[error("{}", .0.iter().map(|(address, error)| format!("{address}: {error}")).collect::<Vec<_>>().join("; "))]
    NoLink(Vec<(String, LinkError)>),
}

/// An open tap.
pub struct OpenTap {
    tap: Tap,
    links: Vec<Link>,
    opening: FuturesUnordered<BoxFuture<'static, (Address, Result<LinkHalf, LinkError>)>>,
    /// Addresses that are to be linked.
    wanted: Vec<Address>,
    counter: u64,
    queue: VecDeque<(usize, String, Box<Event>)>,
    queue_bytes: u64,
    due: Instant,
    heartbeat: Interval,
    summary: TapSummary,
    missed: BTreeMap<Address, Missed>,
    /// To be told.
    notes: VecDeque<String>,
    /// Addresses of which it was told that nothing is reached there.
    unreached: BTreeSet<Address>,
}

struct Link {
    /// Never used twice.
    id: usize,
    address: Address,
    half: LinkHalf,
    window: Window,
    granted: Credit,
    received: Credit,
    processed: Credit,
    /// The last delivery that has its disposition.
    disposed: u64,
}

/// What an instance says that taps have missed: at first, and at last.
struct Missed {
    asker: Asker,
    first: Option<u64>,
}

impl Tap {
    /// Links to all instances that are there. Who is slower comes later, or is told of.
    ///
    /// # Errors
    /// None can be linked to.
    pub async fn open(self) -> Result<OpenTap, TapError> {
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut open = OpenTap {
            tap: self,
            links: Vec::new(),
            opening: FuturesUnordered::new(),
            wanted: Vec::new(),
            counter: 0,
            queue: VecDeque::new(),
            queue_bytes: 0,
            due: Instant::now(),
            heartbeat,
            summary: TapSummary::default(),
            missed: BTreeMap::new(),
            notes: VecDeque::new(),
            unreached: BTreeSet::new(),
        };
        let end = Instant::now() + OPEN_DEADLINE;
        while open.wanted.is_empty() {
            let addresses = timeout_at(end, open.tap.discover.changed()).await;
            open.want(addresses.map_err(|_| TapError::NoAddress)?);
        }
        let asked = first_missed(open.wanted.clone(), open.tap.tls.clone(), open.tap.output.clone());
        let (missed, refused) = tokio::join!(asked, open.first_links(end));
        open.missed = missed;
        if open.links.is_empty() {
            return Err(TapError::NoLink(open.refusals(refused)));
        }
        open.tell_unreached(refused);
        Ok(open)
    }

    fn window(&self) -> Window {
        let shown = self.rate.ceil().clamp(1.0, FILTERED_WINDOW_EVENTS as f64) as u64;
        let events = if self.filter.is_some() { FILTERED_WINDOW_EVENTS } else { shown };
        Window { events, bytes: WINDOW_BYTES }
    }
}

impl OpenTap {
    /// Links to those that answer. Gives back those that refuse.
    async fn first_links(&mut self, mut end: Instant) -> BTreeMap<Address, LinkError> {
        let mut refused = BTreeMap::new();
        while self.links.len() + refused.len() < self.wanted.len() {
            match timeout_at(end, self.opening.next()).await {
                Ok(Some((address, Ok(half)))) => {
                    self.opened(address, half);
                    end = end.min(Instant::now() + OTHERS_DEADLINE);
                }
                Ok(Some((address, Err(error)))) => {
                    refused.insert(address, error);
                }
                Ok(None) | Err(_) => break,
            }
        }
        refused
    }

    /// Why there is no link, of each address.
    fn refusals(&self, mut refused: BTreeMap<Address, LinkError>) -> Vec<(String, LinkError)> {
        let late = || LinkError::Unavailable(format!("no answer within {} s", OPEN_DEADLINE.as_secs()));
        let all = self.wanted.iter().map(|address| (address.0.clone(), refused.remove(address).unwrap_or_else(late)));
        all.collect()
    }

    /// Tries those again that have refused, and tells which they are.
    fn tell_unreached(&mut self, refused: BTreeMap<Address, LinkError>) {
        let mut told: Vec<String> =
            refused.into_iter().filter_map(|(address, error)| self.unreached(address, &error)).collect();
        let more = told.len().saturating_sub(UNREACHED_TOLD_MAX);
        told.truncate(UNREACHED_TOLD_MAX);
        self.notes.extend(told);
        self.notes.extend((more > 0).then(|| format!("so it is at {more} more")));
    }

    /// Tries again later. What there is to tell of it, the first time.
    fn unreached(&mut self, address: Address, error: &LinkError) -> Option<String> {
        let is_double = other_of_localhost(&address).is_some_and(|other| self.wanted.contains(&other));
        let is_new = self.unreached.insert(address.clone());
        let note = (is_new && !is_double).then(|| format!("{}: {error}", address.0));
        self.begin(address, AGAIN);
        note
    }

    /// The next event to be shown, or what happens to a link. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Tapped {
        loop {
            if let Some(note) = self.notes.pop_front() {
                return Tapped::Note(note);
            }
            if Instant::now() >= self.due
                && let Some((link, producer, event)) = self.queue.pop_front()
            {
                return self.show(link, producer, event);
            }
            let Self { tap, links, opening, queue, due, heartbeat, .. } = self;
            tokio::select! {
                (index, said) = heard(links) => {
                    if let Some(note) = self.take(index, said) {
                        return note;
                    }
                }
                Some((address, opened)) = opening.next() => match opened {
                    Ok(half) => self.opened(address, half),
                    Err(error) => {
                        let note = self.unreached(address, &error);
                        self.notes.extend(note);
                    }
                },
                addresses = tap.discover.changed() => self.want(addresses),
                () = sleep_until(*due), if !queue.is_empty() => {}
                _ = heartbeat.tick() => self.links.iter_mut().for_each(|link| link.flush(true)),
            }
        }
    }

    /// Says what became of all events, as far as the instances tell in a second.
    pub async fn end(mut self) -> TapSummary {
        let Self { links, missed: asked, tap, .. } = &mut self;
        asked.retain(|address, _| links.iter().any(|link| link.address == *address));
        let told = join_all(asked.values_mut().filter_map(|Missed { asker, first }| {
            let first = (*first)?;
            Some(missed(asker, &tap.output).map(move |last| last.map(|last| last.saturating_sub(first))))
        }))
        .await;
        let is_told = !told.is_empty();
        let missed = told.into_iter().try_fold(0_u64, |all, missed| Some(all.saturating_add(missed?)));
        TapSummary { missed: missed.filter(|_| is_told), ..self.summary }
    }

    /// What has become of events so far; what was missed is not asked.
    pub fn summary(&self) -> TapSummary {
        self.summary
    }

    fn show(&mut self, link: usize, producer: String, event: Box<Event>) -> Tapped {
        self.queue_bytes -= event.size();
        self.due = Instant::now() + Duration::from_secs_f64(1.0 / self.tap.rate);
        self.summary.shown += 1;
        let sender = self.links.iter_mut().find(|of| of.id == link);
        if let Some(link) = sender.filter(|_| self.tap.filter.is_none()) {
            link.processed(event.size());
            link.flush(false);
        }
        Tapped::Event(producer, event)
    }

    fn take(&mut self, index: usize, said: Option<Result<ToConsumer, LinkError>>) -> Option<Tapped> {
        let error = match said {
            Some(Ok(ToConsumer::Events { deliveries, .. })) => {
                self.received(index, deliveries);
                return None;
            }
            Some(Ok(ToConsumer::Revoke { .. })) => return None,
            Some(Ok(ToConsumer::Ended { .. })) => LinkError::Draining,
            Some(Err(error)) => error,
            None => LinkError::Unavailable("the connection is lost".into()),
        };
        let link = self.links.swap_remove(index);
        let note = format!("{} ({}): {error}", link.half.subscribed.instance.name, link.address.0);
        self.unreached.insert(link.address.clone());
        self.begin(link.address, AGAIN);
        Some(Tapped::Note(note))
    }

    fn received(&mut self, index: usize, deliveries: Vec<Delivery>) {
        let Some(link) = self.links.get_mut(index) else { return };
        for Delivery { number, event } in deliveries {
            link.received.events = number;
            let size = event.size();
            link.received.bytes += size;
            let is_wanted = self.tap.filter.as_ref().is_none_or(|filter| filter(&event));
            let has_room = self.queue.len() < QUEUE_MAX && self.queue_bytes + size <= QUEUE_BYTES_MAX;
            if is_wanted && has_room {
                self.queue_bytes += size;
                self.queue.push_back((link.id, link.half.subscribed.instance.name.clone(), Box::new(event)));
            } else if is_wanted {
                self.summary.dropped += 1;
            } else {
                self.summary.filtered += 1;
            }
            // A filter looks on, whether or not what it wants is shown yet.
            if self.tap.filter.is_some() || !has_room {
                link.processed(size);
            }
        }
        link.flush(false);
    }

    /// The addresses that are there now.
    fn want(&mut self, mut addresses: Vec<Address>) {
        addresses.truncate(LINKS_MAX);
        for address in addresses.iter().filter(|address| !self.wanted.contains(address)).cloned().collect::<Vec<_>>() {
            let is_open = self.links.iter().any(|link| link.address == address);
            if !is_open {
                self.begin(address, Duration::ZERO);
            }
        }
        self.unreached.retain(|address| addresses.contains(address));
        self.wanted = addresses;
    }

    /// Connects, after a while.
    fn begin(&mut self, address: Address, after: Duration) {
        if after > Duration::ZERO && !self.wanted.contains(&address) {
            return;
        }
        self.counter += 1;
        let (connect, subscribe) = (self.tap.connect.clone(), self.subscribe());
        self.opening.push(
            async move {
                sleep(after).await;
                let opened = connect.connect(&address, subscribe).await;
                (address, opened)
            }
            .boxed(),
        );
    }

    fn subscribe(&self) -> Subscribe {
        let Tap { pipeline, output, name, .. } = &self.tap;
        Subscribe {
            versions: Versions::default(),
            pipeline: pipeline.clone(),
            output: output.clone(),
            group: name.clone(),
            kind: GroupKind::Tap,
            instance: Instance { name: name.clone(), incarnation: 1 },
            link_counter: self.counter,
            window: self.tap.window(),
            event_bytes_max: EVENT_BYTES_MAX,
            frame_bytes_max: frame_bytes_max(EVENT_BYTES_MAX),
            selector: None,
            partition: None,
        }
    }

    fn opened(&mut self, address: Address, half: LinkHalf) {
        self.unreached.remove(&address);
        let window = self.tap.window();
        let given = half.subscribed.window;
        let window = Window { events: window.events.min(given.events), bytes: window.bytes.min(given.bytes) };
        let mut link = Link {
            id: usize::try_from(self.counter).unwrap_or_default(),
            address,
            half,
            window,
            granted: Credit::default(),
            received: Credit::default(),
            processed: Credit::default(),
            disposed: 0,
        };
        self.counter += 1;
        link.flush(true);
        self.links.push(link);
    }
}

impl Link {
    fn processed(&mut self, bytes: u64) {
        self.processed.events += 1;
        self.processed.bytes += bytes;
    }

    /// Settles what has come, and grants again when half of the window is free, or when it is time to say something.
    fn flush(&mut self, is_due: bool) {
        let wanted = Credit {
            events: self.processed.events.saturating_add(self.window.events),
            bytes: self.processed.bytes.saturating_add(self.window.bytes),
        };
        let more = |wanted: u64, granted: u64, window: u64| wanted.saturating_sub(granted) >= window.div_ceil(2);
        let has_more = more(wanted.events, self.granted.events, self.window.events)
            || more(wanted.bytes, self.granted.bytes, self.window.bytes);
        // A producer that does not read is told later.
        if self.received.events > self.disposed {
            let accepted = Disposition {
                first: self.disposed + 1,
                last: self.received.events,
                state: Settled::Outcome(Outcome::Accepted),
            };
            if self.half.to_producer.try_send(ToProducer::Dispositions(vec![accepted])).is_ok() {
                self.disposed = self.received.events;
            }
        }
        if (is_due || has_more) && self.half.to_producer.try_send(ToProducer::Credit(wanted)).is_ok() {
            self.granted = wanted;
        }
    }
}

/// What the next link says that says anything.
async fn heard(links: &mut [Link]) -> (usize, Option<Result<ToConsumer, LinkError>>) {
    poll_fn(|context| {
        for (index, link) in links.iter_mut().enumerate() {
            if let Poll::Ready(said) = link.half.from_producer.poll_recv(context) {
                return Poll::Ready((index, said));
            }
        }
        Poll::Pending
    })
    .await
}

/// Asks all of them at once.
async fn first_missed(addresses: Vec<Address>, tls: Option<Tls>, output: String) -> BTreeMap<Address, Missed> {
    let (tls, output) = (&tls, &output);
    let asked = addresses.into_iter().map(|address| async move {
        let mut asker = Asker::new(address.clone(), tls.clone());
        let first = missed(&mut asker, output).await;
        (address, Missed { asker, first })
    });
    join_all(asked).await.into_iter().collect()
}

/// What taps of an output have missed, as its instance tells.
async fn missed(asker: &mut Asker, output: &str) -> Option<u64> {
    let told = timeout(ASK_DEADLINE, asker.ask(ASK_DEADLINE)).await.ok()?.ok()?;
    let mut outputs = told.stages.iter().flat_map(|stage| &stage.outputs);
    outputs.find(|seen| seen.name == output).map(|seen| seen.tap_missed)
}
