//! Names of instances that have none.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use rand::Rng as _;

/// Greater at each start.
pub(crate) fn incarnation() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    // Two starts within a millisecond must differ.
    since << 20 | rand::rng().random_range(0..1 << 20)
}

/// Unique in this process.
pub(crate) fn numbered(stage: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{stage}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}
