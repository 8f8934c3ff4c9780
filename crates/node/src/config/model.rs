//! The pipeline file's shape. Its JSON Schema is made from these types, and so are the option lists that
//! `jaiminho list` prints: a field's doc is what its user reads.

use std::collections::BTreeMap;

use jaiminho_core::GroupKind;
use jaiminho_discovery::At;
use jaiminho_event::units::{ByteSize, HumanDuration};
use jaiminho_link::Tls;
use jaiminho_link::memory::EVENT_BYTES_MAX;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::component::{Sink, Source, Steps, Transform};
use super::telemetry::Telemetry;
use crate::registry::Own;

/// A pipeline: stages that take events in, convert them, and publish them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pipeline {
    /// Version of this file's format.
    #[schemars(range(min = 1, max = 1))]
    #[serde(rename = "version")]
    pub(crate) _version: u32,
    /// The pipeline's name. Stages of different pipelines refuse to connect.
    #[schemars(length(min = 1, max = 63))]
    pub(crate) pipeline: String,
    /// Stages by name: lower-case letters, digits, `-` and `_`, a letter first.
    #[schemars(length(min = 1))]
    pub(crate) stages: BTreeMap<String, Stage>,
    /// Where a process tells what it does.
    #[serde(default)]
    pub(crate) telemetry: Telemetry,
    /// Overlays by name, chosen with `--profile`: maps merge, lists and scalars replace, `null` removes.
    #[serde(default, rename = "profiles")]
    pub(crate) _profiles: Option<BTreeMap<String, serde_json::Map<String, serde_json::Value>>>,
}

impl Pipeline {
    /// The largest event that all of such groups of an output take, and whose limit that is; none: that of a link's frame.
    pub(crate) fn event_bytes_max(&self, output: &str, such: impl Fn(Group) -> bool) -> (u64, Option<&str>) {
        let consumes =
            |stage: &Stage| stage.subscribe_to.iter().any(|wanted| wanted.output == output && such(wanted.group));
        let consumers = self.stages.iter().filter(|(_, stage)| consumes(stage));
        let limits = consumers.map(|(name, stage)| (stage.limits.event_bytes.0, Some(name.as_str())));
        limits.filter(|(bytes, _)| *bytes <= EVENT_BYTES_MAX).min().unwrap_or((EVENT_BYTES_MAX, None))
    }

    /// A stage and all those that its events come from, the nearest first.
    pub(crate) fn above(&self, name: &str) -> Vec<(&str, &Stage)> {
        let find = |name: &str| self.stages.get_key_value(name).map(|(name, stage)| (name.as_str(), stage));
        let mut seen: Vec<(&str, &Stage)> = find(name).into_iter().collect();
        let mut at = 0;
        while let Some((_, stage)) = seen.get(at) {
            at += 1;
            for wanted in &stage.subscribe_to {
                if !seen.iter().any(|(known, _)| *known == wanted.stage()) {
                    seen.extend(find(wanted.stage()));
                }
            }
        }
        seen
    }
}

