//! What a stage tells of itself, over gRPC: the `Inspect` service (`proto/jaiminho/v1/inspect.proto`) and who asks it.

mod asker;
mod messages;
mod service;

use std::time::Duration;

use jaiminho_runtime::Inspection;

pub use asker::{AskError, Asker};
pub use service::About;
pub(crate) use service::{ASKERS_MAX, Board};

/// What the stages of one process tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// Their process.
    pub process: ProcessSeen,
    /// At most 256. Their `unix_ms` is the process's, when it answered.
    pub stages: Vec<Inspection>,
}

/// The process that stages run in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProcessSeen {
    /// Of the program.
    pub version: String,
    /// From which the program was built.
    pub commit: String,
    /// Its clock when it answered.
    pub unix_ms: u64,
    /// Resident memory; 0: not known.
    pub resident_bytes: u64,
    /// Of that, the program itself; 0: not known.
    pub program_bytes: u64,
    /// What it may take beside the program itself, as `jaiminho validate` says; none: not known.
    pub memory_bytes_max: Option<u64>,
    /// Processor time that it has used since its start.
    pub cpu: Duration,
    /// So many processors it can put to use; none: not known.
    pub cpus: Option<f64>,
}
