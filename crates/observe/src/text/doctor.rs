//! `jaiminho doctor`.

use super::{counted, printable};
use crate::view::{Finding, Severity, View};

/// What is wrong, and what to do.
pub fn doctor(view: &View) -> String {
    let instances: usize = view.stages.iter().map(|stage| stage.instances.len()).sum();
    let of =
        |severity: Severity| view.findings.iter().filter(move |finding| finding.severity == severity).count() as u64;
    let verdict = match (of(Severity::Problem), of(Severity::Notice)) {
        (0, 0) => "nothing is wrong".to_owned(),
        (0, notices) => format!("nothing is wrong, {} worth knowing", counted(notices, "thing")),
        (problems, 0) => counted(problems, "problem"),
        (problems, notices) => format!("{}, {} worth knowing", counted(problems, "problem"), counted(notices, "thing")),
    };
    let name = printable(&view.pipeline);
    let mut text = format!(
        "{name}: {}, {}: {verdict}.\n",
        counted(view.stages.len() as u64, "stage"),
        counted(instances as u64, "instance")
    );
    for Finding { severity, text: what, advice, .. } in &view.findings {
        let mark = match severity {
            Severity::Problem => "✗",
            Severity::Notice => "·",
        };
        text.push_str(&format!("\n{mark} {}\n", printable(what)));
        if !advice.is_empty() {
            text.push_str(&format!("  {}\n", printable(advice)));
        }
    }
    if let Some(limit) = &view.limit {
        text.push_str(&format!("\nThe limit: {}.\n", printable(&limit.text)));
    }
    text.trim_end().to_owned()
}
