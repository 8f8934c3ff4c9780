//! The sink: a thread that owns the producer and everything unsettled, and the handle that a stage holds.

use std::collections::BTreeMap;
use std::thread::Thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use jaiminho_core::{Event, Outcome};
use jaiminho_runtime::{Receipt, Settler, Sink};
use jaiminho_telemetry::names::kafka as names;
use jaiminho_telemetry::traces::Tracer;
use tokio::sync::{mpsc, oneshot};

use crate::config::{ConfigError, SinkConfig, client_config};
use crate::outbox::{Outbox, Pumped};
use crate::producer::Connection;
use crate::record::Shape;
use crate::silence::{Confirmations, Silence};
use crate::statistics::{BrokerMeters, STATISTICS_MS};
use crate::watch::Watch;

/// Hand-overs that may wait for the thread.
const COMMANDS_MAX: usize = 4;
/// Records produced between two looks at delivery reports.
const PUMP_MAX: usize = 1_000;
const ACTIVE_POLL: Duration = Duration::from_millis(1);
/// While nothing came in or was delivered for [`QUIET_AFTER`].
const QUIET_POLL: Duration = Duration::from_millis(20);
const QUIET_AFTER: Duration = Duration::from_millis(200);
/// With nothing unsettled the client still has to be polled for its log lines and tokens.
const IDLE_POLL: Duration = Duration::from_millis(250);
/// What is on its way when a producer is given up may still be confirmed for so long.
const GIVE_UP_WAIT: Duration = Duration::from_secs(1);

/// Times of a sink. The defaults are the documented ones; tests shorten them.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How long a record's topic may be unknown or forbidden before the record is rejected.
    pub grace: Duration,
    /// Longest time between two tries of such a topic.
    pub topic_retry: Duration,
    /// Before the first new producer; doubled each time, until a record is delivered.
    pub recover_min: Duration,
    /// Longest time before a new producer.
    pub recover_max: Duration,
    /// Without a delivery for so long, it is asked whether the producer still has brokers.
    pub stall: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(60),
            topic_retry: Duration::from_secs(5),
            recover_min: Duration::from_millis(50),
            recover_max: Duration::from_secs(5),
            stall: Duration::from_secs(2),
        }
    }
}

/// When the drain has to end, and who waits for it.
type Drain = (Instant, oneshot::Sender<()>);

enum Command {
    Send(Vec<(Receipt, Event)>),
    #[cfg(test)]
    Recover,
}

/// Publishes events to Kafka, and settles them when the broker has confirmed them.
///
/// Records of a key reach a topic in order, also across errors, retries and new producers. Nothing is rejected but
/// by its own fault; see the crate's `fate`. Dropping it without a drain gives up what is unsettled.
#[derive(Debug)]
pub struct KafkaSink {
    commands: mpsc::Sender<Command>,
    /// Beside the commands: a drain is heard although the client's queue is full.
    drains: mpsc::Sender<Drain>,
    thread: Thread,
}

impl KafkaSink {
    /// Checks the configuration and starts; needs no broker yet. `stage` is the label of its metrics.
    pub fn new(config: &SinkConfig, stage: &str, settler: Settler) -> Result<Self, ConfigError> {
        Self::with_tracer(config, stage, settler, Tracer::default())
    }

    /// Whose sampled events leave a span each in `tracer`, from given to the client to confirmed.
    pub fn with_tracer(
        config: &SinkConfig,
        stage: &str,
        settler: Settler,
        tracer: Tracer,
    ) -> Result<Self, ConfigError> {
        Self::with_timing(config, stage, settler, tracer, Timing::default())
    }

    /// With times of one's own.
    pub fn with_timing(
        config: &SinkConfig,
        stage: &str,
        settler: Settler,
        tracer: Tracer,
        timing: Timing,
    ) -> Result<Self, ConfigError> {
        let mut properties = client_config(config)?;
        // An unknown topic's records wait in librdkafka, where they disturb no other topic.
        let grace_ms = timing.grace.as_millis().min(3_600_000);
        properties.insert("topic.metadata.propagation.max.ms".to_owned(), grace_ms.to_string());
        let outbox = Outbox::new(Shape::new(config)?, config.topics_max, timing.grace, timing.topic_retry);
        let outbox = outbox.with_tracer(tracer);
        properties.entry("statistics.interval.ms".to_owned()).or_insert_with(|| STATISTICS_MS.to_string());
        let connection = Connection::open_metered(&properties, BrokerMeters::new(stage))?;
        let servers = properties.get("bootstrap.servers").cloned().unwrap_or_default();
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        let (drains, drain_receiver) = mpsc::channel(1);
        let worker = Worker {
            properties,
            timing,
            settler,
            outbox,
            connection: Some(connection),
            commands: receiver,
            drains: drain_receiver,
            open: true,
            drain: None,
            full: false,
            recoveries: 0,
            recover_at: Instant::now(),
            active_at: Instant::now(),
            watch: Watch::new(timing.stall),
            silence: Confirmations::new(Instant::now()),
            servers,
            meters: Meters::new(stage),
        };
        let of = tracing::error_span!("stage", stage);
        let thread = std::thread::Builder::new()
            .name("kafka-sink".to_owned())
            .spawn(move || of.in_scope(|| worker.run()))
            .map_err(|error| ConfigError::Client(format!("no thread: {error}")))?;
        Ok(Self { commands, drains, thread: thread.thread().clone() })
    }

