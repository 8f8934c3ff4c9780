//! `cargo sim`: runs simulations, each seed in two processes, whose histories must be the same.
#![expect(clippy::print_stdout, reason = "a program")]

use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use clap::Parser;
use jaiminho_testkit::{Report, run};

/// Runs a simulated cluster for each of many seeds, each seed twice.
#[derive(Debug, Parser)]
#[command(name = "cargo sim")]
struct Arguments {
    /// How many seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Processes at once; as many as there are cores, unless told.
    #[arg(long)]
    jobs: Option<usize>,
    /// Begin no more once a seed has failed.
    #[arg(long)]
    first: bool,
    /// Only this one, with everything that can be seen of it.
    #[arg(long)]
    seed: Option<u64>,
    /// One run in this process: what the others are made of.
    #[arg(long, hide = true, requires = "seed")]
    once: bool,
}

/// A run that takes longer than this, in real time, has got stuck.
const STUCK_AFTER: Duration = Duration::from_secs(120);
const PROGRESS_EVERY: Duration = Duration::from_secs(5);
/// In front of the one line that says how a run went.
const RESULT: &str = "result";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match (arguments.seed, arguments.once) {
        (Some(seed), true) => once(seed),
        (Some(seed), false) => replay(seed),
        (None, _) => many(&arguments),
    }
}

/// One run; its trace, and then its result.
fn once(seed: u64) -> ExitCode {
    let Report { history, wrong, acknowledged, records, duplicates, faults, simulated, .. } = run(seed, true);
    for line in history.trace() {
        println!("{line}");
    }
    let (hash, simulated, cpu) = (history.hash(), simulated.as_millis(), cpu_ms());
    println!("{RESULT} {hash:016x} {acknowledged} {records} {duplicates} {faults} {simulated} {cpu}");
    if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What this process's one thread has taken.
fn cpu_ms() -> u64 {
    let text = fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    text.split_whitespace().next().and_then(|nanos| nanos.parse::<u64>().ok()).unwrap_or_default() / 1_000_000
}

/// How one run went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Outcome {
    trace: Vec<String>,
    hash: String,
    /// Acknowledged events, records, duplicates, faults, simulated ms.
    counts: [u64; 5],
    cpu_ms: u64,
    failed: Option<String>,
}

