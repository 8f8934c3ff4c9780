//! Finds all instances of a pipeline's stages, and asks them what they tell.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::{
    FutureExt as _,
    future::{join_all, select_all},
};
use jaiminho_link::{AskError, Asker, Tls, Told};
use jaiminho_runtime::{Address, Discover};
use tokio::time::{Instant, timeout_at};

use crate::{
    history::Record,
    looks::{Clock, Seen},
    make,
    plan::Plan,
    text::printable,
    view::View,
};

/// Addresses that are asked; of more, a finding says so.
pub const INSTANCES_MAX: usize = 256;
/// An instance has so long to answer.
const ANSWER_DEADLINE: Duration = Duration::from_millis(1_500);
/// Discovery has so long for its first addresses.
const DISCOVERY_DEADLINE: Duration = Duration::from_secs(3);
/// From one look to the next.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// Where instances of stages may be.
pub struct Target {
    /// Those that each of the addresses is to serve.
    pub stages: Vec<String>,
    /// Who they are.
    pub discover: Box<dyn Discover>,
    /// How they are asked.
    pub tls: Option<Tls>,
}

/// One of a target's addresses.
struct Place {
    target: usize,
    address: Address,
    asker: Asker,
    state: State,
}

/// What came of the last question.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Not asked yet.
    New,
    /// Its stages are seen.
    Seen,
    /// Something is there that tells nothing.
    Foreign(String),
    /// Nothing is seen, and why.
    Lost(String),
}

/// Looks at a pipeline again and again.
pub struct Watcher {
    plan: Plan,
    targets: Vec<Target>,
    places: Vec<Place>,
    /// What each target's discovery said last.
    addresses: Vec<Option<Vec<Address>>>,
    /// By stage and name.
    seen: BTreeMap<(String, String), Seen>,
    /// Those that did not answer the last time, but shortly before.
    missing: BTreeMap<(String, String), Seen>,
    record: Record,
}

/// What is known of the addresses of one stage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Addresses {
    /// With the reason why nothing is seen there, and whether something is.
    pub(crate) asked: Vec<(String, Option<String>, bool)>,
    pub(crate) left_out: usize,
    /// Somebody says where the stage is.
    pub(crate) has_place: bool,
}

impl Watcher {
    /// Asks nobody yet.
    pub fn new(plan: Plan, targets: Vec<Target>) -> Self {
        let addresses = targets.iter().map(|_| None).collect();
        Self {
            plan,
            targets,
            places: Vec::new(),
            addresses,
            seen: BTreeMap::new(),
            missing: BTreeMap::new(),
            record: Record::default(),
        }
    }

    /// Waits until discovery has said of every stage where its instances are, or has had its time.
    pub async fn discover(&mut self) {
        let deadline = Instant::now() + DISCOVERY_DEADLINE;
        while self.addresses.iter().any(Option::is_none) && Instant::now() < deadline {
            self.follow(deadline).await;
        }
    }

    /// Follows discovery until then.
    pub async fn wait_until(&mut self, end: Instant) {
        while Instant::now() < end {
            self.follow(end).await;
        }
    }

    /// Until the next change, or the end.
    async fn follow(&mut self, end: Instant) {
        if self.targets.is_empty() {
            return tokio::time::sleep_until(end).await;
        }
        let changes = self.targets.iter_mut().map(|target| target.discover.changed());
        let Ok((addresses, index, _)) = timeout_at(end, select_all(changes)).await else { return };
        self.addresses[index] = Some(addresses);
        self.settle_places();
    }

    /// Addresses that are gone are asked no more, new ones are; never more than [`INSTANCES_MAX`].
    fn settle_places(&mut self) {
        let mut wanted = BTreeSet::new();
        for (target, addresses) in self.addresses.iter().enumerate() {
            wanted.extend(addresses.iter().flatten().map(|address| (target, address.clone())));
        }
        self.places.retain(|place| wanted.remove(&(place.target, place.address.clone())));
        let room = INSTANCES_MAX.saturating_sub(self.places.len());
        let tls = |target: usize| self.targets.get(target).and_then(|target| target.tls.clone());
        self.places.extend(wanted.into_iter().take(room).map(|(target, address)| {
            let asker = Asker::new(address.clone(), tls(target));
            Place { target, address, asker, state: State::New }
        }));
    }

    /// From now on it looks at this. The record goes on.
    pub fn turn_to(&mut self, plan: Plan, targets: Vec<Target>) {
        self.addresses = targets.iter().map(|_| None).collect();
        self.places.clear();
        (self.plan, self.targets) = (plan, targets);
    }

