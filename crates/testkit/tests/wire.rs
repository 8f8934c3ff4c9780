//! What peers say on a link, word for word, over the simulated network.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use jaiminho_core::{
    Credit, Delivery, Disposition, Event, GroupKind, Instance, KeyHash, LinkError, Outcome, OutputConfig,
    RequiredGroup, Settled, Subscribe, Subscribed, ToConsumer, ToProducer, Versions, Window,
};
use jaiminho_link::{Connector, ConnectorConfig, Server, ServerConfig};
use jaiminho_runtime::{
    Acknowledge, Address, Asking, Cancel, Connect as _, Discover, LinkHalf, NewEvent, Offer, OutputSpec, Outside, Role,
    Serve, Settler, Sink, StageConfig, StageLimits, UpstreamSpec, spawn,
};
use jaiminho_testkit::{Port, Simulated};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Longer than any message takes, and shorter than anything that waits.
const SOON: Duration = Duration::from_secs(1);

#[test]
fn n7_credit_that_is_repeated_lowered_or_nothing_brings_no_more_and_after_a_cancel_nothing_comes() {
    simulate(|| producer(20), async {
        let mut half = connect("out-0", 1, 1).await?;
        grant(&half, 5).await;
        assert_eq!(numbers(&mut half).await, [1, 2, 3, 4, 5]);
        for events in [5, 3, 0] {
            grant(&half, events).await;
        }
        assert_eq!(numbers(&mut half).await, [0; 0]);
        grant(&half, 6).await;
        assert_eq!(numbers(&mut half).await, [6], "the link goes on");
        half.to_producer.send(ToProducer::Cancel { drain: false, time_left_ms: 0 }).await?;
        let _closed = half.to_producer.send(ToProducer::Credit(Credit { events: 20, bytes: BYTES })).await;
        assert_eq!(numbers(&mut half).await, [0; 0]);
        assert!(half.from_producer.recv().await.is_none_or(|said| said.is_err()), "closed");
        Ok(())
    });
}

#[test]
fn n7_a_gap_a_repeat_and_more_than_the_credit_end_the_link_and_a_new_one_is_opened() {
    for sent in [&[1, 3][..], &[1, 1], &[2], &[1, 2, 3, 4, 5]] {
        let opened = Arc::new(Mutex::new(0));
        let scripted = Scripted { sent: sent.to_vec(), opened: opened.clone() };
        simulate(move || serve(Arc::new(scripted.clone())), async {
            let window = Window { events: 4, bytes: BYTES };
            let _stage = spawn(consumer(window));
            sleep(Duration::from_secs(20)).await;
            Ok(())
        });
        assert!(*opened.lock().unwrap() > 1, "{sent:?}");
    }
}

#[test]
fn n8_a_peer_that_says_nothing_loses_its_link_after_five_heartbeats_and_what_it_had_goes_to_another() {
    simulate(|| producer(8), async {
        let began = Instant::now();
        let mut silent = connect("out-0", 1, 1).await?;
        grant(&silent, 4).await;
        assert_eq!(numbers(&mut silent).await, [1, 2, 3, 4]);
        let mut other = connect("out-1", 1, 1).await?;
        let mut got = 0;
        while got < 8 {
            // It moves on throughout; saying so is its heartbeat.
            grant(&other, 8).await;
            for delivery in deliveries(&mut other).await {
                got += 1;
                let again = u32::from(delivery.event.payload[0] <= 4);
                assert_eq!(delivery.event.attempt, 1 + again);
            }
        }
        let took = began.elapsed();
        assert!(took > Duration::from_secs(10) && took < Duration::from_secs(14), "{took:?}");
        assert!(matches!(last(&mut silent).await, Some(LinkError::Silent(_))));
        Ok(())
    });
}

#[test]
fn n9_a_lost_credit_is_made_up_by_the_next_and_one_sent_again_counts_once() {
    simulate(|| producer(20), async {
        let mut half = connect("out-0", 1, 1).await?;
        // A grant of 4 is lost.
        grant(&half, 2).await;
        grant(&half, 6).await;
        grant(&half, 6).await;
        assert_eq!(numbers(&mut half).await, [1, 2, 3, 4, 5, 6]);
        Ok(())
    });
}

