//! A watcher over real stages behind real ports.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::{sync::Arc, time::Duration};

use futures_util::future::{BoxFuture, FutureExt as _};
use jaiminho_core::{Event, GroupKind, Instance, OutputConfig, RequiredGroup};
use jaiminho_discovery::Fixed;
use jaiminho_link::{About, Connector, ConnectorConfig, Server, ServerConfig};
use jaiminho_observe::{
    FindingKind, Plan, PlannedStage, Role as PlannedRole, Tap, TapError, Tapped, Target, View, Watcher,
};
use jaiminho_runtime::{
    Acknowledge, Address, Discover, NewEvent, Offer, OutputSpec, Outside, Role, StageConfig, StageHandle, StageLimits,
    spawn,
};
use tokio::{
    net::TcpListener,
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A source of pipeline `p`, with a group that nobody is in.
fn ingest(pipeline: &str, name: &str, incarnation: u64) -> StageHandle {
    let convert = RequiredGroup { name: "convert".into(), dispatch: Default::default() };
    let config = OutputConfig { groups: vec![convert], ..OutputConfig::default() };
    spawn(StageConfig {
        pipeline: pipeline.into(),
        stage: "ingest".into(),
        instance: Instance { name: name.into(), incarnation },
        outputs: vec![OutputSpec { name: "ingest".into(), config }],
        dead_letter: None,
        upstreams: Vec::new(),
        role: Role::Source(Box::new(Outside)),
        limits: StageLimits::default(),
        tracer: Default::default(),
    })
}

async fn served(stage: &StageHandle, tells: bool) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address(listener.local_addr().unwrap().to_string());
    let server = Server::new(Arc::new(stage.clone()), ServerConfig::default()).await.unwrap();
    let server = if tells { server.with_inspection(vec![stage.clone()], About::default()) } else { server };
    tokio::spawn(server.run(listener, CancellationToken::new()));
    address
}

fn plan() -> Plan {
    let ingest = PlannedStage {
        name: "ingest".into(),
        role: PlannedRole::Source,
        component: "http".into(),
        deadline_ms: None,
        subscribe_to: vec![],
        outputs: vec!["ingest".into()],
    };
    Plan { pipeline: "p".into(), stages: vec![ingest] }
}

fn watcher(discover: Box<dyn Discover>) -> Watcher {
    Watcher::new(plan(), vec![Target { stages: vec!["ingest".into()], discover, tls: None }])
}

fn names(view: &View) -> Vec<&str> {
    view.stages[0].instances.iter().map(|instance| instance.name.as_str()).collect()
}

/// Says what it is told to.
struct Told(mpsc::UnboundedReceiver<Vec<Address>>);

impl Discover for Told {
    fn changed(&mut self) -> BoxFuture<'_, Vec<Address>> {
        async {
            match self.0.recv().await {
                Some(addresses) => addresses,
                None => std::future::pending().await,
            }
        }
        .boxed()
    }
}

async fn offer(stage: &StageHandle, count: u128) {
    let event = |identity: u128| NewEvent { payload: vec![b'x'].into(), key: None, identity, trace: None };
    let events = (0..count).map(event).collect();
    let offer = Offer { events, deadline: None, acknowledge: Acknowledge::Accepted };
    let _pending = stage.source().offer(offer).await.unwrap();
}

