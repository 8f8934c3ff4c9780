//! A stage's metrics: handles that are looked up once, brought up to date at each tick from what the stage counts anyway.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use jaiminho_core::{Fill, GroupKind, LinkError, LinkId, Reason};
use jaiminho_telemetry::{micros, names};
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::{
    admission::DECISIONS,
    inspection::{ConsumerSeen, Counts, GroupSeen, InputSeen, Load, OutputSeen},
    peers::PeerId,
    upstream::UpstreamLink,
};

/// Names of a stage's states, in the order of [`Load`].
const STATES: [&str; 3] = ["blocked", "limit", "starved"];

/// How often links came about, ended and were refused, by why.
#[derive(Clone, Debug, Default)]
pub(crate) struct LinkCounts {
    pub(crate) ups: u64,
    pub(crate) downs: BTreeMap<&'static str, u64>,
    pub(crate) refusals: BTreeMap<&'static str, u64>,
}

impl LinkCounts {
    pub(crate) fn down(&mut self, reason: &'static str) {
        *self.downs.entry(reason).or_default() += 1;
    }

    pub(crate) fn refused(&mut self, error: &LinkError) {
        *self.refusals.entry(reason(error)).or_default() += 1;
    }
}

/// As metrics name it.
pub(crate) fn reason(error: &LinkError) -> &'static str {
    match error {
        LinkError::Violation(_) => "violation",
        LinkError::Version { .. } => "version",
        LinkError::UnknownOutput(_) => "unknown_output",
        LinkError::WrongPipeline { .. } => "wrong_pipeline",
        LinkError::UnknownGroup(_) => "unknown_group",
        LinkError::Selector(_) => "selector",
        LinkError::Partition(_) => "partition",
        LinkError::Fenced(_) => "fenced",
        LinkError::Replaced => "replaced",
        LinkError::NotAllowed(_) => "not_allowed",
        LinkError::Limit(_) => "limit",
        LinkError::Lagged(_) => "lagged",
        LinkError::Silent(_) => "silent",
        LinkError::Draining => "draining",
        LinkError::Unavailable(_) => "unavailable",
    }
}

/// All of a stage.
#[derive(Debug)]
pub(crate) struct Meters {
    stage: String,
    events_in: Counter,
    bytes_in: Counter,
    settled: [Counter; 2],
    /// None until the stage has decided something: only a source does.
    admission: Vec<Counter>,
    in_work: Gauge,
    oldest: Gauge,
    links: [Gauge; 2],
    time: [Counter; 3],
    state: [Gauge; 3],
    limit: Gauge,
    pub(crate) frame_events: Histogram,
    pub(crate) batch_events: Histogram,
    outputs: Vec<OutputMeters>,
    consumers: BTreeMap<PeerId, ConsumerMeters>,
    producers: BTreeMap<UpstreamLink, ProducerMeters>,
}

impl Meters {
    pub(crate) fn new(stage: &str) -> Self {
        let stage = stage.to_owned();
        let settled = |outcome| counter!(names::SETTLED, "stage" => stage.clone(), "outcome" => outcome);
        Self {
            events_in: counter!(names::EVENTS_IN, "stage" => stage.clone()),
            bytes_in: counter!(names::BYTES_IN, "stage" => stage.clone()),
            settled: ["accepted", "rejected"].map(settled),
            admission: Vec::new(),
            in_work: gauge!(names::INPUTS_IN_WORK, "stage" => stage.clone()),
            oldest: gauge!(names::OLDEST_UNSETTLED, "stage" => stage.clone()),
            links: [names::LINKS_IN, names::LINKS_OUT].map(|name| gauge!(name, "stage" => stage.clone())),
            time: STATES.map(|state| counter!(names::STAGE_TIME, "stage" => stage.clone(), "state" => state)),
            state: STATES.map(|state| gauge!(names::STAGE_STATE, "stage" => stage.clone(), "state" => state)),
            limit: gauge!(names::STAGE_LIMIT, "stage" => stage.clone()),
            frame_events: histogram!(names::FRAME_EVENTS, "stage" => stage.clone()),
            batch_events: histogram!(names::BATCH_EVENTS, "stage" => stage.clone()),
            outputs: Vec::new(),
            consumers: BTreeMap::new(),
            producers: BTreeMap::new(),
            stage,
        }
    }

