//! What a pipeline is to consist of: the frame into which is put what its instances tell.

use jaiminho_core::GroupKind;
use serde::{Deserialize, Serialize};

/// A pipeline's stages, as its file names them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Its name.
    pub pipeline: String,
    /// In pipeline order: each after all that it subscribes to.
    pub stages: Vec<PlannedStage>,
}

/// One stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStage {
    /// Its name.
    pub name: String,
    /// What it does.
    pub role: Role,
    /// What does it: `http`, `vrl`, `kafka`, …
    pub component: String,
    /// Of a source whose senders wait: for so long.
    #[serde(default)]
    pub deadline_ms: Option<u64>,
    /// The outputs that it consumes.
    pub subscribe_to: Vec<PlannedSubscription>,
    /// Those that others may consume, dead letters included.
    pub outputs: Vec<String>,
}

/// That a stage consumes an output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedSubscription {
    /// `STAGE` or `STAGE.OUTPUT`
    pub output: String,
    /// How the stage takes part.
    pub kind: Kind,
}

/// What a stage does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Takes events in from outside.
    Source,
    /// Turns events into others.
    Transform,
    /// Takes events out.
    Sink,
}

/// How a stage takes part in an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The output waits for it.
    Required,
    /// It is cut off when it lags.
    Attached,
    /// It misses what it can't take at once.
    Tap,
}

impl From<GroupKind> for Kind {
    fn from(kind: GroupKind) -> Self {
        match kind {
            GroupKind::Required => Self::Required,
            GroupKind::Attached => Self::Attached,
            GroupKind::Tap => Self::Tap,
        }
    }
}

impl Plan {
    /// A stage by its name.
    pub fn stage(&self, name: &str) -> Option<&PlannedStage> {
        self.stages.iter().find(|stage| stage.name == name)
    }
}

/// The stage that an output belongs to.
pub fn stage_of(output: &str) -> &str {
    output.split_once('.').map_or(output, |(stage, _)| stage)
}
