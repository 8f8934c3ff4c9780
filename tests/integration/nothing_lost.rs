//! Whatever happens to the processes and to the broker: what was acknowledged is in its topics, once as a rule, in order.
//!
//! The pipeline has a fan-in (two edges) and a fan-out (two sinks). `NOTHING_LOST=full` runs all rounds at full length;
//! the default runs one short round of each fault.

use std::time::{Duration, Instant};

use jaiminho_tests::{Cluster, Kafka, Ledger, Load, LoadConfig, Topic, attempt, free_port, jaiminho, skip_kafka};

/// Over what `validate` prints: code, stacks, allocator.
const MEMORY_SLACK_BYTES: u64 = 64 << 20;

/// How much is done.
struct Scale {
    events: u64,
    rate: f64,
    rounds: usize,
    still: Duration,
    broker_still: Duration,
    /// Of a request; shorter than the broker stands still.
    deadline: Duration,
    /// After which the rate must be back.
    recovery: Duration,
}

impl Scale {
    fn chosen() -> Self {
        let seconds = Duration::from_secs;
        match std::env::var("NOTHING_LOST").as_deref() {
            Ok("full") => Self {
                events: 200_000,
                rate: 2_000.0,
                rounds: 5,
                still: seconds(20),
                broker_still: seconds(40),
                deadline: seconds(30),
                recovery: seconds(30),
            },
            _ => Self {
                events: 20_000,
                rate: 1_000.0,
                rounds: 1,
                still: seconds(5),
                // Above the broker's session with its controller (9 s): it also loses the lead of its partitions.
                broker_still: seconds(12),
                deadline: seconds(5),
                recovery: seconds(60),
            },
        }
    }
}

const STAGES: [(&str, usize); 6] =
    [("ingest", 1), ("intake", 1), ("convert", 3), ("publish", 3), ("audit", 1), ("dead", 1)];
/// Those whose processes are killed.
const KINDS: [&str; 6] = ["ingest", "intake", "convert", "publish", "audit", "dead"];
const TOPICS: [&str; 2] = ["lossless", "lossless-audit"];

