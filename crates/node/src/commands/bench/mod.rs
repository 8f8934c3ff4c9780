//! `jaiminho bench`: runs of this program beside what it is measured against.

mod link;
mod pipeline;
mod report;
mod side;

use std::path::PathBuf;

use jaiminho_bench::BenchError;

use crate::cli::{Bench, BenchCommand, Global};
use crate::exit::Failure;
use crate::signals::Signals;

pub(crate) fn run(global: &Global, bench: &Bench) -> Result<(), Failure> {
    match &bench.command {
        BenchCommand::Link(link) => super::block_on(unless_ended(link::run(global, link))),
        BenchCommand::Pipeline(pipeline) => super::block_on(unless_ended(pipeline::run(global, pipeline))),
        BenchCommand::Telemetry(telemetry) => super::block_on(unless_ended(pipeline::run_telemetry(global, telemetry))),
        BenchCommand::Side(side) => super::block_on(side::run(side)),
    }
}

/// A signal drops the runs: what they have started ends with them.
async fn unless_ended(run: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    tokio::select! {
        ended = run => ended,
        number = signals.next() => Err(Failure::unavailable(format!("ended by signal {number}: no figures"))),
    }
}

/// This program, to start again.
fn program() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|error| Failure::software(format!("where this program is: {error}")))
}

impl From<BenchError> for Failure {
    fn from(error: BenchError) -> Self {
        match error {
            BenchError::Kafka(_) | BenchError::Io { .. } => Self::unavailable(error),
            BenchError::Stream(_) | BenchError::Stage(_) | BenchError::Incomplete(_) => Self::software(error),
        }
    }
}
