//! What is wrong with a pipeline, or worth knowing, in sentences with what to do.

mod instances;
mod stages;
#[cfg(test)]
mod tests;

use crate::view::{Finding, FindingKind, Severity, View};

/// Findings that are told, the worst first.
const FINDINGS_MAX: usize = 64;

/// An instance that holds events, the oldest so old, is stuck when it has settled nothing for as long: what works on one event at
/// a time settles one in that time, the longest run that a transform has by default.
pub const STUCK_SECONDS: u32 = 30;

pub(crate) use stages::is_undecided;

/// All of them, problems first. `left_out`: addresses that are not asked, since there are too many.
pub(crate) fn findings(view: &View, left_out: usize) -> Vec<Finding> {
    let mut found = Vec::new();
    for stage in &view.stages {
        found.extend(stages::of_stage(view, stage));
        found.extend(stage.instances.iter().flat_map(|instance| instances::of_instance(stage, instance)));
    }
    found.extend(view.subscriptions.iter().filter_map(|of| stages::small_window(view, of)));
    found.extend(instances::memory(view));
    found.extend(instances::clock_skew(view));
    found.extend(instances::versions(view));
    found.extend((left_out > 0).then(|| Finding {
        severity: Severity::Notice,
        kind: FindingKind::TooMany,
        stage: None,
        instance: None,
        text: format!("{left_out} more addresses are not asked: at most {} are.", crate::gather::INSTANCES_MAX),
        advice: "What is shown is a part of the pipeline; the metrics have all of it.".into(),
    }));
    // What may be why others are there comes first.
    let is_cause = |kind| matches!(kind, FindingKind::Trouble | FindingKind::NoInstance);
    found.sort_by_key(|finding| (finding.severity, !is_cause(finding.kind)));
    found.truncate(FINDINGS_MAX);
    found
}

fn finding(severity: Severity, kind: FindingKind, stage: &str, text: String, advice: impl Into<String>) -> Finding {
    Finding { severity, kind, stage: Some(stage.to_owned()), instance: None, text, advice: advice.into() }
}

/// `45 s`, `12 min`, `3 h`
fn span(ms: u64) -> String {
    match ms / 1_000 {
        0 => format!("{ms} ms"),
        seconds @ 1..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3_600),
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}
