//! A pipeline that starts from a topic: read once, committed when settled, replayed under another group.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jaiminho_tests::{
    Cluster, Directory, Group, Jaiminho, Kafka, Ledger, Numbered, Topic, Verdict, Writer, eventually, skip_kafka,
};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

const PATIENCE: Duration = Duration::from_secs(60);
const KEYS: u64 = 50;
const PARTITIONS: i32 = 3;

/// From `NAME-in` through a mapping to `OUT`, read by `GROUP`.
fn pipeline(at: &dyn Fn(&str) -> String, bootstrap: &str, name: &str, out: &str, kafka: &str) -> String {
    format!(
        r#"version: 1
pipeline: {name}
stages:
  read:
    at: {read}
    log: {{ events: 1000 }}
    source: {{ kafka: {{ bootstrap_servers: "{bootstrap}", topics: [{name}-in], {kafka} }} }}
  convert:
    at: {convert}
    subscribe_to: [read]
    transform: {{ vrl: ".data.converted = true" }}
  publish:
    at: {publish}
    subscribe_to: [convert]
    sink: {{ kafka: {{ bootstrap_servers: "{bootstrap}", topic: "{out}" }} }}
  dead:
    at: {dead}
    subscribe_to: [read.dead_letter, convert.dead_letter, publish.dead_letter]
    sink: {{ kafka: {{ bootstrap_servers: "{bootstrap}", topic: "{name}-dead" }} }}
"#,
        read = at("read"),
        convert = at("convert"),
        publish = at("publish"),
        dead = at("dead"),
    )
}

/// One topic, what was written to it, and who reads it.
struct Run {
    kafka: Arc<Kafka>,
    name: String,
    writer: Writer,
    ledger: Ledger,
    next: u64,
}

impl Run {
    async fn new(name: &str) -> Self {
        Self::on(name, Kafka::shared().await)
    }

    fn on(name: &str, kafka: Arc<Kafka>) -> Self {
        let writer = Writer::new(&kafka.bootstrap());
        Self { writer, kafka, name: name.to_owned(), ledger: Ledger::default(), next: 0 }
    }

    fn group(&self, name: &str) -> Group {
        let topic = format!("{}-in", self.name);
        Group { bootstrap: self.kafka.bootstrap(), name: name.to_owned(), topic, partitions: PARTITIONS }
    }

    /// Writes `count` more events; each is to be found at the end.
    async fn write(&mut self, count: u64) {
        let events = numbered(self.next, count);
        self.next += count;
        self.writer.events(&format!("{}-in", self.name), events.clone()).await;
        self.ledger.acknowledge(&events);
    }

    /// Writes on and on, until told to stop.
    fn writing(mut self) -> Writing {
        let stop = Arc::new(AtomicBool::new(false));
        let (told, ledger) = (stop.clone(), self.ledger.clone());
        let task = tokio::spawn(async move {
            let mut pace = tokio::time::interval(Duration::from_millis(50));
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while !told.load(Ordering::Relaxed) {
                pace.tick().await;
                self.write(50).await;
            }
            self
        });
        Writing { stop, ledger, task }
    }

    fn up(&self, directory: &Directory, out: &str, kafka: &str) -> Jaiminho {
        start(directory, &self.kafka.bootstrap(), &self.name, out, kafka)
    }

    /// Waits until the group has committed all that was written: more of it each time.
    async fn all_committed(&self, group: &Group, by: &Jaiminho) {
        let mut least = i64::MAX;
        while least > 0 {
            least = eventually("more to be committed", PATIENCE, || async {
                let lag = group.lag().await;
                if lag < least { Ok(lag) } else { Err(format!("a lag of {lag}; {}", by.child.log_tail())) }
            })
            .await;
        }
    }

    async fn verdict(&self, out: &str) -> Verdict {
        Topic::read(&self.kafka.bootstrap(), out).await.check(&self.ledger)
    }

    /// Nothing below what is committed may be missing from what was published.
    async fn nothing_was_committed_too_early(&self, group: &Group, out: &str) {
        let committed = group.committed().await;
        let read = Topic::read(&self.kafka.bootstrap(), &group.topic).await;
        let published = Topic::read(&self.kafka.bootstrap(), out).await;
        let published: BTreeSet<Numbered> = published.values().iter().filter_map(Numbered::of).collect();
        for record in read.records.iter().filter(|record| record.offset < committed[&record.partition]) {
            let event = Numbered::of(&record.json()).expect("a numbered event");
            assert!(published.contains(&event), "{event:?} is committed, and not published");
        }
    }
}

/// A run that is written to.
struct Writing {
    stop: Arc<AtomicBool>,
    ledger: Ledger,
    task: JoinHandle<Run>,
}

impl Writing {
    async fn more(&self, count: u64) {
        let before = self.ledger.count();
        eventually("more events", PATIENCE, || async {
            let more = self.ledger.count() - before;
            if more >= count { Ok(()) } else { Err(more.to_string()) }
        })
        .await;
    }

