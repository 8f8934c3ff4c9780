//! The pipeline file: YAML to a tree with places, overlaid, expanded, checked by its schema and then by its
//! meaning. Every error is reported at once, with its place and what would be right.

mod certificates;
pub(crate) mod component;
mod copies;
mod document;
mod expand;
mod files;
mod holding;
mod listeners;
mod meaning;
pub(crate) mod memory;
pub(crate) mod model;
mod overlay;
mod problem;
mod profiles;
mod programs;
mod schema;
mod stages;
pub(crate) mod telemetry;
mod tree;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) use document::Document;
pub(crate) use expand::with_environment;
pub(crate) use files::Files;
use jaiminho_convert::Program;
use model::{Pipeline, Stage};
pub(crate) use problem::{Problem, Problems, nearest};
pub(crate) use schema::{built_in_components, inlined_schema, pipeline_schema};

use crate::registry::Registry;
use crate::traces::Settings;

/// What the command line says about the file, and which components the program has for it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overrides {
    pub(crate) profile: Option<String>,
    /// `PATH=VALUE`, in order.
    pub(crate) set: Vec<String>,
    pub(crate) own: Arc<Registry>,
}

impl Overrides {
    /// Whether anything is laid over the file.
    fn any(&self) -> bool {
        self.profile.is_some() || !self.set.is_empty()
    }
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
    /// They, as the file names them, and the stage that does; none: every process reads it.
    pub(crate) named: BTreeSet<(PathBuf, Option<String>)>,
    /// Compiled transforms of the stages whose files were asked for.
    pub(crate) programs: BTreeMap<String, Program>,
    /// What is odd, but stops nothing.
    pub(crate) warnings: Problems,
    /// The whole tree as JSON, overlaid and expanded.
    pub(crate) json: serde_json::Value,
    /// How its events are traced, if they are.
    pub(crate) traces: Option<Settings>,
}

impl Config {
    /// The stages that consume anything of stage `name`.
    pub(crate) fn has_subscribers(&self, name: &str) -> bool {
        self.subscriptions().any(|(_, subscription)| subscription.stage() == name)
    }

    /// Whether a stage has a dead-letter output: all but sources that answer, and stages that consume only dead letters.
    pub(crate) fn has_dead_letters(&self, name: &str) -> bool {
        self.pipeline.stages.get(name).is_some_and(meaning::has_dead_letters)
    }

    /// Every subscription with its consumer's name.
    pub(crate) fn subscriptions(&self) -> impl Iterator<Item = (&str, &model::Subscription)> {
        let stages = self.pipeline.stages.iter();
        stages
            .flat_map(|(name, stage)| stage.subscribe_to.iter().map(move |subscription| (name.as_str(), subscription)))
    }

    /// The stages that are required groups of stage `name`, each with the name in its certificate, if it has one.
    pub(crate) fn members(&self, name: &str) -> BTreeMap<String, String> {
        let members = self.subscriptions().filter(|(_, of)| of.stage() == name && of.group == model::Group::Required);
        let named = |consumer: &str| self.pipeline.stages.get(consumer)?.server_name().map(str::to_owned);
        members.filter_map(|(consumer, _)| Some((consumer.to_owned(), named(consumer)?))).collect()
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

/// Reads and checks the pipeline file at `path`, and no file beside it.
pub(crate) fn load(path: &Path, overrides: &Overrides, setting: Setting) -> Result<Config, Problems> {
    Document::open(path, overrides)?.check(setting, Files::None)
}
