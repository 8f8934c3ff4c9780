//! A scripted stage, and the transports that the suites run on.
#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::VecDeque;
use std::future::Future;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, ready};
use futures_util::stream::{self, Stream, StreamExt};
use jaiminho_core::{
    Credit, Delivery, Event, GroupKind, Instance, KeyHash, LinkError, Origin, OutputConfig, Payload, Subscribe,
    Subscribed, ToConsumer, ToProducer, Trace, Versions, Window,
};
use jaiminho_link::{About, Connector, ConnectorConfig, InProcess, Server, ServerConfig};
use jaiminho_proto::v1::{self, stage_client::StageClient};
use jaiminho_runtime::{
    Address, Connect, LinkHalf, OutputSpec, Outside, Role, Serve, StageConfig, StageHandle, StageLimits, spawn,
};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;

/// What is to happen, happens within this time.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// More credit than any test uses.
pub(crate) const ENDLESS: ToProducer = ToProducer::Credit(Credit { events: u64::MAX, bytes: u64::MAX });

/// The other end of a link, in the hands of the test.
pub(crate) struct ProducerHalf {
    pub(crate) subscribe: Subscribe,
    pub(crate) from_consumer: mpsc::Receiver<ToProducer>,
    pub(crate) to_consumer: mpsc::Sender<Result<ToConsumer, LinkError>>,
}

/// Refuses with what it was told to, else opens a link and hands its other end to the test.
pub(crate) struct Script {
    refusals: Mutex<VecDeque<LinkError>>,
    opened: mpsc::UnboundedSender<ProducerHalf>,
}

impl Serve for Script {
    fn subscribe(&self, subscribe: Subscribe) -> BoxFuture<'_, Result<LinkHalf, LinkError>> {
        if let Some(refusal) = self.refusals.lock().unwrap().pop_front() {
            return ready(Err(refusal)).boxed();
        }
        let (to_producer, from_consumer) = mpsc::channel(4);
        let (to_consumer, from_producer) = mpsc::channel(4);
        self.opened.send(ProducerHalf { subscribe, from_consumer, to_consumer }).unwrap();
        ready(Ok(LinkHalf { subscribed: subscribed(), to_producer, from_producer })).boxed()
    }
}

/// A stage behind a transport.
pub(crate) struct Rig {
    pub(crate) connect: Box<dyn Connect>,
    pub(crate) address: Address,
    pub(crate) script: Arc<Script>,
    pub(crate) opened: mpsc::UnboundedReceiver<ProducerHalf>,
    pub(crate) stop: CancellationToken,
    pub(crate) server: Option<tokio::task::JoinHandle<()>>,
    pub(crate) tasks: TaskTracker,
}

impl Rig {
    pub(crate) async fn in_process() -> Self {
        let (script, opened) = script();
        let stages = InProcess::new();
        stages.register("ingest", script.clone());
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let address = InProcess::address("ingest");
        Self { connect: Box::new(stages), address, script, opened, stop, server: None, tasks }
    }

    pub(crate) async fn grpc() -> Self {
        Self::with(ServerConfig::default(), ConnectorConfig::default()).await
    }

    pub(crate) async fn with(server: ServerConfig, connector: ConnectorConfig) -> Self {
        let (script, opened) = script();
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address(listener.local_addr().unwrap().to_string());
        let server = Server::new(script.clone(), server).await.unwrap();
        server.health().set_ready(true).await;
        let stopped = stop.clone();
        let server = Some(tokio::spawn(async move { server.run(listener, stopped).await.unwrap() }));
        let connect = Box::new(Connector::new(connector, tasks.clone()));
        Self { connect, address, script, opened, stop, server, tasks }
    }

    pub(crate) fn refuse(&self, error: LinkError) {
        self.script.refusals.lock().unwrap().push_back(error);
    }

    /// A new link, both ends, with all the credit that a test may want.
    pub(crate) async fn link(&mut self) -> (LinkHalf, ProducerHalf) {
        let consumer = soon(self.connect.connect(&self.address, subscribe())).await.unwrap();
        let mut producer = soon(self.opened.recv()).await.unwrap();
        consumer.to_producer.send(ENDLESS).await.unwrap();
        assert_eq!(soon(producer.from_consumer.recv()).await, Some(ENDLESS));
        (consumer, producer)
    }
}

fn script() -> (Arc<Script>, mpsc::UnboundedReceiver<ProducerHalf>) {
    let (opened, receiver) = mpsc::unbounded_channel();
    (Arc::new(Script { refusals: Mutex::default(), opened }), receiver)
}

/// Fails the test when it takes too long.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.expect("within 10 s")
}

