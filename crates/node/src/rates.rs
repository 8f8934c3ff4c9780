//! SIGHUP: the stages' rates are read again from the pipeline file. Nothing else of it is.

use std::io::IsTerminal;
use std::path::PathBuf;

use jaiminho_runtime::Rate;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cli::Global;
use crate::config::{Config, Document, Files, Overrides, Problems, Setting};
use crate::exit::Failure;

/// The rates of the stages that run here.
pub(crate) struct Rates {
    file: PathBuf,
    overrides: Overrides,
    setting: Setting,
    stages: Vec<(String, Rate)>,
}

impl Rates {
    pub(crate) fn new(global: &Global, setting: Setting, stages: Vec<(String, Rate)>) -> Self {
        Self { file: global.file.clone(), overrides: global.overrides(), setting, stages }
    }

    /// Listens from now on, until `stop`; not at a terminal, whose end ends the process.
    pub(crate) fn read_on_hangup(self, tasks: &TaskTracker, stop: CancellationToken) -> Result<(), Failure> {
        if std::io::stdin().is_terminal() {
            return Ok(());
        }
        let mut hangup =
            signal(SignalKind::hangup()).map_err(|error| Failure::software(format!("signals: {error}")))?;
        tasks.spawn(async move {
            loop {
                tokio::select! {
                    _ = hangup.recv() => {}
                    () = stop.cancelled() => return,
                }
                let (file, overrides, setting) = (self.file.clone(), self.overrides.clone(), self.setting);
                let read = move || Document::open(&file, &overrides)?.check(setting, Files::None);
                match tokio::task::spawn_blocking(read).await {
                    Ok(read) => self.take(read),
                    Err(error) => tracing::error!(%error, "the pipeline file is not read"),
                }
            }
        });
        Ok(())
    }

    fn take(&self, read: Result<Config, Problems>) {
        let config = match read {
            Ok(config) => config,
            Err(problems) => return tracing::error!(%problems, "the pipeline file is wrong: rates stay as they are"),
        };
        tracing::info!("the pipeline file is read again, for its rates");
        for (name, rate) in &self.stages {
            let Some(stage) = config.pipeline.stages.get(name).filter(|stage| stage.rate != rate.per_second()) else {
                continue;
            };
            tracing::info!(stage = name, from = rate.per_second(), to = stage.rate, "rate changed");
            rate.set(stage.rate);
        }
    }
}
