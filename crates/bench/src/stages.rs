//! Stages as the program wires them, without a pipeline file.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::BenchError;
use jaiminho_core::{Dispatch, GroupKind, Instance, Outcome, OutputConfig, RequiredGroup, Window};
use jaiminho_discovery::Fixed;
use jaiminho_runtime::{
    Acknowledge, Address, Answer, Asking, Cancel, Connect, NewEvent, Offer, OutputSpec, Pending, Role, SourceHandle,
    StageConfig, StageLimits, UpstreamSpec,
};

/// Names of pipeline and stages.
const PIPELINE: &str = "bench";
pub(crate) const PRODUCER: &str = "produce";
pub(crate) const PASS: &str = "pass";
pub(crate) const CONSUMER: &str = "consume";
/// As in a pipeline file's defaults.
const SPAN_FACTOR: u64 = 16;

/// Where a source's events come from: at most so many of them, none at the end.
pub(crate) trait Feed: Send + 'static {
    fn next(&mut self, events_max: usize) -> impl Future<Output = Vec<NewEvent>> + Send;
}

/// Offers all events as fast as it can, with so many unsettled at most, and waits for their answers: how many were
/// settled as accepted.
pub(crate) async fn offer_all(
    source: &SourceHandle,
    mut feed: impl Feed,
    batch: usize,
    unsettled_max: usize,
) -> Result<u64, BenchError> {
    let mut pending = VecDeque::new();
    let (mut unsettled, mut accepted) = (0, 0);
    loop {
        let events = feed.next(batch).await;
        if events.is_empty() {
            break;
        }
        while unsettled + events.len() > unsettled_max {
            let Some((count, answers)) = pending.pop_front() else { break };
            accepted += settled(answers).await;
            unsettled -= count;
        }
        let count = events.len();
        unsettled += count;
        let offer = Offer { events, deadline: None, acknowledge: Acknowledge::Published };
        let taken = source.offer(offer).await.map_err(|refusal| BenchError::Stage(refusal.to_string()))?;
        pending.push_back((count, taken));
    }
    for (_, answers) in pending {
        accepted += settled(answers).await;
    }
    Ok(accepted)
}

async fn settled(pending: Pending) -> u64 {
    let answers = pending.answers().await;
    answers.iter().filter(|answer| **answer == Answer::Settled(Outcome::Accepted)).count() as u64
}

/// A log that holds four windows, with one group.
pub(crate) fn output(name: &str, group: &str, window: &Window, links_max: usize) -> OutputSpec {
    let capacity_events = window.events.saturating_mul(4);
    let config = OutputConfig {
        capacity_events,
        capacity_bytes: window.bytes.saturating_mul(4),
        span: capacity_events.saturating_mul(SPAN_FACTOR),
        links_max,
        groups: vec![RequiredGroup { name: group.to_owned(), dispatch: Dispatch::Keyed }],
        ..OutputConfig::default()
    };
    OutputSpec { name: name.to_owned(), config }
}

/// What a stage subscribes to.
pub(crate) fn upstream(output: &str, window: Window, address: Address, connect: Arc<dyn Connect>) -> UpstreamSpec {
    UpstreamSpec {
        output: output.to_owned(),
        kind: GroupKind::Required,
        window,
        min_demand: window.events / 2,
        asking: Asking::Automatic,
        cancel: Cancel::Temporary,
        selector: None,
        partition: None,
        discover: Box::new(Fixed::new([address])),
        connect,
    }
}

/// One instance of a stage, without outputs and upstreams.
pub(crate) fn stage(stage: &str, name: &str, role: Role) -> StageConfig {
    StageConfig {
        pipeline: PIPELINE.to_owned(),
        stage: stage.to_owned(),
        instance: Instance { name: name.to_owned(), incarnation: 1 },
        outputs: Vec::new(),
        dead_letter: None,
        upstreams: Vec::new(),
        role,
        limits: StageLimits::default(),
        tracer: Default::default(),
    }
}
