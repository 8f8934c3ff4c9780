//! A Marathon group with an app for each stage. Tasks run in Mesos' own containers (UCR), and find each other by the SRV
//! records of Mesos-DNS. Nothing needs a shell: the program expands `${PORT_STAGE}` and the like itself.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::cli::{Global, Marathon};
use crate::commands::stage::CLOSE_DEADLINE;
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
/// For the program itself, beside what `validate` sums up.
const PROGRAM_BYTES: u64 = 64 << 20;
/// From the end of a drain to the signal that nothing survives.
const KILL_MARGIN: Duration = Duration::from_secs(5);

/// The group, as `PUT /v2/groups` takes it.
pub(super) fn group(global: &Global, marathon: &Marathon) -> Result<Value, Failure> {
    if marathon.fetch.is_empty() && marathon.task_file.is_none() {
        let how = "--fetch URI where Mesos gets it, or --task-file PATH of the one in the image";
        return Err(Failure::usage(format!("no task would have the pipeline file: name {how}")));
    }
    let mut overrides = global.overrides();
    let document = Document::open(&global.file, &overrides)?;
    let names = Names::new(marathon, document.pipeline().unwrap_or_default());
    let mut places = places(&names, &document.stages())?;
    let given = given(marathon)?;
    let known = |name: &str| given.get(name).cloned();
    places.extend(identities(&document.check_with(Setting::Together, Files::None, &known)?));
    // What the user sets wins.
    overrides.set.splice(0..0, places.iter().cloned());
    let document = Document::open(&global.file, &overrides)?;
    let config = document.check_with(Setting::Apart, Files::None, &known)?;
    config.warnings.0.iter().for_each(crate::output::note);
    let sets: Vec<&String> = places.iter().chain(&global.set).collect();
    let apps = config.in_order().into_iter().map(|(name, stage)| {
        App { config: &config, names: &names, global, marathon, sets: &sets, name, stage }.render()
    });
    Ok(json!({ "id": names.group(), "apps": apps.collect::<Vec<_>>() }))
}

