//! From a checked pipeline to a stage that can be spawned: logs, groups, upstreams, role.

use std::net::SocketAddr;
use std::sync::Arc;

use jaiminho_convert::{Batch, Batcher, Limits as ConvertLimits, ParseMemory};
use jaiminho_core::{Instance, OutputConfig, RequiredGroup, Window};
use jaiminho_discovery::{Fixed, Here, Subset};
use jaiminho_event::units::HumanDuration;
use jaiminho_event::{Template, TemplateError};
use jaiminho_ingest::{BindError, HttpSource};
use jaiminho_kafka::{KafkaSink, KafkaSource, SourceStage};
use jaiminho_link::{Connector, ConnectorConfig, InProcess};
use jaiminho_runtime::{
    Asking, Cancel, Connect, DeadLetterSpec, Discover, Kind, OutputSpec, Rate, Role, Settler, Sink as RuntimeSink,
    StageConfig, StageLimits, UpstreamSpec,
};
use tokio_util::task::TaskTracker;

use crate::components;
use crate::config::Config;
use crate::config::component::{IngestConfig, Sink, Source, Transform};
use crate::config::memory::SPAN_FACTOR;
use crate::config::model::{Dispatch, Group, Log, Stage, Subscription};
use crate::dead_letter::dead_letter;
use crate::exit::Failure;
use crate::registry::{Context, Own};
use crate::traces::Tracers;

/// How long an old owner may keep deliveries of a revoked partition.
const HANDOVER_MS: u64 = 10_000;
/// How long an attached group outlives its last member.
const ATTACHED_TTL_MS: u64 = 30_000;

/// What stages are connected by.
#[derive(Clone)]
pub(crate) enum Links {
    /// All stages are in this process.
    Together(InProcess),
    /// gRPC; the links' tasks are spawned here.
    Apart(TaskTracker),
}

/// A stage before it is spawned: everything that can fail has been done, ports of its source are bound.
pub(crate) struct Wired {
    pub(crate) stage: StageConfig,
    /// Where its source listens.
    pub(crate) http: Option<SocketAddr>,
    pub(crate) websocket: Option<SocketAddr>,
}

/// Who a producer's instances are, and how to connect to one.
type Reach = (Box<dyn Discover>, Arc<dyn Connect>);

/// Makes stages of one pipeline.
pub(crate) struct Wiring<'a> {
    pub(crate) config: &'a Config,
    pub(crate) links: Links,
    /// What `embedded` stands for.
    pub(crate) embedded: Option<String>,
    /// Where spans go.
    pub(crate) tracers: &'a Tracers,
    /// Where this process is found, if it is one stage.
    pub(crate) here: Option<Here>,
}

