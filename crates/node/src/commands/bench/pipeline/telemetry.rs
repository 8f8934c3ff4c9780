//! `jaiminho bench telemetry`: what metrics and traces cost.

use std::time::Duration;

use jaiminho_bench::collector::Collector;
use jaiminho_bench::stats::{Figure, Goal};

use super::load::Pace;
use super::processes::Stages;
use super::{SETTLE, SINGLE_CONNECTIONS, WARM_UP_EVENTS, batches, conditions, load, reach};
use crate::cli::{BenchTelemetry, Global};
use crate::commands::bench::report::{self, Progress};
use crate::exit::Failure;

/// How long an instance is scraped, and how long it is left alone to compare.
const SCRAPED: Duration = Duration::from_secs(20);
const SCRAPE_INTERVAL: Duration = Duration::from_millis(100);
/// What is recorded last is exported within this time.
const EXPORTED: Duration = Duration::from_secs(5);

/// What the stages tell: indices of [`Contenders`].
const OFF: usize = 0;
const METRICS: usize = 1;
const SAMPLED: usize = 2;
const ALL: usize = 3;
const CONTENDERS: usize = 4;

/// The same stages with more and more telemetry.
type Contenders = [Stages; CONTENDERS];

/// CPU-seconds for 100,000 events, of each contender in one run.
type Run = [f64; CONTENDERS];

pub(in crate::commands::bench) async fn run(global: &Global, bench: &BenchTelemetry) -> Result<(), Failure> {
    let kafka = reach(&bench.load).await?;
    let progress = Progress::new(u64::from(bench.runs) * 2 * CONTENDERS as u64 + u64::from(!bench.no_scrape));
    progress.begin("four times three stages start");
    let collectors = [Collector::start().await?, Collector::start().await?];
    let contenders = start(kafka, &bench.load.topic, &collectors).await?;
    progress.begin("warm-up");
    for stages in &contenders {
        load(stages, &bench.load, WARM_UP_EVENTS.min(bench.load.count), batches()).await?;
    }
    let scraped = if bench.no_scrape { Vec::new() } else { scraped(&contenders[METRICS], &progress).await? };
    let (mut in_batches, mut alone) = (Vec::new(), Vec::new());
    let (before, mut traced) = (collectors[1].spans(), 0);
    for number in 0..bench.runs {
        let single = (1, Pace::Closed(SINGLE_CONNECTIONS));
        in_batches.push(round(&contenders, bench, number, bench.load.count, batches(), &progress).await?);
        alone.push(round(&contenders, bench, number, bench.load.count / 5, single, &progress).await?);
        traced += bench.load.count + bench.load.count / 5;
    }
    tokio::time::sleep(EXPORTED).await;
    let spans = (collectors[1].spans() - before) as f64 / traced as f64;
    let memory = contenders[ALL].resident_bytes()?.into_iter().max().unwrap_or_default() as f64 / 1e6;
    progress.finish();
    let mut figures = figures(&in_batches, &alone);
    figures.extend(Figure::of("all_spans", "all traced: spans that arrive", "an event", [spans]));
    figures.extend(Figure::of("all_memory", "all traced: the largest stage, resident", "MB", [memory]));
    let scraped = Figure::of("scraped_cpu", "an instance, scraped 10 times a second", "% of a core", scraped);
    figures.extend(scraped.map(|figure| figure.with_goal(Goal::AtMost(1.0))));
    report::print(global, "telemetry", &conditions(bench.runs, &bench.load), &figures)
}

async fn start(kafka: &str, topic: &str, [some, all]: &[Collector; 2]) -> Result<Contenders, Failure> {
    let program = crate::commands::bench::program()?;
    let traces = |collector: &Collector, ratio| {
        format!("{{ traces: {{ endpoint: \"http://{}\", ratio: {ratio} }} }}", collector.address)
    };
    Ok([
        Stages::start(&program, kafka, topic, "{ metrics: { enabled: false } }").await?,
        Stages::start(&program, kafka, topic, "{}").await?,
        Stages::start(&program, kafka, topic, &traces(some, 0.01)).await?,
        Stages::start(&program, kafka, topic, &traces(all, 1.0)).await?,
    ])
}

/// Each once, every other time in reverse, so that none is always the first.
async fn round(
    contenders: &Contenders,
    bench: &BenchTelemetry,
    number: u32,
    count: u64,
    pace: (u64, Pace),
    progress: &Progress,
) -> Result<Run, Failure> {
    const NAMES: [&str; CONTENDERS] = ["no telemetry", "metrics", "1 % traced", "all traced"];
    let mut run = [0.0; CONTENDERS];
    for place in 0..CONTENDERS {
        let index = if number.is_multiple_of(2) { place } else { CONTENDERS - 1 - place };
        progress.begin(NAMES[index]);
        run[index] = load(&contenders[index], &bench.load, count, pace).await?.cpu_seconds;
        progress.step();
    }
    Ok(run)
}

/// What being scraped adds, of each instance.
async fn scraped(stages: &Stages, progress: &Progress) -> Result<Vec<f64>, Failure> {
    progress.begin("scraped");
    tokio::time::sleep(SETTLE).await;
    let before = stages.cpu_seconds()?;
    tokio::time::sleep(SCRAPED).await;
    let alone = stages.cpu_seconds()?;
    let (client, urls) = (reqwest::Client::new(), stages.metrics_urls());
    let mut ticks = tokio::time::interval(SCRAPE_INTERVAL);
    for _ in 0..SCRAPED.as_millis() / SCRAPE_INTERVAL.as_millis() {
        ticks.tick().await;
        for url in &urls {
            let text = client.get(url).send().await.map_err(Failure::unavailable)?;
            text.text().await.map_err(Failure::unavailable)?;
        }
    }
    let after = stages.cpu_seconds()?;
    progress.step();
    let percent = |used: f64| used / SCRAPED.as_secs_f64() * 100.0;
    let times = before.into_iter().zip(alone).zip(after);
    Ok(times.map(|((before, alone), after)| percent(after - alone - (alone - before))).collect())
}

fn figures(in_batches: &[Run], alone: &[Run]) -> Vec<Figure> {
    let cpu = |name, what: &str, runs: &[Run], of: usize| {
        Figure::of(name, what, "CPU-s/100,000", runs.iter().map(|run| run[of]))
    };
    let ratio = |name, what: &str, runs: &[Run], [of, to]: [usize; 2], most: Option<f64>| {
        let figure = Figure::of(name, what, "×", runs.iter().map(|run| run[of] / run[to]))?;
        Some(match most {
            Some(most) => figure.with_goal(Goal::AtMost(most)),
            None => figure,
        })
    };
    let figures = [
        cpu("batches_off_cpu", "batches of 100, no telemetry", in_batches, OFF),
        ratio("batches_metrics", "batches, metrics to none", in_batches, [METRICS, OFF], Some(1.03)),
        ratio("batches_sampled", "batches, 1 % traced to metrics alone", in_batches, [SAMPLED, METRICS], Some(1.05)),
        ratio("batches_all", "batches, all traced to metrics alone", in_batches, [ALL, METRICS], None),
        cpu("singles_off_cpu", "one event a request, no telemetry", alone, OFF),
        ratio("singles_metrics", "single, metrics to none", alone, [METRICS, OFF], Some(1.03)),
        ratio("singles_sampled", "single, 1 % traced to metrics alone", alone, [SAMPLED, METRICS], Some(1.05)),
        ratio("singles_all", "single, all traced to metrics alone", alone, [ALL, METRICS], None),
    ];
    figures.into_iter().flatten().collect()
}
