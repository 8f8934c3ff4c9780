//! Which traces are recorded: decided once, where an event comes in.

use super::context::TraceContext;

/// By a trace's id, and by whoever began it: OpenTelemetry's `traceidratio`, alone or `parentbased`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// 0 to 1: of all traces that begin here, the share that is recorded.
    pub ratio: f64,
    /// A trace that comes from outside is recorded exactly where its sender records it.
    pub follows_parent: bool,
}

impl Sampler {
    /// All traces that begin here.
    pub const ALWAYS: Self = Self { ratio: 1.0, follows_parent: true };

    /// The context of a new span, below `parent` or the first of its trace; none where the trace is not recorded.
    pub fn start(&self, parent: Option<&TraceContext>) -> Option<TraceContext> {
        let context = parent.map_or_else(TraceContext::root, TraceContext::child);
        let is_sampled = match parent {
            Some(parent) if self.follows_parent => parent.is_sampled(),
            Some(_) | None => self.takes(&context),
        };
        is_sampled.then(|| context.sampled())
    }

    /// As every OpenTelemetry SDK decides for the same ratio: the last eight bytes of the id, as a number of 63 bits.
    fn takes(&self, context: &TraceContext) -> bool {
        let [.., a, b, c, d, e, f, g, h] = context.trace;
        let number = u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1;
        // What is over 1 saturates; NaN is 0.
        self.ratio >= 1.0 || number < (self.ratio * (1_u64 << 63) as f64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ratio(ratio: f64) -> Sampler {
        Sampler { ratio, follows_parent: true }
    }

    #[test]
    fn a_sender_decides_for_its_own_traces() {
        let parent = TraceContext::root();
        let child = ratio(0.0).start(Some(&parent)).unwrap();
        assert!(child.trace == parent.trace && child.span != parent.span && child.is_sampled());
        let unsampled = TraceContext { flags: 0, ..parent };
        assert_eq!(ratio(1.0).start(Some(&unsampled)), None);
        assert!(Sampler { ratio: 1.0, follows_parent: false }.start(Some(&unsampled)).unwrap().is_sampled());
    }

    #[test]
    fn a_ratio_takes_that_share_and_the_same_traces_each_time() {
        let traces: Vec<TraceContext> = (0..20_000).map(|_| TraceContext::root()).collect();
        let taken = |share: f64| traces.iter().filter(|trace| ratio(share).takes(trace)).count();
        assert_eq!((taken(0.0), taken(1.0)), (0, 20_000));
        assert!((4_600..5_400).contains(&taken(0.25)), "{}", taken(0.25));
        assert!(traces.iter().all(|trace| !ratio(0.1).takes(trace) || ratio(0.2).takes(trace)));
        let of = |low: u64| {
            let mut context = TraceContext::root();
            context.trace[8..].copy_from_slice(&low.to_be_bytes());
            ratio(0.5).takes(&context)
        };
        assert_eq!([of(0), of((1 << 63) - 1), of(1 << 63), of(u64::MAX)], [true, true, false, false]);
    }
}
