//! The life of a cluster, under a constant load: its stages grow and shrink, are updated, also to a newer version of the links'
//! protocol, lose a node, and lose DNS. Instances are found as Kubernetes names them: the pods of a headless service by A
//! records, or by SRV records. What was acknowledged is published, and a planned change fails no request.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jaiminho_tests::{
    Directory, Dns, DnsTrouble, FOLLOWED, Jaiminho, Ledger, Load, LoadConfig, Namespace, Place, Topic, eventually,
    free_port,
};
use serde_json::Value;

/// Before it is killed: too short for its peers to give it up.
const HANGS: Duration = Duration::from_millis(500);
/// Until those who send clients to a service have heard that an instance is not ready.
const HEARD: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(60);

const FILE: &str = r#"version: 1
pipeline: life
stages:
  in:
    at: { dns: "in.life.test:${STAGE_PORT}" }
    key: "{{data.key}}"
    source: { http: { listen: "127.0.0.1:${EDGE}", path: /events }, websocket: { path: /ws }, drain_delay: 8s }
  mid:
    at: { srv: "_stage._tcp.mid.life.test" }
    subscribe_to: [in]
    transform: { vrl: ".data.converted = true" }
  out:
    subscribe_to: [mid]
    sink: { file: { path: "${PUBLISHED}" } }
"#;
const STAGES: [&str; 3] = ["in", "mid", "out"];

/// By the newest version of the links' protocol that it speaks; the oldest is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    Old = 1,
    New = 2,
}

