//! Stages in one process, linked by their own handles.

#![allow(dead_code, reason = "each test binary uses a part")]

pub(crate) mod scripted;
pub(crate) mod spans;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use jaiminho_core::{
    Dispatch, Event, GroupKind, Instance, KeyHash, LinkError, Outcome, OutputConfig, RequiredGroup, Subscribe, Window,
};
use jaiminho_runtime::{
    Acknowledge, Address, Answer, Asking, Cancel, Connect, DeadLetterSpec, Discover, Emitted, Failure, LinkHalf,
    NewEvent, Offer, OutputSpec, Outside, Rate, Receipt, Role, Serve as _, Settler, Sink, StageConfig, StageHandle,
    StageLimits, Transform, UpstreamSpec, Verdict, spawn,
};
use smallvec::smallvec;

pub(crate) struct Always(pub(crate) Vec<Address>, pub(crate) bool);

impl Discover for Always {
    fn changed(&mut self) -> BoxFuture<'_, Vec<Address>> {
        let first = std::mem::take(&mut self.1);
        let known = self.0.clone();
        Box::pin(async move { if first { known } else { std::future::pending().await } })
    }
}

#[derive(Clone, Default)]
pub(crate) struct Local(pub(crate) Arc<Mutex<HashMap<String, StageHandle>>>);

impl Local {
    pub(crate) fn put(&self, name: &str, handle: &StageHandle) {
        self.0.lock().unwrap().insert(name.into(), handle.clone());
    }
}

impl Connect for Local {
    fn connect<'a>(&'a self, address: &'a Address, subscribe: Subscribe) -> BoxFuture<'a, Result<LinkHalf, LinkError>> {
        let handle = self.0.lock().unwrap().get(&address.0).cloned();
        Box::pin(async move {
            match handle {
                Some(handle) => handle.subscribe(subscribe).await,
                None => Err(LinkError::Unavailable("not there".into())),
            }
        })
    }
}

pub(crate) type Convert = dyn Fn(&Event) -> Result<Verdict, Failure> + Send + Sync;

pub(crate) struct Call(pub(crate) Box<Convert>);

impl Transform for Call {
    fn process<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<Verdict, Failure>> {
        let result = (self.0)(event);
        Box::pin(async move { result })
    }
}

pub(crate) type Judge = dyn Fn(&Event) -> Option<Outcome> + Send + Sync;

#[derive(Clone)]
pub(crate) struct Collect {
    pub(crate) settler: Settler,
    pub(crate) seen: Arc<Mutex<Vec<Event>>>,
    pub(crate) verdict: Arc<Judge>,
}

impl Collect {
    pub(crate) fn new(verdict: impl Fn(&Event) -> Option<Outcome> + Send + Sync + 'static) -> Self {
        Self { settler: Settler::default(), seen: Arc::default(), verdict: Arc::new(verdict) }
    }

    pub(crate) fn payloads(&self) -> Vec<Bytes> {
        self.seen.lock().unwrap().iter().map(|event| Bytes::copy_from_slice(&event.payload)).collect()
    }
}

impl Sink for Collect {
    fn send<'a>(&'a mut self, events: &'a mut Vec<(Receipt, Event)>) -> BoxFuture<'a, ()> {
        for (receipt, event) in events.drain(..) {
            if let Some(outcome) = (self.verdict)(&event) {
                self.settler.settle(receipt, outcome);
            }
            self.seen.lock().unwrap().push(event);
        }
        Box::pin(async {})
    }

