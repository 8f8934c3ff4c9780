//! What is shown of a running pipeline. Its JSON is what `jaiminho top --once --json` prints and what the console reads: fields
//! are added, none is renamed or taken away.
//!
//! Rates and percentiles are null until there are two looks at an instance to compare. A rate is a second's; a share is from 0
//! to 1. What holds for a stage is the sum of its instances, but for ages (the oldest), shares (their mean) and percentiles (of
//! all their events).

use std::collections::BTreeMap;

use serde::Serialize;

use crate::plan::{Kind, Role, stage_of};
use crate::units::sum;

/// A pipeline at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct View {
    /// Its name.
    pub pipeline: String,
    /// The viewer's clock, ms since 1970.
    pub unix_ms: u64,
    /// In pipeline order.
    pub stages: Vec<StageView>,
    /// One for each output and each stage that consumes it.
    pub subscriptions: Vec<SubscriptionView>,
    /// What keeps the pipeline from being faster; null: nothing can be said.
    pub limit: Option<Limit>,
    /// What is wrong, or worth knowing; problems first.
    pub findings: Vec<Finding>,
}

impl View {
    /// A stage by its name.
    pub fn stage(&self, name: &str) -> Option<&StageView> {
        self.stages.iter().find(|stage| stage.name == name)
    }

    /// Whether some instance may be stuck, of which only longer looks can tell: over [`STUCK_SECONDS`](crate::STUCK_SECONDS).
    pub fn is_undecided(&self) -> bool {
        crate::findings::is_undecided(self)
    }

    /// No instance of any stage is seen.
    pub fn is_unseen(&self) -> bool {
        self.stages.iter().all(|stage| stage.instances.is_empty())
    }

    /// The log of an output, where its stage is seen.
    pub fn log(&self, output: &str) -> Option<&LogView> {
        let stage = self.stage(stage_of(output))?;
        stage.figures.logs.iter().find(|log| log.output == output)
    }

    /// Whether all links of a subscription are told of; else nothing follows from there being none.
    pub(crate) fn has_all_links(&self, of: &SubscriptionView) -> bool {
        self.stage(&of.from).is_none_or(|from| from.links_left_out == 0)
    }

    /// What a stage, or an ad-hoc group, consumes.
    pub fn to(&self, name: &str) -> impl Iterator<Item = &SubscriptionView> {
        self.subscriptions.iter().filter(move |of| of.to == name)
    }
}

/// One stage, all its instances together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageView {
    /// Its name.
    pub name: String,
    /// What it does.
    pub role: Role,
    /// What does it: `http`, `vrl`, `kafka`, …
    pub component: String,
    /// Of a source whose senders wait for an answer: for so long, then they get 504.
    pub deadline_ms: Option<u64>,
    /// The file says where its instances are: they are asked.
    pub has_place: bool,
    /// Where instances may be, and what does not answer there.
    pub addresses: Vec<AddressView>,
    /// What all instances tell together.
    #[serde(flatten)]
    pub figures: Figures,
    /// Links of its instances, to producers and to consumers, that these do not tell of: they are too many for an answer.
    pub links_left_out: u64,
    /// The last rejections here, newest first.
    pub rejections: Vec<RejectionView>,
    /// Those that answer, by name.
    pub instances: Vec<InstanceView>,
}

/// Where an instance may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AddressView {
    /// `HOST:PORT`
    pub address: String,
    /// Something of the pipeline answers there; with a problem: a stage that tells nothing of itself.
    pub is_there: bool,
    /// Why it is not seen; null: it is.
    pub problem: Option<String>,
}

/// One instance.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InstanceView {
    /// Stable over restarts.
    pub name: String,
    /// Where it was asked.
    pub address: String,
    /// The program's version, and the commit that it was built from.
    pub version: String,
    /// See `version`.
    pub commit: String,
    /// Time since its start.
    pub up_ms: u64,
    /// Its clock minus the viewer's, if the answer took as long as the question.
    pub clock_ahead_ms: i64,
    /// By how much `clock_ahead_ms` may be wrong, either way: half of the time until the answer.
    pub clock_within_ms: u64,
    /// Of its process.
    pub resident_bytes: u64,
    /// Of these, the program itself.
    pub program_bytes: u64,
    /// What `jaiminho validate` says that its process may take beside the program itself; null: the process does not know.
    pub memory_bytes_max: Option<u64>,
    /// Of what it can have at a time, what share it has, 0 to 1: `cpu`, over the last ten seconds; of a source, each of its limits.
    pub usages: BTreeMap<String, f64>,
    /// It takes nothing new.
    pub is_draining: bool,
    /// For how long it has settled nothing, as far as it was looked at.
    pub quiet_ms: u64,
    /// Links that it does not tell of.
    pub links_left_out: u64,
    /// What it tells.
    #[serde(flatten)]
    pub figures: Figures,
}