/// Which one: its stage, and its number in the order of starts.
type Id = (&'static str, u8);

struct Instance {
    process: Jaiminho,
    program: Program,
    edge: u16,
    /// DNS names it, and clients are sent to it.
    is_known: bool,
}

struct Life {
    directory: Directory,
    dns: Dns,
    /// The same for all of `in`: an A record has no port.
    stage_port: u16,
    instances: BTreeMap<Id, Instance>,
    started: u8,
    ledger: Ledger,
    config: LoadConfig,
    load: Option<Load>,
    /// Where a request may fail that was sent before: the edge of an instance that was killed then.
    killed: Vec<(u16, Instant)>,
    breaks: u64,
}

impl Life {
    /// So many instances of each stage, and a load.
    async fn begin(name: &str, instances: usize) -> Option<Self> {
        if !Namespace::is_allowed() {
            eprintln!("left out: port 53 and mounts need root");
            return None;
        }
        let directory = Directory::new(name);
        directory.write("pipeline.yaml", FILE);
        let mut life = Self {
            directory,
            dns: Dns::start(),
            stage_port: free_port(),
            instances: BTreeMap::new(),
            started: 0,
            ledger: Ledger::default(),
            config: LoadConfig {
                singles: 8,
                batches: 3,
                batch: 20,
                sockets: 2,
                in_flight: 5,
                ..LoadConfig::new(vec![], 200.0)
            },
            load: None,
            killed: Vec::new(),
            breaks: 0,
        };
        let first: Vec<_> = STAGES.iter().flat_map(|stage| (0..instances).map(move |_| *stage)).collect();
        let first: Vec<_> = first.into_iter().map(|stage| life.start(stage, Program::Old)).collect();
        life.ready(&first).await;
        life.know(&first, true);
        life.config.ports = life.edges();
        life.load = Some(Load::start(&life.config, &life.ledger));
        life.flowing("the start").await;
        Some(life)
    }

    /// Starts one, and does not wait.
    fn start(&mut self, stage: &'static str, program: Program) -> Id {
        self.started += 1;
        let (id, edge) = ((stage, self.started), free_port());
        let mut place = Place { resolv_conf: Some(self.dns.resolv_conf(&self.directory)), ..Place::local() };
        if stage == "in" {
            place.host = Ipv4Addr::new(127, 0, 1, self.started).to_string();
            place.stage_port = self.stage_port;
        }
        self.run(id, program, place, edge);
        id
    }

    fn run(&mut self, id: Id, program: Program, place: Place, edge: u16) {
        let ((stage, number), directory) = (id, self.directory.path());
        let name = format!("{stage}-{number}");
        let variables = [
            ("STAGE_PORT", self.stage_port.to_string()),
            ("EDGE", edge.to_string()),
            ("PUBLISHED", format!("{name}.published")),
        ];
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let (listen, admin) = (place.address(), format!("{}:{}", place.host, place.admin_port));
        let arguments = ["stage", stage, "--name", &name, "--listen", &listen, "--admin", &admin];
        let process = match program {
            Program::Old => Jaiminho::task(directory, &name, &arguments, &variables, &place),
            Program::New => {
                let path = Path::new(env!("CARGO_BIN_EXE_two-versions"));
                Jaiminho::task_of(path, directory, &name, &arguments, &variables, &place)
            }
        };
        self.instances.insert(id, Instance { process, program, edge, is_known: false });
    }

    async fn ready(&self, ids: &[Id]) {
        for id in ids {
            self.instances[id].process.ready().await;
        }
    }

    /// Adds them to the services, or takes them out: to DNS, and to where clients are sent.
    fn know(&mut self, ids: &[Id], is_known: bool) {
        for id in ids {
            self.instances.get_mut(id).expect("an instance").is_known = is_known;
        }
        self.send_clients();
        let hosts: Vec<Ipv4Addr> =
            self.known("in").map(|instance| instance.process.place.host.parse().expect("an address")).collect();
        self.dns.set_host("in.life.test", &hosts);
        let ports: Vec<_> =
            self.known("mid").map(|instance| (instance.process.place.stage_port, "node.test")).collect();
        self.dns.set("_stage._tcp.mid.life.test", &ports);
    }

    fn send_clients(&self) {
        if let Some(load) = &self.load {
            load.send_to(self.edges());
        }
    }

    fn edges(&self) -> Vec<u16> {
        self.known("in").map(|instance| instance.edge).collect()
    }

    fn known(&self, stage: &str) -> impl Iterator<Item = &Instance> {
        let of = self.instances.iter().filter(move |(id, instance)| id.0 == stage && instance.is_known);
        of.map(|(_, instance)| instance)
    }

    fn consumers(&self) -> impl Iterator<Item = &Instance> {
        self.known("mid").chain(self.known("out"))
    }

    fn ids(&self, stage: &str) -> Vec<Id> {
        self.instances.keys().filter(|id| id.0 == stage).copied().collect()
    }

    /// New ones of a stage that has some: each is found, and gets its share, in time.
    async fn join(&mut self, stage: &'static str, count: usize, program: Program) {
        let new: Vec<_> = (0..count).map(|_| self.start(stage, program)).collect();
        self.ready(&new).await;
        let since = Instant::now();
        self.know(&new, true);
        self.working(&new).await;
        self.linked().await;
        let after = since.elapsed();
        eprintln!("{count} more of {stage} worked after {after:?}");
        assert!(after < FOLLOWED, "{count} more of {stage} worked after {after:?}");
    }

    /// They take events, and so do those after them.
    async fn working(&self, ids: &[Id]) {
        for id in ids {
            let process = &self.instances[id].process;
            let metric = if id.0 == "out" { "jaiminho_events_in_total" } else { "jaiminho_link_sent_events_total" };
            eventually(&format!("events at {}", process.name), PATIENCE, || async {
                let events = process.metric(metric, &format!("stage=\"{}\"", id.0)).await;
                if events > 0.0 { Ok(()) } else { Err(process.child.log_tail()) }
            })
            .await;
        }
    }

    /// Of 500 new events each instance of a stage gets at least half of what would be its part.
    async fn shares(&self, stage: &'static str) {
        let ids = self.ids(stage);
        let counts = async || {
            let mut counts = Vec::new();
            for id in &ids {
                let process = &self.instances[id].process;
                counts.push(process.metric("jaiminho_events_in_total", &format!("stage=\"{stage}\"")).await);
            }
            counts
        };
        let before = counts().await;
        let new = eventually(&format!("500 events in {stage}"), PATIENCE, || async {
            let new: Vec<f64> = counts().await.iter().zip(&before).map(|(now, before)| now - before).collect();
            if new.iter().sum::<f64>() >= 500.0 { Ok(new) } else { Err(format!("{new:?}")) }
        })
        .await;
        let part = new.iter().sum::<f64>() / new.len() as f64;
        assert!(new.iter().all(|events| *events >= part / 2.0), "{stage}: {new:?}");
    }

    /// Each consumer has a link to each producer.
    async fn linked(&self) {
        for consumer in self.consumers() {
            eventually(&format!("links of {}", consumer.process.name), PATIENCE, || async {
                self.misses(consumer).await.map_or(Ok(()), Err)
            })
            .await;
        }
    }

    /// Why a consumer's links are not those to each producer.
    async fn misses(&self, consumer: &Instance) -> Option<String> {
        let (links, wanted) =
            (consumer.process.metric("jaiminho_links_out", "").await, self.known(producers(consumer)).count());
        (links != wanted as f64).then(|| format!("{links} of {wanted}\n{}", consumer.process.child.log_tail()))
    }

    /// SIGTERM; soon after they say that they are not ready nobody is sent to them any more; they finish, and end with success.
    async fn leave(&mut self, ids: &[Id]) {
        let since = Instant::now();
        for id in ids {
            self.instances[id].process.child.terminate();
        }
        for id in ids {
            let process = &self.instances[id].process;
            eventually(&format!("{} not ready", process.name), PATIENCE, || async {
                // One that had nothing to finish is gone.
                match reqwest::get(process.place.admin_url("/readyz")).await {
                    Ok(answer) if answer.status().is_success() => Err("ready".into()),
                    Ok(_) | Err(_) => Ok(()),
                }
            })
            .await;
        }
        tokio::time::sleep(HEARD).await;
        self.know(ids, false);
        for id in ids {
            let process = self.instances.remove(id).expect("an instance").process;
            let status = process.child.exit(PATIENCE).await;
            assert!(status.success(), "{} ended with {status}:\n{}", process.name, process.child.log_tail());
        }
        eprintln!("{ids:?} left after {:?}", since.elapsed());
    }

    async fn replace(&mut self, id: Id, program: Program) {
        self.join(id.0, 1, program).await;
        self.leave(&[id]).await;
    }

    /// They hang, and are killed. Clients are sent to none of them from that moment on; DNS names them still.
    async fn kill(&mut self, ids: &[Id]) {
        for id in ids {
            self.instances[id].process.child.freeze();
        }
        // In this time some requests are sent to them, and stay open.
        tokio::time::sleep(HANGS).await;
        for id in ids {
            self.instances.get_mut(id).expect("an instance").is_known = false;
        }
        self.send_clients();
        for id in ids {
            let instance = &self.instances[id];
            instance.process.child.kill();
            self.killed.push((instance.edge, Instant::now()));
            self.breaks += 1;
        }
    }

    /// Starts one that was killed again, under its name and where it was.
    fn restart(&mut self, id: Id) {
        let Instance { process, program, edge, .. } = &self.instances[&id];
        self.run(id, *program, process.place.clone(), *edge);
    }

    /// Events are acknowledged.
    async fn flowing(&self, after: &str) {
        let before = self.ledger.count();
        eventually(&format!("events after {after}"), PATIENCE, || async {
            let more = self.ledger.count() - before;
            if more >= 300 { Ok(()) } else { Err(format!("{more}: {:#?}", self.ledger.answers())) }
        })
        .await;
        eprintln!("{} acknowledged after {after}", self.ledger.count());
    }

    /// Each consumer has a link to each producer, which speaks the newest version that both do, as the consumer's log says.
    async fn versions_agree(&self) {
        self.linked().await;
        for consumer in self.consumers() {
            for producer in self.known(producers(consumer)) {
                let common = (consumer.program as u64).min(producer.program as u64);
                let (of, to) = (&consumer.process.name, &producer.process.name);
                // A link is counted before it is told of.
                eventually(&format!("version {common} from {to} to {of}"), PATIENCE, || async {
                    let found = spoken(&consumer.process.child.log(), to);
                    if found == Some(common) { Ok(()) } else { Err(format!("{found:?}")) }
                })
                .await;
            }
        }
    }

    /// Whoever asks DNS sees this trouble; no link is lost by it, and events flow.
    async fn trouble(&self, trouble: DnsTrouble, told: &str) {
        let asking: Vec<_> = self.consumers().collect();
        let count = |instance: &Instance| instance.process.child.log().matches(told).count();
        let before: Vec<_> = asking.iter().map(|instance| count(instance)).collect();
        self.dns.trouble(Some(trouble));
        for (instance, before) in asking.iter().zip(before) {
            eventually(&format!("{trouble:?} is seen"), PATIENCE, || async {
                if count(instance) > before { Ok(()) } else { Err(instance.process.child.log_tail()) }
            })
            .await;
        }
        self.flowing(&format!("DNS: {trouble:?}")).await;
        for consumer in asking {
            assert_eq!(self.misses(consumer).await, None, "links of {}", consumer.process.name);
        }
    }

    /// Nothing is lost.
    async fn end(mut self) {
        self.load.take().expect("a load").finish(PATIENCE).await;
        for instance in self.instances.values().filter(|instance| instance.is_known) {
            let ended = instance.process.child.exited();
            assert!(ended.is_none(), "{} ended with {ended:?}", instance.process.name);
        }
        let open = |port: u16, sent: Instant| self.killed.iter().any(|(edge, at)| *edge == port && sent <= *at);
        let (excused, failed): (Vec<_>, Vec<_>) =
            self.ledger.failed().into_iter().partition(|failed| open(failed.port, failed.sent));
        assert!(failed.is_empty(), "{failed:#?}");
        assert_eq!(self.ledger.rejected(), []);
        // A WebSocket ends with its edge, which says so.
        let told = |answer: &String| answer == "200" || answer.starts_with("WebSocket: closed: 1001");
        assert!(self.breaks > 0 || self.ledger.answers().keys().all(told), "{:?}", self.ledger.answers());
        let verdict = Topic::of_files(&published(self.directory.path())).check(&self.ledger);
        let repeated_max = self.config.in_flight_max() + self.ledger.repeats();
        let duplicates_max = self.breaks * repeated_max;
        eprintln!(
            "{} acknowledged, {} published, {} twice (at most {duplicates_max}), {} requests were cut off; {:?}",
            self.ledger.count(),
            verdict.distinct,
            verdict.duplicates,
            excused.len(),
            self.ledger.answers(),
        );
        assert_eq!(verdict.missing, [], "acknowledged, and not published");
        assert_eq!(verdict.foreign_ids, [], "copies with other ids");
        assert!(verdict.duplicates <= duplicates_max, "{} duplicates", verdict.duplicates);
    }
}

/// The stage that a consumer has its events from.
fn producers(consumer: &Instance) -> &'static str {
    if consumer.process.name.starts_with("mid") { "in" } else { "mid" }
}

