//! Wrong files, and in `snapshots` the exact words for each.

use super::{EUGENIO, changed, wrong};
use crate::config::tree::FILE_BYTES_MAX;

/// What is replaced in the Eugenio pipeline, and by what.
const SHAPE: &[(&str, &str)] = &[
    ("at: { dns: \"ingest:7400\" }", "at: {}"),
    ("at: { dns: \"ingest:7400\" }", "at: { dns: \"a:1\", srv: b }"),
    ("at: { dns: \"ingest:7400\" }", "at: { dns: \"a:0\" }"),
    ("at: { dns: \"ingest:7400\" }", "at: { srv: a..b }"),
    ("at: { dns: \"ingest:7400\" }", "at: { list: [] }"),
    ("at: { dns: \"ingest:7400\" }", "at: { list: [a] }"),
    ("at: { dns: \"ingest:7400\" }", "at: \"ingest:7400\""),
    ("transform: {", "transform: { filter: \"true\", "),
    ("{ vrl: { file: mappings/eugenio.vrl } }", "{}"),
    ("{ vrl: { file: mappings/eugenio.vrl } }", "[]"),
    ("{ vrl: { file: mappings/eugenio.vrl } }", "{ vlr: . }"),
    ("{ vrl: { file: mappings/eugenio.vrl } }", "{ vrl: { fil: a } }"),
    ("{ vrl: { file: mappings/eugenio.vrl } }", "{ vrl: 3 }"),
    ("{ vrl: { file: mappings/eugenio.vrl } }", "[{ vrl: . }, { filtr: a }]"),
    ("topics_max: 50", "topics_max: 50, password: secret-word"),
    ("sink: { kafka: {", "sink: { stdout: {}, kafka: {"),
    ("acknowledge: published", "acknowledge: publishd"),
    ("acknowledge: published", "generate: {}"),
    ("listen: \"0.0.0.0:8080\"", "listen: 8080"),
    ("    key:", "    concurrency: 0\n    key:"),
    ("    key:", "    concurrency: 9999\n    key:"),
    ("    key:", "    replicas: -1\n    key:"),
    ("    key:", "    max_failures: 0\n    key:"),
    ("    key:", "    timeout: 5\n    key:"),
    ("    key:", "    drain: -1s\n    key:"),
    ("    key:", "    window: { max_demand: 0 }\n    key:"),
    ("    key:", "    limits: { link: 3 }\n    key:"),
    ("    key:", "    tls: { ca: 1 }\n    key:"),
    ("    key:", "    tls: true\n    key:"),
    ("    key:", "    key: {}\n    kex:"),
    ("pipeline: eugenio", "pipeline: \"\""),
    ("pipeline: eugenio", "pipeline:"),
    ("    key:", "    at: { dns: }\n    key:"),
    ("version: 1", "version: 1\nextra: 2"),
    ("version: 1", "version: 1\ntelemetry: { metric: {} }"),
    ("version: 1", "version: 1\ntelemetry: { metrics: { statsd: {} } }"),
    ("version: 1", "version: 1\ntelemetry: { metrics: { statsd: { address: nowhere } } }"),
    ("version: 1", "version: 1\ntelemetry: { metrics: { otlp: { endpoint: \"collector:4317\" } } }"),
    ("version: 1", "version: 1\ntelemetry: { metrics: { otlp: { interval: 5 } } }"),
    ("version: 1", "version: 1\n---"),
    ("version: 1", "version: *nowhere"),
    ("version: 1", "version: .inf"),
    ("version: 1", "version: !!binary aGk="),
    ("version: 1", "? [a]\n: 1"),
    ("${KAFKA:-embedded}", "${KAFKA"),
    ("${KAFKA:-embedded}", "${1}"),
    ("  convert:", "  Convert:"),
    ("  convert:", "  \"\":"),
];

/// Whole files.
const FILES: &[&str] = &[
    "",
    "# nothing",
    "[]",
    "text",
    "version: 1\npipeline: p\nstages:\n",
    "version: 1\npipeline: p\nstages: {}\n",
    "version: 1\npipeline: p\nstages: { a: }\n",
    "version: 1\npipeline: p\nstages: { a: 3 }\n",
    "\0",
    "\t",
    "a: b: c",
    "\u{feff}version: 1",
];

const HTTP: &str = "http:      { listen: \"0.0.0.0:8080\", path: /events, deadline: 30s }";
const SOURCE: &str = "acknowledge: published\n      http:      { listen: \"0.0.0.0:8080\", path: /events, deadline: 30s }\n      websocket: { path: /ws }\n";
const KAFKA: &str = "{ bootstrap_servers: \"${KAFKA:-embedded}\", topic: eugenio.dead }";

