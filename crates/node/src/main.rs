//! The `jaiminho` program: command line, pipeline file, wiring.

mod admin;
mod cli;
mod commands;
mod components;
mod config;
mod dead_letter;
mod exit;
mod output;
mod rates;
mod running;
mod signals;
mod wire;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use jaiminho_telemetry::{Format, init_logging};

use crate::cli::{Cli, Command};
use crate::exit::{Exit, Failure};

/// Events are freed by other threads than made them, and memory has to stay near what is in use.
#[cfg(not(test))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A closed pipe is all that could go wrong here.
            let _closed = error.print();
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if asked { ExitCode::SUCCESS } else { ExitCode::from(Exit::Usage as u8) };
        }
    };
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.text.is_empty() {
                output::note(&failure.text);
            }
            failure.code()
        }
    }
}

fn run(cli: &Cli) -> Result<(), Failure> {
    let global = &cli.global;
    let is_default = global.log_level == cli::LOG_LEVEL_DEFAULT;
    // Stages of a benchmark's own come and go with each run: that would bury the progress.
    let log_level = if is_default && matches!(cli.command, Command::Bench(_)) { "warn" } else { &global.log_level };
    init_logging(log_level, Format::Auto).map_err(Failure::usage)?;
    match &cli.command {
        Command::Up(up) => commands::up::run(global, up),
        Command::Stage(stage) => commands::stage::run(global, stage),
        Command::Validate(validate) => commands::validate::run(global, validate),
        Command::Test(test) => commands::test::run(global, test),
        Command::Send(send) => commands::send::run(global, send),
        Command::Tail(tail) => commands::tail::run(global, tail),
        Command::Schema => commands::schema::run(),
        Command::Init(init) => commands::init::run(init),
        Command::List(list) => commands::list::run(global, list),
        Command::Bench(bench) => commands::bench::run(global, bench),
        Command::Completions { shell } => commands::completions::run(*shell),
    }
}
