//! What is kept of an instance from one look to the next: counters, so that their differences give rates.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use jaiminho_link::ProcessSeen;
use jaiminho_runtime::{Counts, Inspection, LATENCY_BOUNDS_MS, LatencySeen};

/// Shares and percentiles are over so much time.
const SPAN: Duration = Duration::from_secs(10);
/// Rates are over so much time at least.
const RATE_SPAN_MIN: Duration = Duration::from_millis(900);
/// Between two looks that are kept.
const APART: Duration = Duration::from_secs(2);

/// One instance of a stage, as it was seen last.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Where it was asked.
    pub(crate) address: String,
    pub(crate) process: ProcessSeen,
    pub(crate) clock: Clock,
    pub(crate) now: Inspection,
    /// When that was.
    at: Instant,
    marks: Marks,
    /// Earlier ones of the same incarnation, oldest first: those of the last ten seconds, and one from before.
    before: VecDeque<Marks>,
    /// Its own time at the first look since which it has settled nothing.
    settled_before: Duration,
}

/// The clock of an instance, as one answer tells.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock {
    /// Minus the viewer's, if the answer took as long as the question.
    pub(crate) ahead_ms: i64,
    /// So far from the truth that may be, either way.
    pub(crate) within_ms: u64,
}

impl Clock {
    /// `told` while the viewer's clock went from `asked` to `answered`.
    pub(crate) fn told(told: u64, asked: u64, answered: u64) -> Self {
        let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        Self {
            ahead_ms: signed(told).saturating_sub(signed(asked.midpoint(answered))),
            within_ms: answered.abs_diff(asked).div_ceil(2),
        }
    }
}

/// The counters of an instance at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks {
    up: Duration,
    /// Processor time of its process.
    cpu: Duration,
    pub(crate) counts: Counts,
    pub(crate) settle: LatencySeen,
    pub(crate) end_to_end: LatencySeen,
    /// By output and group.
    pub(crate) groups: BTreeMap<(String, String), Sent>,
    /// By output and link.
    pub(crate) links: BTreeMap<(String, u64), Sent>,
}

/// What was sent, and what was lacked.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sent {
    pub(crate) events: u64,
    pub(crate) bytes: u64,
    pub(crate) repeated: u64,
    pub(crate) no_credit: Duration,
    pub(crate) no_events: Duration,
}

/// Two moments of one instance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Between<'a> {
    pub(crate) before: &'a Marks,
    pub(crate) now: &'a Marks,
}

impl Between<'_> {
    /// A second's, of what grew so much meanwhile.
    pub(crate) fn rate(&self, count: impl Fn(&Marks) -> u64) -> f64 {
        let seconds = self.now.up.saturating_sub(self.before.up).as_secs_f64();
        count(self.now).saturating_sub(count(self.before)) as f64 / seconds
    }

    /// So many processors its process had in use.
    pub(crate) fn cpu(&self) -> f64 {
        self.rate(|marks| u64::try_from(marks.cpu.as_micros()).unwrap_or(u64::MAX)) / 1e6
    }
}

impl Marks {
    fn of(seen: &Inspection, cpu: Duration) -> Self {
        let (mut groups, mut links) = (BTreeMap::new(), BTreeMap::new());
        for output in &seen.outputs {
            for group in &output.groups {
                let sent = Sent {
                    events: group.deliveries,
                    bytes: group.bytes,
                    repeated: group.redeliveries,
                    ..Sent::default()
                };
                groups.insert((output.name.clone(), group.name.clone()), sent);
                links.extend(group.links.iter().map(|seen| {
                    let sent = Sent {
                        events: seen.link.sent.events,
                        bytes: seen.link.sent.bytes,
                        repeated: 0,
                        no_credit: seen.no_credit,
                        no_events: seen.no_events,
                    };
                    ((output.name.clone(), seen.link.id.0), sent)
                }));
            }
        }
        let Inspection { up, counts, settle, end_to_end, .. } = *seen;
        Self { up, cpu, counts, settle, end_to_end, groups, links }
    }

