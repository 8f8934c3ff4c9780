//! Instances that are found by SRV records alone: they are linked to, and followed as they come and go.

use jaiminho_tests::{Client, Directory, Dns, FOLLOWED, Jaiminho, Namespace, Place, free_port};

fn pipeline(directory: &Directory, port: u16) -> std::path::PathBuf {
    let file = format!(
        r#"version: 1
pipeline: srv
stages:
  in:
    at: {{ srv: "_jaiminho._tcp.in.test" }}
    source: {{ http: {{ listen: "127.0.0.1:{port}" }}, drain_delay: 0s }}
  out:
    subscribe_to: [in]
    sink: {{ blackhole: {{}} }}
"#
    );
    directory.write(&format!("pipeline-{port}.yaml"), &file)
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_are_found_by_srv_records_and_followed_as_these_change() {
    if !Namespace::is_allowed() {
        eprintln!("left out: port 53 and mounts need root");
        return;
    }
    let (directory, dns) = (Directory::new("srv"), Dns::start().with_ttl(60));
    let resolv_conf = Some(dns.resolv_conf(&directory));
    let place = || Place { resolv_conf: resolv_conf.clone(), ..Place::local() };
    let (places, ports) = ([place(), place()], [free_port(), free_port()]);
    let files = ports.map(|port| pipeline(&directory, port));
    let sources = [0, 1].map(|at| Jaiminho::stage(directory.path(), &files[at], "in", &places[at]));
    let out = Jaiminho::stage(directory.path(), &files[0], "out", &place());
    for process in sources.iter().chain([&out]) {
        process.ready().await;
    }
    out.linked("out", 0.0).await;
    for (records, links) in [
        (&[(places[0].stage_port, "one.test")][..], 1.0),
        (&[(places[0].stage_port, "one.test"), (places[1].stage_port, "two.test")], 2.0),
    ] {
        dns.set("_jaiminho._tcp.in.test", records);
        let after = out.linked("out", links).await;
        assert!(after < FOLLOWED, "{links} links after {after:?}");
    }
    for port in ports {
        let answer = Client::new(port).post("application/json", "1".to_owned()).await.expect("an answer");
        assert_eq!(answer.status, 200);
    }
}
