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
        (vec![json!("stage"), json!("admin"), json!("edge"), json!("websocket")], vec![json!("stage"), json!("admin")])
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
    assert_eq!(sink["env"], json!({ "KAFKA": "k:9092", "PASSWORD": { "secret": "PASSWORD" } }));
    assert_eq!(sink["secrets"], json!({ "PASSWORD": { "source": "kafka/pw" } }));
    assert_eq!(sink["taskKillGracePeriodSeconds"], 55, "a drain of 40 s, 10 s to close, 5 s more");
    assert_eq!(source["taskKillGracePeriodSeconds"], 45, "5 s in which it serves on, 25 s of drain");
    assert!(sink["mem"].as_u64().unwrap() > 64, "{sink}");
}

#[test]
fn in_a_container_network_ports_are_as_the_file_says() {
    let placed = ["--constraint", "hostname:MAX_PER:2", "--constraint", "rack:LIKE:a:[12]"];
    let group = rendered(FILE, &[&GIVEN[..], &["--network", "dcos", "--group", "/a/b"], &placed].concat()).unwrap();
    let source = &group["apps"][0];
    assert_eq!(source["constraints"], json!([["hostname", "MAX_PER", "2"], ["rack", "LIKE", "a:[12]"]]));
    assert_eq!(source["networks"], json!([{ "mode": "container", "name": "dcos" }]));
    let ports = source["container"]["portMappings"].as_array().unwrap();
    let ports: Vec<_> = ports.iter().map(|port| port["containerPort"].as_u64().unwrap()).collect();
    assert_eq!(ports, [7400, 9464, 8080, 8081]);
    let args = source["args"].to_string();
    assert!(!args.contains("PORT_") && args.contains("_stage._in-b-a._tcp.marathon.mesos"), "{args}");
}

/// With a stage between, whose mappings are these.
fn with_mappings(files: &[&str]) -> String {
    let steps: Vec<_> = files.iter().map(|file| format!("{{ vrl: {{ file: {file} }} }}")).collect();
    FILE.replace("subscribe_to: [in]\n", "subscribe_to: [mid]\n")
        + &format!("  mid: {{ subscribe_to: [in], transform: [{}] }}\n", steps.join(", "))
}

#[test]
fn a_uri_that_may_be_either_of_two_files_is_refused() {
    let file = with_mappings(&["maps/a.vrl", "other/a.vrl"]);
    let fetch = [&["--fetch", "s3://f/pipeline.yaml", "--fetch", "s3://f/my-other/a.vrl"], &GIVEN[2..]].concat();
    let refused = rendered(&file, &fetch).unwrap_err();
    assert!(refused.contains("its end must say which file this is: maps/a.vrl or other/a.vrl"), "{refused}");
}

#[test]
fn files_are_fetched_to_where_the_pipeline_file_names_them() {
    let file = with_mappings(&["maps/a.vrl", "other/a.vrl", "b.vrl", "maps/c.vrl"]);
    let uris = ["s3://f/pipeline.yaml", "s3://f/other/a.vrl?v=1", "s3://f/b.vrl", "s3://f/maps/a.vrl"];
    let fetch = uris.iter().flat_map(|uri| ["--fetch", *uri]).chain(GIVEN[2..].iter().copied()).collect::<Vec<_>>();
    let group = rendered(&file, &fetch).unwrap();
    let [source, mid, _] = group["apps"].as_array().unwrap().as_slice() else { panic!("{group}") };
    assert_eq!(
        source["fetch"],
        json!([{ "uri": uris[0], "destPath": "pipeline.yaml" }]),
        "the mappings are not its own"
    );
    assert_eq!(
        mid["fetch"],
        json!([
            { "uri": uris[0], "destPath": "pipeline.yaml" }, { "uri": uris[1], "destPath": "other/a.vrl" },
            { "uri": uris[2], "destPath": "b.vrl" }, { "uri": uris[3], "destPath": "maps/a.vrl" },
        ])
    );
}

#[test]
fn a_stage_gets_no_key_of_another() {
    let tls = |name: &str, ca: &str| format!("    tls: {{ ca: {ca}, cert: tls/{name}.pem, key: tls/{name}.key }}\n");
    let names = ["in", "to_kafka"];
    let file = |ca: &str| {
        let with_tls =
            |file: String, name: &str| file.replace(&format!("  {name}:\n"), &format!("  {name}:\n{}", tls(name, ca)));
        let file = names
            .into_iter()
            .fold(FILE.replace("    drain: 40s", "    at: { dns: \"k:7400\" }\n    drain: 40s"), with_tls);
        file + "telemetry: { admin: { tls: { cert: admin.pem, key: admin.key } } }\n"
    };
    let fetched = ["in.pem", "in.key", "to_kafka.pem", "to_kafka.key", "ca.pem", "admin.pem", "admin.key", "more.tgz"];
    let uris = fetched.map(|name| format!("http://f/{name}"));
    let fetch = uris.iter().flat_map(|uri| ["--fetch", uri.as_str()]).chain(GIVEN).collect::<Vec<_>>();
    let at = "/mnt/mesos/sandbox/pipeline.yaml";
    for (file, more) in [
        (file("ca.pem"), vec![]),
        (file("/mnt/mesos/sandbox/ca.pem"), vec!["--task-file", "/etc/pipeline.yaml"]),
        (file("ca.pem"), vec!["--task-file", at]),
    ] {
        let group = rendered(&file, &[&fetch[..], &more].concat()).unwrap();
        for (app, other) in group["apps"].as_array().unwrap().iter().zip(["to_kafka", "in"]) {
            let got: Vec<_> = app["fetch"].as_array().unwrap().iter().map(|of| of["uri"].as_str().unwrap()).collect();
            let wanted = uris.iter().filter(|uri| !uri.contains(&format!("/{other}.")));
            let wanted: Vec<_> = wanted.map(String::as_str).chain([GIVEN[1]]).collect();
            assert_eq!(got, wanted, "{more:?}");
        }
    }
}

