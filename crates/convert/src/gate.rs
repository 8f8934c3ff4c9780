//! What stands before the steps of a transform, and decides by the event as the stage gets it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jaiminho_core::Reason;
use jaiminho_event::{EventView, Template, TemplateError, identity};
use jaiminho_runtime::{Pace, Verdict};
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::config::{Over, Sample, Throttle};

/// A full table of keys is searched for idle ones at most so often.
const SWEEP: Duration = Duration::from_millis(100);

/// One of a transform's.
#[derive(Clone, Debug)]
pub(crate) enum Gate {
    Sample(Sampler),
    Throttle(Arc<Throttler>),
}

/// Keeps a part of the events.
#[derive(Clone, Debug)]
pub(crate) struct Sampler {
    rate: f64,
    key: Option<Template>,
}

impl Sampler {
    pub(crate) fn new(config: &Sample) -> Result<Self, TemplateError> {
        Ok(Self { rate: config.rate, key: config.key.as_deref().map(Template::parse).transpose()? })
    }

    /// The same whenever an event is delivered. The hash is another than the one that gives a key its partition.
    pub(crate) fn keeps(&self, event: &EventView<'_>) -> bool {
        let key = self.key.as_ref().and_then(|key| key.render(event).ok());
        let hash = match key {
            Some(key) => identity("", &key),
            None => identity(event.source(), event.id()),
        };
        // 53 bits: a float holds them exactly, and is below one.
        ((hash as u64 >> 11) as f64) < self.rate * (1_u64 << 53) as f64
    }
}

/// Holds back what comes faster than its key may.
#[derive(Debug)]
pub(crate) struct Throttler {
    pace: Pace,
    key: Option<Template>,
    over: Over,
    text: String,
    keys: Mutex<Keys>,
}

/// When each key owes nothing any more.
#[derive(Debug)]
struct Keys {
    /// By the key's hash.
    due: HashMap<u128, Instant>,
    max: usize,
    /// Of all keys for which there is no room.
    others: Option<Instant>,
    swept: Option<Instant>,
}

impl Throttler {
    pub(crate) fn new(config: &Throttle) -> Result<Self, TemplateError> {
        let burst = config.burst.map_or(config.rate, f64::from);
        let keys = Keys { due: HashMap::new(), max: config.keys_max as usize, others: None, swept: None };
        Ok(Self {
            pace: Pace::new(config.rate, burst),
            key: config.key.as_deref().map(Template::parse).transpose()?,
            over: config.over,
            text: format!("more than {} events a second", config.rate),
            keys: Mutex::new(keys),
        })
    }

    /// Resolves when the event may go on; a verdict: it may not.
    pub(crate) async fn pass(&self, event: &EventView<'_>) -> Option<Verdict> {
        let key = self.key.as_ref().and_then(|key| key.render(event).ok());
        let key = identity("", key.as_deref().unwrap_or_default());
        loop {
            let taken = {
                let now = Instant::now();
                let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
                self.pace.take(keys.due(key, now), now)
            };
            match (taken, self.over) {
                (Ok(()), _) => return None,
                (Err(wait), Over::Wait) => tokio::time::sleep(wait).await,
                (Err(_), Over::Drop) => return Some(Verdict::Emit(SmallVec::new())),
                (Err(_), Over::Reject) => {
                    return Some(Verdict::Reject { reason: Reason::Invalid, text: self.text.clone() });
                }
            }
        }
    }
}

impl Keys {
    fn due(&mut self, key: u128, now: Instant) -> &mut Instant {
        let is_full = self.due.len() >= self.max && !self.due.contains_key(&key);
        if is_full && self.swept.is_none_or(|swept| now - swept >= SWEEP) {
            self.swept = Some(now);
            self.due.retain(|_, due| *due > now);
        }
        if is_full && self.due.len() >= self.max {
            return self.others.get_or_insert(now);
        }
        self.due.entry(key).or_insert(now)
    }
}

#[cfg(test)]
mod tests {
    use jaiminho_event::CloudEvent;

    use super::*;

