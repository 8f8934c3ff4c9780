//! The exact words for each thing that can be wrong with a pipeline file.

use std::collections::BTreeSet;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

mod certificates;
mod holding;
mod kafka_source;
mod layers;
mod own;
mod programs;
mod routes;
mod telemetry;
mod wrong;

const EUGENIO: &str = r#"version: 1
pipeline: eugenio
stages:
  ingest:
    at: { dns: "ingest:7400" }
    key: "{{data.deviceId}}"
    source:
      acknowledge: published
      http:      { listen: "0.0.0.0:8080", path: /events, deadline: 30s }
      websocket: { path: /ws }
  convert:
    at: { dns: "convert:7400" }
    subscribe_to: [ingest]
    transform: { vrl: { file: mappings/eugenio.vrl } }
  publish:
    at: { dns: "publish:7400" }
    subscribe_to: [convert]
    sink: { kafka: { bootstrap_servers: "${KAFKA:-embedded}", topic: "eugenio.{{type}}", topics_max: 50 } }
  dead:
    subscribe_to: [convert.dead_letter, publish.dead_letter]
    sink: { kafka: { bootstrap_servers: "${KAFKA:-embedded}", topic: eugenio.dead } }
profiles:
  prod: { stages: { publish: { sink: { kafka: { properties: { compression.type: zstd } } } } } }
"#;

fn env(name: &str) -> Option<String> {
    match name {
        "KAFKA" => Some("kafka:9092".into()),
        "COUNT" => Some("7".into()),
        _ => None,
    }
}

fn load_text(yaml: &str, overrides: &Overrides, setting: Setting) -> Result<Config, Problems> {
    let document = Document::parse(&"p.yaml".into(), yaml.to_owned(), PathBuf::new(), overrides)?;
    document.check_with(setting, Files::None, &env)
}

/// What is wrong with `yaml`, a line each.
fn wrong(yaml: &str) -> String {
    match load_text(yaml, &Overrides::default(), Setting::Together) {
        Ok(config) => config.warnings.to_string(),
        Err(problems) => problems.to_string(),
    }
}

/// What is wrong with the Eugenio pipeline once `from` is `to` in it.
fn changed(from: &str, to: &str) -> String {
    assert!(EUGENIO.contains(from), "{from}");
    wrong(&EUGENIO.replacen(from, to, 1))
}

#[test]
fn the_designs_example_is_valid_together_and_apart() {
    for setting in [Setting::Together, Setting::Apart, Setting::Anywhere] {
        let config = load_text(EUGENIO, &Overrides::default(), setting).unwrap();
        assert_eq!(config.warnings.to_string(), "");
        let order: Vec<&str> = config.in_order().into_iter().map(|(name, _)| name).collect();
        assert_eq!(order, ["ingest", "convert", "publish", "dead"]);
    }
}

#[test]
fn a_profile_and_set_change_the_pipeline() {
    let overrides = Overrides {
        profile: Some("prod".into()),
        set: vec!["stages.convert.concurrency=9".into()],
        ..Overrides::default()
    };
    let config = load_text(EUGENIO, &overrides, Setting::Apart).unwrap();
    assert_eq!(config.json.pointer("/stages/publish/sink/kafka/properties/compression.type").unwrap(), "zstd");
    assert_eq!(config.pipeline.stages["convert"].concurrency, 9);
    let overrides = Overrides { profile: Some("prid".into()), ..Overrides::default() };
    let problems = load_text(EUGENIO, &overrides, Setting::Apart).unwrap_err().to_string();
    assert_eq!(problems, "p.yaml:1:1: error: there is no profile `prid` (did you mean `prod`?)");
}

#[test]
fn a_number_may_come_out_of_a_variable_and_a_string_of_digits_stays_one() {
    let yaml = EUGENIO
        .replace("topics_max: 50", "topics_max: \"${COUNT}\"")
        .replace("topic: eugenio.dead", "topic: \"${COUNT}\"");
    let config = load_text(&yaml, &Overrides::default(), Setting::Apart).unwrap();
    assert_eq!(config.json.pointer("/stages/publish/sink/kafka/topics_max").unwrap(), 7);
    assert_eq!(config.json.pointer("/stages/dead/sink/kafka/topic").unwrap(), "7");
}

