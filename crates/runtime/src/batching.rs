//! Batches of a handler that are assembled over lists, by key.
//!
//! ```text
//!   lists --push--> open batches, one a key --first limit, pressure, drain--> the handler's queue
//!                        \--recall--> released
//! ```
//!
//! What is held is not processed: its credit comes back with its batch, so the windows of the links bound it.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use jaiminho_core::{Event, KeyHash, Window};
use tokio::time::Instant;

use crate::{
    actor::Batch,
    handler::{End, Peer},
    lanes::Work,
    upstream::UpstreamLink,
};

/// What an event that is held takes beside itself, at most: that of a batch of its own.
pub const HELD_BYTES: u64 = 512;
/// Longer than this nobody waits.
const TIME_MAX: Duration = Duration::from_secs(365 * 24 * 3_600);

/// What the events of a batch have in common.
type Key = dyn Fn(&Event) -> Option<KeyHash> + Send + Sync;

/// When a batch of a handler is complete: at the first limit that is reached. It is handled before that when an upstream or the
/// stage's own log is over 80 % full, when half of a link's window is held, when a link that it has events of ends, and when the
/// stage drains.
#[derive(Clone)]
pub struct Batching {
    events: u64,
    bytes: u64,
    time: Duration,
    key: Option<Arc<Key>>,
}

impl Batching {
    /// So many events, one at least, or what came within this time from the first of them on.
    pub fn new(events: u64, time: Duration) -> Self {
        Self { events: events.max(1), bytes: u64::MAX, time: time.min(TIME_MAX), key: None }
    }

    /// No more bytes of events than these, but for one that is larger alone.
    #[must_use]
    pub fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes.max(1);
        self
    }

    /// Events of each key have batches of their own; those without have theirs, too. Quick: the stage waits for it. Where events
    /// of one [`Event::key`] get several keys here, their order holds within each batch only.
    #[must_use]
    pub fn by(mut self, key: impl Fn(&Event) -> Option<KeyHash> + Send + Sync + 'static) -> Self {
        self.key = Some(Arc::new(key));
        self
    }

    /// A panic is no key: the handler will see the same event.
    fn key(&self, event: &Event) -> Option<KeyHash> {
        let key = self.key.as_ref()?;
        catch_unwind(AssertUnwindSafe(|| key(event))).ok().flatten()
    }
}

impl fmt::Debug for Batching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events, bytes, time, key } = self;
        let mut batching = f.debug_struct("Batching");
        batching.field("events", events).field("bytes", bytes).field("time", time);
        batching.field("has_key", &key.is_some()).finish()
    }
}

/// One event that is held, and who sent it.
#[derive(Debug)]
struct Member {
    from: Arc<Peer>,
    work: Work,
}

/// A batch that is not complete. Never empty.
#[derive(Debug)]
struct Open {
    key: Option<KeyHash>,
    due: Instant,
    bytes: u64,
    members: Vec<Member>,
}

/// The open batches of a stage.
#[derive(Debug)]
pub(crate) struct Assembly {
    limits: Batching,
    /// In the order in which they were opened, and so of their times.
    open: BTreeMap<u64, Open>,
    by_key: HashMap<Option<KeyHash>, u64>,
    /// Events and bytes that are held of each link.
    held: HashMap<UpstreamLink, Window>,
    next: u64,
}

impl Assembly {
    pub(crate) fn new(limits: Batching) -> Self {
        Self { limits, open: BTreeMap::new(), by_key: HashMap::new(), held: HashMap::new(), next: 0 }
    }

