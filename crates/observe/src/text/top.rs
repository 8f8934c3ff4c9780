//! `jaiminho top --once`.

use super::{kind, load, printable, table::table, thousands};
use crate::{
    plan::Role,
    units::{clock, count, duration, latency, percent, sum},
    view::{Severity, StageView, SubscriptionView, View},
};

/// Everything at once: stages, what they consume, findings.
pub fn once(view: &View) -> String {
    let mut text = format!("{} at {} UTC\n", printable(&view.pipeline), clock(view.unix_ms));
    if let Some(limit) = &view.limit {
        text.push_str(&format!("limit: {}\n", printable(&limit.text)));
    }
    text.push('\n');
    text.push_str(&stages(view));
    text.push('\n');
    text.push_str(&subscriptions(view));
    if !view.findings.is_empty() {
        text.push('\n');
        for finding in &view.findings {
            let severity = match finding.severity {
                Severity::Problem => "problem",
                Severity::Notice => "notice ",
            };
            text.push_str(&format!("{severity}  {}\n", printable(&finding.text)));
        }
    }
    text.trim_end().to_owned()
}

fn stages(view: &View) -> String {
    let head = ["", "STAGE", "", "INST", "IN/S", "OUT/S", "IN WORK", "LOG", "OLDEST", "P50", "P99", "LOAD", "REJECTED"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(view.stages.iter().map(|stage| stage_row(view, stage)));
    table(&rows, &[3, 4, 5, 6, 7, 8, 9, 10, 12])
}

fn stage_row(view: &View, stage: &StageView) -> Vec<String> {
    let figures = &stage.figures;
    let is_limit = view.limit.as_ref().is_some_and(|limit| limit.stage == stage.name);
    let mut row = vec![
        if is_limit { "▶" } else { "" }.to_owned(),
        printable(&stage.name),
        printable(&stage.component),
        instances(stage),
    ];
    if stage.instances.is_empty() {
        return row;
    }
    row.extend([
        count(figures.rates.events_in),
        count(if stage.role == Role::Sink { figures.rates.accepted } else { figures.rates.events_out }),
        thousands(figures.in_work),
        figures.fill().map(percent).unwrap_or_default(),
        figures.oldest_ms.map(|ms| duration(Some(ms as f64))).unwrap_or_default(),
        latency(figures.settle.p50_ms),
        latency(figures.settle.p99_ms),
        load(&figures.load),
        thousands(figures.totals.all_rejected_here()),
    ]);
    row
}

/// Those that are seen, of those that are asked where some are not.
fn instances(stage: &StageView) -> String {
    let (seen, lost) = (stage.instances.len(), stage.addresses.iter().filter(|at| at.problem.is_some()).count());
    match (seen, stage.has_place) {
        (0, false) => "?".into(),
        _ if lost > 0 => format!("{seen}/{}", seen + lost),
        (seen, _) => seen.to_string(),
    }
}

fn subscriptions(view: &View) -> String {
    let head = ["OUTPUT", "TO", "", "LINKS", "EVENTS/S", "WAITING", "UNSETTLED", "CREDIT", "NO CREDIT", "REPEATED"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(view.subscriptions.iter().map(subscription_row));
    table(&rows, &[3, 4, 5, 6, 7, 8, 9])
}

fn subscription_row(of: &SubscriptionView) -> Vec<String> {
    let (unused, window) = of.credit();
    vec![
        printable(&of.output),
        printable(&of.to),
        kind(of.kind).to_owned(),
        of.open_links().count().to_string(),
        count(of.events),
        thousands(of.waiting),
        thousands(sum(of.links.iter().map(|link| link.unsettled))),
        format!("{}/{}", thousands(unused), thousands(window)),
        of.no_credit.map_or_else(|| "–".into(), percent),
        thousands(of.redeliveries),
    ]
}
