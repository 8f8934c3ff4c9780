//! `jaiminho render`: what another system needs to run the pipeline.

mod marathon;

use crate::cli::{Global, Render, RenderTarget};
use crate::exit::Failure;
use crate::output::line;

pub(crate) fn run(global: &Global, render: &Render) -> Result<(), Failure> {
    match &render.target {
        RenderTarget::Marathon(marathon) => line(format!("{:#}", marathon::group(global, marathon)?)),
    }
}
