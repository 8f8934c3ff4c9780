//! What the hosts of a run share outside of the network: history, broker, clients' memory, and what the run wants of each host.

use std::collections::BTreeMap;
use std::fmt::Arguments;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jaiminho_runtime::StageEnd;

use crate::broker::{Broker, Mode};
use crate::client::Memory;
use crate::history::History;
use crate::plan::Tier;

/// Cheap to clone. All hosts run on one thread, one after the other.
#[derive(Clone)]
pub(crate) struct World(Arc<Mutex<State>>);

pub(crate) struct State {
    pub(crate) history: History,
    pub(crate) broker: Broker,
    /// By client.
    pub(crate) clients: BTreeMap<u32, Memory>,
    pub(crate) hosts: BTreeMap<String, Host>,
    /// Clients begin nothing new.
    pub(crate) load_is_over: bool,
    /// What a run must not do, and did.
    pub(crate) wrong: Vec<String>,
    /// Outside of hosts; they know their own.
    pub(crate) now: Duration,
}

/// What the run wants of a host, and how it is.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) tier: Tier,
    /// Its process is meant to run.
    pub(crate) wanted: bool,
    /// Others find it.
    pub(crate) named: bool,
    /// Nothing reaches it, and its handlers stand still.
    pub(crate) frozen: bool,
    /// It is told to drain, within this time.
    pub(crate) leave: Option<Duration>,
    /// Starts so far.
    pub(crate) starts: u64,
    /// How its last process ended by itself.
    pub(crate) end: Option<StageEnd>,
}

impl World {
    pub(crate) fn new(is_traced: bool) -> Self {
        Self(Arc::new(Mutex::new(State {
            history: History::new(is_traced),
            broker: Broker::default(),
            clients: BTreeMap::new(),
            hosts: BTreeMap::new(),
            load_is_over: false,
            wrong: Vec::new(),
            now: Duration::ZERO,
        })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn record(&self, who: &str, what: Arguments<'_>) {
        self.lock().record(who, what);
    }

    pub(crate) fn wrong(&self, what: String) {
        self.lock().wrong(what);
    }

    /// Resolves when the host is not frozen.
    pub(crate) async fn thawed(&self, host: &str) {
        while self.lock().hosts.get(host).is_some_and(|host| host.frozen) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl State {
    pub(crate) fn record(&mut self, who: &str, what: Arguments<'_>) {
        let at = turmoil::sim_elapsed().unwrap_or(self.now);
        self.history.record(at, who, what);
    }

    pub(crate) fn wrong(&mut self, what: String) {
        self.record("WRONG", format_args!("{what}"));
        self.wrong.push(what);
    }

    /// Nothing is frozen, and the broker is up.
    pub(crate) fn heal(&mut self) {
        self.broker.mode = Mode::Up;
        self.hosts.values_mut().for_each(|host| host.frozen = false);
    }

    /// Events that clients have begun, and that nobody has settled.
    pub(crate) fn open(&self) -> usize {
        self.clients.values().map(|memory| memory.open.len()).sum()
    }

    /// Hosts of a tier that others find.
    pub(crate) fn named(&self, tier: Tier) -> Vec<String> {
        let named = self.hosts.iter().filter(|(_, host)| host.tier == tier && host.named);
        named.map(|(name, _)| name.clone()).collect()
    }

    pub(crate) fn host(&mut self, host: &str) -> &mut Host {
        self.hosts.get_mut(host).expect("a host of the plan")
    }
}
