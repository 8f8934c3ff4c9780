//! One run, from outside: processes of this program, and what they say.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::{Arrived, Contender, Hop, Job, Sent, Taken};
use crate::BenchError;

/// Besides the time that a run has to take.
const DEADLINE: Duration = Duration::from_secs(120);

/// What one run gave.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// From the first to the last that arrived, and was settled.
    pub events_per_second: f64,
    /// All sides together, for a million events.
    pub cpu_seconds_per_million: f64,
    /// Of these, what the stage between them took; without one, 0.
    pub pass_cpu_seconds_per_million: f64,
    /// Of a run with a rate.
    pub hop: Option<Hop>,
}

#[derive(Deserialize)]
struct Listening {
    listening: String,
}

/// Runs the sides as `PROGRAM ARGUMENTS produce|pass|consume|alone JOB [ADDRESS]`.
pub async fn run_job(program: &Path, arguments: &[&str], job: &Job) -> Result<Round, BenchError> {
    let paced = job.rate.map_or(0, |rate| job.count / u64::from(rate.max(1)));
    tokio::time::timeout(DEADLINE + Duration::from_secs(paced), run(program, arguments, job))
        .await
        .unwrap_or_else(|_| Err(BenchError::Incomplete(format!("no end of {job:?} within its time"))))
}

async fn run(program: &Path, arguments: &[&str], job: &Job) -> Result<Round, BenchError> {
    let job_text = serde_json::to_string(job).map_err(|error| BenchError::Incomplete(error.to_string()))?;
    let start = |role: &str, peer: Option<&str>| {
        Side::start(program, &[arguments, &[role, &job_text], &peer.map_or(vec![], |peer| vec![peer])].concat())
    };
    if job.contender == Contender::InProcess {
        let mut side = start("alone", None)?;
        let (sent, arrived) = side.line().await?;
        let taken = side.end().await?;
        return round(job, sent, arrived, &[taken], Taken { cpu_seconds: 0.0 });
    }
    let mut producer = start("produce", None)?;
    let mut from: Listening = producer.line().await?;
    let mut pass = None;
    if job.contender == Contender::PassThrough {
        let pass = pass.insert(start("pass", Some(&from.listening))?);
        from = pass.line().await?;
    }
    let mut consumer = start("consume", Some(&from.listening))?;
    let (sent, arrived) = tokio::try_join!(producer.line(), consumer.line())?;
    let mut taken = vec![producer.end().await?, consumer.end().await?];
    let passed = match pass {
        Some(pass) => pass.end().await?,
        None => Taken { cpu_seconds: 0.0 },
    };
    taken.push(passed);
    round(job, sent, arrived, &taken, passed)
}

/// Checks that each event has arrived and is settled.
fn round(job: &Job, sent: Sent, arrived: Arrived, taken: &[Taken], passed: Taken) -> Result<Round, BenchError> {
    if !arrived.is_all_of(job.count) || sent.settled.is_some_and(|settled| settled != job.count) {
        return Err(BenchError::Incomplete(format!("of {} events: {sent:?}, {arrived:?}", job.count)));
    }
    let finished_ns = sent.finished_ns.max(arrived.finished_ns);
    let seconds = finished_ns.saturating_sub(sent.started_ns) as f64 / 1e9;
    let per_million = |cpu_seconds: f64| cpu_seconds / job.count as f64 * 1e6;
    Ok(Round {
        events_per_second: job.count as f64 / seconds.max(1e-9),
        cpu_seconds_per_million: per_million(taken.iter().map(|taken| taken.cpu_seconds).sum()),
        pass_cpu_seconds_per_million: per_million(passed.cpu_seconds),
        hop: arrived.hop,
    })
}

/// A process, killed when dropped.
struct Side {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Side {
    fn start(program: &Path, arguments: &[&str]) -> Result<Self, BenchError> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(BenchError::io("start a side"))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(BenchError::Incomplete("a side without pipes".to_owned()));
        };
        Ok(Self { child, input, output: BufReader::new(output).lines() })
    }

    async fn line<T: DeserializeOwned>(&mut self) -> Result<T, BenchError> {
        let line = self.output.next_line().await.map_err(BenchError::io("read from a side"))?;
        let line = line.ok_or_else(|| BenchError::Incomplete("a side ended early".to_owned()))?;
        serde_json::from_str(&line).map_err(|error| BenchError::Incomplete(format!("a side said {line:?}: {error}")))
    }

    /// Asks for what it took, and waits for its end.
    async fn end(mut self) -> Result<Taken, BenchError> {
        drop(self.input);
        let line = self.output.next_line().await.map_err(BenchError::io("read from a side"))?.unwrap_or_default();
        let taken = serde_json::from_str(&line)
            .map_err(|error| BenchError::Incomplete(format!("a side said {line:?}: {error}")))?;
        self.child.wait().await.map_err(BenchError::io("wait for a side"))?;
        Ok(taken)
    }
}
