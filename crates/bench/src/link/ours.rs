//! Our link: a producer stage behind a server, consumer stages with a connector each.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, ready};
use jaiminho_core::{Event, Outcome, Window};
use jaiminho_link::{Connector, ConnectorConfig, Server, ServerConfig};
use jaiminho_runtime::{Address, Receipt, Role, Settler, Sink, StageHandle, spawn};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::events::{Events, Tally};
use super::{Arrived, Job, Sent};
use crate::BenchError;
use crate::process::{cpu_seconds, monotonic_ns};
use crate::stages::{self, CONSUMER};

/// How often the producer looks whether all consumers are there.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// Events and twice their bytes: it is the events that limit.
fn window(job: &Job) -> Window {
    let size = job.size as u64;
    Window { events: job.window, bytes: job.window.saturating_mul(size).saturating_mul(2) }
}

/// Serves until all is settled. Besides, the CPU-seconds before it began.
pub(crate) async fn produce(
    job: &Job,
    listener: TcpListener,
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> Result<(Sent, f64, StageHandle), BenchError> {
    let stage_error = |error: &dyn std::fmt::Display| BenchError::Stage(error.to_string());
    let window = window(job);
    let handle = spawn(stages::producer(&window, job.consumers as usize * 2));
    let server = Server::new(Arc::new(handle.clone()), ServerConfig::default()).await;
    tasks.spawn(server.map_err(|error| stage_error(&error))?.run(listener, stop));
    while handle.status().await.is_some_and(|status| status.links_in < job.consumers as usize) {
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    let (started_ns, cpu) = (monotonic_ns(), cpu_seconds());
    // Two windows: one under way, one that waits for its credit.
    let unsettled_max = usize::try_from(window.events.saturating_mul(2)).unwrap_or(usize::MAX);
    let settled = stages::offer_all(&handle.source(), Events::new(job), job.batch, unsettled_max).await?;
    Ok((Sent { started_ns, finished_ns: monotonic_ns(), settled: Some(settled) }, cpu, handle))
}

/// Accepts everything at once, and counts.
struct Counter {
    shared: Arc<Shared>,
    settler: Settler,
}

struct Shared {
    tally: Mutex<Tally>,
    complete: Notify,
}

impl Sink for Counter {
    fn send<'a>(&'a mut self, events: &'a mut Vec<(Receipt, Event)>) -> BoxFuture<'a, ()> {
        let mut tally = self.shared.tally.lock().unwrap_or_else(PoisonError::into_inner);
        events.iter().for_each(|(_, event)| tally.take(&event.payload));
        if tally.is_complete() {
            self.shared.complete.notify_one();
        }
        drop(tally);
        self.settler.settle_all(events.drain(..).map(|(receipt, _)| (receipt, Outcome::Accepted)));
        ready(()).boxed()
    }

    fn drain(&mut self, _time_left: Duration) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }
}

/// Takes until all has arrived; the stages go on.
pub(crate) async fn consume(
    job: &Job,
    address: SocketAddr,
    tasks: &TaskTracker,
) -> Result<(Arrived, Vec<StageHandle>), BenchError> {
    let shared = Arc::new(Shared { tally: Mutex::new(Tally::new(job)), complete: Notify::new() });
    let stages: Vec<StageHandle> = (0..job.consumers)
        .map(|number| {
            let settler = Settler::default();
            let counter = Counter { shared: shared.clone(), settler: settler.clone() };
            let connector = Connector::new(ConnectorConfig::default(), tasks.clone());
            let role = Role::Sink(Box::new(counter), settler);
            let (name, address) = (format!("{CONSUMER}-{number}"), Address(address.to_string()));
            spawn(stages::consumer(&name, role, window(job), address, Arc::new(connector)))
        })
        .collect();
    shared.complete.notified().await;
    let arrived = shared.tally.lock().unwrap_or_else(PoisonError::into_inner).arrived();
    Ok((arrived, stages))
}