/// What is counted and measured, of an instance or of a whole stage.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Over the last seconds.
    pub rates: Rates,
    /// Since the start.
    pub totals: Totals,
    /// Over the last ten seconds.
    pub load: LoadView,
    /// Events that were taken and are not settled.
    pub in_work: u64,
    /// For how long the oldest of them has been here.
    pub oldest_ms: Option<u64>,
    /// From taken to settled, over the last ten seconds.
    pub settle: LatencyView,
    /// Of a sink: from the edge's arrival to settled, over the last ten seconds.
    pub end_to_end: LatencyView,
    /// One for each output.
    pub logs: Vec<LogView>,
    /// What keeps a sink or a source from working.
    pub trouble: Option<TroubleView>,
}

impl Figures {
    /// Of its fullest log; none: it has no log.
    pub fn fill(&self) -> Option<f64> {
        self.logs.iter().map(|log| log.fill).reduce(f64::max)
    }
}

/// A second's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rates {
    /// Taken in.
    pub events_in: Option<f64>,
    /// Bytes of these.
    pub bytes_in: Option<f64>,
    /// Settled as accepted.
    pub accepted: Option<f64>,
    /// Settled as rejected, here or further on.
    pub rejected: Option<f64>,
    /// Offers that were refused.
    pub refused: Option<f64>,
    /// Sent to all consumers, each event once for each group, repeated ones included.
    pub events_out: Option<f64>,
    /// Bytes of these.
    pub bytes_out: Option<f64>,
}

impl Rates {
    /// Settled, either way.
    pub fn settled(&self) -> Option<f64> {
        Some(self.accepted? + self.rejected?)
    }
}

/// Since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Taken in.
    pub events_in: u64,
    /// Bytes of these.
    pub bytes_in: u64,
    /// Settled as accepted.
    pub accepted: u64,
    /// Settled as rejected, here or further on.
    pub rejected: u64,
    /// Rejected by this stage, by reason: `malformed`, `invalid`, `too_large`, `exhausted`, `refused`.
    pub rejected_here: BTreeMap<String, u64>,
    /// Offers that were refused: nothing of them was taken.
    pub refused: u64,
    /// Sent to all consumers.
    pub events_out: u64,
    /// Bytes of these.
    pub bytes_out: u64,
    /// Of those that were sent, the ones that were repeated.
    pub redelivered: u64,
}

impl Totals {
    /// Rejected by this stage, for whatever reason.
    pub fn all_rejected_here(&self) -> u64 {
        sum(self.rejected_here.values().copied())
    }
}

/// Shares of time in each of three states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct LoadView {
    /// It has events that nobody further on can take yet.
    pub blocked: f64,
    /// It has all the work that it can do.
    pub limit: f64,
    /// It could do more than comes.
    pub starved: f64,
}

/// Durations of events, from buckets: a percentile is the place within its bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct LatencyView {
    /// How many events.
    pub count: u64,
    /// Half of them took no longer.
    pub p50_ms: Option<f64>,
    /// 99 of 100 took no longer.
    pub p99_ms: Option<f64>,
}

/// What an output holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LogView {
    /// `STAGE` or `STAGE.NAME`
    pub output: String,
    /// Held until all who consume it are done.
    pub events: u64,
    /// Limit of `events`.
    pub capacity_events: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Limit of `bytes`.
    pub capacity_bytes: u64,
    /// The largest share of a limit that is used, in the fullest instance.
    pub fill: f64,
    /// Share of the limits that one key's partition takes up, in the instance where that is most.
    pub largest_key: f64,
    /// Age of the oldest one.
    pub oldest_ms: Option<u64>,
    /// Events dropped because nobody subscribes.
    pub dropped: u64,
    /// Events that taps missed.
    pub tap_missed: u64,
}

/// What does not work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TroubleView {
    /// As the client of the other system says it.
    pub text: String,
    /// Since when, by the instance's clock, ms since 1970.
    pub since_unix_ms: u64,
    /// For how long, by that clock alone.
    pub for_ms: u64,
}

/// A rejected event.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RejectionView {
    /// Where.
    pub instance: String,
    /// When, by the instance's clock, ms since 1970.
    pub unix_ms: u64,
    /// How long ago, by that clock alone.
    pub ago_ms: u64,
    /// `malformed`, `invalid`, `too_large`, `exhausted` or `refused`
    pub reason: String,
    /// The same in words.
    pub text: String,
    /// In CloudEvents' JSON format; null: it is large, or can't be read.
    pub event: Option<serde_json::Value>,
}

/// That a stage consumes an output.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SubscriptionView {
    /// `OUTPUT>STAGE`, as in the history.
    pub id: String,
    /// `STAGE` or `STAGE.NAME`
    pub output: String,
    /// The stage that the output belongs to.
    pub from: String,
    /// The consumer stage, or an ad-hoc group's name.
    pub to: String,
    /// How it takes part.
    pub kind: Kind,
    /// Events that are on no link.
    pub waiting: u64,
    /// Events a second, repeated ones included.
    pub events: Option<f64>,
    /// Bytes a second.
    pub bytes: Option<f64>,
    /// Repeated events a second.
    pub redelivered: Option<f64>,
    /// Events since the producers' start, repeated ones included.
    pub deliveries: u64,
    /// Of them, those that were repeated.
    pub redeliveries: u64,
    /// Share of the last ten seconds in which links had no credit left, a mean.
    pub no_credit: Option<f64>,
    /// Producer and consumer instances, by name.
    pub links: Vec<LinkView>,
}