#[tokio::test]
async fn all_that_answers_is_shown_and_of_the_rest_is_told_why_not() {
    let stages = [ingest("p", "i-0", 1), ingest("p", "i-1", 1), ingest("p", "foreign", 1), ingest("other", "o-0", 1)];
    let mut addresses = Vec::new();
    for (index, stage) in stages.iter().enumerate() {
        addresses.push(served(stage, index != 2).await);
    }
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    addresses.push(Address(gone.local_addr().unwrap().to_string()));
    drop(gone);
    let mut watcher = watcher(Box::new(Fixed::new(addresses.clone())));
    watcher.discover().await;
    let view = watcher.look().await;
    assert_eq!(names(&view), ["i-0", "i-1"]);
    let told: Vec<_> = addresses
        .iter()
        .map(|address| view.stages[0].addresses.iter().find(|at| at.address == address.0).unwrap())
        .map(|at| (at.is_there, at.problem.clone().unwrap_or_default()))
        .collect();
    assert_eq!(told[..2], [(true, String::new()), (true, String::new())]);
    assert!(told[2].0 && told[2].1.contains("tells nothing of itself"), "{told:?}");
    assert_eq!(told[3], (false, "it is stage `ingest` of pipeline `other`".into()));
    assert_eq!(told[4], (false, "nothing answers (connection refused)".into()));
    let unreachable = view.findings.iter().filter(|finding| finding.kind == FindingKind::Unreachable).count();
    assert_eq!(unreachable, 3, "{:?}", view.findings);
}

#[tokio::test]
async fn rates_come_with_the_second_look_and_instances_come_and_go_with_discovery() {
    let (tell, told) = mpsc::unbounded_channel();
    let mut watcher = watcher(Box::new(Told(told)));
    let (first, second) = (ingest("p", "i-0", 1), ingest("p", "i-1", 1));
    let (at_first, at_second) = (served(&first, true).await, served(&second, true).await);
    tell.send(vec![at_first.clone()]).unwrap();
    watcher.discover().await;
    let began = Instant::now();
    let view = watcher.look().await;
    assert_eq!((names(&view), view.stages[0].figures.rates.events_in), (vec!["i-0"], None));
    offer(&first, 50).await;
    tell.send(vec![at_first, at_second.clone()]).unwrap();
    watcher.wait_until(Instant::now() + Duration::from_secs(1)).await;
    let view = watcher.look().await;
    let seconds = began.elapsed().as_secs_f64();
    assert_eq!(names(&view), ["i-0", "i-1"]);
    let rate = view.stages[0].figures.rates.events_in.unwrap();
    assert!(rate <= 50.0 && rate >= 50.0 / seconds - 0.5, "{rate} in {seconds} s");
    assert_eq!(view.subscriptions[0].waiting, 50);
    tell.send(vec![at_second]).unwrap();
    watcher.wait_until(Instant::now() + Duration::from_millis(50)).await;
    let view = watcher.look().await;
    assert_eq!(names(&view), ["i-1"]);
    assert_eq!(watcher.record().history().unix_ms.len(), 3);
}

#[tokio::test]
async fn of_two_processes_with_one_name_the_newer_one_is_shown() {
    let addresses = [served(&ingest("p", "i-0", 9), true).await, served(&ingest("p", "i-0", 8), true).await];
    let mut watcher = watcher(Box::new(Fixed::new(addresses.clone())));
    watcher.discover().await;
    let view = watcher.look().await;
    assert_eq!(names(&view), ["i-0"]);
    assert_eq!(view.stages[0].instances[0].address, addresses[0].0);
}

fn tap(address: &Address, rate: f64) -> Tap {
    Tap {
        discover: Box::new(Fixed::new([address.clone()])),
        connect: Arc::new(Connector::new(ConnectorConfig::default(), TaskTracker::new())),
        tls: None,
        pipeline: "p".into(),
        output: "ingest".into(),
        name: "tap-1".into(),
        rate,
        filter: None,
    }
}

async fn next(open: &mut jaiminho_observe::OpenTap) -> Box<Event> {
    match timeout(Duration::from_secs(5), open.next()).await.unwrap() {
        Tapped::Event(producer, event) => {
            assert_eq!(producer, "i-0");
            event
        }
        Tapped::Note(text) => panic!("{text}"),
    }
}

