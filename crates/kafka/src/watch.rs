//! Tells a client that has lost its brokers from brokers that are away.
//!
//! librdkafka forgets the brokers that a metadata answer does not list. An answer that lists none, as from a cluster
//! whose brokers all stood still for longer than their session, leaves it with nobody to ask, for good (its issue 5301).
//! From within, that looks like brokers that are away. So a second client, fresh from the configuration, is asked.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::producer::{Connection, Leaders};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long the second client may take at one look; it goes on connecting until the next.
const SECOND_WAIT: Duration = Duration::from_millis(500);
/// How long the first may take once the second has found a leader: longer than its wait before it connects again.
const FIRST_WAIT: Duration = Duration::from_secs(2);
/// The second may lose its brokers too.
const SECOND_AGE_MAX: Duration = Duration::from_secs(30);

/// Watches a client that has records in flight.
pub(crate) struct Watch {
    /// Without a delivery for so long, it is looked at.
    patience: Duration,
    delivered_at: Instant,
    looked_at: Instant,
    second: Option<(Instant, Connection)>,
}

impl Watch {
    pub(crate) fn new(patience: Duration) -> Self {
        let now = Instant::now();
        Self { patience, delivered_at: now, looked_at: now, second: None }
    }

    /// Something was delivered, or nothing is in flight.
    pub(crate) fn delivered(&mut self, now: Instant) {
        self.delivered_at = now;
        self.second = None;
    }

    /// Whether `first` no longer finds a broker, although there is one that leads the topic's partitions.
    pub(crate) fn is_stranded(
        &mut self,
        first: &Connection,
        properties: &BTreeMap<String, String>,
        topic: &str,
    ) -> bool {
        let now = Instant::now();
        if now.duration_since(self.delivered_at) < self.patience || now.duration_since(self.looked_at) < LOOK_EVERY {
            return false;
        }
        let found = self.second_finds_leaders(now, properties, topic);
        let stranded = found && first.leaders(topic, FIRST_WAIT).is_none();
        self.looked_at = Instant::now();
        stranded
    }

    fn second_finds_leaders(&mut self, now: Instant, properties: &BTreeMap<String, String>, topic: &str) -> bool {
        let kept = self.second.take().filter(|(opened, _)| now.duration_since(*opened) < SECOND_AGE_MAX);
        let Some((opened, second)) = kept.or_else(|| Some((now, Connection::open(properties).ok()?))) else {
            return false;
        };
        let answer = second.leaders(topic, SECOND_WAIT);
        if answer != Some(Leaders::NoBroker) {
            self.second = Some((opened, second));
        }
        answer == Some(Leaders::All)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EmbeddedBroker, SinkConfig, client_config};

    fn properties(servers: &str) -> BTreeMap<String, String> {
        client_config(&SinkConfig::new(servers, "t")).unwrap()
    }

    /// Looks once, at a client with `first` brokers, when the configuration names `named`.
    fn is_stranded(first: &str, named: &str) -> bool {
        let first = Connection::open(&properties(first)).unwrap();
        let mut watch = Watch::new(Duration::ZERO);
        watch.looked_at = Instant::now().checked_sub(LOOK_EVERY).unwrap();
        watch.is_stranded(&first, &properties(named), "t")
    }

    #[test]
    fn only_a_client_without_a_broker_where_another_finds_one_is_stranded() {
        let broker = EmbeddedBroker::start(&[("t", 1)]).unwrap();
        let (up, down) = (broker.bootstrap_servers(), "127.0.0.1:1");
        // Half a second at each look: a busy machine may need several.
        assert!((0..20).any(|_| is_stranded(down, &up)));
        assert!(!is_stranded(down, down), "the brokers are away");
        assert!(!is_stranded(&up, &up), "it has them, and waits for something else");
    }

    #[test]
    fn the_second_client_is_kept_while_the_topic_has_no_leader() {
        let broker = EmbeddedBroker::start(&[("t", 1)]).unwrap();
        broker.cluster().unwrap().partition_leader("t", 0, None).unwrap();
        let named = properties(&broker.bootstrap_servers());
        let first = Connection::open(&named).unwrap();
        let mut watch = Watch::new(Duration::ZERO);
        let mut opened = || {
            watch.looked_at = Instant::now().checked_sub(LOOK_EVERY).unwrap();
            assert!(!watch.is_stranded(&first, &named, "t"));
            watch.second.as_ref().map(|(opened, _)| *opened)
        };
        let once = opened();
        assert!(once.is_some());
        assert_eq!(opened(), once);
    }
}
