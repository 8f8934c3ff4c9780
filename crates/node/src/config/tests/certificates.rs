//! `tls`: whether the stages' certificates fit together.

use super::*;

/// Two stages, each with its own `tls`.
fn text(source: &str, sink: &str) -> String {
    format!(
        "version: 1\npipeline: p\nstages:\n  in:\n    {source}\n    source: {{ http: {{}} }}\n  out:\n    subscribe_to: [in]\n    {sink}\n    sink: {{ blackhole: {{}} }}\n"
    )
}

fn with(source: &str, sink: &str, setting: Setting) -> Config {
    load_text(&text(source, sink), &Overrides::default(), setting).unwrap()
}

/// What is odd about them, a line each.
fn odd(source: &str, sink: &str) -> String {
    with(source, sink, Setting::Apart).warnings.to_string()
}

const AT: &str = "at: { dns: \"in:7400\" }";
const FULL: &str = "tls: { ca: ca, cert: c, key: k }";
const NAMED: &str = "tls: { ca: ca, cert: c, key: k, server_name: out.example }";

#[test]
fn what_a_stage_lacks_for_its_links_is_a_warning() {
    let source = |tls: &str| format!("{AT}\n    {tls}");
    assert_eq!(odd(&source(FULL), NAMED), "");
    assert_eq!(odd(&source(""), ""), "");
    let plain = odd(&source(""), NAMED);
    assert_eq!(
        plain,
        "p.yaml:10:5: warning: stage `out` links with TLS only, and `in` has no certificate (`tls: { cert, key }`)"
    );
    let without = odd(&source("tls: { cert: c, key: k }"), "");
    assert!(without.contains("stage `out` needs `tls` with a `ca`: `in` speaks TLS"), "{without}");
    let unshown = odd(&source(FULL), "tls: { ca: ca, server_name: o }");
    assert!(
        unshown.contains("stage `out` needs `tls` with `cert` and `key`: `in` asks for a certificate"),
        "{unshown}"
    );
    let listed = odd(&format!("at: {{ list: [\"a:1\"] }}\n    {FULL}"), NAMED);
    assert!(listed.contains("the certificate of `in` is checked for the host of each of its addresses"), "{listed}");
}

#[test]
fn a_group_that_any_certificate_would_let_in_is_refused() {
    let yaml = |sink| text(&format!("{AT}\n    {FULL}"), sink);
    let told = |setting| load_text(&yaml(FULL), &Overrides::default(), setting);
    let refused = told(Setting::Apart).unwrap_err().to_string();
    assert!(
        refused.contains("p.yaml:10:5: error: any certificate of the `ca` of `in` would let a peer join as `out`"),
        "{refused}"
    );
    let warned = told(Setting::Anywhere).unwrap().warnings.to_string();
    assert!(warned.contains("would let a peer join as `out`"), "{warned}");
}

#[test]
fn stages_that_are_known_by_one_name_are_told() {
    let one = "tls: { ca: ca, cert: c, key: k, server_name: in }";
    let told = odd(&format!("{AT}\n    {FULL}"), one);
    assert!(told.contains("the certificates of stages `in`, `out` are all checked for `in`"), "{told}");
}

#[test]
fn in_one_process_nothing_is_lacking() {
    assert_eq!(with(AT, NAMED, Setting::Together).warnings.to_string(), "");
}

#[test]
fn a_stages_name_is_its_own_or_its_hosts() {
    let config = with(&format!("{AT}\n    {FULL}"), NAMED, Setting::Apart);
    assert_eq!(config.pipeline.stages["in"].server_name(), Some("in"));
    let members = config.members("in");
    assert_eq!(members.into_iter().collect::<Vec<_>>(), [("out".to_owned(), "out.example".to_owned())]);
}

#[test]
fn tls_is_a_term_of_the_memory() {
    let config = with(&format!("{AT}\n    {FULL}"), NAMED, Setting::Apart);
    let bytes = |name: &str, term: &str| {
        let terms = memory::terms(&config, name, &config.pipeline.stages[name], 1);
        terms.into_iter().find(|of| of.name == term).map(|of| of.bytes)
    };
    let each = jaiminho_tls::connection_bytes_max(true);
    assert_eq!(bytes("in", "their TLS"), Some(64 * each));
    assert_eq!(bytes("out", "their TLS"), Some(96 * each));
    let plain = bytes("in", "connections").unwrap();
    let yaml = EUGENIO.replace("path: /events,", "path: /events, tls: { cert: c, key: k },");
    let config = load_text(&yaml, &Overrides::default(), Setting::Apart).unwrap();
    let terms = memory::terms(&config, "ingest", &config.pipeline.stages["ingest"], 1);
    let secured = terms.iter().find(|of| of.name == "connections").unwrap();
    assert_eq!(secured.bytes - plain, 1_024 * jaiminho_tls::connection_bytes_max(false));
}

#[test]
fn a_websocket_on_https_port_has_no_certificate_of_its_own() {
    let yaml = EUGENIO.replace("{ path: /ws }", "{ path: /ws, tls: { cert: c, key: k } }");
    let problems = load_text(&yaml, &Overrides::default(), Setting::Apart).unwrap_err().to_string();
    assert!(problems.contains("`websocket.tls` is for a port of its own (`listen`)"), "{problems}");
}