    /// An offer was taken or refused: one of [`DECISIONS`].
    pub(crate) fn decided(&mut self, decision: &'static str) {
        if self.admission.is_empty() {
            let stage = &self.stage;
            let counter = |decision| counter!(names::ADMISSION, "stage" => stage.clone(), "decision" => decision);
            self.admission = DECISIONS.map(counter).into();
        }
        let of = self.admission.iter().zip(DECISIONS).find(|(_, of)| *of == decision);
        of.iter().for_each(|(counter, _)| counter.increment(1));
    }

    pub(crate) fn counts(&self, counts: &Counts, in_work: u64) {
        let Counts { events_in, bytes_in, accepted, rejected, rejected_here, refused: _ } = *counts;
        self.events_in.absolute(events_in);
        self.bytes_in.absolute(bytes_in);
        let [of_accepted, of_rejected] = &self.settled;
        of_accepted.absolute(accepted);
        of_rejected.absolute(rejected);
        self.in_work.set(in_work as f64);
        for (reason, count) in Reason::ALL.iter().zip(rejected_here).filter(|(_, count)| *count > 0) {
            counter!(names::REJECTED, "stage" => self.stage.clone(), "reason" => reason.name()).absolute(count);
        }
    }

    pub(crate) fn load(&self, Load { blocked, limit, starved, recent }: &Load) {
        for (counter, time) in self.time.iter().zip([blocked, limit, starved]) {
            counter.absolute(micros(*time));
        }
        let most = recent.iter().copied().fold(0.0, f64::max);
        for (gauge, share) in self.state.iter().zip(recent) {
            gauge.set(f64::from(u8::from(most > 0.0 && *share >= most)));
        }
        self.limit.set(recent[1]);
    }

    pub(crate) fn oldest(&self, oldest: Option<Duration>) {
        self.oldest.set(oldest.unwrap_or_default().as_secs_f64());
    }

    /// With consumers, and with producers.
    pub(crate) fn links(&self, open: [usize; 2], counts: [&LinkCounts; 2]) {
        for ((gauge, open), (side, counts)) in
            self.links.iter().zip(open).zip(["consumer", "producer"].iter().zip(counts))
        {
            gauge.set(open as f64);
            let LinkCounts { ups, downs, refusals } = counts;
            counter!(names::LINK_UPS, "stage" => self.stage.clone(), "side" => *side).absolute(*ups);
            for (name, counts) in [(names::LINK_DOWNS, downs), (names::LINK_REFUSALS, refusals)] {
                for (reason, count) in counts {
                    counter!(name, "stage" => self.stage.clone(), "side" => *side, "reason" => *reason)
                        .absolute(*count);
                }
            }
        }
    }

    pub(crate) fn outputs(&mut self, outputs: &[OutputSeen]) {
        for output in outputs.iter().skip(self.outputs.len()) {
            self.outputs.push(OutputMeters::new(&self.stage, output));
        }
        let mut before = std::mem::take(&mut self.consumers);
        for (index, (of_output, output)) in self.outputs.iter_mut().zip(outputs).enumerate() {
            for group in &output.groups {
                for seen in &group.links {
                    let peer = PeerId { output: index, link: seen.link.id };
                    let labels = || labels(&self.stage, &output.name, Some(&group.name), Some(&seen.link.instance));
                    let mut meters = before.remove(&peer).unwrap_or_else(|| ConsumerMeters::new(&labels()));
                    meters.tell(seen);
                    self.consumers.insert(peer, meters);
                }
            }
            of_output.tell(&self.stage, output, |link| {
                let meters = self.consumers.get_mut(&PeerId { output: index, link });
                meters.map_or(0, |meters| std::mem::take(&mut meters.settled))
            });
        }
    }