#[test]
fn certificates_are_for_the_names_that_the_file_knows() {
    let tls = "tls: { ca: c, cert: c, key: k }";
    let file = FILE.replace("    drain: 40s", &format!("    at: {{ dns: \"kafka:7400\" }}\n    {tls}\n    drain: 40s"));
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
        (&GIVEN[..2], "\na task has none of this shell's variables"),
        (&GIVEN[2..], "--fetch URI"),
        (&["--fetch", "f/other.yaml"][..], "no task would have the pipeline file"),
        (&["--fetch", "f/pipeline.yaml", "--env", "no"][..], "must be VAR=VALUE"),
        (&["--fetch", "f/pipeline.yaml", "--constraint", "hostname:SPREAD"][..], "must be FIELD:UNIQUE"),
        (&["--fetch", "f/pipeline.yaml", "--constraint", "hostname:MAX_PER"][..], "with a value FIELD:OPERATOR:VALUE"),
        (&["--fetch", "f/pipeline.yaml", "--env", "A=1", "--secret", "A=s"][..], "by --env and by --secret"),
        (&["--fetch", "f/pipeline.yaml", "--secret", "A="][..], "--secret A=: names no secret"),
        (
            &["--fetch", "f/pipeline.yaml", "--group", "/a-group-whose-path-is-longer/than-dns-can-tell-with-ease"][..],
            "--group names a shorter path",
        ),
    ] {
        let error = rendered(FILE, arguments).unwrap_err();
        assert!(error.contains(what), "{what} in {error}");
    }
    let twice = FILE.replace("  to_kafka:", "  to-kafka: { subscribe_to: [in], sink: { blackhole: {} } }\n  to_kafka:");
    assert!(rendered(&twice, &GIVEN).unwrap_err().contains("rename one"));
    for path in ["/Post", "/"] {
        let error = rendered(FILE, &[&GIVEN[..], &["--group", path]].concat()).unwrap_err();
        assert!(error.contains(&format!("each part of `{path}` has lower-case letters")), "{error}");
    }
    for name in ["to_kafka_", "tasks"] {
        let error = rendered(&FILE.replace("to_kafka", name), &GIVEN).unwrap_err();
        assert!(error.contains(&format!("stage `{name}`: an id has")), "{error}");
    }
}

/// Marathon's own rules: of form, and where one part names another.
#[test]
fn marathon_takes_what_is_rendered() {
    let schema = serde_json::from_str(include_str!("../../../../../../tests/marathon/app.schema.json")).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    let file =
        FILE.replace("drain: 40s", "at: { dns: \"k:7400\" }\n    tls: { ca: tls/ca.pem, cert: c.pem, key: c.key }");
    let fetch = [&GIVEN[..], &["--fetch", "http://f/ca.pem"]].concat();
    for more in [&[][..], &["--network", "dcos", "--group", "a/b"]] {
        let group = rendered(&file, &[&fetch[..], more].concat()).unwrap();
        assert_eq!(group.as_object().unwrap().len(), 2, "a group's `id` and `apps`");
        let apps = group["apps"].as_array().unwrap();
        assert_eq!(apps.len(), 2);
        for app in apps {
            let wrong: Vec<_> = schema.iter_errors(app).map(|of| format!("{}: {of}", of.instance_path())).collect();
            assert!(wrong.is_empty(), "{wrong:#?}");
            let parent = app["id"].as_str().unwrap().rsplit_once('/').unwrap().0;
            assert_eq!(parent, group["id"]);
            let ports = app.get("portDefinitions").unwrap_or(&app["container"]["portMappings"]).as_array().unwrap();
            let names: Vec<_> = ports.iter().map(|port| &port["name"]).collect();
            assert!(names.iter().enumerate().all(|(index, name)| !names[..index].contains(name)), "{names:?}");
            let [health, ready] = [&app["healthChecks"][0], &app["readinessChecks"][0]];
            assert_eq!(names[usize::try_from(health["portIndex"].as_u64().unwrap()).unwrap()], &ready["portName"]);
            assert!(ready["timeoutSeconds"].as_u64() < ready["intervalSeconds"].as_u64());
            let secrets = app["env"].as_object().unwrap().values().filter_map(|value| value.get("secret"));
            assert!(secrets.map(|name| name.as_str().unwrap()).all(|name| app["secrets"].get(name).is_some()), "{app}");
        }
    }
}
