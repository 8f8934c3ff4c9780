//! Small sinks and a source, for development, tests and benches.

mod blackhole;
mod file;
mod generate;
mod lines;
mod stdout;

pub(crate) use blackhole::{BlackholeConfig, blackhole};
pub(crate) use file::{FileConfig, file};
pub(crate) use generate::{BODIES_MAX, GenerateConfig, generate, generated_bytes_max};
pub(crate) use stdout::{StdoutConfig, stdout};

#[cfg(test)]
mod tests;
