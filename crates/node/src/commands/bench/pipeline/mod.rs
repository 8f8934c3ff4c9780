//! `jaiminho bench pipeline`: HTTP to Kafka through three processes, our sink beside a bare producer, an idle stage.

mod load;
mod processes;
mod telemetry;

use std::path::Path;
use std::time::Duration;

use jaiminho_bench::publisher::{self, PublishJob};
use jaiminho_bench::stats::{Figure, Goal, quantile};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use self::load::{Load, Loaded, Pace};
use self::processes::{STAGES, Stages};
pub(super) use self::telemetry::run as run_telemetry;
use super::report::{self, Progress};
use crate::cli::{BenchLoad, BenchPipeline, Global};
use crate::exit::Failure;

const CONNECT_DEADLINE: Duration = Duration::from_secs(3);
/// Events before the first run: topics are made, caches filled, connections opened.
const WARM_UP_EVENTS: u64 = 2_000;
/// Requests at once in batches, and with one event a request.
const BATCH_CONNECTIONS: u32 = 4;
const SINGLE_CONNECTIONS: u32 = 32;
const BATCH_EVENTS: u64 = 100;
const OPEN_RATE: u32 = 1_000;
/// A stage that has just started comes to rest.
const SETTLE: Duration = Duration::from_secs(5);
const IDLE: Duration = Duration::from_secs(60);
const HOW_TO_START: &str =
    "from a checkout, `tests/kafka/up` starts one and prints its address for --kafka; `tests/kafka/down` ends it";

/// What one load took.
struct Measured {
    /// Of the three processes, for 100,000 events.
    cpu_seconds: f64,
    loaded: Loaded,
}

/// Everything once, in turn.
struct Results {
    bare: f64,
    publisher: f64,
    batches: Measured,
    singles: Measured,
    open: Measured,
}

/// One stage at rest.
struct Idle {
    megabytes: f64,
    /// Percent of a core.
    cpu: f64,
}

pub(super) async fn run(global: &Global, bench: &BenchPipeline) -> Result<(), Failure> {
    let kafka = reach(&bench.load).await?;
    let program = super::program()?;
    let progress = Progress::new(u64::from(bench.runs) * 5 + u64::from(!bench.no_idle));
    progress.begin("three stages start");
    let stages = Stages::start(&program, kafka, &bench.load.topic, "{}").await?;
    let idle = if bench.no_idle { Vec::new() } else { idle(&stages, &progress).await? };
    progress.begin("warm-up");
    load(&stages, &bench.load, WARM_UP_EVENTS.min(bench.load.count), batches()).await?;
    let mut results = Vec::new();
    for _ in 0..bench.runs {
        results.push(round(&stages, kafka, &bench.load, &progress).await?);
    }
    progress.finish();
    report::print(global, "pipeline", &conditions(bench.runs, &bench.load), &figures(&results, &idle))
}

fn conditions(runs: u32, BenchLoad { kafka, topic: _, count, size, keys }: &BenchLoad) -> Value {
    json!({ "runs": runs, "events": count, "bytes": size, "keys": keys, "kafka": kafka })
}

/// Its address, if anything listens there: librdkafka would wait without end.
async fn reach(load: &BenchLoad) -> Result<&str, Failure> {
    let kafka = load.kafka.as_deref().ok_or_else(|| Failure::usage(format!("--kafka is missing; {HOW_TO_START}")))?;
    let connected = tokio::time::timeout(CONNECT_DEADLINE, TcpStream::connect(kafka)).await;
    let why = match connected {
        Ok(Ok(_)) => return Ok(kafka),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no connection within {} s", CONNECT_DEADLINE.as_secs()),
    };
    Err(Failure::unavailable(format!("no Kafka at {kafka}: {why}; {HOW_TO_START}")))
}

async fn idle(stages: &Stages, progress: &Progress) -> Result<Vec<Idle>, Failure> {
    progress.begin("idle, 60 s");
    tokio::time::sleep(SETTLE).await;
    let (megabytes, before) = (stages.resident_bytes()?, stages.cpu_seconds()?);
    tokio::time::sleep(IDLE).await;
    let after = stages.cpu_seconds()?;
    progress.step();
    let of_stage = |((bytes, before), after): ((u64, f64), f64)| Idle {
        megabytes: bytes as f64 / 1e6,
        cpu: (after - before) / IDLE.as_secs_f64() * 100.0,
    };
    Ok(megabytes.into_iter().zip(before).zip(after).map(of_stage).collect())
}

