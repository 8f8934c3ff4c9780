//! What operators are given names only metrics that there are, with labels that they have.

use std::path::Path;

use jaiminho_telemetry::{Kind, Metric, names};

/// What each series has, what Prometheus adds to it, and a histogram to its buckets.
const ADDED: [&str; 4] = ["pipeline", "instance", "job", "le"];

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Each metric that a line names, and the labels that it selects by.
fn named(line: &str) -> Vec<(&str, Vec<&str>)> {
    let mut all = Vec::new();
    for (at, _) in line.match_indices("jaiminho_") {
        if line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_') {
            continue;
        }
        let rest = &line[at..];
        let end = rest.find(|of: char| !of.is_ascii_alphanumeric() && of != '_').unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        // A crate: of a log line's target, or of a level.
        if rest.starts_with("::") || rest.starts_with('=') {
            continue;
        }
        let selectors = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(inside, _)| inside);
        let label = |selector: &'_ str| selector.find(['=', '!']).map(|end| selector[..end].trim().len());
        let labels = selectors.split("\",").filter_map(|selector| label(selector).map(|len| &selector.trim()[..len]));
        all.push((name, labels.collect()));
    }
    all
}

/// The labels that a line groups by.
fn grouped(line: &str) -> Vec<&str> {
    let lists = ["by (", "on ("].into_iter().flat_map(|word| line.split(word).skip(1));
    lists.filter_map(|rest| rest.split_once(')')).flat_map(|(list, _)| list.split(',')).map(str::trim).collect()
}

fn metric(name: &str) -> Option<&'static Metric> {
    names::all().find(|metric| {
        let of_histogram =
            || ["_bucket", "_sum", "_count"].iter().any(|end| name.strip_suffix(end) == Some(metric.name));
        metric.name == name || matches!(metric.kind, Kind::Histogram(_)) && of_histogram()
    })
}

#[test]
fn dashboard_alerts_and_guides_name_only_metrics_and_labels_that_there_are() {
    let mut count = 0;
    for file in ["deploy/grafana/jaiminho.json", "deploy/prometheus/alerts.yaml", "docs/reading-the-signals.md"] {
        for line in read(file).replace("\\\"", "\"").lines() {
            let all = named(line);
            for (name, labels) in &all {
                let Some(metric) = metric(name) else { panic!("{file}: there is no {name}\n{line}") };
                for label in labels {
                    assert!(
                        [metric.labels, &ADDED].concat().contains(label),
                        "{file}: {name} has no label {label}\n{line}"
                    );
                }
            }
            let known: Vec<_> =
                all.iter().filter_map(|(name, _)| metric(name)).flat_map(|metric| metric.labels).collect();
            for label in grouped(line).into_iter().filter(|_| !all.is_empty()) {
                assert!(
                    known.contains(&&label) || ADDED.contains(&label),
                    "{file}: nothing has a label {label}\n{line}"
                );
            }
            count += all.len();
        }
    }
    assert!(count > 60, "{count}");
}

#[test]
fn each_alert_leads_to_a_section_of_the_guide() {
    let (guide, alerts) = (read("docs/reading-the-signals.md"), read("deploy/prometheus/alerts.yaml"));
    let anchor = |title: &str| title.to_lowercase().replace(' ', "-").replace([',', '\'', '`', '.', ':', '?'], "");
    let sections: Vec<_> =
        guide.lines().filter_map(|line| Some(anchor(line.trim_start_matches('#').strip_prefix(' ')?))).collect();
    let value = |line: &str, key: &str| line.trim().strip_prefix(key).map(str::to_owned);
    let runbooks: Vec<_> = alerts.lines().filter_map(|line| value(line, "runbook: ")).collect();
    assert_eq!(runbooks.len(), alerts.lines().filter(|line| line.trim().starts_with("- alert: ")).count());
    for runbook in runbooks {
        let section = runbook.strip_prefix("docs/reading-the-signals.md#").unwrap_or_else(|| panic!("{runbook}"));
        assert!(sections.iter().any(|of| of == section), "{runbook}: no such section among {sections:?}");
    }
}
