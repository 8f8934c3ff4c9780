//! Who the instances of a stage are: a fixed list, DNS A/AAAA, or DNS SRV.
//!
//! [`At`] is what the pipeline file says; [`At::discover`] gives the runtime's [`Discover`]. DNS is asked again every 1 to
//! 3 s, sooner rather than later than the answer's TTL, so that load follows within 5 s of an answer that names an instance.
//!
//! What an answer does to the set:
//! - records: they are the set. Whoever is missing has left, whoever is new is there, at once.
//! - failure (no server, time-out, SERVFAIL, REFUSED): the last set stays, for as long as it lasts.
//! - no such name, or a name without such records: the last set stays for 30 s, then it is empty. Kubernetes answers so for a
//!   service without ready instances, but so do, for a while, servers that are starting.
//!
//! A consumer that need not be linked to all of them takes a [`Subset`].
//!
//! A and AAAA are judged apart, so that a server that fails at one of them leaves the other as it is.

mod at;
mod known;
mod names;
mod resolver;
mod subset;

pub use at::{At, AtError};
pub use resolver::Resolver;
pub use subset::{Here, Subset};

use futures_util::future::{self, BoxFuture, FutureExt};
use jaiminho_runtime::{Address, Discover};

/// Most instances of one stage; what a DNS answer has beyond that is left out.
pub const INSTANCES_MAX: usize = 1_024;

/// A set that never changes.
#[derive(Debug)]
pub struct Fixed(Option<Vec<Address>>);

impl Fixed {
    /// These addresses, in this order, each once.
    pub fn new(addresses: impl IntoIterator<Item = Address>) -> Self {
        let mut once = Vec::new();
        for address in addresses {
            if !once.contains(&address) {
                once.push(address);
            }
        }
        Self(Some(once))
    }
}

impl Discover for Fixed {
    fn changed(&mut self) -> BoxFuture<'_, Vec<Address>> {
        async {
            match self.0.take() {
                Some(addresses) => addresses,
                None => future::pending().await,
            }
        }
        .boxed()
    }
}