impl Outcome {
    /// Of a run in a process of its own.
    fn of(seed: u64) -> io::Result<Self> {
        let program = std::env::current_exe()?;
        let seed = seed.to_string();
        let mut child = Command::new(program)
            .args(["--seed", &seed, "--once"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let read = |stream: Option<Box<dyn io::Read + Send>>| {
            thread::spawn(move || stream.map(io::read_to_string).transpose().ok().flatten().unwrap_or_default())
        };
        let stdout = read(stdout.map(|stream| Box::new(stream) as _));
        let stderr = read(stderr.map(|stream| Box::new(stream) as _));
        let started = Instant::now();
        let status = loop {
            match child.try_wait()? {
                Some(status) => break Some(status),
                None if started.elapsed() > STUCK_AFTER => {
                    child.kill()?;
                    child.wait()?;
                    break None;
                }
                None => thread::sleep(Duration::from_millis(2)),
            }
        };
        let mut outcome = Self::read(&stdout.join().unwrap_or_default());
        outcome.failed = match status {
            Some(status) if status.success() => None,
            Some(status) => Some(outcome.wrong().unwrap_or_else(|| {
                let said = stderr.join().unwrap_or_default();
                format!("{status}: {}", said.lines().find(|line| !line.is_empty()).unwrap_or("no message"))
            })),
            None => Some(format!("stuck: no end within {} s of real time", STUCK_AFTER.as_secs())),
        };
        Ok(outcome)
    }

    fn read(text: &str) -> Self {
        let mut outcome = Self::default();
        for line in text.lines() {
            let Some(result) = line.strip_prefix(RESULT) else {
                outcome.trace.push(line.to_owned());
                continue;
            };
            let mut words = result.split_whitespace();
            outcome.hash = words.next().unwrap_or_default().to_owned();
            let mut number = || words.next().and_then(|word| word.parse().ok()).unwrap_or_default();
            outcome.counts = std::array::from_fn(|_| number());
            outcome.cpu_ms = number();
        }
        outcome
    }

    fn wrong(&self) -> Option<String> {
        self.trace.iter().find(|line| line.contains(" WRONG ")).map(|line| line.trim().to_owned())
    }
}

/// Both runs of a seed; the first says more where they differ.
fn twice(seed: u64) -> Outcome {
    let failed = |error: io::Error| Outcome { failed: Some(error.to_string()), ..Outcome::default() };
    let mut first = Outcome::of(seed).unwrap_or_else(failed);
    let second = Outcome::of(seed).unwrap_or_else(failed);
    first.cpu_ms += second.cpu_ms;
    if first.failed.is_none() {
        first.failed = second.failed;
    }
    if first.failed.is_none() && first.hash != second.hash {
        let at = first.trace.iter().zip(&second.trace).position(|(first, second)| first != second);
        let at = at.unwrap_or_else(|| first.trace.len().min(second.trace.len()));
        let line = |outcome: &[String]| outcome.get(at).map_or("nothing", |line| line.trim()).to_owned();
        let (one, other) = (line(&first.trace), line(&second.trace));
        first.failed = Some(format!("two histories, which part at line {}: `{one}` and `{other}`", at + 1));
    }
    first
}

fn replay(seed: u64) -> ExitCode {
    let outcome = twice(seed);
    for line in &outcome.trace {
        println!("{line}");
    }
    let Outcome { hash, counts: [acknowledged, records, duplicates, faults, simulated], cpu_ms, failed, .. } = outcome;
    println!(
        "seed {seed}: history {hash}, {acknowledged} events acknowledged, {records} records, {duplicates} of them duplicates, \
         {faults} faults, {simulated} ms simulated, twice, in {cpu_ms} ms"
    );
    match failed {
        None => ExitCode::SUCCESS,
        Some(failed) => {
            println!("FAILED: {failed}");
            ExitCode::FAILURE
        }
    }
}

fn many(arguments: &Arguments) -> ExitCode {
    let Arguments { seeds, from, jobs, first, .. } = *arguments;
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let (next, started) = (AtomicU64::new(from), Instant::now());
    let (results, received) = mpsc::channel();
    let (mut done, mut failures, mut cpu_ms, mut totals) = (0, 0_u64, 0, [0_u64; 5]);
    thread::scope(|scope| {
        for _ in 0..jobs.unwrap_or(cores) {
            let (next, results) = (&next, results.clone());
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + seeds || results.send((seed, twice(seed))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(results);
        let mut told = Instant::now();
        for (seed, outcome) in received {
            done += 1;
            cpu_ms += outcome.cpu_ms;
            totals.iter_mut().zip(outcome.counts).for_each(|(total, count)| *total += count);
            if let Some(failed) = outcome.failed {
                failures += 1;
                println!("seed {seed} FAILED: {failed}\n    replay it with: cargo sim --seed {seed}");
                if first {
                    next.store(from + seeds, Ordering::Relaxed);
                }
            }
            if told.elapsed() > PROGRESS_EVERY {
                told = Instant::now();
                eprintln!("{done} of {seeds} seeds, {failures} failed, {:.1} seeds/s", rate(done, started));
            }
        }
    });
    let [acknowledged, records, duplicates, faults, simulated] = totals;
    println!(
        "{done} seeds, each twice with the same history: {} good, {failures} failed; {:.0} s, {:.1} seeds/s, {:.2} core-seconds a seed",
        done - failures,
        started.elapsed().as_secs_f64(),
        rate(done, started),
        cpu_ms as f64 / 1_000.0 / done as f64
    );
    println!(
        "{acknowledged} events acknowledged, {records} records, {duplicates} of them duplicates, {faults} faults, {:.1} h simulated",
        simulated as f64 / 3_600_000.0
    );
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn rate(done: u64, started: Instant) -> f64 {
    done as f64 / started.elapsed().as_secs_f64()
}