    async fn command(&self, command: Command) {
        // A thread that is gone has drained: what it did not settle is released upstream.
        if self.commands.send(command).await.is_ok() {
            self.thread.unpark();
        }
    }

    #[cfg(test)]
    pub(crate) async fn recover(&self) {
        self.command(Command::Recover).await;
    }
}

impl Sink for KafkaSink {
    fn send<'a>(&'a mut self, events: &'a mut Vec<(Receipt, Event)>) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if !events.is_empty() {
                self.command(Command::Send(std::mem::take(events))).await;
            }
        })
    }

    fn drain<'a>(&'a mut self, time_left: Duration) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let (done, drained) = oneshot::channel();
            if self.drains.send((Instant::now() + time_left, done)).await.is_ok() {
                self.thread.unpark();
                // The sender's end means the same: the thread has come to its end.
                let _ended = drained.await;
            }
        })
    }
}

impl Drop for KafkaSink {
    fn drop(&mut self) {
        let (closed, _) = mpsc::channel(1);
        self.commands = closed;
        self.thread.unpark();
    }
}

/// What the thread owns.
struct Worker {
    properties: BTreeMap<String, String>,
    timing: Timing,
    settler: Settler,
    outbox: Outbox,
    /// None: given up; a new one is due at `recover_at`.
    connection: Option<Connection>,
    commands: mpsc::Receiver<Command>,
    drains: mpsc::Receiver<Drain>,
    /// False: the handle is gone.
    open: bool,
    drain: Option<Drain>,
    /// The client's queue was full at the last pump: nothing more is taken in.
    full: bool,
    /// Since the last delivery.
    recoveries: u32,
    recover_at: Instant,
    /// When something was taken in or delivered.
    active_at: Instant,
    watch: Watch,
    silence: Confirmations,
    /// As configured.
    servers: String,
    meters: Meters,
}

impl Worker {
    fn run(mut self) {
        loop {
            self.take_commands();
            let more = self.pump();
            self.poll(more);
            self.settle();
            self.tell();
            if !self.open || self.is_drained() {
                break;
            }
        }
        if let Some((_, done)) = self.drain.take() {
            // Nobody waits any more when the drain was itself cut short.
            let _unheard = done.send(());
        }
        if let Some(connection) = self.connection.take() {
            for (seq, result) in connection.give_up(Duration::ZERO) {
                self.outbox.delivered(Instant::now(), seq, result);
            }
        }
        self.settle();
    }

    fn is_drained(&mut self) -> bool {
        if let Ok(drain) = self.drains.try_recv() {
            self.drain = Some(drain);
        }
        let Some((until, _)) = &self.drain else { return false };
        self.outbox.len() == 0 && self.commands.is_empty() || Instant::now() >= *until
    }

    fn take_commands(&mut self) {
        while (self.connection.is_some() && !self.full) || self.commands.is_closed() {
            match self.commands.try_recv() {
                Ok(Command::Send(events)) => {
                    self.active_at = Instant::now();
                    for (receipt, event) in events {
                        self.outbox.push(receipt, event);
                    }
                    if self.outbox.len() >= PUMP_MAX {
                        return;
                    }
                }
                #[cfg(test)]
                Ok(Command::Recover) => self.recover("test"),
                Err(mpsc::error::TryRecvError::Empty) => return,
                Err(mpsc::error::TryRecvError::Disconnected) => {
                    self.open = false;
                    return;
                }
            }
        }
    }

    /// Returns whether there is more to produce at once.
    fn pump(&mut self) -> bool {
        let now = Instant::now();
        if self.connection.is_none() && now >= self.recover_at {
            self.reconnect();
        }
        let Some(connection) = &mut self.connection else { return false };
        let pumped = self.outbox.pump(now, PUMP_MAX, connection);
        self.full = pumped == Pumped::Full;
        match pumped {
            Pumped::Done => !self.commands.is_empty(),
            Pumped::More => true,
            Pumped::Full => {
                self.meters.queue_full.increment(1);
                false
            }
            Pumped::Broken(code) => {
                self.recover(&code.to_string());
                false
            }
        }
    }