/// What the file's variables are in a task: secrets are there, and say nothing here.
fn given(marathon: &Marathon) -> Result<BTreeMap<String, String>, Failure> {
    let secret = |(name, _): &(String, String)| (name.clone(), name.clone());
    let mut all: BTreeMap<String, String> = marathon.env.iter().cloned().collect();
    for (name, value) in marathon.secret.iter().map(secret) {
        if all.insert(name.clone(), value).is_some() {
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
            "fetch": marathon.fetch.iter().map(|uri| json!({ "uri": uri })).collect::<Vec<_>>(),
            "container": { "type": "MESOS", "docker": { "image": self.image() } },
            "labels": { "jaiminho.pipeline": self.config.pipeline.pipeline, "jaiminho.stage": name },
            "constraints": [["hostname", "GROUP_BY"]],
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
        let secrets =
            marathon.secret.iter().map(|(name, source)| (plain(&name.to_lowercase()), json!({ "source": source })));
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
        let file = marathon.task_file.clone().unwrap_or_else(|| {
            let name = global.file.file_name().unwrap_or_default().to_string_lossy();
            format!("{SANDBOX}/{name}")
        });
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
        let secret = |(name, _): &(String, String)| (name.clone(), json!({ "secret": plain(&name.to_lowercase()) }));
        env.chain(self.marathon.secret.iter().map(secret)).collect()
    }

    fn image(&self) -> String {
        self.marathon.image.clone().unwrap_or_else(|| format!("jaiminho:{}", env!("CARGO_PKG_VERSION")))
    }

    fn memory_mib(&self) -> u64 {
        let bound = sum(&terms(self.config, self.name, self.stage, (self.marathon.agent_cores - 1).max(1)));
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
mod tests {
    use std::path::Path;

    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command, RenderTarget};

    const FILE: &str = r#"
version: 1
pipeline: post_office
stages:
  in:
    at: { dns: "in:7400" }
    replicas: 3
    source: { http: { listen: "0.0.0.0:8080" }, websocket: { listen: "0.0.0.0:8081" } }
  to_kafka:
    subscribe_to: [in]
    drain: 40s
    sink: { kafka: { bootstrap_servers: "${KAFKA}", topic: t, sasl: { mechanism: PLAIN, username: u, password: "${PASSWORD}" } } }
"#;

    fn rendered(text: &str, arguments: &[&str]) -> Result<Value, String> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pipeline.yaml");
        std::fs::write(&file, text).unwrap();
        render(&file, arguments)
    }

    fn render(file: &Path, arguments: &[&str]) -> Result<Value, String> {
        let file = file.to_str().unwrap();
        let cli = Cli::try_parse_from([&["jaiminho", "-f", file, "render", "marathon"], arguments].concat());
        let cli = cli.map_err(|error| error.to_string())?;
        let Command::Render(of) = &cli.command else { panic!("{:?}", cli.command) };
        let RenderTarget::Marathon(marathon) = &of.target;
        group(&cli.global, marathon).map_err(|failure| failure.text)
    }

    const GIVEN: [&str; 6] =
        ["--fetch", "http://f/pipeline.yaml", "--env", "KAFKA=k:9092", "--secret", "PASSWORD=kafka/pw"];

    #[test]
    fn each_stage_is_an_app_that_finds_the_others_by_mesos_dns() {
        let group = rendered(FILE, &GIVEN).unwrap();
        assert_eq!(group["id"], "/post-office");
        let [source, sink] = group["apps"].as_array().unwrap().as_slice() else { panic!("{group}") };
        assert_eq!((&source["id"], &sink["id"]), (&json!("/post-office/in"), &json!("/post-office/to-kafka")));
        assert_eq!((&source["instances"], &sink["instances"]), (&json!(3), &json!(1)));
        let names = |app: &Value| {
            app["portDefinitions"].as_array().unwrap().iter().map(|of| of["name"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(
            (names(source), names(sink)),
            (
                vec![json!("stage"), json!("admin"), json!("edge"), json!("websocket")],
                vec![json!("stage"), json!("admin")]
            )
        );
        let args = |app: &Value| {
            app["args"].as_array().unwrap().iter().map(|of| of.as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let at = "stages.in.at={srv: _stage._in-post-office._tcp.marathon.mesos, dns: null, list: null}";
        for (app, wanted) in [
            (sink, at),
            (source, at),
            (source, "stages.in.source.http.listen=0.0.0.0:${PORT_EDGE}"),
            (source, "stages.in.source.websocket.listen=0.0.0.0:${PORT_WEBSOCKET}"),
            (sink, "${HOST}:${PORT_STAGE}"),
            (sink, "/mnt/mesos/sandbox/pipeline.yaml"),
        ] {
            assert!(args(app).iter().any(|of| of == wanted), "{wanted} in {app}");
        }
        assert_eq!(&args(sink)[..2], ["stage", "to_kafka"]);
        assert_eq!(sink["env"], json!({ "KAFKA": "k:9092", "PASSWORD": { "secret": "password" } }));
        assert_eq!(sink["secrets"], json!({ "password": { "source": "kafka/pw" } }));
        assert_eq!(sink["taskKillGracePeriodSeconds"], 55, "a drain of 40 s, 10 s to close, 5 s more");
        assert_eq!(source["taskKillGracePeriodSeconds"], 45, "5 s in which it serves on, 25 s of drain");
        assert!(sink["mem"].as_u64().unwrap() > 64, "{sink}");
    }

    #[test]
    fn in_a_container_network_ports_are_as_the_file_says() {
        let group = rendered(FILE, &[&GIVEN[..], &["--network", "dcos", "--group", "/a/b"]].concat()).unwrap();
        let source = &group["apps"][0];
        assert_eq!(source["networks"], json!([{ "mode": "container", "name": "dcos" }]));
        let ports = source["container"]["portMappings"].as_array().unwrap();
        let ports: Vec<_> = ports.iter().map(|port| port["containerPort"].as_u64().unwrap()).collect();
        assert_eq!(ports, [7400, 9464, 8080, 8081]);
        let args = source["args"].to_string();
        assert!(!args.contains("PORT_") && args.contains("_stage._in-b-a._tcp.marathon.mesos"), "{args}");
    }

    #[test]
    fn certificates_are_for_the_names_that_the_file_knows() {
        let tls = "tls: { ca: c, cert: c, key: k }";
        let file =
            FILE.replace("    drain: 40s", &format!("    at: {{ dns: \"kafka:7400\" }}\n    {tls}\n    drain: 40s"));
        let file = file + "telemetry: { admin: { tls: { cert: c, key: k } } }\n";
        let group = rendered(&file, &GIVEN).unwrap();
        let sink = &group["apps"][1];
        assert!(sink["args"].to_string().contains("stages.to_kafka.tls.server_name=kafka"), "{sink}");
        assert_eq!(
            (&sink["healthChecks"][0]["protocol"], &sink["readinessChecks"][0]["protocol"]),
            (&json!("MESOS_HTTPS"), &json!("HTTPS"))
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        for (arguments, what) in [
            (&GIVEN[..2], "KAFKA is not set"),
            (&GIVEN[2..], "--fetch URI"),
            (&["--fetch", "u", "--env", "no"][..], "must be VAR=VALUE"),
            (&["--fetch", "u", "--env", "A=1", "--secret", "A=s"][..], "by --env and by --secret"),
            (
                &["--fetch", "u", "--group", "/a-group-whose-path-is-longer/than-dns-can-tell-with-ease"][..],
                "--group names a shorter path",
            ),
        ] {
            let error = rendered(FILE, arguments).unwrap_err();
            assert!(error.contains(what), "{what} in {error}");
        }
        let twice =
            FILE.replace("  to_kafka:", "  to-kafka: { subscribe_to: [in], sink: { blackhole: {} } }\n  to_kafka:");
        assert!(rendered(&twice, &GIVEN).unwrap_err().contains("rename one"));
    }
}
