//! What operators are given beside the program: alert rules and a dashboard, checked with Prometheus' own programs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use jaiminho_tests::{Child, Client, Directory, Jaiminho, eventually, free_port, skip_prometheus};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);

/// Panels that are empty as long as nothing goes wrong, or of what the test's pipeline has not.
const EMPTY: [&str; 5] = ["The limit", "Links up and down", "Rejected", "Errors", "Lag of sources"];

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path)
}

#[test]
fn alert_rules_are_valid_and_fire_when_they_should_and_not_else() {
    if skip_prometheus() {
        return;
    }
    for arguments in [["check", "rules", "alerts.yaml"], ["test", "rules", "alerts_test.yaml"]] {
        let output =
            Command::new("promtool").args(arguments).current_dir(deploy("prometheus")).output().expect("promtool");
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        assert!(output.status.success(), "{arguments:?}: {said}");
    }
}

/// A real Prometheus that scrapes one process each second.
struct Prometheus {
    url: String,
    child: Child,
}

impl Prometheus {
    fn start(directory: &Directory, admin_port: u16) -> Self {
        let rules = deploy("prometheus/alerts.yaml").canonicalize().expect("the alert rules");
        let file = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}
rule_files: ['{}']
scrape_configs: [{{ job_name: jaiminho, static_configs: [{{ targets: ['127.0.0.1:{admin_port}'] }}] }}]
",
            rules.display()
        );
        let file = directory.write("prometheus.yaml", &file);
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", file.display())).arg(format!("--web.listen-address={address}"));
        command.arg(format!("--storage.tsdb.path={}", directory.path().join("tsdb").display()));
        let child = Child::spawn("prometheus", &command, &directory.path().join("prometheus.log"));
        Self { url: format!("http://{address}/api/v1"), child }
    }

    /// An answer's data.
    async fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value, String> {
        let request = reqwest::Client::new().get(format!("{}/{path}", self.url)).query(parameters);
        let answer = request.send().await.map_err(|error| format!("{error}\n{}", self.child.log_tail()))?;
        let answer: Value = answer.json().await.map_err(|error| error.to_string())?;
        if answer["status"] == "success" { Ok(answer["data"].clone()) } else { Err(answer.to_string()) }
    }

    /// How many series a query has.
    async fn series(&self, query: &str) -> Result<usize, String> {
        let data = self.ask("query", &[("query", query)]).await?;
        Ok(data["result"].as_array().map_or(0, Vec::len))
    }
}

/// A dashboard's queries with the panel's title, for all instances and stages.
fn queries() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(deploy("grafana/jaiminho.json")).expect("the dashboard");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().into_iter().flatten() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"].as_str().expect("a query").replace("$__rate_interval", "10s");
            let query = query
                .replace("\"$pipeline\"", "\".+\"")
                .replace("\"$instance\"", "\".+\"")
                .replace("\"$stage\"", "\".+\"");
            queries.push((panel["title"].as_str().expect("a title").to_owned(), query));
        }
    }
    queries
}

#[tokio::test(flavor = "multi_thread")]
async fn each_panel_of_the_dashboard_shows_a_pipeline_under_load() {
    if skip_prometheus() {
        return;
    }
    let (directory, port) = (Directory::new("signals"), free_port());
    let file = format!(
        "version: 1
pipeline: signals
stages:
  in: {{ source: {{ http: {{ listen: '127.0.0.1:{port}' }} }} }}
  mid: {{ subscribe_to: [in], transform: {{ vrl: {{ inline: '.data.seen = true' }} }} }}
  out: {{ subscribe_to: [mid], sink: {{ kafka: {{ bootstrap_servers: embedded, topic: out }} }} }}
  dead: {{ subscribe_to: [mid.dead_letter, out.dead_letter], sink: {{ blackhole: {{}} }} }}
"
    );
    let file = directory.write("pipeline.yaml", &file);
    let up = Jaiminho::up(directory.path(), &file, &[]);
    up.ready().await;
    let prometheus = Prometheus::start(&directory, up.place.admin_port);
    let load = tokio::spawn(async move {
        let client = Client::new(port);
        loop {
            client.json(&Value::from(1)).await;
        }
    });
    let queries = queries();
    assert!(queries.len() > 30, "{queries:?}");
    for (title, query) in &queries {
        let may_be_empty = EMPTY.contains(&title.as_str());
        eventually(&format!("{title}: {query}"), PATIENCE, || async {
            match prometheus.series(query).await? {
                0 if !may_be_empty => Err("no series".to_owned()),
                _ => Ok(()),
            }
        })
        .await;
    }
    let firing = prometheus.series(r#"ALERTS{alertstate="firing"}"#).await;
    load.abort();
    assert_eq!(firing, Ok(0), "a healthy pipeline");
    let rules = prometheus.ask("rules", &[]).await.expect("rules").to_string();
    assert!(!rules.contains(r#""health":"err""#), "{rules}");
}
