//! The pipeline file: YAML to a tree with places, overlaid, expanded, checked by its schema and then by its
//! meaning. Every error is reported at once, with its place and what would be right.

pub(crate) mod component;
mod expand;
mod files;
mod meaning;
pub(crate) mod memory;
pub(crate) mod model;
mod overlay;
mod problem;
mod profiles;
mod schema;
mod stages;
mod tree;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::{Pipeline, Stage};
use problem::Place;
pub(crate) use problem::{Problem, Problems, nearest};
pub(crate) use schema::{inlined_schema, pipeline_schema};
use tree::{Entry, Node, Value};

/// Most stages of a pipeline.
const STAGES_MAX: usize = 256;

/// What the command line says about the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overrides {
    pub(crate) profile: Option<String>,
    /// `PATH=VALUE`, in order.
    pub(crate) set: Vec<String>,
}

/// Where the stages will run: some rules depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    /// All in this process, with the embedded broker.
    Together,
    /// Each as its own process.
    Apart,
    /// Only checked: what forbids one of the two is a warning.
    Anywhere,
}

/// A checked pipeline.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) pipeline: Pipeline,
    /// Files named in the pipeline are relative to it.
    pub(crate) base_dir: PathBuf,
    /// What is odd, but stops nothing.
    pub(crate) warnings: Problems,
    /// The whole tree as JSON, overlaid and expanded.
    pub(crate) json: serde_json::Value,
}

impl Config {
    /// The stages that consume anything of stage `name`.
    pub(crate) fn has_subscribers(&self, name: &str) -> bool {
        self.subscriptions().any(|(_, subscription)| subscription.stage() == name)
    }

    /// Whether a stage has a main output: all but sinks do.
    pub(crate) fn has_main_output(&self, name: &str) -> bool {
        self.pipeline.stages.get(name).is_some_and(|stage| stage.sink.is_none())
    }

    /// Whether a stage has a dead-letter output: all but sources, and stages that themselves consume only dead letters.
    pub(crate) fn has_dead_letters(&self, name: &str) -> bool {
        self.pipeline.stages.get(name).is_some_and(meaning::has_dead_letters)
    }

    /// Every subscription with its consumer's name.
    pub(crate) fn subscriptions(&self) -> impl Iterator<Item = (&str, &model::Subscription)> {
        let stages = self.pipeline.stages.iter();
        stages
            .flat_map(|(name, stage)| stage.subscribe_to.iter().map(move |subscription| (name.as_str(), subscription)))
    }

    /// Stages in pipeline order: each after all that it consumes from.
    pub(crate) fn in_order(&self) -> Vec<(&str, &Stage)> {
        let mut ordered: Vec<(&str, &Stage)> = Vec::new();
        while ordered.len() < self.pipeline.stages.len() {
            let placed = |name: &str| ordered.iter().any(|(done, _)| *done == name);
            let ready = |stage: &Stage| stage.subscribe_to.iter().all(|subscription| placed(subscription.stage()));
            let next: Vec<_> =
                self.pipeline.stages.iter().filter(|(name, stage)| !placed(name) && ready(stage)).collect();
            if next.is_empty() {
                // Checked: there is no cycle.
                break;
            }
            ordered.extend(next.into_iter().map(|(name, stage)| (name.as_str(), stage)));
        }
        ordered
    }
}

/// Reads and checks the pipeline file at `path`.
pub(crate) fn load(path: &Path, overrides: &Overrides, place: Setting) -> Result<Config, Problems> {
    let file: Arc<str> = path.display().to_string().into();
    let yaml = read(path).map_err(|what| Problem::error(Place::start(&file), what))?;
    let base_dir = path.parent().map(Path::to_path_buf).unwrap_or_default();
    parse(&file, &yaml, base_dir, overrides, place, &|name| std::env::var(name).ok())
}

