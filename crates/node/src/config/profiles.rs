//! Profiles that were not chosen: a mistake in one is told today, and not on the day when it is.

use std::collections::BTreeSet;

use super::problem::{Place, Problem, Severity};
use super::tree::{Entry, Node, Value};
use crate::registry::Registry;

use super::{Files, Setting, expand, meaning, overlay, schema, stages};

/// Most profiles of a file.
const PROFILES_MAX: usize = 64;

/// What all profiles of a file are laid over.
pub(super) struct Base<'a> {
    pub(super) tree: &'a Node,
    /// Stages with mistakes of their own: what a profile changes in them is not looked at.
    pub(super) doubtful: &'a BTreeSet<String>,
    pub(super) setting: Setting,
    pub(super) own: &'a Registry,
    pub(super) lookup: &'a dyn Fn(&str) -> Option<String>,
}

/// What is wrong with `profiles`, and with each profile but the chosen one.
pub(super) fn check(base: &Base<'_>, profiles: Option<&Entry>, chosen: Option<&str>) -> Vec<Problem> {
    let Some(profiles) = profiles else { return Vec::new() };
    let wrong = |what: String| vec![Problem::error(profiles.key_place.clone(), what)];
    let entries = match &profiles.node.value {
        Value::Map(entries) if entries.len() > PROFILES_MAX => {
            return wrong(format!("{} profiles, more than {PROFILES_MAX}", entries.len()));
        }
        Value::Map(entries) => entries,
        Value::Null => return Vec::new(),
        Value::Bool(_) | Value::Number(_) | Value::Text { .. } | Value::List(_) => {
            return wrong("`profiles` must be a map of profiles".to_owned());
        }
    };
    let mut problems = Vec::new();
    for entry in entries {
        if !matches!(entry.node.value, Value::Map(_)) {
            problems.push(Problem::error(entry.key_place.clone(), format!("profile `{}` must be a map", entry.key)));
        } else if chosen != Some(entry.key.as_str()) {
            problems.extend(problems_of(base, entry));
        }
    }
    problems
}

/// The errors that stand in the profile. Its variables need not be set: what has one of these is not looked at.
fn problems_of(base: &Base<'_>, profile: &Entry) -> Vec<Problem> {
    let mut places = BTreeSet::new();
    profile.places(&mut places);
    let changed = profile.node.child("stages").map(|stages| &stages.node);
    for entry in base.doubtful.iter().filter_map(|stage| changed?.child(stage)) {
        let mut out = BTreeSet::new();
        entry.places(&mut out);
        places.retain(|place| !out.contains(place));
    }
    let mut tree = base.tree.clone();
    let mut problems = Vec::new();
    overlay::overlay(&mut tree, overlay::of_known_stages(base.tree, profile.node.clone(), &mut problems));
    if let Err(problem) = stages::too_many(&tree) {
        return vec![Problem::error(profile.key_place.clone(), format!("profile `{}`: {}", profile.key, problem.what))];
    }
    let mut unset = Vec::new();
    expand::expand(&mut tree, base.lookup, &mut unset);
    let unset_places: BTreeSet<Place> = unset.iter().map(|problem| problem.place.clone()).collect();
    problems.extend(unset);
    problems.extend(schema::check(&mut tree, base.own, true));
    let mut read = stages::read(&tree, base.own, &mut problems);
    problems.extend(stages::splice(&mut read, &tree));
    problems.extend(meaning::check(
        &read,
        &tree,
        meaning::Scope { setting: base.setting, files: Files::None, overlaid: true },
    ));
    problems.retain(|problem| {
        problem.severity == Severity::Error && places.contains(&problem.place) && !unset_places.contains(&problem.place)
    });
    problems
}
