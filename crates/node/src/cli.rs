//! The command line's shape and its help texts, written for somebody who has never seen the program.

mod bench;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

pub(crate) use self::bench::{
    Bench, BenchCommand, BenchLink, BenchLoad, BenchPipeline, BenchSide, BenchTelemetry, Role,
};
use crate::Program;
use crate::commands::console::jaeger;
use crate::config::{Overrides, with_environment};

/// What is logged when nothing is said.
pub(crate) const LOG_LEVEL_DEFAULT: &str = "info";

/// Version and commit.
pub(crate) const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("JAIMINHO_COMMIT"), ")");

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold());

/// Takes events in over HTTP and WebSocket, converts them, and publishes them to Kafka; a sender is told "done" only
/// when the broker has confirmed.
#[derive(Debug, Parser)]
#[command(
    name = "jaiminho",
    version = VERSION,
    styles = STYLES,
    propagate_version = true,
    max_term_width = 110,
    after_help = "A first try, in two terminals:\n  \
        jaiminho init demo && cd demo && jaiminho up\n  \
        jaiminho send --count 10 && jaiminho tail\n\n\
        Exit codes: 0 done, 1 `doctor` has found something, 64 wrong usage, 65 bad data, 69 a service is not available, 70 internal error, 78 bad pipeline file."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The command line under the program's own name.
pub(crate) fn command(program: &Program) -> clap::Command {
    fn renamed(command: clap::Command, name: &str) -> clap::Command {
        let rename = |text: String| text.replace("jaiminho ", &format!("{name} "));
        let (about, after) = (command.get_about(), command.get_after_help());
        let (about, after) = (about.map(ToString::to_string), after.map(ToString::to_string));
        let command = about.into_iter().fold(command, |command, about| command.about(rename(about)));
        let command = after.into_iter().fold(command, |command, after| command.after_help(rename(after)));
        command.mut_subcommands(|inner| renamed(inner, name))
    }
    let name = &program.name;
    renamed(Cli::command(), name).name(name.clone()).bin_name(name.clone()).version(program.version())
}

/// Where the console is.
const CONSOLE_DEFAULT: &str = "127.0.0.1:9470";

/// The pipeline file of who names none.
pub(crate) const FILE_DEFAULT: &str = "pipeline.yaml";

/// Options that stand before or after any command.
#[derive(Args, Clone, Debug)]
pub(crate) struct Global {
    /// The pipeline file.
    #[arg(short, long, global = true, env = "JAIMINHO_FILE", default_value = FILE_DEFAULT, value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// A profile of the file to lay over it.
    #[arg(long, global = true, env = "JAIMINHO_PROFILE", value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// Changes one value of the file, as --set stages.publish.concurrency=4; null takes it away. A stage that the file
    /// lacks is given whole, as --set 'stages.look={subscribe_to: [convert], sink: {stdout: {}}}'. Can be repeated.
    #[arg(long, global = true, value_name = "PATH=VALUE")]
    pub(crate) set: Vec<String>,
    /// Output for programs: JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// error, warn, info, debug or trace; or a filter, as info,jaiminho_link=debug.
    #[arg(long, global = true, env = "JAIMINHO_LOG_LEVEL", default_value = LOG_LEVEL_DEFAULT, value_name = "LEVEL")]
    pub(crate) log_level: String,
    /// Whose command line it is.
    #[arg(skip)]
    pub(crate) program: Arc<Program>,
}

