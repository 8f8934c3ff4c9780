//! `jaiminho bench link`: alternating runs of the contenders, and the figures that they give.

use jaiminho_bench::link::{Contender, Hop, Job, Round, run_job};
use jaiminho_bench::stats::{Figure, Goal};
use serde_json::json;

use super::report::{self, Progress};
use crate::cli::{BenchLink, Global};
use crate::exit::Failure;

/// Runs with a rate last so long, but have no more events than the others.
const PACED_SECONDS: u64 = 5;

/// One round: every contender once, in turn.
struct Results {
    events: Round,
    frames: Round,
    link: Round,
    group: Round,
    bare_hop: Round,
    link_hop: Round,
    in_process: Round,
    pass: Round,
}

pub(super) async fn run(global: &Global, bench: &BenchLink) -> Result<(), Failure> {
    let program = super::program()?;
    let progress = Progress::new(u64::from(bench.runs) * 8);
    let mut rounds = Vec::new();
    for _ in 0..bench.runs {
        rounds.push(round(&program, bench, &progress).await?);
    }
    progress.finish();
    let conditions = json!({
        "runs": bench.runs, "events": bench.count, "bytes": bench.size, "batch": bench.batch, "window": bench.window,
        "keys": bench.keys,
    });
    report::print(global, "link", &conditions, &figures(bench, &rounds))
}

async fn round(program: &std::path::Path, bench: &BenchLink, progress: &Progress) -> Result<Results, Failure> {
    let paced = bench.count.min(u64::from(bench.rate) * PACED_SECONDS);
    let run = async |what: &str, contender, consumers, rate: Option<u32>| {
        progress.begin(what);
        let job = Job {
            contender,
            count: rate.map_or(bench.count, |_| paced),
            size: bench.size as usize,
            batch: bench.batch as usize,
            window: bench.window,
            keys: bench.keys,
            consumers,
            rate,
        };
        let round = run_job(program, &["--log-level", "warn", "bench", "side"], &job).await;
        progress.step();
        round
    };
    let rate = Some(bench.rate);
    Ok(Results {
        events: run("bare stream, one message an event", Contender::BareEvents, 1, None).await?,
        frames: run("bare stream, byte frames", Contender::BareFrames, 1, None).await?,
        link: run("our link, one consumer", Contender::Link, 1, None).await?,
        group: run("our link, the larger group", Contender::Link, bench.consumers, None).await?,
        bare_hop: run("bare stream, each hop timed", Contender::BareEvents, 1, rate).await?,
        link_hop: run("our link, each hop timed", Contender::Link, 1, rate).await?,
        in_process: run("our link within one process", Contender::InProcess, 1, None).await?,
        pass: run("a stage between two links", Contender::PassThrough, 1, None).await?,
    })
}

fn figures(bench: &BenchLink, rounds: &[Results]) -> Vec<Figure> {
    let (consumers, rate) = (bench.consumers, bench.rate);
    let speed = |name, what: String, of: fn(&Results) -> &Round| {
        Figure::of(name, what, "events/s", rounds.iter().map(|round| of(round).events_per_second))
    };
    let cpu = |name, what: String, of: fn(&Results) -> &Round| {
        Figure::of(name, what, "CPU-s/million", rounds.iter().map(|round| of(round).cpu_seconds_per_million))
    };
    let ratio = |name, what: String, of: fn(&Results) -> f64| Figure::of(name, what, "×", rounds.iter().map(of));
    let hop = |name, what: String, of: fn(&Results) -> &Round, part: fn(Hop) -> u64| {
        let hops = rounds.iter().filter_map(|round| of(round).hop);
        Figure::of(name, what, "µs", hops.map(|hop| part(hop) as f64 / 1e3))
    };
    let with_goal = |figure: Option<Figure>, goal| figure.map(|figure| figure.with_goal(goal));
    let (bare, ours) = (format!("bare hop at {rate}/s"), format!("our hop at {rate}/s"));
    let figures = [
        speed("events_speed", "(1) bare stream, one message an event".into(), |round| &round.events),
        cpu("events_cpu", "(1) CPU, both sides".into(), |round| &round.events),
        speed("frames_speed", "(2) bare stream, byte frames".into(), |round| &round.frames),
        cpu("frames_cpu", "(2) CPU, both sides".into(), |round| &round.frames),
        speed("link_speed", "our link".into(), |round| &round.link),
        with_goal(cpu("link_cpu", "our link, CPU of both sides".into(), |round| &round.link), Goal::AtMost(0.5)),
        with_goal(
            ratio("link_to_events", "our link to (1), events/s".into(), |round| {
                round.link.events_per_second / round.events.events_per_second
            }),
            Goal::AtLeast(1.1),
        ),
        with_goal(
            ratio("link_to_frames", "our link to (2), events/s".into(), |round| {
                round.link.events_per_second / round.frames.events_per_second
            }),
            Goal::AtLeast(0.8),
        ),
        speed("group_speed", format!("{consumers} consumers in the group"), |round| &round.group),
        cpu("group_cpu", format!("{consumers} consumers, CPU of both sides"), |round| &round.group),
        with_goal(
            ratio("group_to_link_cpu", format!("{consumers} consumers to one, CPU an event"), |round| {
                round.group.cpu_seconds_per_million / round.link.cpu_seconds_per_million
            }),
            Goal::AtMost(1.3),
        ),
        hop("bare_hop_p50", format!("{bare}, median"), |round| &round.bare_hop, |hop| hop.p50_ns),
        hop("bare_hop_p99", format!("{bare}, p99"), |round| &round.bare_hop, |hop| hop.p99_ns),
        hop("link_hop_p50", format!("{ours}, median"), |round| &round.link_hop, |hop| hop.p50_ns),
        hop("link_hop_p99", format!("{ours}, p99"), |round| &round.link_hop, |hop| hop.p99_ns),
        ratio("hop_p50_ratio", "our hop to bare, median".into(), |round| hop_ratio(round, |hop| hop.p50_ns)),
        with_goal(
            ratio("hop_p99_ratio", "our hop to bare, p99".into(), |round| hop_ratio(round, |hop| hop.p99_ns)),
            Goal::AtMost(1.5),
        ),
        with_goal(
            speed("in_process_speed", "our link within one process".into(), |round| &round.in_process),
            Goal::AtLeast(5e6),
        ),
        cpu("in_process_cpu", "our link within one process, CPU".into(), |round| &round.in_process),
        with_goal(
            Figure::of(
                "pass_cpu",
                "a stage between two links, its CPU",
                "CPU-s/million",
                rounds.iter().map(|round| round.pass.pass_cpu_seconds_per_million),
            ),
            Goal::AtMost(1.0),
        ),
    ];
    figures.into_iter().flatten().collect()
}

fn hop_ratio(round: &Results, part: fn(Hop) -> u64) -> f64 {
    let of = |round: &Round| round.hop.map_or(f64::NAN, |hop| part(hop) as f64);
    of(&round.link_hop) / of(&round.bare_hop)
}