    /// Waits for what happens next, no longer than a new event may wait.
    fn poll(&mut self, more: bool) {
        let now = Instant::now();
        let wait = match &self.connection {
            _ if more => Duration::ZERO,
            None => self.recover_at.saturating_duration_since(now).min(QUIET_POLL),
            Some(_) if self.outbox.in_flight() == 0 => {
                self.outbox.due().map_or(IDLE_POLL, |due| due.saturating_duration_since(now)).min(IDLE_POLL)
            }
            Some(_) if now.duration_since(self.active_at) > QUIET_AFTER => QUIET_POLL,
            Some(_) => ACTIVE_POLL,
        };
        // Not within the client's own poll: it spins for the last millisecond, and no hand-over wakes it.
        if !wait.is_zero() {
            std::thread::park_timeout(wait);
        }
        let Some(connection) = &self.connection else { return };
        let reports = connection.poll();
        let mut broken = connection.is_fatal();
        let now = Instant::now();
        for (seq, result) in reports {
            if result.is_ok() {
                self.silence.confirmed(now);
                self.recoveries = 0;
                self.active_at = now;
                self.watch.delivered(now);
            }
            broken |= self.outbox.delivered(now, seq, result);
        }
        if broken {
            self.recover("records failed");
        } else if self.is_stranded(now) {
            self.recover("it has lost its brokers");
        }
    }

    /// Says what keeps records from being confirmed, once that has lasted.
    fn tell(&mut self) {
        let now = Instant::now();
        if self.outbox.len() == 0 {
            self.silence.confirmed(now);
        }
        match self.silence.at(now) {
            Silence::Over => self.settler.troubles().over(),
            Silence::Lasts(time) => {
                let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let said = self.connection.as_ref().and_then(Connection::last_error);
                let said = said.map_or_else(String::new, |error| format!("; the client says: {error}"));
                let (servers, waiting) = (&self.servers, self.outbox.len());
                let text = format!("no record confirmed by {servers} for {} s, {waiting} wait{said}", time.as_secs());
                self.settler.troubles().report(text, unix.saturating_sub(time).as_millis() as u64);
            }
            Silence::Same => {}
        }
    }

    fn is_stranded(&mut self, now: Instant) -> bool {
        if self.outbox.in_flight() == 0 {
            self.watch.delivered(now);
        }
        let (Some(connection), Some(topic)) = (&self.connection, self.outbox.oldest_topic()) else { return false };
        self.watch.is_stranded(connection, &self.properties, topic)
    }

    /// Gives the producer up. What it had not delivered goes through a new one, in arrival order, before anything newer.
    fn recover(&mut self, cause: &str) {
        let Some(connection) = self.connection.take() else { return };
        tracing::warn!(cause, unsettled = self.outbox.len(), "a new producer is needed; nothing is lost");
        let now = Instant::now();
        for (seq, result) in connection.give_up(GIVE_UP_WAIT) {
            self.outbox.delivered(now, seq, result);
        }
        self.outbox.restart();
        self.watch.delivered(now);
        self.meters.recoveries.increment(1);
        let wait = self.timing.recover_min.saturating_mul(1 << self.recoveries.min(16)).min(self.timing.recover_max);
        self.recoveries += 1;
        self.recover_at = Instant::now() + wait;
    }

    fn reconnect(&mut self) {
        match Connection::open_metered(&self.properties, BrokerMeters::new(&self.meters.stage)) {
            Ok(connection) => self.connection = Some(connection),
            Err(error) => {
                tracing::error!(%error, "no new producer; trying again");
                self.recover_at = Instant::now() + self.timing.recover_max;
            }
        }
    }

    fn settle(&mut self) {
        let settled = self.outbox.take_settled();
        if settled.is_empty() {
            return;
        }
        let rejected = settled.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Rejected(_))).count();
        self.meters.rejected.increment(rejected as u64);
        self.meters.accepted.increment((settled.len() - rejected) as u64);
        self.meters.unsettled.set(self.outbox.len() as f64);
        self.meters.topics.set(self.outbox.topic_count() as f64);
        self.settler.settle_all(settled);
    }
}

struct Meters {
    stage: String,
    accepted: metrics::Counter,
    rejected: metrics::Counter,
    recoveries: metrics::Counter,
    queue_full: metrics::Counter,
    unsettled: metrics::Gauge,
    topics: metrics::Gauge,
}

impl Meters {
    fn new(stage: &str) -> Self {
        let settled = |outcome: &'static str| metrics::counter!(names::SETTLED, "stage" => stage.to_owned(), "outcome" => outcome);
        Self {
            stage: stage.to_owned(),
            accepted: settled("accepted"),
            rejected: settled("rejected"),
            recoveries: metrics::counter!(names::RECOVERIES, "stage" => stage.to_owned()),
            queue_full: metrics::counter!(names::QUEUE_FULL, "stage" => stage.to_owned()),
            unsettled: metrics::gauge!(names::UNSETTLED, "stage" => stage.to_owned()),
            topics: metrics::gauge!(names::TOPICS, "stage" => stage.to_owned()),
        }
    }
}
