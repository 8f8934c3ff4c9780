//! A stage as a service: probes, metrics, ports, signals.

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use jaiminho_tests::exit::UNAVAILABLE;
use jaiminho_tests::{Client, Directory, Jaiminho, Place, eventually, free_port, jaiminho};
use reqwest::Method;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

const PATIENCE: Duration = Duration::from_secs(30);

/// A source and a sink; the sink's log holds what comes while `out` does not run.
fn pipeline(directory: &Directory, port: u16, place: &Place) -> PathBuf {
    let file = format!(
        r#"version: 1
pipeline: service
stages:
  in:
    at: {{ dns: "localhost:{}" }}
    drain: 60s
    source: {{ http: {{ listen: "127.0.0.1:{port}", deadline: 60s }}, drain_delay: 0s }}
  out:
    subscribe_to: [in]
    sink: {{ blackhole: {{}} }}
"#,
        place.stage_port
    );
    directory.write("pipeline.yaml", &file)
}

struct Source {
    directory: Directory,
    file: PathBuf,
    place: Place,
    port: u16,
    process: Jaiminho,
}

impl Source {
    async fn start() -> Self {
        let (directory, place, port) = (Directory::new("service"), Place::local(), free_port());
        let file = pipeline(&directory, port, &place);
        let process = Jaiminho::stage(directory.path(), &file, "in", &place);
        process.ready().await;
        Self { directory, file, place, port, process }
    }

    /// An event that waits for `out`; resolves with the answer, or without one.
    fn post(&self) -> tokio::task::JoinHandle<Result<u16, String>> {
        let client = Client::new(self.port);
        tokio::spawn(async move { client.post("application/json", "1".to_owned()).await.map(|answer| answer.status) })
    }