impl Global {
    pub(crate) fn overrides(&self) -> Overrides {
        Overrides { profile: self.profile.clone(), set: self.set.clone(), own: self.program.own.clone() }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs the whole pipeline in this process, with a broker of its own where the file says `embedded`.
    #[command(after_help = "Example:\n  jaiminho up\n  jaiminho up -f deploy/pipelines/eugenio/pipeline.yaml")]
    Up(Up),
    /// Runs one stage as a gRPC service: what a container does.
    #[command(after_help = "Example, one pipeline as three processes:\n  jaiminho stage ingest\n  \
        jaiminho stage convert --listen 0.0.0.0:7401 --admin 0.0.0.0:9465\n  \
        jaiminho stage publish --listen 0.0.0.0:7402 --admin 0.0.0.0:9466\n\n\
        In names and addresses `${VAR}` is an environment variable, as in the pipeline file:\n  \
        jaiminho stage ingest --listen '0.0.0.0:${PORT_STAGE}' --advertise '${HOST}:${PORT_STAGE}'")]
    Stage(StageArgs),
    /// Checks the pipeline file, and prints how much memory each stage can take.
    #[command(after_help = "Example:\n  jaiminho validate --profile prod\n  jaiminho validate --json\n\n\
        Mistakes and warnings stand on standard error, the table on standard output; with --json all is one document there.\n\
        VRL programs are compiled, and the files that the pipeline names must be there.")]
    Validate(Validate),
    /// Runs the tests that lie beside the mappings.
    #[command(after_help = "Example:\n  jaiminho test\n  jaiminho test -f deploy/pipelines/eugenio/pipeline.yaml")]
    Test(Test),
    /// Posts events over HTTP: from a file, from standard input, or made up.
    #[command(after_help = "Examples:\n  jaiminho send readings.ndjson\n  \
        echo '{\"deviceId\": \"a-1\", \"temp\": 20.5}' | jaiminho send -\n  \
        jaiminho send --count 10000 --rate 500 --keys 100\n\n\
        A refused body (429, 503) is sent again after the time that the answer asks for. Events without an id get one\n\
        at the server, so a repeat after an unknown outcome (504, a lost connection) can make duplicates of them; events in\n\
        CloudEvents' format, and made-up ones, keep their ids.")]
    Send(Send),
    /// Shows what is in Kafka: of the `jaiminho up` that runs the pipeline file, or of the brokers that the file names.
    #[command(
        after_help = "Examples:\n  jaiminho tail\n  jaiminho tail --topic 'eugenio.*' --from beginning --no-follow\n  \
        jaiminho tail --bootstrap-servers kafka:9092 --json | jq .event"
    )]
    Tail(Tail),
    /// Shows what a running pipeline does: rates, credit, logs, latencies, and which stage is the limit.
    #[command(
        after_help = "Examples:\n  jaiminho top\n  jaiminho top --once\n  jaiminho top --once --json | jq .limit\n  \
        jaiminho top -f pipeline.yaml --profile prod\n\n\
        The stages are found where the pipeline file says (`at`), or in the `jaiminho up` that runs on this machine. The JSON is\n\
        that of the console; fields are added to it, none is taken away."
    )]
    Top(Top),
    /// Serves a page that shows a running pipeline live: credit, rates, latencies, rejections, a tap.
    #[command(after_help = "Examples:\n  jaiminho console\n  jaiminho console --jaeger http://localhost:16686\n\n\
        `jaiminho up` has one by itself. Whoever reaches the page sees the pipeline's events: it asks nobody who they are.\n\
        At a loopback address only this machine reaches it.")]
    Console(Console),
    /// Draws the pipeline: its stages, who consumes what, and what flows where.
    #[command(after_help = "Examples:\n  jaiminho topology\n  jaiminho topology --format mermaid\n  \
        jaiminho topology --format dot | dot -Tsvg > pipeline.svg\n\n\
        Of a pipeline that does not run it draws what the file says.")]
    Topology(Topology),
    /// Shows a sample of the events of a stage, as they pass; slows and loses nothing.
    #[command(
        after_help = "Examples:\n  jaiminho tap convert\n  jaiminho tap convert --filter '.type == \"alarm\"' --rate 100\n  \
        jaiminho tap convert.dead_letter --json --count 10 | jq .reason\n\n\
        What passes while nothing more may be shown is missed; at the end, standard error says how many that were."
    )]
    Tap(Tap),
    /// Says what is wrong with a running pipeline, and what to do.
    #[command(after_help = "Examples:\n  jaiminho doctor\n  jaiminho doctor --json\n\n\
        Ends with 0 when nothing is wrong, with 1 when something is.")]
    Doctor,
    /// Prints what another system needs to run the pipeline.
    #[command(after_help = "Example:\n  jaiminho render marathon --fetch http://files/pipeline.yaml > group.json")]
    Render(Render),
    /// Tells KEDA how many instances each stage needs, so that Kubernetes starts and stops them.
    #[command(after_help = "Example:\n  jaiminho scaler -f pipeline.yaml\n\n\
        and in the ScaledObject of stage `convert`, so that it has as many instances as its load needs:\n  \
        triggers:\n  - type: external\n    metadata: { scalerAddress: \"scaler:7500\", stage: convert }\n  \
        fallback: { failureThreshold: 3, replicas: 1, behavior: currentReplicas }\n\n\
        It looks at all instances once a second. A stage gets more when it is the limit: it has all the work that it can do, and\n\
        what is below it takes what it makes. It gets fewer when fewer have been enough for a while. Where an instance does\n\
        not answer, KEDA is told nothing, and keeps what there is. `jaiminho autoscale --explain` says what it would tell, and why.\n\
        Further metadata: target (0.6), drain (30s), growth (2), startup (30s), downAfter (60s), eventsPerInstance; see docs/scaling.md.\n\
        The port serves gRPC's health service, too: for probes.")]
    Scaler(Scaler),
    /// Says how many instances each stage has and needs, and why.
    #[command(after_help = "Examples:\n  jaiminho autoscale --explain\n  \
        jaiminho autoscale --explain --option target=0.7\n  jaiminho autoscale --explain --json | jq '.stages[] | {stage, current, needed}'\n\n\
        It changes nothing: `jaiminho scaler` tells KEDA, which does. It looks for five seconds; what a scaler that has looked for longer\n\
        knows besides, such as what an instance has been able to do under load, it does not know.")]
    Autoscale(Autoscale),
    /// Prints the JSON Schema of the pipeline file, for editors.
    #[command(
        after_help = "Example, for editors with the YAML language server:\n  jaiminho schema > pipeline.schema.json\n  \
        and as first line of pipeline.yaml:\n  # yaml-language-server: $schema=pipeline.schema.json"
    )]
    Schema,
    /// Writes a small pipeline to begin with.
    #[command(after_help = "Example:\n  jaiminho init demo && cd demo && jaiminho up")]
    Init(Init),
    /// Lists sources, transforms and sinks, and the options of one.
    #[command(
        after_help = "Examples:\n  jaiminho list\n  jaiminho list sink.kafka\n  jaiminho list stage\n  jaiminho list metrics"
    )]
    List(List),
    /// Measures the link between stages, or a whole pipeline, on this machine.
    #[command(after_help = "Examples:\n  jaiminho bench link\n  \
        jaiminho bench pipeline --kafka localhost:9092\n\n\
        Figures are medians of alternating runs, with the least and the most; goals stand beside them. They mean something\n\
        in a release build, on a machine that does nothing else.")]
    Bench(Bench),
    /// Prints a script that completes commands and options in a shell.
    #[command(
        after_help = "Example:\n  jaiminho completions bash > ~/.local/share/bash-completion/completions/jaiminho"
    )]
    Completions {
        /// The shell.
        shell: Shell,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Up {
    /// Address of probes and metrics: /livez, /readyz, /metrics.
    #[arg(long, default_value = "127.0.0.1:9464", value_name = "HOST:PORT")]
    pub(crate) admin: String,
    /// Address of the console, a page that shows the pipeline live; where it is taken, a free port. `off`: none.
    #[arg(long, default_value = CONSOLE_DEFAULT, value_name = "HOST:PORT")]
    pub(crate) console: String,
    /// Where Jaeger is, for the console: an event's trace is one click away.
    #[arg(long, env = "JAIMINHO_JAEGER", value_name = "URL", value_parser = jaeger)]
    pub(crate) jaeger: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct StageArgs {
    /// The stage's name in the pipeline file.
    #[arg(value_name = "NAME")]
    pub(crate) stage: String,
    /// This instance's name: stable over restarts, and different from the other instances'. Default: --advertise.
    #[arg(long, env = "JAIMINHO_NAME", value_name = "NAME", value_parser = with_environment)]
    pub(crate) name: Option<String>,
    /// Address of the gRPC service.
    #[arg(
        long, env = "JAIMINHO_LISTEN", default_value = "0.0.0.0:7400", value_name = "HOST:PORT",
        value_parser = with_environment
    )]
    pub(crate) listen: String,
    /// How others reach this instance. Default: the machine's name and the port of --listen.
    #[arg(long, env = "JAIMINHO_ADVERTISE", value_name = "HOST:PORT", value_parser = with_environment)]
    pub(crate) advertise: Option<String>,
    /// Address of probes and metrics: /livez, /readyz, /metrics.
    #[arg(
        long, env = "JAIMINHO_ADMIN", default_value = "0.0.0.0:9464", value_name = "HOST:PORT",
        value_parser = with_environment
    )]
    pub(crate) admin: String,
}

