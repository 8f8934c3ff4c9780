//! The thread that reads: it owns the client and what is known of each partition.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jaiminho_telemetry::names::kafka as names;
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::sync::mpsc;

use super::client::{Client, Rebalance};
use super::config::Begin;
use super::decode::{Decoder, Item};
use super::intake::{Batch, BatchId, Intake, Limits, Place};
use crate::statistics::BrokerMeters;

/// Records read between two looks at all else.
const READ_MAX: usize = 1_000;
/// Longest sleep: the client wakes the thread when it has something, but not for its log lines.
const POLL: Duration = Duration::from_millis(50);
/// While an answer to the group's coordinator is due.
const HURRIED_POLL: Duration = Duration::from_millis(5);
/// Between two tries of what the cluster did not answer, and before a new client.
const RETRY: Duration = Duration::from_secs(1);
/// Without a record, a commit or an answer for so long, it is asked whether the client still has brokers.
const LOOK_AFTER: Duration = Duration::from_secs(10);
/// How long that question may take.
const LOOK_WAIT: Duration = Duration::from_secs(2);
/// The same error is told again after so long.
const TELL_AGAIN: Duration = Duration::from_secs(60);
/// A drain's last commit may take so long.
const LAST_COMMIT: Duration = Duration::from_secs(5);

/// What the stage's side has to say.
#[derive(Debug)]
pub(super) enum Report {
    Taken(BatchId),
    Dropped(BatchId),
    Settled(BatchId),
    /// The stage drains: nothing more is wanted.
    Drain,
}

/// An answer that the group's coordinator waits for.
#[derive(Debug)]
enum Due {
    Assign(Vec<(String, i32)>),
    Release(Vec<(String, i32)>),
}

/// What the thread is made of.
pub(super) struct Worker {
    pub(super) stage: String,
    pub(super) properties: BTreeMap<String, String>,
    pub(super) topics: Vec<String>,
    pub(super) begin: Begin,
    pub(super) decoder: Decoder,
    pub(super) limits: Limits,
    pub(super) client: Client,
    pub(super) batches: mpsc::Sender<Batch<Item>>,
    pub(super) reports: mpsc::Receiver<Report>,
}

impl Worker {
    /// Runs until all is settled after [`Report::Drain`], or the stage's side is gone.
    pub(super) fn run(self) {
        Running::new(self).run();
    }
}

struct Running {
    of: Worker,
    intake: Intake<Item>,
    due: Option<Due>,
    /// Before that, the cluster is not asked again.
    retry_at: Option<Instant>,
    /// A batch that had no room in the channel.
    waiting: Option<Batch<Item>>,
    heard_at: Instant,
    told: HashMap<i32, Instant>,
    /// Nothing is left to be settled since then.
    drained_at: Option<Instant>,
    meters: Meters,
}

impl Running {
    fn new(of: Worker) -> Self {
        Self {
            intake: Intake::new(of.limits),
            due: None,
            retry_at: None,
            waiting: None,
            heard_at: Instant::now(),
            told: HashMap::new(),
            drained_at: None,
            meters: Meters::new(&of.stage),
            of,
        }
    }

    fn run(mut self) {
        self.join();
        loop {
            let is_wanted = self.take_reports();
            let more = self.read();
            self.hear();
            self.answer();
            self.hand_out();
            self.pause_and_resume();
            self.commit();
            if !is_wanted || self.is_drained() {
                break;
            }
            if self.of.client.is_fatal() {
                self.replace("librdkafka has given up");
            } else if self.is_stranded() {
                self.replace("it has lost its brokers");
            }
            if !more {
                std::thread::park_timeout(if self.due.is_some() { HURRIED_POLL } else { POLL });
            }
        }
        self.meters.forget(&self.of.topics, &self.intake.places());
        self.close();
    }

    fn join(&mut self) {
        if let Err(error) = self.of.client.join() {
            tracing::error!(stage = self.of.stage, %error, "can't subscribe");
        }
    }

