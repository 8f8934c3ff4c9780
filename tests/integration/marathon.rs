//! A group of `render marathon`, run as Mesos would: with its arguments and Marathon's variables, on ports that Marathon
//! chooses, found by the SRV records of Mesos-DNS. There is no Mesos here.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jaiminho_tests::{Client, Directory, Dns, FOLLOWED, Jaiminho, Namespace, Place, eventually, free_port, jaiminho};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(30);
const FILE: &str = r#"version: 1
pipeline: post
stages:
  in:
    at: { dns: "in:7400" }
    source: { http: { listen: "0.0.0.0:8080" }, drain_delay: 1s }
  mid:
    at: { dns: "mid:7400" }
    subscribe_to: [in]
    transform: { vrl: ".seen = true" }
  out:
    subscribe_to: [mid]
    sink: { file: { path: "${RESULT}" } }
"#;

/// What Marathon and Mesos-DNS know.
struct Cluster {
    directory: Directory,
    apps: Vec<Value>,
    dns: Dns,
    resolv_conf: PathBuf,
}

/// A task of an app.
struct Task {
    process: Jaiminho,
    edge: u16,
}

impl Cluster {
    async fn new() -> Self {
        // As Mesos-DNS has it by default.
        let (directory, dns) = (Directory::new("marathon"), Dns::start().with_ttl(60));
        let file = directory.write("pipeline.yaml", FILE).display().to_string();
        let result = format!("RESULT={}", directory.path().join("result").display());
        let arguments = ["render", "marathon", "-f", &file, "--task-file", &file, "--env", &result];
        let rendered = jaiminho(directory.path(), &arguments).await;
        assert!(rendered.status.success(), "{}", String::from_utf8_lossy(&rendered.stderr));
        let group: Value = serde_json::from_slice(&rendered.stdout).expect("JSON");
        assert_eq!(group["id"], "/post");
        let apps = group["apps"].as_array().expect("apps").clone();
        let resolv_conf = dns.resolv_conf(&directory);
        Self { directory, apps, dns, resolv_conf }
    }

    fn app(&self, stage: &str) -> &Value {
        self.apps.iter().find(|app| app["id"] == format!("/post/{stage}")).expect("an app")
    }

    /// Starts a task of a stage, as an agent does.
    fn start(&self, stage: &str, number: u32) -> Task {
        let app = self.app(stage);
        let place = Place { resolv_conf: Some(self.resolv_conf.clone()), ..Place::local() };
        let edge = free_port();
        let port = |name: &str| match name {
            "stage" => place.stage_port,
            "admin" => place.admin_port,
            _ => edge,
        };
        let named =
            app["portDefinitions"].as_array().expect("ports").iter().map(|of| of["name"].as_str().expect("a name"));
        let mut variables: Vec<(String, String)> =
            named.map(|name| (format!("PORT_{}", name.to_uppercase()), port(name).to_string())).collect();
        let own = app["env"].as_object().expect("variables").iter();
        variables.extend(own.map(|(name, value)| (name.clone(), value.as_str().expect("a value").to_owned())));
        variables.push(("HOST".into(), "127.0.0.1".into()));
        let id = format!("post_{stage}.instance-{number}._app.1");
        variables.push(("MESOS_TASK_ID".into(), id.clone()));
        let variables: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let arguments: Vec<_> =
            app["args"].as_array().expect("arguments").iter().map(|of| of.as_str().expect("a text")).collect();
        Task { process: Jaiminho::task(self.directory.path(), &id, &arguments, &variables, &place), edge }
    }

    /// What Mesos and Marathon check of a task says that it is well.
    async fn is_well(&self, stage: &str, task: &Task) {
        let app = self.app(stage);
        let (health, readiness) = (&app["healthChecks"][0], &app["readinessChecks"][0]);
        let index = usize::try_from(health["portIndex"].as_u64().expect("an index")).expect("an index");
        for (port, check) in [(&app["portDefinitions"][index]["name"], health), (&readiness["portName"], readiness)] {
            assert_eq!(port, "admin", "{check}");
            let path = check["path"].as_str().expect("a path");
            let answer = reqwest::get(task.process.place.admin_url(path)).await.expect("an answer");
            let good = check["httpStatusCodesForReady"].as_array().cloned().unwrap_or(vec![json!(200)]);
            assert!(good.contains(&json!(answer.status().as_u16())), "{check}: {}", answer.status());
        }
    }

