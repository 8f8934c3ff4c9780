//! A Marathon group with an app for each stage. Tasks run in Mesos' own containers (UCR), and find each other by the SRV
//! records of Mesos-DNS. Nothing needs a shell: the program expands `${PORT_STAGE}` and the like itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::cli::{Global, Marathon};
use crate::commands::stage::CLOSE_DEADLINE;
use crate::commands::threads_of;
use crate::config::component::Source;
use crate::config::memory::{sum, terms};
use crate::config::model::Stage;
use crate::config::{Config, Document, Files, Setting};
use crate::exit::Failure;

/// Where a task listens that has an address of its own.
const STAGE_PORT: u16 = 7400;
const ADMIN_PORT: u16 = 9464;
/// Where Mesos puts what a task's app names under `fetch`.
const SANDBOX: &str = "/mnt/mesos/sandbox";
/// Mesos-DNS appends nine characters to a task's name, and DNS takes 63.
const TASK_BYTES_MAX: usize = 54;
/// A part of an id.
const ID: &str =
    "has lower-case letters, digits and `-` between them in Marathon, and is not `restart`, `tasks` or `versions`";
/// For the program itself, beside what `validate` sums up.
const PROGRAM_BYTES: u64 = 64 << 20;
/// From the end of a drain to the signal that nothing survives.
const KILL_MARGIN: Duration = Duration::from_secs(5);

/// The group, as `PUT /v2/groups` takes it.
pub(super) fn group(global: &Global, marathon: &Marathon) -> Result<Value, Failure> {
    let own = global.file.file_name();
    let is_there = |uri: &String| path_of(uri).file_name() == own || is_archive(uri);
    if marathon.task_file.is_none() && !marathon.fetch.iter().any(is_there) {
        let how = "--fetch URI where Mesos gets it, under its name here, or --task-file PATH of the one in the image";
        return Err(Failure::usage(format!("no task would have the pipeline file: name {how}")));
    }
    let mut overrides = global.overrides();
    let document = Document::open(&global.file, &overrides)?;
    let names = Names::new(marathon, document.pipeline().unwrap_or_default());
    let mut places = places(&names, &document.stages())?;
    let given = given(marathon)?;
    let known = |name: &str| given.get(name).cloned();
    let together = document.check_with(Setting::Together, Files::None, &known).map_err(|problems| {
        let hint =
            "\na task has none of this shell's variables: --env NAME=VALUE and --secret NAME=SOURCE give it some";
        let lacks = problems.0.iter().any(|problem| problem.what.starts_with("environment variable"));
        Failure::config(format!("{problems}{}", if lacks { hint } else { "" }))
    })?;
    names.check(together.pipeline.stages.keys())?;
    places.extend(identities(&together));
    // What the user sets wins.
    overrides.set.splice(0..0, places.iter().cloned());
    let document = Document::open(&global.file, &overrides)?;
    let config = document.check_with(Setting::Apart, Files::None, &known)?;
    config.warnings.0.iter().for_each(crate::output::note);
    if config.pipeline.telemetry.admin.tls.as_ref().is_some_and(|tls| tls.ca.is_some()) {
        let what =
            "telemetry.admin.tls.ca asks for clients' certificates, and Marathon's checks have none: leave it out";
        return Err(Failure::config(what.to_owned()));
    }
    let files = Fetched::new(&config, global, marathon)?;
    files.missing().chain(files.strange()).for_each(crate::output::note);
    let sets: Vec<&String> = places.iter().chain(&global.set).collect();
    let apps = config.in_order().into_iter().map(|(name, stage)| {
        App { config: &config, names: &names, files: &files, global, marathon, sets: &sets, name, stage }.render()
    });
    Ok(json!({ "id": names.group(), "apps": apps.collect::<Vec<_>>() }))
}

/// What the file's variables are in a task: secrets are there, and say nothing here.
fn given(marathon: &Marathon) -> Result<BTreeMap<String, String>, Failure> {
    let mut all: BTreeMap<String, String> = marathon.env.iter().cloned().collect();
    for (name, source) in &marathon.secret {
        if source.is_empty() {
            return Err(Failure::usage(format!("--secret {name}=: names no secret")));
        }
        if all.insert(name.clone(), name.clone()).is_some() {
            return Err(Failure::usage(format!("{name} is given by --env and by --secret, or twice as a secret")));
        }
    }
    Ok(all)
}

/// What Marathon and Mesos-DNS call things.
struct Names<'a> {
    /// The group's path, from the root.
    path: Vec<String>,
    framework: &'a str,
    domain: &'a str,
}

impl<'a> Names<'a> {
    fn new(marathon: &'a Marathon, pipeline: &str) -> Self {
        let path = marathon.group.as_deref().unwrap_or(pipeline).split('/').filter(|part| !part.is_empty());
        Self { path: path.map(plain).collect(), framework: &marathon.framework, domain: &marathon.domain }
    }

