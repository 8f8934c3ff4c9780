//! Encrypted links between stages that run apart, and encrypted edges.

use std::collections::BTreeSet;
use std::time::Duration;

use jaiminho_tests::exit::CONFIG;
use jaiminho_tests::{Authority, Client, Directory, Jaiminho, Place, eventually, free_port, jaiminho};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(30);

/// A source and a sink as processes of their own, each with its own `tls` (`null`: none).
struct Pair {
    directory: Directory,
    port: u16,
    source: Jaiminho,
    sink: Jaiminho,
}

/// With the certificates `ours` and `theirs` for `localhost`, of an authority each.
fn certificates() -> (Directory, Authority) {
    let directory = Directory::new("tls");
    let [ours, _theirs] = ["ours", "theirs"].map(|name| {
        let authority = Authority::new(directory.path(), name);
        authority.issue(name, "localhost");
        authority
    });
    (directory, ours)
}

impl Pair {
    async fn start(source_tls: &str, sink_tls: &str) -> Self {
        Self::with(certificates().0, source_tls, sink_tls).await
    }

    async fn with(directory: Directory, source_tls: &str, sink_tls: &str) -> Self {
        let (source_at, sink_at, port) = (Place::local(), Place::local(), free_port());
        let file = format!(
            r#"version: 1
pipeline: tls
stages:
  in:
    at: {{ dns: "localhost:{}" }}
    tls: {source_tls}
    source: {{ http: {{ listen: "127.0.0.1:{port}", deadline: 50s }} }}
  out:
    subscribe_to: [in]
    tls: {sink_tls}
    sink: {{ file: {{ path: out.jsonl }} }}
"#,
            source_at.stage_port
        );
        let file = directory.write("pipeline.yaml", &file);
        let source = Jaiminho::stage(directory.path(), &file, "in", &source_at);
        let sink = Jaiminho::stage(directory.path(), &file, "out", &sink_at);
        source.ready().await;
        sink.ready().await;
        Self { directory, port, source, sink }
    }

    /// Waits for a warning of the sink's that says `told`, and one of the source's that says `logged`; both go on.
    async fn refused(&self, told: &str, logged: &str) {
        warns(&self.sink, "no link to a producer", told).await;
        warns(&self.source, "is refused", logged).await;
        for process in [&self.source, &self.sink] {
            assert_eq!(process.child.exited(), None);
            let ready = reqwest::get(process.place.admin_url("/livez")).await.expect("an answer");
            assert_eq!(ready.status(), 200);
        }
    }

    /// Another instance of the sink.
    fn another_sink(&self) -> Jaiminho {
        let file = self.directory.path().join("pipeline.yaml");
        Jaiminho::stage(self.directory.path(), &file, "out", &Place::local())
    }
}

/// Waits until this process has warned with both texts in one line.
async fn warns(process: &Jaiminho, text: &str, reason: &str) {
    eventually(&format!("a warning of {} with `{reason}`", process.name), PATIENCE, || async {
        let log = process.child.log();
        let said = log.lines().any(|line| line.contains("WARN") && line.contains(text) && line.contains(reason));
        if said { Ok(()) } else { Err(log) }
    })
    .await;
}

/// Asks each client for a certificate, too.
const MUTUAL: &str = "{ ca: ours.ca.pem, cert: ours.pem, key: ours.key, server_name: localhost }";
/// Trusts, and shows none.
const TRUSTING: &str = "{ ca: ours.ca.pem, server_name: localhost }";
const SERVER: &str = "{ cert: ours.pem, key: ours.key }";