    /// Mesos-DNS has heard of these tasks.
    fn tell(&self, stage: &str, tasks: &[&Task]) {
        let records: Vec<_> = tasks.iter().map(|task| (task.process.place.stage_port, "agent.test")).collect();
        self.dns.set(&format!("_stage._{stage}-post._tcp.marathon.mesos"), &records);
    }

    fn published(&self) -> usize {
        std::fs::read_to_string(self.directory.path().join("result")).unwrap_or_default().lines().count()
    }
}

#[tokio::test]
async fn a_file_that_no_task_would_have_is_told() {
    let directory = Directory::new("marathon");
    let file = FILE.replace("vrl: \".seen = true\"", "vrl: { file: maps/seen.vrl }").replace("${RESULT}", "result");
    let file = directory.write("pipeline.yaml", &file).display().to_string();
    let told = async |more: &[&str]| {
        let arguments = [&["render", "marathon", "-f", &file, "--fetch", "s3://f/pipeline.yaml"], more].concat();
        let rendered = jaiminho(directory.path(), &arguments).await;
        assert!(rendered.status.success());
        String::from_utf8_lossy(&rendered.stderr).into_owned()
    };
    let without = told(&[]).await;
    assert!(without.contains("no --fetch is of maps/seen.vrl"), "{without}");
    let with = told(&["--fetch", "s3://f/seen.vrl"]).await;
    assert!(!with.contains("--fetch"), "{with}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_find_each_other_and_follow_one_another_to_other_ports_under_load() {
    if !Namespace::is_allowed() {
        eprintln!("left out: port 53 and mounts need root");
        return;
    }
    let cluster = Cluster::new().await;
    let [source, mid, out] = ["in", "mid", "out"].map(|stage| cluster.start(stage, 1));
    cluster.tell("in", &[&source]);
    cluster.tell("mid", &[&mid]);
    for (stage, task) in [("in", &source), ("mid", &mid), ("out", &out)] {
        task.process.ready().await;
        cluster.is_well(stage, task).await;
    }
    mid.process.linked("mid", 1.0).await;
    out.process.linked("out", 1.0).await;
    let (stop, client) = (Arc::new(AtomicBool::new(false)), Client::new(source.edge));
    let load = tokio::spawn({
        let stop = stop.clone();
        async move {
            let mut acknowledged = 0;
            while !stop.load(Ordering::Relaxed) {
                let answer = client.json(&json!({ "n": acknowledged })).await;
                assert_eq!(answer.status, 200, "{}", answer.text);
                acknowledged += 1;
            }
            acknowledged
        }
    });
    // Marathon starts the new task elsewhere, and ends the old one once the new one is ready.
    let moved = cluster.start("mid", 2);
    moved.process.ready().await;
    cluster.tell("mid", &[&mid, &moved]);
    let after = out.process.linked("out", 2.0).await;
    assert!(after < FOLLOWED, "found after {after:?}");
    mid.process.child.terminate();
    cluster.tell("mid", &[&moved]);
    let grace = cluster.app("mid")["taskKillGracePeriodSeconds"].as_u64().expect("seconds");
    assert!(mid.process.child.exit(Duration::from_secs(grace)).await.success(), "{}", mid.process.child.log_tail());
    out.process.linked("out", 1.0).await;
    let before = cluster.published();
    eventually("events on the new way", PATIENCE, || async {
        if cluster.published() > before { Ok(()) } else { Err("none".into()) }
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    let acknowledged: usize = load.await.expect("no request fails");
    assert!(acknowledged > 0 && cluster.published() >= acknowledged, "{acknowledged} of {}", cluster.published());
}
