//! `jaiminho completions`

use clap_complete::Shell;

use crate::cli::{Global, command};
use crate::exit::Failure;
use crate::output;

pub(crate) fn run(global: &Global, shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(&global.program), &global.program.name, &mut script);
    output::line(String::from_utf8_lossy(&script))
}
