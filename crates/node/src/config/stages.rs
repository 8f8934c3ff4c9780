//! Reads the stages of a tree one by one, so that the mistakes of one hide nothing of the others.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use jaiminho_telemetry::check_endpoint;

use super::component::{Sink, Source, Transform};
use super::model::{Pipeline, Stage, Subscription};
use super::problem::{Place, Problem, Severity};
use super::telemetry::Telemetry;
use super::tree::{Entry, Node, Value};
use crate::registry::{ComponentKind, Registry, Wrong};

/// Most stages of a pipeline.
pub(super) const STAGES_MAX: usize = 256;

/// Before anything is said of each of them.
pub(super) fn too_many(tree: &Node) -> Result<(), Problem> {
    match tree.child("stages").map(|entry| (&entry.node.value, &entry.key_place)) {
        Some((Value::Map(entries), place)) if entries.len() > STAGES_MAX => {
            Err(Problem::error(place.clone(), format!("{} stages, more than {STAGES_MAX}", entries.len())))
        }
        Some(_) | None => Ok(()),
    }
}

/// What could be read of a pipeline.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) pipeline: Pipeline,
    /// Stages that could not be: their own mistakes are told, and nothing is said that depends on them.
    pub(super) doubtful: BTreeSet<String>,
}

/// Reads what `problems` do not concern, and adds to them what the schema can't say (a unit of a size, say).
pub(super) fn read(tree: &Node, own: &Registry, problems: &mut Vec<Problem>) -> Read {
    let name = tree.child("pipeline").map(|entry| &entry.node.value);
    let name = if let Some(Value::Text { text, .. }) = name { text.clone() } else { String::new() };
    let mut stages = BTreeMap::new();
    let mut doubtful = BTreeSet::new();
    let wrong: BTreeSet<Place> = problems
        .iter()
        .filter(|problem| problem.severity == Severity::Error)
        .map(|problem| problem.place.clone())
        .collect();
    let entries = match tree.child("stages").map(|entry| &entry.node.value) {
        Some(Value::Map(entries)) => entries.as_slice(),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text { .. } | Value::List(_)) | None => &[],
    };
    for entry in entries {
        let mut places = BTreeSet::new();
        entry.places(&mut places);
        let stage = places.is_disjoint(&wrong).then(|| deserialize(entry, tree, own));
        match stage {
            Some(Ok(stage)) => drop(stages.insert(entry.key.clone(), stage)),
            Some(Err(problem)) => {
                problems.push(problem);
                doubtful.insert(entry.key.clone());
            }
            None => drop(doubtful.insert(entry.key.clone())),
        }
    }
    let telemetry = tree.child("telemetry").and_then(|entry| {
        let mut places = BTreeSet::new();
        entry.places(&mut places);
        places.is_disjoint(&wrong).then(|| telemetry(entry, tree))
    });
    let telemetry = telemetry.transpose().unwrap_or_else(|problem| {
        problems.push(problem);
        None
    });
    let telemetry = telemetry.unwrap_or_default();
    Read { pipeline: Pipeline { _version: 1, pipeline: name, stages, telemetry, _profiles: None }, doubtful }
}

fn telemetry(entry: &Entry, tree: &Node) -> Result<Telemetry, Problem> {
    let problem = |path: &[String], what: &dyn Display| {
        let path: Vec<&str> = std::iter::once(&entry.key).chain(path).map(String::as_str).collect();
        Problem::error(tree.find(path.iter().copied()), format!("`{}`: {what}", path.join(".")))
    };
    let telemetry: Telemetry = serde_path_to_error::deserialize(entry.node.to_json())
        .map_err(|error| problem(&error.path().iter().map(ToString::to_string).collect::<Vec<_>>(), error.inner()))?;
    let endpoint = telemetry.traces.endpoint.as_deref().map_or(Ok(()), check_endpoint);
    endpoint.map_err(|error| problem(&["traces".to_owned(), "endpoint".to_owned()], &error))?;
    Ok(telemetry)
}

fn deserialize(entry: &Entry, tree: &Node, own: &Registry) -> Result<Stage, Problem> {
    let problem = |Wrong { path, what }| {
        let path: Vec<String> = ["stages".to_owned(), entry.key.clone()].into_iter().chain(path).collect();
        Problem::error(tree.find(path.iter().map(String::as_str)), format!("`{}`: {what}", path.join(".")))
    };
    let mut json = entry.node.to_json();
    let taken = own.take(&mut json).map_err(problem)?;
    let mut stage: Stage = serde_path_to_error::deserialize(&json).map_err(|error| {
        problem(Wrong { path: error.path().iter().map(ToString::to_string).collect(), what: error.inner().to_string() })
    })?;
    for (kind, own) in taken {
        match kind {
            ComponentKind::Source => stage.source = Some(Source::Own(own)),
            ComponentKind::Transform => stage.transform = Some(Transform::Own(own)),
            ComponentKind::Sink => stage.sink = Some(Sink::Own(own)),
        }
    }
    Ok(stage)
}

/// Puts each stage with `before` in front of the stage that it names; several in front of one stand in the order of
/// their names, the first the farthest upstream.
pub(super) fn splice(read: &mut Read, tree: &Node) -> Vec<Problem> {
    let Read { pipeline, doubtful } = read;
    let wishes: Vec<(String, String)> =
        pipeline.stages.iter().filter_map(|(name, stage)| Some((name.clone(), stage.before.clone()?))).collect();
    let mut problems = Vec::new();
    for (name, before) in wishes {
        let error = |what: String| Problem::error(tree.find(["stages", &name, "before"]), what);
        let own = pipeline.stages.get(&name).map_or(0, |stage| stage.subscribe_to.len());
        let known: Vec<String> =
            pipeline.stages.keys().chain(&*doubtful).filter(|known| **known != name).cloned().collect();
        if doubtful.contains(&before) {
            // What it takes over is not known; so is what it does itself.
            pipeline.stages.remove(&name);
            doubtful.insert(name);
            continue;
        }
        match pipeline.stages.get_mut(&before).filter(|_| before != name) {
            None => {
                let problem = error(format!("there is no other stage `{before}`"));
                problems.push(problem.nearest(&before, known.iter().map(String::as_str)));
            }
            Some(_) if own > 0 => {
                problems.push(error(format!("it takes over what `{before}` subscribes to: leave out `subscribe_to`")));
            }
            Some(after) if after.subscribe_to.is_empty() => {
                problems.push(error(format!("stage `{before}` subscribes to nothing")));
            }
            Some(after) => {
                let taken = std::mem::replace(&mut after.subscribe_to, vec![Subscription::to(&name)]);
                if let Some(stage) = pipeline.stages.get_mut(&name) {
                    stage.subscribe_to = taken;
                }
            }
        }
    }
    problems
}
