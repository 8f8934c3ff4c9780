//! A stage's start: its parts, its channels, its tasks.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jaiminho_core::{Inputs, Output};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument as _;

use crate::{
    absent::Absent,
    account::Account,
    actor::Actor,
    changes::Changes,
    config::{DeadLetter, DeadLetterSpec, OutputSpec, Role, StageConfig},
    consumer::Upstreams,
    dedupe::Copies,
    desk::Desk,
    handle::StageHandle,
    inspection::{Troubles, Usages},
    lanes::Lanes,
    outlet::Outlet,
    peers::Peers,
    source::SourceHandle,
    stage::{Source, SourceError},
    subscriptions::{Subscriptions, template},
    task::{COMMANDS, Clock, Doing, Inbox, Log, Task},
    traces::{Hops, Sends},
};

/// What a sink has to flush itself when its stage has ended.
const SINK_DRAIN: Duration = Duration::from_secs(5);

/// Starts a stage. Must be called within a tokio runtime.
pub fn spawn(config: StageConfig) -> StageHandle {
    let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    spawn_at(config, unix_ms)
}

/// Starts a stage in a world where it is `unix_ms`. Must be called within a tokio runtime.
#[expect(clippy::too_many_lines, reason = "a list of parts, nothing to follow")]
pub fn spawn_at(config: StageConfig, unix_ms: u64) -> StageHandle {
    let StageConfig { pipeline, stage, instance, outputs, dead_letter, upstreams, role, limits, tracer } = config;
    let (commands, command_inbox) = mpsc::channel(COMMANDS);
    let (offers, offer_inbox) = mpsc::channel(1024);
    let (upstream, upstream_inbox) = mpsc::channel(64);
    let (done, done_inbox) = mpsc::channel(64);
    let (acted, acted_inbox) = mpsc::channel(1);
    let (source_end, source_inbox) = mpsc::channel(1);
    let (drain, drain_seen) = watch::channel(None);
    let (room, room_seen) = watch::channel(true);
    let (end, end_seen) = watch::channel(None);
    let (draining, closing) = (CancellationToken::new(), CancellationToken::new());
    let (tasks, progress) = (TaskTracker::new(), Arc::new(Notify::new()));

    let names =
        outputs.iter().map(|output| output.name.split_once('.').map_or("", |(_, name)| name).to_owned()).collect();
    let (logs, dead_letter) = logs(outputs, dead_letter);
    let troubles = match &role {
        Role::Sink(_, settler) => settler.troubles().clone(),
        Role::Source(_) | Role::Transform(_) | Role::Handler(..) => Troubles::default(),
    };
    let (account, usages) = (Account::new(&stage), Usages::default());
    let handle = StageHandle {
        commands: commands.clone(),
        offers: offers.clone(),
        room: room_seen,
        drain: Arc::new(drain),
        draining: draining.clone(),
        end: end_seen,
        versions: limits.versions,
        troubles: troubles.clone(),
        usages: usages.clone(),
    };
    // What a source, a sink or a handler says has its stage's name.
    let of = tracing::error_span!("stage", stage);
    let doing = match role {
        Role::Source(source) => {
            tasks.spawn(run_source(source, handle.source(), source_end).instrument(of));
            Doing::Source(Desk::new(instance.incarnation, room, Hops::new(tracer.clone(), &stage)))
        }
        Role::Transform(transform) => {
            let lanes = Lanes::spawn(&transform, &limits, (&stage, &tracer), &done, &progress, &tasks);
            Doing::Transform { lanes, placing: VecDeque::new(), copies: Copies::of(&transform) }
        }
        Role::Sink(sink, settler) => {
            let (mut outlet, run) =
                Outlet::new(sink, settler, progress.clone(), limits.max_failures, limits.rate.clone(), SINK_DRAIN);
            tasks.spawn(run.instrument(of));
            outlet.batch_events = account.meters.batch_events.clone();
            Doing::Sink(outlet)
        }
        Role::Handler(handler, kind) => {
            let (mut actor, run) =
                Actor::new(handler, kind, acted.clone(), &limits, names, closing.clone(), (&stage, &tracer));
            tasks.spawn(run.instrument(of));
            actor.batch_events = account.meters.batch_events.clone();
            Doing::Handler(Box::new(actor))
        }
    };
    let template = template(&pipeline, &stage, &instance, &limits);
    let mut subscriptions =
        Subscriptions::new(template, limits.links_max, upstream.clone(), tasks.clone(), closing.clone());
    for spec in upstreams {
        subscriptions.add(spec);
    }
    let (sends, hops) = (Sends::new(tracer.clone(), &stage), Hops::new(tracer.clone(), &stage));
    let peers = Peers::new(&stage, logs.iter().map(|log| log.name.clone()).collect());
    let task = Task {
        pipeline,
        stage,
        instance,
        versions: limits.versions,
        clock: Clock::start(unix_ms),
        logs,
        dead_letter,
        dying: HashMap::new(),
        inputs: Inputs::new(),
        peers,
        sends,
        ready: BTreeSet::new(),
        upstreams: Upstreams::new(limits.batch.is_some(), hops),
        tracer,
        subscriptions,
        doing,
        tasks,
        account,
        troubles,
        usages,
        warned: None,
        absent: Absent::default(),
        changes: Changes::default(),
        made: 0,
        unordered: limits.unordered,
        drain: limits.drain,
        closing,
        draining,
        leave: None,
        resigned: None,
        end: None,
    };
    let inbox = Inbox {
        commands: command_inbox,
        offers: offer_inbox,
        upstream: upstream_inbox,
        done: done_inbox,
        acted: acted_inbox,
        source: source_inbox,
        drain: drain_seen,
        progress,
        _open: (commands, offers, upstream, done, acted),
    };
    tokio::spawn(async move {
        let ended = task.run(inbox).await;
        end.send_replace(Some(ended));
    });
    handle
}

fn logs(outputs: Vec<OutputSpec>, dead_letter: Option<DeadLetterSpec>) -> (Vec<Log>, Option<(usize, DeadLetter)>) {
    let log = |spec: OutputSpec| Log { name: spec.name, output: Output::new(spec.config) };
    let mut logs: Vec<Log> = outputs.into_iter().map(log).collect();
    let dead_letter = dead_letter.map(|spec| {
        logs.push(log(spec.output));
        (logs.len() - 1, spec.make)
    });
    (logs, dead_letter)
}

async fn run_source(source: Box<dyn Source>, handle: SourceHandle, end: mpsc::Sender<Result<(), SourceError>>) {
    let running = tokio::spawn(source.run(handle));
    let result = running.await.unwrap_or_else(|panic| Err(SourceError(format!("the source panicked: {panic}"))));
    // The stage may have left before its source.
    let _gone = end.send(result).await;
}
