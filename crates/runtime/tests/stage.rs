//! Stages in one process, linked by their own handles: settlement, order, retries, drain.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the failure")]

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use jaiminho_core::{
    Dispatch, Event, GroupKind, Instance, KeyHash, LinkError, Outcome, OutputConfig, Reason, RequiredGroup, Subscribe,
    Window,
};
use jaiminho_runtime::{
    Acknowledge, Address, Answer, Connect, DeadLetterSpec, Discover, Emitted, Failure, LinkHalf, NewEvent, Offer,
    OutputSpec, Receipt, Refusal, Role, Serve as _, Settler, Sink, Source, SourceError, SourceHandle, StageConfig,
    StageEnd, StageHandle, StageLimits, Transform, UpstreamSpec, Verdict, spawn,
};
use smallvec::smallvec;

struct Always(Vec<Address>, bool);

impl Discover for Always {
    fn changed(&mut self) -> BoxFuture<'_, Vec<Address>> {
        let first = std::mem::take(&mut self.1);
        let known = self.0.clone();
        Box::pin(async move { if first { known } else { std::future::pending().await } })
    }
}

#[derive(Clone, Default)]
struct Local(Arc<Mutex<HashMap<String, StageHandle>>>);

impl Local {
    fn put(&self, name: &str, handle: &StageHandle) {
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

/// A source that only waits: events come through the handle's door.
struct Outside;

impl Source for Outside {
    fn run(self: Box<Self>, handle: SourceHandle) -> BoxFuture<'static, Result<(), SourceError>> {
        Box::pin(async move {
            handle.draining().await;
            Ok(())
        })
    }
}

type Convert = dyn Fn(&Event) -> Result<Verdict, Failure> + Send + Sync;

struct Call(Box<Convert>);

impl Transform for Call {
    fn process<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<Verdict, Failure>> {
        let result = (self.0)(event);
        Box::pin(async move { result })
    }
}

type Judge = dyn Fn(&Event) -> Option<Outcome> + Send + Sync;

#[derive(Clone)]
struct Collect {
    settler: Settler,
    seen: Arc<Mutex<Vec<Event>>>,
    verdict: Arc<Judge>,
}

impl Collect {
    fn new(verdict: impl Fn(&Event) -> Option<Outcome> + Send + Sync + 'static) -> Self {
        Self { settler: Settler::default(), seen: Arc::default(), verdict: Arc::new(verdict) }
    }