    /// False: nobody is there any more.
    fn take_reports(&mut self) -> bool {
        loop {
            match self.of.reports.try_recv() {
                Ok(Report::Taken(id)) => self.intake.taken(id),
                Ok(Report::Dropped(id)) => self.intake.dropped(id),
                Ok(Report::Settled(id)) => self.intake.settled(id),
                Ok(Report::Drain) => self.intake.drain(),
                Err(mpsc::error::TryRecvError::Empty) => return true,
                Err(mpsc::error::TryRecvError::Disconnected) => return false,
            }
        }
    }

    /// Takes records as long as there is room. True: there may be more at once.
    fn read(&mut self) -> bool {
        let mut read = 0;
        // Paused, nothing comes but what else the client has to say.
        while read < READ_MAX && (!self.intake.is_full() || self.intake.is_paused()) {
            match self.of.client.poll() {
                Some(Ok(record)) => {
                    read += 1;
                    let place = self.of.client.place(record.topic(), record.partition());
                    if let Some(place) = place.filter(|place| self.intake.reads(*place)) {
                        let item = self.of.decoder.decode(&record);
                        self.intake.record(place, record.offset(), item.bytes(), item);
                    }
                }
                Some(Err(error)) => {
                    read += 1;
                    tell(&mut self.told, &self.of.stage, &error);
                }
                None => break,
            }
        }
        if read > 0 {
            self.heard_at = Instant::now();
            self.meters.records.increment(read as u64);
        }
        read == READ_MAX
    }

    /// What the client has to say besides records.
    fn hear(&mut self) {
        let news = self.of.client.news();
        let now = Instant::now();
        if let Some(ok) = news.committed {
            self.meters.committed(ok);
            self.intake.committed(ok, now);
            if ok {
                self.heard_at = now;
            }
        }
        for rebalance in news.rebalances {
            self.heard_at = now;
            self.rebalance(rebalance, now);
        }
        for (topic, partition, lag) in news.lags {
            if self.of.client.place(&topic, partition).is_some_and(|place| self.intake.reads(place)) {
                self.meters.lag(&topic, partition, lag);
            }
        }
    }

    fn rebalance(&mut self, rebalance: Rebalance, now: Instant) {
        // Whatever was wanted before is answered first: it has been overtaken.
        match self.due.take() {
            Some(Due::Assign(named)) => self.of.client.give_back(&Rebalance::Assigned(named)),
            Some(Due::Release(named)) => self.release_now(&named),
            None => {}
        }
        self.meters.rebalanced(&rebalance);
        tracing::info!(stage = self.of.stage, ?rebalance, "partitions change");
        match rebalance {
            Rebalance::Assigned(named) => {
                self.retry_at = None;
                self.due = Some(Due::Assign(named));
            }
            Rebalance::Revoked(named) => {
                for place in self.places(&named) {
                    self.intake.revoke(place, now);
                }
                self.due = Some(Due::Release(named));
            }
            Rebalance::Lost(named) => self.release_now(&named),
        }
    }

    /// Without a commit.
    fn release_now(&mut self, named: &Vec<(String, i32)>) {
        let places = self.places(named);
        self.meters.forget(&self.of.topics, &places);
        for place in &places {
            self.intake.lose(*place);
        }
        let answered = self.of.client.release(named, &places);
        self.note(answered);
    }