async fn round(stages: &Stages, kafka: &str, bench: &BenchLoad, progress: &Progress) -> Result<Results, Failure> {
    let job = PublishJob {
        bootstrap_servers: kafka.to_owned(),
        topic: bench.topic.clone(),
        count: usize::try_from(bench.count).map_err(Failure::usage)?,
        size: bench.size as usize,
        keys: usize::try_from(bench.keys).map_err(Failure::usage)?,
    };
    progress.begin("a bare producer");
    let of_bare = job.clone();
    let bare = tokio::task::spawn_blocking(move || publisher::bare(&of_bare)).await.map_err(Failure::software)??;
    progress.step();
    progress.begin("our sink");
    let publisher = publisher::ours(&job).await?;
    progress.step();
    let measure = async |what: &str, count: u64, pace: (u64, Pace)| {
        progress.begin(what);
        let measured = load(stages, bench, count, pace).await;
        progress.step();
        measured
    };
    Ok(Results {
        bare,
        publisher,
        batches: measure("batches of 100", bench.count, batches()).await?,
        singles: measure("one event a request", bench.count / 5, (1, Pace::Closed(SINGLE_CONNECTIONS))).await?,
        open: measure("1,000 requests/s, open loop", bench.count / 10, (1, Pace::Open(OPEN_RATE))).await?,
    })
}

fn batches() -> (u64, Pace) {
    (BATCH_EVENTS, Pace::Closed(BATCH_CONNECTIONS))
}

async fn load(stages: &Stages, bench: &BenchLoad, count: u64, (batch, pace): (u64, Pace)) -> Result<Measured, Failure> {
    let load =
        Load { url: stages.url.clone(), count, batch, size: bench.size as usize, keys: bench.keys as usize, pace };
    let before: f64 = stages.cpu_seconds()?.iter().sum();
    let loaded = load.run().await?;
    let after: f64 = stages.cpu_seconds()?.iter().sum();
    Ok(Measured { cpu_seconds: (after - before) / count as f64 * 1e5, loaded })
}

fn figures(results: &[Results], idle: &[Idle]) -> Vec<Figure> {
    let all = |of: fn(&Results) -> f64| results.iter().map(of);
    let cpu = |name, what: &str, most, of: fn(&Results) -> f64| {
        Figure::of(name, what, "CPU-s/100,000", all(of)).map(|figure| figure.with_goal(Goal::AtMost(most)))
    };
    let plain = |name, what: &str, unit, of: fn(&Results) -> f64| Figure::of(name, what, unit, all(of));
    let figures = [
        cpu("batches_cpu", "batches of 100", 1.5, |result| result.batches.cpu_seconds),
        plain("batches_speed", "batches of 100, 4 at once", "events/s", |result| result.batches.loaded.per_second),
        cpu("singles_cpu", "one event a request", 6.0, |result| result.singles.cpu_seconds),
        plain("singles_speed", "one event a request, 32 at once", "events/s", |result| {
            result.singles.loaded.per_second
        }),
        cpu("open_cpu", "1,000 requests/s, open loop", 20.0, |result| result.open.cpu_seconds),
        plain("open_p50", "open loop, answer: median", "ms", |result| answer(result, 0.5)),
        plain("open_p99", "open loop, answer: p99", "ms", |result| answer(result, 0.99)),
        plain("repeats", "requests repeated after a refusal", "requests", |result| {
            (result.batches.loaded.repeats + result.singles.loaded.repeats + result.open.loaded.repeats) as f64
        }),
        plain("bare_speed", "bare producer loop", "events/s", |result| result.bare),
        plain("publisher_speed", "our publisher alone", "events/s", |result| result.publisher),
        plain("publisher_to_bare", "our publisher to the bare loop", "×", |result| result.publisher / result.bare)
            .map(|figure| figure.with_goal(Goal::AtLeast(0.85))),
    ];
    figures.into_iter().flatten().chain(idle_figures(idle)).collect()
}

/// From the scheduled start to the answer, in ms.
fn answer(result: &Results, share: f64) -> f64 {
    quantile(&result.open.loaded.answers_ns, share).map_or(f64::NAN, |ns| ns as f64 / 1e6)
}

fn idle_figures(idle: &[Idle]) -> impl Iterator<Item = Figure> {
    const NAMES: [(&str, &str); STAGES.len()] = [
        ("idle_memory_ingest", "idle_cpu_ingest"),
        ("idle_memory_convert", "idle_cpu_convert"),
        ("idle_memory_publish", "idle_cpu_publish"),
    ];
    idle.iter().zip(STAGES).zip(NAMES).flat_map(|((idle, stage), (memory, cpu))| {
        let memory = Figure::of(memory, format!("idle {stage}, resident"), "MB", [idle.megabytes]);
        let cpu = Figure::of(cpu, format!("idle {stage}, over 60 s"), "% of a core", [idle.cpu]);
        let with_goal = |figure: Option<Figure>, most| figure.map(|figure| figure.with_goal(Goal::AtMost(most)));
        [with_goal(memory, 30.0), with_goal(cpu, 0.1)].into_iter().flatten()
    })
}

/// The end of a file, for whoever reads a failure.
fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}
