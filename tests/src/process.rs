//! The `jaiminho` program as a process.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::AsyncWriteExt;

use crate::child::wrapped;
use crate::{Child, eventually, free_port, within};

/// How long a start may take, on a machine that runs other tests at the same time.
const START: Duration = Duration::from_secs(60);
/// How long links, and an answer about them, may take.
const LINKED: Duration = Duration::from_secs(30);

/// Whether tests that need Apache Kafka are left out: `tests/run` decides it.
pub fn skip_kafka() -> bool {
    let skip = std::env::var_os("JAIMINHO_SKIP_KAFKA").is_some_and(|value| !value.is_empty());
    if skip {
        eprintln!("left out: no Apache Kafka");
    }
    skip
}

/// Whether tests that need Prometheus' programs are left out: `tests/run` decides it.
pub fn skip_prometheus() -> bool {
    let skip = std::env::var_os("JAIMINHO_SKIP_PROMETHEUS").is_some_and(|value| !value.is_empty());
    if skip {
        eprintln!("left out: no Prometheus");
    }
    skip
}

/// A directory of the test's own, kept when the test fails.
#[derive(Debug)]
pub struct Directory(Option<TempDir>);

impl Directory {
    /// Makes a new one.
    pub fn new(name: &str) -> Self {
        Self(Some(TempDir::with_prefix(format!("jaiminho-{name}-")).expect("temporary directory")))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.as_ref().expect("a directory until dropped").path()
    }

    /// Writes `text` to a file in it.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, text).expect("write a file of the test");
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(directory) = self.0.take()
        {
            eprintln!("kept: {}", directory.keep().display());
        }
    }
}

/// Where one process runs and listens.
#[derive(Clone, Debug)]
pub struct Place {
    pub host: String,
    /// For the stages that subscribe to it.
    pub stage_port: u16,
    /// For probes and metrics.
    pub admin_port: u16,
    /// The process whose network namespace it shares; none: the test's.
    pub namespace: Option<u32>,
    /// What it sees as `/etc/resolv.conf`; none: the machine's.
    pub resolv_conf: Option<PathBuf>,
}

impl Place {
    /// Free ports on this machine.
    pub fn local() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            stage_port: free_port(),
            admin_port: free_port(),
            namespace: None,
            resolv_conf: None,
        }
    }

    /// `host:port`, for the stages that subscribe to it.
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.stage_port)
    }

    /// For probes and metrics.
    pub fn admin_url(&self, path: &str) -> String {
        format!("http://{}:{}{path}", self.host, self.admin_port)
    }
}

/// A running `jaiminho stage` or `jaiminho up`. Dropping it kills it.
#[derive(Debug)]
pub struct Jaiminho {
    pub child: Child,
    pub place: Place,
    pub name: String,
}

impl Jaiminho {
    /// One stage as a process of its own. It is not waited for.
    pub fn stage(directory: &Path, file: &Path, stage: &str, place: &Place) -> Self {
        let arguments = ["stage", stage, "--listen", &place.address()];
        Self::start(directory, &format!("{stage}-{}", place.stage_port), &arguments, file, place)
    }

    /// The same under a name of its own.
    pub fn named(directory: &Path, file: &Path, stage: &str, place: &Place, name: &str) -> Self {
        let arguments = ["stage", stage, "--listen", &place.address(), "--name", name];
        Self::start(directory, &format!("{stage}-{}", place.stage_port), &arguments, file, place)
    }

    /// All stages in one process, without a console where none is asked for. It is not waited for.
    pub fn up(directory: &Path, file: &Path, arguments: &[&str]) -> Self {
        let console: &[&str] = if arguments.contains(&"--console") { &[] } else { &["--console", "off"] };
        Self::start(directory, "up", &[&["up"], console, arguments].concat(), file, &Place::local())
    }

    /// Resolves when it says that it is ready.
    pub async fn ready(&self) {
        let url = self.place.admin_url("/readyz");
        eventually(&format!("{} ready", self.name), START, || async {
            if let Some(status) = self.child.exited() {
                panic!("{} ended with {status}:\n{}", self.name, self.child.log_tail());
            }
            let answer = reqwest::get(&url).await.map_err(|error| format!("{error}\n{}", self.child.log_tail()))?;
            if answer.status().is_success() {
                return Ok(());
            }
            Err(format!("{}: {}", answer.status(), answer.text().await.unwrap_or_default()))
        })
        .await;
    }

    /// The metrics' text.
    pub async fn metrics(&self) -> String {
        let url = self.place.admin_url("/metrics");
        eventually("metrics", LINKED, || async {
            let answer = reqwest::get(&url).await.map_err(|error| error.to_string())?;
            answer.text().await.map_err(|error| error.to_string())
        })
        .await
    }

