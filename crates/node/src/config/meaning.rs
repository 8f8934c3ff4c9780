//! What the schema can't say: whether the stages fit together.

use std::collections::{BTreeMap, BTreeSet};

use jaiminho_event::Template;
use jaiminho_event::units::ByteSize;
use jaiminho_ingest::AcknowledgeWhen;
use jaiminho_kafka::ConfigError;
use jaiminho_link::memory::EVENT_BYTES_MAX;

use super::Setting;
use super::certificates;
use super::component::{IngestConfig, Sink, Source, Transform};
use super::copies;
use super::files::{self, Files};
use super::holding;
use super::listeners;
use super::model::{Dispatch, Group, Pipeline, Stage, Subscription};
use super::problem::{Place, Problem};
use super::schema::exclusive;
use super::stages::Read;
use super::tree::{Node, Value};
use crate::components::{GenerateConfig, generated_bytes_max};

/// Most outputs that one stage consumes.
const SUBSCRIPTIONS_MAX: usize = 64;

/// What a pipeline is checked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope<'a> {
    pub(super) setting: Setting,
    /// Which of the files that it names have to be there.
    pub(super) files: Files<'a>,
    /// Whether a profile or `--set` changed the file.
    pub(super) overlaid: bool,
}

/// Every problem of meaning, errors and warnings, of the stages that could be read.
pub(super) fn check(read: &Read, tree: &Node, scope: Scope<'_>) -> Vec<Problem> {
    let Read { pipeline, doubtful } = read;
    let mut check = Check { pipeline, doubtful, tree, scope, problems: Vec::new() };
    let count = pipeline.stages.len() + doubtful.len();
    if count == 0 && matches!(tree.child("stages").map(|entry| &entry.node.value), Some(Value::Map(_))) {
        check.error(&["stages"], "`stages` is empty: a pipeline has at least one stage");
    }
    if !pipeline.pipeline.is_empty() {
        check.name(&["pipeline"], &pipeline.pipeline, "a pipeline's name");
    }
    for (name, stage) in &pipeline.stages {
        check.name(&["stages", name], name, "a stage's name");
        check.role(name, stage);
        check.routes(name, stage);
        check.subscriptions(name, stage);
        check.limits(name, stage);
        check.at(name, stage);
        check.embedded(name, stage);
        check.components(name, stage);
    }
    for (way, what) in scope.files.has_shared().then(|| files::unusable_admin(pipeline)).into_iter().flatten() {
        check.error(&way, format!("`{}`: {what}", way.join(".")));
    }
    check.problems.extend(listeners::check(pipeline, tree, scope.setting));
    check.problems.extend(certificates::check(pipeline, tree, &scope));
    check.problems.extend(copies::check(pipeline, tree, scope.setting));
    check.problems.extend(holding::check(pipeline, tree));
    check.cycles();
    check.event_sizes();
    if doubtful.is_empty() {
        check.outputs();
    }
    check.problems
}

/// Whether a stage has a dead-letter output. A dead letter that is refused itself is final: stages that
/// consume only dead letters have none.
pub(super) fn has_dead_letters(stage: &Stage) -> bool {
    let dead = |subscription: &Subscription| subscription.output.ends_with(".dead_letter");
    let only_dead = !stage.subscribe_to.is_empty() && stage.subscribe_to.iter().all(dead);
    stage.source.as_ref().is_none_or(Source::has_dead_letters) && !only_dead
}

struct Check<'a> {
    pipeline: &'a Pipeline,
    /// Stages whose own mistakes hide what they are.
    doubtful: &'a BTreeSet<String>,
    tree: &'a Node,
    scope: Scope<'a>,
    problems: Vec<Problem>,
}

