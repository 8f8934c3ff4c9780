//! What is known of one kind of record, and what an answer does to it.

use std::collections::BTreeSet;
use std::time::Duration;

use jaiminho_runtime::Address;
use tokio::time::Instant;

/// An answer that there is nothing counts once nothing else was said for so long.
const EMPTY_LASTS: Duration = Duration::from_secs(30);

/// What a resolver said about one kind of record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Found {
        addresses: BTreeSet<Address>,
        ttl: Duration,
    },
    /// The name, or the name's records of this kind, do not exist.
    Empty,
    Failed(String),
}

/// The set that holds, by the rules at the top of this crate.
#[derive(Debug, Default)]
pub(crate) struct Known {
    addresses: BTreeSet<Address>,
    /// Since when every answer was `Empty`.
    empty_since: Option<Instant>,
}

impl Known {
    pub(crate) fn take(&mut self, answer: Answer, now: Instant) {
        match answer {
            Answer::Found { addresses, ttl: _ } => {
                self.addresses = addresses;
                self.empty_since = None;
            }
            Answer::Empty => {
                let since = *self.empty_since.get_or_insert(now);
                if now.duration_since(since) >= EMPTY_LASTS {
                    self.addresses.clear();
                }
            }
            Answer::Failed(_) => self.empty_since = None,
        }
    }

    pub(crate) fn addresses(&self) -> &BTreeSet<Address> {
        &self.addresses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(names: &[&str]) -> Answer {
        Answer::Found { addresses: names.iter().map(|name| Address((*name).into())).collect(), ttl: Duration::ZERO }
    }

    /// The set after these answers, each so many seconds after the beginning.
    fn after(answers: &[(u64, Answer)]) -> Vec<String> {
        let (mut known, begin) = (Known::default(), Instant::now());
        for (seconds, answer) in answers {
            known.take(answer.clone(), begin + Duration::from_secs(*seconds));
        }
        known.addresses().iter().map(|address| address.0.clone()).collect()
    }

    #[test]
    fn records_replace_the_set() {
        assert_eq!(after(&[(0, found(&["a:1", "b:1"])), (1, found(&["b:1", "c:1"]))]), ["b:1", "c:1"]);
    }

    #[test]
    fn failures_keep_the_set_however_long() {
        let failed = || Answer::Failed(String::new());
        assert_eq!(after(&[(0, found(&["a:1"])), (1, failed()), (1_000, failed()), (9_000, failed())]), ["a:1"]);
    }

    #[test]
    fn an_empty_answer_counts_once_it_has_lasted() {
        let a = || found(&["a:1"]);
        assert_eq!(after(&[(0, a()), (1, Answer::Empty), (30, Answer::Empty)]), ["a:1"]);
        assert_eq!(after(&[(0, a()), (1, Answer::Empty), (31, Answer::Empty)]), [""; 0]);
        assert_eq!(after(&[(0, a()), (1, Answer::Empty), (20, a()), (31, Answer::Empty)]), ["a:1"]);
        let failed = Answer::Failed(String::new());
        assert_eq!(after(&[(0, a()), (1, Answer::Empty), (20, failed), (31, Answer::Empty)]), ["a:1"]);
    }
}
