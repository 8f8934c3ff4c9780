//! The events of a run: numbered within their key, and the parts that the middle tier makes of each.

use jaiminho_core::KeyHash;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// An event as its client numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Numbered {
    pub(crate) key: u32,
    /// 1, 2, 3 … within the key.
    pub(crate) number: u64,
}

/// Every so many keys one stands for events without a key: they have no order.
const KEYLESS_EVERY: u32 = 5;

impl Numbered {
    pub(crate) fn is_keyed(self) -> bool {
        !self.key.is_multiple_of(KEYLESS_EVERY)
    }

    pub(crate) fn key_hash(self) -> Option<KeyHash> {
        self.is_keyed().then(|| KeyHash(xxh3_64(&self.key.to_le_bytes())))
    }

    pub(crate) fn identity(self) -> u128 {
        xxh3_128(self.id().as_bytes())
    }

    fn id(self) -> String {
        format!("{}-{}", self.key, self.number)
    }

    /// How many results the middle tier makes of it: mostly one, sometimes none or two.
    pub(crate) fn parts(self) -> u8 {
        match self.number % 16 {
            5 => 0,
            11 => 2,
            _ => 1,
        }
    }

    /// With `padding` bytes after its name.
    pub(crate) fn payload(self, padding: usize) -> Vec<u8> {
        let mut payload = self.id().into_bytes();
        payload.push(b' ');
        payload.resize(payload.len() + padding, b'.');
        payload
    }
}

/// One result of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Part {
    pub(crate) of: Numbered,
    pub(crate) part: u8,
}

impl Part {
    /// The payload of the event with the part's number in front.
    pub(crate) fn payload(self, event: &[u8]) -> Vec<u8> {
        let mut payload = format!("{}/", self.part).into_bytes();
        payload.extend_from_slice(event);
        payload
    }

    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let at = payload.iter().position(|byte| *byte == b'/')?;
        let part = std::str::from_utf8(&payload[..at]).ok()?.parse().ok()?;
        Some(Self { of: read(&payload[at + 1..])?, part })
    }
}

/// Which event a payload is.
pub(crate) fn read(payload: &[u8]) -> Option<Numbered> {
    let end = payload.iter().position(|byte| *byte == b' ')?;
    let (key, number) = std::str::from_utf8(&payload[..end]).ok()?.split_once('-')?;
    Some(Numbered { key: key.parse().ok()?, number: number.parse().ok()? })
}
