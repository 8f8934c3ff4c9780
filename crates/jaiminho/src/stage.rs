//! A stage before it runs: what it does, what it subscribes to, who consumes its output.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use jaiminho_core::{
    Demand, Dispatch, Event, Instance, OutputConfig, Overflow, Payload, Rejection, RequiredGroup, Selector,
};
use jaiminho_event::{CloudEvent, Data};
use jaiminho_runtime::{
    Batching, Connect, DeadLetterSpec, Discover, Kind, OutputSpec, Rate, Role, StageConfig, StageHandle, StageLimits,
    UpstreamSpec,
};

use crate::{Codec, Consumer, Json, Producer, ProducerConsumer, Upstream, handlers};

/// Logs of outputs, unless said otherwise.
const LOG_EVENTS: u64 = 10_000;
const LOG_BYTES: u64 = 32 << 20;
const DEAD_LETTER_EVENTS: u64 = 1_000;
const DEAD_LETTER_BYTES: u64 = 4 << 20;
/// Offsets of a log, in its capacity.
const SPAN_FACTOR: u64 = 16;

/// A stage, ready to be started by [`Local`](crate::Local) or [`Grpc`](crate::Grpc).
pub struct Stage {
    pub(crate) name: String,
    pub(crate) pipeline: String,
    pub(crate) instance: Option<String>,
    pub(crate) upstreams: Vec<Upstream>,
    role: Role,
    groups: Vec<RequiredGroup>,
    /// Its further outputs.
    named: Vec<(String, Vec<RequiredGroup>)>,
    output: OutputConfig,
    pub(crate) demand: Demand,
    dead_letters: Vec<RequiredGroup>,
    /// Where its handle is put when it starts.
    pub(crate) announces: Option<Arc<OnceLock<StageHandle>>>,
    limits: StageLimits,
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, pipeline, instance, upstreams, groups, .. } = self;
        let mut stage = f.debug_struct("Stage");
        stage.field("name", name).field("pipeline", pipeline).field("instance", instance);
        stage.field("upstreams", upstreams).field("groups", groups).finish_non_exhaustive()
    }
}

impl Stage {
    /// Brings events in as JSON.
    pub fn producer<P: Producer>(name: impl Into<String>, producer: P) -> Self
    where
        Json: Codec<P::Out>,
    {
        Self::producer_with(name, producer, Json)
    }

    /// Brings events in.
    pub fn producer_with<P: Producer>(name: impl Into<String>, producer: P, codec: impl Codec<P::Out>) -> Self {
        Self::new(name, handlers::producer(producer, codec))
    }

    /// Brings in the items of an iterator, as JSON, and ends with the last one: see [`Items`](crate::Items).
    pub fn from_iter<I>(name: impl Into<String>, items: I) -> Self
    where
        I: IntoIterator,
        I::IntoIter: Send + 'static,
        I::Item: Send + 'static,
        Json: Codec<I::Item>,
    {
        Self::producer(name, crate::Items::new(items))
    }

