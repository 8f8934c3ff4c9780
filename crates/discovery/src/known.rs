//! What is known of one kind of record, and what an answer does to it.

use std::collections::BTreeSet;
use std::time::Duration;

use jaiminho_runtime::Address;

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
    /// The last answer, failures aside, was `Empty`.
    was_empty: bool,
}

impl Known {
    pub(crate) fn take(&mut self, answer: Answer) {
        match answer {
            Answer::Found { addresses, ttl: _ } => {
                self.addresses = addresses;
                self.was_empty = false;
            }
            Answer::Empty => {
                if self.was_empty {
                    self.addresses.clear();
                }
                self.was_empty = true;
            }
            Answer::Failed(_) => {}
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

    fn after(answers: &[Answer]) -> Vec<String> {
        let mut known = Known::default();
        answers.iter().for_each(|answer| known.take(answer.clone()));
        known.addresses().iter().map(|address| address.0.clone()).collect()
    }

    #[test]
    fn records_replace_the_set() {
        assert_eq!(after(&[found(&["a:1", "b:1"]), found(&["b:1", "c:1"])]), ["b:1", "c:1"]);
    }

    #[test]
    fn failures_keep_the_set_however_many() {
        let failed = Answer::Failed(String::new());
        assert_eq!(after(&[found(&["a:1"]), failed.clone(), failed.clone(), failed]), ["a:1"]);
    }

    #[test]
    fn an_empty_answer_counts_at_the_second_time_in_a_row() {
        assert_eq!(after(&[found(&["a:1"]), Answer::Empty]), ["a:1"]);
        assert_eq!(after(&[found(&["a:1"]), Answer::Empty, found(&["a:1"]), Answer::Empty]), ["a:1"]);
        assert_eq!(after(&[found(&["a:1"]), Answer::Empty, Answer::Failed(String::new()), Answer::Empty]), [""; 0]);
    }
}