#[derive(Args, Debug)]
pub(crate) struct Render {
    #[command(subcommand)]
    pub(crate) target: RenderTarget,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RenderTarget {
    /// A Marathon group: an app for each stage, found by Mesos-DNS.
    #[command(
        after_help = "Example:\n  jaiminho render marathon --image registry/jaiminho:1 --fetch http://files/pipeline.yaml \\\n    \
            --env KAFKA=kafka:9092 --secret KAFKA_PASSWORD=kafka/password > group.json\n  \
            curl -X PUT -H 'content-type: application/json' -d @group.json http://marathon:8080/v2/groups\n\n\
            Each app has as many instances as the file's `replicas`, the memory that `jaiminho validate` sums up and 64 MiB for the\n\
            program, and gets SIGTERM long enough before SIGKILL to drain. Files that the pipeline names are fetched too, each\n\
            to where it looks for them and only by stages that name it, or are in the image. Each stage reads the whole pipeline\n\
            file, and so gets all variables and secrets: give what only one may know, such as a key, as a file.\n\
            Clients find the edge at the SRV records of _edge._STAGE-GROUP._tcp.marathon.mesos."
    )]
    Marathon(Marathon),
}

#[derive(Args, Debug)]
pub(crate) struct Marathon {
    /// The image. Default: jaiminho, as the version of this program.
    #[arg(long, value_name = "IMAGE")]
    pub(crate) image: Option<String>,
    /// The group's path. Default: the pipeline's name.
    #[arg(long, value_name = "PATH")]
    pub(crate) group: Option<String>,
    /// What Mesos fetches into each task's sandbox: the pipeline file, and those that it names. Can be repeated.
    #[arg(long, value_name = "URI")]
    pub(crate) fetch: Vec<String>,
    /// Where a task finds the pipeline file. Default: in its sandbox, under its name here.
    #[arg(long, value_name = "FILE")]
    pub(crate) task_file: Option<String>,
    /// A variable of each task, such as the pipeline file names as `${VAR}`. Can be repeated.
    #[arg(long, value_name = "VAR=VALUE", value_parser = assignment)]
    pub(crate) env: Vec<(String, String)>,
    /// A variable whose value is a secret of the cluster's. Can be repeated.
    #[arg(long, value_name = "VAR=SOURCE", value_parser = assignment)]
    pub(crate) secret: Vec<(String, String)>,
    /// A container network in which each task has an address of its own. Default: the agents' own, with ports that Marathon chooses.
    #[arg(long, value_name = "NAME")]
    pub(crate) network: Option<String>,
    /// Cores of each task.
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = positive)]
    pub(crate) cpus: f64,
    /// Cores of the largest agent: a task starts a thread less, and memory goes with threads.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub(crate) agent_cores: u64,
    /// Disk of each task in MiB, for its log.
    #[arg(long, value_name = "MIB", default_value_t = 64)]
    pub(crate) disk: u64,
    /// Which agents get a stage's tasks, as Marathon's `constraints` have it. Default: hostname:GROUP_BY, so that they spread over
    /// all. Can be repeated.
    #[arg(long, value_name = "FIELD:OPERATOR[:VALUE]", value_parser = constraint)]
    pub(crate) constraint: Vec<Vec<String>>,
    /// Marathon's name in Mesos.
    #[arg(long, value_name = "NAME", default_value = "marathon")]
    pub(crate) framework: String,
    /// The domain of Mesos-DNS.
    #[arg(long, value_name = "NAME", default_value = "mesos")]
    pub(crate) domain: String,
}