    async fn stop(self) -> Run {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("a writer")
    }
}

/// The pipeline in one process.
fn start(directory: &Directory, bootstrap: &str, name: &str, out: &str, kafka: &str) -> Jaiminho {
    let at = |_: &str| "{ dns: \"nowhere:7400\" }".to_owned();
    let file = directory.write(&format!("{out}.yaml"), &pipeline(&at, bootstrap, name, out, kafka));
    Jaiminho::up(directory.path(), &file, &[])
}

fn numbered(from: u64, count: u64) -> Vec<Numbered> {
    (from..from + count).map(|n| Numbered { key: format!("k-{}", n % KEYS), number: n / KEYS }).collect()
}

fn ids(topic: &Topic) -> BTreeSet<String> {
    topic.records.iter().map(|record| record.headers["ce_id"].clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_read_once_in_order_and_what_cannot_be_read_is_a_dead_letter() {
    if skip_kafka() {
        return;
    }
    let mut run = Run::new("source-once").await;
    run.write(3_000).await;
    let broken = ("content-type".to_owned(), "application/cloudevents+json".to_owned());
    run.writer.write("source-once-in", vec![("k".to_owned(), "{oops".to_owned(), vec![broken])]).await;
    run.write(100).await;
    let (directory, group) = (Directory::new("source-once"), run.group("source-once"));
    let options = "group: source-once";
    let up = run.up(&directory, "source-once-out", options);
    up.ready().await;
    run.all_committed(&group, &up).await;
    let expected = Verdict { distinct: 3_100, ..Verdict::default() };
    assert_eq!(run.verdict("source-once-out").await, expected);
    let dead = Topic::read(&run.kafka.bootstrap(), "source-once-dead").await;
    let letter = dead.records[0].json();
    assert_eq!((dead.records.len(), dead.records[0].headers["ce_reason"].as_str()), (1, "malformed"));
    assert!(letter["id"].as_str().is_some_and(|id| id.starts_with("source-once-in/")), "{letter}");
    assert!(up.metric("jaiminho_kafka_records_total", "read").await >= 3_101.0);
    assert!(up.metric("jaiminho_kafka_commits_total", "done").await >= 1.0);
    up.child.terminate();
    assert!(up.child.exit(PATIENCE).await.success());

    run.write(100).await;
    let up = run.up(&directory, "source-once-out", options);
    up.ready().await;
    run.all_committed(&group, &up).await;
    let expected = Verdict { distinct: 3_200, ..Verdict::default() };
    assert_eq!(run.verdict("source-once-out").await, expected, "what was committed came again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_that_is_killed_goes_on_where_all_was_settled() {
    if skip_kafka() {
        return;
    }
    const KILLS: u64 = 4;
    const OPTIONS: &str = "group: source-kill, properties: { session.timeout.ms: 6000 }";
    /// In flight: the log, a batch of each partition over it, and what comes in between two commits, twice.
    const DUPLICATES_MAX: u64 = KILLS * (1_000 + 3 * 500 + 2 * 1_000);
    let mut run = Run::new("source-kill").await;
    let (directory, group) = (Directory::new("source-kill"), run.group("source-kill"));
    for _ in 0..KILLS {
        let writing = run.writing();
        let up = start(&directory, &group.bootstrap, &group.name, "source-kill-out", OPTIONS);
        up.ready().await;
        eventually("commits", PATIENCE, || async {
            let before = group.committed().await.values().sum::<i64>();
            tokio::time::sleep(Duration::from_secs(1)).await;
            let more = group.committed().await.values().sum::<i64>() - before;
            if more > 200 { Ok(()) } else { Err(format!("{more} more; {}", up.child.log_tail())) }
        })
        .await;
        up.child.kill();
        run = writing.stop().await;
        run.nothing_was_committed_too_early(&group, "source-kill-out").await;
    }
    let up = start(&directory, &group.bootstrap, &group.name, "source-kill-out", OPTIONS);
    up.ready().await;
    run.all_committed(&group, &up).await;
    let verdict = run.verdict("source-kill-out").await;
    eprintln!("{} events, {} duplicates", verdict.distinct, verdict.duplicates);
    assert_eq!((verdict.missing, verdict.disordered, verdict.foreign_ids), (vec![], vec![], vec![]));
    assert!(verdict.duplicates <= DUPLICATES_MAX, "{} duplicates", verdict.duplicates);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_is_waited_for() {
    if skip_kafka() {
        return;
    }
    let mut run = Run::on("source-away", Arc::new(Kafka::start().await));
    let (directory, group) = (Directory::new("source-away"), run.group("source-away"));
    run.write(1_000).await;
    let up = run.up(&directory, "source-away-out", "group: source-away");
    up.ready().await;
    run.all_committed(&group, &up).await;
    run.kafka.kill();
    // Longer than it takes until a client is asked whether it has brokers at all.
    tokio::time::sleep(Duration::from_secs(15)).await;
    run.kafka.restart().await;
    run.write(1_000).await;
    run.all_committed(&group, &up).await;
    let verdict = run.verdict("source-away-out").await;
    assert_eq!(verdict, Verdict { distinct: 2_000, duplicates: verdict.duplicates, ..Verdict::default() });
    assert!(verdict.duplicates <= 1_000, "{} duplicates", verdict.duplicates);
    assert!(up.child.exited().is_none(), "{}", up.child.log_tail());
}

/// Offsets that the group commits never go back.
fn watched(group: Group) -> (Arc<AtomicBool>, JoinHandle<()>) {
    let stop = Arc::new(AtomicBool::new(false));
    let told = stop.clone();
    let watching = tokio::spawn(async move {
        let mut last: BTreeMap<i32, i64> = BTreeMap::new();
        while !told.load(Ordering::Relaxed) {
            for (partition, offset) in group.committed().await {
                let before = last.insert(partition, offset).unwrap_or(0);
                assert!(offset >= before, "partition {partition} went back from {before} to {offset}");
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    (stop, watching)
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_change_hands_under_load_without_loss_or_duplicate_and_a_killed_member_costs_duplicates_only() {
    if skip_kafka() {
        return;
    }
    let stages = [("read", 2), ("convert", 1), ("publish", 1), ("dead", 1)];
    let run = Run::new("source-move").await;
    let (bootstrap, group) = (run.kafka.bootstrap(), run.group("source-move"));
    let options = "group: source-move, properties: { session.timeout.ms: 10000 }";
    let mut cluster =
        Cluster::new("source-move", &stages, |at| pipeline(at, &bootstrap, "source-move", "source-move-out", options));
    stages.iter().for_each(|(stage, _)| cluster.start(stage, 0));
    cluster.ready().await;
    let writing = run.writing();
    let (stop, watching) = watched(group.clone());
    for _ in 0..2 {
        writing.more(2_000).await;
        cluster.start("read", 1);
        cluster.ready().await;
        eventually("the second instance to read", PATIENCE, || async {
            let records = cluster.instance("read", 1).metric("jaiminho_kafka_records_total", "read").await;
            if records > 300.0 { Ok(()) } else { Err(format!("{records} records")) }
        })
        .await;
        writing.more(2_000).await;
        cluster.drain("read", 1).await;
    }
    writing.more(2_000).await;
    cluster.assert_running();
    let run = writing.stop().await;
    run.all_committed(&group, cluster.instance("read", 0)).await;
    let clean = run.verdict("source-move-out").await;
    assert_eq!(clean, Verdict { distinct: clean.distinct, ..Verdict::default() });

    let writing = run.writing();
    cluster.start("read", 1);
    cluster.ready().await;
    writing.more(4_000).await;
    cluster.kill("read", 0);
    writing.more(4_000).await;
    let run = writing.stop().await;
    run.all_committed(&group, cluster.instance("read", 1)).await;
    stop.store(true, Ordering::Relaxed);
    watching.await.expect("offsets only go forward");
    let verdict = run.verdict("source-move-out").await;
    eprintln!("{} events, {} duplicates after the kill", verdict.distinct, verdict.duplicates);
    assert_eq!((verdict.missing, verdict.disordered, verdict.foreign_ids), (vec![], vec![], vec![]));
    assert!(verdict.duplicates <= 4_500, "{} duplicates", verdict.duplicates);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_group_replays_a_topic_into_another_one_with_the_same_ids_and_from_a_time_only_what_is_younger() {
    if skip_kafka() {
        return;
    }
    let mut run = Run::new("source-replay").await;
    run.write(500).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time");
    run.writer
        .write("source-replay-in", (0..20).map(|n| (format!("k-{n}"), format!("{{\"plain\":{n}}}"), vec![])).collect())
        .await;
    let directory = Directory::new("source-replay");
    for (round, start) in ["earliest".to_owned(), "earliest".to_owned(), timestamp(now)].into_iter().enumerate() {
        let (name, out) = (format!("source-replay-{round}"), format!("source-replay-out-{round}"));
        let up = run.up(&directory, &out, &format!("group: {name}, start: {start}"));
        up.ready().await;
        run.all_committed(&run.group(&name), &up).await;
    }
    let mut topics = Vec::new();
    for round in 0..3 {
        topics.push(Topic::read(&run.kafka.bootstrap(), &format!("source-replay-out-{round}")).await);
    }
    assert_eq!(topics[0].records.len(), 520);
    assert!(topics[0].records.iter().all(|record| record.json()["converted"] == true));
    assert_eq!(ids(&topics[0]), ids(&topics[1]), "a replay gives the same ids");
    assert_eq!(topics[2].records.len(), 20);
    assert!(ids(&topics[2]).is_subset(&ids(&topics[0])));
}

fn timestamp(since: Duration) -> String {
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Civil date of a day number, as Howard Hinnant has it.
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let (day, month) =
        (day_of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second, ms) = (seconds / 3600, seconds / 60 % 60, seconds % 60, since.subsec_millis());
    format!("{{ timestamp: \"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z\" }}")
}
