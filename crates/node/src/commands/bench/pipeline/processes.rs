//! The three stages, each a process of this program.

use std::ffi::OsString;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use jaiminho_bench::process;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::exit::Failure;

/// In the order of the pipeline.
pub(super) const STAGES: [&str; 3] = ["ingest", "convert", "publish"];

const READY_DEADLINE: Duration = Duration::from_secs(60);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// The user's settings of other stages.
const SETTINGS: [&str; 6] =
    ["JAIMINHO_FILE", "JAIMINHO_PROFILE", "JAIMINHO_NAME", "JAIMINHO_LISTEN", "JAIMINHO_ADVERTISE", "JAIMINHO_ADMIN"];

/// They run until this is dropped.
pub(super) struct Stages {
    /// Where events are posted.
    pub(super) url: String,
    running: Vec<Running>,
    _directory: TempDir,
}

struct Running {
    child: Child,
    pid: u32,
    stage: &'static str,
    admin: String,
    log: PathBuf,
}

impl Stages {
    /// Resolves when all are ready. `telemetry` is that section of their file, on one line.
    pub(super) async fn start(program: &Path, kafka: &str, topic: &str, telemetry: &str) -> Result<Self, Failure> {
        let failure = |error: std::io::Error| Failure::unavailable(format!("three stages: {error}"));
        let directory = TempDir::with_prefix("jaiminho-bench-").map_err(failure)?;
        let ports = free_ports(1 + 2 * STAGES.len()).map_err(failure)?;
        let (http, ports) = ports.split_first().ok_or_else(|| Failure::software("no ports"))?;
        let (stage_ports, admin_ports) = ports.split_at(STAGES.len());
        let file = directory.path().join("pipeline.yaml");
        std::fs::write(&file, pipeline(*http, stage_ports, kafka, topic, telemetry)).map_err(failure)?;
        let mut running = Vec::new();
        for ((stage, port), admin) in STAGES.into_iter().zip(stage_ports).zip(admin_ports) {
            running.push(start(program, &file, stage, *port, *admin).map_err(failure)?);
        }
        for stage in &mut running {
            stage.ready().await?;
        }
        Ok(Self { url: format!("http://127.0.0.1:{http}/events"), running, _directory: directory })
    }

    /// Where each is asked for its metrics, in the order of [`STAGES`].
    pub(super) fn metrics_urls(&self) -> Vec<String> {
        self.running.iter().map(|stage| format!("{}/metrics", stage.admin)).collect()
    }

    /// Of each so far, in the order of [`STAGES`].
    pub(super) fn cpu_seconds(&self) -> Result<Vec<f64>, Failure> {
        self.of_each(process::cpu_seconds_of)
    }

    /// Of each, in the order of [`STAGES`].
    pub(super) fn resident_bytes(&self) -> Result<Vec<u64>, Failure> {
        self.of_each(process::resident_bytes)
    }

    fn of_each<T>(&self, of: impl Fn(u32) -> std::io::Result<T>) -> Result<Vec<T>, Failure> {
        let of_stage = |stage: &Running| {
            of(stage.pid).map_err(|_| {
                Failure::software(format!(
                    "stage {} has ended; its log ends:\n{}",
                    stage.stage,
                    super::tail(&stage.log)
                ))
            })
        };
        self.running.iter().map(of_stage).collect()
    }
}

impl Running {
    async fn ready(&mut self) -> Result<(), Failure> {
        let began = Instant::now();
        loop {
            if reqwest::get(format!("{}/readyz", self.admin)).await.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            let ended = self.child.try_wait().map_err(Failure::software)?;
            if ended.is_some() || began.elapsed() > READY_DEADLINE {
                let log = super::tail(&self.log);
                return Err(Failure::software(format!("stage {} is not ready; its log ends:\n{log}", self.stage)));
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}

fn start(program: &Path, file: &Path, stage: &'static str, port: u16, admin: u16) -> std::io::Result<Running> {
    let log = file.with_file_name(format!("{stage}.log"));
    let output = File::create(&log)?;
    let mut command = Command::new(program);
    command.args(["stage", stage, "--name", stage, "--log-level", "info", "--file"]).arg(file);
    command.args(["--listen", &format!("127.0.0.1:{port}"), "--admin", &format!("127.0.0.1:{admin}")]);
    let telemetry =
        std::env::vars_os().map(|(name, _)| name).filter(|name| name.as_encoded_bytes().starts_with(b"OTEL_"));
    for setting in SETTINGS.into_iter().map(OsString::from).chain(telemetry) {
        command.env_remove(setting);
    }
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).kill_on_drop(true);
    let child = command.spawn()?;
    let pid = child.id().ok_or_else(|| std::io::Error::other("it has ended"))?;
    Ok(Running { child, pid, stage, admin: format!("http://127.0.0.1:{admin}"), log })
}

/// All at once, so that none is given twice.
fn free_ports(count: usize) -> std::io::Result<Vec<u16>> {
    let listeners: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

fn pipeline(http: u16, stages: &[u16], kafka: &str, topic: &str, telemetry: &str) -> String {
    let at = |index: usize| stages.get(index).copied().unwrap_or_default();
    // JSON strings are YAML's, and `$$` is the file's `$`.
    let text = |text: &str| serde_json::Value::from(text.replace('$', "$$")).to_string();
    format!(
        "version: 1
pipeline: bench
telemetry: {telemetry}
stages:
  ingest:
    at: {{ list: [\"127.0.0.1:{ingest}\"] }}
    key: \"{{{{data.deviceId}}}}\"
    source: {{ http: {{ listen: \"127.0.0.1:{http}\" }} }}
  convert:
    at: {{ list: [\"127.0.0.1:{convert}\"] }}
    subscribe_to: [ingest]
    transform: {{ vrl: \".data.converted = true\" }}
  publish:
    subscribe_to: [convert]
    sink: {{ kafka: {{ bootstrap_servers: {kafka}, topic: {topic} }} }}
",
        ingest = at(0),
        convert = at(1),
        kafka = text(kafka),
        topic = text(topic),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, Setting, load};

    #[test]
    fn the_pipeline_is_sound_apart() {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("pipeline.yaml");
        std::fs::write(&file, pipeline(1, &[2, 3, 4], "kafka:9092", "jaiminho.bench", "{}")).unwrap();
        let config = load(&file, &Overrides::default(), Setting::Apart);
        let config = config.unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(config.pipeline.stages.len(), STAGES.len());
        assert!(STAGES.iter().all(|stage| config.pipeline.stages.contains_key(*stage)));
    }

    #[test]
    fn ports_are_different() {
        let mut ports = free_ports(20).unwrap();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 20);
    }
}