#[derive(Args, Debug)]
pub(crate) struct Validate {
    /// Also refuse what only `jaiminho up` can run: stages without an address, the embedded broker.
    #[arg(long)]
    pub(crate) apart: bool,
    /// Cores that an instance may use: the limit of its container, or all of the machine's. A process starts a thread less, and
    /// memory goes with threads. Default: those of this machine.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub(crate) cores: Option<u64>,
}

#[derive(Args, Debug)]
pub(crate) struct Test {
    /// A folder of tests. Default: `tests` beside the pipeline file.
    #[arg(value_name = "FOLDER")]
    pub(crate) folder: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct Send {
    /// JSON values: one a line, one after another, or in lists. `-` is standard input.
    #[arg(value_name = "INPUT", conflicts_with = "count", required_unless_present = "count")]
    pub(crate) input: Option<PathBuf>,
    /// Makes up this many events instead.
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// Where to. Default: the `jaiminho up` that runs the pipeline file, else the file's first HTTP source on this machine. A
    /// pipeline that runs alone needs no file.
    #[arg(long, env = "JAIMINHO_URL")]
    pub(crate) url: Option<String>,
    /// Events a second, at most.
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) rate: Option<f64>,
    /// Events a request.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) batch: u32,
    /// Requests at once; with more than one, events of a key can overtake each other.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) parallel: u32,
    /// Tries of a request after refusals and failures, before giving up.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) retries: u32,
    /// A file with a bearer token; of several, as in a source's `tokens_file`, the first is sent.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) tls: ClientTls,
    /// Made-up events: how many different keys.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) keys: u64,
    /// Made-up events: their `type`.
    #[arg(long = "type", value_name = "TYPE", default_value = "jaiminho.sample.v1")]
    pub(crate) ty: String,
    /// Made-up events: bytes of filling in each.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    pub(crate) size: u64,
}