    /// A consumer has settled so many deliveries.
    pub(crate) fn settled(&mut self, peer: PeerId, count: u64) {
        if let Some(meters) = self.consumers.get_mut(&peer) {
            meters.settled += count;
        }
    }

    pub(crate) fn inputs(&mut self, inputs: &[(UpstreamLink, InputSeen)]) {
        let mut before = std::mem::take(&mut self.producers);
        for (link, seen) in inputs {
            let labels = || labels(&self.stage, &seen.output, None, Some(&seen.producer));
            let mut meters = before.remove(link).unwrap_or_else(|| ProducerMeters::new(&labels()));
            meters.tell(seen);
            self.producers.insert(*link, meters);
        }
    }
}

type Labels = Vec<(&'static str, String)>;

fn labels(stage: &str, output: &str, group: Option<&str>, peer: Option<&str>) -> Labels {
    let labels = [("stage", Some(stage)), ("output", Some(output)), ("group", group), ("peer", peer)];
    labels.into_iter().filter_map(|(name, value)| Some((name, value?.to_owned()))).collect()
}

/// Of one output.
#[derive(Debug)]
struct OutputMeters {
    fill: [Gauge; 4],
    oldest: Gauge,
    dropped: Counter,
    tap_missed: Counter,
    groups: HashMap<(GroupKind, String), GroupMeters>,
}

impl OutputMeters {
    fn new(stage: &str, output: &OutputSeen) -> Self {
        let labels = [("stage", stage.to_owned()), ("output", output.name.clone())];
        let fill = [names::LOG_EVENTS, names::LOG_BYTES, names::LOG_CAPACITY_EVENTS, names::LOG_CAPACITY_BYTES];
        Self {
            fill: fill.map(|name| gauge!(name, &labels)),
            oldest: gauge!(names::LOG_OLDEST, &labels),
            dropped: counter!(names::DROPPED, &labels),
            tap_missed: counter!(names::TAP_MISSED, &labels),
            groups: HashMap::new(),
        }
    }

    /// `settled`: what a link's consumer has settled since it was asked last.
    fn tell(&mut self, stage: &str, output: &OutputSeen, mut settled: impl FnMut(LinkId) -> u64) {
        let Fill { events, bytes, capacity_events, capacity_bytes, span_used: _, span: _ } = output.fill;
        for (gauge, value) in self.fill.iter().zip([events, bytes, capacity_events, capacity_bytes]) {
            gauge.set(value as f64);
        }
        self.oldest.set(output.oldest.unwrap_or_default().as_secs_f64());
        self.dropped.absolute(output.dropped);
        self.tap_missed.absolute(output.tap_missed);
        let is_there = |(kind, name): &(GroupKind, String)| {
            output.groups.iter().any(|group| (group.kind, &group.name) == (*kind, name))
        };
        self.groups.retain(|of, _| is_there(of));
        for group in &output.groups {
            let labels = || labels(stage, &output.name, Some(&group.name), None);
            let settled = group.links.iter().map(|seen| settled(seen.link.id)).sum();
            let meters = self.groups.entry((group.kind, group.name.clone()));
            meters.or_insert_with(|| GroupMeters::new(&labels())).tell(group, settled);
        }
    }
}

/// Of one group.
#[derive(Debug)]
struct GroupMeters {
    counters: Shared<4>,
    /// Deliveries that its members have settled.
    settled: u64,
    members: Gauge,
    waiting: Gauge,
}

impl GroupMeters {
    fn new(labels: &Labels) -> Self {
        let counters = [names::DELIVERIES, names::DELIVERED_BYTES, names::REDELIVERIES, names::RELEASED];
        Self {
            counters: Shared::new(counters, labels),
            settled: 0,
            members: gauge!(names::GROUP_MEMBERS, labels),
            waiting: gauge!(names::GROUP_WAITING, labels),
        }
    }

    fn tell(&mut self, group: &GroupSeen, settled: u64) {
        self.settled += settled;
        let GroupSeen { deliveries, bytes, redeliveries, .. } = *group;
        let on_link = |ConsumerSeen { link, .. }: &ConsumerSeen| {
            link.assigned.events.saturating_sub(link.sent.events) + link.unsettled
        };
        let kept = self.settled + group.links.iter().map(on_link).sum::<u64>();
        self.counters.tell([deliveries, bytes, redeliveries, deliveries.saturating_sub(kept)]);
        self.members.set(group.links.iter().filter(|seen| !seen.link.is_cancelled).count() as f64);
        self.waiting.set(group.waiting as f64);
    }
}

/// Counters that two links of the same instance, or two groups of the same name, may share: each adds what is new of its own.
#[derive(Debug)]
struct Shared<const N: usize>([(Counter, u64); N]);

impl<const N: usize> Shared<N> {
    fn new(names: [&'static str; N], labels: &Labels) -> Self {
        Self(names.map(|name| (counter!(name, labels), 0)))
    }

    fn tell(&mut self, counts: [u64; N]) {
        for ((counter, told), count) in self.0.iter_mut().zip(counts) {
            counter.increment(count.saturating_sub(*told));
            *told = count;
        }
    }
}

/// Of one link to a consumer.
#[derive(Debug)]
struct ConsumerMeters {
    /// Deliveries that it has settled, and its group has not counted yet.
    settled: u64,
    counters: Shared<6>,
    gauges: [Gauge; 4],
}

impl ConsumerMeters {
    fn new(labels: &Labels) -> Self {
        let counters = [
            names::LINK_SENT_EVENTS,
            names::LINK_SENT_BYTES,
            names::LINK_GRANTED_EVENTS,
            names::LINK_GRANTED_BYTES,
            names::LINK_NO_CREDIT,
            names::LINK_NO_EVENTS,
        ];
        let gauges = [names::LINK_UNUSED_EVENTS, names::LINK_UNUSED_BYTES, names::LINK_UNSETTLED, names::LINK_WINDOW];
        Self { settled: 0, counters: Shared::new(counters, labels), gauges: gauges.map(|name| gauge!(name, labels)) }
    }

    fn tell(&mut self, ConsumerSeen { link, no_credit, no_events }: &ConsumerSeen) {
        let (sent, granted, assigned) = (link.sent, link.granted, link.assigned);
        let times = [micros(*no_credit), micros(*no_events)];
        self.counters.tell([sent.events, sent.bytes, granted.events, granted.bytes, times[0], times[1]]);
        let unused = [granted.events.saturating_sub(assigned.events), granted.bytes.saturating_sub(assigned.bytes)];
        for (gauge, value) in self.gauges.iter().zip([unused[0], unused[1], link.unsettled, link.window.events]) {
            gauge.set(value as f64);
        }
    }
}

/// Of one link to a producer.
#[derive(Debug)]
struct ProducerMeters {
    counters: Shared<3>,
    held: Gauge,
}

impl ProducerMeters {
    fn new(labels: &Labels) -> Self {
        let counters = [names::LINK_RECEIVED_EVENTS, names::LINK_RECEIVED_BYTES, names::LINK_GIVEN_EVENTS];
        Self { counters: Shared::new(counters, labels), held: gauge!(names::LINK_HELD_EVENTS, labels) }
    }

    fn tell(&mut self, seen: &InputSeen) {
        self.counters.tell([seen.received.events, seen.received.bytes, seen.granted.events]);
        self.held.set(seen.received.events.saturating_sub(seen.processed.events) as f64);
    }
}
