//! Transforms that a pipeline file can name: programs in VRL, filters, samples, throttles, routes, batches, and what drops copies.
//!
//! A [`TransformConfig`] compiles to a [`Program`], which is the stage's [`jaiminho_runtime::Transform`];
//! one that is a [`Batch`] to a [`Batcher`].
//! [`mapping_tests`] runs the tests that lie beside a mapping.

mod batch;
mod config;
mod event_value;
mod gate;
pub mod mapping_tests;
mod memory;
mod program;
mod source;
mod step;

pub use batch::{Batch, Batcher};
pub use config::{
    Dedupe, KEY_BYTES, OUTPUTS_MAX, Over, Route, Sample, Source, SourceLong, Step, Throttle, TransformConfig,
};
pub use memory::{ParseMemory, TREE_BYTES_PER_TEXT_BYTE};
pub use program::{Limits, Program};
pub use source::CompileError;