/// The version of the last link to this producer that a log tells of.
fn spoken(log: &str, producer: &str) -> Option<u64> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut up = lines.filter(|line| line["message"] == "link to a producer is up" && line["peer"] == producer);
    up.next_back()?["version"].as_u64()
}

fn published(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("the test's directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "published")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn stages_grow_shrink_and_are_updated_to_a_newer_protocol_and_no_request_fails() {
    let Some(mut life) = Life::begin("life", 1).await else { return };
    for stage in STAGES {
        life.join(stage, 4, Program::Old).await;
        life.flowing(&format!("five of {stage}")).await;
        // Clients choose among the edges.
        if stage != "in" {
            life.shares(stage).await;
        }
        let all = life.ids(stage);
        // The first one as well.
        life.leave(&[all[0], all[2], all[4]]).await;
        life.flowing(&format!("two of {stage}")).await;
    }
    life.versions_agree().await;
    for half in [["out", "in", "mid"], ["mid", "out", "in"]] {
        for id in half.map(|stage| life.ids(stage)[0]) {
            life.replace(id, Program::New).await;
        }
        life.versions_agree().await;
        life.flowing("half of an update").await;
    }
    life.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_and_dns_are_lost_and_only_what_was_open_on_a_killed_instance_fails() {
    let Some(mut life) = Life::begin("lost", 2).await else { return };
    life.kill(&STAGES.map(|stage| life.ids(stage)[0])).await;
    life.flowing("the loss of a node that DNS names still").await;
    for stage in STAGES {
        life.join(stage, 1, Program::Old).await;
    }
    life.trouble(DnsTrouble::Silent, "DNS fails; the last known instances stay").await;
    let known = life.ids("in")[1];
    life.kill(&[known]).await;
    life.restart(known);
    life.ready(&[known]).await;
    life.know(&[known], true);
    life.linked().await;
    life.working(&[known]).await;
    life.trouble(DnsTrouble::Empty, "DNS knows no instance of this name").await;
    life.trouble(DnsTrouble::Fails, "DNS fails; the last known instances stay").await;
    life.dns.trouble(None);
    for stage in ["in", "mid"] {
        life.join(stage, 1, Program::Old).await;
    }
    life.end().await;
}
