//! What is wrong with a pipeline file is said at once, with its place, and nothing starts.

use jaiminho_tests::exit::{CONFIG, USAGE};
use jaiminho_tests::{Directory, jaiminho};

const GOOD: &str = r#"version: 1
pipeline: p
stages:
  in:
    source: { http: { listen: "127.0.0.1:0" } }
  out:
    subscribe_to: [in]
    sink: { blackhole: {} }
"#;

/// The exit code, and both streams.
async fn run(arguments: &[&str], file: &str) -> (Option<i32>, String) {
    let directory = Directory::new("config");
    directory.write("pipeline.yaml", file);
    let output = jaiminho(directory.path(), arguments).await;
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

#[tokio::test]
async fn a_good_file_is_valid_and_its_memory_is_told() {
    let (code, text) = run(&["validate"], GOOD).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("MiB"), "{text}");
}

#[tokio::test]
async fn warnings_and_mistakes_stand_beside_the_table_and_in_the_one_json_document() {
    let directory = Directory::new("streams");
    directory.write("good.yaml", GOOD);
    directory.write("bad.yaml", &GOOD.replace("blackhole: {}", "kafka: { topic: \"{{\", key: \"{{\" }"));
    let run = async |arguments: &[&str]| {
        let output = jaiminho(directory.path(), arguments).await;
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned())
    };
    let warning = "good.yaml:4:3: warning: stage `out` subscribes to `in`, which has no `at`: as separate processes it can't be found\n";
    let [table, told] = run(&["validate", "-f", "good.yaml"]).await;
    assert!(table.starts_with("Pipeline p is valid.") && !table.contains("warning"), "{table}");
    assert_eq!(told, warning);
    let [table, told] = run(&["validate", "-f", "bad.yaml"]).await;
    assert_eq!(table, "");
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(format!("{}\n", lines[0]), warning.replace("good", "bad"));
    assert_eq!(
        lines[2..],
        [
            "bad.yaml:8:13: error: bootstrap_servers or event_hubs is missing",
            "bad.yaml:8:29: error: topic: `{{` without `}}` (at byte 0)",
            "bad.yaml:8:40: error: key: `{{` without `}}` (at byte 0)",
        ]
    );
    for (file, valid, problems) in [("good.yaml", true, 1), ("bad.yaml", false, 5)] {
        let [document, told] = run(&["validate", "--json", "-f", file]).await;
        assert_eq!(told, "");
        let document: serde_json::Value = serde_json::from_str(&document).unwrap();
        assert_eq!(document["valid"], valid);
        assert_eq!(document["problems"].as_array().unwrap().len(), problems, "{document:#}");
    }
}

#[tokio::test]
async fn every_mistake_is_named_with_line_column_and_the_nearest_key() {
    let bad = GOOD.replace("subscribe_to", "subscribe_too").replace("listen", "lisen");
    let (code, text) = run(&["validate"], &bad).await;
    assert_eq!(code, Some(CONFIG), "{text}");
    for part in ["5:23", "`listen`", "7:5", "`subscribe_to`"] {
        assert!(text.contains(part), "{part} in:\n{text}");
    }
}

#[tokio::test]
async fn a_file_that_is_no_yaml_is_told_with_its_place() {
    let (code, text) = run(&["validate"], "version: 1\nstages: [\n").await;
    assert_eq!(code, Some(CONFIG), "{text}");
    assert!(text.contains("pipeline.yaml:"), "{text}");
}

#[tokio::test]
async fn a_stage_that_subscribes_to_nobody_known_is_told_who_is_there() {
    let (code, text) = run(&["validate"], &GOOD.replace("[in]", "[inn]")).await;
    assert_eq!(code, Some(CONFIG), "{text}");
    assert!(text.contains("7:20") && text.contains("`in`"), "{text}");
}

#[tokio::test]
async fn up_and_stage_refuse_what_validate_refuses_before_a_port_is_bound() {
    let bad = GOOD.replace("blackhole", "blackhoel");
    for arguments in [&["up"][..], &["stage", "out"]] {
        let (code, text) = run(arguments, &bad).await;
        assert_eq!(code, Some(CONFIG), "{text}");
        assert!(text.contains("`blackhole`"), "{text}");
    }
}

#[tokio::test]
async fn a_producer_without_an_address_can_not_run_apart() {
    let (code, text) = run(&["stage", "in"], GOOD).await;
    assert_eq!(code, Some(CONFIG), "{text}");
    assert!(text.contains("`at`"), "{text}");
}

#[tokio::test]
async fn the_embedded_broker_is_refused_outside_up() {
    let file = GOOD
        .replace("blackhole: {}", "kafka: { bootstrap_servers: embedded, topic: t }")
        .replace("  in:\n", "  in:\n    at: { dns: \"in:7400\" }\n");
    let (code, text) = run(&["stage", "out"], &file).await;
    assert_eq!(code, Some(CONFIG), "{text}");
    assert!(text.contains("embedded"), "{text}");
}

#[tokio::test]
async fn a_missing_file_and_an_unknown_stage_have_exit_codes_of_their_own() {
    let (code, text) = run(&["validate", "-f", "nowhere.yaml"], GOOD).await;
    assert_eq!(code, Some(CONFIG), "{text}");
    assert!(text.contains("nowhere.yaml"), "{text}");
    // Though what is wrong with the others would stop them.
    let (code, text) = run(&["stage", "ou"], GOOD).await;
    assert_eq!(code, Some(USAGE), "{text}");
    assert_eq!(text, "pipeline.yaml: error: there is no stage `ou`: the file has in, out (did you mean `out`?)\n");
    let (code, text) = run(&["stga"], GOOD).await;
    assert_eq!(code, Some(USAGE), "{text}");
}
