//! Required groups of which no member is connected: their events wait, and in the end push back on the source. Each is named in
//! the log when it stays away, and when it comes.

use std::collections::BTreeMap;

use jaiminho_core::GroupWaiting;

/// 5 s: a group whose last member starts again is no news.
const TOLD_AFTER_TICKS: u32 = 20;

/// Ticks that each absent group has been away, by output and name.
#[derive(Debug, Default)]
pub(crate) struct Absent(BTreeMap<(usize, String), u32>);

impl Absent {
    /// One tick has passed, and so the groups of an output are.
    pub(crate) fn tick(&mut self, stage: &str, (index, output): (usize, &str), groups: &[GroupWaiting]) {
        for group in groups {
            let key = (index, group.name.clone());
            if group.members > 0 {
                let away = self.0.remove(&key).unwrap_or_default();
                if away >= TOLD_AFTER_TICKS {
                    tracing::info!(stage, output, group = group.name, "the group is connected again");
                }
                continue;
            }
            let away = self.0.entry(key).or_default();
            *away = away.saturating_add(1);
            if *away == TOLD_AFTER_TICKS {
                tracing::warn!(
                    stage,
                    output,
                    group = group.name,
                    "no instance of this required group is connected; its events wait"
                );
            }
        }
    }
}