#[test]
fn all_errors_come_at_once_in_the_order_of_the_file() {
    let yaml = EUGENIO
        .replace("websocket:", "websockt:")
        .replace("subscribe_to: [ingest]", "subscribe_too: [ingest]")
        .replace("topics_max: 50", "topics_max: many");
    insta::assert_snapshot!(wrong(&yaml), @r##"
p.yaml:10:7: error: unknown key `websockt` in `stages.ingest.source` (did you mean `websocket`?)
p.yaml:13:5: error: unknown key `subscribe_too` in `stages.convert` (did you mean `subscribe_to`?)
p.yaml:18:102: error: `stages.publish.sink.kafka.topics_max` must be a whole number, not a string
"##);
}

#[test]
fn mistakes_of_shape_hide_no_mistakes_of_meaning_elsewhere() {
    let yaml = EUGENIO
        .replace("path: /ws", "pth: /ws")
        .replace("subscribe_to: [ingest]", "subscribe_to: [ingst]")
        .replace("pipeline: eugenio", "pipeline: Eugenio")
        .replace("topic: eugenio.dead", "topic: \"${NOWHERE}\"")
        .replace("subscribe_to: [convert]", "subscribe_to: [dead.dead_letter, convert]\n    timeout: 0s");
    insta::assert_snapshot!(wrong(&yaml), @r##"
p.yaml:2:11: error: `Eugenio`: a pipeline's name has 1 to 63 lower-case letters, digits, `-` and `_`, a letter first
p.yaml:10:20: error: unknown key `pth` in `stages.ingest.source.websocket` (did you mean `path`?)
p.yaml:13:20: error: there is no stage `ingst` (did you mean `ingest`?)
p.yaml:18:14: error: `timeout` must be above zero
p.yaml:22:70: error: environment variable NOWHERE is not set; `${NOWHERE:-default}` gives it a default
"##);
}

#[test]
fn every_stage_says_what_is_wrong_with_it() {
    let yaml = EUGENIO
        .replace("dns: \"ingest:7400\"", "dns: ingest")
        .replace("dns: \"convert:7400\"", "list: []")
        .replace("dns: \"publish:7400\"", "dns: \"publish:7400\", srv: publish");
    insta::assert_snapshot!(wrong(&yaml), @r##"
p.yaml:5:5: error: `stages.ingest.at`: `ingest` is not HOST:PORT, such as `ingest:7400` or `[::1]:7400` (port 1 to 65535)
p.yaml:12:5: error: `stages.convert.at`: `list` is empty: it names each instance as HOST:PORT
p.yaml:16:32: error: `stages.publish.at` takes exactly one of its keys, not `dns` and `srv` together
"##);
}

#[test]
fn mistakes_in_profiles_that_are_not_chosen_are_told() {
    let profiles = |text: &str| {
        let (pipeline, _) = EUGENIO.split_once("profiles:").unwrap();
        wrong(&format!("{pipeline}profiles:{text}"))
    };
    let mut all = String::new();
    for text in [
        " 3",
        " [prod]",
        "\n  prod: 3",
        "\n  prod: { stages: { publish: { sink: { kafka: { topics_maxx: 5 } } } } }",
        "\n  prod: { stages: { publish: { sink: { kafka: { topics_max: many } } } } }",
        "\n  prod: { stages: { publsh: { concurrency: 3 } } }",
        "\n  prod: { stages: { convert: { subscribe_to: [ingst] } } }",
        "\n  prod: { stges: {} }",
        "\n  prod: { stages: { ingest: { at: { dns: 7 } } } }\n  dev: { stages: { dead: null, ingest: { ky: a } } }",
    ] {
        all.push_str(&format!("#{text}\n{}\n", profiles(text)));
    }
    insta::assert_snapshot!(all, @r##"
# 3
p.yaml:22:1: error: `profiles` must be a map of profiles
# [prod]
p.yaml:22:1: error: `profiles` must be a map of profiles
#
  prod: 3
p.yaml:23:3: error: profile `prod` must be a map
#
  prod: { stages: { publish: { sink: { kafka: { topics_maxx: 5 } } } } }
p.yaml:23:49: error: unknown key `topics_maxx` in `stages.publish.sink.kafka` (did you mean `topics_max`?)
#
  prod: { stages: { publish: { sink: { kafka: { topics_max: many } } } } }
p.yaml:23:61: error: `stages.publish.sink.kafka.topics_max` must be a whole number, not a string
#
  prod: { stages: { publsh: { concurrency: 3 } } }
p.yaml:23:21: error: there is no stage `publsh`: the file has ingest, convert, publish, dead (did you mean `publish`?)
#
  prod: { stages: { convert: { subscribe_to: [ingst] } } }
p.yaml:23:47: error: there is no stage `ingst` (did you mean `ingest`?)
#
  prod: { stges: {} }
p.yaml:23:11: error: unknown key `stges` (did you mean `stages`?)
#
  prod: { stages: { ingest: { at: { dns: 7 } } } }
  dev: { stages: { dead: null, ingest: { ky: a } } }
p.yaml:23:42: error: `stages.ingest.at.dns` must be a string, not 7
p.yaml:24:42: error: unknown key `ky` in `stages.ingest` (did you mean `key`?)
"##);
    let many: String = (0..65).map(|n| format!("\n  p{n}: {{}}")).collect();
    assert_eq!(profiles(&many), "p.yaml:22:1: error: 65 profiles, more than 64");
}

#[test]
fn a_profile_that_is_not_chosen_needs_no_variables() {
    let (pipeline, _) = EUGENIO.split_once("profiles:").unwrap();
    let kafka = "{ kafka: { topics_max: \"${UNSET}\", topic: \"${UNSET}\" } }";
    assert_eq!(wrong(&format!("{pipeline}profiles:\n  prod: {{ stages: {{ publish: {{ sink: {kafka} }} }} }}")), "");
    assert_eq!(wrong(&format!("{pipeline}profiles:\n")), "");
}

#[test]
fn mistakes_of_shape_say_where_they_are_and_what_would_be_right() {
    let mut all = String::new();
    for (from, to) in [
        ("version: 1", "version: 2"),
        ("version: 1\n", ""),
        ("version: 1", "version: one"),
        ("{ kafka: { bootstrap_servers", "{ kafak: { bootstrap_servers"),
        ("sink: { kafka: { bootstrap_servers: \"${KAFKA:-embedded}\", topic: eugenio.dead } }", "sink: kafka"),
        ("[ingest]", "[{ stage: ingest, group: requird }]"),
        ("[ingest]", "[{ stge: ingest }]"),
        ("[ingest]", "[3]"),
        ("[ingest]", "ingest"),
        ("at: { dns: \"ingest:7400\" }", "at: { dsn: \"ingest:7400\" }"),
        ("at: { dns: \"ingest:7400\" }", "at: { dns: \"ingest\" }"),
        ("deadline: 30s", "deadline: 30 parsecs"),
        ("    key:", "    log: { bytes: 3 apples }\n    key:"),
        ("    key:", "    log: { events: 0 }\n    key:"),
        ("    key:", "    limits: { parse_bytes: 1 }\n    key:"),
        ("    key: \"{{data.deviceId}}\"", "    key: \"{{data.deviceId\""),
        ("{ path: /ws }", "{ path: /ws, path: /w }"),
        ("${KAFKA:-embedded}", "${KAFKAA}"),
        ("pipeline: eugenio", "pipeline: [a"),
        ("pipeline: eugenio", "pipeline: Eugênio"),
    ] {
        all.push_str(&format!("# {to}\n{}\n", changed(from, to)));
    }
    insta::assert_snapshot!(all, @r##"
# version: 2
p.yaml:1:10: error: `version` must be at most 1
# 
p.yaml:1:1: error: the file needs a key `version`
# version: one
p.yaml:1:10: error: `version` must be a whole number, not a string
# { kafak: { bootstrap_servers
p.yaml:18:13: error: unknown key `kafak` in `stages.publish.sink` (did you mean `kafka`?)
# sink: kafka
p.yaml:21:11: error: `stages.dead.sink` must be a map, not a string
# [{ stage: ingest, group: requird }]
p.yaml:13:44: error: `stages.convert.subscribe_to.0.group` can't be `requird` (did you mean `required`?)
# [{ stge: ingest }]
p.yaml:13:22: error: unknown key `stge` in `stages.convert.subscribe_to.0` (did you mean `stage`?)
# [3]
p.yaml:13:20: error: `stages.convert.subscribe_to.0` must be a string or a map, not 3
# ingest
p.yaml:13:19: error: `stages.convert.subscribe_to` must be a list, not a string
# at: { dsn: "ingest:7400" }
p.yaml:5:11: error: unknown key `dsn` in `stages.ingest.at` (did you mean `dns`?)
# at: { dns: "ingest" }
p.yaml:5:5: error: `stages.ingest.at`: `ingest` is not HOST:PORT, such as `ingest:7400` or `[::1]:7400` (port 1 to 65535)
# deadline: 30 parsecs
p.yaml:9:69: error: `stages.ingest.source.http.deadline` must be a duration with its unit: 500ms, 30s, 2m, 1h30m, 7d
#     log: { bytes: 3 apples }
    key:
p.yaml:6:19: error: `stages.ingest.log.bytes` must be a size in bytes: 4096, 64KiB, 1MiB, 2MB
#     log: { events: 0 }
    key:
p.yaml:6:20: error: `stages.ingest.log.events` must be at least 1
#     limits: { parse_bytes: 1 }
    key:
p.yaml:6:28: error: `limits.parse_bytes` must be at least 1 KiB, not 1 bytes
#     key: "{{data.deviceId"
p.yaml:6:10: error: not a template: `{{` without `}}` (at byte 0)
# { path: /ws, path: /w }
p.yaml:10:31: error: duplicate mapping key: path
# ${KAFKAA}
p.yaml:18:41: error: environment variable KAFKAA is not set; `${KAFKAA:-default}` gives it a default
# pipeline: [a
p.yaml:3:7: error: illegal placement of ':' indicator
# pipeline: Eugênio
p.yaml:2:11: error: `Eugênio`: a pipeline's name has 1 to 63 lower-case letters, digits, `-` and `_`, a letter first
"##);
}

#[test]
fn mistakes_of_meaning_say_where_they_are_and_what_would_be_right() {
    let mut all = String::new();
    for (from, to) in [
        ("subscribe_to: [ingest]", "subscribe_to: [ingst]"),
        ("subscribe_to: [convert]", "subscribe_to: [convert.dead_leter]"),
        ("subscribe_to: [convert]", "subscribe_to: [dead]"),
        ("subscribe_to: [convert.dead_letter, publish.dead_letter]", "subscribe_to: [ingest.dead_letter]"),
        ("subscribe_to: [ingest]", "subscribe_to: [ingest, ingest]"),
        ("subscribe_to: [ingest]", "subscribe_to: [ingest, publish.dead_letter]"),
        ("    subscribe_to: [ingest]\n", ""),
        ("    key:", "    subscribe_to: [convert]\n    key:"),
        ("subscribe_to: [convert]", "subscribe_to: [{ stage: convert, group: tap }]"),
        ("    transform: {", "    sink: { blackhole: {} }\n    transform: {"),
        ("    transform: { vrl: { file: mappings/eugenio.vrl } }\n", ""),
        ("[convert.dead_letter, publish.dead_letter]", "[convert.dead_letter]"),
        ("    subscribe_to: [ingest]", "    key: a\n    subscribe_to: [ingest]"),
        ("    key:", "    window: { min_demand: 3000 }\n    key:"),
        ("    key:", "    tls: { key: a.pem }\n    key:"),
        ("subscribe_to: [ingest]", "subscribe_to: [{ stage: ingest, producers: 2 }]"),
    ] {
        all.push_str(&format!("# {to}\n{}\n", changed(from, to)));
    }
    insta::assert_snapshot!(all, @r##"
# subscribe_to: [ingst]
p.yaml:4:3: error: nothing subscribes to `ingest` with a required group: its events would wait for ever
p.yaml:13:20: error: there is no stage `ingst` (did you mean `ingest`?)
# subscribe_to: [convert.dead_leter]
p.yaml:11:3: error: nothing subscribes to `convert` with a required group: its events would wait for ever
p.yaml:17:20: error: stage `convert` has no output `dead_leter` (did you mean `convert.dead_letter`?)
# subscribe_to: [dead]
p.yaml:11:3: error: nothing subscribes to `convert` with a required group: its events would wait for ever
p.yaml:17:5: error: a cycle: dead -> publish -> dead
p.yaml:17:20: error: stage `dead` is a sink: it has no output but `dead.dead_letter`
# subscribe_to: [ingest.dead_letter]
p.yaml:11:3: warning: nothing subscribes to `convert.dead_letter`: rejected events are answered, counted and logged, and gone
p.yaml:15:3: warning: nothing subscribes to `publish.dead_letter`: rejected events are answered, counted and logged, and gone
p.yaml:20:20: error: stage `ingest` is a source: what it refuses it answers, and it has no dead letters (valid here: ingest)
# subscribe_to: [ingest, ingest]
p.yaml:13:28: error: `ingest` stands here twice
# subscribe_to: [ingest, publish.dead_letter]
p.yaml:17:5: error: a cycle: convert -> publish -> convert
# 
p.yaml:4:3: error: nothing subscribes to `ingest` with a required group: its events would wait for ever
p.yaml:11:3: error: stage `convert` has a transform but no `subscribe_to`: no event would ever reach it
#     subscribe_to: [convert]
    key:
p.yaml:6:5: error: a cycle: convert -> ingest -> convert
p.yaml:6:5: error: stage `ingest` has a source, so it can't subscribe to anything
# subscribe_to: [{ stage: convert, group: tap }]
p.yaml:11:3: error: nothing subscribes to `convert` with a required group: its events would wait for ever
#     sink: { blackhole: {} }
    transform: {
p.yaml:15:5: error: stage `convert` has transform and sink; a stage has exactly one of them
p.yaml:18:20: error: stage `convert` is a sink: it has no output but `convert.dead_letter` (valid here: convert.dead_letter)
# 
p.yaml:11:3: error: stage `convert` needs one of `source`, `transform` and `sink`
# [convert.dead_letter]
p.yaml:15:3: warning: nothing subscribes to `publish.dead_letter`: rejected events are answered, counted and logged, and gone
#     key: a
    subscribe_to: [ingest]
p.yaml:13:10: error: `key` is set where an event enters: only on a stage with a source
#     window: { min_demand: 3000 }
    key:
p.yaml:6:27: error: min_demand 3000 must be below max_demand 2000
#     tls: { key: a.pem }
    key:
p.yaml:6:5: error: `cert` and `key` go together
# subscribe_to: [{ stage: ingest, producers: 2 }]
p.yaml:13:48: error: `producers` needs `dispatch: demand`: all events of a key go to one instance, wherever they come from
"##);
}

#[test]
fn a_stage_before_another_takes_over_what_that_subscribes_to() {
    let added = "  real:\n    before: publish\n    at: { dns: \"real:7400\" }\n    transform: { filter: \"true\" }\n  publish:\n";
    let file = EUGENIO.replacen("  publish:\n", added, 1);
    let config = load_text(&file, &Overrides::default(), Setting::Apart).unwrap();
    let subscribed = |stage: &str| {
        config.pipeline.stages[stage].subscribe_to.iter().map(|wanted| wanted.output.as_str()).collect::<Vec<_>>()
    };
    assert_eq!((subscribed("real"), subscribed("publish")), (vec!["convert"], vec!["real"]));
    for (mistake, told) in [
        ("before: publsh", "there is no other stage `publsh` (did you mean `publish`?)"),
        ("before: ingest", "stage `ingest` subscribes to nothing"),
        ("subscribe_to: [convert]\n    before: publish", "leave out `subscribe_to`"),
    ] {
        let problems = wrong(&file.replace("before: publish", mistake));
        assert!(problems.contains(told), "{problems}");
    }
}

#[test]
fn dead_letters_without_a_subscriber_are_refused_where_the_source_answers_early() {
    let yaml = EUGENIO
        .replace("acknowledge: published", "acknowledge: accepted")
        .replace("[convert.dead_letter, publish.dead_letter]", "[convert.dead_letter]");
    insta::assert_snapshot!(wrong(&yaml), @r##"
p.yaml:15:3: error: nothing subscribes to `publish.dead_letter`, and source `ingest` answers before publishing: rejected events would be lost without a word
"##);
}

#[test]
fn a_source_that_makes_larger_events_than_its_consumers_take_is_refused_with_the_size_that_fits() {
    let source = &EUGENIO[EUGENIO.find("      acknowledge:").unwrap()..EUGENIO.find("  convert:").unwrap()];
    let made = |size: &str| {
        let file = EUGENIO.replace(source, &format!("      generate: {{ size: {size} }}\n"));
        file.replace("    transform:", "    limits: { event_bytes: 96KiB }\n    transform:")
    };
    let refused = wrong(&made("96KiB"));
    insta::assert_snapshot!(refused, @"p.yaml:8:25: error: `generate.size` must be at most 98111 bytes: with its attributes, a larger event is above 98304: what `convert` takes (its `limits.event_bytes`)");
    let fits = refused.split("at most ").nth(1).unwrap().split(' ').next().unwrap();
    assert_eq!(wrong(&made(fits)), "");
    assert_eq!(wrong(&made(&(fits.parse::<u64>().unwrap() + 1).to_string())), refused);
    let tap = made(fits).replace("profiles:", "  look:\n    subscribe_to: [{ stage: ingest, group: tap }]\n    limits: { event_bytes: 1KiB }\n    sink: { stdout: {} }\nprofiles:");
    assert_eq!(wrong(&tap), "", "what only looks takes nothing from anybody");
}

#[test]
fn a_source_that_takes_larger_events_than_its_consumers_is_told_and_refused_where_it_answers_early() {
    let early = EUGENIO.replace("acknowledge: published", "acknowledge: accepted");
    let source = |limit: &str| format!("      limits: {{ event_bytes: {limit} }}\n      websocket:");
    let mut all = String::new();
    for file in [EUGENIO, &early] {
        let small = file.replace("    transform:", "    limits: { event_bytes: 96KiB }\n    transform:");
        all.push_str(&format!("{}\n", wrong(&small)));
        all.push_str(&format!("{}\n", wrong(&file.replace("      websocket:", &source("513KiB")))));
        let equal = wrong(&small.replace("      websocket:", &source("96KiB")));
        assert_eq!(equal, "");
        let tap = file.replace("profiles:", "  look:\n    subscribe_to: [{ stage: ingest, group: tap }]\n    limits: { event_bytes: 1KiB }\n    sink: { stdout: {} }\nprofiles:");
        assert_eq!(wrong(&tap), "", "what only looks takes nothing from anybody");
        let huge = file.replace("    transform:", "    limits: { event_bytes: 8MiB }\n    transform:");
        all.push_str(&format!("{}\n", wrong(&huge.replace("      websocket:", &source("5MiB")))));
    }
    insta::assert_snapshot!(all, @r##"
p.yaml:7:5: warning: source `ingest` takes events of up to 262144 bytes, above 98304: what `convert` takes (its `limits.event_bytes`); larger ones are rejected only after they were taken
p.yaml:10:30: warning: source `ingest` takes events of up to 525312 bytes, above 524288: what `convert` takes (its `limits.event_bytes`); larger ones are rejected only after they were taken
p.yaml:10:30: warning: source `ingest` takes events of up to 5242880 bytes, above 4063232: what a frame of a link holds; larger ones are rejected only after they were taken
p.yaml:15:28: error: `limits.event_bytes` must be at most 4063232 bytes: what a frame of a link holds
p.yaml:7:5: error: source `ingest` takes events of up to 262144 bytes, above 98304: what `convert` takes (its `limits.event_bytes`); larger ones would be answered with 202 and lost
p.yaml:10:30: error: source `ingest` takes events of up to 525312 bytes, above 524288: what `convert` takes (its `limits.event_bytes`); larger ones would be answered with 202 and lost
p.yaml:10:30: error: source `ingest` takes events of up to 5242880 bytes, above 4063232: what a frame of a link holds; larger ones would be answered with 202 and lost
p.yaml:15:28: error: `limits.event_bytes` must be at most 4063232 bytes: what a frame of a link holds
"##);
}

#[test]
fn stages_apart_need_addresses_and_a_real_broker() {
    let yaml = EUGENIO.replace("    at: { dns: \"convert:7400\" }\n", "").replace("${KAFKA:-embedded}", "embedded");
    let problems = load_text(&yaml, &Overrides::default(), Setting::Apart).unwrap_err().to_string();
    insta::assert_snapshot!(problems, @r##"
p.yaml:11:3: error: stage `dead` subscribes to `convert`, which has no `at`: as separate processes it can't be found
p.yaml:17:41: error: `embedded` is the broker inside `jaiminho up`; a stage on its own needs a real one's HOST:PORT
p.yaml:20:41: error: `embedded` is the broker inside `jaiminho up`; a stage on its own needs a real one's HOST:PORT
"##);
    assert_eq!(wrong(&yaml), "");
    let subset = EUGENIO.replace("${KAFKA:-embedded}", "kafka:9092");
    let subset = subset
        .replace("[convert.dead", "[{ stage: convert.dead")
        .replace("letter, publ", "letter, dispatch: demand, producers: 2 }, publ");
    let problems =
        |yaml: &str| load_text(yaml, &Overrides::default(), Setting::Apart).err().map(|error| error.to_string());
    assert_eq!(problems(&subset.replace("  dead:\n", "  dead:\n    at: { dns: \"dead:7400\" }\n")), None);
    insta::assert_snapshot!(problems(&subset).unwrap(), @"p.yaml:19:3: error: stage `dead` has no `at`: with `producers` its instances have to find one another");
    assert!(!load_text(&yaml, &Overrides::default(), Setting::Anywhere).unwrap().warnings.has_errors());
}

#[test]
fn the_schema_tells_the_factor_that_parsing_reserves() {
    let told = format!("can need {} times its text", jaiminho_convert::TREE_BYTES_PER_TEXT_BYTE);
    assert!(pipeline_schema(&Registry::default()).to_string().contains(&told));
}

#[test]
fn every_figure_of_the_links_terms_is_the_one_that_links_are_made_with() {
    let yaml = EUGENIO.replace(
        "    transform:",
        "    limits: { event_bytes: 96KiB, links: 5 }\n    window: { bytes: 2MiB }\n    transform:",
    );
    let config = load_text(&yaml, &Overrides::default(), Setting::Apart).unwrap();
    let terms = memory::terms(&config, "convert", &config.pipeline.stages["convert"], 3);
    let bytes = |name| terms.iter().find(|term| term.name == name).unwrap().bytes;
    let (event, window) = (96 << 10, 2 << 20);
    assert_eq!(bytes("links in"), 5 * (window + 2_000 * 128 + event));
    assert_eq!(bytes("links in, unread"), 5 * jaiminho_link::memory::unread_bytes_max(window, event));
    let columns = 2 * jaiminho_core::FRAME_BYTES;
    assert_eq!(bytes("links out, unsent"), 5 * (jaiminho_link::memory::unsent_bytes_max(event) + columns));
    assert_eq!(bytes("connections at the stage's port"), 10 * jaiminho_link::memory::connection_bytes_max());
    assert_eq!(bytes("messages being read or written"), 3 * jaiminho_link::memory::coding_bytes_max(event));
}

#[test]
fn a_default_instance_of_each_stage_fits_into_512_mib() {
    let config = load_text(EUGENIO, &Overrides::default(), Setting::Apart).unwrap();
    for (name, stage) in config.in_order() {
        let terms = memory::terms(&config, name, stage, 4);
        let names: BTreeSet<_> = terms.iter().map(|term| term.name).collect();
        assert!(names.len() == terms.len() && !terms.is_empty(), "{name}");
        assert!(memory::sum(&terms) <= 480 << 20, "{name}: {} {terms:#?}", memory::human(memory::sum(&terms)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn random_text_never_panics(yaml in "[ -~\n]{0,200}") {
        let _problems = wrong(&yaml);
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _problems = wrong(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn a_mutated_pipeline_never_panics_and_its_problems_have_places(
        cuts in proptest::collection::vec((0..EUGENIO.len(), 0..12_usize, "[ -~\n]{0,6}"), 1..4),
    ) {
        let mut yaml = EUGENIO.to_owned();
        for (at, length, insert) in cuts {
            let at = at.min(yaml.len());
            let end = (at + length).min(yaml.len());
            yaml.replace_range(at..end, &insert);
        }
        let peak = allocation_counter::measure(|| drop(wrong(&yaml))).bytes_max;
        prop_assert!(peak <= 4 << 20, "{} bytes", peak);
        if let Err(problems) = load_text(&yaml, &Overrides::default(), Setting::Anywhere) {
            prop_assert!(problems.has_errors());
            for problem in problems.0 {
                prop_assert!(problem.to_string().starts_with("p.yaml"), "{}", problem);
            }
        }
    }
}
