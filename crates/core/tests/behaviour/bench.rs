//! An output and its peers, in few words.

use jaiminho_core::{
    Credit, Delivery, Dispatch, Disposition, Event, GroupKind, InputId, Instance, KeyHash, LinkError, LinkId, Offset,
    Origin, Outcome, Output, OutputConfig, Reason, Rejection, RequiredGroup, Settled, Settlement, Signal, Subscribe,
    Time, Versions, Window,
};

pub(crate) const HANDOVER_MS: u64 = 10_000;
pub(crate) const TTL_MS: u64 = 30_000;

pub(crate) fn config(groups: &[&str]) -> OutputConfig {
    let required = |name: &&str| RequiredGroup { name: (*name).into(), dispatch: Dispatch::Keyed };
    OutputConfig {
        capacity_events: 100,
        capacity_bytes: 10_000,
        span: 1_600,
        links_max: 8,
        handover_ms: HANDOVER_MS,
        attached_ttl_ms: TTL_MS,
        groups: groups.iter().map(required).collect(),
        ..OutputConfig::default()
    }
}

pub(crate) fn event(key: Option<u64>, size: usize) -> Event {
    let payload = vec![7; size].into();
    let origin = Origin::default();
    Event { payload, key: key.map(KeyHash), attempt: 1, arrived_ms: 0, deadline_ms: None, origin, trace: None }
}

pub(crate) fn subscribe(group: &str, kind: GroupKind, name: &str) -> Subscribe {
    Subscribe {
        versions: Versions { min: 1, max: 1 },
        pipeline: "eugenio".into(),
        output: "ingest".into(),
        group: group.into(),
        kind,
        instance: Instance { name: name.into(), incarnation: 1 },
        link_counter: 1,
        window: Window { events: 10, bytes: 1_000 },
        event_bytes_max: 1_000,
        frame_bytes_max: 1 << 20,
        selector: None,
        partition: None,
    }
}

pub(crate) struct Bench {
    pub(crate) output: Output,
    pub(crate) now: Time,
    pushed: u64,
}

impl Bench {
    pub(crate) fn new(groups: &[&str]) -> Self {
        Self::with(config(groups))
    }

    pub(crate) fn with(config: OutputConfig) -> Self {
        Self { output: Output::new(config), now: Time(1_000), pushed: 0 }
    }

    /// Pushes an event of 10 bytes; its input has the number of its offset.
    pub(crate) fn push(&mut self, key: Option<u64>) -> Offset {
        self.push_sized(key, 10)
    }

    /// The event's origin is its offset.
    pub(crate) fn push_sized(&mut self, key: Option<u64>, size: usize) -> Offset {
        let mut event = event(key, size);
        event.origin.offset = self.pushed;
        self.pushed += 1;
        self.output.push(self.now, InputId(self.pushed - 1), event)
    }

    pub(crate) fn push_many(&mut self, key: Option<u64>, count: usize) {
        for _ in 0..count {
            self.push(key);
        }
    }

    /// A member of a required group, without credit.
    pub(crate) fn join(&mut self, group: &str, name: &str) -> LinkId {
        self.subscribe(&subscribe(group, GroupKind::Required, name)).unwrap()
    }

    /// The same, with its window granted.
    pub(crate) fn member(&mut self, group: &str, name: &str) -> LinkId {
        let link = self.join(group, name);
        let Window { events, bytes } = self.output.window(link).unwrap();
        self.grant(link, events, bytes);
        link
    }

    pub(crate) fn subscribe(&mut self, subscribe: &Subscribe) -> Result<LinkId, LinkError> {
        self.output.subscribe(self.now, subscribe)
    }

    pub(crate) fn grant(&mut self, link: LinkId, events: u64, bytes: u64) {
        self.output.credit(link, Credit { events, bytes }).unwrap();
    }

    /// Dispatches, and takes what there is for a link: number, offset, attempt of each.
    pub(crate) fn take(&mut self, link: LinkId) -> Vec<(u64, u64, u32)> {
        while self.output.dispatch(self.now) {}
        self.output.check(true).unwrap();
        let frames = std::iter::from_fn(|| self.output.next_frame(link, 50));
        let what = |delivery: Delivery| (delivery.number, delivery.event.origin.offset, delivery.event.attempt);
        frames.flatten().map(what).collect()
    }

    /// Offsets alone.
    pub(crate) fn offsets(&mut self, link: LinkId) -> Vec<u64> {
        self.take(link).into_iter().map(|(_, offset, _)| offset).collect()
    }

    pub(crate) fn dispose(&mut self, link: LinkId, first: u64, last: u64, state: Settled) -> Result<(), LinkError> {
        let disposed = self.output.dispose(link, &Disposition { first, last, state });
        self.output.check(false).unwrap();
        disposed
    }

    pub(crate) fn accept(&mut self, link: LinkId, first: u64, last: u64) {
        self.dispose(link, first, last, Settled::Outcome(Outcome::Accepted)).unwrap();
    }

    pub(crate) fn release(&mut self, link: LinkId, first: u64, last: u64) -> Result<(), LinkError> {
        self.dispose(link, first, last, Settled::Released)
    }

    pub(crate) fn close(&mut self, link: LinkId) {
        self.output.close(self.now, link);
        self.output.check(false).unwrap();
    }

    pub(crate) fn wait(&mut self, ms: u64) -> Option<Time> {
        self.now = self.now.after(ms);
        let next = self.output.tick(self.now);
        self.output.check(false).unwrap();
        next
    }

    pub(crate) fn signals(&mut self) -> Vec<(LinkId, Signal)> {
        std::iter::from_fn(|| self.output.poll_signal()).collect()
    }

    pub(crate) fn settled(&mut self) -> Vec<Settlement> {
        std::iter::from_fn(|| self.output.poll_settled()).collect()
    }

    /// Offsets of what was reported.
    pub(crate) fn settled_offsets(&mut self) -> Vec<u64> {
        self.settled().into_iter().map(|settlement| settlement.offset.0).collect()
    }

    pub(crate) fn undispatched(&self) -> u64 {
        self.output.waiting().groups[0].undispatched
    }
}

pub(crate) fn rejected(stored: bool) -> Outcome {
    Outcome::Rejected(Box::new(Rejection { reason: Reason::Invalid, text: "no".into(), stored }))
}

/// Keys whose partitions all belong to `owner` once `owner` and `other` are members, or all to `other`.
pub(crate) fn keys_of(owner: &str, other: &str, count: usize) -> Vec<u64> {
    let mut bench = Bench::new(&["probe"]);
    let (owner, other) = (bench.join("probe", owner), bench.join("probe", other));
    let mut keys = Vec::new();
    for key in 1.. {
        bench.push(Some(key));
        let sent = bench.output.last_sent(owner) + bench.output.last_sent(other);
        bench.output.credit(owner, Credit { events: sent + 1, bytes: 1_000 }).unwrap();
        if !bench.offsets(owner).is_empty() {
            keys.push(key);
            let number = bench.output.last_sent(owner);
            bench.accept(owner, number, number);
        }
        if keys.len() == count {
            break;
        }
    }
    keys
}