    /// Brings in the items of a stream, as JSON, and ends with the last one: see [`Streamed`](crate::Streamed).
    pub fn from_stream<T: Send + 'static>(
        name: impl Into<String>,
        items: impl futures_util::Stream<Item = T> + Send + 'static,
    ) -> Self
    where
        Json: Codec<T>,
    {
        Self::producer(name, crate::Streamed::new(items))
    }

    /// Turns JSON into JSON.
    pub fn producer_consumer<H: ProducerConsumer>(name: impl Into<String>, handler: H) -> Self
    where
        Json: Codec<H::In> + Codec<H::Out>,
    {
        Self::producer_consumer_with(name, handler, Json, Json)
    }

    /// Turns events into others.
    pub fn producer_consumer_with<H: ProducerConsumer>(
        name: impl Into<String>,
        handler: H,
        input: impl Codec<H::In>,
        output: impl Codec<H::Out>,
    ) -> Self {
        Self::new(name, handlers::producer_consumer(handler, input, output))
    }

    /// Takes JSON out.
    pub fn consumer<C: Consumer>(name: impl Into<String>, consumer: C) -> Self
    where
        Json: Codec<C::In>,
    {
        Self::consumer_with(name, consumer, Json)
    }

    /// Takes events out.
    pub fn consumer_with<C: Consumer>(name: impl Into<String>, consumer: C, codec: impl Codec<C::In>) -> Self {
        Self::new(name, handlers::consumer(consumer, codec))
    }

    /// A stage of any role: the runtime's own traits, for what must be fastest or settles late.
    pub fn new(name: impl Into<String>, role: Role) -> Self {
        Self {
            name: name.into(),
            pipeline: "default".to_owned(),
            instance: None,
            upstreams: Vec::new(),
            role,
            groups: Vec::new(),
            named: Vec::new(),
            output: OutputConfig { capacity_events: LOG_EVENTS, capacity_bytes: LOG_BYTES, ..OutputConfig::default() },
            demand: Demand::Forward,
            dead_letters: Vec::new(),
            announces: None,
            limits: StageLimits::default(),
        }
    }

    /// Stages of different pipelines refuse each other.
    #[must_use]
    pub fn pipeline(mut self, name: impl Into<String>) -> Self {
        self.pipeline = name.into();
        self
    }

    /// This instance's name, unique among those of the stage; otherwise one is made up.
    #[must_use]
    pub fn instance(mut self, name: impl Into<String>) -> Self {
        self.instance = Some(name.into());
        self
    }

    /// Consumes an output.
    #[must_use]
    pub fn subscribe_to(mut self, upstream: impl Into<Upstream>) -> Self {
        self.upstreams.push(upstream.into());
        self
    }

    /// A stage that consumes the output: its events wait for this one, also while none of its instances is there. Those of
    /// one key go to one instance, in order; those without go to whoever has demand.
    #[must_use]
    pub fn group(self, name: impl Into<String>) -> Self {
        self.group_with(name, Dispatch::Keyed)
    }

    /// The same, with its way to share the events.
    #[must_use]
    pub fn group_with(mut self, name: impl Into<String>, dispatch: Dispatch) -> Self {
        self.groups.push(RequiredGroup { name: name.into(), dispatch });
        self
    }

    /// One more output, into which [`Turn::emit_to`](crate::Turn::emit_to) emits, and stages that consume it, from `STAGE.NAME`. It
    /// has a log of its own, as large as the first one's. What is asked of the stage is the least that any output's consumers want:
    /// all are to have some.
    #[must_use]
    pub fn output<G: Into<String>>(mut self, name: impl Into<String>, groups: impl IntoIterator<Item = G>) -> Self {
        let group = |name: G| RequiredGroup { name: name.into(), dispatch: Dispatch::Keyed };
        self.named.push((name.into(), groups.into_iter().map(group).collect()));
        self
    }

    /// What the output holds at most until all its groups are done (10,000 events, 32 MiB).
    #[must_use]
    pub fn log(mut self, events: u64, bytes: u64) -> Self {
        (self.output.capacity_events, self.output.capacity_bytes) = (events.max(1), bytes.max(1));
        self
    }

    /// What becomes of an event for which the output has no room: [pushed back](Overflow::PushBack) unless said otherwise.
    #[must_use]
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.output.overflow = overflow;
        self
    }

    /// Every [attached](Upstream::attached) stage gets every event, and the slowest decides what is asked for: GenStage's
    /// `BroadcastDispatcher`. One that leaves has accepted what it had not settled.
    #[must_use]
    pub fn broadcast(mut self) -> Self {
        self.output.broadcast = true;
        self
    }

    /// Which events a consumer gets that asks for this selector: see [`Upstream::selector`]. Quick, and without a panic.
    #[must_use]
    pub fn selector(
        mut self,
        name: impl Into<String>,
        selects: impl Fn(&Event) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.output.selectors.insert(name.into(), Selector::new(selects));
        self
    }

    /// What consumers ask for, and what is emitted, waits until [`Running::forward`](crate::Running::forward).
    #[must_use]
    pub fn accumulate(mut self) -> Self {
        self.demand = Demand::Accumulate;
        self
    }

    /// A stage that consumes what this one rejects, from `NAME.dead_letter`.
    #[must_use]
    pub fn dead_letters(mut self, group: impl Into<String>) -> Self {
        self.dead_letters.push(RequiredGroup { name: group.into(), dispatch: Dispatch::Keyed });
        self
    }

    /// The handler gets batches that are assembled over lists, also of several producers: see [`Batching`]. All of a batch is
    /// settled when its results are, so it should be small beside the logs above: what they hold waits for it.
    #[must_use]
    pub fn batch(mut self, batching: Batching) -> Self {
        self.limits.batch = Some(batching);
        self
    }

    /// The stage may accept an event before its results are settled: [`Turn::accept_early`](crate::Turn::accept_early). A
    /// [`Role::Transform`] then does so by itself, and works on several events of one key at once. Order and durability are given up.
    #[must_use]
    pub fn unordered(mut self) -> Self {
        self.limits.unordered = true;
        self
    }

    /// Most events a second that are taken into work, in this instance; a clone of `rate` changes it while the stage runs. What is
    /// over waits, and pushes back.
    #[must_use]
    pub fn rate(mut self, rate: &Rate) -> Self {
        self.limits.rate = rate.clone();
        self
    }

    /// Tries of a handler at one event, or at one call without events (5).
    #[must_use]
    pub fn max_failures(mut self, tries: u32) -> Self {
        self.limits.max_failures = tries.max(1);
        self
    }

    /// Links to producers at once (64).
    #[must_use]
    pub fn links_max(mut self, links: usize) -> Self {
        self.limits.links_max = links;
        self
    }

    /// The largest event that is taken (1 MiB).
    #[must_use]
    pub fn event_bytes_max(mut self, bytes: u64) -> Self {
        self.limits.event_bytes_max = bytes;
        self
    }

    /// How long the stage may take to finish what it has, once it has ended by itself (25 s).
    #[must_use]
    pub fn drain(mut self, within: Duration) -> Self {
        self.limits.drain = within;
        self
    }

    /// With its links, as the runtime takes it.
    pub(crate) fn config(
        self,
        instance: Instance,
        mut reach: impl FnMut(&str) -> (Box<dyn Discover>, Arc<dyn Connect>),
    ) -> StageConfig {
        let Self { name, pipeline, upstreams, role, groups, named, output: capacity, dead_letters, limits, .. } = self;
        let has_output = !matches!(&role, Role::Handler(_, Kind::Consumer) | Role::Sink(..));
        let (capacity_events, capacity_bytes) = (capacity.capacity_events, capacity.capacity_bytes);
        let named = named.into_iter().map(|(output, groups)| {
            let capacity = OutputConfig { capacity_events, capacity_bytes, ..OutputConfig::default() };
            OutputSpec { name: format!("{name}.{output}"), config: log(capacity, groups, &limits) }
        });
        let main = OutputSpec { name: name.clone(), config: log(capacity, groups, &limits) };
        let outputs = if has_output { std::iter::once(main).chain(named).collect() } else { Vec::new() };
        let letters = format!("{name}.dead_letter");
        let dead_letter = (!dead_letters.is_empty()).then(|| {
            let capacity = OutputConfig {
                capacity_events: DEAD_LETTER_EVENTS,
                capacity_bytes: DEAD_LETTER_BYTES,
                drops_without_group: true,
                ..OutputConfig::default()
            };
            let config = log(capacity, dead_letters, &limits);
            let source = format!("/{pipeline}/{name}");
            DeadLetterSpec {
                output: OutputSpec { name: letters, config },
                make: Arc::new(move |event, rejection| dead_letter(&source, event, rejection)),
            }
        });
        let upstreams = upstreams.into_iter().map(|upstream| spec(upstream, &mut reach)).collect();
        StageConfig {
            pipeline,
            stage: name,
            instance,
            outputs,
            dead_letter,
            upstreams,
            role,
            limits,
            tracer: Default::default(),
        }
    }
}

