//! Which rows there are, in which order.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::app::Sort;
use crate::view::{AddressView, InstanceView, LinkView, StageView, SubscriptionView, View};

/// One row: a stage, or a part of the one above.
#[derive(Clone, Copy, Debug)]
pub(super) enum Row<'a> {
    Stage {
        stage: &'a StageView,
        is_open: bool,
    },
    Instance(&'a StageView, &'a InstanceView),
    /// An address at which nothing is seen.
    Silent(&'a StageView, &'a AddressView),
    Link(&'a StageView, &'a SubscriptionView, &'a LinkView),
    /// A subscription that nobody has taken up.
    Unlinked(&'a StageView, &'a SubscriptionView),
}

impl<'a> Row<'a> {
    pub(super) fn stage(&self) -> &'a StageView {
        match self {
            Self::Stage { stage, .. }
            | Self::Instance(stage, _)
            | Self::Silent(stage, _)
            | Self::Link(stage, ..)
            | Self::Unlinked(stage, _) => stage,
        }
    }

    /// The same in every look. A stage's is its name.
    pub(super) fn key(&self) -> String {
        let name = &self.stage().name;
        match self {
            Self::Stage { .. } => name.clone(),
            Self::Instance(_, instance) => format!("{name}/instance/{}", instance.name),
            Self::Silent(_, address) => format!("{name}/address/{}", address.address),
            Self::Link(_, edge, link) => format!("{name}/link/{}/{}/{}", edge.id, link.producer, link.consumer),
            Self::Unlinked(_, edge) => format!("{name}/link/{}", edge.id),
        }
    }
}

/// Stages whose name, or an instance's, has `filter` in it, and the parts of those in `open`.
pub(super) fn rows<'a>(view: &'a View, sort: Sort, filter: &str, open: &BTreeSet<String>) -> Vec<Row<'a>> {
    let filter = filter.to_lowercase();
    let has = |name: &str| name.to_lowercase().contains(&filter);
    let matches = |stage: &&StageView| has(&stage.name) || stage.instances.iter().any(|instance| has(&instance.name));
    let mut stages: Vec<&StageView> = view.stages.iter().filter(matches).collect();
    // Stable: among equals the pipeline's order.
    stages.sort_by(|one, other| order(sort, one, other));
    let mut rows = Vec::new();
    for stage in stages {
        let is_open = open.contains(&stage.name);
        rows.push(Row::Stage { stage, is_open });
        if is_open {
            parts(view, stage, &mut rows);
        }
    }
    rows
}

/// Instances, addresses without one, and links: those of what it consumes, and those of groups that are no stage.
fn parts<'a>(view: &'a View, stage: &'a StageView, rows: &mut Vec<Row<'a>>) {
    rows.extend(stage.instances.iter().map(|instance| Row::Instance(stage, instance)));
    let silent = stage.addresses.iter().filter(|address| address.problem.is_some());
    rows.extend(silent.map(|address| Row::Silent(stage, address)));
    let is_stage = |name: &str| view.stages.iter().any(|stage| stage.name == name);
    let shown = |edge: &&SubscriptionView| edge.to == stage.name || (edge.from == stage.name && !is_stage(&edge.to));
    for edge in view.subscriptions.iter().filter(shown) {
        if edge.links.is_empty() && view.has_all_links(edge) {
            rows.push(Row::Unlinked(stage, edge));
        }
        rows.extend(edge.links.iter().map(|link| Row::Link(stage, edge, link)));
    }
}

fn order(sort: Sort, one: &StageView, other: &StageView) -> Ordering {
    let figure = |stage: &StageView| {
        let figures = &stage.figures;
        match sort {
            Sort::Pipeline => 0.0,
            Sort::Rate => figures.rates.events_in.unwrap_or(-1.0),
            Sort::Log => figures.fill().unwrap_or(-1.0),
            Sort::Oldest => figures.oldest_ms.map_or(-1.0, |ms| ms as f64),
            Sort::Latency => figures.settle.p99_ms.unwrap_or(-1.0),
            Sort::Limit => figures.load.limit,
            Sort::Rejected => figures.totals.all_rejected_here() as f64,
        }
    };
    figure(other).total_cmp(&figure(one))
}
