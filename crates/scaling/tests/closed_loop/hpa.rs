//! Kubernetes' HorizontalPodAutoscaler with its defaults: fed by KEDA, with metric type AverageValue and target 1, or on CPU.
//!
//! As in Kubernetes' `pkg/controller/podautoscaler` (replica_calculator.go, horizontal.go): no change within the tolerance; the most
//! of the last five minutes where it would go down; at most twice as many, or four more, within a quarter of a minute. Of CPU, pods
//! that are not ready use nothing where it would go up, and are left out where it would go down.

use std::collections::VecDeque;

pub(crate) const SYNC_S: f64 = 15.0;
const TOLERANCE: f64 = 0.1;
const DOWN_WINDOW_S: f64 = 300.0;
const UP_PERIOD_S: f64 = 15.0;
const UP_PODS: u32 = 4;
/// The chart's `targetCPUUtilizationPercentage`.
pub(crate) const CPU_TARGET: f64 = 0.8;

#[derive(Debug)]
pub(crate) struct Hpa {
    pub(crate) least: u32,
    pub(crate) most: u32,
    /// When, and how many were recommended.
    recommended: VecDeque<(f64, u32)>,
    /// When, and how many were added.
    added: VecDeque<(f64, u32)>,
}

impl Hpa {
    pub(crate) fn new(least: u32, most: u32) -> Self {
        Self { least, most, recommended: VecDeque::new(), added: VecDeque::new() }
    }

    /// One sync: how many there should be. `total` is what the scaler says; none: it says that it can't.
    pub(crate) fn sync(&mut self, now: f64, total: Option<f64>, current: u32) -> u32 {
        let Some(total) = total else { return current };
        let is_near = is_near(total / f64::from(current.max(1)));
        self.follow(now, if is_near { current } else { total.ceil() as u32 }, current)
    }

    /// The same on CPU: `usage` is the mean of what `ready` of the pods use, of what they request.
    pub(crate) fn sync_cpu(&mut self, now: f64, usage: f64, ready: u32, current: u32) -> u32 {
        let ratio = usage / CPU_TARGET;
        let counted = if ratio > 1.0 { current } else { ready };
        let ratio = if counted > 0 { ratio * f64::from(ready) / f64::from(counted) } else { 1.0 };
        let turned = counted > ready && ratio < 1.0;
        let raw = if is_near(ratio) || turned { current } else { (ratio * f64::from(counted)).ceil() as u32 };
        self.follow(now, raw, current)
    }

    /// Does what is recommended, as fast as it may.
    fn follow(&mut self, now: f64, raw: u32, current: u32) -> u32 {
        self.recommended.push_back((now, raw));
        self.recommended.retain(|(at, _)| now - at <= DOWN_WINDOW_S);
        let highest = self.recommended.iter().map(|(_, count)| *count).max().unwrap_or(raw);
        let stable = if raw < current { highest.min(current) } else { raw };
        self.added.retain(|(at, _)| now - at < UP_PERIOD_S);
        let start = current - self.added.iter().map(|(_, count)| count).sum::<u32>().min(current);
        let wanted = stable.min((2 * start).max(start + UP_PODS)).clamp(self.least, self.most);
        if wanted > current {
            self.added.push_back((now, wanted - current));
        }
        wanted
    }
}

fn is_near(ratio: f64) -> bool {
    (ratio - 1.0).abs() <= TOLERANCE
}

#[test]
fn the_model_keeps_to_kubernetes_rules() {
    let mut hpa = Hpa::new(1, 100);
    assert_eq!(hpa.sync(0.0, Some(21.0), 20), 20, "within the tolerance");
    assert_eq!(hpa.sync(15.0, Some(23.0), 20), 23);
    assert_eq!(hpa.sync(30.0, Some(90.0), 23), 46, "not more than twice as many at once");
    let mut hpa = Hpa::new(1, 100);
    assert_eq!(hpa.sync(0.0, Some(9.0), 1), 5, "or four more");
    assert_eq!(hpa.sync(15.0, Some(5.0), 5), 5);
    for sync in 2..=20 {
        assert_eq!(hpa.sync(15.0 * f64::from(sync), Some(1.0), 5), 5, "{sync}");
    }
    assert_eq!(hpa.sync(320.0, Some(1.0), 5), 1, "once five minutes have said so");
    assert_eq!(hpa.sync(335.0, None, 3), 3, "no metric, no change");
}

#[test]
fn on_cpu_it_goes_by_usage_and_counts_pods_that_start_where_it_goes_up() {
    let sync = |usage, ready, current| Hpa::new(1, 100).sync_cpu(0.0, usage, ready, current);
    assert_eq!(sync(0.87, 10, 10), 10, "within the tolerance");
    assert_eq!(sync(1.0, 4, 4), 5, "4 × 1.0 / 0.8");
    assert_eq!(sync(1.0, 4, 6), 6, "with those that start it would be fewer");
    assert_eq!(sync(1.6, 4, 5), 8, "four ready ones make eight");
    assert_eq!(sync(0.2, 4, 4), 1);
    assert_eq!(sync(0.0, 0, 2), 2, "of none nothing is known");
}