    /// What the pipeline file allows, and Marathon does not.
    fn check<'b>(&self, mut stages: impl Iterator<Item = &'b String>) -> Result<(), Failure> {
        if self.path.is_empty() || !self.path.iter().all(|part| is_id(part)) {
            return Err(Failure::usage(format!("--group: each part of `{}` {ID}", self.group())));
        }
        match stages.find(|stage| !is_id(&plain(stage))) {
            Some(stage) => Err(Failure::config(format!("stage `{stage}`: an id {ID}: rename it"))),
            None => Ok(()),
        }
    }

    fn group(&self) -> String {
        format!("/{}", self.path.join("/"))
    }

    fn app(&self, stage: &str) -> String {
        format!("{}/{}", self.group(), plain(stage))
    }

    /// A task's name in DNS: its app's path, the last part first.
    fn task(&self, stage: &str) -> String {
        std::iter::once(plain(stage)).chain(self.path.iter().rev().cloned()).collect::<Vec<_>>().join("-")
    }

    /// The SRV records of a port by its name.
    fn srv(&self, port: &str, stage: &str) -> String {
        format!("_{port}._{}._tcp.{}.{}", self.task(stage), self.framework, self.domain)
    }
}

/// Ids of Marathon have no `_`.
fn plain(name: &str) -> String {
    name.replace('_', "-")
}

fn is_id(part: &str) -> bool {
    let is_plain = |next: char| next.is_ascii_lowercase() || next.is_ascii_digit() || next == '-';
    let is_word = !part.is_empty() && part.chars().all(is_plain) && !part.starts_with('-') && !part.ends_with('-');
    is_word && !["restart", "tasks", "versions"].contains(&part)
}

/// Where each stage's instances are found, as `--set` says it; instead of what the file says.
fn places(names: &Names<'_>, stages: &[&str]) -> Result<Vec<String>, Failure> {
    let mut apps = BTreeMap::new();
    let mut places = Vec::new();
    for stage in stages {
        let task = names.task(stage);
        if task.len() > TASK_BYTES_MAX {
            let why = format!("stage `{stage}` would be `{task}` in Mesos-DNS, {} bytes", task.len());
            return Err(Failure::usage(format!(
                "{why} where {TASK_BYTES_MAX} are possible: --group names a shorter path"
            )));
        }
        if let Some(other) = apps.insert(task.clone(), stage) {
            return Err(Failure::config(format!("stages `{other}` and `{stage}` would both be `{task}`: rename one")));
        }
        places.push(format!("stages.{stage}.at={{srv: {}, dns: null, list: null}}", names.srv("stage", stage)));
    }
    Ok(places)
}

/// What is fetched, and whose it is: another stage's key is nobody else's.
struct Fetched<'a> {
    /// Each URI, and the named file that it is.
    uris: Vec<(&'a str, Option<PathBuf>)>,
    /// What the pipeline file names, in the sandbox or absolute, and the stage that does; none: all do.
    named: Vec<(PathBuf, Option<&'a str>)>,
}

impl<'a> Fetched<'a> {
    /// One stage's key must not be taken for another's: a URI that may be either of two files is refused.
    fn new(config: &'a Config, global: &Global, marathon: &'a Marathon) -> Result<Self, Failure> {
        let file = Path::new("/").join(task_file(global, marathon).replace("${MESOS_SANDBOX}", SANDBOX));
        let in_sandbox = |path: PathBuf| path.strip_prefix(SANDBOX).map(Path::to_owned).unwrap_or(path);
        let named = config.named.iter().map(|(path, by)| (in_sandbox(file.with_file_name(path)), by.as_deref()));
        let own = std::iter::once((in_sandbox(file.clone()), None));
        let named: Vec<_> = own.chain(named).collect();
        let mut uris = Vec::new();
        for uri in &marathon.fetch {
            let mut these = candidates(&named, uri);
            if these.len() > 1 {
                let these: Vec<_> = these.into_iter().map(|path| path.display().to_string()).collect();
                let which = these.join(" or ");
                return Err(Failure::usage(format!("--fetch {uri}: its end must say which file this is: {which}")));
            }
            uris.push((uri.as_str(), these.pop_first().map(Path::to_owned)));
        }
        Ok(Self { uris, named })
    }

    /// What a stage's tasks get, each where the file looks for it in the sandbox.
    fn of(&self, stage: &str) -> Vec<Value> {
        let is_read = |path: &Path| self.named.iter().any(|(of, by)| of == path && by.is_none_or(|by| by == stage));
        let fetched = self.uris.iter().filter_map(|(uri, path)| match path {
            Some(path) if !is_read(path) => None,
            Some(path) if path.is_relative() => Some(json!({ "uri": uri, "destPath": path })),
            Some(_) | None => Some(json!({ "uri": uri })),
        });
        fetched.collect()
    }

    /// A warning for each that all tasks get, though nothing names it.
    fn strange(&self) -> impl Iterator<Item = String> {
        let unknown = self.uris.iter().filter(|(uri, path)| path.is_none() && !is_archive(uri));
        unknown.map(|(uri, _)| {
            format!("warning: --fetch {uri}: the pipeline file names no such file, and all tasks get it")
        })
    }

    /// A warning for each file that the pipeline file names in the sandbox, and that is not fetched.
    fn missing(&self) -> impl Iterator<Item = String> {
        let fetched: BTreeSet<&PathBuf> = self.uris.iter().filter_map(|(_, path)| path.as_ref()).collect();
        let named: BTreeSet<&PathBuf> = self.named.iter().map(|(path, _)| path).collect();
        named.into_iter().filter(move |path| path.is_relative() && !fetched.contains(path)).map(|path| {
            let path = path.display();
            format!("warning: no --fetch is of {path}, which the file names: it has to be at {SANDBOX}/{path}, of an archive that is fetched, say")
        })
    }
}

/// The named files that this may be: the one in which it ends, else all of its name.
fn candidates<'a>(named: &'a [(PathBuf, Option<&str>)], uri: &str) -> BTreeSet<&'a Path> {
    let given = path_of(uri);
    let paths = named.iter().map(|(path, _)| path.as_path());
    let same: BTreeSet<&Path> = paths.filter(|path| path.file_name() == given.file_name()).collect();
    let ends = same.iter().copied().filter(|path| given.ends_with(path)).max_by_key(|path| path.components().count());
    ends.map_or(same, |path| BTreeSet::from([path]))
}

