//! Stages that hold inputs back, and stages that settle them early: whether the logs and sources above bear it.

use jaiminho_convert::Batch;
use jaiminho_event::units::HumanDuration;
use jaiminho_ingest::AcknowledgeWhen;

use super::component::{Source, Transform};
use super::memory::human;
use super::model::{Group, Log, Pipeline, Stage, Subscription};
use super::problem::{Place, Problem};
use super::tree::{Node, Value};

/// What is wrong with the limits of batches, and with `unordered`.
pub(super) fn check(pipeline: &Pipeline, tree: &Node) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (name, stage) in &pipeline.stages {
        let above = Above::of(pipeline, name);
        if let Some(batch) = stage.transform.as_ref().and_then(Transform::batch) {
            let place = |field: &str| place(tree, name, field);
            problems.extend(above.stalls(batch, place));
            problems.extend(misfits(pipeline, name, stage, batch, place));
        }
        if stage.unordered {
            let place = tree.find(["stages", name, "unordered"]);
            problems.extend(above.unordered(stage).map(|what| Problem::error(place, what)));
        }
    }
    problems
}

impl Pipeline {
    /// The largest event that a stage may make of a batch.
    pub(crate) fn batch_bytes_max(&self, name: &str, stage: &Stage) -> u64 {
        self.event_bytes_max(name, |group| group == Group::Required).0.min(stage.limits.outputs_bytes.0)
    }
}

/// Where a batch's field stands, or else the batch.
fn place(tree: &Node, stage: &str, field: &str) -> Place {
    let transform = tree.find_node(["stages", stage, "transform"]);
    let is_list = transform.is_some_and(|node| matches!(node.value, Value::List(_)));
    let step: &[&str] = if is_list { &["0"] } else { &[] };
    tree.find(["stages", stage, "transform"].into_iter().chain(step.iter().copied()).chain(["batch", field]))
}

/// Everything between a stage and its sources.
struct Above<'a> {
    logs: Vec<(&'a str, &'a Log)>,
    sources: Vec<(&'a str, &'a Source)>,
}

impl<'a> Above<'a> {
    fn of(pipeline: &'a Pipeline, name: &str) -> Self {
        let above = pipeline.above(name);
        let log = |wanted: &'a Subscription| {
            let producer = pipeline.stages.get(wanted.stage())?;
            let is_dead = wanted.output.ends_with(".dead_letter");
            Some((wanted.output.as_str(), if is_dead { &producer.dead_letter_log } else { &producer.log }))
        };
        let sources = above.iter().filter_map(|(name, stage)| Some((*name, stage.source.as_ref()?)));
        Self {
            logs: above.iter().flat_map(|(_, stage)| &stage.subscribe_to).filter_map(log).collect(),
            sources: sources.collect(),
        }
    }

    /// Limits at which what is held would hold up what must come to reach them.
    fn stalls(&self, batch: &Batch, place: impl Fn(&str) -> Place) -> Vec<Problem> {
        let mut problems = Vec::new();
        let events = self.logs.iter().map(|(output, log)| (log.events, *output)).min();
        if let Some((log, output)) = events.filter(|(log, _)| u64::from(batch.events) > log / 2) {
            let what = format!(
                "`batch.events` must be at most {}: half of what the log of `{output}` holds, which waits for the batch",
                log / 2
            );
            problems.push(Problem::error(place("events"), what));
        }
        let bytes = self.logs.iter().map(|(output, log)| (log.bytes.0, *output)).min();
        if let Some((log, output)) = bytes.filter(|(log, _)| batch.bytes.0 > log / 2) {
            let what = format!(
                "`batch.bytes` must be at most {}: half of what the log of `{output}` holds, which waits for the batch",
                human(log / 2)
            );
            problems.push(Problem::error(place("bytes"), what));
        }
        let deadlines = self.sources.iter().filter_map(|(name, source)| Some((deadline(source)?, *name)));
        if let Some((deadline, name)) = deadlines.min().filter(|(deadline, _)| batch.time.0 > deadline.0 / 2) {
            let what = format!(
                "`batch.time` must be at most {} ms: half of the `deadline` of source `{name}`, whose clients wait for the batch",
                deadline.as_millis() / 2
            );
            problems.push(Problem::error(place("time"), what));
        }
        problems
    }

    /// What forbids to settle early.
    fn unordered(&self, stage: &Stage) -> Option<String> {
        if stage.transform.is_none() {
            return Some("`unordered` belongs to a stage with a transform".to_owned());
        }
        let (name, source) = self.sources.iter().find(|(_, source)| is_published(source))?;
        let what = format!(
            "`unordered: true` gives up order, and acknowledges events that a crash of this stage loses; source `{name}`"
        );
        Some(match source {
            Source::Ingest(_) => format!(
                "{what} promises its clients that they are published: write `acknowledge: accepted` in its `source`, or leave this out"
            ),
            Source::Kafka(_) | Source::Own(_) | Source::Generate(_) => {
                format!("{what} forgets only what is published: leave this out")
            }
        })
    }
}

/// How long its clients wait for what is published.
fn deadline(source: &Source) -> Option<HumanDuration> {
    match source {
        Source::Ingest(ingest) if is_published(source) => ingest.http.as_ref().map(|http| http.deadline),
        Source::Ingest(_) | Source::Kafka(_) | Source::Generate(_) | Source::Own(_) => None,
    }
}

/// Whether it tells anybody that an event is published.
fn is_published(source: &Source) -> bool {
    match source {
        Source::Ingest(ingest) => ingest.acknowledge == AcknowledgeWhen::Published,
        Source::Kafka(_) | Source::Own(_) => true,
        Source::Generate(_) => false,
    }
}

/// Sizes that a batch never has, or that nobody takes.
fn misfits(
    pipeline: &Pipeline,
    name: &str,
    stage: &Stage,
    batch: &Batch,
    place: impl Fn(&str) -> Place,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    let most = pipeline.batch_bytes_max(name, stage);
    if batch.bytes.0 > most / 2 {
        let what = format!(
            "`batch.bytes` must be at most {}: as JSON a batch may take twice as many, and {} is what one event may have here (`limits.outputs_bytes`, and `limits.event_bytes` of those that subscribe)",
            human(most / 2),
            human(most)
        );
        problems.push(Problem::error(place("bytes"), what));
    }
    let held = (stage.window.max_demand / 2).max(1);
    if u64::from(batch.events) > held {
        let what = format!(
            "no more than half of the window, {held} events, is held of each upstream instance: with one of them no batch has `batch.events`"
        );
        problems.push(Problem::warning(place("events"), what));
    }
    problems
}
