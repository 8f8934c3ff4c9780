//! What a pipeline file says that there is to be.

use jaiminho_convert::Step;
use jaiminho_observe::{Plan, PlannedStage, PlannedSubscription, Role};

use crate::config::{
    Config,
    component::{Sink, Source, Transform},
    model::Stage,
};

/// Its stages, in pipeline order.
pub(crate) fn plan(config: &Config) -> Plan {
    let stages = config.in_order().into_iter().map(|(name, stage)| planned(config, name, stage)).collect();
    Plan { pipeline: config.pipeline.pipeline.clone(), stages }
}

fn planned(config: &Config, name: &str, stage: &Stage) -> PlannedStage {
    let mut outputs = stage.outputs(name);
    if config.has_dead_letters(name) {
        outputs.push(format!("{name}.dead_letter"));
    }
    let subscribe_to = stage
        .subscribe_to
        .iter()
        .map(|of| PlannedSubscription { output: of.output.clone(), kind: of.group.kind().into() });
    let (role, component) = match (&stage.source, &stage.transform, &stage.sink) {
        (Some(source), ..) => (Role::Source, of_source(source)),
        (_, _, Some(sink)) => (Role::Sink, of_sink(sink)),
        (_, transform, _) => (Role::Transform, transform.as_ref().map(of_transform).unwrap_or_default()),
    };
    let deadline_ms = match &stage.source {
        Some(Source::Ingest(ingest)) => ingest.http.as_ref().map(|http| http.deadline.0.as_millis() as u64),
        Some(Source::Generate(_) | Source::Kafka(_) | Source::Own(_)) | None => None,
    };
    PlannedStage { name: name.to_owned(), role, component, deadline_ms, subscribe_to: subscribe_to.collect(), outputs }
}

fn of_source(source: &Source) -> String {
    match source {
        Source::Generate(_) => "generate".into(),
        Source::Kafka(_) => "kafka".into(),
        Source::Own(own) => own.name.clone(),
        Source::Ingest(ingest) => match (&ingest.http, &ingest.websocket) {
            (Some(_), Some(_)) => "http+websocket".into(),
            (None, Some(_)) => "websocket".into(),
            (_, None) => "http".into(),
        },
    }
}

fn of_transform(transform: &Transform) -> String {
    let steps = match transform {
        Transform::Own(own) => return own.name.clone(),
        Transform::Steps(steps) => steps.steps(),
    };
    let names = steps.iter().map(|step| match step {
        Step::Vrl(_) => "vrl",
        Step::Filter(_) => "filter",
        Step::Dedupe(_) => "dedupe",
        Step::Sample(_) => "sample",
        Step::Throttle(_) => "throttle",
        Step::Route(_) => "route",
        Step::Batch(_) => "batch",
    });
    let mut names: Vec<_> = names.collect();
    names.dedup();
    names.join("+")
}

fn of_sink(sink: &Sink) -> String {
    match sink {
        Sink::Kafka(_) => "kafka",
        Sink::Stdout(_) => "stdout",
        Sink::File(_) => "file",
        Sink::Blackhole(_) => "blackhole",
        Sink::Own(own) => &own.name,
    }
    .into()
}

#[cfg(test)]
mod tests {
    use jaiminho_observe::Kind;

    use super::*;
    use crate::config::{Overrides, Setting, load};

    #[test]
    fn a_plan_has_every_stage_after_those_above_it_and_every_output() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.yaml");
        let yaml = r#"version: 1
pipeline: p
stages:
  a_sink: { subscribe_to: [route.x, { stage: in, group: tap }], sink: { blackhole: {} } }
  dead: { subscribe_to: [route.dead_letter], sink: { stdout: {} } }
  in: { source: { http: {}, websocket: { path: /ws } } }
  route: { subscribe_to: [in], transform: [{ filter: "true" }, { route: { outputs: { x: ".a == 1" }, else: x } }] }
"#;
        std::fs::write(&file, yaml).unwrap();
        let plan = plan(&load(&file, &Overrides::default(), Setting::Together).unwrap());
        let names: Vec<_> = plan.stages.iter().map(|stage| (stage.name.as_str(), stage.component.as_str())).collect();
        assert_eq!(
            names,
            [("in", "http+websocket"), ("route", "filter+route"), ("a_sink", "blackhole"), ("dead", "stdout")]
        );
        assert_eq!(plan.stage("route").unwrap().outputs, ["route.x", "route.dead_letter"]);
        let consumed: Vec<_> =
            plan.stage("a_sink").unwrap().subscribe_to.iter().map(|of| (of.output.as_str(), of.kind)).collect();
        assert_eq!(consumed, [("route.x", Kind::Required), ("in", Kind::Tap)]);
    }
}
