//! Hashes that identify and order events. Part of the protocol: they never change within a hash version.

use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

/// Identity of an event: two with the same `source` and `id` are the same event (xxh3, 128 bit, of source NUL id).
pub fn identity(source: &str, id: &str) -> u128 {
    let mut hash = Xxh3Default::new();
    hash.update(source.as_bytes());
    hash.update(&[0]);
    hash.update(id.as_bytes());
    hash.digest128()
}

/// Hash of a `partitionkey` (xxh3, 64 bit).
pub fn key_hash(key: &str) -> u64 {
    xxh3_64(key.as_bytes())
}