#[test]
fn n10_a_consumer_that_is_back_before_its_producer_noticed_gets_all_again_and_its_old_link_is_fenced() {
    simulate(|| producer(3), async {
        let mut old = connect("out-0", 1, 1).await?;
        grant(&old, 3).await;
        assert_eq!(numbers(&mut old).await, [1, 2, 3]);
        turmoil::hold("producer", "consumer");
        let newer = connect("out-0", 2, 1);
        turmoil::release("producer", "consumer");
        let mut newer = newer.await?;
        grant(&newer, 3).await;
        let again: Vec<_> = deliveries(&mut newer).await.iter().map(|delivery| delivery.event.attempt).collect();
        assert_eq!(again, [2, 2, 2]);
        let accepted = Disposition { first: 1, last: 3, state: Settled::Outcome(Outcome::Accepted) };
        let _late = old.to_producer.send(ToProducer::Dispositions(vec![accepted])).await;
        assert!(matches!(last(&mut old).await, Some(LinkError::Fenced(_))));
        assert!(matches!(connect("out-0", 1, 2).await, Err(LinkError::Fenced(_))), "the older process stays out");
        let replacing = connect("out-0", 2, 2).await?;
        assert!(matches!(last(&mut newer).await, Some(LinkError::Replaced)));
        drop(replacing);
        Ok(())
    });
}

#[test]
fn n11_a_stage_that_does_not_answer_is_given_up_in_time_and_one_that_refuses_says_why() {
    simulate(|| serve(Arc::new(Mute)), async {
        let began = Instant::now();
        assert!(matches!(connect("out-0", 1, 1).await, Err(LinkError::Unavailable(_))));
        assert!(began.elapsed() < Duration::from_secs(11), "{:?}", began.elapsed());
        Ok(())
    });
    simulate(|| producer(1), async {
        let open = async |change: fn(&mut Subscribe)| {
            let mut wanted = subscribe("out-0", 1, 1);
            change(&mut wanted);
            connector().connect(&Address(PRODUCER.into()), wanted).await.err()
        };
        let refused = open(|wanted| wanted.pipeline = "another".into()).await;
        assert!(matches!(refused, Some(LinkError::WrongPipeline { .. })), "{refused:?}");
        let refused = open(|wanted| wanted.versions = Versions { min: 7, max: 9 }).await;
        assert!(matches!(refused, Some(LinkError::Version { .. })), "{refused:?}");
        let refused = open(|wanted| wanted.group = "stranger".into()).await;
        assert!(matches!(refused, Some(LinkError::UnknownGroup(_))), "{refused:?}");
        Ok(())
    });
}

const PRODUCER: &str = "producer:7400";
const BYTES: u64 = 10_000;

/// One host that serves, and the test on another.
fn simulate<S: Future<Output = turmoil::Result> + 'static>(
    serves: impl Fn() -> S + 'static,
    test: impl Future<Output = turmoil::Result> + 'static,
) {
    let mut sim = turmoil::Builder::new()
        .rng_seed(1)
        .tick_duration(Duration::from_millis(10))
        .simulation_duration(Duration::from_secs(100))
        .build();
    sim.host("producer", serves);
    sim.client("consumer", test);
    sim.run().expect("the test's end");
}

async fn serve(stage: Arc<dyn Serve>) -> turmoil::Result {
    let server = Server::new(stage, ServerConfig::default()).await?;
    Ok(server.run(Port::bind().await?, CancellationToken::new()).await?)
}

/// A source with so many keyless events: 1, 2, 3 …
async fn producer(events: u8) -> turmoil::Result {
    let groups = vec![RequiredGroup { name: "out".into(), dispatch: jaiminho_core::Dispatch::Keyed }];
    let output = OutputSpec { name: "in".into(), config: OutputConfig { groups, ..OutputConfig::default() } };
    let stage = spawn(StageConfig { outputs: vec![output], ..config("in", vec![], Role::Source(Box::new(Outside))) });
    let events = (1..=events).map(|number| NewEvent {
        payload: vec![number].into(),
        key: None,
        identity: number.into(),
        trace: None,
    });
    let offer = Offer { events: events.collect(), deadline: None, acknowledge: Acknowledge::Published };
    let pending = stage.source().offer(offer).await?;
    serve(Arc::new(stage)).await?;
    drop(pending);
    Ok(())
}

fn config(stage: &str, upstreams: Vec<UpstreamSpec>, role: Role) -> StageConfig {
    StageConfig {
        pipeline: "p".into(),
        stage: stage.into(),
        instance: Instance { name: format!("{stage}-0"), incarnation: 1 },
        outputs: vec![],
        dead_letter: None,
        upstreams,
        role,
        limits: StageLimits::default(),
        tracer: Default::default(),
    }
}

struct Once(Option<Address>);

impl Discover for Once {
    fn changed(&mut self) -> BoxFuture<'_, Vec<Address>> {
        let first = self.0.take();
        async move {
            match first {
                Some(address) => vec![address],
                None => std::future::pending().await,
            }
        }
        .boxed()
    }
}

