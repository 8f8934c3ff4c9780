//! How many instances a stage needs: a decision from what is seen of it, and what is remembered from one look to the next.
//!
//! No IO, no clock: time is an argument. `tests/closed_loop` closes the loop with a model of stages, of KEDA and of Kubernetes'
//! HorizontalPodAutoscaler.
//!
//! The idea is that of DS2 (Kalavri and others, OSDI 2018), which Flink's autoscaler has too: an instance's true rate is what it does
//! divided by the share of time in which it works. Kubernetes' formula, instances × busy / target, is the same where nothing waits.

#![warn(missing_docs)]

mod known;
mod options;
mod rule;
mod sight;
mod why;

pub use options::{OptionError, Options};
pub use rule::{Decision, Scaling};
pub use sight::Sight;
pub use why::Why;
