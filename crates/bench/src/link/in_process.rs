//! Our link without a wire: a producer and a consumer as a library's user writes them, in one process.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jaiminho_link::InProcess;
use jaiminho_runtime::{Call, Connect, Failure, Handler, Kind, Role, StageConfig, StageEnd, StageHandle, Turn, spawn};

use super::events::{Arrivals, Events};
use super::ours::window;
use super::{Arrived, Job, Sent};
use crate::BenchError;
use crate::process::{cpu_seconds, monotonic_ns};
use crate::stages::{self, CONSUMER, PRODUCER};

/// For what is under way when the last event has arrived.
const DRAIN_DEADLINE: Duration = Duration::from_secs(10);

/// Emits what is asked for, until all events are made.
struct Maker(Events);

impl Handler for Maker {
    fn handle<'a>(&'a mut self, call: &'a Call, turn: &'a mut Turn) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            if let Call::Demand(wanted) = call {
                for _ in 0..*wanted {
                    let Some(event) = self.0.make() else {
                        turn.stop();
                        break;
                    };
                    turn.emit(event.payload, event.key);
                }
            }
            Ok(())
        })
    }
}

/// Counts what comes.
struct Counter(Arc<Arrivals>);

impl Handler for Counter {
    fn handle<'a>(&'a mut self, call: &'a Call, _turn: &'a mut Turn) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            if let Call::Events { events, .. } = call {
                self.0.take(events);
            }
            Ok(())
        })
    }
}

/// Both sides. Besides, the CPU-seconds before it began.
pub(crate) async fn run(job: &Job) -> Result<(Sent, Arrived, f64, Vec<StageHandle>), BenchError> {
    let (cpu, started_ns) = (cpu_seconds(), monotonic_ns());
    let window = window(job);
    let producer = spawn(StageConfig {
        outputs: vec![stages::output(PRODUCER, CONSUMER, &window, 2)],
        ..stages::stage(PRODUCER, PRODUCER, Role::Handler(Box::new(Maker(Events::new(job))), Kind::Producer))
    });
    let here = InProcess::new();
    here.register(PRODUCER, Arc::new(producer.clone()));
    let here: Arc<dyn Connect> = Arc::new(here);
    let arrivals = Arc::new(Arrivals::new(job));
    let counter = Role::Handler(Box::new(Counter(arrivals.clone())), Kind::Consumer);
    let mut upstream = stages::upstream(PRODUCER, window, InProcess::address(PRODUCER), here);
    // A consumer is called with so many events, and asks for as many again.
    upstream.min_demand = job.window.saturating_sub(job.batch as u64);
    let consumer = spawn(StageConfig { upstreams: vec![upstream], ..stages::stage(CONSUMER, CONSUMER, counter) });
    let arrived = arrivals.all().await;
    // It has come to its end, and ends when all is settled.
    let settled = match producer.drain(DRAIN_DEADLINE).await {
        StageEnd::Drained { unsettled } => job.count.checked_sub(unsettled),
        StageEnd::Fenced(_) | StageEnd::Failed(_) => None,
    };
    let sent = Sent { started_ns, finished_ns: monotonic_ns(), settled: Some(settled.unwrap_or_default()) };
    Ok((sent, arrived, cpu, vec![consumer]))
}