impl Wiring<'_> {
    /// The stage `name` as `instance`.
    pub(crate) fn stage(&self, name: &str, stage: &Stage, instance: Instance) -> Result<Wired, Failure> {
        let (role, http, websocket) = self.role(name, stage)?;
        let pipeline = self.config.pipeline.pipeline.clone();
        let outputs = stage.outputs(name).into_iter().map(|output| self.output(output, stage, &stage.log, false));
        let letters = self.config.has_dead_letters(name).then(|| {
            let output = self.output(format!("{name}.dead_letter"), stage, &stage.dead_letter_log, true);
            let (bytes_max, _) = self.config.pipeline.event_bytes_max(&output.name, |_| true);
            let (pipeline, name) = (pipeline.clone(), name.to_owned());
            DeadLetterSpec {
                output,
                make: Arc::new(move |event, rejection| dead_letter(&pipeline, &name, event, rejection, bytes_max)),
            }
        });
        let batching = stage.transform.as_ref().and_then(Transform::batch).map(Batch::batching);
        let upstreams = stage.subscribe_to.iter().map(|subscription| self.upstream(stage, subscription));
        let stage = StageConfig {
            pipeline,
            stage: name.to_owned(),
            instance,
            outputs: outputs.collect(),
            dead_letter: letters,
            upstreams: upstreams.collect::<Result<_, _>>()?,
            role,
            limits: StageLimits {
                concurrency: stage.concurrency as usize,
                rate: Rate::new(stage.rate),
                batch: batching.transpose().map_err(|error| wrong_key(name, &error))?,
                unordered: stage.unordered,
                timeout: stage.timeout.0,
                max_failures: stage.max_failures,
                links_max: usize::try_from(stage.limits.links).unwrap_or(usize::MAX),
                event_bytes_max: stage.limits.event_bytes.0,
                drain: stage.drain.0,
                ..StageLimits::default()
            },
            tracer: self.tracers.of(name),
        };
        Ok(Wired { stage, http, websocket })
    }

    fn output(&self, name: String, stage: &Stage, log: &Log, drops_without_group: bool) -> OutputSpec {
        let required =
            self.config.subscriptions().filter(|(_, wanted)| wanted.output == name && wanted.group == Group::Required);
        let groups = required.map(|(consumer, wanted)| RequiredGroup {
            name: consumer.to_owned(),
            dispatch: match wanted.dispatch {
                Dispatch::Keyed => jaiminho_core::Dispatch::Keyed,
                Dispatch::Demand => jaiminho_core::Dispatch::Demand,
            },
        });
        let config = OutputConfig {
            capacity_events: log.events,
            capacity_bytes: log.bytes.0,
            span: log.events.saturating_mul(SPAN_FACTOR),
            links_max: usize::try_from(stage.limits.links).unwrap_or(usize::MAX),
            handover_ms: HANDOVER_MS,
            attached_ttl_ms: ATTACHED_TTL_MS,
            drops_without_group,
            groups: groups.collect(),
            ..OutputConfig::default()
        };
        OutputSpec { name, config }
    }

    fn upstream(&self, stage: &Stage, subscription: &Subscription) -> Result<UpstreamSpec, Failure> {
        let (all, connect) = self.reach(stage, subscription.stage())?;
        let discover = match (subscription.producers, &self.here, &stage.at) {
            (Some(min), Some(here), Some(own)) => {
                Box::new(Subset::new(all, own.discover(), here.clone(), min as usize)) as Box<dyn Discover>
            }
            _ => all,
        };
        Ok(UpstreamSpec {
            output: subscription.output.clone(),
            kind: subscription.group.kind(),
            window: Window { events: stage.window.max_demand, bytes: stage.window.bytes.0 },
            min_demand: stage.window.min_demand(),
            asking: Asking::Automatic,
            cancel: Cancel::Temporary,
            selector: None,
            partition: None,
            discover,
            connect,
        })
    }

    /// Where a producer's instances are, and how to connect to them.
    fn reach(&self, stage: &Stage, producer: &str) -> Result<Reach, Failure> {
        match &self.links {
            Links::Together(links) => {
                Ok((Box::new(Fixed::new([InProcess::address(producer)])), Arc::new(links.clone())))
            }
            Links::Apart(tasks) => {
                let of = self.config.pipeline.stages.get(producer);
                let at = of.and_then(|of| of.at.as_ref());
                let at = at.ok_or_else(|| Failure::config(format!("stage `{producer}` has no `at`")))?;
                // Addresses that DNS gave are bare: certificates are checked for the stage's name.
                let tls = stage.tls.as_ref().map(|tls| tls.to(of.and_then(Stage::server_name)));
                let config = ConnectorConfig { tls, ..ConnectorConfig::default() };
                Ok((at.discover(), Arc::new(Connector::new(config, tasks.clone()))))
            }
        }
    }

    fn role(&self, name: &str, stage: &Stage) -> Result<(Role, Option<SocketAddr>, Option<SocketAddr>), Failure> {
        if let Some(source) = &stage.source {
            return self.source(name, stage, source);
        }
        if let Some(Transform::Own(own)) = &stage.transform {
            return Ok((self.own(name, stage, own)?, None, None));
        }
        if let Some(batch) = stage.transform.as_ref().and_then(Transform::batch) {
            let pipeline = &self.config.pipeline;
            let source = format!("/{}/{name}", pipeline.pipeline);
            let batcher = Batcher::new(batch, source, pipeline.batch_bytes_max(name, stage));
            let batcher = batcher.map_err(|error| wrong_key(name, &error))?;
            return Ok((Role::Handler(Box::new(batcher), Kind::ProducerConsumer), None, None));
        }
        if stage.transform.is_some() {
            let program = self.config.programs.get(name).cloned();
            let program = program.ok_or_else(|| Failure::software(format!("stage `{name}` is not compiled")))?;
            let limits = ConvertLimits {
                parse_memory: ParseMemory::new(stage.limits.parse_bytes.0),
                outputs_max: stage.limits.outputs as usize,
                output_bytes_max: usize::try_from(stage.limits.outputs_bytes.0).unwrap_or(usize::MAX),
            };
            return Ok((Role::Transform(Arc::new(program.with_limits(limits))), None, None));
        }
        let Some(sink) = &stage.sink else {
            return Err(Failure::software(format!("stage `{name}` has no role")));
        };
        Ok((self.sink(name, stage, sink)?, None, None))
    }

    fn own(&self, name: &str, stage: &Stage, own: &Own) -> Result<Role, Failure> {
        let context = Context {
            pipeline: self.config.pipeline.pipeline.clone(),
            stage: name.to_owned(),
            folder: self.config.base_dir.clone(),
            key: key(name, stage)?,
        };
        own.make(&context).map_err(|error| Failure::config(format!("stage `{name}`: {error}")))
    }

    fn source(
        &self,
        name: &str,
        stage: &Stage,
        source: &Source,
    ) -> Result<(Role, Option<SocketAddr>, Option<SocketAddr>), Failure> {
        let key = key(name, stage)?;
        let pipeline = &self.config.pipeline.pipeline;
        match source {
            Source::Ingest(ingest) => {
                let source = HttpSource::bind(self.ingest(name, ingest), key, pipeline, name);
                let source = source.map(|source| source.with_tracer(self.tracers.of(name))).map_err(|error| {
                    let text = format!("stage `{name}`: {error}");
                    match error {
                        BindError::Config(_) | BindError::Tls { .. } | BindError::Tokens { .. } => {
                            Failure::config(text)
                        }
                        BindError::Listen { .. } => Failure::unavailable(text),
                    }
                })?;
                let (http, websocket) = (ingest.http.is_some().then(|| source.local_addr()), source.websocket_addr());
                Ok((Role::Source(Box::new(source)), http, websocket))
            }
            Source::Kafka(read) => {
                let mut kafka = (*read.kafka).clone();
                if kafka.is_embedded() {
                    kafka.bootstrap_servers = self.embedded.clone();
                }
                let of = SourceStage {
                    pipeline: pipeline.clone(),
                    stage: name.to_owned(),
                    key,
                    event_bytes_max: stage.limits.event_bytes.0,
                    log_events: stage.log.events,
                    log_bytes: stage.log.bytes.0,
                    tracer: self.tracers.of(name),
                };
                let source = KafkaSource::new(&kafka, of);
                let source = source.map_err(|error| Failure::config(format!("stage `{name}`: {error}")))?;
                Ok((Role::Source(Box::new(source)), None, None))
            }
            Source::Own(own) => Ok((self.own(name, stage, own)?, None, None)),
            Source::Generate(made) => {
                let source = components::generate(&made.generate, key, pipeline, name, self.tracers.of(name));
                Ok((
                    Role::Source(source.map_err(|error| Failure::config(format!("stage `{name}`: {error}")))?),
                    None,
                    None,
                ))
            }
        }
    }

    /// With all stages in one process there is no load balancer to take notice of a drain, unless the file says so.
    fn ingest(&self, name: &str, ingest: &IngestConfig) -> IngestConfig {
        let mut ingest = ingest.clone();
        let said = self.config.json.pointer(&format!("/stages/{name}/source/drain_delay"));
        if let (Links::Together(_), None) = (&self.links, said) {
            ingest.drain_delay = HumanDuration::from_secs(0);
        }
        ingest
    }

    fn sink(&self, name: &str, stage: &Stage, sink: &Sink) -> Result<Role, Failure> {
        let failure = |error: &dyn std::fmt::Display| Failure::config(format!("stage `{name}`: {error}"));
        let settler = Settler::default();
        let settled = settler.clone();
        let sink: Box<dyn RuntimeSink> = match sink {
            Sink::Kafka(kafka) => {
                let mut kafka = (**kafka).clone();
                if kafka.is_embedded() {
                    kafka.bootstrap_servers = self.embedded.clone();
                }
                Box::new(
                    KafkaSink::with_tracer(&kafka, name, settler, self.tracers.of(name))
                        .map_err(|error| failure(&error))?,
                )
            }
            Sink::Stdout(stdout) => components::stdout(stdout, settler),
            Sink::File(file) => {
                components::file(file, &self.config.base_dir, settler).map_err(|error| failure(&error))?
            }
            Sink::Blackhole(blackhole) => components::blackhole(blackhole, settler),
            Sink::Own(own) => return self.own(name, stage, own),
        };
        Ok(Role::Sink(sink, settled))
    }
}

/// What the stage's `key` says.
fn key(name: &str, stage: &Stage) -> Result<Option<Template>, Failure> {
    stage.key.as_deref().map(Template::parse).transpose().map_err(|error| wrong_key(name, &error))
}

fn wrong_key(stage: &str, error: &TemplateError) -> Failure {
    Failure::config(format!("stage `{stage}`: key: {error}"))
}
