//! Stages with a `route`, a `sample`, a `throttle`, a `dedupe` or a `rate`.

use super::*;

/// The Eugenio pipeline with a route behind `convert`; `publish` takes `hot`, `rest` takes the rest.
fn with_route(route: &str) -> String {
    let stages = format!(
        "  split:\n    at: {{ dns: \"split:7400\" }}\n    subscribe_to: [convert]\n    transform: {{ route: {route} }}\n  \
         rest:\n    subscribe_to: [split.cold, split.odd]\n    sink: {{ stdout: {{}} }}\n  dead:\n"
    );
    let yaml = EUGENIO.replace("subscribe_to: [convert]\n", "subscribe_to: [split.hot]\n");
    yaml.replace("  dead:\n", &stages).replace("[convert.dead_letter,", "[convert.dead_letter, split.dead_letter,")
}

const ROUTE: &str = "{ outputs: { hot: .data.t == 1, odd: .data.t == 2 }, else: cold }";

#[test]
fn a_route_has_the_outputs_that_it_names_and_each_has_its_log() {
    let config = load_text(&with_route(ROUTE), &Overrides::default(), Setting::Apart).unwrap();
    assert_eq!(config.warnings.to_string(), "");
    let split = &config.pipeline.stages["split"];
    assert_eq!(split.outputs("split"), ["split.hot", "split.odd", "split.cold"]);
    let one = load_text(EUGENIO, &Overrides::default(), Setting::Apart).unwrap();
    let bytes = |config: &Config, name: &str, term: &str| {
        let terms = memory::terms(config, name, &config.pipeline.stages[name], 3);
        terms.iter().find(|found| found.name == term).unwrap().bytes
    };
    assert_eq!(bytes(&config, "split", "logs"), 3 * bytes(&one, "convert", "log"));
    let unsent = "links out, unsent";
    assert_eq!(bytes(&config, "split", unsent), 2 * bytes(&one, "convert", unsent), "as many as the port takes");
}