    /// Asks all instances at once, and shows what they tell.
    pub async fn look(&mut self) -> View {
        let told = join_all(self.places.iter_mut().map(|place| {
            async {
                let before = unix_ms();
                let told = place.asker.ask(ANSWER_DEADLINE).await;
                (told, (before, unix_ms()))
            }
            .boxed()
        }))
        .await;
        let mut earlier = std::mem::take(&mut self.missing);
        earlier.append(&mut self.seen);
        for (index, (told, asked_ms)) in told.into_iter().enumerate() {
            self.places[index].state = match told {
                Ok(told) => self.take(index, told, asked_ms, &mut earlier),
                Err(AskError::Busy(_)) => self.keep(index, &mut earlier),
                Err(error @ AskError::Foreign) => State::Foreign(error.to_string()),
                Err(error) => State::Lost(error.to_string()),
            };
        }
        earlier.retain(|_, seen| seen.is_recent());
        self.missing = earlier;
        let view = make::view(&self.plan, unix_ms(), &self.seen, |stage| self.addresses_of(stage));
        self.record.push(&view);
        view
    }

    /// What an address tells, asked and answered at these times; of two that bear one name, the newer process counts.
    fn take(
        &mut self,
        place: usize,
        told: Told,
        asked_ms: (u64, u64),
        earlier: &mut BTreeMap<(String, String), Seen>,
    ) -> State {
        let Place { target, address, .. } = &self.places[place];
        let wanted = &self.targets[*target].stages;
        let clock = Clock::told(told.process.unix_ms, asked_ms.0, asked_ms.1);
        let mut other = None;
        let mut any = false;
        for stage in told.stages {
            if stage.pipeline != self.plan.pipeline || !wanted.contains(&stage.stage) {
                other = Some(format!(
                    "it is stage `{}` of pipeline `{}`",
                    printable(&stage.stage),
                    printable(&stage.pipeline)
                ));
                continue;
            }
            any = true;
            let key = (stage.stage.clone(), stage.instance.name.clone());
            let seen = Seen::new(address.0.clone(), told.process.clone(), clock, stage);
            let seen = match earlier.remove(&key) {
                Some(before) => seen.after(before),
                None => seen,
            };
            let newer = |known: &Seen| known.now.instance.incarnation > seen.now.instance.incarnation;
            if !self.seen.get(&key).is_some_and(newer) {
                self.seen.insert(key, seen);
            }
        }
        match other {
            Some(other) if !any => State::Lost(other),
            Some(_) | None => State::Seen,
        }
    }

    /// It was asked too often, by others: what it told before is as good.
    fn keep(&mut self, place: usize, earlier: &mut BTreeMap<(String, String), Seen>) -> State {
        let at = &self.places[place].address.0;
        let kept: Vec<_> = earlier.iter().filter(|(_, seen)| seen.address == *at).map(|(key, _)| key.clone()).collect();
        self.seen.extend(kept.into_iter().filter_map(|key| earlier.remove_entry(&key)));
        match &self.places[place].state {
            State::New => State::Lost("it is asked too often by others".into()),
            known @ (State::Seen | State::Foreign(_) | State::Lost(_)) => known.clone(),
        }
    }

    fn is_double(&self, lost: &Place) -> bool {
        let other = other_of_localhost(&lost.address);
        other.is_some_and(|other| self.places.iter().any(|at| at.target == lost.target && at.address == other))
    }

    fn addresses_of(&self, stage: &str) -> Addresses {
        let is_its = |target: &Target| target.stages.iter().any(|name| name == stage);
        let places = || self.places.iter().filter(|place| self.targets.get(place.target).is_some_and(is_its));
        let is_double = |place: &Place| matches!(place.state, State::Lost(_)) && self.is_double(place);
        let asked = places()
            .filter(|place| !is_double(place))
            .map(|place| match &place.state {
                State::New | State::Seen => (place.address.0.clone(), None, true),
                State::Foreign(why) => (place.address.0.clone(), Some(why.clone()), true),
                State::Lost(why) => (place.address.0.clone(), Some(why.clone()), false),
            })
            .collect();
        let known = self.targets.iter().zip(&self.addresses).filter(|(target, _)| is_its(target));
        let all: usize = known.map(|(_, addresses)| addresses.as_ref().map_or(0, Vec::len)).sum();
        let has_place = self.targets.iter().any(is_its);
        Addresses { left_out: all.saturating_sub(places().count()), asked, has_place }
    }

    /// A view of the plan alone: of a pipeline of which nothing is seen.
    pub fn planned(plan: &Plan) -> View {
        let mut view = make::view(plan, unix_ms(), &BTreeMap::new(), |_| Addresses::default());
        view.findings.clear();
        view
    }

    /// The last 15 minutes of looks, as far as they were taken.
    pub fn record(&self) -> Record {
        self.record.clone()
    }
}

/// `localhost` has two addresses, and most stages listen at one of them. Of what does not answer at the one, this is the other.
pub(crate) fn other_of_localhost(address: &Address) -> Option<Address> {
    address.0.strip_prefix("[::1]").map(|port| Address(format!("127.0.0.1{port}")))
}

fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
