//! One librdkafka consumer, a member of the group: what it has to say is collected, nothing is decided here.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::BorrowedMessage;
use rdkafka::statistics::Statistics;
use rdkafka::types::{RDKafkaErrorCode as Code, RDKafkaRespErr};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use super::config::Begin;
use super::intake::Place;
use crate::config::ConfigError;
use crate::producer::{config_error, log, native};
use crate::statistics::BrokerMeters;

/// One question to the cluster.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Partitions by topic and number, each with an offset where that matters.
type Named = Vec<(String, i32)>;

/// What the group's coordinator wants.
#[derive(Debug)]
pub(super) enum Rebalance {
    /// These are ours. Due: [`Client::assign`].
    Assigned(Named),
    /// These are to be given back. Due: [`Client::release`].
    Revoked(Named),
    /// These are another's already. Due: [`Client::release`].
    Lost(Named),
}

/// What a call of [`Client::poll`] has brought besides records.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) rebalances: Vec<Rebalance>,
    /// Of the commit under way: whether the group has it.
    pub(super) committed: Option<bool>,
    /// By topic and partition: records between what is committed and the end.
    pub(super) lags: Vec<(String, i32, i64)>,
}

#[derive(Default)]
pub(super) struct Context {
    news: Mutex<News>,
    /// What is revoked is given back at once: nobody waits for it.
    closing: AtomicBool,
    fatal: AtomicBool,
    meters: BrokerMeters,
}

impl Context {
    // Taken by the thread that polls and the one that commits, neither of which waits while it has it.
    fn news(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log(level, facility, text);
    }

    fn stats(&self, statistics: Statistics) {
        self.meters.told(&statistics);
        let topics = statistics.topics.into_iter();
        let lags = topics.flat_map(|(topic, of)| {
            of.partitions.into_values().map(move |one| (topic.clone(), one.partition, one.consumer_lag))
        });
        self.news().lags = lags.filter(|(_, partition, lag)| *partition >= 0 && *lag >= 0).collect();
    }

    fn error(&self, error: KafkaError, text: &str) {
        if error.rdkafka_error_code() == Some(Code::Fatal) {
            self.fatal.store(true, Ordering::Relaxed);
        }
        self.meters.error(error.rdkafka_error_code().unwrap_or(Code::Unknown));
        tracing::warn!(%error, "the Kafka client says: {text}");
    }
}

impl ConsumerContext for Context {
    /// The answer is given later, from the loop, when all is settled: librdkafka waits for it.
    fn rebalance(&self, consumer: &BaseConsumer<Self>, what: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let is_assigned = what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::Relaxed) {
            let answer = if is_assigned {
                consumer.incremental_assign(partitions)
            } else {
                consumer.incremental_unassign(partitions)
            };
            // A client that is closed forgets them in any case.
            let _forgotten = answer;
            return;
        }
        let named = partitions.elements().iter().map(|one| (one.topic().to_owned(), one.partition())).collect();
        self.news().rebalances.push(match is_assigned {
            true => Rebalance::Assigned(named),
            false if consumer.assignment_lost() => Rebalance::Lost(named),
            false => Rebalance::Revoked(named),
        });
    }
}

/// A live client. Its calls may block: it belongs on a thread that may.
///
/// librdkafka's bindings tell what became of a commit only to one who waits for it: a second thread does.
pub(super) struct Client {
    consumer: Arc<BaseConsumer<Context>>,
    topics: Vec<String>,
    /// None: it has not joined.
    committer: Option<Committer>,
}

struct Committer {
    commits: SyncSender<Vec<(String, i32, i64)>>,
    thread: JoinHandle<()>,
}

impl Client {
    /// Needs no broker yet.
    pub(super) fn open(
        properties: &BTreeMap<String, String>,
        topics: &[String],
        meters: BrokerMeters,
    ) -> Result<Self, ConfigError> {
        let context = Context { meters, ..Context::default() };
        let consumer = BaseConsumer::from_config_and_context(&native(properties), context);
        let consumer = Arc::new(consumer.map_err(config_error)?);
        Ok(Self { consumer, topics: topics.to_vec(), committer: None })
    }