    /// Answers the coordinator once it can be done.
    fn answer(&mut self) {
        let now = Instant::now();
        match self.due.take() {
            Some(Due::Assign(named)) if self.retry_at.is_none_or(|at| now >= at) => match self.assign(&named) {
                Ok(()) => self.retry_at = None,
                Err(error) => {
                    tell(&mut self.told, &self.of.stage, &error);
                    self.retry_at = Some(Instant::now() + RETRY);
                    self.due = Some(Due::Assign(named));
                }
            },
            // The session has ended meanwhile.
            Some(Due::Release(named)) if self.of.client.is_lost() => self.release_now(&named),
            Some(Due::Release(named)) => {
                let released = self.intake.released(now);
                if released.is_empty() && !named.is_empty() && self.any_is_ours(&named) {
                    self.due = Some(Due::Release(named));
                    return;
                }
                let places: Vec<Place> = released.iter().map(|(place, _)| *place).collect();
                let paused: Vec<Place> =
                    released.iter().filter(|(_, paused)| *paused).map(|(place, _)| *place).collect();
                self.meters.forget(&self.of.topics, &places);
                let answered = self.of.client.release(&named, &paused);
                self.note(answered);
            }
            due @ (Some(Due::Assign(_)) | None) => self.due = due,
        }
        self.meters.partitions.set(self.intake.places().len() as f64);
    }

    fn assign(&mut self, named: &Vec<(String, i32)>) -> Result<(), KafkaError> {
        let begins = self.of.client.begins(named, self.of.begin)?;
        self.of.client.assign(&begins)?;
        for (place, first) in begins {
            self.intake.assign(place, first);
        }
        Ok(())
    }

    fn any_is_ours(&self, named: &[(String, i32)]) -> bool {
        let ours = self.intake.places();
        self.places(named).iter().any(|place| ours.contains(place))
    }

    fn places(&self, named: &[(String, i32)]) -> Vec<Place> {
        named.iter().filter_map(|(topic, partition)| self.of.client.place(topic, *partition)).collect()
    }

    fn hand_out(&mut self) {
        while let Some(batch) = self.waiting.take().or_else(|| self.intake.next_batch()) {
            match self.of.batches.try_send(batch) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(batch)) => {
                    self.waiting = Some(batch);
                    return;
                }
                // The next look at the reports says so too.
                Err(mpsc::error::TrySendError::Closed(_)) => return,
            }
        }
    }

    fn pause_and_resume(&mut self) {
        let (pause, resume) = self.intake.pauses(Instant::now());
        let paused = self.of.client.pause(&pause).and_then(|()| self.of.client.resume(&resume));
        self.note(paused);
    }

    fn commit(&mut self) {
        if let Some(offsets) = self.intake.commit(Instant::now()) {
            self.of.client.commit(&offsets);
        }
    }

    fn is_drained(&mut self) -> bool {
        if self.intake.is_drained() {
            return true;
        }
        if !self.intake.is_draining() || self.intake.unsettled() > 0 {
            self.drained_at = None;
            return false;
        }
        self.drained_at.get_or_insert_with(Instant::now).elapsed() >= LAST_COMMIT
    }

    /// librdkafka forgets the brokers that an answer does not list, and then has nobody to ask, for good (its issue 5301).
    fn is_stranded(&mut self) -> bool {
        if self.heard_at.elapsed() < LOOK_AFTER {
            return false;
        }
        let has_broker = self.of.client.has_broker(LOOK_WAIT);
        let is_stranded = !has_broker && {
            let second = Client::open(&self.of.properties, &self.of.topics, BrokerMeters::default());
            second.is_ok_and(|second| {
                let found = second.has_broker(LOOK_WAIT);
                second.close(false);
                found
            })
        };
        self.heard_at = Instant::now();
        is_stranded
    }

    /// A new client. What the old one had read is lost to it, and comes again from what is committed.
    fn replace(&mut self, cause: &str) {
        tracing::warn!(stage = self.of.stage, cause, "a new consumer is needed; nothing is lost");
        self.meters.recoveries.increment(1);
        self.meters.forget(&self.of.topics, &self.intake.places());
        let is_committing = self.intake.is_committing();
        self.intake.lose_all();
        std::thread::sleep(RETRY);
        match Client::open(&self.of.properties, &self.of.topics, BrokerMeters::new(&self.of.stage)) {
            Ok(client) => {
                let due = self.due.take();
                close(std::mem::replace(&mut self.of.client, client), due, is_committing);
                self.join();
            }
            Err(error) => tracing::error!(stage = self.of.stage, %error, "no new consumer; trying again"),
        }
        self.heard_at = Instant::now();
    }

    fn close(self) {
        if let Some(due) = self.due {
            answer_at_once(&self.of.client, due);
        }
        self.of.client.close(self.intake.is_committing());
    }

    fn note(&mut self, result: Result<(), KafkaError>) {
        if let Err(error) = result {
            tell(&mut self.told, &self.of.stage, &error);
        }
    }
}