/// One step of the pipeline. It has exactly one of `source`, `transform` and `sink`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stage {
    /// Where this stage's instances are found. Not needed by `jaiminho up`.
    pub(crate) at: Option<At>,
    /// The outputs that this stage consumes: `STAGE`, `STAGE.dead_letter`, or `STAGE.OUTPUT` of a `route`.
    #[serde(default)]
    pub(crate) subscribe_to: Vec<Subscription>,
    /// Puts this stage in front of another one: it takes over all that the other subscribes to, and the other subscribes
    /// to it alone. Instead of `subscribe_to`; no other entry changes.
    pub(crate) before: Option<String>,
    /// For a source: a template for the key. Events of one key keep their order. Default: the event's
    /// `partitionkey`, else (of `kafka`) the record's key, else its `subject`, else none. An empty one is none.
    pub(crate) key: Option<String>,
    /// Takes events in from outside.
    pub(crate) source: Option<Source>,
    /// Converts each event into none, one or many, or routes it: one step, or a list of them.
    #[schemars(with = "Option<Steps>")]
    pub(crate) transform: Option<Transform>,
    /// Takes events out of the pipeline.
    pub(crate) sink: Option<Sink>,
    /// The most in flight, unprocessed, on each link to an upstream instance.
    #[serde(default)]
    pub(crate) window: Window,
    /// What the main output, or each output of a `route`, holds until all its groups have settled it.
    #[serde(default)]
    pub(crate) log: Log,
    /// What the dead-letter output holds.
    #[serde(default = "Log::dead_letter")]
    pub(crate) dead_letter_log: Log,
    /// Bounds on memory and peers; `jaiminho validate` prints what they sum up to.
    #[serde(default)]
    pub(crate) limits: Limits,
    /// How many instances Helm and Marathon start.
    #[schemars(range(min = 0, max = 1000))]
    pub(crate) replicas: Option<u32>,
    /// How many events a transform works on at once; those of one key one after the other.
    #[schemars(range(min = 1, max = 4096))]
    #[serde(default = "concurrency")]
    pub(crate) concurrency: u32,
    /// Most events a second that an instance takes into work; what is over waits, and pushes back. Of a transform or a sink.
    /// SIGHUP reads it again from the file.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub(crate) rate: Option<f64>,
    /// Of a transform: events of one key may be worked on at once and overtake each other, and each is acknowledged when this stage
    /// has its results: a crash loses them. Only below sources that `acknowledge: accepted`.
    #[serde(default)]
    pub(crate) unordered: bool,
    /// Longest run of a transform on one event before that try counts as failed.
    #[serde(default = "timeout")]
    pub(crate) timeout: HumanDuration,
    /// Failed tries after which a transform's event is rejected as `exhausted`.
    #[schemars(range(min = 1, max = 1000))]
    #[serde(default = "max_failures")]
    pub(crate) max_failures: u32,
    /// Longest drain: what is not finished then is left, and delivered again elsewhere.
    #[serde(default = "drain")]
    pub(crate) drain: HumanDuration,
    /// Encryption of the links: of this stage's port, and of its own connections.
    pub(crate) tls: Option<Tls>,
}

impl Stage {
    /// Its component, if that is one of the program's own.
    pub(crate) fn own(&self) -> Option<&Own> {
        match (&self.source, &self.transform, &self.sink) {
            (Some(Source::Own(own)), ..) | (_, Some(Transform::Own(own)), _) | (.., Some(Sink::Own(own))) => Some(own),
            (..) => None,
        }
    }

    /// The name in its certificate.
    pub(crate) fn server_name(&self) -> Option<&str> {
        let own = self.tls.as_ref().and_then(|tls| tls.server_name.as_deref());
        own.or_else(|| self.at.as_ref()?.host())
    }

    /// The names of its outputs beside that for dead letters, as others subscribe to them.
    pub(crate) fn outputs(&self, name: &str) -> Vec<String> {
        let routed = self.transform.as_ref().and_then(Transform::outputs);
        match routed {
            _ if self.sink.is_some() => Vec::new(),
            Some(outputs) => outputs.iter().map(|output| format!("{name}.{output}")).collect(),
            None => vec![name.to_owned()],
        }
    }
}

/// What is consumed, and how.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(from = "SubscriptionForm")]
#[schemars(with = "SubscriptionForm")]
pub(crate) struct Subscription {
    /// `STAGE` or `STAGE.OUTPUT`
    pub(crate) output: String,
    pub(crate) group: Group,
    pub(crate) dispatch: Dispatch,
    /// Instances to link to, at least; none: all.
    pub(crate) producers: Option<u32>,
}

impl Subscription {
    /// The short form.
    pub(crate) fn to(output: &str) -> Self {
        Self { output: output.to_owned(), group: Group::default(), dispatch: Dispatch::default(), producers: None }
    }

    /// The producing stage's name.
    pub(crate) fn stage(&self) -> &str {
        self.output.split_once('.').map_or(&self.output, |(stage, _)| stage)
    }
}

