//! The events: made by the producing side, checked by the consuming side.

use bytes::{BufMut, Bytes, BytesMut};
use jaiminho_core::{Event, KeyHash, Payload};
use jaiminho_event::key_hash;
use jaiminho_runtime::NewEvent;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};

use super::{Arrived, EVENT_BYTES_MIN, Hop, Job};
use crate::process::monotonic_ns;
use crate::stages::Feed;
use crate::stats::quantile;

/// Hops of this share of the events come before the caches are warm.
const WARM_UP_SHARE: u64 = 10;

/// One event in an allocation of its own.
pub(crate) fn event(number: u64, size: usize) -> Bytes {
    let mut bytes = BytesMut::with_capacity(size);
    put_event(&mut bytes, number, size);
    bytes.freeze()
}

/// Events from `first` on, one after the other.
pub(crate) fn frame(first: u64, count: u64, size: usize) -> Bytes {
    let mut bytes = BytesMut::with_capacity(size.saturating_mul(usize::try_from(count).unwrap_or_default()));
    for number in first..first + count {
        put_event(&mut bytes, number, size);
    }
    bytes.freeze()
}

fn put_event(bytes: &mut BytesMut, number: u64, size: usize) {
    bytes.put_u64_le(number);
    bytes.put_u64_le(0);
    bytes.put_bytes(b'x', size - EVENT_BYTES_MIN);
}

/// Events one by one at their times, made and stamped by a thread that waits for nobody.
pub(crate) fn paced(job: &Job, rate: u32) -> mpsc::Receiver<Bytes> {
    let (hand_over, events) = mpsc::channel(usize::try_from(job.count).unwrap_or(usize::MAX).max(1));
    let (count, size) = (job.count, job.size);
    std::thread::spawn(move || {
        let began = Instant::now();
        for number in 0..count {
            let due = began + Duration::from_nanos(number * 1_000_000_000 / u64::from(rate));
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let mut bytes = BytesMut::with_capacity(size);
            bytes.put_u64_le(number);
            bytes.put_u64_le(monotonic_ns());
            bytes.put_bytes(b'x', size - EVENT_BYTES_MIN);
            // There is room for all of them: the receiver is gone.
            if hand_over.try_send(bytes.freeze()).is_err() {
                return;
            }
        }
    });
    events
}

/// A link's events, with the keys in turn.
pub(crate) struct Events {
    made: u64,
    count: u64,
    keys: Vec<KeyHash>,
    /// Each event is made here before it gets its own memory: all are alike but for their number.
    desk: Vec<u8>,
    paced: Option<mpsc::Receiver<Bytes>>,
}

impl Events {
    pub(crate) fn new(job: &Job) -> Self {
        let keys = (0..job.keys).map(|key| KeyHash(key_hash(&format!("key-{key}")))).collect();
        let paced = job.rate.map(|rate| paced(job, rate));
        let desk = event(0, job.size).to_vec();
        Self { made: 0, count: job.count, keys, desk, paced }
    }

    /// The next one; none: all are made.
    pub(crate) fn make(&mut self) -> Option<NewEvent> {
        (self.made < self.count).then(|| {
            self.desk[..8].copy_from_slice(&self.made.to_le_bytes());
            self.new_event(Payload::from(&self.desk[..]))
        })
    }

    fn new_event(&mut self, payload: impl Into<Payload>) -> NewEvent {
        let (number, payload) = (self.made, payload.into());
        self.made += 1;
        let key = self.keys.get(usize::try_from(number).unwrap_or_default() % self.keys.len().max(1)).copied();
        NewEvent { payload, key, identity: u128::from(number), trace: None }
    }
}

impl Feed for Events {
    async fn next(&mut self, events_max: usize) -> Vec<NewEvent> {
        if let Some(paced) = &mut self.paced {
            let mut due = Vec::new();
            paced.recv_many(&mut due, events_max).await;
            return due.into_iter().map(|payload| self.new_event(&payload[..])).collect();
        }
        std::iter::from_fn(|| self.make()).take(events_max).collect()
    }
}

/// What has arrived so far.
#[derive(Debug)]
pub(crate) struct Tally {
    expected: u64,
    size: usize,
    count: u64,
    sum: u64,
    /// Of a run with a rate: in order of arrival.
    hops_ns: Option<Vec<u64>>,
}

impl Tally {
    pub(crate) fn new(job: &Job) -> Self {
        let hops_ns = job.rate.map(|_| Vec::with_capacity(usize::try_from(job.count).unwrap_or_default()));
        Self { expected: job.count, size: job.size, count: 0, sum: 0, hops_ns }
    }