impl SubscriptionView {
    /// Links that are not cancelled.
    pub fn open_links(&self) -> impl Iterator<Item = &LinkView> {
        self.links.iter().filter(|link| !link.is_cancelled)
    }

    /// Unused credit of these, and their windows, in events.
    pub fn credit(&self) -> (u64, u64) {
        self.open_links().fold((0, 0), |(unused, window): (u64, u64), link| {
            (unused.saturating_add(link.credit_unused), window.saturating_add(link.window_events))
        })
    }
}

/// One consumer instance at one producer instance.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LinkView {
    /// The producer's instance.
    pub producer: String,
    /// The consumer's instance.
    pub consumer: String,
    /// The most that may be in flight, unprocessed.
    pub window_events: u64,
    /// See `window_events`.
    pub window_bytes: u64,
    /// Events that may be sent now.
    pub credit_unused: u64,
    /// Deliveries whose fate is not known.
    pub unsettled: u64,
    /// Events a second.
    pub events: Option<f64>,
    /// Bytes a second.
    pub bytes: Option<f64>,
    /// Share of the last ten seconds in which it had no credit left.
    pub no_credit: Option<f64>,
    /// It gets nothing more.
    pub is_cancelled: bool,
}

/// What keeps the pipeline from being faster.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Limit {
    /// The stage.
    pub stage: String,
    /// In which way.
    pub kind: LimitKind,
    /// Of the last ten seconds: in which it had all the work that it can do, or (a source) in which it could have sent more.
    pub share: f64,
    /// In words, with its reason.
    pub text: String,
}

/// In which way a stage is the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitKind {
    /// Events wait for it, and it has no instance.
    NoInstance,
    /// It has all the work that it can do.
    Busy,
    /// A source that brings no more than this.
    Source,
}

/// Something that is wrong, or worth knowing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Whether something is wrong.
    pub severity: Severity,
    /// What it is about.
    pub kind: FindingKind,
    /// Where.
    pub stage: Option<String>,
    /// Where.
    pub instance: Option<String>,
    /// A sentence.
    pub text: String,
    /// What to do.
    pub advice: String,
}

/// Whether something is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It is.
    Problem,
    /// It need not be.
    Notice,
}

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// A sink or a source can't work, for a reason outside.
    Trouble,
    /// A stage of which nothing is seen, or that events wait for.
    NoInstance,
    /// An address at which nothing answers.
    Unreachable,
    /// It has work, and has settled nothing for half a minute of looks.
    Stuck,
    /// Senders have no answer by their deadline.
    Late,
    /// A log over 80 % full.
    LogFull,
    /// Resident memory, beside the program itself, over 90 % of the bound.
    Memory,
    /// Events are rejected.
    Rejects,
    /// A key, or few of them, make most of the events.
    SkewedKeys,
    /// Links wait for credit while their consumer waits for events.
    SmallWindow,
    /// Clocks that differ by more than 500 ms.
    ClockSkew,
    /// An instance that leaves.
    Draining,
    /// Instances of different versions.
    Versions,
    /// More than is looked at.
    TooMany,
}

/// The last 15 minutes: one value of each list for each of `unix_ms`, oldest first; null where nothing was seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct History {
    /// From one value to the next.
    pub interval_ms: u64,
    /// The viewer's clock, ms since 1970.
    pub unix_ms: Vec<u64>,
    /// By name.
    pub stages: BTreeMap<String, StageHistory>,
    /// By `OUTPUT>STAGE`.
    pub subscriptions: BTreeMap<String, SubscriptionHistory>,
}

/// Of one stage. See [`Figures`].
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StageHistory {
    /// A second's.
    pub events_in: Vec<Option<f32>>,
    /// A second's.
    pub accepted: Vec<Option<f32>>,
    /// A second's.
    pub rejected: Vec<Option<f32>>,
    /// Share of the fullest log that is used.
    pub fill: Vec<Option<f32>>,
    /// Share of time, as over ten seconds.
    pub blocked: Vec<Option<f32>>,
    /// Share of time, as over ten seconds.
    pub limit: Vec<Option<f32>>,
    /// Taken to settled.
    pub settle_p50_ms: Vec<Option<f32>>,
    /// Taken to settled.
    pub settle_p99_ms: Vec<Option<f32>>,
    /// Of a sink: the edge's arrival to settled.
    pub end_to_end_p50_ms: Vec<Option<f32>>,
    /// Of a sink: the edge's arrival to settled.
    pub end_to_end_p99_ms: Vec<Option<f32>>,
}

/// Of one subscription.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SubscriptionHistory {
    /// A second's.
    pub events: Vec<Option<f32>>,
    /// Events on no link.
    pub waiting: Vec<Option<f32>>,
    /// Share of time.
    pub no_credit: Vec<Option<f32>>,
}