/// What `https` takes, each a PEM file.
#[derive(Args, Debug, Default)]
pub(crate) struct ClientTls {
    /// For `https`: who signs the server's certificate, a PEM file.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// For a server that asks for one: a certificate of the client's, a PEM file.
    #[arg(long, value_name = "FILE", requires = "key", requires = "ca")]
    pub(crate) cert: Option<PathBuf>,
    /// The key of `--cert`, a PEM file.
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct Tail {
    /// Only these topics; `*` stands for any characters. Can be repeated.
    #[arg(long, short, value_name = "TOPIC")]
    pub(crate) topic: Vec<String>,
    /// Where to begin. Default: with the last 10 records of each partition.
    #[arg(long, value_enum, conflicts_with = "last")]
    pub(crate) from: Option<From>,
    /// Begin with the last N records of each partition.
    #[arg(long, value_name = "N")]
    pub(crate) last: Option<u32>,
    /// Stop after N records.
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// Stop at the end of what is there.
    #[arg(long)]
    pub(crate) no_follow: bool,
    /// Kafka's address, instead of the pipeline's.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) bootstrap_servers: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Top {
    /// Prints one look as text (with --json as JSON), and ends. Without it, a live view that keys steer: `?` lists them.
    #[arg(long)]
    pub(crate) once: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Console {
    /// Address of the page; where it is taken, a free port.
    #[arg(long, default_value = CONSOLE_DEFAULT, value_name = "HOST:PORT")]
    pub(crate) listen: String,
    /// Where Jaeger is: an event's trace is one click away.
    #[arg(long, env = "JAIMINHO_JAEGER", value_name = "URL", value_parser = jaeger)]
    pub(crate) jaeger: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Topology {
    /// As what it is drawn.
    #[arg(long, value_enum, default_value_t = TopologyFormat::Text)]
    pub(crate) format: TopologyFormat,
}

/// How a pipeline is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TopologyFormat {
    /// Lines for a terminal.
    Text,
    /// A flowchart for Markdown.
    Mermaid,
    /// A graph for Graphviz.
    Dot,
}

#[derive(Args, Debug)]
pub(crate) struct Tap {
    /// STAGE, or STAGE.OUTPUT, as `subscribe_to` names it.
    #[arg(value_name = "OUTPUT")]
    pub(crate) output: String,
    /// Only events for which this VRL condition is true, as a `filter` step has it.
    #[arg(long, value_name = "CONDITION", default_value = "")]
    pub(crate) filter: String,
    /// Events a second, at most.
    #[arg(long, value_name = "N", default_value_t = 10.0, value_parser = positive)]
    pub(crate) rate: f64,
    /// Stop after N events.
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
}

#[derive(Args, Debug)]
pub(crate) struct Scaler {
    /// Address that KEDA calls, and that probes ask.
    #[arg(long, env = "JAIMINHO_LISTEN", default_value = "0.0.0.0:7500", value_name = "HOST:PORT")]
    pub(crate) listen: String,
}

#[derive(Args, Debug)]
pub(crate) struct Autoscale {
    /// Prints a line for each stage: how many instances it has, how many it needs, and why.
    #[arg(long, required = true)]
    pub(crate) explain: bool,
    /// An option of the rule, as the metadata of a ScaledObject's trigger have it; holds for all stages. Can be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) option: Vec<String>,
}

/// Where a tail begins.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum From {
    /// With the oldest record.
    Beginning,
    /// With the next one.
    End,
}

#[derive(Args, Debug)]
pub(crate) struct Init {
    /// A folder that is new or empty.
    #[arg(value_name = "FOLDER", default_value = ".")]
    pub(crate) folder: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct List {
    /// `stage`, `telemetry`, `metrics`, or one component: source, source.http, transform.vrl, sink.kafka …
    #[arg(value_name = "WHAT")]
    pub(crate) what: Option<String>,
}

/// One in over a quarter of an hour.
const RATE_MIN: f64 = 0.001;

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number >= RATE_MIN && number.is_finite() => Ok(number),
        Ok(_) | Err(_) => Err(format!("must be a number of at least {RATE_MIN}")),
    }
}

