//! consumer.py behind a real `ingest`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jaiminho_tests::{Child, Client, Cluster, Ledger, Load, LoadConfig, Numbered, eventually, free_port, within};
use serde_json::{Value, json};

use super::{PATIENCE, SILENCE, count, python, skip_python, told};

/// A real `ingest` in front of instances of consumer.py, the stage `worker` of its pipeline file.
struct Edge {
    cluster: Cluster,
    port: u16,
    address: String,
}

impl Edge {
    async fn start(name: &str, log_events: u64) -> Self {
        let port = free_port();
        let mut cluster = Cluster::new(name, &[("ingest", 1)], |at| {
            format!(
                r#"version: 1
pipeline: python
stages:
  ingest:
    at: {ingest}
    key: "{{{{data.key}}}}"
    log: {{ events: {log_events} }}
    source: {{ http: {{ listen: "127.0.0.1:{port}", path: /events, deadline: 50s }}, websocket: {{ path: /ws }}, drain_delay: 0s }}
  # Its instances are consumer.py: what stands here is never run.
  worker:
    subscribe_to: [ingest]
    sink: {{ blackhole: {{}} }}
"#,
                ingest = at("ingest"),
            )
        });
        cluster.start("ingest", 0);
        cluster.ready().await;
        let address = cluster.instance("ingest", 0).place.address();
        Self { cluster, port, address }
    }

    /// All write to one log: its lines are in the order of time.
    fn consumer(&self, name: &str, arguments: &[&str]) -> Child {
        self.consumer_of("python", "worker", name, arguments)
    }

    fn consumer_of(&self, pipeline: &str, group: &str, name: &str, arguments: &[&str]) -> Child {
        let to = ["--connect", &self.address, "--pipeline", pipeline, "--output", "ingest", "--group", group];
        let all = [&["consumer.py"], &to[..], &["--name", name], arguments].concat();
        python(self.cluster.directory(), "consumers.log", &all)
    }

    async fn linked(&self, member: &str, times: usize) {
        let ingest = &self.cluster.instance("ingest", 0).child;
        let peer = format!("\"peer\":\"{member}\"");
        eventually(&format!("{times} links of {member}"), PATIENCE, || async {
            let log = ingest.log();
            let is_up = |line: &&str| line.contains("\"message\":\"link to a consumer is up\"") && line.contains(&peer);
            let links = log.lines().filter(is_up).count();
            if links >= times { Ok(()) } else { Err(format!("{links}\n{}", ingest.log_tail())) }
        })
        .await;
    }

    /// Takes one event, and says 200.
    async fn works(&self) {
        let answer = Client::new(self.port).json(&json!({ "key": "k", "number": 0 })).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }

    async fn flowing(&self, ledger: &Ledger, more: u64) {
        let before = ledger.count();
        eventually("events flow", PATIENCE, || async {
            let more_so_far = ledger.count() - before;
            if more_so_far >= more { Ok(()) } else { Err(format!("{more_so_far}; {:?}", ledger.answers())) }
        })
        .await;
    }
}

/// The events that consumers have printed.
fn printed(consumer: &Child) -> Vec<Numbered> {
    consumer.log().lines().filter_map(numbered).collect()
}

fn numbered(line: &str) -> Option<Numbered> {
    Numbered::of(&serde_json::from_str::<Value>(line).ok()?)
}

fn load(port: u16) -> LoadConfig {
    LoadConfig { keys: 200, ..LoadConfig::new(vec![port], 300.0) }
}

