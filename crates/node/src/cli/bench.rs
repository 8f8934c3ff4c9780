//! `jaiminho bench`: what it measures, and how much of it.

use std::net::SocketAddr;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Args, Debug)]
pub(crate) struct Bench {
    #[command(subcommand)]
    pub(crate) command: BenchCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Events between two processes over loopback: our link beside bare gRPC streams.
    #[command(after_help = "Example:\n  jaiminho bench link\n  jaiminho bench link --count 500000 --runs 9 --json\n\n\
        What is compared: (1) a bare stream with one message an event, (2) a bare stream of byte frames in which a batch\n\
        stands ready-made, and our link with log, credit and settlement, with one consumer and with --consumers. Then our\n\
        link within one process, and a stage that passes events on between two links. Each run has processes of its own,\n\
        which check that every event arrived once and that every one is settled.")]
    Link(BenchLink),
    /// HTTP to Kafka through three processes; our sink beside a bare producer; an idle stage.
    #[command(after_help = "Example:\n  jaiminho bench pipeline --kafka localhost:9092\n  \
        jaiminho bench pipeline --kafka localhost:9092 --no-idle --json\n\n\
        An Apache Kafka for it, from a checkout: tests/kafka/up. The records stay in the topic.")]
    Pipeline(BenchPipeline),
    /// What metrics and traces cost: the same load with none, with metrics, and with one in a hundred and all events traced.
    #[command(after_help = "Example:\n  jaiminho bench telemetry --kafka localhost:9092\n\n\
        Four times three stages, loaded in turn; each run compares them with one another, so that what else the machine does\n\
        meets all of them. Spans go to a collector in this process, whose own work is not counted.")]
    Telemetry(BenchTelemetry),
    /// One side of a run of `bench link`.
    #[command(hide = true)]
    Side(BenchSide),
}

#[derive(Args, Debug)]
pub(crate) struct BenchLink {
    /// Events of a run.
    #[arg(long, value_name = "N", default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: u64,
    /// Runs of each contender.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) runs: u32,
    /// Bytes of an event.
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = clap::value_parser!(u32).range(16..=65_536))]
    pub(crate) size: u32,
    /// Events that are offered at once, and events of a bare frame.
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) batch: u32,
    /// Credit of each link, in events.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(500..=1_000_000))]
    pub(crate) window: u64,
    /// Different keys of the events; 0: they have none.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    pub(crate) keys: u64,
    /// Consumers of the larger group.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(2..=64))]
    pub(crate) consumers: u32,
    /// Events a second of the runs that time each hop.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rate: u32,
}

#[derive(Args, Debug)]
pub(crate) struct BenchTelemetry {
    #[command(flatten)]
    pub(crate) load: BenchLoad,
    /// Runs of each.
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) runs: u32,
    /// Leaves out the cost of being scraped, which takes a minute.
    #[arg(long)]
    pub(crate) no_scrape: bool,
}

/// What is posted, and where it goes.
#[derive(Args, Debug)]
pub(crate) struct BenchLoad {
    /// Address of a real Kafka. From a checkout, tests/kafka/up starts one.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) kafka: Option<String>,
    /// The topic that is written to.
    #[arg(long, default_value = "jaiminho.bench", value_name = "NAME")]
    pub(crate) topic: String,
    /// Events of a run in batches. One event a request: a fifth of them; open loop: a tenth.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(100..))]
    pub(crate) count: u64,
    /// Bytes of an event.
    #[arg(long, value_name = "BYTES", default_value_t = 241, value_parser = clap::value_parser!(u32).range(100..=65_536))]
    pub(crate) size: u32,
    /// Different keys of the events.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) keys: u64,
}

#[derive(Args, Debug)]
pub(crate) struct BenchPipeline {
    #[command(flatten)]
    pub(crate) load: BenchLoad,
    /// Runs of each.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) runs: u32,
    /// Leaves out the idle stage, which takes over a minute.
    #[arg(long)]
    pub(crate) no_idle: bool,
}

#[derive(Args, Debug)]
pub(crate) struct BenchSide {
    /// Which side.
    pub(crate) role: Role,
    /// The run, as JSON.
    pub(crate) job: String,
    /// Where the side before it listens.
    #[arg(required_if_eq_any([("role", "consume"), ("role", "pass")]))]
    pub(crate) producer: Option<SocketAddr>,
}

/// A side of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    Produce,
    /// A stage between two links.
    Pass,
    Consume,
    /// Both sides, without a link between processes.
    Alone,
}
