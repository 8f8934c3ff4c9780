//! The two sides of a run, each in a process of its own.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use jaiminho_runtime::StageHandle;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Arrived, Contender, Job, Sent, Taken, bare, in_process, ours};
use crate::BenchError;
use crate::process::cpu_seconds;

/// All is settled when a side closes: nothing has to be waited for long.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);

/// The producing side, or the stage that passes on, listening.
#[derive(Debug)]
pub struct Producer {
    job: Job,
    listener: TcpListener,
}

/// A side that has done its part, with its connections.
#[derive(Debug)]
pub struct Open {
    stages: Vec<StageHandle>,
    tasks: TaskTracker,
    stop: CancellationToken,
    cpu_before: f64,
}

impl Producer {
    /// On a free port of the loopback; and which.
    pub async fn bind(job: Job) -> Result<(Self, SocketAddr), BenchError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(BenchError::io("listen"))?;
        let address = listener.local_addr().map_err(BenchError::io("listen"))?;
        Ok((Self { job, listener }, address))
    }

    /// Until all is sent, and for a link settled.
    pub async fn run(self) -> Result<(Sent, Open), BenchError> {
        let Self { job, listener } = self;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let (sent, cpu_before, stages) = match job.contender {
            Contender::BareEvents | Contender::BareFrames => {
                let (sent, cpu_before) = bare::produce(&job, listener, &tasks, stop.clone()).await?;
                (sent, cpu_before, Vec::new())
            }
            Contender::Link | Contender::PassThrough | Contender::InProcess => {
                let (sent, cpu_before, stage) = ours::produce(&job, listener, &tasks, stop.clone()).await?;
                (sent, cpu_before, vec![stage])
            }
        };
        Ok((sent, Open { stages, tasks, stop, cpu_before }))
    }

    /// Passes on what `producer` sends.
    pub async fn pass(self, producer: SocketAddr) -> Result<Open, BenchError> {
        let (tasks, stop, cpu_before) = (TaskTracker::new(), CancellationToken::new(), cpu_seconds());
        let stage = ours::pass(&self.job, producer, self.listener, &tasks, stop.clone()).await?;
        Ok(Open { stages: vec![stage], tasks, stop, cpu_before })
    }
}

/// Both sides in this process, until all is settled.
pub async fn alone(job: &Job) -> Result<((Sent, Arrived), Open), BenchError> {
    let (sent, arrived, cpu_before, stages) = in_process::run(job).await?;
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    Ok(((sent, arrived), Open { stages, tasks, stop, cpu_before }))
}

/// The consuming side, until all has arrived.
pub async fn consume(job: &Job, producer: SocketAddr) -> Result<(Arrived, Open), BenchError> {
    let (tasks, stop, cpu_before) = (TaskTracker::new(), CancellationToken::new(), cpu_seconds());
    let (arrived, stages) = match job.contender {
        Contender::BareEvents | Contender::BareFrames => (bare::consume(job, producer).await?, Vec::new()),
        Contender::Link | Contender::PassThrough | Contender::InProcess => ours::consume(job, producer, &tasks).await,
    };
    Ok((arrived, Open { stages, tasks, stop, cpu_before }))
}

impl Open {
    /// So far.
    pub fn taken(&self) -> Taken {
        Taken { cpu_seconds: cpu_seconds() - self.cpu_before }
    }

    /// Ends stages and connections.
    pub async fn close(self) {
        join_all(self.stages.iter().map(|stage| stage.drain(CLOSE_DEADLINE))).await;
        self.stop.cancel();
        self.tasks.close();
        // The process ends with it: what has not closed by then is cut.
        let _cut = tokio::time::timeout(CLOSE_DEADLINE, self.tasks.wait()).await;
    }
}