fn path_of(uri: &str) -> &Path {
    Path::new(uri.split(['?', '#']).next().unwrap_or_default())
}

/// Mesos unpacks it.
fn is_archive(uri: &str) -> bool {
    let ends = [".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".zip"];
    path_of(uri).to_str().is_some_and(|path| ends.iter().any(|end| path.ends_with(end)))
}

fn task_file(global: &Global, marathon: &Marathon) -> String {
    marathon.task_file.clone().unwrap_or_else(|| {
        let name = global.file.file_name().unwrap_or_default().to_string_lossy();
        format!("{SANDBOX}/{name}")
    })
}

/// The names in certificates that come of where the file says that stages are found.
fn identities(config: &Config) -> Vec<String> {
    let with_tls = config.pipeline.stages.iter().filter(|(_, stage)| stage.tls.is_some());
    let named = with_tls.filter_map(|(name, stage)| Some((name, stage.server_name()?)));
    named.map(|(name, server_name)| format!("stages.{name}.tls.server_name={server_name}")).collect()
}

/// What an app is made of.
struct App<'a> {
    config: &'a Config,
    names: &'a Names<'a>,
    files: &'a Fetched<'a>,
    global: &'a Global,
    marathon: &'a Marathon,
    sets: &'a [&'a String],
    name: &'a str,
    stage: &'a Stage,
}

/// A port of a task.
struct Port {
    name: &'static str,
    /// Where the task has an address of its own.
    container: u16,
    /// The setting that says where a source listens.
    listen: Option<&'static str>,
}

