//! One error for everything that is not a CloudEvent.

use std::borrow::Cow;
use std::fmt;

/// What is wrong with an event, where, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventError {
    /// Byte of the input at which it shows, where there is an input.
    pub position: Option<usize>,
    problem: Cow<'static, str>,
}

impl EventError {
    pub(crate) fn new(problem: impl Into<Cow<'static, str>>) -> Self {
        Self { position: None, problem: problem.into() }
    }

    pub(crate) fn at(position: usize, problem: impl Into<Cow<'static, str>>) -> Self {
        Self { position: Some(position), problem: problem.into() }
    }

    /// The same as [`fmt::Display`], without the position.
    pub fn problem(&self) -> &str {
        &self.problem
    }
}

impl fmt::Display for EventError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Some(position) => write!(f, "{} (at byte {position})", self.problem),
            None => f.write_str(&self.problem),
        }
    }
}

impl std::error::Error for EventError {}
