//! A stage as it is seen from outside: what it holds, what its links may be sent, where its time goes.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jaiminho_core::{Credit, Fill, GroupKind, Instance, KeyShare, LinkSeen, Payload, Reason, Window};
use tokio::sync::Semaphore;

use crate::latency::LatencySeen;

/// All that a stage tells of itself. Counts and times are cumulative since its start.
#[derive(Clone, Debug, PartialEq)]
pub struct Inspection {
    /// Of the pipeline file.
    pub pipeline: String,
    /// Its name.
    pub stage: String,
    /// This replica.
    pub instance: Instance,
    /// What it does.
    pub role: RoleSeen,
    /// Time since its start.
    pub up: Duration,
    /// Its own clock.
    pub unix_ms: u64,
    /// It takes nothing new.
    pub is_draining: bool,
    /// Where its time goes.
    pub load: Load,
    /// The dead letters' is the last one, if there is one.
    pub outputs: Vec<OutputSeen>,
    /// Open links to producers.
    pub inputs: Vec<InputSeen>,
    /// Events that were taken and are not settled.
    pub in_work: u64,
    /// For how long the oldest of them, or of what the logs hold, has been here.
    pub oldest: Option<Duration>,
    /// Counts of events.
    pub counts: Counts,
    /// From taken to settled: in a log, or in a sink.
    pub settle: LatencySeen,
    /// Of a sink: from the edge's arrival, by that machine's clock, to settled here.
    pub end_to_end: LatencySeen,
    /// The last ones.
    pub rejections: Vec<RejectionSeen>,
    /// What keeps its sink or source from working.
    pub trouble: Option<Trouble>,
    /// Of a source: its limits, and how much of them is in use.
    pub usages: Vec<Usage>,
    /// Links, of outputs and inputs, that are not in here: none, but in what was sent in an answer of a bounded size.
    pub links_left_out: u32,
}

/// What a stage does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleSeen {
    /// Takes events in from outside.
    Source,
    /// Turns events into others.
    Transform,
    /// Takes events out.
    Sink,
}

/// In which state a stage was for how long: one of three holds at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Some group has events that wait: for credit, for a member, or for a partition that moves (dead letters: once their log is
    /// full). Or a source refuses offers for what it has taken.
    pub blocked: Duration,
    /// Not blocked, and all the work that it can do: its concurrency is used up, or a producer has used all the credit that it
    /// gave, or it has work and has finished none for a second. Never a source.
    pub limit: Duration,
    /// Neither: it could do more than comes.
    pub starved: Duration,
    /// Shares of the last ten seconds, in this order.
    pub recent: [f64; 3],
}

/// Events since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Taken in.
    pub events_in: u64,
    /// Bytes of these.
    pub bytes_in: u64,
    /// Settled as accepted.
    pub accepted: u64,
    /// Settled as rejected, here or further on.
    pub rejected: u64,
    /// Rejected by this stage, by the order of [`Reason`].
    pub rejected_here: [u64; 5],
    /// Offers that were refused: nothing of them was taken.
    pub refused: u64,
}

/// One output.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputSeen {
    /// `STAGE` or `STAGE.NAME`
    pub name: String,
    /// The log.
    pub fill: Fill,
    /// The fullest partition's part of it.
    pub largest_share: KeyShare,
    /// Age of the oldest held event.
    pub oldest: Option<Duration>,
    /// Events dropped because nobody subscribes.
    pub dropped: u64,
    /// Events that taps missed.
    pub tap_missed: u64,
    /// Required ones first.
    pub groups: Vec<GroupSeen>,
}

/// One group of an output.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupSeen {
    /// The consumer stage's name.
    pub name: String,
    /// How it takes part.
    pub kind: GroupKind,
    /// Its events that are on no link.
    pub waiting: u64,
    /// Events sent to it, repeated ones included.
    pub deliveries: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Of them, those that were repeated.
    pub redeliveries: u64,
    /// Its members' links.
    pub links: Vec<ConsumerSeen>,
}

/// A link to a consumer.
#[derive(Clone, Debug, PartialEq)]
pub struct ConsumerSeen {
    /// Counts and credit.
    pub link: LinkSeen,
    /// Time in which all its credit was used.
    pub no_credit: Duration,
    /// Time in which it had credit, and so nothing to get.
    pub no_events: Duration,
}

/// A link to a producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputSeen {
    /// `STAGE` or `STAGE.NAME`
    pub output: String,
    /// The producer's instance.
    pub producer: String,
    /// Where it was found.
    pub address: String,
    /// The one that holds.
    pub window: Window,
    /// What was allowed, what of it came, what of that is processed.
    pub granted: Credit,
    /// See `granted`.
    pub received: Credit,
    /// See `granted`.
    pub processed: Credit,
    /// Deliveries without a disposition.
    pub unsettled: u64,
    /// The producer reports pressure.
    pub pressure: bool,
}

/// An event that this stage rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectionSeen {
    /// By the stage's clock.
    pub unix_ms: u64,
    /// Why.
    pub reason: Reason,
    /// The same in words.
    pub text: String,
    /// The event; none where it is larger than [`REJECTED_BYTES_MAX`].
    pub event: Option<Payload>,
}

/// Rejections that are remembered.
pub const REJECTIONS_MAX: usize = 8;
/// Largest event that is remembered with its rejection.
pub const REJECTED_BYTES_MAX: u64 = 4 << 10;

/// What keeps a sink or a source from working, in words, and since when by the machine's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// As the client of the other system says it.
    pub text: String,
    /// When it began.
    pub since_unix_ms: u64,
}

/// Where a sink or a source says what keeps it from working. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Troubles(Arc<Mutex<Option<Trouble>>>);

impl Troubles {
    /// It can't work, and why. The first moment counts until [`Self::over`]; the last text does.
    pub fn report(&self, text: impl Into<String>, unix_ms: u64) {
        let mut trouble = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since_unix_ms = trouble.as_ref().map_or(unix_ms, |before| before.since_unix_ms);
        *trouble = Some(Trouble { text: text.into(), since_unix_ms });
    }

    /// It works again.
    pub fn over(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What keeps it from working just now.
    pub fn current(&self) -> Option<Trouble> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A limit of what a source may have at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// As its setting: `connections`.
    pub name: String,
    /// Of `max`.
    pub used: u64,
    /// The limit.
    pub max: u64,
}

/// Where a source says what bounds it. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Usages(Arc<Mutex<Vec<Limited>>>);

#[derive(Debug)]
struct Limited {
    name: &'static str,
    max: u64,
    free: Arc<Semaphore>,
}

impl Usages {
    /// `free` has a permit for each of `max` that is not in use.
    pub fn limit(&self, name: &'static str, max: u64, free: &Arc<Semaphore>) {
        let limited = Limited { name, max, free: Arc::clone(free) };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(limited);
    }

    pub(crate) fn current(&self) -> Vec<Usage> {
        let limits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let usage = |Limited { name, max, free }: &Limited| Usage {
            name: (*name).to_owned(),
            used: max.saturating_sub(free.available_permits() as u64),
            max: *max,
        };
        limits.iter().map(usage).collect()
    }
}
