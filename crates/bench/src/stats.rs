//! From the results of alternating runs to figures with their spread and goals.

use serde::Serialize;

/// The middle of some results, with the least and the most of them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Of an even number of results: between the middle two.
    pub median: f64,
    pub min: f64,
    pub max: f64,
    /// How many results there are.
    pub runs: usize,
}

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

/// One line of a report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// What was measured, stable for programs.
    pub name: &'static str,
    /// The same for people.
    pub what: String,
    pub unit: &'static str,
    #[serde(flatten)]
    pub spread: Spread,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goal: Option<Goal>,
    /// Whether the median reaches the goal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub met: Option<bool>,
}

impl Spread {
    /// None of nothing.
    pub fn of(results: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = results.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) };
        Some(Self { median, min, max, runs: sorted.len() })
    }
}

impl Goal {
    /// Whether `value` reaches it.
    pub fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

impl Figure {
    /// None without results.
    pub fn of(
        name: &'static str,
        what: impl Into<String>,
        unit: &'static str,
        results: impl IntoIterator<Item = f64>,
    ) -> Option<Self> {
        Some(Self { name, what: what.into(), unit, spread: Spread::of(results)?, goal: None, met: None })
    }

    /// The same with a goal.
    #[must_use]
    pub fn with_goal(self, goal: Goal) -> Self {
        Self { goal: Some(goal), met: Some(goal.is_met(self.spread.median)), ..self }
    }
}

/// The value that a share `q` of the sorted ones does not exceed (nearest rank); none of nothing.
pub fn quantile(sorted: &[u64], q: f64) -> Option<u64> {
    debug_assert!(sorted.is_sorted(), "ranks need an order");
    let rank = (q.clamp(0.0, 1.0) * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_whatever_the_order() {
        let spread = Spread::of([5.0, 1.0, 9.0]).unwrap();
        assert_eq!(spread, Spread { median: 5.0, min: 1.0, max: 9.0, runs: 3 });
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 100.0]).unwrap().median, 3.0);
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn a_quantile_is_one_of_the_values() {
        let values: Vec<u64> = (1..=100).collect();
        assert_eq!(quantile(&values, 0.5), Some(50));
        assert_eq!(quantile(&values, 0.99), Some(99));
        assert_eq!(quantile(&values, 1.0), Some(100));
        assert_eq!(quantile(&values, 0.0), Some(1));
        assert_eq!(quantile(&[7], 0.99), Some(7));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn a_goal_is_met_by_the_median() {
        let figure = |goal| Figure::of("f", "f", "×", [0.5, 1.1, 2.0]).unwrap().with_goal(goal);
        assert_eq!(figure(Goal::AtLeast(1.1)).met, Some(true));
        assert_eq!(figure(Goal::AtLeast(1.2)).met, Some(false));
        assert_eq!(figure(Goal::AtMost(1.1)).met, Some(true));
        assert_eq!(figure(Goal::AtMost(1.0)).met, Some(false));
    }

    #[test]
    fn programs_read_figures_as_flat_objects() {
        let figure = Figure::of("cpu", "CPU", "s", [0.5]).unwrap().with_goal(Goal::AtMost(1.0));
        let json = serde_json::to_value(figure).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "name": "cpu", "what": "CPU", "unit": "s", "median": 0.5, "min": 0.5, "max": 0.5, "runs": 1,
                "goal": { "at_most": 1.0 }, "met": true,
            })
        );
    }
}
