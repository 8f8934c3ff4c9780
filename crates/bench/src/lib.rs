//! Benchmarks: our link beside bare tonic streams, our Kafka sink beside a bare producer loop.
//!
//! [`link`] runs one job between two processes, [`publisher`] within one; [`collector`] counts spans; [`stats`] turns the results of alternating runs into
//! figures. What a run did is checked, not assumed: each event has to arrive once, and each has to be settled.

pub mod collector;
pub mod link;
pub mod process;
pub mod publisher;
mod stages;
pub mod stats;

/// Why a run is no measurement.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A port, a pipe, a process.
    #[error("{what}: {error}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// What came of it.
        error: std::io::Error,
    },
    /// A bare stream ended with an error.
    #[error("bare stream: {0}")]
    Stream(String),
    /// A link or a stage of ours failed.
    #[error("stage: {0}")]
    Stage(String),
    /// Kafka's client, or what the broker said to it.
    #[error("Kafka: {0}")]
    Kafka(String),
    /// Not everything came through, or not in time.
    #[error("{0}")]
    Incomplete(String),
}

impl BenchError {
    fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |error| Self::Io { what, error }
    }
}
