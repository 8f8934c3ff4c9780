//! The `jaiminho` program.

use std::process::ExitCode;

use jaiminho_node::{Allocator, Program};

/// Events are freed by other threads than made them, and memory has to stay near what is in use.
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> ExitCode {
    Program::default().run(std::env::args_os())
}