    /// Takes in an event of a link of which so much may be held, and gives what is complete, in order.
    pub(crate) fn push(&mut self, from: &Arc<Peer>, work: Work, held_max: Window, now: Instant) -> Vec<Batch> {
        let (mut complete, size) = (Vec::new(), work.event.size());
        let key = self.limits.key(&work.event);
        let mut id = self.by_key.get(&key).copied();
        let is_over = |open: &Open| open.bytes.saturating_add(size) > self.limits.bytes;
        if let Some(full) = id.take_if(|id| self.open.get(id).is_some_and(is_over)) {
            complete.extend(self.close(full));
        }
        let id = id.unwrap_or_else(|| {
            self.next += 1;
            self.by_key.insert(key, self.next);
            self.next
        });
        let due = now + self.limits.time;
        let open = self.open.entry(id).or_insert_with(|| Open { key, due, bytes: 0, members: Vec::with_capacity(1) });
        open.bytes += size;
        open.members.push(Member { from: from.clone(), work });
        let is_complete = open.members.len() as u64 >= self.limits.events || open.bytes >= self.limits.bytes;
        let Some(link) = link(from) else { return complete };
        let held = self.held.entry(link).or_insert(Window { events: 0, bytes: 0 });
        held.events += 1;
        held.bytes += size;
        if is_complete {
            complete.extend(self.close(id));
        }
        // Else a batch larger than the window would wait for what can't come.
        while self.held.get(&link).is_some_and(|held| held.events >= held_max.events || held.bytes >= held_max.bytes)
            && let Some(oldest) = self.open.keys().next().copied()
        {
            complete.extend(self.close(oldest));
        }
        complete
    }

