//! How the program ends: exit codes as in sysexits, and what is said on standard error.

use std::fmt;
use std::process::ExitCode;

use crate::config::Problems;

/// Why the program ends early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Something is wrong with the pipeline that was looked at.
    Found = 1,
    /// The command line is wrong.
    Usage = 64,
    /// The data are.
    Data = 65,
    /// Something that is needed is not there: a port, a broker, a running pipeline.
    Unavailable = 69,
    /// A mistake of this program.
    Software = 70,
    /// The pipeline file is wrong.
    Config = 78,
}

/// A failure, once, at the program's edge.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) text: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, text: impl fmt::Display) -> Self {
        Self { exit, text: text.to_string() }
    }

    pub(crate) fn usage(text: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, text)
    }

    pub(crate) fn data(text: impl fmt::Display) -> Self {
        Self::new(Exit::Data, text)
    }

    pub(crate) fn unavailable(text: impl fmt::Display) -> Self {
        Self::new(Exit::Unavailable, text)
    }

    pub(crate) fn software(text: impl fmt::Display) -> Self {
        Self::new(Exit::Software, text)
    }

    pub(crate) fn config(text: impl fmt::Display) -> Self {
        Self::new(Exit::Config, text)
    }

    /// One whose text stands on standard output already.
    pub(crate) fn told(exit: Exit) -> Self {
        Self::new(exit, "")
    }

    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(self.exit as u8)
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Self::config(problems)
    }
}