impl Check<'_> {
    fn place(&self, path: &[&str]) -> Place {
        self.tree.find(path.iter().copied())
    }

    fn error(&mut self, path: &[&str], what: impl Into<String>) {
        let problem = Problem::error(self.place(path), what);
        self.problems.push(problem);
    }

    fn warn(&mut self, path: &[&str], what: impl Into<String>) {
        let problem = Problem::warning(self.place(path), what);
        self.problems.push(problem);
    }

    /// Keys of the map at `path` that exclude each other.
    fn exclusive(&mut self, path: &[&str], keys: &[&str], what: String) {
        let keys: Vec<Vec<&str>> = keys.iter().map(|key| vec![*key]).collect();
        self.problems.push(exclusive(self.tree, path.iter().copied(), &keys, what, self.scope.overlaid));
    }

    fn name(&mut self, path: &[&str], name: &str, what: &str) {
        let head = name.starts_with(|first: char| first.is_ascii_lowercase());
        let rest =
            name.chars().all(|next| next.is_ascii_lowercase() || next.is_ascii_digit() || matches!(next, '-' | '_'));
        if !head || !rest || name.len() > 63 {
            self.error(
                path,
                format!("`{name}`: {what} has 1 to 63 lower-case letters, digits, `-` and `_`, a letter first"),
            );
        }
    }

    fn role(&mut self, name: &str, stage: &Stage) {
        let roles = [
            ("source", stage.source.is_some()),
            ("transform", stage.transform.is_some()),
            ("sink", stage.sink.is_some()),
        ];
        let given: Vec<&str> = roles.iter().filter(|(_, given)| *given).map(|(role, _)| *role).collect();
        let path = ["stages", name];
        match given.as_slice() {
            ["source"] if !stage.subscribe_to.is_empty() => {
                self.error(
                    &["stages", name, "subscribe_to"],
                    format!("stage `{name}` has a source, so it can't subscribe to anything"),
                );
            }
            ["transform" | "sink"] if stage.subscribe_to.is_empty() => {
                self.error(
                    &path,
                    format!("stage `{name}` has a {} but no `subscribe_to`: no event would ever reach it", given[0]),
                );
            }
            [_] => {}
            [] => self.error(&path, format!("stage `{name}` needs one of `source`, `transform` and `sink`")),
            more => {
                let what = format!("stage `{name}` has {}; a stage has exactly one of them", more.join(" and "));
                self.exclusive(&["stages", name], more, what);
            }
        }
        if stage.rate.is_some() && stage.source.is_some() {
            let what = "`rate` belongs to a stage that subscribes: its source is held back with it";
            self.error(&["stages", name, "rate"], what);
        }
        if let Some(key) = &stage.key {
            let path = ["stages", name, "key"];
            if stage.source.is_none() {
                self.error(&path, "`key` is set where an event enters: only on a stage with a source");
            }
            if let Err(error) = Template::parse(key) {
                self.error(&path, format!("not a template: {error}"));
            }
        }
    }

    /// A route's outputs share their names with nothing.
    fn routes(&mut self, name: &str, stage: &Stage) {
        let outputs = stage.transform.as_ref().and_then(Transform::outputs).unwrap_or_default();
        for output in outputs {
            let path = ["stages", name, "transform"];
            self.name(&path, output, "an output's name");
            if output == "dead_letter" {
                self.error(&path, "an output can't be called `dead_letter`: that is where rejected events go");
            }
        }
    }

    fn subscriptions(&mut self, name: &str, stage: &Stage) {
        let count = stage.subscribe_to.len();
        if count > SUBSCRIPTIONS_MAX {
            self.error(
                &["stages", name, "subscribe_to"],
                format!("{count} subscriptions, more than {SUBSCRIPTIONS_MAX}"),
            );
        }
        for (index, subscription) in stage.subscribe_to.iter().enumerate().take(SUBSCRIPTIONS_MAX) {
            let index_text = index.to_string();
            let path = ["stages", name, "subscribe_to", &index_text];
            let output = subscription.output.as_str();
            if stage.subscribe_to[..index].iter().any(|earlier| earlier.output == output) {
                self.error(&path, format!("`{output}` stands here twice"));
            }
            if subscription.producers.is_some() && subscription.dispatch == Dispatch::Keyed {
                let what = "`producers` needs `dispatch: demand`: all events of a key go to one instance, wherever they come from";
                self.error(&["stages", name, "subscribe_to", &index_text, "producers"], what);
            }
            if let Some(problem) = self.unknown_output(&path, name, output) {
                self.problems.push(problem);
            }
        }
    }

    fn unknown_output(&self, path: &[&str], consumer: &str, output: &str) -> Option<Problem> {
        let (producer, part) = output.split_once('.').map_or((output, None), |(stage, part)| (stage, Some(part)));
        if self.doubtful.contains(producer) {
            return None;
        }
        let Some(stage) = self.pipeline.stages.get(producer) else {
            let known = self.pipeline.stages.keys().chain(self.doubtful).map(String::as_str);
            let known = known.filter(|known| *known != consumer);
            let problem = Problem::error(self.place(path), format!("there is no stage `{producer}`"));
            return Some(problem.nearest(producer, known));
        };
        let outputs = stage.outputs(producer);
        let what = match part {
            _ if outputs.iter().any(|known| known == output) => return None,
            None if stage.sink.is_none() => {
                format!("stage `{producer}` has a `route`, and only the outputs that it names")
            }
            None => format!("stage `{producer}` is a sink: it has no output but `{producer}.dead_letter`"),
            Some("dead_letter") if has_dead_letters(stage) => return None,
            Some("dead_letter") if stage.source.is_some() => {
                format!("stage `{producer}` is a source: what it refuses it answers, and it has no dead letters")
            }
            Some("dead_letter") => format!("stage `{producer}` consumes dead letters; one that it refuses is final"),
            Some(part) => format!("stage `{producer}` has no output `{part}`"),
        };
        let mut known = outputs;
        if has_dead_letters(stage) {
            known.push(format!("{producer}.dead_letter"));
        }
        Some(Problem::error(self.place(path), what).nearest(output, known.iter().map(String::as_str)))
    }

    fn limits(&mut self, name: &str, stage: &Stage) {
        if stage.window.min_demand() >= stage.window.max_demand && stage.window.max_demand > 1 {
            let what = format!(
                "min_demand {} must be below max_demand {}",
                stage.window.min_demand(),
                stage.window.max_demand
            );
            self.error(&["stages", name, "window", "min_demand"], what);
        }
        let sizes = [
            ("window", "bytes", stage.window.bytes.0),
            ("log", "bytes", stage.log.bytes.0),
            ("dead_letter_log", "bytes", stage.dead_letter_log.bytes.0),
            ("limits", "event_bytes", stage.limits.event_bytes.0),
            ("limits", "parse_bytes", stage.limits.parse_bytes.0),
            ("limits", "outputs_bytes", stage.limits.outputs_bytes.0),
        ];
        for (group, field, bytes) in sizes {
            if bytes < 1024 {
                self.error(
                    &["stages", name, group, field],
                    format!("`{group}.{field}` must be at least 1 KiB, not {bytes} bytes"),
                );
            }
        }
        if stage.limits.event_bytes.0 > EVENT_BYTES_MAX {
            let what =
                format!("`limits.event_bytes` must be at most {EVENT_BYTES_MAX} bytes: what a frame of a link holds");
            self.error(&["stages", name, "limits", "event_bytes"], what);
        }
        if stage.timeout.0.is_zero() {
            self.error(&["stages", name, "timeout"], "`timeout` must be above zero");
        }
    }

    fn at(&mut self, name: &str, stage: &Stage) {
        let consumer = self
            .pipeline
            .stages
            .iter()
            .find(|(_, other)| other.subscribe_to.iter().any(|wanted| wanted.stage() == name));
        let what = match consumer {
            _ if stage.at.is_some() => return,
            Some((consumer, _)) => format!(
                "stage `{consumer}` subscribes to `{name}`, which has no `at`: as separate processes it can't be found"
            ),
            None if stage.subscribe_to.iter().any(|subscription| subscription.producers.is_some()) => {
                format!("stage `{name}` has no `at`: with `producers` its instances have to find one another")
            }
            None => return,
        };
        match self.scope.setting {
            Setting::Together => {}
            Setting::Apart => self.error(&["stages", name], what),
            Setting::Anywhere => self.warn(&["stages", name], what),
        }
    }

    fn embedded(&mut self, name: &str, stage: &Stage) {
        let role = match (&stage.source, &stage.sink) {
            (Some(Source::Kafka(source)), _) if source.kafka.is_embedded() => "source",
            (_, Some(Sink::Kafka(kafka))) if kafka.is_embedded() => "sink",
            (_, _) => return,
        };
        let path = ["stages", name, role, "kafka", "bootstrap_servers"];
        let what = "`embedded` is the broker inside `jaiminho up`; a stage on its own needs a real one's HOST:PORT";
        match self.scope.setting {
            Setting::Together => {}
            Setting::Apart => self.error(&path, what),
            Setting::Anywhere => self.warn(&path, what),
        }
    }

    /// What the components themselves say about their settings.
    fn components(&mut self, name: &str, stage: &Stage) {
        if let Some(Source::Ingest(ingest)) = &stage.source {
            for error in ingest.check() {
                let path = ["stages", name, "source"].into_iter().chain(error.path.split('.'));
                let place = self.tree.find(path);
                self.problems.push(Problem::error(place, format!("`{}` {}", error.path, error.problem)));
            }
        }
        let has_files = self.scope.files.has_all(name);
        let client = match (&stage.source, &stage.sink) {
            (Some(Source::Kafka(source)), _) => Some(("source", source.kafka.check())),
            (_, Some(Sink::Kafka(kafka))) => Some(("sink", kafka.check())),
            (_, _) => None,
        };
        if let Some((role, errors)) = client {
            let path = ["stages", name, role, "kafka"];
            for error in errors {
                if let ConfigError::Exclusive { one, other } = error {
                    self.exclusive(&path, &[one, other], error.to_string());
                } else if has_files || !matches!(error, ConfigError::SecretFile { .. }) {
                    let place = self.tree.find(path.into_iter().chain(error.path()));
                    self.problems.push(Problem::error(place, error.to_string()));
                }
            }
        }
        for (way, what) in has_files.then(|| files::unusable(stage)).into_iter().flatten() {
            let place = self.tree.find(["stages", name].into_iter().chain(way.iter().copied()));
            self.problems.push(Problem::error(place, format!("`{}`: {what}", way.join("."))));
        }
    }

    /// Depth first; each stage of a cycle is named in its order.
    fn cycles(&mut self) {
        let mut done: BTreeMap<&str, bool> = BTreeMap::new();
        let pipeline = self.pipeline;
        for start in pipeline.stages.keys() {
            let mut path: Vec<(&str, usize)> = vec![(start, 0)];
            while let Some((name, next)) = path.last_mut() {
                let name = *name;
                let stage = pipeline.stages.get(name);
                let wanted =
                    stage.and_then(|stage| stage.subscribe_to.get(*next)).map(|subscription| subscription.stage());
                *next += 1;
                match wanted {
                    _ if done.contains_key(name) => {
                        path.pop();
                    }
                    None => {
                        done.insert(name, true);
                        path.pop();
                    }
                    Some(wanted) => {
                        if let Some(at) = path.iter().position(|(seen, _)| *seen == wanted) {
                            let mut cycle: Vec<&str> = path[at..].iter().rev().map(|(name, _)| *name).collect();
                            cycle.insert(0, wanted);
                            self.error(&["stages", name, "subscribe_to"], format!("a cycle: {}", cycle.join(" -> ")));
                        } else {
                            path.push((wanted, 0));
                        }
                    }
                }
            }
        }
    }

    /// Events that a source brings and its log then refuses, since a stage that must have them can't take them.
    fn event_sizes(&mut self) {
        let pipeline = self.pipeline;
        for (name, stage) in &pipeline.stages {
            let (most, whose) = pipeline.event_bytes_max(name, |group| group == Group::Required);
            let whose = match whose {
                Some(consumer) => format!("what `{consumer}` takes (its `limits.event_bytes`)"),
                None => "what a frame of a link holds".to_owned(),
            };
            match &stage.source {
                Some(Source::Ingest(ingest)) => self.taken_sizes(name, ingest, most, &whose),
                Some(Source::Generate(source)) => {
                    let key = stage.key.as_deref().and_then(|key| Template::parse(key).ok());
                    // One of `most` bytes of data is too large for sure, and says how much so.
                    let size = source.generate.size.0.min(most);
                    let sized = GenerateConfig { size: ByteSize(size), ..source.generate.clone() };
                    let (bytes, _) = generated_bytes_max(&sized, key, &pipeline.pipeline, name);
                    if let Some(excess) = bytes.checked_sub(most).filter(|excess| *excess > 0) {
                        let what = format!(
                            "`generate.size` must be at most {} bytes: with its attributes, a larger event is above {most}: {whose}",
                            size.saturating_sub(excess)
                        );
                        self.error(&["stages", name, "source", "generate", "size"], what);
                    }
                }
                Some(Source::Kafka(_)) if stage.limits.event_bytes.0 > most => {
                    let path = ["stages", name, "limits", "event_bytes"];
                    let what = format!(
                        "source `{name}` reads events above {most}: {whose}; larger ones are rejected only after they were taken"
                    );
                    self.warn(&path, what);
                }
                Some(Source::Kafka(_) | Source::Own(_)) | None => {}
            }
        }
    }

    fn taken_sizes(&mut self, name: &str, ingest: &IngestConfig, most: u64, whose: &str) {
        let taken = ingest.limits.event_bytes.0;
        if taken <= most {
            return;
        }
        let path = ["stages", name, "source", "limits", "event_bytes"];
        let what = format!("source `{name}` takes events of up to {taken} bytes, above {most}: {whose}; larger ones");
        if ingest.acknowledge == AcknowledgeWhen::Accepted {
            self.error(&path, format!("{what} would be answered with 202 and lost"));
        } else {
            self.warn(&path, format!("{what} are rejected only after they were taken"));
        }
    }

    /// Outputs that nobody consumes.
    fn outputs(&mut self) {
        let pipeline = self.pipeline;
        let required: Vec<&str> = pipeline
            .stages
            .values()
            .flat_map(|stage| &stage.subscribe_to)
            .filter(|subscription| subscription.group == Group::Required)
            .map(|subscription| subscription.output.as_str())
            .collect();
        for (name, stage) in &pipeline.stages {
            let path = ["stages", name.as_str()];
            for output in stage.outputs(name) {
                if !required.contains(&output.as_str()) {
                    let what = format!(
                        "nothing subscribes to `{output}` with a required group: its events would wait for ever"
                    );
                    self.error(&path, what);
                }
            }
            let source = stage.source.as_ref().is_some_and(Source::can_reject);
            let can_reject = source || stage.transform.is_some() || stage.sink.as_ref().is_some_and(Sink::can_reject);
            if !can_reject || !has_dead_letters(stage) || required.contains(&format!("{name}.dead_letter").as_str()) {
                continue;
            }
            match self.early_source(name) {
                Some(source) => {
                    let what = format!(
                        "nothing subscribes to `{name}.dead_letter`, and source `{source}` answers before publishing: rejected events would be lost without a word"
                    );
                    self.error(&path, what);
                }
                None if source => self.warn(&path, format!("nothing subscribes to `{name}.dead_letter`: records that can't be read are counted and logged, and gone")),
                None => self.warn(&path, format!("nothing subscribes to `{name}.dead_letter`: rejected events are answered, counted and logged, and gone")),
            }
        }
    }

    /// A source above `name` that answers before its events are published.
    fn early_source(&self, name: &str) -> Option<String> {
        let mut above = self.pipeline.above(name).into_iter();
        above.find_map(|(name, stage)| match &stage.source {
            Some(Source::Ingest(ingest)) if ingest.acknowledge == AcknowledgeWhen::Accepted => Some(name.to_owned()),
            Some(Source::Ingest(_) | Source::Generate(_) | Source::Kafka(_) | Source::Own(_)) | None => None,
        })
    }
}