#[tokio::test]
async fn a_tap_gets_what_it_may_show_and_says_how_many_it_missed() {
    let stage = ingest("p", "i-0", 1);
    let address = served(&stage, true).await;
    let mut open = tap(&address, 5.0).open().await.unwrap();
    // Its credit has to be there before events pass.
    let has_credit = async {
        loop {
            let seen = stage.inspect().await.unwrap();
            let tap = seen.outputs[0].groups.iter().find(|group| group.kind == GroupKind::Tap);
            if tap.is_some_and(|tap| tap.links.iter().any(|seen| seen.link.granted.events > 0)) {
                return;
            }
        }
    };
    timeout(Duration::from_secs(5), has_credit).await.unwrap();
    offer(&stage, 100).await;
    let began = Instant::now();
    for _ in 0..5 {
        next(&mut open).await;
    }
    assert!(began.elapsed() >= Duration::from_millis(700), "five a second: {:?}", began.elapsed());
    let summary = open.end().await;
    assert_eq!((summary.shown, summary.dropped), (5, 0));
    assert!(summary.missed.is_none_or(|missed| missed == 95), "it may not be told in time: {summary:?}");
    let seen = stage.inspect().await.unwrap();
    assert_eq!(seen.outputs[0].tap_missed, 95);
    assert_eq!(seen.outputs[0].fill.events, 100, "those that have to be settled are all there");
}

#[tokio::test]
async fn with_a_filter_it_looks_at_more_than_it_shows() {
    let stage = ingest("p", "i-0", 1);
    let address = served(&stage, true).await;
    let wanted = Arc::new(|event: &Event| event.payload[0] == b'y');
    let mut open = Tap { filter: Some(wanted), ..tap(&address, 5.0) }.open().await.unwrap();
    let offers = stage.clone();
    let offering = tokio::spawn(async move {
        for payload in [b'x', b'x', b'y'].into_iter().cycle() {
            let event = NewEvent { payload: vec![payload].into(), key: None, identity: unique(), trace: None };
            let offer = Offer { events: vec![event], deadline: None, acknowledge: Acknowledge::Accepted };
            if offers.source().offer(offer).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    for _ in 0..3 {
        assert_eq!(&next(&mut open).await.payload[..], b"y");
    }
    assert!(open.summary().filtered >= 4, "{:?}", open.summary());
    offering.abort();
}

fn unique() -> u128 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed).into()
}

#[tokio::test]
async fn silent_addresses_hold_nothing_up_and_who_is_not_reached_is_told_once() {
    let stage = ingest("p", "i-0", 1);
    let mut addresses = vec![served(&stage, true).await];
    let mut silent = Vec::new();
    for _ in 0..20 {
        // It takes connections, and says nothing.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        addresses.push(Address(listener.local_addr().unwrap().to_string()));
        silent.push(listener);
    }
    let gone = silent.pop().unwrap().local_addr().unwrap().to_string();
    let began = Instant::now();
    let tap = Tap { discover: Box::new(Fixed::new(addresses.clone())), ..tap(&addresses[0], 5.0) };
    let mut open = tap.open().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    offer(&stage, 5).await;
    let (mut shown, mut notes) = (0, Vec::new());
    let end = Instant::now() + Duration::from_millis(3_500);
    while let Ok(tapped) = tokio::time::timeout_at(end, open.next()).await {
        match tapped {
            Tapped::Event(..) => shown += 1,
            Tapped::Note(text) => notes.push(text),
        }
    }
    assert_eq!(shown, 5);
    assert_eq!(notes.iter().filter(|note| note.starts_with(&gone)).count(), 1, "{notes:?}");
    let began = Instant::now();
    assert!(open.end().await.missed.is_some());
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test]
async fn where_nothing_answers_each_address_says_why() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = (Address(silent.local_addr().unwrap().to_string()), silent);
    let Err(TapError::NoLink(refused)) = tap(&silent.0, 1.0).open().await else { panic!("it is open") };
    assert!(refused.len() == 1 && refused[0].0 == silent.0.0, "{refused:?}");
}

#[tokio::test]
async fn a_tap_on_what_is_not_there_says_so() {
    let address = served(&ingest("p", "i-0", 1), true).await;
    let Err(TapError::NoLink(refused)) = Tap { output: "convert".into(), ..tap(&address, 1.0) }.open().await else {
        panic!("it is open")
    };
    assert!(refused[0].1.to_string().contains("unknown output convert"), "{refused:?}");
}
