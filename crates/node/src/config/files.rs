//! Files that the pipeline names are relative to it, wherever the program was started.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use jaiminho_kafka::{EventHubs, Sasl, Secret, Tls};
use jaiminho_tls::{ServerTls, TlsError};

use super::component::{KafkaSource, Sink, Source, Transform};
use super::model::{Pipeline, Stage};

/// Which files are looked into beside the pipeline file: VRL programs, secrets, certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Files<'a> {
    /// None: no stage runs.
    None,
    /// The programs of all stages.
    Programs,
    /// Those of one stage: the others' may be on other machines.
    Of(&'a str),
    /// All.
    All,
}

impl Files<'_> {
    /// Whether the program of `stage` is compiled.
    pub(super) fn has_program(self, stage: &str) -> bool {
        self == Self::Programs || self.has_all(stage)
    }

    /// Whether those have to be there that each stage's process reads.
    pub(super) fn has_shared(self) -> bool {
        match self {
            Self::None | Self::Programs => false,
            Self::Of(_) | Self::All => true,
        }
    }

    /// Whether every file of `stage` has to be there.
    pub(super) fn has_all(self, stage: &str) -> bool {
        match self {
            Self::None | Self::Programs => false,
            Self::Of(one) => one == stage,
            Self::All => true,
        }
    }
}

/// Makes every path absolute, or relative to the present folder. (Mappings are read relative to it by their owner.) The files as
/// the pipeline names them, each with the stage that does; none: every process reads it.
pub(super) fn resolve(pipeline: &mut Pipeline, base_dir: &Path) -> BTreeSet<(PathBuf, Option<String>)> {
    let mut named = BTreeSet::new();
    each(pipeline, |stage, path| {
        named.insert((path.clone(), stage.map(str::to_owned)));
        *path = base_dir.join(&*path);
    });
    for (name, stage) in &pipeline.stages {
        if let Some(Transform::Steps(steps)) = &stage.transform {
            named.extend(steps.files().map(|path| (path.to_owned(), Some(name.clone()))));
        }
    }
    named
}

/// Every file that the pipeline names but those of programs, with its stage.
fn each(pipeline: &mut Pipeline, mut take: impl FnMut(Option<&str>, &mut PathBuf)) {
    pipeline.telemetry.admin.tls.iter_mut().flat_map(ServerTls::paths_mut).for_each(|path| take(None, path));
    for (name, stage) in &mut pipeline.stages {
        let mut take = |path: &mut PathBuf| take(Some(name), path);
        if let Some(tls) = &mut stage.tls {
            [&mut tls.ca, &mut tls.cert, &mut tls.key].into_iter().flatten().for_each(&mut take);
        }
        if let Some(Source::Ingest(ingest)) = &mut stage.source {
            ingest.tokens_file.iter_mut().for_each(&mut take);
            ingest.tls_mut().flat_map(ServerTls::paths_mut).for_each(&mut take);
        }
        if let Some(Sink::Kafka(kafka)) = &mut stage.sink {
            of_client(&mut kafka.tls, &mut kafka.sasl, &mut kafka.event_hubs).for_each(&mut take);
        }
        if let Some(Source::Kafka(KafkaSource { kafka })) = &mut stage.source {
            of_client(&mut kafka.tls, &mut kafka.sasl, &mut kafka.event_hubs).for_each(&mut take);
        }
    }
}

/// The files that a client of Kafka reads.
fn of_client<'a>(
    tls: &'a mut Option<Tls>,
    sasl: &'a mut Option<Sasl>,
    hubs: &'a mut Option<EventHubs>,
) -> impl Iterator<Item = &'a mut PathBuf> {
    let (paths, password) = match tls {
        Some(tls) => ([tls.ca.as_mut(), tls.cert.as_mut(), tls.key.as_mut()], tls.key_password.as_mut()),
        None => ([const { None }; 3], None),
    };
    let sasl = sasl.as_mut().map(|sasl| [&mut sasl.password, &mut sasl.client_secret]);
    let hubs = hubs.as_mut().map(|hubs| {
        let entra = hubs.entra.as_mut().map(|entra| &mut entra.client_secret);
        [hubs.connection_string.as_mut(), entra]
    });
    let secrets = password.into_iter().chain(sasl.into_iter().flatten().flatten());
    let files = secrets.chain(hubs.into_iter().flatten().flatten()).filter_map(|secret| match secret {
        Secret::File(file) => Some(&mut file.file),
        Secret::Inline(_) => None,
    });
    paths.into_iter().flatten().chain(files)
}

/// Certificates, keys and token files of a stage that can't be used: the way to each, and why. (Secrets are read by their
/// owner.)
pub(super) fn unusable(stage: &Stage) -> Vec<(Vec<&'static str>, String)> {
    let mut found: Vec<_> = stage.tls.iter().flat_map(|tls| wrong(&["tls"], tls.check())).collect();
    let mut named: Vec<(Vec<&'static str>, &Path)> = Vec::new();
    if let Some(Source::Ingest(ingest)) = &stage.source {
        named.extend(ingest.tokens_file.iter().map(|path| (vec!["source", "tokens_file"], path.as_path())));
        found.extend(ingest.tls().flat_map(|(endpoint, tls)| wrong(&["source", endpoint, "tls"], tls.check())));
    }
    let client = match (&stage.source, &stage.sink) {
        (Some(Source::Kafka(source)), _) => Some(("source", &source.kafka.tls)),
        (_, Some(Sink::Kafka(kafka))) => Some(("sink", &kafka.tls)),
        (_, _) => None,
    };
    // What they hold, Kafka's client says.
    if let Some((role, Some(tls))) = client {
        let paths = [("ca", &tls.ca), ("cert", &tls.cert), ("key", &tls.key)].into_iter();
        named.extend(paths.filter_map(|(key, path)| Some((vec![role, "kafka", "tls", key], path.as_deref()?))));
    }
    let why = |path: &Path| File::open(path).and_then(|mut file| file.read(&mut [0])).err();
    found.extend(named.into_iter().filter_map(|(way, path)| Some((way, cannot_read(path, &why(path)?)))));
    found
}

/// The same of the admin port.
pub(super) fn unusable_admin(pipeline: &Pipeline) -> Vec<(Vec<&'static str>, String)> {
    let tls = pipeline.telemetry.admin.tls.iter();
    tls.flat_map(|tls| wrong(&["telemetry", "admin", "tls"], tls.check())).collect()
}

fn wrong(way: &[&'static str], errors: Vec<TlsError>) -> Vec<(Vec<&'static str>, String)> {
    let told = errors.into_iter().map(|error| {
        let (field, what) = match error {
            TlsError::Read { field, path, error } => (Some(field), cannot_read(&path, &error)),
            TlsError::Unusable { field, path, problem } => (Some(field), format!("{}: {problem}", path.display())),
            TlsError::Missing(field) => (Some(field), "is missing".to_owned()),
            TlsError::Together(problem) => (None, problem),
        };
        (way.iter().copied().chain(field).collect(), what)
    });
    told.collect()
}

fn cannot_read(path: &Path, error: &io::Error) -> String {
    format!("can't read {}: {error}", path.display())
}
