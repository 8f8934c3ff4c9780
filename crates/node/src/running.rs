//! What a running `jaiminho up` tells other commands: a small file in the user's run-time folder.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use jaiminho_observe::Plan;
use serde::{Deserialize, Serialize};

/// Where a running pipeline is reached.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) pid: u32,
    pub(crate) pipeline: String,
    /// Of the embedded broker.
    pub(crate) bootstrap_servers: Option<String>,
    pub(crate) http: Option<String>,
    pub(crate) websocket: Option<String>,
    pub(crate) admin: SocketAddr,
    /// Where its stages tell of themselves, and are tapped.
    #[serde(default)]
    pub(crate) inspect: Option<SocketAddr>,
    /// The URL of its console.
    #[serde(default)]
    pub(crate) console: Option<String>,
    /// Its file, absolute.
    #[serde(default)]
    pub(crate) file: Option<PathBuf>,
    /// What it consists of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) plan: Option<Plan>,
}

/// The file; removed when dropped.
pub(crate) struct Announced(PathBuf);

impl Running {
    /// Writes the file of this pipeline, in place of an older one.
    pub(crate) fn announce(&self) -> io::Result<Announced> {
        let folder = folder()?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        if fs::metadata(&folder)?.uid() != uid()? {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("{} belongs to somebody else", folder.display()),
            ));
        }
        let path = folder.join(format!("{}.json", self.pipeline));
        let temporary = folder.join(format!("{}.{}", self.pipeline, self.pid));
        fs::write(&temporary, serde_json::to_vec(self).map_err(io::Error::other)?)?;
        fs::rename(&temporary, &path)?;
        Ok(Announced(path))
    }

    /// The running process of `pipeline`, if there is one; an error where it runs another file.
    pub(crate) fn find_of(pipeline: &str, file: &Path) -> Result<Option<Self>, String> {
        match Self::find(pipeline) {
            Some(running) if !running.is_of(file) => {
                let other = running.file.unwrap_or_default();
                Err(format!("the pipeline `{pipeline}` that runs here is that of {}", other.display()))
            }
            running => Ok(running),
        }
    }

    /// Whether it runs this file.
    pub(crate) fn is_of(&self, file: &Path) -> bool {
        self.file.is_some() && self.file == fs::canonicalize(file).ok()
    }

    /// The running process of `pipeline`, if there is one.
    pub(crate) fn find(pipeline: &str) -> Option<Self> {
        Self::read(&own_folder()?.join(format!("{pipeline}.json")))
    }

    /// All of this user's that run on this machine.
    pub(crate) fn all() -> Vec<Self> {
        let entries = own_folder().and_then(|folder| fs::read_dir(folder).ok());
        let paths = entries.into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
        let mut all: Vec<_> = paths
            .filter(|path| path.extension().is_some_and(|end| end == "json"))
            .filter_map(|path| Self::read(&path))
            .collect();
        all.sort_by(|one, other| one.pipeline.cmp(&other.pipeline));
        all
    }

    fn read(path: &Path) -> Option<Self> {
        let running: Self = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        // A file that a killed process left behind means nothing.
        PathBuf::from(format!("/proc/{}", running.pid)).exists().then_some(running)
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        let own = fs::read(&self.0).ok().and_then(|json| serde_json::from_slice::<Running>(&json).ok());
        // A newer process may have put its own file in place of this one.
        if own.is_some_and(|running| running.pid == std::process::id())
            && let Err(error) = fs::remove_file(&self.0)
        {
            tracing::debug!(%error, "the run-time file stays");
        }
    }
}

/// The folder, unless somebody else has made it.
fn own_folder() -> Option<PathBuf> {
    let folder = folder().ok()?;
    (fs::metadata(&folder).ok()?.uid() == uid().ok()?).then_some(folder)
}

fn folder() -> io::Result<PathBuf> {
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty()) {
        Some(folder) => Ok(PathBuf::from(folder).join("jaiminho")),
        None => Ok(std::env::temp_dir().join(format!("jaiminho-{}", uid()?))),
    }
}

fn uid() -> io::Result<u32> {
    Ok(fs::metadata("/proc/self")?.uid())
}