struct Ignores;

impl Sink for Ignores {
    fn send<'a>(&'a mut self, events: &'a mut Vec<(jaiminho_runtime::Receipt, Event)>) -> BoxFuture<'a, ()> {
        async { events.clear() }.boxed()
    }

    fn drain<'a>(&'a mut self, _time_left: Duration) -> BoxFuture<'a, ()> {
        async {}.boxed()
    }
}

fn consumer(window: Window) -> StageConfig {
    let upstream = UpstreamSpec {
        output: "in".into(),
        kind: GroupKind::Required,
        window,
        min_demand: 0,
        asking: Asking::Automatic,
        cancel: Cancel::Temporary,
        selector: None,
        partition: None,
        discover: Box::new(Once(Some(Address(PRODUCER.into())))),
        connect: Arc::new(connector()),
    };
    config("out", vec![upstream], Role::Sink(Box::new(Ignores), Settler::default()))
}

fn connector() -> Connector<Simulated> {
    Connector::over(Simulated, ConnectorConfig::default(), TaskTracker::new())
}

fn subscribe(name: &str, incarnation: u64, link_counter: u64) -> Subscribe {
    Subscribe {
        versions: Versions { min: 1, max: 1 },
        pipeline: "p".into(),
        output: "in".into(),
        group: "out".into(),
        kind: GroupKind::Required,
        instance: Instance { name: name.into(), incarnation },
        link_counter,
        window: Window { events: 100, bytes: BYTES },
        event_bytes_max: 1_000,
        frame_bytes_max: jaiminho_core::frame_bytes_max(1_000),
        selector: Default::default(),
        partition: Default::default(),
    }
}

async fn connect(name: &str, incarnation: u64, link_counter: u64) -> Result<LinkHalf, LinkError> {
    connector().connect(&Address(PRODUCER.into()), subscribe(name, incarnation, link_counter)).await
}

async fn grant(half: &LinkHalf, events: u64) {
    half.to_producer.send(ToProducer::Credit(Credit { events, bytes: BYTES })).await.expect("an open link");
}

/// What comes until nothing does.
async fn deliveries(half: &mut LinkHalf) -> Vec<Delivery> {
    let mut all = Vec::new();
    while let Ok(Some(Ok(said))) = timeout(SOON, half.from_producer.recv()).await {
        if let ToConsumer::Events { deliveries, .. } = said {
            all.extend(deliveries);
        }
    }
    all
}

async fn numbers(half: &mut LinkHalf) -> Vec<u64> {
    deliveries(half).await.iter().map(|delivery| delivery.number).collect()
}

/// Why the link has ended.
async fn last(half: &mut LinkHalf) -> Option<LinkError> {
    while let Ok(Some(said)) = timeout(SOON, half.from_producer.recv()).await {
        if let Err(error) = said {
            return Some(error);
        }
    }
    None
}

/// Never answers.
struct Mute;

impl Serve for Mute {
    fn subscribe(&self, _: Subscribe) -> BoxFuture<'_, Result<LinkHalf, LinkError>> {
        std::future::pending().boxed()
    }
}

/// A producer that sends what it is told, whatever the protocol says.
#[derive(Clone)]
struct Scripted {
    sent: Vec<u64>,
    opened: Arc<Mutex<u32>>,
}

impl Serve for Scripted {
    fn subscribe(&self, wanted: Subscribe) -> BoxFuture<'_, Result<LinkHalf, LinkError>> {
        *self.opened.lock().expect("one thread") += 1;
        let (to_consumer, from_producer) = mpsc::channel(4);
        let (to_producer, mut said) = mpsc::channel::<ToProducer>(4);
        let event = |number| Event { key: Some(KeyHash(number)), ..Event::new(vec![1]) };
        let deliveries = self.sent.iter().map(|&number| Delivery { number, event: event(number) }).collect();
        tokio::spawn(async move {
            // Its first credit.
            said.recv().await;
            let events = ToConsumer::Events { deliveries, backlog: 0, pressure: false };
            let _gone = to_consumer.send(Ok(events)).await;
            // Until the consumer gives it up.
            while said.recv().await.is_some() {}
        });
        let subscribed = Subscribed {
            version: 1,
            window: wanted.window,
            link_id: 1,
            instance: Instance { name: "in-0".into(), incarnation: 1 },
            partition_count: 4_096,
            hash_version: 1,
            heartbeat_ms: 2_000,
        };
        async move { Ok(LinkHalf { subscribed, to_producer, from_producer }) }.boxed()
    }
}
