//! `jaiminho topology`: the pipeline as a graph.

use jaiminho_observe::{Watcher, text};

use super::block_on;
use crate::{
    cli::{Global, Topology, TopologyFormat},
    exit::Failure,
    observed::{Reached, nothing_answers},
    output::{line, note, printable_json},
};

pub(crate) fn run(global: &Global, topology: &Topology) -> Result<(), Failure> {
    let mut reached = Reached::new(global)?;
    let plan = reached.plan.clone();
    block_on(async {
        let mut view = reached.view(1).await;
        if nothing_answers(&view).is_some() {
            note(format!("pipeline `{}` does not answer: this is what its file says", view.pipeline));
            view = Watcher::planned(&plan);
        }
        if global.json {
            return line(printable_json(&serde_json::to_string(&view).map_err(Failure::software)?));
        }
        line(match topology.format {
            TopologyFormat::Text => text::topology(&view),
            TopologyFormat::Mermaid => text::mermaid(&view),
            TopologyFormat::Dot => text::dot(&view),
        })
    })
}
