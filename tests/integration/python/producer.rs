//! producer.py in front of real stages that write to a file.

use std::collections::{BTreeMap, BTreeSet};

use jaiminho_tests::exit::UNAVAILABLE;
use jaiminho_tests::{Child, Cluster, Jaiminho, Place};
use serde_json::Value;

use super::{PATIENCE, SILENCE, count, python, skip_python, told};

/// producer.py, the stage `numbers` of a pipeline file, in front of real stages that write to a file.
struct Numbers {
    cluster: Cluster,
    place: Place,
}

impl Numbers {
    fn new(name: &str, convert_log: u64) -> Self {
        let place = Place::local();
        let cluster = Cluster::new(name, &[("convert", 1), ("publish", 1)], |at| {
            format!(
                r#"version: 1
pipeline: python
stages:
  # Its instance is producer.py: what stands here is never run.
  numbers:
    at: {{ list: ["{numbers}"] }}
    source: {{ generate: {{}} }}
  convert:
    at: {convert}
    subscribe_to: [numbers]
    window: {{ max_demand: 20 }}
    log: {{ events: {convert_log} }}
    transform: {{ vrl: 'if .data.number == 7 || .data.number == 57 {{ abort "seven is not liked" }}' }}
  publish:
    at: {publish}
    subscribe_to: [convert]
    sink: {{ file: {{ path: published.ndjson }} }}
"#,
                numbers = place.address(),
                convert = at("convert"),
                publish = at("publish"),
            )
        });
        Self { cluster, place }
    }

    fn producer(&self, first: u64, last: u64) -> Child {
        self.producer_with(&[], first, last)
    }

    fn producer_with(&self, arguments: &[&str], first: u64, last: u64) -> Child {
        let of = ["producer.py", "--pipeline", "python", "--output", "numbers", "--group", "convert", "--name", "n"];
        let (listen, first, last) = (self.place.address(), first.to_string(), last.to_string());
        let all = [&of[..], &["--listen", &listen, "--first", &first, "--last", &last], arguments].concat();
        python(self.cluster.directory(), "producer.log", &all)
    }

    /// The numbers in the file, in its order.
    fn published(&self) -> Vec<u64> {
        let text = std::fs::read_to_string(self.cluster.directory().join("published.ndjson")).unwrap_or_default();
        // The last line may be half written.
        let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.filter_map(|event| event["data"]["number"].as_u64()).collect()
    }

    /// Everything that was accepted is in the file, and each key's first copies are in order.
    fn check(&self, producer: &Child) {
        let published = self.published();
        let distinct: BTreeSet<_> = published.iter().copied().collect();
        let missing: Vec<_> = settled(producer, "accepted ").difference(&distinct).copied().collect();
        assert_eq!(missing, [0; 0], "accepted, and not published");
        let mut seen = BTreeMap::<u64, u64>::new();
        for number in published {
            let last = seen.entry(number % 10).or_insert(number);
            assert!(number <= *last + 10 || [17, 67].contains(&number), "{number} after {last}");
            *last = (*last).max(number);
        }
    }

    /// Waits until `more` events than now are accepted.
    async fn flowing(&self, producer: &Child, more: usize) {
        told(producer, "accepted ", count(&producer.log(), "accepted ") + more).await;
    }
}

