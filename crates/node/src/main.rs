//! The `jaiminho` program: command line, pipeline file, wiring.
#![allow(dead_code)]
mod config;

fn main() {}
