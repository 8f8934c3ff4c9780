//! Compiles the bare streams' service with protox (no protoc needed).

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=bare.proto");
    let descriptors = protox::compile(["bare.proto"], ["."])?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
