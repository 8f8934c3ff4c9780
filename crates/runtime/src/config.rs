//! What a stage is made of.

use std::{fmt, sync::Arc, time::Duration};

use jaiminho_core::{Event, GroupKind, Instance, OutputConfig, Payload, Rejection, Versions, Window};
use jaiminho_telemetry::traces::Tracer;

use crate::{
    batching::Batching,
    handler::{Handler, Kind},
    link::{Connect, Discover},
    rate::Rate,
    sink::Settler,
    stage::{Sink, Source, Transform},
};

/// One stage, ready to be spawned.
pub struct StageConfig {
    /// Links to and from another pipeline are refused.
    pub pipeline: String,
    /// The stage's name: its group's name at its upstreams.
    pub stage: String,
    /// This replica.
    pub instance: Instance,
    /// The main output first. A sink has none.
    pub outputs: Vec<OutputSpec>,
    /// Where the stage's rejections go: an output like any other.
    pub dead_letter: Option<DeadLetterSpec>,
    /// What it subscribes to. A source has none.
    pub upstreams: Vec<UpstreamSpec>,
    /// What it does.
    pub role: Role,
    /// Limits of work and of links.
    pub limits: StageLimits,
    /// Where the spans of its events go; off by default.
    pub tracer: Tracer,
}

/// A named output and its log.
#[derive(Debug, Clone)]
pub struct OutputSpec {
    /// `STAGE` or `STAGE.NAME`
    pub name: String,
    /// Capacity and groups.
    pub config: OutputConfig,
}

/// Makes a dead letter: a CloudEvent with the input's bytes as data.
pub type DeadLetter = Arc<dyn Fn(&Event, &Rejection) -> Payload + Send + Sync>;

/// A stage's dead-letter output.
#[derive(Clone)]
pub struct DeadLetterSpec {
    /// The log. Without a required group, dead letters are counted and gone.
    pub output: OutputSpec,
    /// How one is made.
    pub make: DeadLetter,
}

impl fmt::Debug for DeadLetterSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetterSpec").field("output", &self.output).finish_non_exhaustive()
    }
}

/// One subscription: to all instances of one stage's output.
pub struct UpstreamSpec {
    /// `STAGE` or `STAGE.NAME`
    pub output: String,
    /// How this stage takes part.
    pub kind: GroupKind,
    /// For each link.
    pub window: Window,
    /// Credit is granted again when `window.events - min_demand` events are processed.
    pub min_demand: u64,
    /// Who asks for events.
    pub asking: Asking,
    /// What the end of a link means for the stage.
    pub cancel: Cancel,
    /// Of the output's selectors, by name.
    pub selector: Option<String>,
    /// Of a group's fixed partitions.
    pub partition: Option<u16>,
    /// Who the instances are.
    pub discover: Box<dyn Discover>,
    /// How to reach them.
    pub connect: Arc<dyn Connect>,
}

/// Who asks for the events of a subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asking {
    /// The runtime, as events are handled.
    #[default]
    Automatic,
    /// The handler: [`Turn::ask`](crate::Turn::ask).
    Manual,
}

/// What the end of a link means for the stage that consumes. A stage that ends finishes what it has before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cancel {
    /// It ends, whatever the reason.
    Permanent,
    /// It ends when the link was lost, and goes on when that ended in order.
    Transient,
    /// It goes on, and connects again.
    #[default]
    Temporary,
}

/// What a stage does.
pub enum Role {
    /// Takes events in from outside.
    Source(Box<dyn Source>),
    /// Turns events into others.
    Transform(Arc<dyn Transform>),
    /// Takes events out; settles through the settler that it was made with.
    Sink(Box<dyn Sink>, Settler),
    /// Owns its state, and is called for one thing at a time.
    Handler(Box<dyn Handler>, Kind),
}

/// Limits that hold at run time; terms of the memory sum that `validate` prints.
#[derive(Debug, Clone)]
pub struct StageLimits {
    /// Calls of a transform in flight.
    pub concurrency: usize,
    /// Events that a transform, a sink or a handler takes into work: what is over waits, and pushes back. A handler's batch goes
    /// as soon as one event may, and the next waits for all of these.
    pub rate: Rate,
    /// How a handler's events are made batches over the lists in which they come; none: list by list.
    pub batch: Option<Batching>,
    /// Events of one key may be in a transform at once, and an input may be settled when its results are in the log: at once for a
    /// transform, for a handler where it says so. Order and durability are given up.
    pub unordered: bool,
    /// For one call of a transform; time in which the process stood still does not count.
    pub timeout: Duration,
    /// Tries of a transform, and panics of a sink at one event, before it is rejected as exhausted.
    pub max_failures: u32,
    /// Links to upstreams at once; a dead one counts until all that it brought is done.
    pub links_max: usize,
    /// Largest event that this stage takes. Its largest frame follows from that: [`jaiminho_core::frame_bytes_max`].
    pub event_bytes_max: u64,
    /// How long a stage whose source has failed may take to finish what it had taken.
    pub drain: Duration,
    /// Of the protocol, on its links to both sides.
    pub versions: Versions,
}

impl Default for StageLimits {
    fn default() -> Self {
        Self {
            concurrency: 64,
            rate: Rate::default(),
            batch: None,
            unordered: false,
            timeout: Duration::from_secs(10),
            max_failures: 5,
            links_max: 64,
            event_bytes_max: 1 << 20,
            drain: Duration::from_secs(25),
            versions: Versions::default(),
        }
    }
}