    fn drain(&mut self, _: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

pub(crate) fn log(name: &str, groups: &[&str]) -> OutputSpec {
    let groups = groups.iter().map(|name| RequiredGroup { name: (*name).into(), dispatch: Dispatch::Keyed }).collect();
    let config = OutputConfig {
        capacity_events: 1_000,
        capacity_bytes: 1 << 20,
        span: 16_000,
        links_max: 8,
        drops_without_group: true,
        groups,
        ..OutputConfig::default()
    };
    OutputSpec { name: name.into(), config }
}

pub(crate) fn stage(name: &str, outputs: Vec<OutputSpec>, from: &[&str], local: &Local, role: Role) -> StageConfig {
    let upstream = |output: &&str| UpstreamSpec {
        output: (*output).into(),
        kind: GroupKind::Required,
        window: Window { events: 100, bytes: 1 << 20 },
        min_demand: 50,
        asking: Asking::Automatic,
        cancel: Cancel::Temporary,
        selector: None,
        partition: None,
        discover: Box::new(Always(vec![Address(output.split('.').next().unwrap_or_default().into())], true)),
        connect: Arc::new(local.clone()),
    };
    StageConfig {
        pipeline: "p".into(),
        stage: name.into(),
        instance: Instance { name: format!("{name}-0"), incarnation: 1 },
        outputs,
        dead_letter: None,
        upstreams: from.iter().map(upstream).collect(),
        role,
        limits: StageLimits { timeout: Duration::from_millis(300), ..StageLimits::default() },
        tracer: Default::default(),
    }
}

pub(crate) fn event(number: u32, key: Option<u64>) -> NewEvent {
    let payload = number.to_string().into_bytes().into();
    NewEvent { payload, key: key.map(KeyHash), identity: u128::from(number), trace: None }
}

pub(crate) fn offer(events: Vec<NewEvent>) -> Offer {
    Offer { events, deadline: Some(Duration::from_secs(10)), acknowledge: Acknowledge::Published }
}

pub(crate) fn accepted() -> Option<Outcome> {
    Some(Outcome::Accepted)
}

pub(crate) fn copy() -> Box<Convert> {
    Box::new(|event| Ok(Verdict::Emit(smallvec![Emitted::main(event.payload.clone())])))
}

/// in -> mid -> out, with a dead letter of mid's to `dead`.
pub(crate) fn pipeline(convert: Box<Convert>, sink: &Collect) -> (StageHandle, Vec<StageHandle>, Collect) {
    let local = Local::default();
    let source = spawn(stage("in", vec![log("in", &["mid"])], &[], &local, Role::Source(Box::new(Outside))));
    local.put("in", &source);
    let mut small = log("mid", &["out"]);
    small.config.capacity_events = 200;
    let mut config = stage("mid", vec![small], &["in"], &local, Role::Transform(Arc::new(Call(convert))));
    let make: jaiminho_runtime::DeadLetter =
        Arc::new(|event, rejection| format!("dead {:?} {}", event.payload, rejection.text).into_bytes().into());
    config.dead_letter = Some(DeadLetterSpec { output: log("mid.dead_letter", &["dead"]), make });
    let middle = spawn(config);
    local.put("mid", &middle);
    let out = spawn(stage("out", vec![], &["mid"], &local, Role::Sink(Box::new(sink.clone()), sink.settler.clone())));
    let dead = Collect::new(|_| accepted());
    let buried = Role::Sink(Box::new(dead.clone()), dead.settler.clone());
    let dead_stage = spawn(stage("dead", vec![], &["mid.dead_letter"], &local, buried));
    (source, vec![middle, out, dead_stage], dead)
}

pub(crate) async fn published(source: &StageHandle, events: Vec<NewEvent>) -> Vec<Answer> {
    let pending = source.source().offer(offer(events)).await.unwrap();
    tokio::time::timeout(Duration::from_secs(15), pending.answers()).await.unwrap()
}

/// in -> mid -> out, with a rate at mid and at out.
pub(crate) fn rated(mid: &Rate, out: &Rate) -> [StageHandle; 3] {
    let (local, sink) = (Local::default(), Collect::new(|_| accepted()));
    let source = spawn(stage("in", vec![log("in", &["mid"])], &[], &local, Role::Source(Box::new(Outside))));
    local.put("in", &source);
    let mut config = stage("mid", vec![log("mid", &["out"])], &["in"], &local, Role::Transform(Arc::new(Call(copy()))));
    config.limits.rate = mid.clone();
    let middle = spawn(config);
    local.put("mid", &middle);
    let role = Role::Sink(Box::new(sink.clone()), sink.settler.clone());
    let mut config = stage("out", vec![], &["mid"], &local, role);
    config.limits.rate = out.clone();
    [source, middle, spawn(config)]
}

/// Offers as much as is taken, for so long.
pub(crate) async fn flood(source: &StageHandle, from: u32, time: Duration) {
    let end = tokio::time::Instant::now() + time;
    let mut number = from;
    while tokio::time::Instant::now() < end {
        let events = (0..50).map(|of| event(number + of, None)).collect();
        // A refusal is as good: there is more than is taken.
        let _refused = source.source().offer(offer(events)).await;
        number += 50;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