    /// Sent to all groups.
    pub(crate) fn sent(&self) -> Sent {
        self.groups.values().fold(Sent::default(), |all, sent| Sent {
            events: all.events.saturating_add(sent.events),
            bytes: all.bytes.saturating_add(sent.bytes),
            repeated: all.repeated.saturating_add(sent.repeated),
            ..all
        })
    }

    fn settled(&self) -> u64 {
        self.counts.accepted.saturating_add(self.counts.rejected)
    }

    pub(crate) fn link(&self, output: &str, id: u64) -> Option<&Sent> {
        self.links.get(&(output.to_owned(), id))
    }

    pub(crate) fn group(&self, output: &str, group: &str) -> Option<&Sent> {
        self.groups.get(&(output.to_owned(), group.to_owned()))
    }
}

impl Seen {
    pub(crate) fn new(address: String, process: ProcessSeen, clock: Clock, now: Inspection) -> Self {
        let (marks, settled_before) = (Marks::of(&now, process.cpu), now.up);
        Self { address, process, clock, now, at: Instant::now(), marks, before: VecDeque::new(), settled_before }
    }

    /// After an earlier look at what may be the same process.
    #[must_use]
    pub(crate) fn after(mut self, earlier: Self) -> Self {
        let is_same = earlier.now.instance == self.now.instance && earlier.marks.up <= self.marks.up;
        if !is_same {
            return self;
        }
        if earlier.marks.settled() == self.marks.settled() {
            self.settled_before = earlier.settled_before;
        }
        self.before = earlier.before;
        let is_apart = |last: &Marks| earlier.marks.up.saturating_sub(last.up) >= APART;
        if self.before.back().is_none_or(is_apart) {
            self.before.push_back(earlier.marks);
        }
        let up = self.marks.up;
        // The second one is long enough ago by itself.
        while self.before.get(1).is_some_and(|second| up.saturating_sub(second.up) >= SPAN) {
            self.before.pop_front();
        }
        self
    }

    /// For how long it has settled nothing, as far as it was looked at.
    pub(crate) fn quiet(&self) -> Duration {
        self.now.up.saturating_sub(self.settled_before)
    }

    /// Once it was not seen for so long, its counters tell nothing of the last seconds any more.
    pub(crate) fn is_recent(&self) -> bool {
        self.at.elapsed() < SPAN
    }

    pub(crate) fn marks(&self) -> &Marks {
        &self.marks
    }

    /// The last second, or a little more; none until there are two looks.
    pub(crate) fn recently(&self) -> Option<Between<'_>> {
        let is_before = |marks: &&Marks| self.marks.up.saturating_sub(marks.up) >= RATE_SPAN_MIN;
        let before = self.before.iter().rev().find(is_before)?;
        Some(Between { before, now: &self.marks })
    }

    /// The last ten seconds, or what was seen of them.
    pub(crate) fn lately(&self) -> Option<Between<'_>> {
        let before = self.before.front().filter(|before| before.up < self.marks.up)?;
        Some(Between { before, now: &self.marks })
    }
}

/// What came between two moments.
pub(crate) fn since(now: &LatencySeen, before: &LatencySeen) -> LatencySeen {
    LatencySeen {
        counts: std::array::from_fn(|bucket| now.counts[bucket].saturating_sub(before.counts[bucket])),
        sum_ms: now.sum_ms.saturating_sub(before.sum_ms),
    }
}

