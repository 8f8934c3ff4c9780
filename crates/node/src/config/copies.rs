//! Stages that drop copies (`dedupe`): each instance knows only what came to it, so copies have to come to the same one.

use jaiminho_event::Template;

use super::Setting;
use super::component::Transform;
use super::model::{Dispatch, Pipeline, Stage};
use super::problem::Problem;
use super::tree::Node;

/// Where such a stage may have several instances, and the copies of an event may go to different ones.
pub(super) fn check(pipeline: &Pipeline, tree: &Node, setting: Setting) -> Vec<Problem> {
    let mut problems = Vec::new();
    // `up` runs one instance of each.
    if setting == Setting::Together {
        return problems;
    }
    for (name, _) in pipeline.stages.iter().filter(|(_, stage)| may_miss_copies(stage)) {
        let several = format!(
            "stage `{name}` drops copies (`dedupe`) and may have several instances, each of which knows only its own events"
        );
        let otherwise = format!("or `replicas: 1` at `{name}`, where one is enough");
        for (producer, stage) in pipeline.above(name) {
            for (index, wanted) in stage.subscribe_to.iter().enumerate() {
                if producer == name && wanted.dispatch == Dispatch::Demand {
                    let place = tree.find(["stages", name, "subscribe_to", &index.to_string()]);
                    let what = format!("{several}: with `dispatch: demand` the copies go to any of them");
                    problems.push(Problem::error(place, what).hint(format!("write `dispatch: keyed`, {otherwise}")));
                }
            }
            if stage.source.is_some() && !stage.key.as_deref().is_some_and(is_of_the_id) {
                let place = tree.find(["stages", producer, "key"]);
                let what = format!(
                    "{several}: the key of source `{producer}` must be made of the id, with nothing but `source` beside it"
                );
                let hint = format!("write `key: \"{{{{source}}}}{{{{id}}}}\"` here, {otherwise}");
                problems.push(Problem::error(place, what).hint(hint));
            }
        }
    }
    problems
}

fn may_miss_copies(stage: &Stage) -> bool {
    let drops = stage.transform.as_ref().and_then(Transform::dedupe).is_some();
    drops && stage.replicas.is_none_or(|replicas| replicas > 1)
}

fn is_of_the_id(key: &str) -> bool {
    // What is no template is told elsewhere.
    Template::parse(key).map_or(true, |key| {
        let mut paths = key.paths();
        key.paths().any(|path| path == "id") && paths.all(|path| matches!(path, "id" | "source"))
    })
}