    fn payload(id: u32, subject: &str) -> Vec<u8> {
        let json = format!(r#"{{"specversion":"1.0","id":"{id}","source":"s","type":"t","subject":"{subject}"}}"#);
        CloudEvent::from_json_slice(json.as_bytes()).unwrap().encode().to_vec()
    }

    fn sampler(json: &str) -> Sampler {
        Sampler::new(&serde_json::from_str(json).unwrap()).unwrap()
    }

    fn kept(sampler: &Sampler, subject: impl Fn(u32) -> String) -> Vec<u32> {
        let keeps = |id: &u32| sampler.keeps(&EventView::parse(&payload(*id, &subject(*id))).unwrap());
        (0..10_000).filter(keeps).collect()
    }

    #[test]
    fn a_sample_is_the_share_it_says_and_the_same_whenever_it_is_taken() {
        let tenth = sampler(r#"{"rate": 0.1}"#);
        let first = kept(&tenth, |_| "x".into());
        assert!((900..1_100).contains(&first.len()), "{}", first.len());
        assert_eq!(kept(&tenth.clone(), |id| format!("other {id}")), first);
        assert_eq!(kept(&sampler(r#"{"rate": 1}"#), |_| "x".into()).len(), 10_000);
        assert_eq!(kept(&sampler(r#"{"rate": 0}"#), |_| "x".into()).len(), 0);
    }

    #[test]
    fn of_a_key_all_events_are_kept_or_none() {
        let kept = kept(&sampler(r#"{"rate": 0.5, "key": "{{subject}}"}"#), |id| format!("k{}", id % 100));
        let mut keys = [0; 100];
        kept.iter().for_each(|id| keys[*id as usize % 100] += 1);
        assert!(keys.iter().all(|count| [0, 100].contains(count)), "{keys:?}");
        assert!((30..70).contains(&keys.iter().filter(|count| **count > 0).count()));
    }

    fn throttler(json: &str) -> Throttler {
        Throttler::new(&serde_json::from_str(json).unwrap()).unwrap()
    }

    async fn pass(throttler: &Throttler, key: &str) -> Option<Verdict> {
        let payload = payload(1, key);
        throttler.pass(&EventView::parse(&payload).unwrap()).await
    }

    #[tokio::test(start_paused = true)]
    async fn each_key_goes_at_its_rate_and_waits_for_itself_alone() {
        let (throttler, start) = (throttler(r#"{"rate": 10, "burst": 1, "key": "{{subject}}"}"#), Instant::now());
        for _ in 0..11 {
            assert!(pass(&throttler, "a").await.is_none());
        }
        assert_eq!(start.elapsed().as_millis(), 1_000);
        assert!(pass(&throttler, "b").await.is_none());
        assert_eq!(start.elapsed().as_millis(), 1_000, "`b` owes nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_over_is_rejected_or_dropped_where_that_is_wanted() {
        let rejects = throttler(r#"{"rate": 2, "over": "reject"}"#);
        assert!(
            pass(&rejects, "a").await.is_none() && pass(&rejects, "b").await.is_none(),
            "a second's may go at once"
        );
        let Some(Verdict::Reject { reason, text }) = pass(&rejects, "c").await else { panic!("it passes") };
        assert_eq!((reason, text.as_str()), (Reason::Invalid, "more than 2 events a second"));
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(pass(&rejects, "c").await.is_none());
        let drops = throttler(r#"{"rate": 1, "over": "drop"}"#);
        assert!(pass(&drops, "a").await.is_none());
        assert!(matches!(pass(&drops, "a").await, Some(Verdict::Emit(none)) if none.is_empty()));
    }

    #[tokio::test(start_paused = true)]
    async fn keys_beyond_the_bound_share_one_rate_until_others_are_idle() {
        let json = r#"{"rate": 1, "burst": 1, "key": "{{subject}}", "keys_max": 2, "over": "drop"}"#;
        let throttler = throttler(json);
        for key in ["a", "b", "c"] {
            assert!(pass(&throttler, key).await.is_none());
        }
        assert!(pass(&throttler, "d").await.is_some(), "it shares with `c`");
        tokio::time::sleep(Duration::from_secs(2)).await;
        for key in ["d", "e"] {
            assert!(pass(&throttler, key).await.is_none());
        }
        assert_eq!(throttler.keys.lock().unwrap().due.len(), 2);
    }
}
