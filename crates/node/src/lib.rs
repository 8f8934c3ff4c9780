//! What a program of pipeline files is made of: its command line, the file, the wiring. The `jaiminho` program is this with the
//! built-in components; a program of one's own has more of them (`jaiminho::app` registers them).

#![warn(missing_docs)]

mod admin;
mod cli;
mod commands;
mod components;
mod config;
mod dead_letter;
mod exit;
mod http;
mod observed;
mod output;
mod rates;
mod registry;
mod running;
mod signals;
mod telemetry;
mod traces;
mod wire;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use clap::FromArgMatches as _;
use clap::error::ErrorKind;
pub use jaiminho_core::Versions;
use jaiminho_telemetry::{Format, init_logging};
pub use tikv_jemallocator::Jemalloc as Allocator;

use crate::cli::{Cli, Command};
use crate::exit::{Exit, Failure};
pub use crate::registry::{BoxError, ComponentKind, Context, MEMORY_BYTES_DEFAULT, Registry, Settings};

/// A program that runs pipelines.
#[derive(Debug)]
pub struct Program {
    /// As it is called in a shell.
    pub name: String,
    /// Its own; none: that of the library.
    pub version: Option<String>,
    /// Its components beside the built-in ones.
    pub own: Arc<Registry>,
    /// Of the links' protocol, where its stages run apart.
    pub versions: Versions,
}

impl Default for Program {
    fn default() -> Self {
        Self { name: "jaiminho".to_owned(), version: None, own: Arc::default(), versions: Versions::default() }
    }
}

impl Program {
    /// Does what the command line says: `arguments`, of which the first is the program's path.
    pub fn run(self, arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
        match self.act(arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                if !failure.text.is_empty() {
                    output::note(&failure.text);
                }
                failure.code()
            }
        }
    }

    fn act(self, arguments: impl IntoIterator<Item = OsString>) -> Result<(), Failure> {
        self.own.check(config::built_in_components).map_err(Failure::software)?;
        let matches = cli::command(&self).try_get_matches_from(arguments);
        let mut cli = match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
            Ok(cli) => cli,
            Err(error) => {
                // A closed pipe is all that could go wrong here.
                let _closed = error.print();
                let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
                return if asked { Ok(()) } else { Err(Failure::told(Exit::Usage)) };
            }
        };
        cli.global.program = Arc::new(self);
        run(&cli)
    }

    pub(crate) fn version(&self) -> String {
        match &self.version {
            Some(version) => format!("{version} (jaiminho {})", cli::VERSION),
            None => cli::VERSION.to_owned(),
        }
    }
}

fn run(cli: &Cli) -> Result<(), Failure> {
    let global = &cli.global;
    let is_default = global.log_level == cli::LOG_LEVEL_DEFAULT;
    let log_level = if is_default && matches!(cli.command, Command::Bench(_)) {
        // Stages of a benchmark's own come and go with each run: that would bury the progress.
        "warn"
    } else if is_default && matches!(cli.command, Command::Topology(_) | Command::Doctor | Command::Autoscale(_)) {
        // What they could not reach is part of what they say.
        "error"
    } else if is_default && matches!(&cli.command, Command::Top(top) if !top.once) {
        // What is drawn would be drawn over.
        "off"
    } else {
        &global.log_level
    };
    init_logging(log_level, Format::Auto).map_err(Failure::usage)?;
    match &cli.command {
        Command::Up(up) => commands::up::run(global, up),
        Command::Stage(stage) => commands::stage::run(global, stage),
        Command::Validate(validate) => commands::validate::run(global, validate),
        Command::Test(test) => commands::test::run(global, test),
        Command::Send(send) => commands::send::run(global, send),
        Command::Tail(tail) => commands::tail::run(global, tail),
        Command::Top(top) => commands::top::run(global, top),
        Command::Console(console) => commands::console::run(global, console),
        Command::Topology(topology) => commands::topology::run(global, topology),
        Command::Tap(tap) => commands::tap::run(global, tap),
        Command::Doctor => commands::doctor::run(global),
        Command::Render(render) => commands::render::run(global, render),
        Command::Scaler(scaler) => commands::scaler::run(global, scaler),
        Command::Autoscale(autoscale) => commands::autoscale::run(global, autoscale),
        Command::Schema => commands::schema::run(global),
        Command::Init(init) => commands::init::run(global, init),
        Command::List(list) => commands::list::run(global, list),
        Command::Bench(bench) => commands::bench::run(global, bench),
        Command::Completions { shell } => commands::completions::run(global, *shell),
    }
}