/// Both directions of a link work.
pub(crate) async fn check(consumer: &mut LinkHalf, producer: &mut ProducerHalf) {
    let credit = ToProducer::Credit(Credit { events: 7, bytes: 70 });
    consumer.to_producer.send(credit.clone()).await.unwrap();
    assert_eq!(soon(producer.from_consumer.recv()).await, Some(credit));
    producer.to_consumer.send(Ok(frame(1, 3))).await.unwrap();
    assert_eq!(soon(consumer.from_producer.recv()).await, Some(Ok(frame(1, 3))));
}

pub(crate) fn subscribe() -> Subscribe {
    Subscribe {
        versions: Versions { min: 1, max: 1 },
        pipeline: "eugenio".into(),
        output: "ingest".into(),
        group: "convert".into(),
        kind: GroupKind::Required,
        instance: Instance { name: "convert-0".into(), incarnation: u64::MAX },
        link_counter: 3,
        window: Window { events: 2_000, bytes: 1 << 20 },
        event_bytes_max: (4 << 20) - 256,
        frame_bytes_max: 4 << 20,
        selector: None,
        partition: None,
    }
}

pub(crate) fn subscribed() -> Subscribed {
    Subscribed {
        version: 1,
        window: Window { events: 1_000, bytes: 1 << 19 },
        link_id: 42,
        instance: Instance { name: "ingest-0".into(), incarnation: 17 },
        partition_count: 4_096,
        hash_version: 1,
        heartbeat_ms: 2_000,
    }
}

/// Every second has a key, every third a deadline, every fourth a trace context.
pub(crate) fn event(number: u64, payload: impl Into<Payload>) -> Event {
    Event {
        payload: payload.into(),
        key: number.is_multiple_of(2).then_some(KeyHash(number << 40)),
        attempt: 1 + u32::try_from(number % 5).unwrap(),
        arrived_ms: 1_700_000_000_000 + number,
        deadline_ms: NonZeroU64::new(1_700_000_030_000 + number).filter(|_| number.is_multiple_of(3)),
        origin: Origin { incarnation: u64::MAX - 1, offset: number * 10 },
        trace: number
            .is_multiple_of(4)
            .then(|| Box::new(Trace { context: [u8::try_from(number % 256).unwrap(); 25], since: 9 })),
    }
}

pub(crate) fn frame(first: u64, count: u64) -> ToConsumer {
    let delivery = |number: u64| Delivery { number, event: event(number, format!("event {number}").into_bytes()) };
    ToConsumer::Events { deliveries: (first..first + count).map(delivery).collect(), backlog: count, pressure: true }
}

/// About 128 KiB.
pub(crate) fn usual_frame(number: u64) -> ToConsumer {
    let delivery = Delivery { number, event: event(number, vec![b'x'; 128 << 10]) };
    ToConsumer::Events { deliveries: vec![delivery], backlog: 0, pressure: false }
}

/// Says this, then waits; returns the status that the call ends with.
pub(crate) async fn end_of(
    mut client: StageClient<tonic::transport::Channel>,
    said: impl Stream<Item = v1::ConsumerMessage> + Send + 'static,
) -> Status {
    let mut incoming = match client.subscribe(said.chain(stream::pending())).await {
        Ok(response) => response.into_inner(),
        Err(status) => return status,
    };
    loop {
        match incoming.message().await {
            Ok(Some(_)) => {}
            Ok(None) => return Status::ok(""),
            Err(status) => return status,
        }
    }
}

/// A source's stage.
pub(crate) fn ingest(config: OutputConfig) -> StageHandle {
    spawn(StageConfig {
        pipeline: "eugenio".into(),
        stage: "ingest".into(),
        instance: Instance { name: "ingest-0".into(), incarnation: 1 },
        outputs: vec![OutputSpec { name: "ingest".into(), config }],
        dead_letter: None,
        upstreams: Vec::new(),
        role: Role::Source(Box::new(Outside)),
        limits: StageLimits::default(),
        tracer: Default::default(),
    })
}

/// Its address, and whether it tells of itself.
pub(crate) async fn serve(stage: &StageHandle, tells: bool) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address(listener.local_addr().unwrap().to_string());
    let server = Server::new(Arc::new(stage.clone()), ServerConfig::default()).await.unwrap();
    let about =
        About { version: "1.2.3".into(), commit: "abc".into(), memory_bytes_max: Some(1 << 30), cpus: Some(2.0) };
    let server = if tells { server.with_inspection(vec![stage.clone()], about) } else { server };
    tokio::spawn(async move { server.run(listener, CancellationToken::new()).await.unwrap() });
    address
}
