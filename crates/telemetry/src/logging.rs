//! Logs on standard error: one JSON object a line for machines, text on a terminal.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

/// Third-party crates that speak at `info` and below only when asked by name.
const QUIET: &str = "h2=warn,hyper=warn,hyper_util=warn,tonic=warn,tower=warn,rustls=warn,hickory_resolver=warn,hickory_proto=warn,librdkafka=warn,vrl=error";

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

/// Sets up the process's logs. `level` is a level or a comma-separated list of `target=level`.
///
/// # Errors
/// See [`LoggingError`].
pub fn init_logging(level: &str, format: Format) -> Result<(), LoggingError> {
    let bad = |error: &dyn ToString| LoggingError::Level { level: level.to_owned(), error: error.to_string() };
    // `EnvFilter` takes a word that is no level for a target's name.
    for part in level.split(',').filter(|part| !part.contains(['=', '['])) {
        part.trim().parse::<tracing_subscriber::filter::LevelFilter>().map_err(|error| bad(&error))?;
    }
    let filter = EnvFilter::try_new(format!("{QUIET},{level}")).map_err(|error| bad(&error))?;
    let terminal = io::stderr().is_terminal();
    let json = match format {
        Format::Auto => !terminal,
        Format::Json => true,
        Format::Text => false,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(terminal);
    let set = if json { builder.json().flatten_event(true).try_init() } else { builder.try_init() };
    set.map_err(|_| LoggingError::Twice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_no_level_is_refused() {
        let error = init_logging("loud", Format::Json).unwrap_err().to_string();
        assert!(error.starts_with("log level `loud`: "), "{error}");
        assert!(init_logging("info,jaiminho_link=louder", Format::Json).is_err());
    }
}