/// What only the component itself can know to be wrong.
const SETTINGS: &[(&str, &str)] = &[
    (HTTP, "limits: { sockets: 1 }"),
    ("path: /events", "path: events"),
    ("deadline: 30s", "deadline: 0s"),
    ("deadline: 30s", "header_timeout: 8d"),
    ("deadline: 30s", "body_timeout: 0ms"),
    ("deadline: 30s", "connection_age_max: 0s"),
    ("{ path: /ws }", "{ path: \"/{ws}\" }"),
    ("{ path: /ws }", "{ hold_max: 0s }"),
    ("{ path: /ws }", "{ ping_interval: 0s }"),
    ("{ path: /ws }", "{ idle_timeout: 20s }"),
    ("{ path: /ws }", "{ in_flight_max: 0 }"),
    (HTTP, "http: {}\n      headers: { \"a b\": tenant, x-id: id, x-t: Tenant }"),
    (HTTP, "http: {}\n      cors: {}"),
    (HTTP, "http: {}\n      cors: { origins: [\"*\", \"https://a\"], headers: [\"a b\"] }"),
    (HTTP, "http: {}\n      cors: { origins: [\"a\\nb\"] }"),
    (
        HTTP,
        "http: {}\n      limits: { body_bytes: 0, event_bytes: 0, events: 0, requests: 0, connections: 0, sockets: 0 }",
    ),
    (HTTP, "http: {}\n      limits: { expanded_bytes: 1KiB, header_bytes: 1KiB, reading_bytes: 1MiB }"),
    (HTTP, "http: {}\n      limits: { reading_bytes: 4GiB }"),
    ("    key:", "    limits: { event_bytes: 4MiB }\n    key:"),
    (SOURCE, "generate: { size: 1GiB }\n"),
    (KAFKA, "{ topic: t }"),
    (KAFKA, "{ bootstrap_servers: \"a:1\", topic: \"{{\" }"),
    (KAFKA, "{ bootstrap_servers: \"a:1\", topic: t, key: \"{{\" }"),
    (KAFKA, "{ bootstrap_servers: \"a:1\", topic: t, properties: { acks: 1 } }"),
    (KAFKA, "{ bootstrap_servers: \"a:1\", topic: t, properties: { no.such: 1 } }"),
    (KAFKA, "{ bootstrap_servers: \"a:1\", topic: t, properties: { linger.ms: -4 } }"),
    (KAFKA, "{ bootstrap_servers: \"a:1\", topic: t, topics_max: 0 }"),
    (KAFKA, "{ bootstrap_servers: \"a:1\", topic: t, mode: avro }"),
    (KAFKA, "{ bootstrap_servers: \"a:1\", topic: t, sasl: { mechanism: PLAIN } }"),
    (KAFKA, "{ bootstrap_servers: \"a:1\", topic: t, sasl: { mechanism: MD5 } }"),
    (KAFKA, "{ bootstrap_servers: \"a:1\", topic: t, event_hubs: { namespace: n } }"),
    (KAFKA, "{ topic: t, event_hubs: { namespace: n } }"),
];

fn told(changes: &[(&str, &str)]) -> String {
    changes.iter().map(|(from, to)| format!("# {to}\n{}\n", changed(from, to))).collect()
}

#[test]
fn a_mistake_of_shape_is_told_with_its_place_and_what_would_be_right() {
    insta::assert_snapshot!(told(SHAPE));
}

#[test]
fn a_file_without_a_pipeline_is_told_what_it_lacks() {
    let all: String = FILES.iter().map(|file| format!("# {file:?}\n{}\n", wrong(file))).collect();
    insta::assert_snapshot!(all);
}

#[test]
fn what_components_say_of_their_settings_has_a_place() {
    insta::assert_snapshot!(told(SETTINGS));
}

