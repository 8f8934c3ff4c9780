//! Durations of many events, counted in fixed buckets: memory and cost do not grow with what is measured.

pub use jaiminho_telemetry::LATENCY_BOUNDS_MS;
use metrics::Histogram;

/// Durations since the stage's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LatencySeen {
    /// How many were at most each of [`LATENCY_BOUNDS_MS`] and above the one before; the last: above all.
    pub counts: [u64; LATENCY_BOUNDS_MS.len() + 1],
    /// Of all.
    pub sum_ms: u64,
}

impl LatencySeen {
    fn record(&mut self, ms: u64, count: u64) {
        if let Some(bucket) = self.counts.get_mut(LATENCY_BOUNDS_MS.partition_point(|&bound| bound < ms)) {
            *bucket += count;
        }
        self.sum_ms = self.sum_ms.saturating_add(ms.saturating_mul(count));
    }
}

/// Durations, to be shown and to be exported. Equal ones in a row are counted at once.
#[derive(Debug)]
pub(crate) struct Latency {
    seen: LatencySeen,
    run: (u64, u64),
    exported: Histogram,
}

impl Latency {
    pub(crate) fn new(exported: Histogram) -> Self {
        Self { seen: LatencySeen::default(), run: (0, 0), exported }
    }

    pub(crate) fn record(&mut self, ms: u64) {
        if self.run.0 != ms {
            self.flush();
            self.run.0 = ms;
        }
        self.run.1 += 1;
    }

    pub(crate) fn flush(&mut self) {
        let (ms, count) = std::mem::take(&mut self.run);
        if count > 0 {
            self.seen.record(ms, count);
            self.exported.record_many(ms as f64 / 1_000.0, usize::try_from(count).unwrap_or(usize::MAX));
        }
    }

    pub(crate) fn seen(&mut self) -> LatencySeen {
        self.flush();
        self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_durations_in_a_row_are_all_counted_in_their_bucket() {
        let mut latency = Latency::new(Histogram::noop());
        for ms in [0, 1, 2, 2, 2, 70_000, 3] {
            latency.record(ms);
        }
        let LatencySeen { counts, sum_ms } = latency.seen();
        assert_eq!((counts[0], counts[1], counts[2], counts[15]), (2, 3, 1, 1));
        assert_eq!((counts.iter().sum::<u64>(), sum_ms), (7, 70_010));
    }
}
