//! The last 15 minutes, a value a second, for the console's curves.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use axum::body::Bytes;

use crate::{
    gather::INTERVAL,
    view::{History, StageHistory, StageView, SubscriptionHistory, SubscriptionView, View},
};

/// Values that are kept.
pub const HISTORY_MAX: usize = 15 * 60;
/// Stages, and subscriptions, of which any are kept.
const ROWS_MAX: usize = 256;

/// Of one stage at one moment; by the order of [`StageHistory`]'s fields.
type StagePoint = [Option<f32>; 10];
/// The same of a subscription.
type SubscriptionPoint = [Option<f32>; 3];

/// A ring of looks. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Record(Arc<Mutex<Ring>>);

#[derive(Debug, Default)]
struct Ring {
    unix_ms: VecDeque<u64>,
    stages: BTreeMap<String, VecDeque<StagePoint>>,
    subscriptions: BTreeMap<String, VecDeque<SubscriptionPoint>>,
    /// All of it as JSON, once somebody has asked for it since the last look.
    json: Option<Bytes>,
}

impl Record {
    /// Adds a look; the oldest one leaves.
    pub fn push(&self, view: &View) {
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let length = ring.unix_ms.len();
        ring.json = None;
        ring.unix_ms.push_back(view.unix_ms);
        let stages = view.stages.iter().map(|stage| (stage.name.clone(), stage_point(stage)));
        push(&mut ring.stages, length, stages);
        let subscriptions = view.subscriptions.iter().map(|of| (of.id.clone(), subscription_point(of)));
        push(&mut ring.subscriptions, length, subscriptions);
        if length >= HISTORY_MAX {
            ring.unix_ms.pop_front();
            ring.stages.values_mut().for_each(forget_first);
            ring.subscriptions.values_mut().for_each(forget_first);
        }
        // What was not seen for all that time is forgotten.
        ring.stages.retain(|_, points| points.iter().any(|point| point.iter().any(Option::is_some)));
        ring.subscriptions.retain(|_, points| points.iter().any(|point| point.iter().any(Option::is_some)));
    }

    /// All of it.
    pub fn history(&self) -> History {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).history()
    }

    /// [`Record::history`] as JSON: written once for all who ask between two looks.
    pub fn json(&self) -> Bytes {
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(json) = &ring.json {
            return json.clone();
        }
        // Its maps have strings as keys: it can be written.
        let json = Bytes::from(serde_json::to_vec(&ring.history()).unwrap_or_default());
        ring.json.insert(json).clone()
    }
}

impl Ring {
    fn history(&self) -> History {
        History {
            interval_ms: u64::try_from(INTERVAL.as_millis()).unwrap_or(u64::MAX),
            unix_ms: self.unix_ms.iter().copied().collect(),
            stages: self.stages.iter().map(|(name, points)| (name.clone(), stage_history(points))).collect(),
            subscriptions: self.subscriptions.iter().map(|(id, of)| (id.clone(), subscription_history(of))).collect(),
        }
    }
}

/// One more point to each row; a new row has nothing before, one that is not told of has nothing now.
fn push<const N: usize>(
    rows: &mut BTreeMap<String, VecDeque<[Option<f32>; N]>>,
    length: usize,
    points: impl Iterator<Item = (String, [Option<f32>; N])>,
) {
    for (name, point) in points {
        if rows.len() < ROWS_MAX || rows.contains_key(&name) {
            let row = rows.entry(name).or_insert_with(|| VecDeque::from(vec![[None; N]; length]));
            if row.len() == length {
                row.push_back(point);
            }
        }
    }
    rows.values_mut().filter(|row| row.len() == length).for_each(|row| row.push_back([None; N]));
}

fn forget_first<T>(points: &mut VecDeque<T>) {
    points.pop_front();
}

fn stage_point(stage: &StageView) -> StagePoint {
    let figures = &stage.figures;
    let told = |value: f64| (!stage.instances.is_empty()).then_some(value as f32);
    let some = |value: Option<f64>| value.map(|value| value as f32);
    [
        some(figures.rates.events_in),
        some(figures.rates.accepted),
        some(figures.rates.rejected),
        told(figures.fill().unwrap_or_default()),
        told(figures.load.blocked),
        told(figures.load.limit),
        some(figures.settle.p50_ms),
        some(figures.settle.p99_ms),
        some(figures.end_to_end.p50_ms),
        some(figures.end_to_end.p99_ms),
    ]
}

fn subscription_point(of: &SubscriptionView) -> SubscriptionPoint {
    [of.events.map(|rate| rate as f32), of.events.map(|_| of.waiting as f32), of.no_credit.map(|share| share as f32)]
}

fn stage_history(points: &VecDeque<StagePoint>) -> StageHistory {
    let column = |index: usize| points.iter().map(|point| point[index]).collect();
    StageHistory {
        events_in: column(0),
        accepted: column(1),
        rejected: column(2),
        fill: column(3),
        blocked: column(4),
        limit: column(5),
        settle_p50_ms: column(6),
        settle_p99_ms: column(7),
        end_to_end_p50_ms: column(8),
        end_to_end_p99_ms: column(9),
    }
}

fn subscription_history(points: &VecDeque<SubscriptionPoint>) -> SubscriptionHistory {
    let column = |index: usize| points.iter().map(|point| point[index]).collect();
    SubscriptionHistory { events: column(0), waiting: column(1), no_credit: column(2) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        made::{inspection, plan},
        make::tests::view_of,
    };

    #[test]
    fn each_look_is_a_value_of_each_row_and_the_oldest_leave() {
        let record = Record::default();
        let mut view = view_of(vec![inspection("convert", "c-0")]);
        for second in 0..HISTORY_MAX as u64 + 10 {
            view.unix_ms = 1_000 * second;
            let convert = view.stages.iter_mut().find(|stage| stage.name == "convert").unwrap();
            convert.figures.rates.events_in = (second > 0).then_some(second as f64);
            record.push(&view);
        }
        let History { interval_ms, unix_ms, stages, .. } = record.history();
        assert_eq!((interval_ms, unix_ms.len(), unix_ms[0]), (1_000, HISTORY_MAX, 10_000));
        let convert = &stages["convert"];
        assert_eq!((convert.events_in.len(), convert.events_in[0]), (HISTORY_MAX, Some(10.0)));
        assert_eq!(convert.fill.len(), HISTORY_MAX);
    }

    #[test]
    fn who_asks_between_two_looks_gets_the_same_bytes() {
        let record = Record::default();
        record.push(&view_of(vec![inspection("convert", "c-0")]));
        let (first, second) = (record.json(), record.json());
        assert_eq!(first.as_ptr(), second.as_ptr(), "it is written once");
        record.push(&view_of(vec![]));
        let third: serde_json::Value = serde_json::from_slice(&record.json()).unwrap();
        assert_eq!(third, serde_json::to_value(record.history()).unwrap());
        assert_eq!(third["unix_ms"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn what_is_seen_for_a_while_has_nothing_before_and_after() {
        let record = Record::default();
        let (with, without) = (view_of(vec![inspection("convert", "c-0")]), view_of(vec![]));
        for view in [&without, &with, &without] {
            record.push(view);
        }
        let history = record.history();
        assert_eq!(history.stages["convert"].blocked, [None, Some(0.0), None]);
        assert!(!history.stages.contains_key("publish"), "{:?}", plan().stage("publish"));
        for _ in 0..HISTORY_MAX {
            record.push(&without);
        }
        assert!(record.history().stages.is_empty());
    }
}