    /// Joins the group. This thread is woken when there is something to poll.
    pub(super) fn join(&mut self) -> Result<(), String> {
        let thread = std::thread::current();
        let reader = thread.clone();
        if let Some(consumer) = Arc::get_mut(&mut self.consumer) {
            consumer.set_nonempty_callback(move || thread.unpark());
        }
        self.committer = Some(committer(self.consumer.clone(), reader).map_err(|error| format!("no thread: {error}"))?);
        let topics: Vec<&str> = self.topics.iter().map(String::as_str).collect();
        self.consumer.subscribe(&topics).map_err(|error| error.to_string())
    }

    /// The next record that is there. None: there is none now, or something else has come.
    pub(super) fn poll(&self) -> Option<KafkaResult<BorrowedMessage<'_>>> {
        self.consumer.poll(Duration::ZERO)
    }

    /// What has come besides records.
    pub(super) fn news(&self) -> News {
        std::mem::take(&mut *self.consumer.context().news())
    }

    /// Whether librdkafka has given up.
    pub(super) fn is_fatal(&self) -> bool {
        self.consumer.context().fatal.load(Ordering::Relaxed)
    }

    /// Whether what is assigned is another's already.
    pub(super) fn is_lost(&self) -> bool {
        self.consumer.assignment_lost()
    }

    /// Which of the source's topics a name is.
    pub(super) fn place(&self, topic: &str, partition: i32) -> Option<Place> {
        let topic = self.topics.iter().position(|known| known == topic)?;
        Some(Place { topic, partition })
    }

    /// Where reading begins of those that the group has no offset for, unless that is with the oldest record.
    pub(super) fn begins(&self, partitions: &Named, begin: Begin) -> KafkaResult<Vec<(Place, Option<i64>)>> {
        let places = partitions.iter().filter_map(|(topic, partition)| self.place(topic, *partition));
        let mut begins: Vec<(Place, Option<i64>)> = places.map(|place| (place, None)).collect();
        if begin == Begin::Earliest {
            return Ok(begins);
        }
        let all: Vec<Place> = begins.iter().map(|(place, _)| *place).collect();
        let known = self.consumer.committed_offsets(self.list(&all, Offset::Invalid)?, ANSWER_TIMEOUT)?;
        for (place, first) in &mut begins {
            let offset = known.find_partition(&self.topics[place.topic], place.partition).map(|one| one.offset());
            if !matches!(offset, Some(Offset::Offset(_))) {
                *first = Some(self.begin(*place, begin)?);
            }
        }
        Ok(begins)
    }

    fn begin(&self, place: Place, begin: Begin) -> KafkaResult<i64> {
        let topic = &self.topics[place.topic];
        if let Begin::At(unix_ms) = begin {
            let found = self
                .list(&[place], Offset::Offset(unix_ms))
                .and_then(|at| self.consumer.offsets_for_times(at, ANSWER_TIMEOUT))?;
            let found = found.find_partition(topic, place.partition).map(|one| (one.error(), one.offset()));
            match found {
                Some((Err(error), _)) => return Err(error),
                Some((Ok(()), Offset::Offset(offset))) => return Ok(offset),
                // Nothing is as young as that.
                Some(_) | None => {}
            }
        }
        self.consumer.fetch_watermarks(topic, place.partition, ANSWER_TIMEOUT).map(|(_, end)| end)
    }

    /// Answers [`Rebalance::Assigned`].
    pub(super) fn assign(&self, begins: &[(Place, Option<i64>)]) -> KafkaResult<()> {
        let mut list = TopicPartitionList::new();
        for (place, first) in begins {
            // Without an offset: the group's, else the oldest.
            let offset = first.map_or(Offset::Stored, Offset::Offset);
            list.add_partition_offset(&self.topics[place.topic], place.partition, offset)?;
        }
        self.consumer.incremental_assign(&list)
    }

    /// Answers [`Rebalance::Revoked`] and [`Rebalance::Lost`]. What is paused is resumed, so that its next owner reads it.
    pub(super) fn release(&self, partitions: &Named, paused: &[Place]) -> KafkaResult<()> {
        self.resume(paused)?;
        let mut list = TopicPartitionList::new();
        partitions.iter().for_each(|(topic, partition)| {
            list.add_partition(topic, *partition);
        });
        self.consumer.incremental_unassign(&list)
    }

    pub(super) fn pause(&self, places: &[Place]) -> KafkaResult<()> {
        if places.is_empty() { Ok(()) } else { self.consumer.pause(&self.list(places, Offset::Invalid)?) }
    }

    pub(super) fn resume(&self, places: &[Place]) -> KafkaResult<()> {
        if places.is_empty() { Ok(()) } else { self.consumer.resume(&self.list(places, Offset::Invalid)?) }
    }

    /// Asks for a commit; what became of it is news. One at a time.
    pub(super) fn commit(&self, offsets: &[(Place, i64)]) {
        let named = |(place, offset): &(Place, i64)| (self.topics[place.topic].clone(), place.partition, *offset);
        let sent = self
            .committer
            .as_ref()
            .is_some_and(|committer| committer.commits.try_send(offsets.iter().map(named).collect()).is_ok());
        if !sent {
            self.consumer.context().news().committed = Some(false);
        }
    }

    /// Whether a broker answers this client.
    pub(super) fn has_broker(&self, wait: Duration) -> bool {
        let metadata = self.consumer.fetch_metadata(self.topics.first().map(String::as_str), wait);
        metadata.is_ok_and(|metadata| !metadata.brokers().is_empty())
    }

    /// Leaves the group, and waits for that, but not for a commit under way. Answers that are due are given.
    pub(super) fn close(mut self, is_committing: bool) {
        self.consumer.context().closing.store(true, Ordering::Relaxed);
        for rebalance in self.news().rebalances {
            self.give_back(&rebalance);
        }
        if let Some(Committer { commits, thread }) = self.committer.take() {
            drop(commits);
            // Else it is the last that has the client, and closes it.
            if !is_committing {
                let _panicked = thread.join();
            }
        }
        drop(self);
    }

    /// At the close, an answer is all that matters.
    pub(super) fn give_back(&self, rebalance: &Rebalance) {
        let answer = match rebalance {
            Rebalance::Assigned(named) => {
                let places: Vec<_> =
                    named.iter().filter_map(|(topic, partition)| self.place(topic, *partition)).collect();
                self.assign(&places.into_iter().map(|place| (place, None)).collect::<Vec<_>>())
            }
            Rebalance::Revoked(named) | Rebalance::Lost(named) => self.release(named, &[]),
        };
        // The client forgets them in any case.
        let _forgotten = answer;
    }

    fn list(&self, places: &[Place], offset: Offset) -> KafkaResult<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        for place in places {
            list.add_partition_offset(&self.topics[place.topic], place.partition, offset)?;
        }
        Ok(list)
    }
}

/// The thread that commits. It ends with its sender.
fn committer(consumer: Arc<BaseConsumer<Context>>, reader: Thread) -> std::io::Result<Committer> {
    let (commits, offers) = sync_channel::<Vec<(String, i32, i64)>>(1);
    let thread = std::thread::Builder::new().name("kafka-commit".to_owned()).spawn(move || {
        for offsets in offers {
            let committed = commit(&consumer, &offsets);
            if let Err(error) = &committed {
                tracing::debug!(%error, "offsets not committed; trying again");
            }
            consumer.context().news().committed = Some(committed.is_ok());
            reader.unpark();
        }
    })?;
    Ok(Committer { commits, thread })
}

fn commit(consumer: &BaseConsumer<Context>, offsets: &[(String, i32, i64)]) -> KafkaResult<()> {
    let mut list = TopicPartitionList::new();
    for (topic, partition, offset) in offsets {
        list.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
    }
    consumer.commit(&list, CommitMode::Sync)
}
