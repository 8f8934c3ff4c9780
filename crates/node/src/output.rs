//! Standard output, and progress beside it. A reader that leaves (`jaiminho tail | head`) is no error.

use std::io::{self, ErrorKind, Write};

use indicatif::{ProgressBar, ProgressStyle};
pub(crate) use jaiminho_observe::text::{counted, printable, printable_json, table};

use crate::exit::Failure;

/// Writes one line.
pub(crate) fn line(text: impl std::fmt::Display) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::unavailable(format!("standard output: {error}"))),
    }
}

/// Writes one line to standard error.
pub(crate) fn note(text: impl std::fmt::Display) {
    // Nobody is left to tell.
    let _closed = writeln!(io::stderr().lock(), "{text}");
}

/// A progress bar drawn by a template of indicatif's.
pub(crate) fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