/// Bounded: an endless file is refused, not read.
fn read(path: &Path) -> Result<String, String> {
    use std::io::Read;
    let file = std::fs::File::open(path).map_err(|error| format!("can't be opened: {error}"))?;
    let mut yaml = String::new();
    let limit = tree::FILE_BYTES_MAX as u64 + 1;
    file.take(limit).read_to_string(&mut yaml).map_err(|error| format!("can't be read: {error}"))?;
    Ok(yaml)
}

/// The checks, without IO.
fn parse(
    file: &Arc<str>,
    yaml: &str,
    base_dir: PathBuf,
    overrides: &Overrides,
    place: Setting,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, Problems> {
    let mut tree = Node::parse(file, yaml).map_err(|problem| Problems(vec![*problem]))?;
    let profiles = tree.take("profiles");
    let base = tree.clone();
    let mut problems = Vec::new();
    lay_over(&mut tree, profiles.as_ref(), overrides, &mut problems);
    let whole = problems.is_empty();
    too_many_stages(&tree)?;
    expand::expand(&mut tree, lookup, &mut problems);
    problems.extend(schema::check(&mut tree));
    let mut read = stages::read(&tree, &mut problems);
    if whole {
        files::resolve(&mut read.pipeline, &base_dir);
        problems.extend(splice(&mut read, &tree));
        problems.extend(meaning::check(&read, &tree, place));
    }
    let base = profiles::Base { tree: &base, doubtful: &read.doubtful, setting: place, lookup };
    problems.extend(profiles::check(&base, profiles.as_ref(), overrides.profile.as_deref()));
    let mut problems = finished(problems);
    if problems.has_errors() {
        return Err(problems);
    }
    problems.0.retain(|problem| problem.severity == problem::Severity::Warning);
    Ok(Config { pipeline: read.pipeline, base_dir, warnings: problems, json: tree.to_json() })
}

/// Before anything is said of each of them.
fn too_many_stages(tree: &Node) -> Result<(), Problem> {
    match tree.child("stages").map(|entry| (&entry.node.value, &entry.key_place)) {
        Some((Value::Map(entries), place)) if entries.len() > STAGES_MAX => {
            Err(Problem::error(place.clone(), format!("{} stages, more than {STAGES_MAX}", entries.len())))
        }
        Some(_) | None => Ok(()),
    }
}

fn finished(problems: Vec<Problem>) -> Problems {
    let mut problems = Problems(problems);
    problems.finish();
    problems
}

/// The chosen profile, then each `--set`.
fn lay_over(tree: &mut Node, profiles: Option<&Entry>, overrides: &Overrides, problems: &mut Vec<Problem>) {
    if let Some(wanted) = &overrides.profile {
        match profiles.and_then(|profiles| profiles.node.child(wanted)) {
            Some(chosen) if matches!(chosen.node.value, Value::Map(_)) => overlay::overlay(tree, chosen.node.clone()),
            // `profiles::check` has said what is wrong with it.
            Some(_) => {}
            None => {
                let known = match profiles.map(|entry| &entry.node.value) {
                    Some(Value::Map(entries)) => entries.iter().map(|entry| entry.key.as_str()).collect(),
                    _ => Vec::new(),
                };
                let problem = Problem::error(tree.place.clone(), format!("there is no profile `{wanted}`"));
                problems.push(problem.nearest(wanted, known));
            }
        }
    }
    for assignment in &overrides.set {
        if let Err(problem) = overlay::set(tree, assignment) {
            problems.push(*problem);
        }
    }
}

/// Puts each stage with `before` in front of the stage that it names; several in front of one stand in the order of
/// their names, the first the farthest upstream.
fn splice(read: &mut stages::Read, tree: &Node) -> Vec<Problem> {
    let stages::Read { pipeline, doubtful } = read;
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
                let taken = std::mem::replace(&mut after.subscribe_to, vec![model::Subscription::to(&name)]);
                if let Some(stage) = pipeline.stages.get_mut(&name) {
                    stage.subscribe_to = taken;
                }
            }
        }
    }
    problems
}
