//! The source: reads topics as a member of a consumer group, and commits what is settled.
//!
//! A thread owns the client ([`worker`], [`client`]) around a machine without IO ([`intake`], [`offsets`]); records become
//! events there ([`decode`]). The stage's side, here, offers what has been read and says what became of it.
//!
//! What is settled may be committed, whatever the outcome: accepted; rejected and stored; rejected without a dead letter,
//! which is counted and logged as everywhere. Nobody waits for an answer, so nothing else could come of it but the same again.

mod client;
mod config;
mod decode;
mod intake;
mod offsets;
#[cfg(test)]
mod tests;
mod worker;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::FuturesUnordered;
use jaiminho_core::{Outcome, Reason, Rejection};
use jaiminho_event::Template;
use jaiminho_runtime::{Acknowledge, Answer, NewEvent, Offer, Pending, Refusal, Source, SourceError, SourceHandle};
use jaiminho_telemetry::traces::Tracer;
use tokio::sync::{mpsc, oneshot};

use self::client::Client;
pub use self::config::{SourceConfig, StartAt, StartEnd, StartTime};
use self::decode::{Decoder, Item};
use self::intake::{Batch, BatchId, Limits};
use self::worker::{Report, Worker};
use crate::config::ConfigError;
use crate::statistics::BrokerMeters;

/// Most events, and bytes, of one offer. The log holds as much over its capacity.
const BATCH_EVENTS_MAX: usize = 500;
const BATCH_BYTES_MAX: u64 = 256 << 10;
/// Events that are read and wait to be offered.
const HELD_EVENTS_MAX: usize = 16_000;
/// What an event takes in a body that waits for its answers, and the answer.
const SETTLING_BYTES: u64 = 160;
/// Offers that wait for the stage's side, and its reports.
const BATCHES_WAITING: usize = 64;
const REPORTS_WAITING: usize = 256;
/// Between two tries of an offer that was refused.
const RETRY_MIN: Duration = Duration::from_millis(10);
const RETRY_MAX: Duration = Duration::from_millis(200);

/// What a stage gives to its source.
#[derive(Clone, Debug)]
pub struct SourceStage {
    /// The pipeline's name.
    pub pipeline: String,
    /// The stage's name.
    pub stage: String,
    /// Rendered into each event's `partitionkey`; where it misses a field, the event's own holds, else the record's key.
    pub key: Option<Template>,
    /// Largest event. A larger one is rejected.
    pub event_bytes_max: u64,
    /// Capacity of the stage's log.
    pub log_events: u64,
    /// The same in bytes.
    pub log_bytes: u64,
    /// Where spans of records go; it decides which are sampled.
    pub tracer: Tracer,
}

/// Reads topics into a stage.
///
/// Events of one partition are offered in its order. Each comes at least once: again when its offset was not committed, with
/// the same source and id.
pub struct KafkaSource {
    worker: Parts,
}

struct Parts {
    stage: String,
    properties: std::collections::BTreeMap<String, String>,
    topics: Vec<String>,
    begin: config::Begin,
    decoder: Decoder,
    limits: Limits,
    client: Client,
}

impl std::fmt::Debug for KafkaSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaSource").field("topics", &self.worker.topics).finish_non_exhaustive()
    }
}

impl KafkaSource {
    /// Checks the configuration; needs no broker yet.
    pub fn new(config: &SourceConfig, of: SourceStage) -> Result<Self, ConfigError> {
        let SourceStage { pipeline, stage, key, event_bytes_max, log_events, log_bytes, tracer } = of;
        let properties = config.client_config()?;
        let decoder = Decoder {
            ty: config.ty.clone().unwrap_or_else(|| format!("{pipeline}.{stage}")),
            source: config.source.clone().unwrap_or_else(|| format!("/{pipeline}/{stage}")),
            key,
            event_bytes_max: usize::try_from(event_bytes_max.min(log_bytes)).unwrap_or(usize::MAX),
            tracer,
        };
        let limits = Limits {
            held_records: HELD_EVENTS_MAX,
            held_bytes: config.held_bytes.0,
            batch_records: BATCH_EVENTS_MAX.min(usize::try_from(log_events).unwrap_or(usize::MAX)),
            batch_bytes: BATCH_BYTES_MAX.min(log_bytes),
        };
        let client = Client::open(&properties, &config.topics, BrokerMeters::new(&stage))?;
        let topics = config.topics.clone();
        Ok(Self { worker: Parts { stage, properties, topics, begin: config.begin()?, decoder, limits, client } })
    }

    /// Most bytes that the stage's log takes over its capacity.
    pub fn batch_bytes_max(event_bytes_max: u64) -> u64 {
        BATCH_BYTES_MAX.max(event_bytes_max)
    }
}

impl Source for KafkaSource {
    fn run(self: Box<Self>, handle: SourceHandle) -> BoxFuture<'static, Result<(), SourceError>> {
        async move {
            let Parts { stage, properties, topics, begin, decoder, limits, client } = self.worker;
            let (batches, offered) = mpsc::channel(BATCHES_WAITING);
            let (reports, reported) = mpsc::channel(REPORTS_WAITING);
            let (ended, end) = oneshot::channel();
            let name = stage.clone();
            let worker =
                Worker { stage, properties, topics, begin, decoder, limits, client, batches, reports: reported };
            let of = tracing::Span::current();
            let thread = std::thread::Builder::new().name("kafka-source".to_owned()).spawn(move || {
                of.in_scope(|| worker.run());
                // Nobody waits any more when the stage was cut short.
                let _unheard = ended.send(());
            });
            let thread = thread.map_err(|error| SourceError(format!("no thread: {error}")))?.thread().clone();
            let door = Door { stage: name, handle, reports, thread, told: Arc::default() };
            door.serve(offered, end).await
        }
        .boxed()
    }
}

