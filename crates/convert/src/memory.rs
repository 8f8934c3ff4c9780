//! How much memory trees of JSON may take at once, in one process.

use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};

/// A tree of JSON takes at most this many times its text (measured by a test below).
pub const TREE_BYTES_PER_TEXT_BYTE: u64 = 128;

/// Permits are counted in units of this, since a semaphore takes at most 2^32 of them at once.
const UNIT_BYTES: u64 = 1024;

/// The process's memory for parsing, shared by all its transforms: `limits.parse_bytes`.
#[derive(Clone, Debug)]
pub struct ParseMemory {
    units: Arc<Semaphore>,
    units_max: u32,
}

/// A parse's share, given back when dropped.
#[derive(Debug)]
pub(crate) struct Reservation<'a>(#[expect(dead_code, reason = "held for its drop")] SemaphorePermit<'a>);

impl ParseMemory {
    /// At most `parse_bytes` in trees at once; a text whose tree could take more is parsed alone.
    pub fn new(parse_bytes: u64) -> Self {
        let units_max = u32::try_from(parse_bytes / UNIT_BYTES).unwrap_or(u32::MAX).max(1);
        Self { units: Arc::new(Semaphore::new(units_max as usize)), units_max }
    }

    /// Waits, in order of arrival, until a tree of `text_bytes` may be built.
    pub(crate) async fn reserve(&self, text_bytes: usize) -> Reservation<'_> {
        let units = (text_bytes as u64).saturating_mul(TREE_BYTES_PER_TEXT_BYTE).div_ceil(UNIT_BYTES);
        let units = u32::try_from(units).unwrap_or(u32::MAX).clamp(1, self.units_max);
        match self.units.acquire_many(units).await {
            Ok(permit) => Reservation(permit),
            Err(_closed) => unreachable!("the semaphore is never closed"),
        }
    }
}

impl Default for ParseMemory {
    /// 64 MiB: texts up to 512 KiB side by side.
    fn default() -> Self {
        Self::new(64 << 20)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use vrl::value::{KeyString, Value};

    use super::*;

    /// The standard library's B-tree node: 11 keys and values, a parent pointer, two lengths.
    const LEAF_BYTES: usize = 11 * (size_of::<KeyString>() + size_of::<Value>()) + 16;

    #[test]
    fn the_costliest_json_stays_within_the_factor() {
        // `{"":{"":…}}`: a leaf for each 6 bytes of text, an empty key allocates nothing.
        let nested = LEAF_BYTES / 6;
        // `[{"":0},…]`: a leaf and a slot (twice, while a vector grows) for each 7 bytes of text.
        let listed = (LEAF_BYTES + 3 * size_of::<Value>()) / 7;
        assert!(nested as u64 <= TREE_BYTES_PER_TEXT_BYTE, "{nested}");
        assert!(listed as u64 <= TREE_BYTES_PER_TEXT_BYTE, "{listed}");
    }

    #[tokio::test]
    async fn small_texts_share_and_a_huge_one_runs_alone() {
        let memory = ParseMemory::new(1 << 20);
        let small = memory.reserve(100).await;
        let second = memory.reserve(100).await;
        assert!(memory.reserve(1 << 30).now_or_never().is_none());
        drop((small, second));
        let huge = memory.reserve(1 << 30).await;
        assert!(memory.reserve(1).now_or_never().is_none());
        drop(huge);
        assert!(memory.reserve(1).now_or_never().is_some());
    }
}
