//! Logs on standard error: one JSON object a line for machines, text on a terminal.
//!
//! What is said again and again is said five times in ten seconds, then counted. What is said while a sampled event is handled
//! carries the event's trace and span, and what an author's own code does meanwhile becomes part of that trace.

mod joined;
mod json;
mod limit;

use std::{
    collections::HashMap,
    io::{self, IsTerminal},
    sync::{Arc, OnceLock},
    time::Instant,
};

use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterExt as _, FilterFn},
    fmt::MakeWriter,
    layer::SubscriberExt as _,
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

use crate::traces::{Tracer, is_entered};
use joined::Joined;
use json::{Json, Who};
pub use limit::LIFE;
use limit::{Limit, SUMMARIES};

/// Third-party crates that speak at `info` and below only when asked by name.
const QUIET: &str = "h2=warn,hyper=warn,hyper_util=warn,tonic=warn,tower=warn,rustls=warn,hickory_resolver=warn,hickory_proto=warn,librdkafka=warn,vrl=error,opentelemetry=warn,opentelemetry_sdk=warn,opentelemetry-otlp=warn";

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Text when standard error is a terminal, else JSON.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// Text.
    Text,
}

/// Why logging can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The level is neither a level nor a filter.
    #[error(
        "log level `{level}`: {error}; use error, warn, info, debug, trace, or a filter such as info,jaiminho_link=debug"
    )]
    Level {
        /// As given.
        level: String,
        /// The parser's words.
        error: String,
    },
    /// Something else in this process was first.
    #[error("logging is set up already")]
    Twice,
}

/// What is known of the process's logs only after they have begun. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Logs {
    limit: Limit,
    who: Arc<OnceLock<Who>>,
    joined: Joined,
}

static LOGS: OnceLock<Logs> = OnceLock::new();

/// The process's logs, once [`init_logging`] has set them up.
pub fn logs() -> Option<&'static Logs> {
    LOGS.get()
}

/// Sets up the process's logs. `level` is a level or a comma-separated list of `target=level`.
///
/// # Errors
/// See [`LoggingError`].
pub fn init_logging(level: &str, format: Format) -> Result<(), LoggingError> {
    let filter = filter(level)?;
    let is_terminal = io::stderr().is_terminal();
    let is_json = match format {
        Format::Auto => !is_terminal,
        Format::Json => true,
        Format::Text => false,
    };
    let logs = Logs::default();
    let lines = logs.lines(is_json, is_terminal, io::stderr, filter);
    let subscriber = tracing_subscriber::registry().with(lines).with(logs.joined.layer());
    subscriber.try_init().map_err(|_| LoggingError::Twice)?;
    LOGS.set(logs).map_err(|_| LoggingError::Twice)
}

fn filter(level: &str) -> Result<EnvFilter, LoggingError> {
    let bad = |error: &dyn ToString| LoggingError::Level { level: level.to_owned(), error: error.to_string() };
    // `EnvFilter` takes a word that is no level for a target's name.
    for part in level.split(',').filter(|part| !part.contains(['=', '['])) {
        part.trim().parse::<tracing_subscriber::filter::LevelFilter>().map_err(|error| bad(&error))?;
    }
    EnvFilter::try_new(format!("{QUIET},{SUMMARIES}=trace,{level}")).map_err(|error| bad(&error))
}

impl Logs {
    /// Says which instance each stage of this process is: `(stage, instance)`. Lines that name a stage have its instance from now on;
    /// where there is but one stage, all have.
    pub fn speak_for(&self, instances: Vec<(String, String)>) {
        // The first word holds: a process's stages don't change.
        let _told_before = self.who.set(Who(instances));
    }

    /// From now on what stages' own code says and does for sampled events is part of their traces: of each stage, where its spans go.
    pub fn join(&self, tracers: HashMap<String, Tracer>) {
        self.joined.join(tracers);
    }

    /// To be called every few seconds: tells how often more was said what is said too often.
    pub fn upkeep(&self) {
        self.limit.tell(Instant::now());
    }

    fn lines<S, W>(&self, is_json: bool, is_terminal: bool, writer: W, filter: EnvFilter) -> impl Layer<S> + use<S, W>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
        W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
    {
        // The span around a handler's call is there for the ids, whatever the level.
        let filter = filter.or(FilterFn::new(is_entered as fn(&tracing::Metadata<'_>) -> bool));
        let lines = if is_json {
            Json::new(writer, self.who.clone()).boxed()
        } else {
            tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(is_terminal).boxed()
        };
        lines.with_filter(filter.and(self.limit.clone()))
    }
}

#[cfg(test)]
pub(crate) mod tests;