/// The offsets that a producer was told of, by what it was told.
fn settled(producer: &Child, outcome: &str) -> BTreeSet<u64> {
    let log = producer.log();
    let of_outcome = log.lines().filter_map(|line| line.strip_prefix(outcome)?.split_whitespace().next());
    of_outcome.filter_map(|offset| offset.parse().ok()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_producer_waits_for_credit_and_hears_what_became_of_its_events() {
    if skip_python() {
        return;
    }
    let mut numbers = Numbers::new("python-producer", 50);
    let producer = numbers.producer(1, 2_000);
    numbers.cluster.start("convert", 0);
    numbers.cluster.ready().await;
    told(&producer, "rejected 7 seven is not liked", 1).await;
    // Nobody takes what `convert` has: no credit comes, and heartbeats alone keep the link.
    tokio::time::sleep(SILENCE).await;
    let convert = numbers.cluster.instance("convert", 0);
    let held = convert.metric("jaiminho_inputs_in_work", "convert").await;
    assert!(held > 57.0 && held <= 100.0, "{held} of 2,000 events");
    let log = convert.child.log();
    assert_eq!(count(&log, "link to a producer is up"), 1, "{log}");

    // What it had comes again, 57 among it.
    numbers.cluster.kill("convert", 0);
    numbers.cluster.start("convert", 0);
    numbers.cluster.start("publish", 0);
    assert_eq!(producer.exit(PATIENCE).await.code(), Some(0), "{}", producer.log_tail());
    let log = numbers.cluster.instance("convert", 0).child.log();
    assert_eq!([1, 2].map(|attempt| count(&log, &format!("\"attempt\":{attempt},"))), [1, 1], "{log}");
    let accepted: BTreeSet<_> = (1..=2_000).filter(|number| ![7, 57].contains(number)).collect();
    assert_eq!((settled(&producer, "accepted "), settled(&producer, "rejected ")), (accepted, BTreeSet::from([7, 57])));
    assert_eq!(numbers.published().len(), 1_998);
    numbers.check(&producer);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_python_producer_was_told_is_accepted_was_published_though_either_side_drains_or_is_killed() {
    if skip_python() {
        return;
    }
    let mut numbers = Numbers::new("python-restarts", 8_000);
    let (first, last) = (1, 1_000_000);
    let producer = numbers.producer(first, last);
    numbers.cluster.start("publish", 0);
    numbers.cluster.start("convert", 0);
    numbers.flowing(&producer, 300).await;
    producer.terminate();
    assert_eq!(producer.exit(PATIENCE).await.code(), Some(0), "{}", producer.log_tail());
    let accepted = settled(&producer, "accepted ");
    assert_eq!(
        accepted.len() as u64 + 2,
        accepted.last().copied().unwrap_or_default(),
        "all but 7 and 57 are accepted"
    );
    assert_eq!(numbers.published().len(), accepted.len(), "a drain leaves no duplicate");
    // `Ended` came before the end.
    told(&numbers.cluster.instance("convert", 0).child, r#""error":"draining""#, 1).await;

    let producer = numbers.producer(accepted.len() as u64 + 3, last);
    numbers.flowing(&producer, 300).await;
    numbers.cluster.drain("convert", 0).await;
    numbers.cluster.start("convert", 0);
    numbers.flowing(&producer, 300).await;
    numbers.cluster.kill("convert", 0);
    numbers.cluster.start("convert", 0);
    numbers.flowing(&producer, 300).await;
    producer.kill();
    let accepted = settled(&producer, "accepted ");
    let unknown = (1..).find(|number| ![7, 57].contains(number) && !accepted.contains(number)).unwrap_or_default();
    let last = accepted.last().copied().unwrap_or_default() + 500;
    let producer = numbers.producer(unknown, last);
    assert_eq!(producer.exit(PATIENCE).await.code(), Some(0), "{}", producer.log_tail());
    assert_eq!(settled(&producer, "accepted ").len() as u64, last - 2);
    assert_eq!(settled(&producer, "rejected "), BTreeSet::from([7, 57]));
    numbers.check(&producer);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_producer_and_its_consumer_notice_when_the_other_stands_still() {
    if skip_python() {
        return;
    }
    let mut numbers = Numbers::new("python-silence", 8_000);
    let producer = numbers.producer(1, 1_000_000);
    numbers.cluster.start("publish", 0);
    numbers.cluster.start("convert", 0);
    numbers.flowing(&producer, 100).await;
    let convert = &numbers.cluster.instance("convert", 0).child;
    producer.freeze();
    told(convert, "peer silent", 1).await;
    producer.thaw();
    told(convert, "link to a producer is up", 2).await;
    numbers.flowing(&producer, 100).await;
    // Whoever was frozen may have found the other one silent, too.
    let silent = count(&producer.log(), "SILENT");
    let up = count(&convert.log(), "link to a producer is up");
    convert.freeze();
    told(&producer, "SILENT", silent + 1).await;
    convert.thaw();
    told(convert, "link to a producer is up", up + 1).await;
    numbers.flowing(&producer, 100).await;
    producer.terminate();
    assert_eq!(producer.exit(PATIENCE).await.code(), Some(0), "{}", producer.log_tail());
    numbers.check(&producer);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_producer_refuses_with_the_status_that_says_why() {
    if skip_python() {
        return;
    }
    let numbers = Numbers::new("python-refuses", 8_000);
    let (directory, file) = (numbers.cluster.directory(), numbers.cluster.file());
    let convert = |name: &str| Jaiminho::named(directory, file, "convert", &Place::local(), name);
    let older = convert("the-name");
    for (option, told_so) in [
        ("--pipeline", "this is pipeline other, not python"),
        ("--output", "unknown output numbers"),
        ("--group", "group convert is not named by the pipeline"),
    ] {
        let producer = numbers.producer_with(&[option, "other"], 1, 10);
        told(&older.child, told_so, 1).await;
        producer.kill();
    }
    let producer = numbers.producer(1, 1_000_000);
    told(&older.child, "link to a producer is up", 1).await;
    let second = convert("another");
    told(&second.child, "limit reached: one member is here", 1).await;
    let newer = convert("the-name");
    assert_eq!(older.child.exit(PATIENCE).await.code(), Some(UNAVAILABLE), "{}", older.child.log_tail());
    told(&producer, "FENCED", 1).await;
    told(&newer.child, "link to a producer is up", 1).await;
}