    fn payloads(&self) -> Vec<Bytes> {
        self.seen.lock().unwrap().iter().map(|event| event.payload.clone()).collect()
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

fn log(name: &str, groups: &[&str]) -> OutputSpec {
    let groups = groups.iter().map(|name| RequiredGroup { name: (*name).into(), dispatch: Dispatch::Keyed }).collect();
    let config = OutputConfig {
        capacity_events: 1_000,
        capacity_bytes: 1 << 20,
        span: 16_000,
        links_max: 8,
        handover_ms: 10_000,
        attached_ttl_ms: 30_000,
        drops_without_group: true,
        groups,
    };
    OutputSpec { name: name.into(), config }
}

fn stage(name: &str, outputs: Vec<OutputSpec>, from: &[&str], local: &Local, role: Role) -> StageConfig {
    let upstream = |output: &&str| UpstreamSpec {
        output: (*output).into(),
        kind: GroupKind::Required,
        window: Window { events: 100, bytes: 1 << 20 },
        min_demand: 50,
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
    }
}

fn event(number: u32, key: Option<u64>) -> NewEvent {
    let payload = Bytes::from(number.to_string());
    NewEvent { payload, key: key.map(KeyHash), identity: u128::from(number), trace: None }
}

fn offer(events: Vec<NewEvent>) -> Offer {
    Offer { events, deadline: Some(Duration::from_secs(10)), acknowledge: Acknowledge::Published }
}

fn accepted() -> Option<Outcome> {
    Some(Outcome::Accepted)
}

fn copy() -> Box<Convert> {
    Box::new(|event| Ok(Verdict::Emit(smallvec![Emitted { payload: event.payload.clone() }])))
}

/// in -> mid -> out, with a dead letter of mid's to `dead`.
fn pipeline(convert: Box<Convert>, sink: &Collect) -> (StageHandle, Vec<StageHandle>, Collect) {
    let local = Local::default();
    let source = spawn(stage("in", vec![log("in", &["mid"])], &[], &local, Role::Source(Box::new(Outside))));
    local.put("in", &source);
    let mut small = log("mid", &["out"]);
    small.config.capacity_events = 200;
    let mut config = stage("mid", vec![small], &["in"], &local, Role::Transform(Arc::new(Call(convert))));
    let make: jaiminho_runtime::DeadLetter =
        Arc::new(|event, rejection| Bytes::from(format!("dead {:?} {}", event.payload, rejection.text)));
    config.dead_letter = Some(DeadLetterSpec { output: log("mid.dead_letter", &["dead"]), make });
    let middle = spawn(config);
    local.put("mid", &middle);
    let out = spawn(stage("out", vec![], &["mid"], &local, Role::Sink(Box::new(sink.clone()), sink.settler.clone())));
    let dead = Collect::new(|_| accepted());
    let buried = Role::Sink(Box::new(dead.clone()), dead.settler.clone());
    let dead_stage = spawn(stage("dead", vec![], &["mid.dead_letter"], &local, buried));
    (source, vec![middle, out, dead_stage], dead)
}

async fn published(source: &StageHandle, events: Vec<NewEvent>) -> Vec<Answer> {
    let pending = source.source().offer(offer(events)).await.unwrap();
    tokio::time::timeout(Duration::from_secs(15), pending.answers()).await.unwrap()
}

#[tokio::test]
async fn a_body_is_answered_when_the_sink_has_settled_all_of_it() {
    let sink = Collect::new(|_| accepted());
    let (source, rest, _) = pipeline(copy(), &sink);
    let answers = published(&source, (0..250).map(|n| event(n, Some(u64::from(n % 7)))).collect()).await;
    assert_eq!(answers, vec![Answer::Settled(Outcome::Accepted); 250]);
    assert_eq!(sink.payloads().len(), 250);
    for key in 0..7 {
        let of_key: Vec<u32> = sink
            .payloads()
            .iter()
            .filter_map(|payload| std::str::from_utf8(payload).ok()?.parse::<u32>().ok())
            .filter(|n| n % 7 == key)
            .collect();
        assert!(of_key.is_sorted(), "key {key} out of order: {of_key:?}");
    }
    for stage in [vec![source], rest].concat() {
        assert_eq!(stage.drain(Duration::from_secs(5)).await, StageEnd::Drained { unsettled: 0 });
    }
}

#[tokio::test]
async fn a_rejection_is_stored_as_a_dead_letter_and_reaches_the_client() {
    let convert: Box<Convert> = Box::new(|event| {
        if event.payload == "1" {
            return Ok(Verdict::Reject { reason: Reason::Invalid, text: "odd".into() });
        }
        Ok(Verdict::Emit(smallvec![Emitted { payload: event.payload.clone() }]))
    });
    let sink = Collect::new(|_| accepted());
    let (source, _rest, dead) = pipeline(convert, &sink);
    let answers = published(&source, vec![event(0, None), event(1, None)]).await;
    assert_eq!(answers[0], Answer::Settled(Outcome::Accepted));
    let Answer::Settled(Outcome::Rejected(rejection)) = &answers[1] else { panic!("{answers:?}") };
    assert_eq!((rejection.reason, rejection.text.as_str(), rejection.stored), (Reason::Invalid, "odd", true));
    assert_eq!(dead.payloads(), [Bytes::from("dead b\"1\" odd")]);
}

#[tokio::test]
async fn a_handler_that_panics_or_fails_is_tried_again_then_rejected_as_exhausted() {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let convert: Box<Convert> = Box::new(|event| {
        if event.payload == "0" && CALLS.fetch_add(1, Ordering::SeqCst) < 2 {
            return Err(Failure { text: "not yet".into() });
        }
        assert_ne!(event.payload, "1", "poison");
        Ok(Verdict::Emit(smallvec![Emitted { payload: event.payload.clone() }]))
    });
    let sink = Collect::new(|_| accepted());
    let (source, _rest, dead) = pipeline(convert, &sink);
    let answers = published(&source, vec![event(0, Some(1)), event(1, Some(1)), event(2, Some(1))]).await;
    let Answer::Settled(Outcome::Rejected(rejection)) = &answers[1] else { panic!("{answers:?}") };
    assert_eq!(rejection.reason, Reason::Exhausted);
    assert_eq!((&answers[0], &answers[2]), (&Answer::Settled(Outcome::Accepted), &Answer::Settled(Outcome::Accepted)));
    assert_eq!(sink.payloads(), [Bytes::from("0"), Bytes::from("2")]);
    assert_eq!(dead.payloads().len(), 1);
}

#[tokio::test]
async fn a_filtered_event_is_done_and_one_with_many_results_is_done_with_the_last() {
    let convert: Box<Convert> = Box::new(|event| match &event.payload[..] {
        b"0" => Ok(Verdict::Emit(smallvec![])),
        _ => Ok(Verdict::Emit(smallvec![Emitted { payload: "a".into() }, Emitted { payload: "b".into() }])),
    });
    let sink = Collect::new(|_| accepted());
    let (source, _rest, _) = pipeline(convert, &sink);
    let answers = published(&source, vec![event(0, None), event(1, None)]).await;
    assert_eq!(answers, vec![Answer::Settled(Outcome::Accepted); 2]);
    assert_eq!(sink.payloads().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stalled_sink_fills_the_log_and_then_the_edge_refuses() {
    let sink = Collect::new(|_| None);
    let (source, _rest, _) = pipeline(copy(), &sink);
    let mut pending = Vec::new();
    let refusal = loop {
        let number = pending.len() as u32;
        assert!(number < 4_000, "nothing pushes back");
        match source.source().offer(offer(vec![event(number, Some(u64::from(number)))])).await {
            Ok(taken) => pending.push(taken),
            Err(refusal) => break refusal,
        }
        tokio::time::sleep(Duration::from_micros(100)).await;
    };
    let Refusal::Overloaded { retry_after, .. } = refusal else { panic!("{refusal:?}") };
    assert!(retry_after >= Duration::from_secs(1) && retry_after <= Duration::from_secs(15));
    let last = pending.pop().unwrap();
    assert_eq!(last.answers().await, [Answer::Withdrawn], "never sent to anybody: withdrawn at its deadline");
    let first = pending.remove(0);
    assert_eq!(first.answers().await, [Answer::Unknown], "under way at its deadline");
}

#[tokio::test]
async fn a_retry_joins_its_unsettled_original() {
    let sink = Collect::new(|_| None);
    let (source, _rest, _) = pipeline(copy(), &sink);
    let first = source.source().offer(offer(vec![event(7, Some(1))])).await.unwrap();
    let second = source.source().offer(offer(vec![event(7, Some(1))])).await.unwrap();
    while sink.payloads().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    sink.settler.settle(Receipt::for_test(0), Outcome::Accepted);
    assert_eq!(first.answers().await, [Answer::Settled(Outcome::Accepted)]);
    assert_eq!(second.answers().await, [Answer::Settled(Outcome::Accepted)]);
    assert_eq!(sink.payloads().len(), 1, "one copy of the event");
}

#[tokio::test]
async fn a_drain_ends_at_its_deadline_when_downstream_is_dead() {
    let local = Local::default();
    let source = spawn(stage("in", vec![log("in", &["mid"])], &[], &local, Role::Source(Box::new(Outside))));
    let _pending = source.source().offer(offer(vec![event(0, None)])).await.unwrap();
    assert_eq!(source.drain(Duration::from_millis(600)).await, StageEnd::Drained { unsettled: 1 });
}

#[tokio::test]
async fn a_sink_that_panics_gets_all_it_had_not_settled_again_in_order() {
    let sink = Collect::new(|event| {
        static TRIES: AtomicU32 = AtomicU32::new(0);
        assert!(event.payload != "1" || TRIES.fetch_add(1, Ordering::SeqCst) > 0, "first try");
        accepted()
    });
    let (source, _rest, _) = pipeline(copy(), &sink);
    let answers = published(&source, (0..3).map(|n| event(n, Some(1))).collect()).await;
    assert_eq!(answers, vec![Answer::Settled(Outcome::Accepted); 3]);
}