/// A constraint of Marathon's, as a list.
fn constraint(text: &str) -> Result<Vec<String>, String> {
    let parts: Vec<&str> = text.splitn(3, ':').collect();
    let is_right = !parts.contains(&"")
        && matches!(
            parts.as_slice(),
            [_, "UNIQUE" | "CLUSTER" | "GROUP_BY"]
                | [_, "CLUSTER" | "GROUP_BY" | "LIKE" | "UNLIKE" | "MAX_PER" | "IS", _]
        );
    is_right.then(|| parts.into_iter().map(str::to_owned).collect()).ok_or_else(|| {
        "must be FIELD:UNIQUE, FIELD:CLUSTER or FIELD:GROUP_BY, or with a value FIELD:OPERATOR:VALUE, where OPERATOR is CLUSTER, GROUP_BY, LIKE, UNLIKE, MAX_PER or IS".to_owned()
    })
}

/// A variable and what it is.
fn assignment(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("must be VAR=VALUE")?;
    let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    match is_name && name.chars().all(|next| next.is_ascii_alphanumeric() || next == '_') {
        true => Ok((name.to_owned(), value.to_owned())),
        false => Err(format!("`{name}` is no variable's name: letters, digits and `_`, no digit first")),
    }
}

/// Longest that a drain takes when the pipeline says nothing.
pub(crate) const DRAIN_DEFAULT: Duration = Duration::from_secs(25);

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound_and_every_command_has_an_example() {
        let mut command = Cli::command();
        command.build();
        command.clone().debug_assert();
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "{}", sub.get_name());
            assert!(sub.get_about().is_some(), "{}", sub.get_name());
        }
    }

    #[test]
    fn global_options_stand_before_or_after_the_command() {
        let before = Cli::parse_from(["jaiminho", "-f", "a.yaml", "--set", "a.b=1", "validate"]);
        let after = Cli::parse_from(["jaiminho", "validate", "--file", "a.yaml", "--set", "a.b=1"]);
        assert_eq!(before.global.file, after.global.file);
        assert_eq!(before.global.set, after.global.set);
    }

    #[test]
    fn wrong_usage_is_refused() {
        for arguments in [
            vec!["send"],
            vec!["send", "x", "--count", "3"],
            vec!["send", "--count", "3", "--rate", "0"],
            vec!["stage"],
            vec!["bench"],
            vec!["bench", "link", "--size", "15"],
            vec!["bench", "side", "consume", "{}"],
        ] {
            assert!(
                Cli::try_parse_from(std::iter::once("jaiminho").chain(arguments.iter().copied())).is_err(),
                "{arguments:?}"
            );
        }
    }
}
