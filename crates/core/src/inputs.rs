//! Inputs in work.

use crate::message::{Outcome, Rejection};

/// One input in work: a slab's index and its generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InputId(pub u64);

/// Inputs in work, each with what its owner needs to settle it.
#[derive(Debug)]
pub struct Inputs<T> {
    slab: slab::Slab<T>,
}

#[expect(unused_variables, clippy::todo, clippy::new_without_default)]
impl<T> Inputs<T> {
    /// None in work.
    pub fn new() -> Self {
        Self { slab: slab::Slab::new() }
    }

    /// Begins an input.
    pub fn open(&mut self, value: T) -> InputId {
        todo!()
    }

    /// One more output that must settle first.
    pub fn output_added(&mut self, input: InputId) {
        todo!()
    }

    /// No more outputs will be added. Gives the input back when it has none unsettled.
    pub fn seal(&mut self, input: InputId) -> Option<(T, Outcome)> {
        todo!()
    }

    /// One output has settled. Gives the input back when it was the last one and the input is sealed.
    pub fn output_settled(&mut self, input: InputId, outcome: Outcome) -> Option<(T, Outcome)> {
        todo!()
    }

    /// Merges a rejection into the input's outcome; it still waits for its seal and its outputs.
    pub fn reject(&mut self, input: InputId, rejection: Rejection) {
        todo!()
    }

    /// Gives up an input without an outcome (its body was withdrawn).
    pub fn abandon(&mut self, input: InputId) -> Option<T> {
        todo!()
    }

    /// What an input was opened with.
    pub fn value(&self, input: InputId) -> Option<&T> {
        todo!()
    }

    /// The same, to change.
    pub fn value_mut(&mut self, input: InputId) -> Option<&mut T> {
        todo!()
    }

    /// Inputs in work.
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether none is in work.
    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }
}