    async fn holds(&self, events: f64) {
        eventually("the event is taken", PATIENCE, || async {
            let held = self.process.metric("jaiminho_log_events", "").await;
            if held == events { Ok(()) } else { Err(held.to_string()) }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_port_answers_probes_and_metrics_and_nothing_else() {
    let source = Source::start().await;
    let client = reqwest::Client::new();
    for (method, path, status, text) in [
        (Method::GET, "/livez", 200, "ok\n"),
        (Method::GET, "/readyz", 200, "ok\n"),
        (Method::HEAD, "/readyz", 200, ""),
        (Method::GET, "/", 404, ""),
        (Method::GET, "/metrics/x", 404, ""),
        (Method::POST, "/livez", 405, ""),
        (Method::DELETE, "/metrics", 405, ""),
    ] {
        let request = client.request(method.clone(), source.place.admin_url(path));
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), status, "{method} {path}");
        assert_eq!(answer.text().await.expect("a text"), text, "{method} {path}");
    }
    let answer = client.get(source.place.admin_url("/metrics")).send().await.expect("an answer");
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let text = answer.text().await.expect("a text");
    for line in ["# HELP jaiminho_info ", "# TYPE jaiminho_log_events gauge", "jaiminho_info{pipeline=\""] {
        assert!(text.contains(line), "{line} in:\n{text}");
    }
    for sample in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        assert!(sample.starts_with("jaiminho_"), "{sample}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_group_is_named_in_the_log_and_in_the_metrics_until_it_comes() {
    let source = Source::start().await;
    let told = async |what: &str| {
        eventually(what, PATIENCE, || async {
            let log = source.process.child.log();
            let line = log.lines().find(|line| line.contains(what)).map(str::to_owned);
            line.ok_or_else(|| source.process.child.log_tail())
        })
        .await
    };
    let members = async || source.process.metric("jaiminho_group_members", "group=\"out\"").await;
    let line = told("no instance of this required group is connected; its events wait").await;
    assert!(line.contains("\"group\":\"out\"") && line.contains("\"output\":\"in\""), "{line}");
    let metrics = source.process.metrics().await;
    let of_group =
        metrics.lines().find(|line| line.starts_with("jaiminho_group_members{") && line.contains("group=\"out\""));
    assert!(of_group.is_some_and(|line| line.ends_with("} 0")), "{of_group:?}");
    let out = Jaiminho::stage(source.directory.path(), &source.file, "out", &Place::local());
    out.ready().await;
    told("the group is connected again").await;
    eventually("a member", PATIENCE, || async { if members().await == 1.0 { Ok(()) } else { Err(String::new()) } })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_named_with_the_option_that_changes_it() {
    let (directory, place, port) = (Directory::new("ports"), Place::local(), free_port());
    let file = pipeline(&directory, port, &place).display().to_string();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let edge = format!("stages.in.source.http.listen={address}");
    let any = ["stage", "in", "-f", &file, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    for (arguments, told) in [
        (
            vec!["stage", "in", "-f", &file, "--listen", &address, "--admin", "127.0.0.1:0"],
            format!(
                "can't listen at {address}: Address already in use (os error 98); --listen chooses another address"
            ),
        ),
        (
            vec!["stage", "in", "-f", &file, "--listen", "127.0.0.1:0", "--admin", &address],
            format!("can't listen at {address}: Address already in use (os error 98); --admin chooses another address"),
        ),
        (
            vec!["up", "-f", &file, "--admin", &address],
            format!("can't listen at {address}: Address already in use (os error 98); --admin chooses another address"),
        ),
        (
            [&any[..], &["--set", &edge]].concat(),
            format!("stage `in`: can't listen at {address}: Address already in use (os error 98)"),
        ),
        (
            vec!["up", "-f", &file, "--admin", "127.0.0.1:0", "--set", &edge],
            format!("stage `in`: can't listen at {address}: Address already in use (os error 98)"),
        ),
        (
            vec!["stage", "in", "-f", &file, "--listen", "nowhere", "--admin", "127.0.0.1:0"],
            "can't listen at nowhere: invalid socket address; --listen chooses another address".to_owned(),
        ),
    ] {
        let output = jaiminho(directory.path(), &arguments).await;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(UNAVAILABLE), "{arguments:?}: {stderr}");
        assert_eq!(stderr.lines().last(), Some(told.as_str()), "{arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stages_that_are_held_up_stay_ready() {
    let (directory, places, port) = (Directory::new("held"), [Place::local(), Place::local()], free_port());
    let file = format!(
        r#"version: 1
pipeline: held
stages:
  in:
    at: {{ dns: "localhost:{}" }}
    log: {{ events: 10 }}
    source: {{ acknowledge: accepted, http: {{ listen: "127.0.0.1:{port}" }} }}
  out:
    subscribe_to: [in]
    window: {{ max_demand: 10 }}
    rate: 0.1
    sink: {{ blackhole: {{}} }}
"#,
        places[0].stage_port
    );
    let file = directory.write("pipeline.yaml", &file);
    let stages = ["in", "out"].into_iter().zip(&places);
    let stages: Vec<_> = stages.map(|(name, place)| Jaiminho::stage(directory.path(), &file, name, place)).collect();
    for stage in &stages {
        stage.ready().await;
    }
    let (client, mut refused) = (Client::new(port), 0);
    let end = Instant::now() + Duration::from_secs(120);
    while refused < 50 {
        assert!(Instant::now() < end, "refused {refused} times");
        let answer = client.post("application/json", "1".to_owned()).await.expect("an answer");
        refused += usize::from(answer.status == 429);
        assert!([202, 429].contains(&answer.status), "{}", answer.text);
        for place in &places {
            assert_eq!(reqwest::get(place.admin_url("/readyz")).await.expect("an answer").status(), 200);
            let channel = Channel::from_shared(format!("http://{}", place.address())).expect("an address");
            let question = HealthCheckRequest { service: "readiness".to_owned() };
            let answer = HealthClient::new(channel.connect().await.expect("a connection")).check(question).await;
            assert_eq!(answer.expect("an answer").into_inner().status(), ServingStatus::Serving);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_drains_and_what_waits_is_finished() {
    for interrupt in [false, true] {
        let source = Source::start().await;
        let waiting = source.post();
        source.holds(1.0).await;
        if interrupt {
            source.process.child.interrupt()
        } else {
            source.process.child.terminate()
        }
        eventually("readiness goes", PATIENCE, || async {
            let answer = reqwest::get(source.place.admin_url("/readyz")).await.map_err(|error| error.to_string())?;
            let (status, text) = (answer.status(), answer.text().await.unwrap_or_default());
            if (status.as_u16(), text.as_str()) == (503, "draining\n") { Ok(()) } else { Err(text) }
        })
        .await;
        // It is alive until all is settled: by a sink that comes only now.
        let live = reqwest::get(source.place.admin_url("/livez")).await.expect("an answer");
        assert_eq!((live.status().as_u16(), source.process.child.exited()), (200, None));
        let _sink = Jaiminho::stage(source.directory.path(), &source.file, "out", &Place::local());
        assert_eq!(waiting.await.expect("no panic"), Ok(200));
        assert_eq!(source.process.child.exit(PATIENCE).await.code(), Some(0), "{}", source.process.child.log_tail());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_at_once_with_its_number() {
    for (interrupt, code) in [(false, 143), (true, 130)] {
        let source = Source::start().await;
        let waiting = source.post();
        source.holds(1.0).await;
        source.process.child.terminate();
        eventually("it drains", PATIENCE, || async {
            let log = source.process.child.log();
            if log.contains("\"message\":\"draining\"") { Ok(()) } else { Err(log) }
        })
        .await;
        if interrupt {
            source.process.child.interrupt()
        } else {
            source.process.child.terminate()
        }
        assert_eq!(source.process.child.exit(PATIENCE).await.code(), Some(code));
        assert!(source.process.child.log().contains("second signal"), "{}", source.process.child.log_tail());
        assert!(waiting.await.expect("no panic").is_err(), "an answer though nothing was published");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_at_its_deadline_and_says_what_it_leaves() {
    let source = Source::start().await;
    drop(source.process);
    let short = Jaiminho::stage(
        source.directory.path(),
        &source.directory.write(
            "short.yaml",
            &std::fs::read_to_string(&source.file).expect("the file").replace("drain: 60s", "drain: 1s"),
        ),
        "in",
        &source.place,
    );
    short.ready().await;
    let source = Source { process: short, ..source };
    let waiting = source.post();
    source.holds(1.0).await;
    source.process.child.terminate();
    assert_eq!(source.process.child.exit(PATIENCE).await.code(), Some(0), "{}", source.process.child.log_tail());
    let log = source.process.child.log();
    assert!(log.contains("not everything was settled by the deadline") && log.contains("\"unsettled\":1"), "{log}");
    let answer = waiting.await.expect("no panic");
    assert!(!matches!(answer, Ok(200)), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_older_of_two_instances_with_one_name_ends_and_says_why() {
    let source = Source::start().await;
    let sink = |place: &Place| {
        let file = source.file.clone();
        Jaiminho::named(source.directory.path(), &file, "out", place, "the-name")
    };
    let older = sink(&Place::local());
    older.ready().await;
    eventually("it is linked", PATIENCE, || async {
        let log = older.child.log();
        if log.contains("link to a producer is up") { Ok(()) } else { Err(log) }
    })
    .await;
    let newer = sink(&Place::local());
    newer.ready().await;
    assert_eq!(older.child.exit(PATIENCE).await.code(), Some(UNAVAILABLE), "{}", older.child.log_tail());
    let told = "stage `out`: a newer process has the name the-name; give each instance its own --name";
    assert_eq!(older.child.log().lines().last(), Some(told));
    assert_eq!(newer.child.exited(), None);
}
