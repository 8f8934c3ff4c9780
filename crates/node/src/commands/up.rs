//! `jaiminho up`: all stages in one process, with the embedded broker.

mod greeting;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::select_all;
use jaiminho_kafka::EmbeddedBroker;
use jaiminho_link::InProcess;
use jaiminho_runtime::{Rate, StageEnd, StageHandle};
use jaiminho_telemetry::LIFE;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::stage::{describe, ended, millis, speak_for};
use super::{block_on, console, instance, load_logged, local};
use crate::admin::{self, Readiness};
use crate::cli::{DRAIN_DEFAULT, Global, Up};
use crate::config::component::{Sink, Source};
use crate::config::model::Stage;
use crate::config::{Config, Setting};
use crate::exit::Failure;
use crate::observed::{Port, Reached, about, plan};
use crate::output;
use crate::rates::Rates;
use crate::running::Running;
use crate::signals::Signals;
use crate::telemetry::{self, Who};
use crate::traces::Tracers;
use crate::wire::{Links, Wiring};

/// Even when the deadline has passed, a stage has so long to say that it ends.
const DRAIN_MIN: Duration = Duration::from_secs(1);

pub(crate) fn run(global: &Global, up: &Up) -> Result<(), Failure> {
    let config = load_logged(global, Setting::Together)?;
    block_on(serve(&config, global, up))
}

/// A stage that runs, in pipeline order.
struct Started {
    name: String,
    is_source: bool,
    handle: StageHandle,
    rate: Rate,
}

#[derive(Default)]
struct Edges {
    http: Option<String>,
    websocket: Option<String>,
}

async fn serve(config: &Config, global: &Global, up: &Up) -> Result<(), Failure> {
    let metrics = telemetry::install(config)?;
    let mut signals = Signals::listen()?;
    let (tasks, stop, readiness) = (TaskTracker::new(), CancellationToken::new(), Readiness::default());
    let admin = admin::Port::bind(&up.admin, config.pipeline.telemetry.admin.tls.as_ref()).await?;
    let admin_address = admin.address;
    let page = if up.console == "off" { None } else { Some(console::Place::bind(&up.console, "--console").await?) };
    let broker = embedded(config)?;
    let bootstrap_servers = broker.as_ref().map(EmbeddedBroker::bootstrap_servers);
    let (started, edges) = start(config, bootstrap_servers.clone(), &tasks, stop.clone())?;
    let rates = started.iter().map(|stage| (stage.name.clone(), stage.rate.clone())).collect();
    Rates::new(global, Setting::Together, rates).read_on_hangup(&tasks, stop.clone())?;
    let who = Who { service: "jaiminho", pipeline: &config.pipeline.pipeline, instance: "up" };
    telemetry::tell(&config.pipeline.telemetry.metrics, &who, &metrics, &tasks, &stop)?;
    let handles = started.iter().map(|stage| stage.handle.clone()).collect();
    admin::serve(admin, readiness.clone(), handles, metrics, &tasks, stop.clone());
    let port = observed(config, global, &started, &tasks, stop.clone()).await?;

    let pipeline = config.pipeline.pipeline.clone();
    let running = Running {
        pid: std::process::id(),
        pipeline,
        bootstrap_servers,
        http: edges.http,
        websocket: edges.websocket,
        admin: admin_address,
        inspect: Some(port.address),
        console: page.as_ref().map(console::Place::url),
        file: std::fs::canonicalize(&global.file).ok(),
        plan: Some(plan(config)),
    };
    let announced = running.announce();
    if let Err(error) = &announced {
        tracing::warn!(%error, "other commands won't find this process");
    }
    if let Some(page) = page {
        let (reached, version) = (Reached::of_this(running.clone()), global.program.version());
        page.serve(reached, version, up.jaeger.clone(), &tasks, stop.clone()).await;
    }
    readiness.set(true);
    let (version, commit) = (env!("CARGO_PKG_VERSION"), env!("JAIMINHO_COMMIT"));
    tracing::info!(target: LIFE, pipeline = running.pipeline, version, commit, admin = %running.admin, "all stages run");
    output::line(if global.json {
        serde_json::to_string(&running).map_err(Failure::software)?
    } else {
        greeting::greeting(&running, config, &global.file, &global.program.name)
    })?;

    let result = tokio::select! {
        first = first_end(&started) => first,
        number = signals.next() => {
            tracing::info!(target: LIFE, signal = number, "told to drain");
            readiness.set(false);
            signals.abort_on_next();
            Ok(())
        }
    };
    readiness.set(false);
    let drained = drain(config, &started).await;
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    result.and(drained)
}