fn pipeline(at: &dyn Fn(&str) -> String, ports: [u16; 2], bootstrap: &str, scale: &Scale) -> String {
    let deadline = scale.deadline.as_secs();
    let source = |port: u16| {
        format!(
            r#"
    key: "{{{{data.key}}}}"
    source:
      drain_delay: 1s
      http: {{ listen: "127.0.0.1:{port}", path: /events, deadline: {deadline}s }}
      websocket: {{ path: /ws }}"#
        )
    };
    let sink = |topic: &str| format!(r#"sink: {{ kafka: {{ bootstrap_servers: "{bootstrap}", topic: "{topic}" }} }}"#);
    format!(
        r#"version: 1
pipeline: lossless
stages:
  ingest:
    at: {ingest}{first_source}
  intake:
    at: {intake}{second_source}
  convert:
    at: {convert}
    subscribe_to: [ingest, intake]
    transform: {{ vrl: ".data.converted = true" }}
  publish:
    at: {publish}
    subscribe_to: [convert]
    {main}
  audit:
    at: {audit}
    subscribe_to: [convert]
    {copy}
  dead:
    subscribe_to: [convert.dead_letter, publish.dead_letter, audit.dead_letter]
    {dead}
"#,
        ingest = at("ingest"),
        first_source = source(ports[0]),
        intake = at("intake"),
        second_source = source(ports[1]),
        convert = at("convert"),
        publish = at("publish"),
        audit = at("audit"),
        main = sink(TOPICS[0]),
        copy = sink(TOPICS[1]),
        dead = sink("lossless-dead"),
    )
}

/// The running test.
struct Run {
    scale: Scale,
    kafka: Kafka,
    cluster: Cluster,
    ledger: Ledger,
    /// Faults that broke links: each may have made duplicates of all that was under way.
    breaks: u64,
    /// Acknowledged events a second before the first fault.
    usual: f64,
    /// When each stall ended.
    stalls: Vec<(&'static str, Instant)>,
}

impl Run {
    /// Events flow: `count` more are acknowledged.
    async fn flowing(&mut self, count: u64, after: &str) {
        let before = self.ledger.count();
        let deadline = Duration::from_secs(90);
        let flow = attempt(deadline, || async {
            let more = self.ledger.count() - before;
            if more >= count { Ok(()) } else { Err(format!("only {more}")) }
        });
        if let Err(reason) = flow.await {
            self.cluster.keep_metrics().await;
            panic!("{reason} of {count} events within {deadline:?} after: {after}; {:#?}", self.ledger.answers());
        }
        self.cluster.assert_running();
        self.cluster.measure();
        eprintln!("{} acknowledged, {} repeated, after: {after}", self.ledger.count(), self.ledger.repeats());
    }

    async fn kill_and_start(&mut self, stages: &[&str]) {
        for stage in stages {
            self.cluster.kill(stage, 0);
            self.breaks += 1;
        }
        for stage in stages {
            self.cluster.start(stage, 0);
        }
        self.cluster.ready().await;
        self.flowing(1_000, &format!("kill -9 of {stages:?}")).await;
    }

    /// Replicas come and go: 1, 3, and 1 again.
    async fn scale_out_and_in(&mut self, stage: &str) {
        for index in [1, 2] {
            self.cluster.start(stage, index);
        }
        self.cluster.ready().await;
        self.flowing(1_000, &format!("three of {stage}")).await;
        for index in [1, 2] {
            self.cluster.drain(stage, index).await;
        }
        self.flowing(1_000, &format!("one of {stage} again")).await;
    }

    async fn freeze(&mut self, stage: &'static str) {
        self.cluster.instance(stage, 0).child.freeze();
        // Long enough frozen, its peers give it up.
        self.breaks += 1;
        tokio::time::sleep(self.scale.still).await;
        self.cluster.instance(stage, 0).child.thaw();
        self.stalls.push((stage, Instant::now()));
        self.flowing(1_000, &format!("{stage} stood still")).await;
    }

    async fn freeze_broker(&mut self) {
        self.kafka.freeze();
        tokio::time::sleep(self.scale.broker_still).await;
        self.kafka.thaw();
        self.stalls.push(("the broker", Instant::now()));
        self.flowing(1_000, "the broker stood still").await;
    }

    async fn kill_broker(&mut self) {
        self.kafka.kill();
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.kafka.restart().await;
        self.stalls.push(("the broker's restart", Instant::now()));
        self.flowing(1_000, "the broker was killed and started again").await;
    }

    async fn all_faults(&mut self) {
        for _ in 0..self.scale.rounds {
            for stage in KINDS {
                self.kill_and_start(&[stage]).await;
            }
            self.kill_and_start(&["convert", "publish"]).await;
            self.kill_and_start(&["ingest", "convert"]).await;
        }
        for stage in ["convert", "publish"] {
            self.scale_out_and_in(stage).await;
        }
        self.freeze("convert").await;
        self.recovered().await;
        self.freeze("audit").await;
        self.recovered().await;
        self.freeze_broker().await;
        self.recovered().await;
        self.kill_broker().await;
        self.recovered().await;
    }

    /// Half of the usual rate is back soon after the last stall: no collapse of late answers and retries.
    async fn recovered(&mut self) {
        let (what, end) = *self.stalls.last().expect("a stall");
        let window = Duration::from_secs(5);
        let wanted = 0.5 * self.usual;
        let back = attempt(self.scale.recovery + window, || async {
            let from = Instant::now() - window;
            let rate = self.ledger.rate(from, from + window);
            if from >= end && rate >= wanted { Ok(from - end) } else { Err(format!("{rate:.0} events/s")) }
        });
        match back.await {
            Ok(after) => eprintln!("the rate was back {after:?} after {what}"),
            Err(rate) => {
                self.cluster.keep_metrics().await;
                panic!("{rate} {:?} after {what}, not {wanted:.0}", end.elapsed());
            }
        }
    }

    /// A body that was refused during a stall was taken by the third try later than 10 s after its end.
    fn refusals_ended(&self) {
        for (what, end) in &self.stalls {
            for refused in self.ledger.refused() {
                let (before, after): (Vec<Instant>, Vec<Instant>) = refused.refusals.iter().partition(|at| *at < end);
                if before.is_empty() || refused.taken < *end {
                    continue;
                }
                // What answers first may have had to join again.
                let after = after.iter().filter(|at| **at > *end + Duration::from_secs(10)).count();
                assert!(after <= 2, "{after} more refusals after {what} had stood still");
            }
        }
    }

    async fn memory_within(&mut self) {
        self.cluster.measure();
        let file = self.cluster.file().to_string_lossy().into_owned();
        let output = jaiminho(self.cluster.directory(), &["validate", "--json", "-f", &file]).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        for (stage, used) in self.cluster.memory_max() {
            let sum = report["memory"][stage]["bytes_max"].as_u64();
            let sum = sum.unwrap_or_else(|| panic!("no sum for {stage} in {report}"));
            eprintln!("{stage}: {} MiB resident at most, the sum is {} MiB", used >> 20, sum >> 20);
            assert!(*used <= sum + MEMORY_SLACK_BYTES, "{stage} had {used} bytes resident; its sum is {sum}");
        }
    }

    async fn all_arrived(&self, in_flight_max: u64) {
        assert_eq!(self.ledger.rejected(), [], "a good event was rejected");
        let duplicates_max = self.breaks * in_flight_max + self.ledger.repeats();
        for name in TOPICS {
            let verdict = Topic::read(&self.kafka.bootstrap(), name).await.check(&self.ledger);
            eprintln!(
                "{name}: {} events, {} duplicates (at most {duplicates_max})",
                verdict.distinct, verdict.duplicates
            );
            assert_eq!(verdict.missing, [], "acknowledged, and not in {name}");
            assert_eq!(verdict.disordered, [], "first copies out of order in {name}");
            assert_eq!(verdict.foreign_ids, [], "copies with other ids in {name}");
            assert!(verdict.duplicates <= duplicates_max, "{} duplicates in {name}", verdict.duplicates);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_in_its_topics_whatever_happens() {
    if skip_kafka() {
        return;
    }
    let scale = Scale::chosen();
    let kafka = Kafka::start().await;
    let ports = [free_port(), free_port()];
    let cluster = Cluster::new("lossless", &STAGES, |at| pipeline(at, ports, &kafka.bootstrap(), &scale));
    let mut run = Run { scale, kafka, cluster, ledger: Ledger::default(), breaks: 0, usual: 0.0, stalls: Vec::new() };
    for stage in KINDS {
        run.cluster.start(stage, 0);
    }
    run.cluster.ready().await;

    let config = LoadConfig::new(ports.to_vec(), run.scale.rate);
    let load = Load::start(&config, &run.ledger);
    let start = Instant::now();
    run.flowing(2_000, "the start").await;
    let from = Instant::now();
    tokio::time::sleep(Duration::from_secs(5)).await;
    run.usual = run.ledger.rate(from, Instant::now());
    assert!(run.usual > 0.2 * run.scale.rate, "{:.0} events/s", run.usual);
    run.all_faults().await;
    let missing = run.scale.events.saturating_sub(run.ledger.count());
    run.flowing(missing, "the last fault").await;
    load.finish(Duration::from_secs(90)).await;
    eprintln!("{} events acknowledged in {:?}", run.ledger.count(), start.elapsed());

    run.refusals_ended();
    run.memory_within().await;
    run.all_arrived(config.in_flight_max()).await;
}
