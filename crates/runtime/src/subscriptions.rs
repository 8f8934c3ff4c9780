//! A stage's subscriptions: to all instances of one output each. They may come and go while the stage runs.

use std::sync::{Arc, atomic::AtomicU64};

use jaiminho_core::{GroupKind, Instance, Subscribe};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::{Asking, Cancel, StageLimits, UpstreamSpec},
    link::Discover,
    upstream::{Subscription, UpstreamEvent, UpstreamLink},
};

/// What holds for the links of one subscription.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    /// `STAGE` or `STAGE.NAME`
    pub(crate) output: Arc<str>,
    pub(crate) min_demand: u64,
    pub(crate) asking: Asking,
    pub(crate) cancel: Cancel,
    /// Cancelled: no link is opened any more.
    pub(crate) stop: CancellationToken,
}

/// All of them.
pub(crate) struct Subscriptions {
    template: Subscribe,
    links: Arc<AtomicU64>,
    links_max: usize,
    /// Links of all subscriptions together.
    places: Arc<Semaphore>,
    events: mpsc::Sender<(UpstreamLink, UpstreamEvent)>,
    tasks: TaskTracker,
    /// Cancelled when the stage wants no more links.
    closing: CancellationToken,
    terms: Vec<Terms>,
    /// Those that take another one's place, whose number stands before them.
    successors: Vec<(usize, Subscription, Box<dyn Discover>)>,
}

impl Subscriptions {
    pub(crate) fn new(
        template: Subscribe,
        links_max: usize,
        events: mpsc::Sender<(UpstreamLink, UpstreamEvent)>,
        tasks: TaskTracker,
        closing: CancellationToken,
    ) -> Self {
        let places = Arc::new(Semaphore::new(links_max.min(Semaphore::MAX_PERMITS)));
        let (links, terms, successors) = (Arc::new(AtomicU64::new(1)), Vec::new(), Vec::new());
        Self { template, links, links_max, places, events, tasks, closing, terms, successors }
    }

    /// One task, which keeps links to all instances; the subscription's number.
    pub(crate) fn add(&mut self, spec: UpstreamSpec) -> usize {
        let (subscription, discover) = self.made(spec);
        let index = subscription.index;
        self.tasks.spawn(subscription.run(discover));
        index
    }

    /// The same, once [`Subscriptions::is_over`] is said of the one whose place it takes; where that one has not begun, of
    /// the one that it waits for.
    pub(crate) fn add_after(&mut self, old: usize, spec: UpstreamSpec) -> usize {
        let waits = self.successors.iter().find(|(_, subscription, _)| subscription.index == old);
        let old = waits.map_or(old, |(before, ..)| *before);
        let (subscription, discover) = self.made(spec);
        let index = subscription.index;
        self.successors.push((old, subscription, discover));
        index
    }

    /// Whether another one waits to take its place.
    pub(crate) fn has_successor(&self, index: usize) -> bool {
        self.successors.iter().any(|(old, ..)| *old == index)
    }

    /// All that its links have brought is handled.
    pub(crate) fn is_over(&mut self, index: usize) {
        for (_, subscription, discover) in self.successors.extract_if(.., |(old, ..)| *old == index) {
            self.tasks.spawn(subscription.run(discover));
        }
    }

    fn made(&mut self, spec: UpstreamSpec) -> (Subscription, Box<dyn Discover>) {
        let UpstreamSpec { output, kind, window, min_demand, asking, cancel, selector, partition, discover, connect } =
            spec;
        let stop = self.closing.child_token();
        let index = self.terms.len();
        self.terms.push(Terms { output: output.as_str().into(), min_demand, asking, cancel, stop: stop.clone() });
        let subscription = Subscription {
            index,
            template: Subscribe { output, kind, window, selector, partition, ..self.template.clone() },
            connect,
            links: self.links.clone(),
            links_max: self.links_max,
            places: self.places.clone(),
            live: Arc::default(),
            events: self.events.clone(),
            tasks: self.tasks.clone(),
            closing: stop,
        };
        (subscription, discover)
    }

    pub(crate) fn terms(&self, index: usize) -> Option<&Terms> {
        self.terms.get(index)
    }
}

pub(crate) fn template(pipeline: &str, stage: &str, instance: &Instance, limits: &StageLimits) -> Subscribe {
    Subscribe {
        versions: limits.versions,
        pipeline: pipeline.to_owned(),
        output: String::new(),
        group: stage.to_owned(),
        kind: GroupKind::Required,
        instance: instance.clone(),
        link_counter: 0,
        window: jaiminho_core::Window { events: 1, bytes: 1 },
        event_bytes_max: limits.event_bytes_max,
        frame_bytes_max: jaiminho_core::frame_bytes_max(limits.event_bytes_max),
        selector: None,
        partition: None,
    }
}