    /// The sum of all samples of a metric whose labels contain `label`.
    pub async fn metric(&self, name: &str, label: &str) -> f64 {
        let samples = self.metrics().await;
        let of_metric = samples.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])) && line.contains(label)
        });
        of_metric.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Resolves when its stage has so many links to producers; after how long.
    pub async fn linked(&self, stage: &str, links: f64) -> Duration {
        let since = Instant::now();
        eventually("the links", LINKED, || async {
            let found = self.metric("jaiminho_links_out", &format!("stage=\"{stage}\"")).await;
            if found == links { Ok(()) } else { Err(format!("{found} links\n{}", self.child.log_tail())) }
        })
        .await;
        since.elapsed()
    }

    /// A task as a cluster's scheduler starts it: with these arguments and variables, and nothing of ours.
    pub fn task(directory: &Path, name: &str, arguments: &[&str], variables: &[(&str, &str)], place: &Place) -> Self {
        Self::task_of(binary(), directory, name, arguments, variables, place)
    }

    /// The same of another program.
    pub fn task_of(
        program: &Path,
        directory: &Path,
        name: &str,
        arguments: &[&str],
        variables: &[(&str, &str)],
        place: &Place,
    ) -> Self {
        let mut program = command_of(program, directory, arguments);
        program.envs(variables.iter().copied());
        Self::spawn(directory, name, program, place)
    }

    fn start(directory: &Path, name: &str, arguments: &[&str], file: &Path, place: &Place) -> Self {
        let admin = format!("{}:{}", place.host, place.admin_port);
        let mut program = command(directory, arguments);
        program.arg("-f").arg(file).args(["--admin", &admin]);
        Self::spawn(directory, name, program, place)
    }

    fn spawn(directory: &Path, name: &str, mut program: Command, place: &Place) -> Self {
        if let Some(holder) = place.namespace {
            program = wrapped(&["nsenter", "--net", "--target", &holder.to_string(), "--"], &program);
        }
        if let Some(resolv_conf) = &place.resolv_conf {
            let mount = r#"mount --bind "$0" /etc/resolv.conf && exec "$@""#;
            program = wrapped(&["unshare", "--mount", "sh", "-c", mount, &resolv_conf.to_string_lossy()], &program);
        }
        let child = Child::spawn(name, &program, &directory.join(format!("{name}.log")));
        Self { child, place: place.clone(), name: name.to_owned() }
    }
}

/// Runs `jaiminho` with `arguments` to its end.
pub async fn jaiminho<S: AsRef<OsStr>>(directory: &Path, arguments: &[S]) -> Output {
    jaiminho_within(START, directory, arguments).await
}

/// The same of what takes its time.
pub async fn jaiminho_within<S: AsRef<OsStr>>(deadline: Duration, directory: &Path, arguments: &[S]) -> Output {
    let mut command = tokio::process::Command::from(command(directory, arguments));
    command.kill_on_drop(true);
    within("jaiminho", deadline, command.output()).await.expect("run jaiminho")
}

/// The same in a folder of its own, with the state of the programs that run in `directory`.
pub async fn jaiminho_in<S: AsRef<OsStr>>(directory: &Path, folder: &Path, arguments: &[S]) -> Output {
    let mut command = tokio::process::Command::from(command(directory, arguments));
    command.kill_on_drop(true).current_dir(folder);
    within("jaiminho", START, command.output()).await.expect("run jaiminho")
}

/// The same with `input` on its standard input.
pub async fn jaiminho_fed<S: AsRef<OsStr>>(directory: &Path, arguments: &[S], input: &[u8]) -> Output {
    let mut command = tokio::process::Command::from(command(directory, arguments));
    command.kill_on_drop(true).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let run = async {
        let mut process = command.spawn()?;
        // It may end before it has read all: its answer says why.
        let _unread = process.stdin.take().expect("a pipe").write_all(input).await;
        process.wait_with_output().await
    };
    within("jaiminho", START, run).await.expect("run jaiminho")
}

/// Starts `jaiminho` with `arguments`; all its output goes to its log.
pub fn jaiminho_started(directory: &Path, arguments: &[&str]) -> Child {
    let log = directory.join(format!("{}.log", arguments[0]));
    Child::spawn(arguments[0], &command(directory, arguments), &log)
}

pub(crate) fn command<S: AsRef<OsStr>>(directory: &Path, arguments: &[S]) -> Command {
    command_of(binary(), directory, arguments)
}

fn command_of<S: AsRef<OsStr>>(program: &Path, directory: &Path, arguments: &[S]) -> Command {
    let mut command = Command::new(program);
    // A user's settings stay out of the tests, and the state that `up` leaves for `tail` stays in the test's directory.
    for (key, _) in std::env::vars_os() {
        let name = key.to_string_lossy();
        if name.starts_with("JAIMINHO_") || name.starts_with("OTEL_") || name == "KAFKA" {
            command.env_remove(key);
        }
    }
    command.env("XDG_RUNTIME_DIR", directory).env("XDG_STATE_HOME", directory).env("XDG_CACHE_HOME", directory);
    command.current_dir(directory).args(arguments);
    command
}

/// `JAIMINHO_BIN`, or else what cargo builds now.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(path) = std::env::var_os("JAIMINHO_BIN") {
            return path.into();
        }
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo)
            .args(["build", "--locked", "-p", "jaiminho-node", "--bin", "jaiminho"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .expect("run cargo");
        assert!(built.success(), "cargo build -p jaiminho-node failed");
        // The test is TARGET/debug/deps/integration-HASH.
        let test = std::env::current_exe().expect("path of the test");
        test.ancestors().nth(2).expect("the target directory").join("jaiminho")
    })
}
