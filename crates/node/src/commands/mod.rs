//! One module for each command.

pub(crate) mod autoscale;
pub(crate) mod bench;
pub(crate) mod completions;
pub(crate) mod console;
pub(crate) mod doctor;
pub(crate) mod init;
pub(crate) mod list;
pub(crate) mod render;
pub(crate) mod scaler;
pub(crate) mod schema;
pub(crate) mod send;
pub(crate) mod stage;
pub(crate) mod tail;
pub(crate) mod tap;
pub(crate) mod test;
pub(crate) mod top;
pub(crate) mod topology;
pub(crate) mod up;
pub(crate) mod validate;

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use jaiminho_core::Instance;

use crate::cli::{FILE_DEFAULT, Global};
use crate::config::{Config, Document, Files, Setting, load};
use crate::exit::Failure;
use crate::running::Running;

/// Loads the pipeline file with all that it names, and logs its warnings.
pub(crate) fn load_logged(global: &Global, setting: Setting) -> Result<Config, Failure> {
    let document = Document::open(&global.file, &global.overrides())?;
    Ok(logged(document.check(setting, Files::All)?))
}

/// Logs the warnings of a configuration.
fn logged(config: Config) -> Config {
    for warning in &config.warnings.0 {
        tracing::warn!("{warning}");
    }
    config
}

/// What a command knows of the pipeline that it is to find.
#[expect(clippy::large_enum_variant, reason = "there is one, for the time of a command")]
pub(crate) enum Found {
    File(Box<Config>),
    /// Without its file.
    Running(Running),
}

/// The pipeline file; where none is named and none is here, the one `jaiminho up` that runs on this machine. `otherwise` says
/// how the command does without either.
pub(crate) fn file_or_running(global: &Global, otherwise: &str) -> Result<Found, Failure> {
    // What else is wrong with it, loading says.
    if global.file.try_exists().unwrap_or(true) {
        return Ok(Found::File(Box::new(load(&global.file, &global.overrides(), Setting::Together)?)));
    }
    let runs = match global.file == Path::new(FILE_DEFAULT) {
        true => one(Running::all()),
        false => Err(String::new()),
    };
    runs.map(Found::Running).map_err(|others| {
        let file = global.file.display();
        Failure::config(format!(
            "{file}: there is no such file{others}; -f FILE or JAIMINHO_FILE names one, {otherwise}"
        ))
    })
}

/// The only one; or what runs instead.
fn one(mut running: Vec<Running>) -> Result<Running, String> {
    match (running.pop(), running.as_slice()) {
        (None, _) => Err(", and no `jaiminho up` runs here".into()),
        (Some(only), []) => Ok(only),
        (Some(last), others) => {
            let names: Vec<&str> = others.iter().chain([&last]).map(|running| running.pipeline.as_str()).collect();
            Err(format!(", and several pipelines run here ({})", names.join(", ")))
        }
    }
}

/// An address that a person on this machine can type.
pub(crate) fn local(address: SocketAddr) -> String {
    if address.ip().is_unspecified() { format!("localhost:{}", address.port()) } else { address.to_string() }
}

/// Threads that a process works with. A core is left to those that are not tokio's, of Kafka's client and of the network;
/// more would only wake one another.
pub(crate) fn threads() -> u64 {
    threads_of(std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64))
}

/// The same on a machine with so many cores.
pub(crate) fn threads_of(cores: u64) -> u64 {
    cores.saturating_sub(1).max(1)
}

/// Runs `future` on a runtime of this process's own.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = match usize::try_from(threads()) {
        // Nothing to share out: waking a task costs half as much.
        Ok(1) | Err(_) => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        Ok(threads) => tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build(),
    };
    runtime.map_err(|error| Failure::software(format!("no runtime: {error}")))?.block_on(future)
}

/// This replica: the time in ms, so that a later start is greater, and 20 random bits, so that no two are equal.
pub(crate) fn instance(name: String) -> Instance {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let random = RandomState::new().build_hasher().finish() & 0xf_ffff;
    Instance { name, incarnation: u64::try_from(now_ms).unwrap_or_default() << 20 | random }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_start_has_the_greater_incarnation() {
        let first = instance("a".into());
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!(instance("a".into()).incarnation > first.incarnation);
    }
}