    /// When the next batch is complete, whatever comes.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.open.values().next().map(|open| open.due)
    }

    /// Batches whose time has come.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<Batch> {
        self.take(|open| open.due <= now)
    }

    /// Batches that have events of a link.
    pub(crate) fn take_of(&mut self, of: UpstreamLink) -> Vec<Batch> {
        self.take(|open| open.members.iter().any(|member| link(&member.from) == Some(of)))
    }

    /// All batches.
    pub(crate) fn take_all(&mut self) -> Vec<Batch> {
        self.take(|_| true)
    }

    fn take(&mut self, wanted: impl Fn(&Open) -> bool) -> Vec<Batch> {
        let wanted: Vec<u64> = self.open.iter().filter(|(_, open)| wanted(open)).map(|(id, _)| *id).collect();
        wanted.into_iter().filter_map(|id| self.close(id)).collect()
    }

    fn close(&mut self, id: u64) -> Option<Batch> {
        let Open { key, members, .. } = self.open.remove(&id)?;
        self.by_key.remove(&key);
        let from = members.first()?.from.clone();
        members.iter().for_each(|member| self.forget(member));
        let work = members.into_iter().map(|member| member.work).collect();
        Some(Batch { from, is_first: true, work })
    }

    /// Takes events out of open batches, where `wanted`.
    pub(crate) fn recall(&mut self, mut wanted: impl FnMut(&Work) -> bool) -> Vec<Work> {
        let mut recalled = Vec::new();
        for open in self.open.values_mut() {
            recalled.extend(open.members.extract_if(.., |member| wanted(&member.work)));
            open.bytes = open.members.iter().map(|member| member.work.event.size()).sum();
        }
        recalled.iter().for_each(|member| self.forget(member));
        let by_key = &mut self.by_key;
        self.open.retain(|_, open| {
            let stays = !open.members.is_empty();
            if !stays {
                by_key.remove(&open.key);
            }
            stays
        });
        recalled.into_iter().map(|member| member.work).collect()
    }

    fn forget(&mut self, Member { from, work }: &Member) {
        let Some(link) = link(from) else { return };
        let Some(held) = self.held.get_mut(&link) else { return };
        held.events -= 1;
        held.bytes -= work.event.size();
        if held.events == 0 {
            self.held.remove(&link);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

fn link(peer: &Peer) -> Option<UpstreamLink> {
    match peer.end {
        End::Producer(link) => Some(link),
        End::Consumer(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use jaiminho_core::{Inputs, Instance};

    use super::*;

    const WIDE: Window = Window { events: 1_000, bytes: 1 << 20 };

    fn peer(link: u64) -> Arc<Peer> {
        let instance = Instance { name: "in-0".into(), incarnation: 1 };
        Arc::new(Peer { name: "in".into(), instance, end: End::Producer(UpstreamLink(link)) })
    }

    /// Events by their first byte; keys by their second.
    fn by_second_byte(batching: Batching) -> Assembly {
        Assembly::new(batching.by(|event| event.payload.get(1).map(|byte| KeyHash(u64::from(*byte)))))
    }

    fn push(assembly: &mut Assembly, link: u64, text: &str, held_max: Window) -> Vec<String> {
        let work = Work { input: Inputs::new().open(()), event: Event::new(text.as_bytes().to_vec()) };
        texts(assembly.push(&peer(link), work, held_max, Instant::now()))
    }

    fn texts(batches: Vec<Batch>) -> Vec<String> {
        let text = |work: &Work| String::from_utf8_lossy(&work.event.payload).into_owned();
        batches.iter().map(|batch| batch.work.iter().map(text).collect::<Vec<_>>().join(" ")).collect()
    }

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn a_batch_is_complete_at_its_events_and_at_its_bytes_each_key_for_itself() {
        let mut assembly = by_second_byte(Batching::new(3, HOUR).bytes(8));
        for text in ["1a", "2b", "3a"] {
            assert!(push(&mut assembly, 1, text, WIDE).is_empty());
        }
        assert_eq!(push(&mut assembly, 1, "4a", WIDE), ["1a 3a 4a"]);
        assert_eq!(push(&mut assembly, 1, "5bxxxxx", WIDE), ["2b"], "it would be too large with this one");
        assert_eq!(push(&mut assembly, 1, "6b", WIDE), ["5bxxxxx"]);
        assert_eq!(push(&mut assembly, 1, "7bxxxx", WIDE), ["6b 7bxxxx"]);
        assert_eq!(push(&mut assembly, 1, "8bxxxxxxxxxx", WIDE), ["8bxxxxxxxxxx"], "too large alone");
        assert!(assembly.is_empty() && assembly.held.is_empty() && assembly.by_key.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn its_time_counts_from_the_first_event_of_each_batch() {
        let mut assembly = by_second_byte(Batching::new(100, Duration::from_secs(2)));
        push(&mut assembly, 1, "1a", WIDE);
        tokio::time::sleep(Duration::from_secs(1)).await;
        push(&mut assembly, 1, "2b", WIDE);
        push(&mut assembly, 1, "3a", WIDE);
        tokio::time::sleep_until(assembly.due().unwrap()).await;
        assert_eq!(texts(assembly.take_due(Instant::now())), ["1a 3a"]);
        tokio::time::sleep_until(assembly.due().unwrap()).await;
        assert_eq!(texts(assembly.take_due(Instant::now())), ["2b"]);
        assert_eq!(assembly.due(), None);
    }

    #[test]
    fn half_of_a_links_window_is_held_at_most_and_the_oldest_batch_goes_first() {
        for half in [Window { events: 4, bytes: 1_000 }, Window { events: 100, bytes: 8 }] {
            let mut assembly = by_second_byte(Batching::new(100, HOUR));
            for (link, text) in [(1, "1a"), (2, "2a"), (1, "3b"), (1, "4c"), (2, "5c")] {
                assert!(push(&mut assembly, link, text, half).is_empty());
            }
            assert_eq!(push(&mut assembly, 1, "6c", half), ["1a 2a"]);
            assert_eq!(push(&mut assembly, 1, "7c", half), ["3b"]);
        }
    }

    /// A vector's room is for four when it is for more than one; a node of a B-tree is at least half full.
    #[test]
    fn what_is_held_takes_no_more_than_it_is_said_to() {
        let (member, entry) =
            (size_of::<Member>(), 2 * size_of::<(u64, Open)>() + 2 * size_of::<(Option<KeyHash>, u64)>());
        for events in [1, 2] {
            let room = if events == 1 { 1 } else { 4 };
            assert!((room * member + entry) as u64 <= events * HELD_BYTES, "{member} {entry}");
        }
    }

    #[test]
    fn what_is_taken_back_is_no_longer_held() {
        let mut assembly = by_second_byte(Batching::new(3, HOUR));
        for text in ["1a", "2b", "3a"] {
            push(&mut assembly, 1, text, WIDE);
        }
        let recalled = assembly.recall(|work| work.event.payload[0] != b'3');
        assert_eq!((recalled.len(), assembly.by_key.len()), (2, 1));
        assert_eq!(assembly.held[&UpstreamLink(1)], Window { events: 1, bytes: 2 });
        assert!(push(&mut assembly, 1, "4a", WIDE).is_empty(), "two of three");
        assert_eq!(texts(assembly.take_of(UpstreamLink(2))), Vec::<String>::new());
        assert_eq!(texts(assembly.take_of(UpstreamLink(1))), ["3a 4a"]);
    }
}
