//! `jaiminho schema`

use crate::config::pipeline_schema;
use crate::exit::Failure;
use crate::output;

pub(crate) fn run() -> Result<(), Failure> {
    output::line(format!("{:#}", pipeline_schema()))
}
