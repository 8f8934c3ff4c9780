//! Whether the stages' certificates fit together: links need both sides to agree.

use std::collections::{BTreeMap, BTreeSet};

use super::Setting;
use super::meaning::Scope;
use super::model::{Group, Pipeline, Stage};
use super::problem::{Problem, Severity};
use super::tree::Node;

/// What a stage lacks for its links with those that it subscribes to, each pair once.
pub(super) fn check(pipeline: &Pipeline, tree: &Node, scope: &Scope<'_>) -> Vec<Problem> {
    let setting = scope.setting;
    let mut problems = Vec::new();
    for (name, stage) in &pipeline.stages {
        let place = tree.find(["stages", name, "tls"]);
        if stage.tls.as_ref().is_some_and(|tls| tls.cert.is_some() != tls.key.is_some()) {
            problems.push(Problem::error(place.clone(), "`cert` and `key` go together"));
        }
        // `up` has no links between processes.
        if setting == Setting::Together {
            continue;
        }
        if scope.files.has_all(name)
            && let (Some(tls), Some(own)) = (&stage.tls, stage.server_name())
            && let Err(what) = tls.is_for(own)
        {
            let what = format!(
                "the certificate {what}; the others know `{name}` as `{own}` (its `tls.server_name`, else the host of its `at`)"
            );
            problems.push(Problem::warning(tree.find(["stages", name, "tls", "cert"]), what));
        }
        let mut seen = BTreeSet::new();
        for wanted in stage.subscribe_to.iter().filter(|wanted| seen.insert(wanted.stage())) {
            let Some(producer) = pipeline.stages.get(wanted.stage()) else { continue };
            let required = stage
                .subscribe_to
                .iter()
                .any(|other| other.stage() == wanted.stage() && other.group == Group::Required);
            let lacks = lacks(name, stage, wanted.stage(), producer);
            problems.extend(lacks.into_iter().map(|what| Problem::warning(place.clone(), what)));
            let asks = producer.tls.as_ref().is_some_and(|tls| tls.cert.is_some() && tls.ca.is_some());
            if required && asks && stage.server_name().is_none() {
                let what = format!(
                    "any certificate of the `ca` of `{}` would let a peer join as `{name}`, which needs `tls.server_name` or `at: {{ dns: … }}`",
                    wanted.stage()
                );
                let severity = if setting == Setting::Apart { Severity::Error } else { Severity::Warning };
                problems.push(Problem::new(severity, place.clone(), what));
            }
        }
    }
    if setting != Setting::Together {
        problems.extend(shared(pipeline, tree));
    }
    problems
}

/// Stages that are known by one name: each may join as the other.
fn shared(pipeline: &Pipeline, tree: &Node) -> Vec<Problem> {
    let mut named: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, stage) in pipeline.stages.iter().filter(|(_, stage)| stage.tls.is_some()) {
        named.entry(stage.server_name().unwrap_or_default()).or_default().push(name);
    }
    let shared = named.into_iter().filter(|(name, stages)| !name.is_empty() && stages.len() > 1);
    let problems = shared.map(|(name, stages)| {
        let what = format!(
            "the certificates of stages `{}` are all checked for `{name}`, so that each may join as the other: give each its own `tls.server_name`",
            stages.join("`, `")
        );
        Problem::warning(tree.find(["stages", stages[0], "tls"]), what)
    });
    problems.collect()
}

fn lacks(name: &str, stage: &Stage, of: &str, producer: &Stage) -> Vec<String> {
    let (has_ca, has_cert) = stage.tls.as_ref().map_or((false, false), |tls| (tls.ca.is_some(), tls.cert.is_some()));
    let Some(theirs) = producer.tls.as_ref().filter(|tls| tls.cert.is_some()) else {
        let what =
            format!("stage `{name}` links with TLS only, and `{of}` has no certificate (`tls: {{ cert, key }}`)");
        return stage.tls.iter().map(|_| what.clone()).collect();
    };
    let mut lacks = Vec::new();
    if !has_ca {
        lacks.push(format!("stage `{name}` needs `tls` with a `ca`: `{of}` speaks TLS"));
    }
    if producer.server_name().is_none() {
        lacks.push(format!(
            "the certificate of `{of}` is checked for the host of each of its addresses: it has neither `tls.server_name` nor `at: {{ dns: … }}`"
        ));
    }
    if theirs.ca.is_some() && !has_cert {
        lacks.push(format!("stage `{name}` needs `tls` with `cert` and `key`: `{of}` asks for a certificate"));
    }
    lacks
}
