//! Stages with a `batch`, and `unordered` ones.

use super::*;

const VRL: &str = "vrl: { file: mappings/eugenio.vrl }";

#[test]
fn limits_of_a_batch_that_could_stall_are_refused() {
    let mut all = String::new();
    for batch in [
        "batch: {}",
        "batch: { events: 1500 }",
        "batch: { events: 5000 }",
        "batch: { bytes: 300KiB }",
        "batch: { bytes: 20MiB }",
        "batch: { time: 15s }",
        "batch: { time: 16s }",
        "batch: { time: 1 }",
        "batch: { size: 1 }",
    ] {
        all.push_str(&format!("# {batch}\n{}\n", changed(VRL, batch)));
    }
    for list in ["[{ batch: { time: 1h } }]", "[{ filter: \"true\" }, { batch: {} }]"] {
        all.push_str(&format!("# {list}\n{}\n", changed(&format!("{{ {VRL} }}"), list)));
    }
    let late = EUGENIO.replace(VRL, "batch: { time: 1h }").replace("acknowledge: published", "acknowledge: accepted");
    all.push_str(&format!("# nobody waits\n{}\n", wrong(&late)));
    let letters = EUGENIO.replace(
        "  dead:\n",
        "  letters:\n    subscribe_to: [convert.dead_letter]\n    transform: { batch: { events: 600 } }\n  dead:\n",
    );
    let letters = letters.replace("[convert.dead_letter, ", "[letters, ");
    all.push_str(&format!("# of dead letters\n{}\n", wrong(&letters)));
    let yaml = EUGENIO.replace(VRL, "batch: { key: \"{{\" }");
    let document = Document::parse(&"p.yaml".into(), yaml, PathBuf::new(), &Overrides::default()).unwrap();
    let problems = document.check_with(Setting::Together, Files::Programs, &env).unwrap_err();
    insta::assert_snapshot!(format!("{all}# a key\n{problems}"));
}

#[test]
fn what_a_batch_may_take_as_json_is_a_term_of_the_memory() {
    let yaml = EUGENIO.replace(VRL, "batch: { events: 100, bytes: 100KiB }");
    let yaml = yaml
        .replace("    subscribe_to: [ingest]\n", "    subscribe_to: [ingest]\n    limits: { event_bytes: 64KiB }\n");
    let config = load_text(&yaml, &Overrides::default(), Setting::Apart).unwrap();
    let terms = memory::terms(&config, "convert", &config.pipeline.stages["convert"], 3);
    let json = 6 * (100 << 10) + 100 * 96;
    let bytes = |name: &str| terms.iter().find(|term| term.name == name).unwrap().bytes;
    assert_eq!((bytes("a batch being made"), bytes("held in batches")), (2 * json, 32 * 1_000 * 512));
}

#[test]
fn unordered_is_refused_where_a_source_tells_that_events_are_published() {
    let unordered = |yaml: &str| wrong(&yaml.replace("    transform:", "    unordered: true\n    transform:"));
    let accepted = EUGENIO.replace("acknowledge: published", "acknowledge: accepted");
    let kafka = "source: { kafka: { bootstrap_servers: embedded, topics: [a], group: g } }\n  convert:";
    let (from, to) = (EUGENIO.find("    source:").unwrap(), EUGENIO.find("  convert:").unwrap());
    let of_kafka = format!("{}    {kafka}{}", &EUGENIO[..from], &EUGENIO[to + "  convert:".len()..]);
    let sink = wrong(&EUGENIO.replace("    sink:", "    unordered: true\n    sink:"));
    insta::assert_snapshot!(format!(
        "# published\n{}\n# accepted\n{}\n# kafka\n{}\n# of a sink\n{sink}",
        unordered(EUGENIO),
        unordered(&accepted),
        unordered(&of_kafka)
    ));
}