    /// One event or many, one after the other.
    pub(crate) fn take(&mut self, events: &[u8]) {
        let now_ns = if self.hops_ns.is_some() { monotonic_ns() } else { 0 };
        for event in events.chunks_exact(self.size) {
            let (number, sent_ns) = (word(event, 0), word(event, 8));
            self.count += 1;
            self.sum = self.sum.wrapping_add(number);
            if let Some(hops_ns) = &mut self.hops_ns {
                hops_ns.push(now_ns.saturating_sub(sent_ns));
            }
        }
    }

    /// As many as were sent, or more.
    pub(crate) fn is_complete(&self) -> bool {
        self.count >= self.expected
    }

    pub(crate) fn arrived(&self) -> Arrived {
        Arrived { finished_ns: monotonic_ns(), count: self.count, sum: self.sum, hop: self.hop() }
    }

    fn hop(&self) -> Option<Hop> {
        let warm_up = usize::try_from(self.expected / WARM_UP_SHARE).unwrap_or_default();
        let mut warm = self.hops_ns.as_ref()?.get(warm_up..)?.to_vec();
        warm.sort_unstable();
        Some(Hop { p50_ns: quantile(&warm, 0.5)?, p99_ns: quantile(&warm, 0.99)? })
    }
}

/// What has arrived at any of a process's consumers.
pub(crate) struct Arrivals {
    tally: Mutex<Tally>,
    complete: Notify,
}

impl Arrivals {
    pub(crate) fn new(job: &Job) -> Self {
        Self { tally: Mutex::new(Tally::new(job)), complete: Notify::new() }
    }

    pub(crate) fn take<'a>(&self, events: impl IntoIterator<Item = &'a Event>) {
        let mut tally = self.tally();
        events.into_iter().for_each(|event| tally.take(&event.payload));
        if tally.is_complete() {
            self.complete.notify_one();
        }
    }

    /// Waits for all.
    pub(crate) async fn all(&self) -> Arrived {
        self.complete.notified().await;
        self.tally().arrived()
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Arrived {
    /// Each of `count` events arrived once.
    pub(crate) fn is_all_of(&self, count: u64) -> bool {
        self.count == count && self.sum == count * count.saturating_sub(1) / 2
    }
}

fn word(event: &[u8], at: usize) -> u64 {
    event.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(u64::MAX, u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::super::Contender;
    use super::*;

    fn job(count: u64, rate: Option<u32>) -> Job {
        Job { contender: Contender::Link, count, size: 64, batch: 10, window: 100, keys: 3, consumers: 1, rate }
    }

    #[tokio::test]
    async fn every_event_is_made_once_with_the_keys_in_turn() {
        let (job, mut made) = (job(25, None), Vec::new());
        let mut feed = Events::new(&job);
        let mut tally = Tally::new(&job);
        loop {
            let events = feed.next(job.batch).await;
            if events.is_empty() {
                break;
            }
            made.extend(events);
        }
        made.iter().for_each(|event| tally.take(&event.payload));
        assert!(tally.is_complete() && tally.arrived().is_all_of(25));
        assert!(made.iter().all(|event| event.payload.len() == 64));
        assert_eq!(made[0].key, made[3].key);
        assert_ne!(made[0].key, made[1].key);
    }

    #[test]
    fn a_frame_holds_the_same_events_and_a_repeat_is_noticed() {
        let job = job(20, None);
        let mut tally = Tally::new(&job);
        tally.take(&frame(0, 10, 64));
        assert!(!tally.is_complete());
        tally.take(&frame(10, 10, 64));
        assert!(tally.arrived().is_all_of(20));
        let mut tally = Tally::new(&job);
        tally.take(&frame(0, 10, 64));
        tally.take(&frame(0, 10, 64));
        assert!(tally.is_complete() && !tally.arrived().is_all_of(20), "ten came twice, ten never");
    }

    #[tokio::test]
    async fn paced_events_keep_their_times_and_carry_them() {
        let job = job(50, Some(1_000));
        let began = Instant::now();
        let (mut events, mut tally) = (paced(&job, 1_000), Tally::new(&job));
        while let Some(event) = events.recv().await {
            tally.take(&event);
        }
        assert!(began.elapsed() >= Duration::from_millis(45));
        let hop = tally.arrived().hop.unwrap();
        assert!(hop.p50_ns > 0 && hop.p50_ns <= hop.p99_ns);
    }
}