fn answer_at_once(client: &Client, due: Due) {
    client.give_back(&match due {
        Due::Assign(named) => Rebalance::Assigned(named),
        Due::Release(named) => Rebalance::Revoked(named),
    });
}

/// On a thread of its own: a client without brokers takes long to leave.
fn close(client: Client, due: Option<Due>, is_committing: bool) {
    let closing = std::thread::Builder::new().name("kafka-close".to_owned()).spawn(move || {
        if let Some(due) = due {
            answer_at_once(&client, due);
        }
        client.close(is_committing);
    });
    if let Err(error) = closing {
        tracing::warn!(%error, "no thread to close a consumer");
    }
}

/// Nothing here ends the source: what is away is waited for.
fn tell(told: &mut HashMap<i32, Instant>, stage: &str, error: &KafkaError) {
    let code = error.rdkafka_error_code().unwrap_or(Code::Unknown) as i32;
    let now = Instant::now();
    if told.get(&code).is_some_and(|before| now.duration_since(*before) < TELL_AGAIN) {
        tracing::debug!(stage, %error, "reading; trying again");
        return;
    }
    told.insert(code, now);
    tracing::warn!(stage, %error, "reading; trying again");
}

struct Meters {
    stage: Arc<str>,
    records: metrics::Counter,
    recoveries: metrics::Counter,
    partitions: metrics::Gauge,
    /// By topic and partition, as long as they are read here.
    lags: HashMap<(String, i32), metrics::Gauge>,
}

impl Meters {
    fn new(stage: &str) -> Self {
        let label = || [("stage", stage.to_owned())];
        for outcome in ["done", "failed"] {
            metrics::counter!(names::COMMITS, "stage" => stage.to_owned(), "outcome" => outcome).absolute(0);
        }
        Self {
            stage: stage.into(),
            records: metrics::counter!(names::RECORDS, &label()),
            recoveries: metrics::counter!(names::RECOVERIES, &label()),
            partitions: metrics::gauge!(names::PARTITIONS, &label()),
            lags: HashMap::new(),
        }
    }

    fn committed(&self, ok: bool) {
        let outcome = if ok { "done" } else { "failed" };
        metrics::counter!(names::COMMITS, "stage" => self.stage.to_string(), "outcome" => outcome).increment(1);
    }

    fn rebalanced(&self, rebalance: &Rebalance) {
        let kind = match rebalance {
            Rebalance::Assigned(_) => "assigned",
            Rebalance::Revoked(_) => "revoked",
            Rebalance::Lost(_) => "lost",
        };
        metrics::counter!(names::REBALANCES, "stage" => self.stage.to_string(), "kind" => kind).increment(1);
    }

    fn lag(&mut self, topic: &str, partition: i32, lag: i64) {
        let gauge = self.lags.entry((topic.to_owned(), partition)).or_insert_with(|| {
            let partition = partition.to_string();
            let labels = [("stage", self.stage.to_string()), ("topic", topic.to_owned()), ("partition", partition)];
            metrics::gauge!(names::LAG, &labels)
        });
        gauge.set(lag as f64);
    }

    /// Its next owner tells the lag.
    fn forget(&mut self, topics: &[String], places: &[Place]) {
        for place in places {
            self.lags.remove(&(topics[place.topic].clone(), place.partition));
        }
    }
}
