//! What can go wrong from outside, and when it does.

use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use crate::broker::Mode;
use crate::plan::{HostPlan, Link, Tier};

/// Something that is done to the cluster. What is done to a link or a host that is gone changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process is killed; with `power`, nothing of it leaves the host any more.
    Crash { host: String, power: bool },
    /// A process is started, where none runs.
    Start { host: String },
    /// The process is told to drain, and others no longer find it.
    Leave { host: String, within: Duration },
    /// Nothing reaches the host or leaves it, and its handlers stand still: all that is sent to it waits.
    Freeze { host: String },
    /// What waited arrives.
    Thaw { host: String },
    /// All that is sent is lost.
    Partition(Link),
    /// What `from` sends to `to` is lost.
    PartitionOneWay { from: String, to: String },
    /// What is sent from now on arrives.
    Repair(Link),
    /// All that is sent waits.
    Hold(Link),
    /// It arrives.
    Release(Link),
    /// Each message takes so long.
    Delay(Link, Duration),
    /// The broker changes.
    Broker(Mode),
}

/// A fault and its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheduled {
    /// Since the start of the run.
    pub at: Duration,
    /// What happens then.
    pub fault: Fault,
}

impl Scheduled {
    /// `fault` so long after the start.
    pub fn new(at_ms: u64, fault: Fault) -> Self {
        Self { at: Duration::from_millis(at_ms), fault }
    }
}

/// Each kind of trouble has a beginning and an end: what is drawn here comes in pairs.
pub(crate) fn draw(rng: &mut StdRng, hosts: &[HostPlan], count: usize, load: Duration) -> Vec<Scheduled> {
    let mut faults = Vec::new();
    for _ in 0..count {
        let begin = Duration::from_millis(rng.random_range(500..load.as_millis() as u64 * 3 / 4));
        let end = begin + Duration::from_millis(rng.random_range(200..load.as_millis() as u64));
        let [first, second] = trouble(rng, hosts);
        faults.push(Scheduled { at: begin, fault: first });
        faults.push(Scheduled { at: end, fault: second });
    }
    faults.sort_by_key(|scheduled| scheduled.at);
    faults
}

fn trouble(rng: &mut StdRng, hosts: &[HostPlan]) -> [Fault; 2] {
    let host = any(rng, hosts, |plan| plan.is_initial).host.clone();
    let link = any_link(rng, hosts);
    match rng.random_range(0..14) {
        0 | 1 => [Fault::Crash { host: host.clone(), power: rng.random() }, Fault::Start { host }],
        2 => {
            let within = Duration::from_millis(rng.random_range(500..10_000));
            [Fault::Leave { host: host.clone(), within }, Fault::Start { host }]
        }
        3 => [Fault::Freeze { host: host.clone() }, Fault::Thaw { host }],
        4 => [Fault::Partition(link.clone()), Fault::Repair(link)],
        5 => {
            let (from, to) = if rng.random() { (&link.a, &link.b) } else { (&link.b, &link.a) };
            [Fault::PartitionOneWay { from: from.clone(), to: to.clone() }, Fault::Repair(link)]
        }
        6 => [Fault::Hold(link.clone()), Fault::Release(link)],
        7 => {
            let slow = Duration::from_millis(rng.random_range(100..3_000));
            [Fault::Delay(link.clone(), slow), Fault::Delay(link, Duration::from_millis(5))]
        }
        8 => [Fault::Broker(Mode::Stalled), Fault::Broker(Mode::Up)],
        9 => [Fault::Broker(Mode::Failing), Fault::Broker(Mode::Up)],
        10 => [Fault::Broker(Mode::Throttled(rng.random_range(10..100))), Fault::Broker(Mode::Up)],
        // One more instance, for a while: an own one, one that claims another's name, or one of another version.
        _ => {
            let spare = any(rng, hosts, |plan| !plan.is_initial).host.clone();
            let second = if rng.random() {
                Fault::Leave { host: spare.clone(), within: Duration::from_secs(10) }
            } else {
                Fault::Crash { host: spare.clone(), power: false }
            };
            [Fault::Start { host: spare }, second]
        }
    }
}

fn any<'a>(rng: &mut StdRng, hosts: &'a [HostPlan], wanted: impl Fn(&HostPlan) -> bool) -> &'a HostPlan {
    let wanted: Vec<_> = hosts.iter().filter(|plan| wanted(plan)).collect();
    wanted.choose(rng).expect("hosts of this kind")
}

/// Between two hosts of neighbouring tiers.
fn any_link(rng: &mut StdRng, hosts: &[HostPlan]) -> Link {
    let middle = any(rng, hosts, |plan| plan.tier == Tier::Convert).host.clone();
    let other = any(rng, hosts, |plan| plan.tier != Tier::Convert).host.clone();
    Link { a: middle, b: other }
}
