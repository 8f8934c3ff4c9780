//! What a seed stands for: a cluster, its load, and its faults.

use std::time::Duration;

use jaiminho_core::{Versions, Window};
use jaiminho_runtime::Dedupe;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng as _};

use crate::client::ClientPlan;
use crate::fault::{self, Scheduled};

/// A step of the simulated pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Takes events of clients.
    Ingest,
    /// Makes none, one or two of each.
    Convert,
    /// Brings them to the broker.
    Publish,
}

/// In the order of the pipeline.
pub const TIERS: [Tier; 3] = [Tier::Ingest, Tier::Convert, Tier::Publish];

/// Most instances of a tier.
const INSTANCES_MAX: usize = 5;

impl Tier {
    /// The stage's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Convert => "convert",
            Self::Publish => "publish",
        }
    }
}

/// Two hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// One of them.
    pub a: String,
    /// The other.
    pub b: String,
}

/// One host of the cluster, and the instance on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostPlan {
    pub(crate) host: String,
    pub(crate) tier: Tier,
    /// The instance's: the host's, unless it claims another's.
    pub(crate) name: String,
    /// It claims to have been started before all others.
    pub(crate) is_older: bool,
    /// It runs from the beginning.
    pub(crate) is_initial: bool,
    pub(crate) versions: Option<Versions>,
    pub(crate) window: Window,
    pub(crate) min_demand: u64,
    pub(crate) log_events: u64,
    pub(crate) log_bytes: u64,
    pub(crate) links_max: usize,
    pub(crate) handover_ms: u64,
    pub(crate) concurrency: usize,
    pub(crate) clients: Vec<ClientPlan>,
    /// Of the middle tier: which copies it drops.
    pub(crate) dedupe: Option<Dedupe>,
}

impl HostPlan {
    /// One body, or the results of one input.
    pub(crate) fn overshoot_events(&self) -> u64 {
        self.clients.iter().map(|client| client.body as u64).max().unwrap_or(2)
    }

    pub(crate) fn overshoot_bytes(&self) -> u64 {
        let body = |client: &ClientPlan| client.body as u64 * event_bytes_max(client.padding);
        self.clients.iter().map(body).max().unwrap_or(2 * event_bytes_max(PADDING_MAX))
    }
}

const PADDING_MAX: usize = 400;

fn event_bytes_max(padding: usize) -> u64 {
    10 * padding as u64 + 40
}

/// A run before it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub(crate) seed: u64,
    pub(crate) hosts: Vec<HostPlan>,
    /// In order of time.
    pub(crate) faults: Vec<Scheduled>,
    /// How long clients begin new events.
    pub(crate) load: Duration,
}

impl Plan {
    /// The same seed gives the same plan.
    pub fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let sizes = TIERS.map(|_| rng.random_range(1..=INSTANCES_MAX.min(1 + seed as usize % INSTANCES_MAX)));
        let mut hosts = Vec::new();
        for (tier, size) in TIERS.into_iter().zip(sizes) {
            for index in 0..size {
                hosts.push(host(&mut rng, tier, &format!("{}-{index}", tier.name()), true));
            }
            let spare = HostPlan { clients: vec![], ..host(&mut rng, tier, &format!("{}-spare", tier.name()), false) };
            hosts.push(HostPlan {
                versions: (tier != Tier::Ingest && rng.random_bool(0.25))
                    .then(|| Versions { min: 2, max: 2 + rng.random_range(0..3) }),
                ..spare.clone()
            });
            hosts.push(HostPlan {
                host: format!("{}-claims", tier.name()),
                name: format!("{}-0", tier.name()),
                is_older: rng.random_bool(0.3),
                ..spare
            });
        }
        // As few as suffice for all that can be there at once.
        let links_max = sizes.into_iter().max().unwrap_or_default() + 3;
        hosts.iter_mut().for_each(|host| host.links_max = links_max);
        let mut client = 0;
        for host in hosts.iter_mut().filter(|host| host.tier == Tier::Ingest && host.is_initial) {
            for _ in 0..rng.random_range(1..=4) {
                client += 1;
                host.clients.push(client_plan(&mut rng, client));
            }
        }
        let load = Duration::from_millis(rng.random_range(4_000..20_000));
        // One seed in eight shows how it is without any.
        let count = rng.random_range(1..=9) * usize::from(!seed.is_multiple_of(8));
        let faults = fault::draw(&mut rng, &hosts, count, load);
        let plan = Self { seed, hosts, faults, load };
        match seed % 3 {
            // From far too few to all.
            2 => plan.deduping(Duration::from_secs(seed % 7 * 5), [3, 60, 100_000][seed as usize / 3 % 3]),
            _ => plan,
        }
    }

    /// Three tiers of `sizes` instances, one client each, for so long, with these faults and no others.
    pub fn of(seed: u64, sizes: [usize; 3], load: Duration, faults: Vec<Scheduled>) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut hosts = Vec::new();
        for (tier, size) in TIERS.into_iter().zip(sizes) {
            hosts.extend((0..size).map(|index| host(&mut rng, tier, &format!("{}-{index}", tier.name()), true)));
        }
        for (client, host) in (1..).zip(hosts.iter_mut().filter(|host| host.tier == Tier::Ingest)) {
            host.clients.push(client_plan(&mut rng, client));
        }
        Self { seed, hosts, faults, load }
    }

    /// Whether another host claims this one's name.
    pub(crate) fn is_claimed(&self, host: &HostPlan) -> bool {
        self.hosts.iter().any(|other| other.name == host.name && other.host != host.host)
    }

    /// The middle tier drops copies.
    #[must_use]
    pub fn deduping(mut self, window: Duration, ids_max: usize) -> Self {
        let dedupe = Some(Dedupe { window, ids_max });
        self.hosts.iter_mut().for_each(|host| host.dedupe = dedupe.filter(|_| host.tier == Tier::Convert));
        self
    }

    /// Clients wait for as long as it takes: only a crash makes them send anything again.
    #[must_use]
    pub fn patient(mut self) -> Self {
        self.hosts.iter_mut().flat_map(|host| &mut host.clients).for_each(|client| client.deadline = None);
        self
    }
}

fn host(rng: &mut StdRng, tier: Tier, host: &str, is_initial: bool) -> HostPlan {
    let events = [1, 2, 7, 20, 60, 200][rng.random_range(0..6)];
    let window = Window { events, bytes: rng.random_range(500..20_000) };
    HostPlan {
        host: host.to_owned(),
        tier,
        name: host.to_owned(),
        is_older: false,
        is_initial,
        versions: None,
        window,
        min_demand: rng.random_range(0..events),
        log_events: rng.random_range(40..200),
        log_bytes: rng.random_range(150_000..400_000),
        links_max: 16,
        handover_ms: rng.random_range(1_000..10_000),
        concurrency: rng.random_range(1..16),
        clients: vec![],
        dedupe: None,
    }
}

fn client_plan(rng: &mut StdRng, id: u32) -> ClientPlan {
    ClientPlan {
        id,
        keys: rng.random_range(1..20),
        body: rng.random_range(1..24),
        pause: Duration::from_millis(rng.random_range(20..300)),
        padding: rng.random_range(0..PADDING_MAX),
        deadline: rng.random_bool(0.7).then(|| Duration::from_millis(rng.random_range(2_000..20_000))),
    }
}
