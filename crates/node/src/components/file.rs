//! The sink that appends to a file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, ready};
use jaiminho_core::Event;
use jaiminho_runtime::{Receipt, Settler, Sink};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use super::lines::Lines;

const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Appends each event to a file, as one line of CloudEvents JSON.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileConfig {
    /// Made if it isn't there. Relative to the pipeline file.
    pub(crate) path: PathBuf,
}

/// Why there is no such sink.
#[derive(Debug, thiserror::Error)]
#[error("can't open {path} to append: {error}", path = path.display())]
pub(crate) struct FileError {
    path: PathBuf,
    error: std::io::Error,
}

struct Appender {
    path: PathBuf,
    file: File,
    /// Everything before it is whole lines on the disk.
    length: u64,
    settler: Settler,
}

/// A sink to a file. An event is accepted when it is on the disk: one fsync a batch. One writer a file.
pub(crate) fn file(config: &FileConfig, base_dir: &Path, settler: Settler) -> Result<Box<dyn Sink>, FileError> {
    let path = base_dir.join(&config.path);
    let opened = std::fs::OpenOptions::new().append(true).create(true).open(&path);
    match opened.and_then(|file| Ok((file.metadata()?.len(), file))) {
        Ok((length, file)) => Ok(Box::new(Appender { path, file: File::from_std(file), length, settler })),
        Err(error) => Err(FileError { path, error }),
    }
}

impl Appender {
    async fn append(&mut self, text: &[u8]) -> std::io::Result<()> {
        self.file.write_all(text).await?;
        self.file.flush().await?;
        self.file.sync_data().await
    }
}

impl Sink for Appender {
    fn send<'a>(&'a mut self, events: &'a mut Vec<(Receipt, Event)>) -> BoxFuture<'a, ()> {
        async move {
            let lines = Lines::take(events);
            let mut wait = RETRY_MIN;
            while let Err(error) = self.append(&lines.text).await {
                tracing::error!(%error, path = %self.path.display(), "not written; trying again");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(RETRY_MAX);
                // A part of the batch may be there: without this it would stand before the whole of it.
                if let Err(error) = self.file.set_len(self.length).await {
                    tracing::warn!(%error, path = %self.path.display(), "a part of a batch may stand twice");
                }
            }
            self.length += lines.text.len() as u64;
            self.settler.settle_all(lines.outcomes);
        }
        .boxed()
    }

    fn drain(&mut self, _time_left: Duration) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }
}