pub(crate) fn spec(
    upstream: Upstream,
    reach: &mut impl FnMut(&str) -> (Box<dyn Discover>, Arc<dyn Connect>),
) -> UpstreamSpec {
    let (discover, connect) = reach(upstream.stage());
    let min_demand = upstream.min_demand_or_half();
    let Upstream { output, kind, window, asking, cancel, selector, partition, .. } = upstream;
    UpstreamSpec { output, kind, window, min_demand, asking, cancel, selector, partition, discover, connect }
}

fn log(capacity: OutputConfig, groups: Vec<RequiredGroup>, limits: &StageLimits) -> OutputConfig {
    let span = capacity.capacity_events.saturating_mul(SPAN_FACTOR);
    OutputConfig { span, links_max: limits.links_max, groups, ..capacity }
}

/// A CloudEvent with the rejected event's bytes, and why it was rejected.
fn dead_letter(source: &str, event: &Event, rejection: &Rejection) -> Payload {
    let id = format!("{}-{}-{}", event.origin.incarnation, event.origin.offset, event.attempt);
    let mut letter = CloudEvent::new(id, source, "jaiminho.dead_letter.v1");
    letter.attributes.insert("reason".to_owned(), rejection.reason.name().into());
    let text: String = rejection.text.chars().filter(|next| !next.is_control()).collect();
    letter.attributes.insert("reasontext".to_owned(), text.into());
    letter.data = Data::Binary(event.payload.to_vec().into());
    letter.encode().into()
}