/// Where other commands of this machine look at the stages.
async fn observed(
    config: &Config,
    global: &Global,
    started: &[Started],
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> Result<Port, Failure> {
    let names: Vec<&str> = started.iter().map(|stage| stage.name.as_str()).collect();
    let stages = started.iter().map(|stage| (stage.name.clone(), stage.handle.clone())).collect();
    let mut about = about(config, &global.program, &names);
    if wants_embedded(config) {
        // What its broker keeps has no place in the sum.
        about.memory_bytes_max = None;
    }
    Port::open(stages, about, tasks, stop).await
}

/// The embedded broker, where a source or a sink wants it.
fn embedded(config: &Config) -> Result<Option<EmbeddedBroker>, Failure> {
    if !wants_embedded(config) {
        return Ok(None);
    }
    EmbeddedBroker::start(&[]).map(Some).map_err(|error| Failure::unavailable(format!("embedded broker: {error}")))
}

fn wants_embedded(config: &Config) -> bool {
    let wants = |stage: &Stage| {
        let source = matches!(&stage.source, Some(Source::Kafka(source)) if source.kafka.is_embedded());
        source || matches!(&stage.sink, Some(Sink::Kafka(kafka)) if kafka.is_embedded())
    };
    config.pipeline.stages.values().any(wants)
}

/// Starts all stages, consumers first: none is there without those that take its events.
fn start(
    config: &Config,
    embedded: Option<String>,
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> Result<(Vec<Started>, Edges), Failure> {
    let links = InProcess::new();
    let instances: Vec<_> =
        config.in_order().into_iter().map(|(name, stage)| (name, stage, instance(name.to_owned()))).collect();
    let tracers = Tracers::start(config, instances.iter().cloned(), tasks, stop)?;
    let wiring = Wiring { config, links: Links::Together(links.clone()), embedded, tracers: &tracers, here: None };
    let mut edges = Edges::default();
    let mut wired = Vec::new();
    speak_for(config.pipeline.stages.keys().map(|name| (name.clone(), name.clone())).collect());
    for (name, stage, instance) in instances {
        let made = wiring.stage(name, stage, instance)?;
        let path = |default: &str, path: Option<&str>| path.unwrap_or(default).to_owned();
        if let Some(Source::Ingest(ingest)) = &stage.source {
            let http = ingest.http.as_ref().map(|http| http.path.as_str());
            let socket = ingest.websocket.as_ref().map(|socket| socket.path.as_str());
            let [http_s, socket_s] = ingest.are_secured().map(|is| if is { "s" } else { "" });
            let url = |scheme: &str, at, of| format!("{scheme}://{}{}", local(at), path("/", of));
            edges.http = edges.http.or_else(|| Some(url(&format!("http{http_s}"), made.http?, http)));
            edges.websocket = edges.websocket.or_else(|| Some(url(&format!("ws{socket_s}"), made.websocket?, socket)));
        }
        wired.push((name, stage, made));
    }
    let mut started = Vec::new();
    for (name, stage, made) in wired.into_iter().rev() {
        describe(config, name, stage);
        let rate = made.stage.limits.rate.clone();
        let handle = jaiminho_runtime::spawn(made.stage);
        links.register(name, Arc::new(handle.clone()));
        started.push(Started { name: name.to_owned(), is_source: stage.source.is_some(), handle, rate });
    }
    started.reverse();
    Ok((started, edges))
}

/// Resolves when a stage fails, or when every source has come to its end.
async fn first_end(started: &[Started]) -> Result<(), Failure> {
    let mut waiting: Vec<_> =
        started.iter().map(|stage| Box::pin(async move { (stage, stage.handle.ended().await) })).collect();
    let mut sources = started.iter().filter(|stage| stage.is_source).count();
    while !waiting.is_empty() {
        let ((stage, end), _, rest) = select_all(waiting).await;
        waiting = rest;
        match end {
            StageEnd::Drained { .. } if stage.is_source => {
                sources -= 1;
                if sources == 0 {
                    return Ok(());
                }
            }
            StageEnd::Drained { .. } => {}
            StageEnd::Fenced(_) | StageEnd::Failed(_) => return ended(&stage.name, end),
        }
    }
    Ok(())
}

/// In pipeline order, the sources first, all within one deadline.
async fn drain(config: &Config, started: &[Started]) -> Result<(), Failure> {
    let longest = config.pipeline.stages.values().map(|stage| stage.drain.0).max().unwrap_or(DRAIN_DEFAULT);
    let deadline = Instant::now() + longest;
    let mut result = Ok(());
    for stage in started {
        let left = deadline.saturating_duration_since(Instant::now()).max(DRAIN_MIN);
        tracing::debug!(stage = stage.name, deadline_ms = millis(left), "draining");
        let end = stage.handle.drain(left).await;
        result = result.and(ended(&stage.name, end));
    }
    result
}