impl App<'_> {
    fn render(&self) -> Value {
        let Self { names, marathon, name, stage, .. } = self;
        let ports = self.ports();
        let scheme = if self.config.pipeline.telemetry.admin.tls.is_some() { "HTTPS" } else { "HTTP" };
        let mut app = json!({
            "id": names.app(name),
            "instances": stage.replicas.unwrap_or(1),
            "cpus": marathon.cpus,
            "mem": self.memory_mib(),
            "disk": marathon.disk,
            "args": self.args(&ports),
            "env": self.env(),
            "fetch": self.files.of(name),
            "container": { "type": "MESOS", "docker": { "image": self.image() } },
            "labels": { "jaiminho.pipeline": self.config.pipeline.pipeline, "jaiminho.stage": name },
            "constraints": match marathon.constraint.as_slice() {
                [] => json!([["hostname", "GROUP_BY"]]),
                given => json!(given),
            },
            "healthChecks": [{
                "protocol": format!("MESOS_{scheme}"),
                "path": "/livez",
                "portIndex": 1,
                "gracePeriodSeconds": 60,
                "intervalSeconds": 10,
                "timeoutSeconds": 5,
                "maxConsecutiveFailures": 3,
            }],
            "readinessChecks": [{
                "name": "ready",
                "protocol": scheme,
                "path": "/readyz",
                "portName": "admin",
                "intervalSeconds": 5,
                "timeoutSeconds": 3,
                "httpStatusCodesForReady": [200],
                "preserveLastResponse": true,
            }],
            // New instances come before old ones go, and one of a few may be more.
            "upgradeStrategy": { "minimumHealthCapacity": 1.0, "maximumOverCapacity": 0.5 },
            "taskKillGracePeriodSeconds": self.grace().as_secs(),
            "backoffSeconds": 1,
            "backoffFactor": 1.5,
            "maxLaunchDelaySeconds": 60,
        });
        let secrets = marathon.secret.iter().map(|(name, source)| (name.clone(), json!({ "source": source })));
        let more = match &marathon.network {
            None => {
                let of = |port: &Port| json!({ "port": 0, "protocol": "tcp", "name": port.name });
                let ports: Vec<_> = ports.iter().map(of).collect();
                json!({ "networks": [{ "mode": "host" }], "portDefinitions": ports, "requirePorts": false })
            }
            Some(network) => {
                let of = |port: &Port| json!({ "containerPort": port.container, "protocol": "tcp", "name": port.name });
                app["container"]["portMappings"] = ports.iter().map(of).collect();
                json!({ "networks": [{ "mode": "container", "name": network }] })
            }
        };
        merge(&mut app, more);
        if !marathon.secret.is_empty() {
            app["secrets"] = secrets.collect::<Map<_, _>>().into();
        }
        app
    }

    /// Its own, that of probes, and where its source listens; in this order everywhere.
    fn ports(&self) -> Vec<Port> {
        let mut ports = vec![
            Port { name: "stage", container: STAGE_PORT, listen: None },
            Port { name: "admin", container: ADMIN_PORT, listen: None },
        ];
        if let Some(Source::Ingest(ingest)) = &self.stage.source {
            let http = ingest.http.as_ref().map(|http| ("edge", "http", http.listen.as_str()));
            let socket = ingest.websocket.as_ref().and_then(|socket| socket.listen.as_deref());
            let socket = socket.map(|listen| ("websocket", "websocket", listen));
            ports.extend(http.into_iter().chain(socket).map(|(name, listen, address)| Port {
                name,
                container: address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or_default(),
                listen: Some(listen),
            }));
        }
        ports
    }

    fn args(&self, ports: &[Port]) -> Vec<String> {
        let Self { global, marathon, name, .. } = self;
        let file = task_file(global, marathon);
        let port = |port: &Port| match marathon.network {
            None => format!("${{PORT_{}}}", port.name.to_uppercase()),
            Some(_) => port.container.to_string(),
        };
        let [stage, admin] = [port(&ports[0]), port(&ports[1])];
        let mut args = vec!["stage".to_owned(), (*name).to_owned(), "--file".into(), file];
        let mut option = |name: &str, value: String| args.extend([format!("--{name}"), value]);
        option("listen", format!("0.0.0.0:{stage}"));
        option("admin", format!("0.0.0.0:{admin}"));
        option("advertise", format!("${{HOST}}:{stage}"));
        option("name", "${MESOS_TASK_ID}".into());
        if let Some(profile) = &global.profile {
            option("profile", profile.clone());
        }
        self.sets.iter().for_each(|set| option("set", (*set).clone()));
        for of in ports.iter().filter(|_| marathon.network.is_none()) {
            if let Some(listen) = of.listen {
                option("set", format!("stages.{name}.source.{listen}.listen=0.0.0.0:{}", port(of)));
            }
        }
        args
    }

    fn env(&self) -> Map<String, Value> {
        let env = self.marathon.env.iter().map(|(name, value)| (name.clone(), json!(value)));
        let secret = |(name, _): &(String, String)| (name.clone(), json!({ "secret": name }));
        env.chain(self.marathon.secret.iter().map(secret)).collect()
    }

    fn image(&self) -> String {
        self.marathon.image.clone().unwrap_or_else(|| format!("jaiminho:{}", env!("CARGO_PKG_VERSION")))
    }

    fn memory_mib(&self) -> u64 {
        let bound = sum(&terms(self.config, self.name, self.stage, threads_of(self.marathon.agent_cores)));
        bound.saturating_add(PROGRAM_BYTES).div_ceil(1 << 20)
    }

    /// A source serves on for a while, then all that it has taken is finished, then connections close.
    fn grace(&self) -> Duration {
        let serves_on = match &self.stage.source {
            Some(Source::Ingest(ingest)) => ingest.drain_delay.0,
            Some(Source::Generate(_) | Source::Kafka(_) | Source::Own(_)) | None => Duration::ZERO,
        };
        serves_on + self.stage.drain.0 + 2 * CLOSE_DEADLINE + KILL_MARGIN
    }
}

fn merge(app: &mut Value, more: Value) {
    if let (Value::Object(app), Value::Object(more)) = (app, more) {
        app.extend(more);
    }
}

#[cfg(test)]
mod tests;