/// All that was acknowledged was processed, and each key's first copies are in order.
fn check(ledger: &Ledger, processed: &[Numbered]) {
    assert_eq!(ledger.rejected(), []);
    let distinct: BTreeSet<_> = processed.iter().collect();
    let missing: Vec<_> = ledger.acknowledged().into_iter().filter(|event| !distinct.contains(event)).collect();
    assert_eq!(missing, [], "acknowledged, and not processed");
    let mut seen = BTreeMap::<&str, u64>::new();
    for Numbered { key, number } in processed {
        let last = seen.entry(key).or_default();
        assert!(*number <= *last + 1, "{key}: {number} after {last}");
        *last = (*last).max(*number);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_http_client_is_told_what_a_python_consumer_decides() {
    if skip_python() {
        return;
    }
    let edge = Edge::start("python-rejects", 100).await;
    let consumer = edge.consumer("a", &["--reject", "devil"]);
    let client = Client::new(edge.port);
    let event = |name: &str| json!({ "key": name, "number": 1 });
    let answer = client.json(&event("angel")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let answer = client.json(&event("devil")).await;
    assert_eq!(answer.status, 422, "{}", answer.text);
    assert!(answer.text.contains("invalid: devil is not liked here"), "{}", answer.text);
    let answer = client.json(&json!([event("angel"), event("devil"), event("human")])).await;
    assert_eq!(answer.status, 207, "{}", answer.text);
    let rejected: Vec<_> = answer.unpublished().into_iter().map(|(index, status, _)| (index, status)).collect();
    assert_eq!(rejected, [(1, "rejected".to_owned())], "{}", answer.text);
    let keys: Vec<_> = printed(&consumer).into_iter().map(|event| event.key).collect();
    assert_eq!(keys, ["angel", "angel", "human"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_python_consumer_holds_the_edge_back_and_gets_no_more_than_its_window() {
    if skip_python() {
        return;
    }
    let (window, log, requests) = (4, 20, 60);
    let edge = Edge::start("python-credit", log).await;
    let consumer = edge.consumer("a", &["--window", &window.to_string(), "--work_ms", "100"]);
    edge.linked("a", 1).await;
    let posts = (1..=requests).map(|number| {
        let client = Client::new(edge.port);
        tokio::spawn(async move { client.json(&json!({ "key": number.to_string(), "number": 1 })).await.status })
    });
    let mut posts = futures_util::future::join_all(posts);
    let ingest = edge.cluster.instance("ingest", 0);
    let mut ahead = 0.0_f64;
    let answers = loop {
        let delivered = ingest.metric("jaiminho_deliveries_total", "worker").await;
        ahead = ahead.max(delivered - printed(&consumer).len() as f64);
        if let Ok(answers) = tokio::time::timeout(Duration::from_millis(20), &mut posts).await {
            break answers;
        }
    };
    let statuses: Vec<u16> = answers.into_iter().map(|answer| answer.expect("no panic")).collect();
    let (done, refused) = (count_of(&statuses, 200), count_of(&statuses, 429));
    assert_eq!(done + refused, requests, "{statuses:?}");
    assert!(done >= log as usize && refused > 0, "{done} done, {refused} refused");
    assert_eq!(printed(&consumer).len(), done);
    assert!(ahead <= f64::from(window), "{ahead} events at the consumer, unprocessed");
}

fn count_of(statuses: &[u16], wanted: u16) -> usize {
    statuses.iter().filter(|status| **status == wanted).count()
}

/// A request of 400 events under way at a slow consumer, whose window is full behind what it has in work.
struct Busy {
    edge: Edge,
    first: Child,
    post: tokio::task::JoinHandle<Result<u16, String>>,
}

impl Busy {
    async fn start(name: &str) -> Self {
        let edge = Edge::start(name, 8_000).await;
        let first = edge.consumer("a", &["--work_ms", "25"]);
        edge.linked("a", 1).await;
        let client = Client::new(edge.port);
        let events: Vec<_> = (0..400).map(|key| Numbered { key: format!("k{key}"), number: 1 }).collect();
        let post = tokio::spawn(async move { client.events(&events).await.map(|answer| answer.status) });
        told(&first, "\"k0\"", 1).await;
        Self { edge, first, post }
    }

    /// The answer is 200, and each event was processed once. How many were sent again?
    async fn done(self) -> f64 {
        assert_eq!(within("the answer", PATIENCE, self.post).await.expect("no panic"), Ok(200));
        let keys: BTreeSet<_> = printed(&self.first).into_iter().map(|event| event.key).collect();
        assert_eq!((printed(&self.first).len(), keys.len()), (400, 400));
        self.edge.cluster.instance("ingest", 0).metric("jaiminho_redeliveries_total", "worker").await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_consumer_releases_what_is_revoked_and_the_new_owner_gets_it() {
    if skip_python() {
        return;
    }
    let busy = Busy::start("python-revoke").await;
    let _second = busy.edge.consumer("b", &["--work_ms", "10"]);
    assert!(busy.done().await > 0.0, "nothing was released");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_consumer_that_drains_settles_all_that_it_has() {
    if skip_python() {
        return;
    }
    let busy = Busy::start("python-leaves").await;
    busy.first.terminate();
    assert_eq!(busy.first.exit(PATIENCE).await.code(), Some(0), "{}", busy.first.log_tail());
    let _second = busy.edge.consumer("b", &[]);
    assert_eq!(busy.done().await, 0.0, "events were sent again");
}

#[tokio::test(flavor = "multi_thread")]
async fn python_consumers_come_and_drain_under_load_without_loss_or_duplicate() {
    if skip_python() {
        return;
    }
    let mut edge = Edge::start("python-drain", 8_000).await;
    let first = edge.consumer("a", &["--work_ms", "1"]);
    let ledger = Ledger::default();
    let clients = Load::start(&load(edge.port), &ledger);
    edge.flowing(&ledger, 300).await;
    let second = edge.consumer("b", &["--work_ms", "1"]);
    edge.linked("b", 1).await;
    edge.flowing(&ledger, 300).await;
    first.terminate();
    assert_eq!(first.exit(PATIENCE).await.code(), Some(0), "{}", first.log_tail());
    edge.flowing(&ledger, 300).await;
    clients.finish(PATIENCE).await;
    let processed = printed(&second);
    check(&ledger, &processed);
    let distinct: BTreeSet<_> = processed.iter().collect();
    let repeats = ledger.repeats() as usize;
    assert!(processed.len() - distinct.len() <= repeats, "{} copies of {}", processed.len(), distinct.len());

    // The other way round: what waits for the consumer is finished, and answered.
    let waiting: Vec<_> = (1..=50).map(|number| Numbered { key: "slow".to_owned(), number }).collect();
    let client = Client::new(edge.port);
    let post = tokio::spawn(async move { client.events(&waiting).await.expect("an answer").status });
    eventually("the first is there", PATIENCE, || async {
        if printed(&second).iter().any(|event| event.key == "slow") { Ok(()) } else { Err(second.log_tail()) }
    })
    .await;
    edge.cluster.drain("ingest", 0).await;
    assert_eq!(within("the answer", PATIENCE, post).await.expect("no panic"), 200);
    edge.cluster.start("ingest", 0);
    edge.cluster.ready().await;
    edge.works().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_was_processed_though_either_side_is_killed() {
    if skip_python() {
        return;
    }
    let mut edge = Edge::start("python-kill", 8_000).await;
    let mut consumer = edge.consumer("a", &["--work_ms", "1"]);
    let ledger = Ledger::default();
    let clients = Load::start(&load(edge.port), &ledger);
    for _ in 0..2 {
        edge.flowing(&ledger, 200).await;
        consumer.kill();
        consumer = edge.consumer("a", &["--work_ms", "1"]);
        edge.flowing(&ledger, 200).await;
        edge.cluster.kill("ingest", 0);
        edge.cluster.start("ingest", 0);
    }
    edge.flowing(&ledger, 200).await;
    clients.finish(PATIENCE).await;
    check(&ledger, &printed(&consumer));
    assert_eq!(consumer.exited(), None, "{}", consumer.log_tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_link_stays_and_a_silent_one_ends_on_either_side() {
    if skip_python() {
        return;
    }
    let edge = Edge::start("python-idle", 100).await;
    let consumer = edge.consumer("a", &[]);
    edge.works().await;
    let ingest = &edge.cluster.instance("ingest", 0).child;
    tokio::time::sleep(SILENCE).await;
    edge.works().await;
    assert_eq!(
        (count(&ingest.log(), "link to a consumer is up"), count(&consumer.log(), "ended")),
        (1, 0),
        "{}",
        consumer.log_tail()
    );

    consumer.freeze();
    let links = async || edge.cluster.instance("ingest", 0).metric("jaiminho_links_in", "").await;
    eventually("its link ends", PATIENCE, || async {
        let links = links().await;
        if links == 0.0 { Ok(()) } else { Err(format!("{links} links")) }
    })
    .await;
    consumer.thaw();
    edge.linked("a", 2).await;
    edge.works().await;

    // Time in which it stood still may have seemed one.
    let silences = count(&consumer.log(), "five heartbeats missed");
    ingest.freeze();
    told(&consumer, "five heartbeats missed", silences + 1).await;
    ingest.thaw();
    edge.linked("a", 3).await;
    edge.works().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_consumer_tries_again_or_stops_as_the_status_says() {
    if skip_python() {
        return;
    }
    let edge = Edge::start("python-status", 100).await;
    for (pipeline, group, kind) in
        [("another", "worker", "KIND_WRONG_PIPELINE"), ("python", "nobody", "KIND_UNKNOWN_GROUP")]
    {
        let consumer = edge.consumer_of(pipeline, group, "a", &[]);
        told(&consumer, kind, 3).await;
        assert_eq!(consumer.exited(), None, "{}", consumer.log_tail());
    }
    let attached = edge.consumer_of("python", "nobody", "a", &["--kind", "attached"]);
    edge.linked("a", 1).await;
    let older = edge.consumer("the-name", &[]);
    edge.linked("the-name", 1).await;
    let newer = edge.consumer("the-name", &[]);
    told(&older, "KIND_FENCED", 1).await;
    assert!(!older.exit(PATIENCE).await.success(), "{}", older.log_tail());
    edge.works().await;
    assert_eq!((newer.exited(), attached.exited()), (None, None), "{}", newer.log_tail());
}
