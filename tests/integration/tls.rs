//! Encrypted links between stages that run apart.

use std::path::Path;
use std::time::Duration;

use jaiminho_tests::{Client, Directory, Jaiminho, Place, eventually, free_port, jaiminho};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};

const PATIENCE: Duration = Duration::from_secs(30);

/// Writes an authority `NAME.ca.pem`, and the certificate `NAME.pem` with `NAME.key` that it has signed for `localhost`.
fn authority(directory: &Path, name: &str) {
    let write = |file: String, text: String| std::fs::write(directory.join(file), text).expect("write a certificate");
    let key = KeyPair::generate().expect("a key");
    let mut ca = CertificateParams::new(vec![]).expect("parameters");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    write(format!("{name}.ca.pem"), ca.self_signed(&key).expect("an authority").pem());
    let issuer = Issuer::new(ca, key);
    let key = KeyPair::generate().expect("a key");
    let signed = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters").signed_by(&key, &issuer);
    write(format!("{name}.pem"), signed.expect("a certificate").pem());
    write(format!("{name}.key"), key.serialize_pem());
}

/// A source and a sink as processes of their own, each with its own `tls` (`null`: none).
struct Pair {
    directory: Directory,
    port: u16,
    source: Jaiminho,
    sink: Jaiminho,
}

impl Pair {
    async fn start(source_tls: &str, sink_tls: &str) -> Self {
        let directory = Directory::new("tls");
        authority(directory.path(), "ours");
        authority(directory.path(), "theirs");
        let (source_at, sink_at, port) = (Place::local(), Place::local(), free_port());
        let file = format!(
            r#"version: 1
pipeline: tls
stages:
  in:
    at: {{ dns: "localhost:{}" }}
    tls: {source_tls}
    source: {{ http: {{ listen: "127.0.0.1:{port}", deadline: 5s }} }}
  out:
    subscribe_to: [in]
    tls: {sink_tls}
    sink: {{ blackhole: {{}} }}
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

    /// Waits for a warning of the sink's that says `what`; both go on.
    async fn refused(&self, what: &str) {
        eventually(&format!("a warning with `{what}`"), PATIENCE, || async {
            let log = self.sink.child.log();
            let said = log
                .lines()
                .any(|line| line.contains("WARN") && line.contains("no link to a producer") && line.contains(what));
            if said { Ok(()) } else { Err(log) }
        })
        .await;
        for process in [&self.source, &self.sink] {
            assert_eq!(process.child.exited(), None);
            let ready = reqwest::get(process.place.admin_url("/livez")).await.expect("an answer");
            assert_eq!(ready.status(), 200);
        }
    }
}

/// Asks each client for a certificate, too.
const MUTUAL: &str = "{ ca: ours.ca.pem, cert: ours.pem, key: ours.key }";
const SERVER: &str = "{ cert: ours.pem, key: ours.key }";

#[tokio::test(flavor = "multi_thread")]
async fn stages_that_trust_each_other_link() {
    let pair = Pair::start(MUTUAL, MUTUAL).await;
    let answer = Client::new(pair.port).json(&serde_json::json!({ "a": 1 })).await;
    assert_eq!(answer.status, 200, "{}\n{}", answer.text, pair.sink.child.log_tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_looks_at_stages_is_who_their_consumers_are() {
    for (source, sink) in [(MUTUAL, MUTUAL), (SERVER, "{ ca: ours.ca.pem }")] {
        let pair = Pair::start(source, sink).await;
        let looked = jaiminho(pair.directory.path(), &["top", "--once", "--json"]).await;
        let view: serde_json::Value = serde_json::from_slice(&looked.stdout).expect("JSON");
        assert_eq!(view["stages"][0]["instances"].as_array().map(Vec::len), Some(1), "{view}");
    }
    let pair = Pair::start(SERVER, "{ ca: theirs.ca.pem }").await;
    let looked = jaiminho(pair.directory.path(), &["top", "--once"]).await;
    let said = String::from_utf8_lossy(&looked.stderr);
    assert!(said.contains("invalid peer certificate"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_of_another_authority_is_not_linked_to() {
    Pair::start(SERVER, "{ ca: theirs.ca.pem }").await.refused("invalid peer certificate").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_without_certificate_is_refused_where_one_is_asked_for() {
    Pair::start(MUTUAL, "{ ca: ours.ca.pem }").await.refused("if the producer asks for a certificate").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_without_tls_is_told_so_by_a_producer_with_it() {
    Pair::start(SERVER, "null").await.refused("if the producer speaks TLS, this stage needs `tls`").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_with_tls_is_told_that_a_producer_has_none() {
    Pair::start("null", "{ ca: ours.ca.pem }").await.refused("the producer does not speak TLS").await;
}
