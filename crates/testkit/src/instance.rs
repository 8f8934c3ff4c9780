//! The process of one instance: a stage, its port, its clients, and a look at its limits.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use jaiminho_core::{Instance, OutputConfig, RequiredGroup};
use jaiminho_link::{Connector, ConnectorConfig, Server, ServerConfig};
use jaiminho_runtime::{
    Asking, Cancel, OutputSpec, Outside, Role, Settler, StageConfig, StageEnd, StageHandle, StageLimits, StageStatus,
    UpstreamSpec, spawn_at,
};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::broker::Publisher;
use crate::client;
use crate::convert::Converter;
use crate::network::{Connecting, Named, Port, Simulated};
use crate::plan::{HostPlan, Tier};
use crate::world::World;

/// Limits are looked at this often.
const LOOK: Duration = Duration::from_millis(100);
/// A stage's task answers within this time, whatever its links do.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Connections close, and the last tasks end, within this time of a stage's end.
const GONE_WITHIN: Duration = Duration::from_secs(12);

pub(crate) async fn run(world: World, plan: Arc<HostPlan>) -> turmoil::Result {
    let host = plan.host.clone();
    let starts = {
        let mut state = world.lock();
        let host = state.host(&plan.host);
        if !host.wanted {
            return Ok(());
        }
        host.starts += 1;
        host.end = None;
        host.starts
    };
    let began = turmoil::sim_elapsed().unwrap_or_default().as_millis() as u64 + 1;
    let began = if plan.is_older { 0 } else { began };
    let incarnation = began << 20 | starts;
    world.record(&host, format_args!("starts as {} {incarnation:#x}", plan.name));
    let tasks = TaskTracker::new();
    let instance = Instance { name: plan.name.clone(), incarnation };
    let unix_ms = turmoil::since_epoch().unwrap_or_default().as_millis() as u64;
    let stage = spawn_at(stage(&world, &plan, instance, &tasks), unix_ms);
    let server = Server::new(Arc::new(stage.clone()), ServerConfig::default()).await?;
    let stop = CancellationToken::new();
    let serving = tokio::spawn(server.run(Port::bind().await?, stop.clone()));
    let mut clients = JoinSet::new();
    for client in &plan.clients {
        clients.spawn(client::run(world.clone(), host.clone(), client.clone(), stage.source()));
    }

    let end = watch(&world, &plan, &stage).await;
    world.record(&host, format_args!("ends: {end:?}"));
    world.lock().host(&host).end = Some(end.clone());
    clients.shutdown().await;
    drop(stage);
    stop.cancel();
    if timeout(GONE_WITHIN, serving).await.is_err() {
        world.wrong(format!("{host}: its port outlives its stage"));
    }
    // A sink that waits for its broker is in nobody's way: the process ends.
    if end == (StageEnd::Drained { unsettled: 0 }) {
        nothing_left(&world, &host).await;
    }
    Ok(())
}

fn stage(world: &World, plan: &HostPlan, instance: Instance, tasks: &TaskTracker) -> StageConfig {
    let HostPlan { host, tier, window, min_demand, versions, .. } = plan;
    let group = |name: &str| RequiredGroup { name: name.into(), dispatch: jaiminho_core::Dispatch::Keyed };
    let output = |consumer: Tier| OutputSpec {
        name: tier.name().into(),
        config: OutputConfig {
            capacity_events: plan.log_events,
            capacity_bytes: plan.log_bytes,
            span: 16 * plan.log_events,
            links_max: plan.links_max,
            handover_ms: plan.handover_ms,
            groups: vec![group(consumer.name())],
            ..OutputConfig::default()
        },
    };
    let upstream = |producer: Tier| UpstreamSpec {
        output: producer.name().into(),
        kind: jaiminho_core::GroupKind::Required,
        window: *window,
        min_demand: *min_demand,
        asking: Asking::Automatic,
        cancel: Cancel::Temporary,
        selector: None,
        partition: None,
        discover: Box::new(Named::new(world.clone(), producer)),
        connect: Arc::new(Connecting {
            world: world.clone(),
            host: host.clone(),
            connector: Connector::over(Simulated, ConnectorConfig::default(), tasks.clone()),
            versions: *versions,
        }),
    };
    let (outputs, upstreams, role) = match tier {
        Tier::Ingest => (vec![output(Tier::Convert)], vec![], Role::Source(Box::new(Outside))),
        Tier::Convert => {
            let seed = instance.incarnation;
            let (world, host, dedupe) = (world.clone(), host.clone(), plan.dedupe);
            let converter = Converter { world, host, seed, calls: AtomicU64::new(0), dedupe };
            (vec![output(Tier::Publish)], vec![upstream(Tier::Ingest)], Role::Transform(Arc::new(converter)))
        }
        Tier::Publish => {
            let settler = Settler::default();
            let publisher = Publisher { world: world.clone(), host: host.clone(), settler: settler.clone() };
            (vec![], vec![upstream(Tier::Convert)], Role::Sink(Box::new(publisher), settler))
        }
    };
    StageConfig {
        pipeline: "simulated".into(),
        stage: tier.name().into(),
        instance,
        outputs,
        dead_letter: None,
        upstreams,
        role,
        limits: StageLimits {
            concurrency: plan.concurrency,
            // Its handlers stand still for as long as it is frozen, and its clock doesn't.
            timeout: Duration::from_secs(120),
            links_max: plan.links_max,
            ..StageLimits::default()
        },
        tracer: Default::default(),
    }
}

