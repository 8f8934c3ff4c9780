//! `jaiminho schema`

use crate::cli::Global;
use crate::config::pipeline_schema;
use crate::exit::Failure;
use crate::output;

pub(crate) fn run(global: &Global) -> Result<(), Failure> {
    output::line(format!("{:#}", pipeline_schema(&global.program.own)))
}