/// How the group takes part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Group {
    /// The producer waits for this stage, and an event is done only when this stage is done with it.
    #[default]
    Required,
    /// Starts with what arrives now, takes no part in acknowledgement, and is cut off when it lags.
    Attached,
    /// Best effort: what it can't take at once it misses.
    Tap,
}

impl Group {
    /// As the core has it.
    pub(crate) fn kind(self) -> GroupKind {
        match self {
            Self::Required => GroupKind::Required,
            Self::Attached => GroupKind::Attached,
            Self::Tap => GroupKind::Tap,
        }
    }
}

/// How events are shared out among a stage's instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Dispatch {
    /// Events with a key by their key, others by demand.
    #[default]
    Keyed,
    /// All by demand: order is given up.
    Demand,
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum SubscriptionForm {
    /// Short for `stage:` alone.
    Short(String),
    Long(LongSubscription),
}

/// A subscription with its options.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LongSubscription {
    /// `STAGE`, `STAGE.dead_letter`, or `STAGE.OUTPUT` of a `route`.
    stage: String,
    /// `required` (default), `attached` or `tap`.
    #[serde(default)]
    group: Group,
    /// `keyed` (default) or `demand`.
    #[serde(default)]
    dispatch: Dispatch,
    /// With `dispatch: demand`: each instance links to so many instances of the producer at least, instead of to all. Which
    /// ones follows from the names of both (rendezvous hashing), so that each has a consumer. Needs this stage's own `at`.
    #[schemars(range(min = 1, max = 1024))]
    producers: Option<u32>,
}

impl From<SubscriptionForm> for Subscription {
    fn from(form: SubscriptionForm) -> Self {
        match form {
            SubscriptionForm::Short(output) => Self::to(&output),
            SubscriptionForm::Long(LongSubscription { stage, group, dispatch, producers }) => {
                Self { output: stage, group, dispatch, producers }
            }
        }
    }
}

/// The most in flight, unprocessed, on one link.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Window {
    /// Events.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) max_demand: u64,
    /// Asks for more when no more than this many are left. Default: half of `max_demand`.
    pub(crate) min_demand: Option<u64>,
    /// Bytes.
    pub(crate) bytes: ByteSize,
}

impl Default for Window {
    fn default() -> Self {
        Self { max_demand: 2000, min_demand: None, bytes: ByteSize(1 << 20) }
    }
}

impl Window {
    pub(crate) fn min_demand(&self) -> u64 {
        self.min_demand.unwrap_or(self.max_demand / 2)
    }
}

/// Capacity of an output.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    /// Unsettled events. The span of offsets is 16 times as long.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub(crate) events: u64,
    /// Their bytes.
    pub(crate) bytes: ByteSize,
}

impl Default for Log {
    fn default() -> Self {
        Self { events: 8_000, bytes: ByteSize(32 << 20) }
    }
}

impl Log {
    fn dead_letter() -> Self {
        Self { events: 1000, bytes: ByteSize(4 << 20) }
    }
}

/// Bounds that hold at run time, for an instance of 512 MiB.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// Links to upstream instances, and as many from downstream instances.
    #[schemars(range(min = 1, max = 100_000))]
    pub(crate) links: u64,
    /// Largest event that this stage takes.
    pub(crate) event_bytes: ByteSize,
    /// What parsing may take at once: a JSON tree can need 128 times its text, and one that needs more is parsed alone.
    pub(crate) parse_bytes: ByteSize,
    /// Most events that a transform makes of one.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) outputs: u32,
    /// Most bytes that a transform makes of one event.
    pub(crate) outputs_bytes: ByteSize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            links: 32,
            event_bytes: ByteSize(512 << 10),
            parse_bytes: ByteSize(64 << 20),
            outputs: 10_000,
            outputs_bytes: ByteSize(1 << 20),
        }
    }
}

fn concurrency() -> u32 {
    16
}

fn timeout() -> HumanDuration {
    HumanDuration(std::time::Duration::from_secs(30))
}

fn max_failures() -> u32 {
    5
}

fn drain() -> HumanDuration {
    HumanDuration(std::time::Duration::from_secs(25))
}
