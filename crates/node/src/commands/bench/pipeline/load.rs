//! The client of the pipeline, in this process: its own CPU is not counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use jaiminho_bench::publisher::json_event;
use tokio::task::JoinSet;

use crate::cli::ClientTls;
use crate::commands::send::{Body, Client};
use crate::exit::Failure;

/// Tries of a refused request.
const RETRIES: u32 = 20;

/// When requests are sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// So many at once, the next when one is answered.
    Closed(u32),
    /// So many a second, whatever the earlier ones do.
    Open(u32),
}

/// Events to post.
#[derive(Clone, Debug)]
pub(super) struct Load {
    pub(super) url: String,
    pub(super) count: u64,
    /// Events of a request.
    pub(super) batch: u64,
    /// Bytes of an event.
    pub(super) size: usize,
    pub(super) keys: usize,
    pub(super) pace: Pace,
}

/// All of them were published.
pub(super) struct Loaded {
    pub(super) per_second: f64,
    /// Requests that were refused and sent again.
    pub(super) repeats: u64,
    /// Of each request, sorted: from its scheduled start to its answer in an open loop, else from its start.
    pub(super) answers_ns: Vec<u64>,
}

/// One request's answer.
struct Answered {
    repeats: u64,
    took: Duration,
}

impl Load {
    /// Until the last is answered.
    pub(super) async fn run(self) -> Result<Loaded, Failure> {
        let client = Client::new(self.url.clone(), None, &ClientTls::default(), RETRIES)?;
        let (count, began) = (self.count, Instant::now());
        let answered = match self.pace {
            Pace::Closed(connections) => Arc::new(self).closed(&client, connections).await?,
            Pace::Open(rate) => Arc::new(self).open(&client, rate).await?,
        };
        let per_second = count as f64 / began.elapsed().as_secs_f64().max(1e-9);
        let repeats = answered.iter().map(|answered| answered.repeats).sum();
        let nanos = |answered: &Answered| u64::try_from(answered.took.as_nanos()).unwrap_or(u64::MAX);
        let mut answers_ns: Vec<u64> = answered.iter().map(nanos).collect();
        answers_ns.sort_unstable();
        Ok(Loaded { per_second, repeats, answers_ns })
    }

    async fn closed(self: Arc<Self>, client: &Client, connections: u32) -> Result<Vec<Answered>, Failure> {
        let (next, mut workers) = (Arc::new(AtomicU64::new(0)), JoinSet::new());
        for _ in 0..connections {
            let (load, client, next) = (self.clone(), client.clone(), next.clone());
            workers.spawn(async move {
                let mut answered = Vec::new();
                loop {
                    let first = next.fetch_add(load.batch, Ordering::Relaxed);
                    if first >= load.count {
                        return Ok::<_, Failure>(answered);
                    }
                    answered.push(load.post(client.clone(), first, Instant::now()).await?);
                }
            });
        }
        let mut answered = Vec::new();
        while let Some(of_worker) = workers.join_next().await {
            answered.extend(of_worker.map_err(Failure::software)??);
        }
        Ok(answered)
    }

    async fn open(self: Arc<Self>, client: &Client, rate: u32) -> Result<Vec<Answered>, Failure> {
        let (began, mut requests, mut answered) = (Instant::now(), JoinSet::new(), Vec::new());
        for (number, first) in (0..self.count).step_by(usize::try_from(self.batch).unwrap_or(1)).enumerate() {
            let scheduled = began + Duration::from_secs_f64(number as f64 / f64::from(rate));
            tokio::time::sleep_until(scheduled.into()).await;
            let (load, client) = (self.clone(), client.clone());
            requests.spawn(async move { load.post(client, first, scheduled).await });
            while let Some(request) = requests.try_join_next() {
                answered.push(request.map_err(Failure::software)??);
            }
        }
        while let Some(request) = requests.join_next().await {
            answered.push(request.map_err(Failure::software)??);
        }
        Ok(answered)
    }

    async fn post(&self, client: Client, first: u64, since: Instant) -> Result<Answered, Failure> {
        let body = self.body(first);
        let events = body.events;
        let tally = client.post(body, ProgressBar::hidden()).await?;
        if tally.done != events {
            let reason = tally.first_reason.unwrap_or_default();
            return Err(Failure::software(format!("of {events} events {} were published: {reason}", tally.done)));
        }
        Ok(Answered { repeats: tally.retries, took: since.elapsed() })
    }

    fn body(&self, first: u64) -> Body {
        let last = self.count.min(first + self.batch);
        let event = |number| json_event(usize::try_from(number).unwrap_or_default(), self.keys, self.size);
        let text = match self.batch {
            1 => event(first),
            _ => format!("[{}]", (first..last).map(event).collect::<Vec<_>>().join(",")),
        };
        Body { content_type: "application/json", bytes: text.into_bytes(), events: last - first, lines: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(count: u64, batch: u64) -> Load {
        Load { url: "http://localhost/events".into(), count, batch, size: 241, keys: 10, pace: Pace::Closed(1) }
    }

    #[test]
    fn bodies_are_events_or_lists_of_them_and_the_last_may_be_short() {
        let single = load(3, 1).body(2);
        assert_eq!((single.bytes.len(), single.events), (241, 1));
        let list = load(250, 100).body(200);
        assert_eq!(list.events, 50);
        let values: Vec<serde_json::Value> = serde_json::from_slice(&list.bytes).unwrap();
        assert_eq!(values.len(), 50);
        assert_eq!(values[49]["number"], 249);
    }
}
