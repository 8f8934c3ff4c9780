//! What a stage says to itself, to be heard once all that was in the log before it is on its way: GenStage's `async_info`.

use std::collections::VecDeque;

use super::Output;
use super::entries::Place;
use super::group::Group;
use super::log::Log;

/// Most infos that wait.
pub const INFOS_MAX: usize = 1_024;

/// [`INFOS_MAX`] infos wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{INFOS_MAX} infos wait already")]
pub struct InfosFull;

/// Infos that wait, each with the log's end when it came.
#[derive(Debug, Default)]
pub(crate) struct Infos {
    queue: VecDeque<(u64, u64)>,
    /// Nothing before this offset waits for a first group.
    passed: u64,
}

impl Output {
    /// Waits with a token until all that the log holds now is dispatched once, to every group that takes part in settlement,
    /// or is discarded or withdrawn. Infos don't count as events.
    ///
    /// # Errors
    /// [`InfosFull`]; then nothing has changed.
    pub fn push_info(&mut self, token: u64) -> Result<(), InfosFull> {
        if self.infos.queue.len() >= INFOS_MAX {
            return Err(InfosFull);
        }
        self.infos.queue.push_back((self.shared.log.end(), token));
        Ok(())
    }

    /// The next token that has waited for all before it; tokens come in the order in which they were pushed.
    pub fn poll_info(&mut self) -> Option<u64> {
        let &(end, token) = self.infos.queue.front()?;
        let is_wanted = self.is_gated() || self.infos.is_settled_to(&self.shared.log, end);
        let mut gating = self.groups.iter_mut().filter(|(_, group)| group.gates);
        if !is_wanted || !gating.all(|(_, group)| group.is_dispatched_to(end)) {
            return None;
        }
        self.infos.queue.pop_front();
        Some(token)
    }
}

impl Infos {
    /// Each entry is looked at once, whatever is asked.
    fn is_settled_to(&mut self, log: &Log, end: u64) -> bool {
        self.passed = self.passed.max(log.base());
        while self.passed < end && !log.can_withdraw(self.passed) {
            self.passed += 1;
        }
        self.passed >= end
    }
}

impl Group {
    /// Whether all before this offset was dispatched once, or needs it no more. Each entry is looked at once, whatever is asked.
    fn is_dispatched_to(&mut self, end: u64) -> bool {
        self.passed = self.passed.max(self.entries.base());
        while self.passed < end.min(self.entries.end()) {
            match self.entries.at(self.passed).place {
                Place::Fresh | Place::Waiting | Place::Parked => return false,
                Place::Assigned | Place::Sent | Place::Settled | Place::Withdrawn => self.passed += 1,
            }
        }
        true
    }
}