#[tokio::test(flavor = "multi_thread")]
async fn stages_that_trust_each_other_link() {
    let pair = Pair::start(MUTUAL, MUTUAL).await;
    let answer = Client::new(pair.port).json(&json!({ "a": 1 })).await;
    assert_eq!(answer.status, 200, "{}\n{}", answer.text, pair.sink.child.log_tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_looks_at_stages_is_who_their_consumers_are() {
    for (source, sink) in [(MUTUAL, MUTUAL), (SERVER, "{ ca: ours.ca.pem }")] {
        let pair = Pair::start(source, sink).await;
        eventually("an instance is seen", PATIENCE, || async {
            let looked = jaiminho(pair.directory.path(), &["top", "--once", "--json"]).await;
            let view: Value = serde_json::from_slice(&looked.stdout).expect("JSON");
            let seen = view["stages"][0]["instances"].as_array().map(Vec::len);
            if seen == Some(1) { Ok(()) } else { Err(view.to_string()) }
        })
        .await;
    }
    for (source, sink, told) in [
        (SERVER, "{ ca: theirs.ca.pem }", "its certificate is not signed by an authority of `ca`"),
        (MUTUAL, TRUSTING, "it asks for a certificate, and this side has none"),
    ] {
        let pair = Pair::start(source, sink).await;
        eventually(told, PATIENCE, || async {
            let looked = jaiminho(pair.directory.path(), &["top", "--once"]).await;
            let said = String::from_utf8_lossy(&looked.stderr).into_owned();
            if said.contains(told) { Ok(()) } else { Err(said) }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_of_another_authority_is_not_linked_to() {
    let pair = Pair::start(SERVER, "{ ca: theirs.ca.pem }").await;
    let told = "TLS with the producer: its certificate is not signed by an authority of `ca`";
    pair.refused(told, "it refuses this side's certificate: it is not signed by an authority of its `ca`").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_told_on_both_sides() {
    let (directory, ours) = certificates();
    ours.issue_until("old", "localhost", 2025);
    let pair = Pair::with(directory, "{ cert: old.pem, key: old.key }", "{ ca: ours.ca.pem }").await;
    let (expired, refused) =
        ("its certificate has expired at 2025-01-01T00:00:00Z", "it has expired, or is not valid yet");
    pair.refused(expired, refused).await;

    let (directory, ours) = certificates();
    ours.issue_until("old", "localhost", 2025);
    let pair =
        Pair::with(directory, MUTUAL, "{ ca: ours.ca.pem, cert: old.pem, key: old.key, server_name: localhost }").await;
    pair.refused(refused, expired).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_is_known_by_its_stages_name() {
    let named = "{ cert: ours.pem, key: ours.key, server_name: in.example }";
    let pair = Pair::start(named, "{ ca: ours.ca.pem }").await;
    let told = "its certificate is for `localhost`, not for `in.example`";
    pair.refused(told, "it is not for the name that was asked for").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_certificate_of_the_stage_joins_its_group() {
    let (directory, ours) = certificates();
    ours.issue("out", "localhost");
    let named = "{ ca: ours.ca.pem, cert: out.pem, key: out.key, server_name: out.example }";
    let pair = Pair::with(directory, MUTUAL, named).await;
    let told = "the certificate of who wants to join group `out` is for `localhost`, not for `out.example`";
    pair.refused(told, told).await;
    // Renewed, it may.
    ours.issue("out", "out.example");
    let answer = Client::new(pair.port).json(&json!({ "a": 1 })).await;
    assert_eq!(answer.status, 200, "{}\n{}", answer.text, pair.sink.child.log_tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_without_certificate_is_refused_where_one_is_asked_for() {
    let told = "it asks for a certificate, and this side has none";
    let logged = "it presents no certificate, and `ca` asks for one";
    Pair::start(MUTUAL, TRUSTING).await.refused(told, logged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_without_tls_is_told_so_by_a_producer_with_it() {
    let told = "the producer speaks TLS; this stage needs `tls`";
    Pair::start(SERVER, "null").await.refused(told, "it does not speak TLS").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_with_tls_is_told_that_a_producer_has_none() {
    let told = "the producer does not speak TLS";
    Pair::start("null", "{ ca: ours.ca.pem }").await.refused(told, "it speaks TLS, and this port does not").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn renewed_certificates_of_a_new_authority_are_used_without_a_restart_and_nothing_is_lost() {
    let named = "{ ca: ours.ca.pem, cert: ours.pem, key: ours.key, server_name: localhost }";
    let pair = Pair::start(MUTUAL, named).await;
    let (told, mut stop) = tokio::sync::oneshot::channel::<()>();
    let client = Client::new(pair.port);
    let load = tokio::spawn(async move {
        let mut acknowledged = BTreeSet::new();
        for n in 0_u64.. {
            if stop.try_recv().is_ok() {
                return (n, acknowledged);
            }
            if client.json(&json!({ "n": n })).await.status == 200 {
                acknowledged.insert(n);
            }
        }
        unreachable!("numbers do not end")
    });

    assert_eq!(Client::new(pair.port).json(&json!({ "n": u64::MAX })).await.status, 200);
    let warnings = || pair.sink.child.log().matches("WARN").count();
    let before = warnings();
    let renewed = Authority::new(pair.directory.path(), "new");
    renewed.issue("ours", "localhost");
    std::fs::write(pair.directory.path().join("ours.ca.pem"), &renewed.pem).expect("a new authority");
    let second = pair.another_sink();
    second.ready().await;
    eventually("two links", PATIENCE, || async {
        let links = pair.source.metric("jaiminho_links_in", "in").await;
        if links >= 2.0 { Ok(()) } else { Err(format!("{links}\n{}", second.child.log_tail())) }
    })
    .await;
    assert!(pair.source.child.log().contains("TLS files have changed: new connections use them"));
    assert_eq!(warnings(), before, "the first link stays:\n{}", pair.sink.child.log_tail());
    // Only the new link is left.
    let Pair { directory, port, source: _source, sink } = pair;
    drop(sink);
    assert_eq!(Client::new(port).json(&json!({ "n": u64::MAX })).await.status, 200, "{}", second.child.log_tail());
    told.send(()).expect("the load goes on");
    let (sent, acknowledged) = load.await.expect("the load");
    assert_eq!(acknowledged.len() as u64, sent, "each is acknowledged");
    let text = std::fs::read_to_string(directory.path().join("out.jsonl")).expect("the sink's file");
    let event = |line: &str| serde_json::from_str::<Value>(line).ok()?["data"]["n"].as_u64();
    let kept: BTreeSet<u64> = text.lines().filter_map(event).collect();
    let lost: Vec<_> = acknowledged.difference(&kept).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
}

/// What trusts one authority.
fn browser(directory: &Directory, ca: &str) -> reqwest::ClientBuilder {
    let pem = std::fs::read(directory.path().join(ca)).expect("an authority");
    let ca = reqwest::Certificate::from_pem(&pem).expect("an authority");
    reqwest::Client::builder().add_root_certificate(ca).pool_max_idle_per_host(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_edge_and_the_admin_port_speak_tls_and_read_renewed_files() {
    let (directory, _ours) = certificates();
    let (port, socket_port) = (free_port(), free_port());
    let file = format!(
        r#"version: 1
pipeline: edge
telemetry: {{ admin: {{ tls: {SERVER} }} }}
stages:
  in:
    source:
      http: {{ listen: "127.0.0.1:{port}", tls: {SERVER} }}
      websocket: {{ listen: "127.0.0.1:{socket_port}", tls: {SERVER} }}
  out:
    subscribe_to: [in]
    sink: {{ blackhole: {{}} }}
"#
    );
    let file = directory.write("pipeline.yaml", &file);
    let source = Jaiminho::up(directory.path(), &file, &[]);
    let client = browser(&directory, "ours.ca.pem").build().expect("a client");
    let ready = format!("https://localhost:{}/readyz", source.place.admin_port);
    eventually("ready over HTTPS", PATIENCE, || async {
        let answer =
            client.get(&ready).send().await.map_err(|error| format!("{error:?}\n{}", source.child.log_tail()))?;
        if answer.status() == 200 { Ok(()) } else { Err(answer.status().to_string()) }
    })
    .await;
    let url = format!("https://localhost:{port}/events");
    let post = async |client: &reqwest::Client| client.post(&url).json(&json!({ "a": 1 })).send().await;
    let answer = post(&client).await.expect("an answer");
    assert_eq!((answer.status().as_u16(), answer.version()), (200, reqwest::Version::HTTP_2));

    let socket = browser(&directory, "ours.ca.pem").http1_only().build().expect("a client");
    let handshake = socket.get(format!("https://localhost:{socket_port}/ws"));
    let [upgrade, version, key] = ["websocket", "13", "dGhlIHNhbXBsZSBub25jZQ=="];
    let handshake = handshake.header("connection", "upgrade").header("upgrade", upgrade);
    let handshake = handshake.header("sec-websocket-version", version).header("sec-websocket-key", key);
    assert_eq!(handshake.send().await.expect("an answer").status(), 101);

    let send = ["send", "--count", "3", "--url", &url, "--retries", "0"];
    let sent = jaiminho(directory.path(), &[&send[..], &["--ca", "ours.ca.pem"]].concat()).await;
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    for (more, said) in [
        (&[][..], "--ca FILE says who signs the server's certificate"),
        (&["--ca", "theirs.ca.pem"][..], "TLS with the server: its certificate is not signed by an authority of `ca`"),
    ] {
        let refused = jaiminho(directory.path(), &[&send[..], more].concat()).await;
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && text.contains(said), "{text}");
    }
    assert!(reqwest::get(format!("http://localhost:{port}/events")).await.is_err());
    warns(&source, "a connection is refused", "it does not speak TLS").await;

    let renewed = Authority::new(directory.path(), "new");
    renewed.issue("ours", "localhost");
    assert!(post(&client).await.is_err(), "the old authority has not signed it");
    let client = browser(&directory, "new.ca.pem").build().expect("a client");
    assert_eq!(post(&client).await.expect("an answer").status(), 200);
    assert_eq!(client.get(&ready).send().await.expect("an answer").status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_with_a_ca_takes_only_clients_that_it_has_signed() {
    let (directory, _ours) = certificates();
    let port = free_port();
    let file = format!(
        "version: 1\npipeline: asks\nstages:\n  in:\n    source:\n      http: {{ listen: \"127.0.0.1:{port}\", \
         tls: {{ cert: ours.pem, key: ours.key, ca: ours.ca.pem }} }}\n  out: {{ subscribe_to: [in], sink: {{ blackhole: {{}} }} }}\n"
    );
    let file = directory.write("pipeline.yaml", &file);
    let source = Jaiminho::up(directory.path(), &file, &[]);
    source.ready().await;
    let url = format!("https://localhost:{port}/events");
    let send = ["send", "--count", "3", "--url", &url, "--retries", "0", "--ca", "ours.ca.pem"];
    let sent = async |more: &[&str]| {
        let output = jaiminho(directory.path(), &[&send[..], more].concat()).await;
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(sent(&["--cert", "ours.pem", "--key", "ours.key"]).await, (true, String::new()));
    for (more, told) in [
        (&[][..], "TLS with the server: it asks for a certificate"),
        (&["--cert", "theirs.pem", "--key", "theirs.key"], "TLS with the server: it refuses this side's certificate"),
        (&["--cert", "ours.pem", "--key", "theirs.key"], "--cert ours.pem: "),
        (&["--cert", "ours.key", "--key", "ours.key"], "--cert ours.key --key ours.key: hold no certificate"),
        (&["--cert", "ours.pem"], "--key <FILE>"),
    ] {
        let (went, said) = sent(more).await;
        assert!(!went && said.contains(told), "{told} in {said}");
    }
    warns(&source, "a connection is refused", "it presents no certificate").await;
    warns(&source, "a connection is refused", "its certificate is not signed by an authority of `ca`").await;
}

#[tokio::test]
async fn validate_looks_into_the_files() {
    let (directory, ours) = certificates();
    ours.issue("other", "other.example");
    directory.write("none.pem", "-----BEGIN NOTHING-----\n");
    directory.write("noise.pem", "-----BEGIN CERTIFICATE-----\nbm9pc2U=\n-----END CERTIFICATE-----\n");
    let good = "{ ca: ours.ca.pem, cert: ours.pem, key: ours.key }";
    let named = "{ ca: ours.ca.pem, cert: other.pem, key: other.key, server_name: other.example }";
    for (source, edge, sink, admin, code, told) in [
        (good, good, named, good, 0, vec![]),
        (
            "{ ca: none.pem, cert: other.pem, key: ours.key }",
            good,
            named,
            good,
            CONFIG,
            vec![
                "pipeline.yaml:6:16: error: `tls.ca`: ",
                "none.pem: it holds no certificate in PEM format",
                "pipeline.yaml:6:5: error: `tls`: `key` is not the key of `cert`",
            ],
        ),
        (
            "{ ca: ., cert: noise.pem, key: ours.key }",
            "{ cert: ours.pem, key: ours.pem }",
            named,
            "{ cert: gone.pem, key: ours.key }",
            CONFIG,
            vec![
                "pipeline.yaml:6:16: error: `tls.ca`: can't read ",
                "pipeline.yaml:6:25: error: `tls.cert`: ",
                "noise.pem: is no X.509 certificate",
                "pipeline.yaml:7:51: error: `source.http.tls.key`: ",
                "ours.pem: it holds no private key in PEM format",
                "error: `telemetry.admin.tls.cert`: can't read ",
            ],
        ),
        (
            named,
            good,
            "{ ca: ours.ca.pem, cert: ours.pem, key: ours.key, server_name: out.example }",
            good,
            0,
            vec![
                "pipeline.yaml:10:35: warning: the certificate is for `localhost`, not for `out.example`; the others know `out` as `out.example`",
            ],
        ),
    ] {
        let text = format!(
            "version: 1\npipeline: tls\nstages:\n  in:\n    at: {{ dns: \"localhost:1\" }}\n    tls: {source}\n    \
             source: {{ http: {{ tls: {edge} }} }}\n  out:\n    subscribe_to: [in]\n    tls: {sink}\n    \
             sink: {{ blackhole: {{}} }}\ntelemetry: {{ admin: {{ tls: {admin} }} }}\n"
        );
        directory.write("pipeline.yaml", &text);
        let output = jaiminho(directory.path(), &["validate"]).await;
        let all = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert_eq!(output.status.code(), Some(code), "{text}{all}");
        assert!(told.iter().all(|told| all.contains(told)), "{told:?} in {all}");
        assert_eq!(all.contains("the certificate"), code == 0 && !told.is_empty(), "{all}");
    }
}
