//! Inputs in work: each is settled once, after all its outputs, with the worst of their outcomes.
//!
//! ```text
//!   open --> Open --seal--> Sealed --last output settled--> given back, id void
//!             |  outputs are added and settle               ^
//!             +-- seal, with no output unsettled -----------+
//! ```
//!
//! A slab with generations: an id whose input was given back names nothing ever after, so a late or repeated call
//! changes nothing.

use slab::Slab;

use crate::message::{Outcome, Rejection};

/// One input in work: a slab's index and its generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InputId(pub u64);

#[derive(Debug)]
struct Input<T> {
    id: InputId,
    value: T,
    /// Outputs not settled.
    outputs: u64,
    sealed: bool,
    outcome: Outcome,
}

/// Inputs in work, each with what its owner needs to settle it. Holds no more than were opened: the bound is the caller's.
#[derive(Debug)]
pub struct Inputs<T> {
    slab: Slab<Input<T>>,
    /// Makes ids unique though slab keys are used again.
    generation: u32,
}

impl<T> Default for Inputs<T> {
    fn default() -> Self {
        Self { slab: Slab::new(), generation: 0 }
    }
}

impl<T> Inputs<T> {
    /// None in work.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins an input.
    pub fn open(&mut self, value: T) -> InputId {
        let entry = self.slab.vacant_entry();
        let id = InputId(u64::from(self.generation) << 32 | entry.key() as u64);
        self.generation = self.generation.wrapping_add(1);
        entry.insert(Input { id, value, outputs: 0, sealed: false, outcome: Outcome::Accepted });
        id
    }

    /// One more output that must settle first.
    pub fn output_added(&mut self, input: InputId) {
        if let Some(input) = self.find_mut(input) {
            input.outputs += 1;
        }
    }

    /// No more outputs will be added. Gives the input back when it has none unsettled.
    pub fn seal(&mut self, input: InputId) -> Option<(T, Outcome)> {
        self.find_mut(input)?.sealed = true;
        self.take_done(input)
    }

    /// One output has settled. Gives the input back when it was the last one and the input is sealed.
    pub fn output_settled(&mut self, input: InputId, outcome: Outcome) -> Option<(T, Outcome)> {
        let found = self.find_mut(input)?;
        found.outputs = found.outputs.checked_sub(1)?;
        merge(&mut found.outcome, outcome);
        self.take_done(input)
    }

    /// Merges a rejection into the input's outcome; it still waits for its seal and its outputs.
    pub fn reject(&mut self, input: InputId, rejection: Rejection) {
        if let Some(found) = self.find_mut(input) {
            merge(&mut found.outcome, Outcome::Rejected(Box::new(rejection)));
        }
    }

    /// Gives up an input without an outcome: its outputs were withdrawn.
    pub fn abandon(&mut self, input: InputId) -> Option<T> {
        self.find_mut(input)?;
        Some(self.slab.remove(input.0 as u32 as usize).value)
    }

    /// What an input was opened with.
    pub fn value(&self, input: InputId) -> Option<&T> {
        self.slab.get(input.0 as u32 as usize).filter(|found| found.id == input).map(|found| &found.value)
    }

    /// Inputs in work.
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether none is in work.
    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    fn find_mut(&mut self, input: InputId) -> Option<&mut Input<T>> {
        self.slab.get_mut(input.0 as u32 as usize).filter(|found| found.id == input)
    }

    fn take_done(&mut self, input: InputId) -> Option<(T, Outcome)> {
        let found = self.find_mut(input)?;
        if !found.sealed || found.outputs > 0 {
            return None;
        }
        let done = self.slab.remove(input.0 as u32 as usize);
        Some((done.value, done.outcome))
    }
}

fn merge(worst: &mut Outcome, other: Outcome) {
    *worst = std::mem::replace(worst, Outcome::Accepted).worst(other);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Reason;

    fn rejection(stored: bool) -> Rejection {
        Rejection { reason: Reason::Invalid, text: "no".into(), stored }
    }

    #[test]
    fn an_input_without_outputs_is_settled_by_its_seal() {
        let mut inputs = Inputs::new();
        let input = inputs.open("a");
        assert_eq!(inputs.seal(input), Some(("a", Outcome::Accepted)));
        assert_eq!(inputs.seal(input), None);
        assert!(inputs.is_empty());
    }

    #[test]
    fn an_input_is_settled_once_after_its_last_output() {
        let mut inputs = Inputs::new();
        let input = inputs.open("a");
        inputs.output_added(input);
        inputs.output_added(input);
        assert_eq!(inputs.output_settled(input, Outcome::Accepted), None, "one of two");
        assert_eq!(inputs.seal(input), None, "one is still out");
        assert_eq!(inputs.output_settled(input, Outcome::Accepted), Some(("a", Outcome::Accepted)));
        assert_eq!(inputs.output_settled(input, Outcome::Accepted), None);
    }

    #[test]
    fn outputs_that_settle_before_the_seal_do_not_settle_the_input() {
        let mut inputs = Inputs::new();
        let input = inputs.open(());
        inputs.output_added(input);
        assert_eq!(inputs.output_settled(input, Outcome::Accepted), None);
        assert_eq!(inputs.seal(input), Some(((), Outcome::Accepted)));
    }

    #[test]
    fn the_worst_outcome_wins_whatever_its_order() {
        let stored = || Outcome::Rejected(Box::new(rejection(true)));
        let plain = || Outcome::Rejected(Box::new(rejection(false)));
        for order in [[stored(), plain(), Outcome::Accepted], [Outcome::Accepted, plain(), stored()]] {
            let mut inputs = Inputs::new();
            let input = inputs.open(());
            for _ in &order {
                inputs.output_added(input);
            }
            assert_eq!(inputs.seal(input), None);
            let last = order.into_iter().filter_map(|outcome| inputs.output_settled(input, outcome)).last();
            assert_eq!(last, Some(((), plain())));
        }
    }

    #[test]
    fn a_rejection_waits_for_seal_and_outputs() {
        let mut inputs = Inputs::new();
        let input = inputs.open(());
        inputs.output_added(input);
        inputs.reject(input, rejection(true));
        assert_eq!(inputs.seal(input), None);
        let settled = inputs.output_settled(input, Outcome::Accepted);
        assert_eq!(settled, Some(((), Outcome::Rejected(Box::new(rejection(true))))));
    }

    #[test]
    fn an_old_id_does_not_touch_the_input_that_took_its_place() {
        let mut inputs = Inputs::new();
        let first = inputs.open(1);
        inputs.seal(first);
        let second = inputs.open(2);
        assert_ne!(first, second);
        inputs.output_added(first);
        inputs.reject(first, rejection(false));
        assert_eq!((inputs.abandon(first), inputs.value(first)), (None, None));
        assert_eq!(inputs.seal(second), Some((2, Outcome::Accepted)));
    }

    #[test]
    fn a_settlement_without_an_output_changes_nothing() {
        let mut inputs = Inputs::new();
        let input = inputs.open(1);
        assert_eq!(inputs.output_settled(input, Outcome::Rejected(Box::new(rejection(false)))), None);
        assert_eq!(inputs.seal(input), Some((1, Outcome::Accepted)));
    }
}
