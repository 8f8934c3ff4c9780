//! From the text of a pipeline file to a checked pipeline.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::{self, Files};
use super::problem::{Place, Problem, Problems, Severity};
use super::profiles;
use super::tree::{self, Entry, Node, Value};
use super::{Config, Overrides, Setting, expand, meaning, overlay, programs, schema, stages};
use crate::telemetry::Environment;
use crate::traces;

/// A pipeline file that is read, with the chosen profile and what the command line changes laid over it; not checked yet.
#[derive(Debug)]
pub(crate) struct Document {
    file: Arc<str>,
    yaml: String,
    base_dir: PathBuf,
    /// Without `profiles`.
    tree: Node,
    /// The same before anything was laid over it.
    base: Node,
    profiles: Option<Entry>,
    overrides: Overrides,
    /// What could not be laid over it.
    problems: Vec<Problem>,
}

impl Document {
    /// Reads the file at `path`.
    pub(crate) fn open(path: &Path, overrides: &Overrides) -> Result<Self, Problems> {
        let file: Arc<str> = path.display().to_string().into();
        let yaml = read(path).map_err(|what| Problem::error(Place::start(&file), what))?;
        Self::parse(&file, yaml, path.parent().map(Path::to_path_buf).unwrap_or_default(), overrides)
    }

    /// The same, without IO.
    pub(super) fn parse(
        file: &Arc<str>,
        yaml: String,
        base_dir: PathBuf,
        overrides: &Overrides,
    ) -> Result<Self, Problems> {
        let mut tree = Node::parse(file, &yaml).map_err(|problem| Problems(vec![*problem]))?;
        let profiles = tree.take("profiles");
        let base = tree.clone();
        let mut problems = Vec::new();
        lay_over(&mut tree, profiles.as_ref(), overrides, &mut problems);
        let (file, overrides) = (Arc::clone(file), overrides.clone());
        Ok(Self { file, yaml, base_dir, tree, base, profiles, overrides, problems })
    }

    /// The pipeline's name, if it has one.
    pub(crate) fn pipeline(&self) -> Option<&str> {
        match self.tree.child("pipeline").map(|entry| &entry.node.value) {
            Some(Value::Text { text, .. }) => Some(text),
            Some(_) | None => None,
        }
    }

    /// The names of its stages, as they stand there.
    pub(crate) fn stages(&self) -> Vec<&str> {
        match self.tree.child("stages").map(|entry| &entry.node.value) {
            Some(Value::Map(entries)) => entries.iter().map(|entry| entry.key.as_str()).collect(),
            Some(_) | None => Vec::new(),
        }
    }

    /// What is wrong with asking for the stage `name`, if the file has others.
    pub(crate) fn unknown_stage(&self, name: &str) -> Option<Problem> {
        overlay::unknown_stage(&self.tree, name, Place::start(&self.file))
    }

    /// Everything that is wrong, with it and with the `files` that it names.
    pub(crate) fn check(self, setting: Setting, files: Files<'_>) -> Result<Config, Problems> {
        self.check_with(setting, files, &|name| std::env::var(name).ok())
    }

    /// The same with the variables that `lookup` gives.
    pub(crate) fn check_with(
        self,
        setting: Setting,
        files: Files<'_>,
        lookup: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Config, Problems> {
        let Self { file, yaml, base_dir, mut tree, base, profiles, overrides, mut problems } = self;
        let (whole, own) = (problems.is_empty(), &*overrides.own);
        let scope = meaning::Scope { setting, files, overlaid: overrides.any() };
        stages::too_many(&tree)?;
        expand::expand(&mut tree, lookup, &mut problems);
        problems.extend(schema::check(&mut tree, own, scope.overlaid));
        let mut read = stages::read(&tree, own, &mut problems);
        let named = files::resolve(&mut read.pipeline, &base_dir);
        let origin = programs::Origin { file: &file, yaml: &yaml, tree: &tree, base_dir: &base_dir };
        let programs = programs::compile(&read.pipeline, &origin, files, &mut problems);
        if whole {
            problems.extend(stages::splice(&mut read, &tree));
            problems.extend(meaning::check(&read, &tree, scope));
        }
        let base = profiles::Base { tree: &base, doubtful: &read.doubtful, setting, own, lookup };
        problems.extend(profiles::check(&base, profiles.as_ref(), overrides.profile.as_deref()));
        let mut problems = finished(problems);
        if problems.has_errors() {
            return Err(problems);
        }
        problems.0.retain(|problem| problem.severity == Severity::Warning);
        let (pipeline, json) = (read.pipeline, tree.to_json());
        let traces = traces::settings(&pipeline.telemetry.traces, setting, &Environment(lookup));
        Ok(Config { pipeline, base_dir, named, programs, warnings: problems, json, traces })
    }
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

fn finished(problems: Vec<Problem>) -> Problems {
    let mut problems = Problems(problems);
    problems.finish();
    problems
}

/// The chosen profile, then each `--set`.
fn lay_over(tree: &mut Node, profiles: Option<&Entry>, overrides: &Overrides, problems: &mut Vec<Problem>) {
    if let Some(wanted) = &overrides.profile {
        match profiles.and_then(|profiles| profiles.node.child(wanted)) {
            Some(chosen) if matches!(chosen.node.value, Value::Map(_)) => {
                overlay::overlay(tree, overlay::of_known_stages(tree, chosen.node.clone(), problems));
            }
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
