//! A sink's queue: what it is given, what it has not settled yet.

use std::{collections::VecDeque, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use jaiminho_core::{Event, InputId};
use tokio::sync::{Notify, mpsc, watch};

use crate::{
    backoff::Backoff,
    sink::Settler,
    stage::{Receipt, Sink},
};

/// Events given to a sink at once.
const CHUNK_EVENTS: usize = 512;

/// An event that the sink has not settled.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) input: InputId,
    pub(crate) event: Event,
}

type Chunk = Vec<(Receipt, Event)>;

/// The stage's side of a sink. Bounded by the windows of its links.
#[derive(Debug)]
pub(crate) struct Outlet {
    pub(crate) settler: Settler,
    /// The sink panicked so many times.
    pub(crate) panics: watch::Receiver<u32>,
    queue: VecDeque<(Receipt, Event)>,
    chunks: mpsc::Sender<Chunk>,
    /// By receipt, from `first`; none: settled.
    held: VecDeque<Option<Held>>,
    first: u64,
}

impl Outlet {
    /// The outlet, and the task that runs the sink.
    pub(crate) fn new(
        sink: Box<dyn Sink>,
        settler: Settler,
        progress: Arc<Notify>,
        drain: Duration,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (chunks, receiver) = mpsc::channel(1);
        let (panicked, panics) = watch::channel(0);
        let outlet = Self { settler, panics, queue: VecDeque::new(), chunks, held: VecDeque::new(), first: 0 };
        (outlet, run(sink, receiver, progress, panicked, drain))
    }

    pub(crate) fn push(&mut self, input: InputId, event: Event) {
        let receipt = Receipt(self.first + self.held.len() as u64);
        self.held.push_back(Some(Held { input, event: event.clone() }));
        self.queue.push_back((receipt, event));
    }

    /// Gives the sink a chunk if it can take one.
    pub(crate) fn feed(&mut self) {
        while !self.queue.is_empty() {
            let Ok(permit) = self.chunks.try_reserve() else { return };
            permit.send(self.queue.drain(..self.queue.len().min(CHUNK_EVENTS)).collect());
        }
    }

    /// The event of this receipt; none when it was settled before.
    pub(crate) fn settled(&mut self, receipt: Receipt) -> Option<Held> {
        let index = usize::try_from(receipt.0.checked_sub(self.first)?).ok()?;
        let held = self.held.get_mut(index)?.take();
        while let Some(None) = self.held.front() {
            self.held.pop_front();
            self.first += 1;
        }
        held
    }

    /// After a panic nothing is known of the sink: everything unsettled goes to it again, in order.
    pub(crate) fn again(&mut self) {
        let unsettled = self.held.iter().enumerate().filter_map(|(index, held)| {
            held.as_ref().map(|held| (Receipt(self.first + index as u64), held.event.clone()))
        });
        self.queue = unsettled.collect();
    }

    /// Takes back what the sink has not been given, where `wanted`.
    pub(crate) fn recall(&mut self, mut wanted: impl FnMut(&Held) -> bool) -> Vec<Held> {
        let mut recalled = Vec::new();
        for (receipt, event) in std::mem::take(&mut self.queue) {
            let index = usize::try_from(receipt.0 - self.first).unwrap_or(usize::MAX);
            if self.held.get(index).and_then(Option::as_ref).is_some_and(&mut wanted) {
                recalled.extend(self.settled(receipt));
            } else {
                self.queue.push_back((receipt, event));
            }
        }
        recalled
    }
}

/// Runs the sink until its stage is done with it.
async fn run(
    mut sink: Box<dyn Sink>,
    mut chunks: mpsc::Receiver<Chunk>,
    progress: Arc<Notify>,
    panicked: watch::Sender<u32>,
    drain: Duration,
) {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
    while let Some(mut chunk) = chunks.recv().await {
        progress.notify_one();
        if AssertUnwindSafe(async { sink.send(&mut chunk).await }).catch_unwind().await.is_ok() {
            backoff.reset();
            continue;
        }
        tracing::error!("the sink panicked; all that it has not settled goes to it again");
        tokio::time::sleep(backoff.next()).await;
        // What was given before the panic comes again with all the rest.
        while chunks.try_recv().is_ok() {}
        panicked.send_modify(|count| *count += 1);
    }
    sink.drain(drain).await;
}
