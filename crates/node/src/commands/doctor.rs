//! `jaiminho doctor`: what is wrong, and what to do.

use jaiminho_observe::{Severity, text};
use serde_json::json;

use super::block_on;
use crate::{
    cli::Global,
    exit::{Exit, Failure},
    observed::{Reached, nothing_answers},
    output::{line, printable_json},
};

/// Rates over this time tell whether something is stuck.
const SECONDS: u32 = 3;

pub(crate) fn run(global: &Global) -> Result<(), Failure> {
    let mut reached = Reached::new(global)?;
    block_on(async {
        let view = reached.view(SECONDS).await;
        let is_healthy = view.findings.iter().all(|finding| finding.severity != Severity::Problem);
        // Of what is nowhere to be looked for, nothing can be said.
        if let Some(failure) = nothing_answers(&view).filter(|_| is_healthy) {
            return Err(failure);
        }
        line(if global.json {
            let (pipeline, limit, findings) = (&view.pipeline, &view.limit, &view.findings);
            let told = json!({ "pipeline": pipeline, "healthy": is_healthy, "limit": limit, "findings": findings });
            printable_json(&told.to_string())
        } else {
            text::doctor(&view)
        })?;
        if is_healthy { Ok(()) } else { Err(Failure::told(Exit::Found)) }
    })
}
