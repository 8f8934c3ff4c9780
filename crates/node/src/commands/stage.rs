//! `jaiminho stage NAME`: one stage as a gRPC service.

use std::sync::Arc;
use std::time::Duration;

use jaiminho_discovery::Here;
use jaiminho_link::{Server, ServerConfig};
use jaiminho_runtime::{Address, StageEnd};
use jaiminho_telemetry::names::process as names;
use jaiminho_telemetry::{LIFE, logs};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{block_on, instance, logged, threads};
use crate::admin::{self, Readiness};
use crate::cli::{Global, StageArgs};
use crate::config::memory::{CONNECTIONS_PER_LINK, sum, terms};
use crate::config::model::Stage;
use crate::config::{Config, Document, Files, Setting};
use crate::exit::Failure;
use crate::observed::about;
use crate::rates::Rates;
use crate::signals::Signals;
use crate::telemetry::{self, Who};
use crate::traces::Tracers;
use crate::wire::{Links, Wiring};

/// Time for connections to close once the stage has ended.
pub(crate) const CLOSE_DEADLINE: Duration = Duration::from_secs(5);

pub(crate) fn run(global: &Global, arguments: &StageArgs) -> Result<(), Failure> {
    let document = Document::open(&global.file, &global.overrides())?;
    if let Some(unknown) = document.unknown_stage(&arguments.stage) {
        return Err(Failure::usage(unknown));
    }
    let config = logged(document.check(Setting::Apart, Files::Of(&arguments.stage))?);
    let Some(stage) = config.pipeline.stages.get(&arguments.stage) else {
        return Err(Failure::software(format!("stage `{}` is not there", arguments.stage)));
    };
    block_on(serve(&config, global, stage, arguments))
}

#[expect(clippy::too_many_lines, reason = "a list of parts, nothing to follow")]
async fn serve(config: &Config, global: &Global, stage: &Stage, arguments: &StageArgs) -> Result<(), Failure> {
    let name = arguments.stage.as_str();
    let metrics = telemetry::install(config)?;
    describe(config, name, stage);
    let mut signals = Signals::listen()?;
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let (listener, listening) = admin::bind(&arguments.listen, "--listen").await?;
    let admin = admin::Port::bind(&arguments.admin, config.pipeline.telemetry.admin.tls.as_ref()).await?;
    let admin_address = admin.address;
    let advertised = arguments.advertise.clone().unwrap_or_else(|| format!("{}:{}", hostname(), listening.port()));
    let here = Here { advertised: Address(advertised.clone()), port: listening.port() };
    let instance = instance(arguments.name.clone().unwrap_or(advertised));
    speak_for(vec![(name.to_owned(), instance.name.clone())]);

    let tracers = Tracers::start(config, [(name, stage, instance.clone())], &tasks, stop.clone())?;
    let (links, here) = (Links::Apart(tasks.clone()), Some(here));
    let wiring = Wiring { config, links, embedded: None, tracers: &tracers, here };
    let mut wired = wiring.stage(name, stage, instance.clone())?;
    wired.stage.limits.versions = global.program.versions;
    let rates = vec![(name.to_owned(), wired.stage.limits.rate.clone())];
    Rates::new(global, Setting::Apart, rates).read_on_hangup(&tasks, stop.clone())?;
    let who = Who { service: telemetry::service(stage), pipeline: &config.pipeline.pipeline, instance: &instance.name };
    telemetry::tell(&config.pipeline.telemetry.metrics, &who, &metrics, &tasks, &stop)?;
    let handle = jaiminho_runtime::spawn(wired.stage);
    let server_config = ServerConfig {
        connections_max: usize::try_from(stage.limits.links.saturating_mul(CONNECTIONS_PER_LINK)).unwrap_or(usize::MAX),
        tls: stage.tls.clone().filter(|tls| tls.cert.is_some()),
        members: config.members(name),
        ..ServerConfig::default()
    };
    let server = Server::new(Arc::new(handle.clone()), server_config).await.map_err(Failure::config)?;
    let server = server.with_inspection(vec![handle.clone()], about(config, &global.program, &[name]));
    let (health, readiness) = (server.health(), Readiness::default());
    let serving = tokio::spawn(server.run(listener, stop.clone()));
    admin::serve(admin, readiness.clone(), vec![handle.clone()], metrics, &tasks, stop.clone());
    readiness.set(true);
    health.set_ready(true).await;
    let http = wired.http.map(|address| address.to_string());
    tracing::info!(
        target: LIFE,
        stage = name,
        pipeline = config.pipeline.pipeline,
        version = env!("CARGO_PKG_VERSION"),
        commit = env!("JAIMINHO_COMMIT"),
        %listening,
        admin = %admin_address,
        http,
        "stage runs"
    );

    let end = tokio::select! {
        end = handle.ended() => end,
        number = signals.next() => {
            tracing::info!(target: LIFE, signal = number, deadline_ms = millis(stage.drain.0), "told to drain");
            readiness.set(false);
            health.set_ready(false).await;
            signals.abort_on_next();
            handle.drain(stage.drain.0).await
        }
    };
    readiness.set(false);
    stop.cancel();
    tasks.close();
    let closed = async {
        let served = serving.await;
        tasks.wait().await;
        served
    };
    match tokio::time::timeout(CLOSE_DEADLINE + CLOSE_DEADLINE, closed).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) => return Err(Failure::unavailable(error)),
        Ok(Err(error)) => return Err(Failure::software(error)),
        Err(_) => tracing::warn!("connections that did not close are cut"),
    }
    ended(name, end)
}

/// What the end of a stage means for the process.
pub(crate) fn ended(stage: &str, end: StageEnd) -> Result<(), Failure> {
    match end {
        StageEnd::Drained { unsettled: 0 } => {
            tracing::info!(target: LIFE, stage, "drained");
            Ok(())
        }
        StageEnd::Drained { unsettled } => {
            let said = "drained, but not everything was settled by the deadline";
            tracing::warn!(target: LIFE, stage, unsettled, "{said}");
            Ok(())
        }
        StageEnd::Fenced(name) => Err(Failure::unavailable(format!(
            "stage `{stage}`: a newer process has the name {name}; give each instance its own --name"
        ))),
        StageEnd::Failed(text) => Err(Failure::unavailable(format!("stage `{stage}`: {text}"))),
    }
}

/// Says in the log who speaks.
pub(crate) fn speak_for(instances: Vec<(String, String)>) {
    if let Some(logs) = logs() {
        logs.speak_for(instances);
    }
}

/// Says in the metrics what runs, and how much memory it may take.
pub(crate) fn describe(config: &Config, name: &str, stage: &Stage) {
    let labels = [
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("commit", env!("JAIMINHO_COMMIT").to_owned()),
        ("stage", name.to_owned()),
    ];
    metrics::gauge!(names::INFO, &labels).set(1.0);
    let bound = sum(&terms(config, name, stage, threads()));
    metrics::gauge!(names::MEMORY_BOUND, "stage" => name.to_owned()).set(bound as f64);
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn hostname() -> String {
    let from_kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned());
    from_kernel.filter(|name| !name.is_empty()).unwrap_or_else(|| "localhost".into())
}