/// Until the stage ends: its limits hold, and it drains when it is told to.
async fn watch(world: &World, plan: &HostPlan, stage: &StageHandle) -> StageEnd {
    let mut draining = JoinSet::new();
    let mut time_is_up = None;
    let mut last = StageStatus::default();
    loop {
        tokio::select! {
            biased;
            end = stage.ended() => {
                let gives_up = matches!(end, StageEnd::Drained { unsettled: 1.. });
                if gives_up && time_is_up.is_some_and(|time_is_up| Instant::now() < time_is_up) {
                    world.wrong(format!("{}: {end:?} before its time is up", plan.host));
                }
                return end;
            }
            () = sleep(LOOK) => {}
        }
        let leave = world.lock().host(&plan.host).leave;
        if let Some(within) = leave.filter(|_| draining.is_empty()) {
            let stage = stage.clone();
            time_is_up = Some(Instant::now() + within);
            draining.spawn(async move { stage.drain(within).await });
        }
        match timeout(ANSWER_WITHIN, stage.status()).await {
            Ok(Some(status)) if status != last => {
                check(world, plan, &status);
                let StageStatus { links_in, links_out, logs, inputs, absent_groups, .. } = &status;
                let log = logs.first().map(|(_, events, bytes)| (*events, *bytes)).unwrap_or_default();
                world.record(
                    &plan.host,
                    format_args!(
                        "{links_in} in, {links_out} out, log {log:?}, inputs {inputs}, absent {absent_groups:?}"
                    ),
                );
                last = status;
            }
            Ok(_) => {}
            Err(_) => world.wrong(format!("{}: its task doesn't answer", plan.host)),
        }
    }
}

/// The terms of a stage's memory.
fn check(world: &World, plan: &HostPlan, status: &StageStatus) {
    let over = |what: &str, is: u64, max: u64| {
        if is > max {
            world.wrong(format!("{}: {what}: {is}, and at most {max} are allowed", plan.host));
        }
    };
    for (_, events, bytes) in &status.logs {
        over("events in its log", *events, plan.log_events + plan.overshoot_events());
        over("bytes in its log", *bytes, plan.log_bytes + plan.overshoot_bytes());
    }
    let unprocessed = plan.links_max as u64 * plan.window.events;
    let inputs_max = match plan.tier {
        Tier::Ingest => plan.log_events + plan.overshoot_events(),
        // What is processed waits until its results are settled.
        Tier::Convert => unprocessed + plan.log_events + plan.overshoot_events(),
        Tier::Publish => unprocessed,
    };
    over("inputs", status.inputs, inputs_max);
    over("links from consumers", status.links_in as u64, plan.links_max as u64);
    over("links to producers", status.links_out as u64, plan.links_max as u64);
}

async fn nothing_left(world: &World, host: &str) {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let none = async {
        while tasks() > 0 {
            sleep(LOOK).await;
        }
    };
    if timeout(GONE_WITHIN, none).await.is_err() {
        world.wrong(format!("{host}: {} tasks outlive its stage", tasks()));
    }
}
