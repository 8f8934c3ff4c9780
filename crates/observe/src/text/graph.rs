//! `jaiminho topology`: the pipeline as a graph, with what flows in it where that is seen.

use super::{counted, printable, role};
use crate::{
    plan::Kind,
    units::{count, percent},
    view::{LimitKind, StageView, SubscriptionView, View},
};

/// Lines: each stage, and under it who consumes its outputs.
pub fn topology(view: &View) -> String {
    let mut text = String::new();
    for stage in &view.stages {
        text.push_str(&format!("{}  {}", printable(&stage.name), what(stage)));
        if let Some(flow) = flow(stage) {
            text.push_str(&format!("  {flow}"));
        }
        if let Some(limit) = limit(view, stage) {
            text.push_str(&format!("  ◀ {limit}"));
        }
        text.push('\n');
        let consumers: Vec<_> = view.subscriptions.iter().filter(|of| of.from == stage.name).collect();
        for (index, of) in consumers.iter().enumerate() {
            let corner = if index + 1 == consumers.len() { "└" } else { "├" };
            let part = of.output.strip_prefix(&format!("{}.", stage.name)).unwrap_or_default();
            let labels: Vec<_> = [Some(part.to_owned()), Some(way(of.kind).to_owned()), carried(of)]
                .into_iter()
                .flatten()
                .filter(|label| !label.is_empty())
                .collect();
            let label = if labels.is_empty() { String::new() } else { format!(" {} ", printable(&labels.join(", "))) };
            text.push_str(&format!("  {corner}─{label}─▶ {}\n", printable(&of.to)));
        }
    }
    text.trim_end().to_owned()
}

/// For Markdown: a flowchart.
pub fn mermaid(view: &View) -> String {
    let mut text = "flowchart LR\n".to_owned();
    for stage in &view.stages {
        let lines: Vec<_> = [Some(stage.name.clone()), Some(what(stage)), flow(stage)].into_iter().flatten().collect();
        text.push_str(&format!("  {}[\"{}\"]\n", node(&stage.name), escaped(&lines.join("<br>"))));
    }
    for of in &view.subscriptions {
        let label = edge(of, "<br>");
        let arrow = if of.kind == Kind::Required { "-->" } else { "-.->" };
        let label = if label.is_empty() { String::new() } else { format!("|\"{}\"|", escaped(&label)) };
        if view.stage(&of.to).is_none() {
            text.push_str(&format!("  {}([\"{}\"])\n", node(&of.to), escaped(&of.to)));
        }
        text.push_str(&format!("  {} {arrow}{label} {}\n", node(&of.from), node(&of.to)));
    }
    if let Some(limit) = &view.limit {
        text.push_str("  classDef limit stroke-width:4px\n");
        text.push_str(&format!("  class {} limit\n", node(&limit.stage)));
    }
    text.trim_end().to_owned()
}

/// For Graphviz.
pub fn dot(view: &View) -> String {
    let mut text = format!("digraph {} {{\n  rankdir=LR\n  node [shape=box]\n", quoted(&view.pipeline));
    for stage in &view.stages {
        let lines: Vec<_> = [Some(stage.name.clone()), Some(what(stage)), flow(stage)].into_iter().flatten().collect();
        let bold = if limit(view, stage).is_some() { ", penwidth=3" } else { "" };
        text.push_str(&format!("  {} [label={}{bold}]\n", quoted(&stage.name), quoted(&lines.join("\n"))));
    }
    for of in &view.subscriptions {
        let style = if of.kind == Kind::Required { "" } else { ", style=dashed" };
        let label = quoted(&edge(of, "\n"));
        text.push_str(&format!("  {} -> {} [label={label}{style}]\n", quoted(&of.from), quoted(&of.to)));
    }
    text.push('}');
    text
}

/// `vrl transform, 2 instances`
fn what(stage: &StageView) -> String {
    let seen = match stage.instances.len() {
        0 => String::new(),
        1 => ", 1 instance".into(),
        count => format!(", {count} instances"),
    };
    let unseen = match stage.links_left_out {
        0 => String::new(),
        count => format!(", {} not shown", counted(count, "link")),
    };
    format!("{} {}{seen}{unseen}", printable(&stage.component), role(stage.role))
}

fn flow(stage: &StageView) -> Option<String> {
    stage.figures.rates.events_in.map(|rate| format!("{}/s in", count(Some(rate))))
}

fn limit(view: &View, stage: &StageView) -> Option<String> {
    let limit = view.limit.as_ref().filter(|limit| limit.stage == stage.name)?;
    Some(match limit.kind {
        LimitKind::NoInstance => "the limit: no instance".into(),
        LimitKind::Busy => format!("the limit, {} of the time", percent(limit.share)),
        LimitKind::Source => "nothing holds it back".into(),
    })
}

/// What an edge bears: the output's part of its name, the kind, what flows.
fn edge(of: &SubscriptionView, between: &str) -> String {
    let part = of.output.strip_prefix(&format!("{}.", of.from)).unwrap_or_default().to_owned();
    let labels = [Some(part), Some(way(of.kind).to_owned()), carried(of)];
    labels.into_iter().flatten().filter(|label| !label.is_empty()).collect::<Vec<_>>().join(between)
}

fn way(kind: Kind) -> &'static str {
    match kind {
        Kind::Required => "",
        Kind::Attached => "attached",
        Kind::Tap => "tap",
    }
}

/// `1,200/s, credit 95 %, 12 waiting`; none: it is not seen.
fn carried(of: &SubscriptionView) -> Option<String> {
    let rate = of.events?;
    let credit = match of.credit() {
        (_, 0) => "no link".to_owned(),
        (unused, window) => format!("credit {}", percent(unused as f64 / window as f64)),
    };
    let waiting = if of.waiting > 0 { format!(", {} waiting", super::thousands(of.waiting)) } else { String::new() };
    Some(format!("{}/s, {credit}{waiting}", count(Some(rate))))
}

/// Mermaid's own words are none of ours.
fn node(name: &str) -> String {
    let plain = name.chars().map(|next| if next.is_ascii_alphanumeric() { next } else { '_' });
    format!("s_{}", plain.collect::<String>())
}

fn escaped(text: &str) -> String {
    printable(text).replace('&', "#amp;").replace('"', "#quot;")
}

fn quoted(text: &str) -> String {
    let lines: Vec<_> =
        text.split('\n').map(|line| printable(line).replace('\\', "\\\\").replace('"', "\\\"")).collect();
    format!("\"{}\"", lines.join("\\n"))
}