/// The stage's side.
#[derive(Clone)]
struct Door {
    stage: String,
    handle: SourceHandle,
    reports: mpsc::Sender<Report>,
    thread: Thread,
    /// When the log last told of records that nobody keeps.
    told: Arc<Mutex<Option<Instant>>>,
}

/// What became of an offer.
enum Offered {
    Taken(Vec<Pending>),
    /// Nobody wants it any more, or the stage drains.
    Dropped,
}

impl Door {
    async fn serve(
        self,
        mut batches: mpsc::Receiver<Batch<Item>>,
        mut end: oneshot::Receiver<()>,
    ) -> Result<(), SourceError> {
        let (mut offering, mut answering) = (FuturesUnordered::new(), FuturesUnordered::new());
        let mut draining = false;
        loop {
            tokio::select! {
                Some(batch) = batches.recv() => offering.push(self.offer(batch)),
                Some((id, offered)) = offering.next() => match offered {
                    Offered::Taken(pending) => {
                        self.report(Report::Taken(id)).await;
                        answering.push(self.answers(id, pending));
                    }
                    Offered::Dropped => self.report(Report::Dropped(id)).await,
                },
                Some(settled) = answering.next() => if let Some(id) = settled {
                    self.report(Report::Settled(id)).await;
                },
                () = self.handle.draining(), if !draining => {
                    draining = true;
                    self.report(Report::Drain).await;
                }
                ended = &mut end => {
                    return ended.map_err(|_| SourceError("its reader panicked".to_owned()));
                }
            }
        }
    }

    async fn report(&self, report: Report) {
        // A thread that is gone has ended, and said so.
        if self.reports.send(report).await.is_ok() {
            self.thread.unpark();
        }
    }

    async fn offer(&self, Batch { id, items, dropped }: Batch<Item>) -> (BatchId, Offered) {
        let (mut events, mut rejected) = (Vec::with_capacity(items.len()), Vec::new());
        for Item { event, rejection } in items {
            match rejection {
                Some(rejection) => rejected.push((event, rejection)),
                None => events.push(event),
            }
        }
        let mut taken = Vec::new();
        if !events.is_empty() {
            match self.take(events, &dropped).await {
                Some(Ok(pending)) => taken.push(pending),
                Some(Err(never)) => rejected.extend(never),
                None => return (id, Offered::Dropped),
            }
        }
        for (event, rejection) in rejected {
            match self.again(&dropped, || self.handle.reject(event.clone(), rejection.clone())).await {
                Some(Ok(pending)) => taken.push(pending),
                Some(Err(())) | None => return (id, Offered::Dropped),
            }
        }
        (id, Offered::Taken(taken))
    }

    /// Offers events until there is room for them; `Err` has those that there never is room for.
    async fn take(
        &self,
        events: Vec<NewEvent>,
        dropped: &AtomicBool,
    ) -> Option<Result<Pending, Vec<(NewEvent, Rejection)>>> {
        let offer = || {
            let (deadline, acknowledge) = (None, Acknowledge::Published);
            self.handle.offer(Offer { events: events.clone(), deadline, acknowledge })
        };
        match self.again(dropped, offer).await? {
            Ok(pending) => Some(Ok(pending)),
            Err(()) => {
                let rejection = Rejection::new(Reason::TooLarge, "it can never fit the stage's log");
                Some(Err(events.into_iter().map(|event| (event, rejection.clone())).collect()))
            }
        }
    }

    /// Asks again while there is no room. `Err`: there never will be. None: nobody wants it any more.
    async fn again<F>(&self, dropped: &AtomicBool, ask: impl Fn() -> F) -> Option<Result<Pending, ()>>
    where
        F: Future<Output = Result<Pending, Refusal>>,
    {
        let mut wait = RETRY_MIN;
        while !dropped.load(Ordering::Relaxed) && !self.handle.is_draining() {
            match ask().await {
                Ok(pending) => return Some(Ok(pending)),
                Err(Refusal::NeverFits { .. }) => return Some(Err(())),
                Err(Refusal::Draining) => return None,
                Err(Refusal::Overloaded { .. }) => {
                    tokio::time::sleep(wait).await;
                    wait = RETRY_MAX.min(wait * 2);
                }
            }
        }
        None
    }

    /// None: the stage ended before it had settled all.
    async fn answers(&self, id: BatchId, pending: Vec<Pending>) -> Option<BatchId> {
        let mut gone = 0;
        for pending in pending {
            for answer in pending.answers().await {
                match answer {
                    Answer::Settled(Outcome::Accepted) => {}
                    Answer::Settled(Outcome::Rejected(rejection)) => gone += u64::from(!rejection.stored),
                    Answer::Withdrawn | Answer::Unknown => return None,
                }
            }
        }
        if gone > 0 {
            self.warn_of_loss(id, gone);
        }
        Some(id)
    }

    /// At most once a second.
    fn warn_of_loss(&self, id: BatchId, records: u64) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| told.elapsed() >= Duration::from_secs(1)) {
            *told = Some(Instant::now());
            let partition = id.place.partition;
            tracing::warn!(stage = self.stage, partition, records, "rejected, without a dead letter; read past");
        }
    }
}
