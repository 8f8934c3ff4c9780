//! Compiles the protocol, and KEDA's, with protox (no protoc needed); keeps its descriptors for gRPC reflection.

use std::error::Error;
use std::path::PathBuf;

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let descriptors = protox::compile(["jaiminho/v1/stage.proto", "jaiminho/v1/inspect.proto"], [&root])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("jaiminho.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".").codec_path("crate::codec::ExactCodec").compile_fds(descriptors)?;
    let keda = protox::compile(["keda/externalscaler.proto"], [&root])?;
    std::fs::write(out.join("externalscaler.bin"), keda.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(keda)?;
    Ok(())
}