/// The place of a share of all durations within its bucket, in ms; none without durations. What is above the last bound is told
/// as that.
pub(crate) fn percentile(latency: &LatencySeen, share: f64) -> Option<f64> {
    let all: f64 = latency.counts.iter().map(|count| *count as f64).sum();
    let wanted = share * all;
    let mut below = 0.0;
    for (bucket, count) in latency.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let (from, to) = (bucket.checked_sub(1).map_or(0, |below| LATENCY_BOUNDS_MS[below]), bucket);
        let Some(to) = LATENCY_BOUNDS_MS.get(to) else { return Some(from as f64) };
        if below + *count as f64 >= wanted {
            let within = (wanted - below) / *count as f64;
            return Some(from as f64 + within * to.saturating_sub(from) as f64);
        }
        below += *count as f64;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made::inspection;

    fn look(up_ms: u64, incarnation: u64, events_in: u64) -> Seen {
        let mut now = inspection("convert", "c-0");
        (now.up, now.counts.events_in) = (Duration::from_millis(up_ms), events_in);
        now.instance.incarnation = incarnation;
        Seen::new("a:1".into(), ProcessSeen::default(), Clock::default(), now)
    }

    fn rate(seen: &Seen) -> Option<f64> {
        seen.recently().map(|between| between.rate(|marks| marks.counts.events_in))
    }

    #[test]
    fn a_rate_is_over_the_instances_own_time_between_two_looks() {
        let first = look(5_000, 1, 100);
        assert_eq!(rate(&first), None);
        let second = look(6_000, 1, 150).after(first);
        assert_eq!(rate(&second), Some(50.0));
        let same = look(6_000, 1, 150).after(second);
        assert_eq!(rate(&same), Some(50.0), "the same answer once more says the same");
    }

    #[test]
    fn a_clock_is_told_as_far_as_the_way_there_and_back_lets_it() {
        let Clock { ahead_ms, within_ms } = Clock::told(5_000, 1_000, 2_001);
        assert_eq!((ahead_ms, within_ms), (3_500, 501));
        let Clock { ahead_ms, within_ms } = Clock::told(u64::MAX, 9, 7);
        assert_eq!((ahead_ms, within_ms), (i64::MAX - 8, 1), "the viewer's was set back meanwhile");
    }

    #[test]
    fn a_restart_starts_anew() {
        let second = look(6_000, 1, 150).after(look(5_000, 1, 100));
        let restarted = look(1_000, 2, 10).after(second);
        assert_eq!(rate(&restarted), None);
        assert_eq!(rate(&look(2_000, 2, 40).after(restarted)), Some(30.0));
    }

    #[test]
    fn what_settles_now_and_then_is_quiet_since_its_last_time_alone() {
        let look = |up_ms: u64, accepted: u64| {
            let mut seen = look(up_ms, 1, 0);
            seen.marks.counts.accepted = accepted;
            seen
        };
        let mut seen = look(100_000, 5);
        assert_eq!(seen.quiet(), Duration::ZERO, "it may have settled something just before");
        for second in 1..=60 {
            let accepted = if second < 20 { 5 } else { 6 };
            seen = look(100_000 + 1_000 * second, accepted).after(seen);
            let expected = if second < 20 { second } else { second - 20 };
            assert_eq!(seen.quiet(), Duration::from_secs(expected));
        }
    }

    #[test]
    fn what_is_kept_reaches_ten_seconds_back_and_no_further() {
        let mut seen = look(0, 1, 0);
        for second in 1..=60 {
            seen = look(1_000 * second, 1, 10 * second).after(seen);
            assert!(seen.before.len() <= 7, "{}", seen.before.len());
        }
        let span = seen.marks.up - seen.lately().unwrap().before.up;
        assert!((10..=12).contains(&span.as_secs()), "{span:?}");
        assert_eq!(rate(&seen), Some(10.0));
    }

    #[test]
    fn a_percentile_is_the_place_within_its_bucket() {
        let mut latency = LatencySeen::default();
        assert_eq!(percentile(&latency, 0.5), None);
        latency.counts[3] = 50;
        latency.counts[4] = 50;
        assert_eq!(percentile(&latency, 0.5), Some(10.0));
        assert_eq!(percentile(&latency, 0.25), Some(7.5));
        assert_eq!(percentile(&latency, 0.99), Some(24.7));
        latency.counts[15] = 100;
        assert_eq!(percentile(&latency, 0.99), Some(60_000.0));
    }
}