#[test]
fn what_is_wrong_with_a_route_and_with_subscriptions_to_it_is_told() {
    let mut all = String::new();
    for (from, to) in [
        ("", ""),
        ("split.odd", "split"),
        ("split.odd", "split.od"),
        (", split.odd", ""),
        ("else: cold", "else: dead_letter"),
        ("hot: ", "Hot: "),
        ("hot: .data.t == 1, odd: .data.t == 2", ""),
        ("else: cold", "els: cold"),
    ] {
        let yaml = with_route(ROUTE);
        assert!(yaml.contains(from), "{from}");
        let problems = wrong(&yaml.replace(from, to));
        all.push_str(&format!("# {from} -> {to}\n{problems}\n"));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn a_mistake_in_a_condition_has_its_place() {
    let written =
        "\n      route:\n        outputs:\n          hot: .data.t == 1\n          odd: .data.t\n        else: cold\n";
    let yaml = with_route(ROUTE).replace(&format!("{{ route: {ROUTE} }}\n"), written);
    let yaml = yaml.replace("vrl: { file: mappings/eugenio.vrl }", "vrl: .a = 1");
    let document = Document::parse(&"p.yaml".into(), yaml, PathBuf::new(), &Overrides::default()).unwrap();
    let problems = document.check_with(Setting::Together, Files::Programs, &env).unwrap_err().to_string();
    insta::assert_snapshot!(problems, @"p.yaml:26:16: error: stage `split`: an output's condition must be a boolean, but this is of type any; compare it, as `… == true`");
}

#[test]
fn what_is_wrong_with_a_sample_a_throttle_or_a_rate_is_told() {
    let mut all = String::new();
    for (from, to) in [
        ("vrl: { file: mappings/eugenio.vrl }", "sample: { rate: 2 }"),
        ("vrl: { file: mappings/eugenio.vrl }", "throttle: { rate: 0 }"),
        ("vrl: { file: mappings/eugenio.vrl }", "throttle: { rate: 1, over: flow }"),
        ("{ vrl: { file: mappings/eugenio.vrl } }", "[{ filter: \"true\" }, { throttle: { rate: 1 } }]"),
        ("    key:", "    rate: 5\n    key:"),
        ("    transform:", "    rate: -5\n    transform:"),
        ("    transform:", "    rate: 0.5\n    transform:"),
    ] {
        all.push_str(&format!("# {to}\n{}\n", changed(from, to)));
    }
    let yaml = EUGENIO.replace("vrl: { file: mappings/eugenio.vrl }", "sample: { rate: 1, key: \"{{\" }");
    let document = Document::parse(&"p.yaml".into(), yaml, PathBuf::new(), &Overrides::default()).unwrap();
    let problems = document.check_with(Setting::Together, Files::Programs, &env).unwrap_err();
    insta::assert_snapshot!(format!("{all}# a key\n{problems}"));
}

#[test]
fn the_keys_of_a_throttle_are_a_term_of_the_memory() {
    let yaml = EUGENIO
        .replace("vrl: { file: mappings/eugenio.vrl }", "throttle: { rate: 1, key: \"{{subject}}\", keys_max: 1000 }");
    let config = load_text(&yaml, &Overrides::default(), Setting::Apart).unwrap();
    let terms = memory::terms(&config, "convert", &config.pipeline.stages["convert"], 3);
    assert_eq!(terms.iter().find(|term| term.name == "throttled keys").unwrap().bytes, 96_000);
}

const DEDUPE: (&str, &str) =
    ("transform: { vrl: { file: mappings/eugenio.vrl } }", "transform: { dedupe: { window: 1m, ids_max: 1000 } }");

#[test]
fn copies_must_meet_where_a_stage_that_drops_them_may_have_several_instances() {
    let yaml = EUGENIO.replace(DEDUPE.0, DEDUPE.1);
    let told = |yaml: &str, setting| match load_text(yaml, &Overrides::default(), setting) {
        Ok(config) => config.warnings.to_string(),
        Err(problems) => problems.to_string(),
    };
    let several = yaml.replace("    transform:", "    replicas: 2\n    transform:");
    let one = yaml.replace("    transform:", "    replicas: 1\n    transform:");
    assert_eq!(told(&one, Setting::Apart), "");
    assert_eq!(told(&several, Setting::Together), "", "`up` has one of each");
    for key in ["{{id}}", "{{source}}{{id}}", "e-{{ source }}-{{id}}"] {
        let keyed = several.replace("{{data.deviceId}}", key);
        assert_eq!(told(&keyed, Setting::Apart), "", "{key}");
    }
    let mut all = String::new();
    for (from, to) in [
        ("", ""),
        ("{{data.deviceId}}", "{{source}}"),
        ("{{data.deviceId}}", "{{id}}{{type}}"),
        ("    key: \"{{data.deviceId}}\"\n", ""),
        ("    replicas: 2\n", ""),
        ("{{data.deviceId}}", "{{"),
    ] {
        assert!(several.contains(from), "{from}");
        all.push_str(&format!("# {from} -> {to}\n{}\n", told(&several.replacen(from, to, 1), Setting::Anywhere)));
    }
    let any = several.replace("{{data.deviceId}}", "{{id}}");
    let any = any.replace("subscribe_to: [ingest]", "subscribe_to: [{ stage: ingest, dispatch: demand }]");
    insta::assert_snapshot!(format!("{all}# dispatch\n{}", told(&any, Setting::Apart)));
}

#[test]
fn the_ids_and_the_copies_of_a_dedupe_are_a_term_of_the_memory() {
    let config = load_text(&EUGENIO.replace(DEDUPE.0, DEDUPE.1), &Overrides::default(), Setting::Together).unwrap();
    let terms = memory::terms(&config, "convert", &config.pipeline.stages["convert"], 3);
    let copies = terms.iter().find(|term| term.name == "copies").unwrap();
    assert_eq!(copies.bytes, 1_000 * 256 + 32 * 2_000 * 384, "{}", copies.from);
}
