//! One run: load and faults, then none, then a drain; and what must hold of it.

use std::time::Duration;

use jaiminho_runtime::StageEnd;

use crate::cluster::Cluster;
use crate::history::History;
use crate::panics;
use crate::plan::{Plan, TIERS, Tier};
use crate::world::World;

/// Once there is no fault any more, everything that clients have begun is settled within this time.
///
/// A silent link ends after 10 s, a partition is handed over within 10 s, and who tries again waits for 5 s at most.
pub const SETTLE_WITHIN: Duration = Duration::from_secs(60);
/// Each tier's drain, and how long its hosts may take.
const DRAIN_WITHIN: Duration = Duration::from_secs(20);
const LEAVE_WITHIN: Duration = Duration::from_secs(50);

/// What a run showed.
pub struct Report {
    /// What the run was made from.
    pub seed: u64,
    /// All that could be seen.
    pub history: History,
    /// What must not be, in order. Empty: the run was good.
    pub wrong: Vec<String>,
    /// Events that clients were told are published.
    pub acknowledged: u64,
    /// Records of the broker, and those among them that were there before.
    pub records: u64,
    /// See `records`.
    pub duplicates: u64,
    /// Duplicates that said they were first copies.
    pub undeclared: u64,
    /// Faults that were drawn.
    pub faults: usize,
    /// How long the run took in its own time.
    pub simulated: Duration,
}

/// The run of this seed.
pub fn run(seed: u64, is_traced: bool) -> Report {
    run_plan(&Plan::new(seed), is_traced)
}

/// The run of this plan.
pub fn run_plan(plan: &Plan, is_traced: bool) -> Report {
    panics::watch();
    let world = World::new(is_traced);
    let mut cluster = Cluster::new(plan, world.clone());
    if let Err(failed) = steps(plan, &world, &mut cluster) {
        world.wrong(failed);
    }
    let simulated = cluster.elapsed();
    drop(cluster);
    panics::seen().into_iter().for_each(|panic| world.wrong(panic));
    let mut state = world.lock();
    let acknowledged: Vec<_> = state.clients.values().flat_map(|memory| &memory.acknowledged).copied().collect();
    for event in acknowledged.iter().filter(|event| !state.broker.has(**event)).collect::<Vec<_>>() {
        state.wrong(format!("{event:?} was acknowledged, and is lost"));
    }
    Report {
        seed: plan.seed,
        acknowledged: acknowledged.len() as u64,
        records: state.broker.records,
        duplicates: state.broker.duplicates(),
        undeclared: state.broker.undeclared,
        faults: plan.faults.len() / 2,
        simulated,
        wrong: std::mem::take(&mut state.wrong),
        history: std::mem::replace(&mut state.history, History::new(false)),
    }
}

/// An error: the run can't go on.
fn steps(plan: &Plan, world: &World, cluster: &mut Cluster<'_>) -> Result<(), String> {
    let mut faults = plan.faults.iter().peekable();
    while cluster.elapsed() < plan.load || faults.peek().is_some() {
        while let Some(due) = faults.next_if(|due| due.at <= cluster.elapsed()) {
            cluster.apply(&due.fault);
        }
        cluster.step()?;
    }
    cluster.heal(plan);
    world.lock().load_is_over = true;
    let is_settled = |cluster: &mut Cluster<'_>| {
        cluster.restart_fenced(plan);
        world.lock().open() == 0
    };
    until(cluster, SETTLE_WITHIN, is_settled)
        .map_err(|error| error.unwrap_or_else(|| format!("stall: {} events are not settled", world.lock().open())))?;
    for tier in TIERS {
        drain(plan, world, cluster, tier)?;
    }
    Ok(())
}

fn drain(plan: &Plan, world: &World, cluster: &mut Cluster<'_>, tier: Tier) -> Result<(), String> {
    cluster.leave(plan, tier, DRAIN_WITHIN);
    let hosts: Vec<_> = plan.hosts.iter().filter(|host| host.tier == tier && host.is_initial).collect();
    let have_left = |cluster: &mut Cluster<'_>| hosts.iter().all(|host| !cluster.is_running(&host.host));
    until(cluster, LEAVE_WITHIN, have_left)
        .map_err(|error| error.unwrap_or_else(|| format!("{tier:?} doesn't leave")))?;
    for host in hosts {
        let end = world.lock().host(&host.host).end.clone();
        match end {
            Some(StageEnd::Drained { unsettled: 0 }) => {}
            // Another had its name, while there were faults: it takes its time to leave.
            Some(StageEnd::Fenced(_)) if plan.is_claimed(host) => {}
            _ => world.wrong(format!("{} should have drained, and ended as {end:?}", host.host)),
        }
    }
    Ok(())
}

/// Steps until it is so. An error: a host failed, or (none) it has not become so within this time.
fn until(
    cluster: &mut Cluster<'_>,
    within: Duration,
    mut is_so: impl FnMut(&mut Cluster<'_>) -> bool,
) -> Result<(), Option<String>> {
    let end = cluster.elapsed() + within;
    while !is_so(cluster) {
        if cluster.elapsed() >= end {
            return Err(None);
        }
        cluster.step()?;
    }
    Ok(())
}
