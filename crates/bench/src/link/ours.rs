//! Our link: a producer stage behind a server, consumer stages with a connector each, a stage that passes on between them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, ready};
use jaiminho_core::{Event, Outcome, Window};
use jaiminho_link::{Connector, ConnectorConfig, Server, ServerConfig};
use jaiminho_runtime::{
    Address, Emitted, Failure, Outside, Receipt, Role, Settler, Sink, StageConfig, StageHandle, Transform, Verdict,
    spawn,
};
use smallvec::smallvec;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::events::{Arrivals, Events};
use super::{Arrived, Contender, Job, Sent};
use crate::BenchError;
use crate::process::{cpu_seconds, monotonic_ns};
use crate::stages::{self, CONSUMER, PASS, PRODUCER};

/// How often the producer looks whether all consumers are there.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// Events and twice their bytes: it is the events that limit.
pub(super) fn window(job: &Job) -> Window {
    let size = job.size as u64;
    Window { events: job.window, bytes: job.window.saturating_mul(size).saturating_mul(2) }
}

fn stage_error(error: impl std::fmt::Display) -> BenchError {
    BenchError::Stage(error.to_string())
}

/// Who consumes what the producer makes.
fn next(job: &Job) -> &'static str {
    match job.contender {
        Contender::PassThrough => PASS,
        Contender::BareEvents | Contender::BareFrames | Contender::Link | Contender::InProcess => CONSUMER,
    }
}

fn producer(job: &Job) -> StageHandle {
    let output = stages::output(PRODUCER, next(job), &window(job), job.consumers as usize * 2);
    spawn(StageConfig { outputs: vec![output], ..stages::stage(PRODUCER, PRODUCER, Role::Source(Box::new(Outside))) })
}

async fn serve(
    stage: &StageHandle,
    listener: TcpListener,
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> Result<(), BenchError> {
    let server = Server::new(Arc::new(stage.clone()), ServerConfig::default()).await.map_err(stage_error)?;
    tasks.spawn(server.run(listener, stop));
    Ok(())
}

/// Sends until all is settled. Besides, the CPU-seconds before it began.
async fn send(job: &Job, stage: &StageHandle) -> Result<(Sent, f64), BenchError> {
    while stage.status().await.is_some_and(|status| status.links_in < job.consumers as usize) {
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    let (started_ns, cpu) = (monotonic_ns(), cpu_seconds());
    // Two windows: one under way, one that waits for its credit.
    let unsettled_max = usize::try_from(job.window.saturating_mul(2)).unwrap_or(usize::MAX);
    let settled = stages::offer_all(&stage.source(), Events::new(job), job.batch, unsettled_max).await?;
    Ok((Sent { started_ns, finished_ns: monotonic_ns(), settled: Some(settled) }, cpu))
}

/// Serves until all is settled. Besides, the CPU-seconds before it began.
pub(crate) async fn produce(
    job: &Job,
    listener: TcpListener,
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> Result<(Sent, f64, StageHandle), BenchError> {
    let stage = producer(job);
    serve(&stage, listener, tasks, stop).await?;
    let (sent, cpu) = send(job, &stage).await?;
    Ok((sent, cpu, stage))
}

/// Passes events on as they are.
struct Pass;

impl Transform for Pass {
    fn process<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<Verdict, Failure>> {
        ready(Ok(Verdict::Emit(smallvec![Emitted::main(event.payload.clone())]))).boxed()
    }
}

/// Consumes from the producer, and serves what it passes on.
pub(crate) async fn pass(
    job: &Job,
    producer: SocketAddr,
    listener: TcpListener,
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> Result<StageHandle, BenchError> {
    let connector = Arc::new(Connector::new(ConnectorConfig::default(), tasks.clone()));
    let stage = spawn(StageConfig {
        outputs: vec![stages::output(PASS, CONSUMER, &window(job), 2)],
        upstreams: vec![stages::upstream(PRODUCER, window(job), Address(producer.to_string()), connector)],
        ..stages::stage(PASS, PASS, Role::Transform(Arc::new(Pass)))
    });
    serve(&stage, listener, tasks, stop).await?;
    Ok(stage)
}

/// Accepts everything at once, and counts.
struct Counter {
    arrivals: Arc<Arrivals>,
    settler: Settler,
}

impl Sink for Counter {
    fn send<'a>(&'a mut self, events: &'a mut Vec<(Receipt, Event)>) -> BoxFuture<'a, ()> {
        self.arrivals.take(events.iter().map(|(_, event)| event));
        self.settler.settle_all(events.drain(..).map(|(receipt, _)| (receipt, Outcome::Accepted)));
        ready(()).boxed()
    }

    fn drain(&mut self, _time_left: Duration) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }
}

/// Takes until all has arrived; the stages go on.
pub(crate) async fn consume(job: &Job, address: SocketAddr, tasks: &TaskTracker) -> (Arrived, Vec<StageHandle>) {
    let connector = Arc::new(Connector::new(ConnectorConfig::default(), tasks.clone()));
    let (arrivals, address) = (Arc::new(Arrivals::new(job)), Address(address.to_string()));
    let output = if job.contender == Contender::PassThrough { PASS } else { PRODUCER };
    let stage = |number| {
        let settler = Settler::default();
        let counter = Counter { arrivals: arrivals.clone(), settler: settler.clone() };
        let name = format!("{CONSUMER}-{number}");
        spawn(StageConfig {
            upstreams: vec![stages::upstream(output, window(job), address.clone(), connector.clone())],
            ..stages::stage(CONSUMER, &name, Role::Sink(Box::new(counter), settler))
        })
    };
    let stages = (0..job.consumers).map(stage).collect();
    (arrivals.all().await, stages)
}
