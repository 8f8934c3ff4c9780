//! `jaiminho` with one more version of the links' protocol, whose messages are those of version 1: the next release, as far as
//! its peers can tell.

use std::process::ExitCode;

use jaiminho_node::{Program, Versions};

fn main() -> ExitCode {
    Program { versions: Versions { min: 1, max: 2 }, ..Program::default() }.run(std::env::args_os())
}
