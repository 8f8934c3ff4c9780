//! A part of a stage's instances: which of them one consumer links to, so that links don't grow with the product of both.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use jaiminho_runtime::{Address, Discover};
use xxhash_rust::xxh3::xxh3_64;

/// A consumer whose own stage is not found in this time links to all producers, until it is.
const PEERS_DEADLINE: Duration = Duration::from_secs(2);

/// Of a producer's instances those that this instance of a consumer takes, by rendezvous hashing: so many at least, and each
/// for which it comes first among the consumer's instances. So each producer has a consumer, and a change moves few links.
///
/// A consumer that does not find itself among its stage's instances takes all.
pub struct Subset {
    producers: Box<dyn Discover>,
    consumers: Box<dyn Discover>,
    here: Here,
    min: usize,
    all: Option<Vec<Address>>,
    /// This instance's name among its peers, and they; none: not asked yet.
    peers: Option<(Option<Address>, Vec<Address>)>,
    spared: Vec<Address>,
}

/// Where this process listens.
#[derive(Clone, Debug)]
pub struct Here {
    /// As others are told.
    pub advertised: Address,
    /// On the addresses of this machine.
    pub port: u16,
}

impl Subset {
    /// `consumers` finds the instances of the consumer itself.
    pub fn new(producers: Box<dyn Discover>, consumers: Box<dyn Discover>, here: Here, min: usize) -> Self {
        Self { producers, consumers, here, min, all: None, peers: None, spared: Vec::new() }
    }

    async fn next(&mut self) {
        loop {
            let first = self.peers.is_none() && self.all.is_some();
            tokio::select! {
                biased;
                all = self.producers.changed() => self.all = Some(all),
                peers = self.consumers.changed() => {
                    let mut own = None;
                    for peer in &peers {
                        if self.here.is(peer).await {
                            own = Some(peer.clone());
                            break;
                        }
                    }
                    self.peers = Some((own, peers));
                }
                () = tokio::time::sleep(PEERS_DEADLINE), if first => self.peers = Some((None, Vec::new())),
            }
            if self.all.is_some() && self.peers.is_some() {
                return;
            }
        }
    }

    fn chosen(&mut self) -> Vec<Address> {
        let mut all = self.all.clone().unwrap_or_default();
        self.spared.clear();
        if let Some((Some(own), peers)) = &self.peers {
            all.sort_unstable_by(|left, right| weight(own, right).cmp(&weight(own, left)));
            let is_first = |producer: &Address| peers.iter().max_by_key(|peer| weight(peer, producer)) == Some(own);
            let rest = all.split_off(self.min.min(all.len()));
            let (first, spared) = rest.into_iter().partition::<Vec<_>, _>(is_first);
            all.extend(first);
            self.spared = spared;
        }
        all
    }
}

/// No two pairs weigh the same.
fn weight<'a>(consumer: &'a Address, producer: &'a Address) -> (u64, &'a Address, &'a Address) {
    (xxh3_64(format!("{}\0{}", consumer.0, producer.0).as_bytes()), consumer, producer)
}

impl Discover for Subset {
    fn changed(&mut self) -> BoxFuture<'_, Vec<Address>> {
        async move {
            self.next().await;
            self.chosen()
        }
        .boxed()
    }

    fn spared(&self) -> &[Address] {
        &self.spared
    }
}

impl Here {
    /// Whether an address leads to this process.
    async fn is(&self, address: &Address) -> bool {
        if *address == self.advertised {
            return true;
        }
        let is_port = address.0.rsplit_once(':').is_some_and(|(_, port)| port.parse() == Ok(self.port));
        let Some(hosts) = (if is_port { tokio::net::lookup_host(&address.0).await.ok() } else { None }) else {
            return false;
        };
        hosts.into_iter().any(|host| is_of_this_machine(host.ip()))
    }
}

fn is_of_this_machine(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tokio::sync::mpsc;

    use super::*;
    use crate::Fixed;

    fn addresses(stage: &str, count: usize) -> Vec<Address> {
        (0..count).map(|number| Address(format!("{stage}-{number}:7400"))).collect()
    }

    async fn subset(own: &str, producers: usize, consumers: usize, min: usize) -> (Vec<Address>, Vec<Address>) {
        let fixed = |stage, count| Box::new(Fixed::new(addresses(stage, count)));
        let here = Here { advertised: Address(own.into()), port: 1 };
        let mut subset = Subset::new(fixed("p", producers), fixed("c", consumers), here, min);
        let chosen = subset.changed().await;
        (chosen, subset.spared().to_vec())
    }

    #[tokio::test]
    async fn each_consumer_takes_at_least_so_many_and_each_producer_has_one() {
        for (producers, consumers, min) in [(100, 100, 3), (100, 7, 1), (7, 100, 2), (3, 3, 10), (1, 5, 1)] {
            let mut covered = BTreeSet::new();
            let mut links = 0;
            for number in 0..consumers {
                let (chosen, spared) = subset(&format!("c-{number}:7400"), producers, consumers, min).await;
                assert!(chosen.len() >= min.min(producers));
                assert_eq!(chosen.len() + spared.len(), producers);
                links += chosen.len();
                covered.extend(chosen);
            }
            assert_eq!(covered.len(), producers);
            assert!(links <= consumers * min + producers, "{links} links of {producers} and {consumers}");
        }
    }

    #[tokio::test]
    async fn a_consumer_that_is_not_among_its_peers_takes_all() {
        let (chosen, spared) = subset("elsewhere:7400", 20, 3, 1).await;
        assert_eq!((chosen.len(), spared.len()), (20, 0));
    }

    #[tokio::test]
    async fn an_instance_knows_itself_by_its_machine_and_port() {
        let here = Here { advertised: Address("pod-0:7400".into()), port: 7400 };
        for (address, is) in [("pod-0:7400", true), ("127.0.0.1:7400", true), ("localhost:7400", true)] {
            assert_eq!(here.is(&Address(address.into())).await, is, "{address}");
        }
        for other in ["127.0.0.1:7401", "192.0.2.1:7400", "pod-1", "no.such.invalid:7400"] {
            assert!(!here.is(&Address(other.into())).await, "{other}");
        }
    }

    struct Told(mpsc::Receiver<Vec<Address>>);

    impl Discover for Told {
        fn changed(&mut self) -> BoxFuture<'_, Vec<Address>> {
            async { self.0.recv().await.unwrap() }.boxed()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_an_answer_about_its_peers_it_takes_all_until_there_is_one() {
        let ((_keep, none), (told, peers)) = (mpsc::channel(1), mpsc::channel(1));
        let here = Here { advertised: Address("c-0:7400".into()), port: 1 };
        let producers = || Box::new(Fixed::new(addresses("p", 20)));
        let mut silent = Subset::new(producers(), Box::new(Told(none)), here.clone(), 2);
        assert_eq!(silent.changed().await.len(), 20);
        let mut subset = Subset::new(producers(), Box::new(Told(peers)), here, 2);
        assert_eq!(subset.changed().await.len(), 20);
        told.send(addresses("c", 20)).await.unwrap();
        let chosen = subset.changed().await;
        assert!((2..10).contains(&chosen.len()), "{chosen:?}");
        told.send(addresses("c", 1)).await.unwrap();
        assert_eq!(subset.changed().await.len(), 20, "its peers have left");
    }
}
