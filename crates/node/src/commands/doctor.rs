//! `jaiminho doctor`: what is wrong, and what to do.

use jaiminho_observe::{STUCK_SECONDS, Severity, text};
use serde_json::json;

use super::block_on;
use crate::{
    cli::Global,
    exit::{Exit, Failure},
    observed::{Reached, nothing_answers},
    output::{line, note, printable_json},
};

/// Rates are over so much time.
const SECONDS: u32 = 3;

pub(crate) fn run(global: &Global) -> Result<(), Failure> {
    let mut reached = Reached::new(global)?;
    block_on(async {
        let mut is_told = false;
        let view = reached
            .view_while(SECONDS..=SECONDS + STUCK_SECONDS, |view| {
                let is_undecided = view.is_undecided();
                if is_undecided && !std::mem::replace(&mut is_told, true) {
                    note(format!("old events are not settled: looking for {STUCK_SECONDS} s whether any is …"));
                }
                is_undecided
            })
            .await;
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
