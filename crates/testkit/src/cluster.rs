//! The hosts of a run and the network between them, and what faults do to them.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use jaiminho_runtime::StageEnd;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng as _};
use turmoil::Sim;

use crate::fault::Fault;
use crate::instance;
use crate::plan::{HostPlan, Link, Plan, Tier};
use crate::world::{Host, World};

/// How finely time and network move.
const TICK: Duration = Duration::from_millis(20);

pub(crate) struct Cluster<'a> {
    sim: Sim<'a>,
    world: World,
    hosts: Vec<String>,
    latency: Vec<(Link, Duration)>,
}

impl<'a> Cluster<'a> {
    pub(crate) fn new(plan: &Plan, world: World) -> Self {
        let mut sim = turmoil::Builder::new()
            .rng_seed(plan.seed)
            .epoch(UNIX_EPOCH + Duration::from_secs(1_800_000_000))
            .simulation_duration(Duration::from_secs(3_600))
            .tick_duration(TICK)
            .tcp_capacity(1_024)
            .build();
        for host in &plan.hosts {
            let (is_initial, tier) = (host.is_initial, host.tier);
            let how =
                Host { tier, wanted: is_initial, named: is_initial, frozen: false, leave: None, starts: 0, end: None };
            world.lock().hosts.insert(host.host.clone(), how);
            let (world, plan) = (world.clone(), Arc::new(host.clone()));
            sim.host(host.host.as_str(), move || instance::run(world.clone(), plan.clone()));
        }
        let hosts: Vec<String> = plan.hosts.iter().map(|host| host.host.clone()).collect();
        let mut rng = StdRng::seed_from_u64(plan.seed ^ 1);
        let mut latency = Vec::new();
        for (index, a) in hosts.iter().enumerate() {
            for b in &hosts[..index] {
                // The same for all messages between two hosts: chance plays no part once the cluster stands.
                let link = Link { a: a.clone(), b: b.clone() };
                latency.push((link, Duration::from_millis(rng.random_range(1..30))));
            }
        }
        let cluster = Self { sim, world, hosts, latency };
        cluster.set_latencies();
        cluster
    }

    fn set_latencies(&self) {
        for (link, latency) in &self.latency {
            self.sim.set_link_latency(link.a.as_str(), link.b.as_str(), *latency);
        }
    }

    /// One tick of all hosts. An error: a host's process failed.
    pub(crate) fn step(&mut self) -> Result<(), String> {
        self.world.lock().now = self.sim.elapsed();
        self.sim.step().map(|_| ()).map_err(|error| error.to_string())
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.sim.elapsed()
    }

    pub(crate) fn apply(&mut self, fault: &Fault) {
        self.world.record("fault", format_args!("{fault:?}"));
        match fault {
            Fault::Crash { host, power } => self.crash(host, *power),
            Fault::Start { host } => self.start(host),
            Fault::Leave { host, within } => {
                let mut state = self.world.lock();
                let host = state.host(host);
                (host.named, host.leave) = (false, Some(*within));
            }
            Fault::Freeze { host } => {
                self.world.lock().host(host).frozen = true;
                self.others(host).for_each(|other| self.sim.hold(host.as_str(), other));
            }
            Fault::Thaw { host } => {
                self.world.lock().host(host).frozen = false;
                self.others(host).for_each(|other| self.sim.release(host.as_str(), other));
            }
            Fault::Partition(link) => self.sim.partition(link.a.as_str(), link.b.as_str()),
            Fault::PartitionOneWay { from, to } => self.sim.partition_oneway(from.as_str(), to.as_str()),
            Fault::Repair(link) => self.sim.repair(link.a.as_str(), link.b.as_str()),
            Fault::Hold(link) => self.sim.hold(link.a.as_str(), link.b.as_str()),
            Fault::Release(link) => self.sim.release(link.a.as_str(), link.b.as_str()),
            Fault::Delay(link, latency) => self.sim.set_link_latency(link.a.as_str(), link.b.as_str(), *latency),
            Fault::Broker(mode) => self.world.lock().broker.mode = *mode,
        }
    }

    fn others<'b>(&'b self, host: &'b str) -> impl Iterator<Item = &'b str> {
        self.hosts.iter().map(String::as_str).filter(move |other| *other != host)
    }

    fn crash(&mut self, host: &str, power: bool) {
        if !self.is_running(host) {
            return;
        }
        if power {
            self.others(host).for_each(|other| self.sim.partition(host, other));
        }
        self.sim.crash(host);
        if power {
            self.others(host).for_each(|other| self.sim.repair(host, other));
        }
        let mut state = self.world.lock();
        let host = state.host(host);
        (host.wanted, host.leave) = (false, None);
    }

    /// What still drains, or has ended and not yet gone, is killed.
    fn start(&mut self, host: &str) {
        let is_leaving = {
            let mut state = self.world.lock();
            let host = state.host(host);
            (host.wanted, host.named) = (true, true);
            host.leave.take().is_some() | host.end.take().is_some()
        };
        if is_leaving || !self.is_running(host) {
            self.sim.bounce(host);
        }
    }

    /// No fault any more: all hosts of the beginning run, and no others; network and broker are well.
    pub(crate) fn heal(&mut self, plan: &Plan) {
        self.world.record("fault", format_args!("none any more"));
        for (link, _) in &self.latency {
            self.sim.release(link.a.as_str(), link.b.as_str());
        }
        self.set_latencies();
        self.world.lock().heal();
        for host in plan.hosts.iter().filter(|host| !host.is_initial) {
            self.crash(&host.host, false);
            self.world.lock().host(&host.host).named = false;
        }
        for host in plan.hosts.iter().filter(|host| host.is_initial) {
            self.start(&host.host);
        }
    }

    /// Who claimed the name of one of these is gone.
    pub(crate) fn restart_fenced(&mut self, plan: &Plan) {
        let is_fenced = |host: &&HostPlan| matches!(self.world.lock().host(&host.host).end, Some(StageEnd::Fenced(_)));
        let fenced: Vec<_> = plan.hosts.iter().filter(|host| host.is_initial).filter(is_fenced).collect();
        fenced.into_iter().for_each(|host| self.start(&host.host));
    }

    /// Tells all of a tier to drain.
    pub(crate) fn leave(&self, plan: &Plan, tier: Tier, within: Duration) {
        let mut state = self.world.lock();
        state.record("drain", format_args!("{tier:?}"));
        for host in plan.hosts.iter().filter(|host| host.tier == tier) {
            state.host(&host.host).leave = Some(within);
        }
    }

    pub(crate) fn is_running(&mut self, host: &str) -> bool {
        self.sim.is_host_running(host)
    }
}
