//! Reads the stages of a tree one by one, so that the mistakes of one hide nothing of the others.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{Pipeline, Stage};
use super::problem::{Place, Problem, Severity};
use super::tree::{Entry, Node, Value};

/// What could be read of a pipeline.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) pipeline: Pipeline,
    /// Stages that could not be: their own mistakes are told, and nothing is said that depends on them.
    pub(super) doubtful: BTreeSet<String>,
}

/// Reads what `problems` do not concern, and adds to them what the schema can't say (a unit of a size, say).
pub(super) fn read(tree: &Node, problems: &mut Vec<Problem>) -> Read {
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
        let stage = places.is_disjoint(&wrong).then(|| deserialize(entry, tree));
        match stage {
            Some(Ok(stage)) => drop(stages.insert(entry.key.clone(), stage)),
            Some(Err(problem)) => {
                problems.push(problem);
                doubtful.insert(entry.key.clone());
            }
            None => drop(doubtful.insert(entry.key.clone())),
        }
    }
    Read { pipeline: Pipeline { _version: 1, pipeline: name, stages, _profiles: None }, doubtful }
}

fn deserialize(entry: &Entry, tree: &Node) -> Result<Stage, Problem> {
    serde_path_to_error::deserialize(&entry.node.to_json()).map_err(|error| {
        let inner = error.path().iter().map(ToString::to_string);
        let path: Vec<String> = ["stages".to_owned(), entry.key.clone()].into_iter().chain(inner).collect();
        let place = tree.find(path.iter().map(String::as_str));
        Problem::error(place, format!("`{}`: {}", path.join("."), error.inner()))
    })
}