#[test]
fn bombs_are_refused_with_the_limit_that_they_break() {
    let mut aliases = String::from("a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n");
    for (name, before) in ('b'..='j').zip('a'..) {
        aliases.push_str(&format!("{name}: &{name} [{}]\n", format!("*{before}, ").repeat(10)));
    }
    let mut all = String::new();
    for (what, bomb) in [
        ("aliases", aliases),
        ("depth", "[".repeat(10_000)),
        ("maps", "{a: ".repeat(1_000)),
        ("values", "- 1\n".repeat(200_000)),
        ("length", "# ".repeat(FILE_BYTES_MAX)),
        ("merge keys", format!("a: &a {{x: 1}}\nb: {{{}}}", "<<: *a, ".repeat(50_000))),
    ] {
        all.push_str(&format!("# {what}\n{}\n", wrong(&bomb)));
    }
    insta::assert_snapshot!(all, @r##"
# aliases
p.yaml:5:36: error: alias replay limit exceeded: total_replayed_events=100001 > 100000
# depth
p.yaml:1:256: error: recursion limit exceeded
# maps
p.yaml:1:1021: error: recursion limit exceeded
# values
p.yaml:100000:3: error: more than 100000 values
# length
p.yaml: error: the file has 2097152 bytes, more than 1048576
# merge keys
p.yaml:2:80005: error: more than a pipeline file may hold: MergeKeys { merge_keys: 10001 }
"##);
}

#[test]
fn a_file_with_very_many_mistakes_is_told_the_first_ones_and_how_many_more_in_no_time() {
    let join = |count: usize, item: &dyn Fn(usize) -> String| (0..count).map(item).collect::<Vec<_>>().join(", ");
    let keys = join(49_000, &|n| format!("k{n}: 1"));
    let head = "version: 1\npipeline: p\nstages:";
    let end = |text: &str| text.lines().last().unwrap().to_owned();
    for (what, file, last) in [
        ("keys", format!("{{{keys}}}"), "p.yaml: error: 48903 more, which are not told"),
        ("keys of a stage", format!("{head} {{a: {{{keys}}}}}"), "p.yaml: error: 48900 more, which are not told"),
        (
            "keys of a source",
            format!("{head} {{a: {{source: {{{keys}}}}}}}"),
            "p.yaml: error: 48900 more, which are not told",
        ),
        (
            "subscriptions",
            format!(
                "{head} {{a: {{subscribe_to: [{}], sink: {{blackhole: {{}}}}}}}}",
                join(49_000, &|n| format!("k{n}"))
            ),
            "p.yaml:3:334: error: there is no stage `k63`",
        ),
        (
            "headers",
            format!(
                "{head} {{a: {{source: {{http: {{}}, headers: {{{}}}}}}}}}",
                join(49_000, &|n| format!("b {n}: x"))
            ),
            "p.yaml:3:109578: error: `headers.b 10053` is no header name",
        ),
        (
            "stages",
            format!("{head} {{{}}}", join(20_000, &|n| format!("s{n}: {{x: 1}}"))),
            "p.yaml:3:1: error: 20000 stages, more than 256",
        ),
        (
            "stages of a profile",
            format!("{EUGENIO}  more: {{stages: {{{}}}}}", join(20_000, &|n| format!("s{n}: {{x: 1}}"))),
            "p.yaml:24:3: error: profile `more`: 20004 stages, more than 256",
        ),
    ] {
        let since = std::time::Instant::now();
        let told = wrong(&file);
        assert!(since.elapsed().as_secs() < 10, "{what}: {:?}", since.elapsed());
        assert!(told.lines().count() <= 101, "{what}: {}", told.lines().count());
        assert_eq!(end(&told), last, "{what}");
    }
}

/// What reading any file takes at its peak, counted by an allocator.
const PEAK_BYTES_MAX: u64 = 64 << 20;

#[test]
fn no_file_takes_more_memory_than_the_limit() {
    let numbered = |count: usize, line: &dyn Fn(usize) -> String| (0..count).map(line).collect::<String>();
    for (what, bomb) in [
        ("values", "- 1\n".repeat(99_000)),
        ("unknown keys", numbered(10_000, &|n| format!("k{n}: {{}}\n"))),
        ("stages", format!("version: 1\npipeline: p\nstages:\n{}", numbered(5_000, &|n| format!("  s{n}: {{}}\n")))),
        ("one scalar", format!("a: \"{}\"", "x".repeat(1_000_000))),
        ("variables", EUGENIO.replace("eugenio.dead", &"${KAFKA}".repeat(100_000))),
        (
            "profiles",
            format!("{EUGENIO}{}", numbered(60, &|n| format!("  p{n}: {{ stages: {{ s{n}: {{ a: 1 }} }} }}\n"))),
        ),
    ] {
        let peak = allocation_counter::measure(|| drop(wrong(&bomb))).bytes_max;
        assert!(peak <= PEAK_BYTES_MAX, "{what}: {peak} bytes");
    }
}
