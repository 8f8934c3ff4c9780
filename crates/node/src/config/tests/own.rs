//! Components of the program's own.

use jaiminho_runtime::{Outside, Role};
use schemars::JsonSchema;
use serde::Deserialize;

use super::*;
use crate::registry::{ComponentKind, Settings};

/// Tells the time. Again and again.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Clock {
    /// Seconds between two events.
    every: u32,
    #[serde(default)]
    zones: Vec<Zone>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Zone {
    name: String,
}

impl Settings for Clock {
    fn check(&self) -> Result<(), String> {
        match self.every {
            0 => Err("`every` must be above zero".to_owned()),
            _ if self.zones.iter().any(|zone| zone.name.is_empty()) => Err("a zone has a name".to_owned()),
            _ => Ok(()),
        }
    }

    fn memory_bytes_max(&self) -> u64 {
        4096 * u64::from(self.every)
    }
}

/// Puts a mark on each event.
#[derive(Deserialize, JsonSchema)]
struct Mark {
    text: String,
}

impl Settings for Mark {}

fn own() -> Arc<Registry> {
    let mut own = Registry::default();
    own.add(ComponentKind::Source, "clock", |_: &Clock, _| Ok(Role::Source(Box::new(Outside))));
    own.add(ComponentKind::Transform, "mark", |mark: &Mark, _| Err(mark.text.clone().into()));
    own.add(ComponentKind::Sink, "mark", |mark: &Mark, _| Err(mark.text.clone().into()));
    Arc::new(own)
}

const TIME: &str = r#"version: 1
pipeline: time
stages:
  tell:
    key: "{{data.zone}}"
    source:
      clock: { every: 2, zones: [{ name: "${ZONE:-utc}" }] }
  mark:
    subscribe_to: [tell]
    transform: { mark: { text: a } }
  out:
    subscribe_to: [mark]
    sink: { mark: { text: b } }
  dead:
    subscribe_to: [mark.dead_letter, out.dead_letter, tell.dead_letter]
    sink: { blackhole: {} }
"#;

fn load_own(yaml: &str) -> Result<Config, Problems> {
    load_text(yaml, &Overrides { own: own(), ..Overrides::default() }, Setting::Together)
}

#[test]
fn the_programs_own_components_stand_in_the_file_as_built_in_ones_do() {
    let config = load_own(TIME).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.warnings.to_string(), "");
    let names = config.in_order().into_iter().map(|(_, stage)| stage.own().map_or("built in", |own| &own.name));
    assert_eq!(names.collect::<Vec<_>>(), ["clock", "mark", "mark", "built in"]);
    let component = |stage: &str| {
        let terms = memory::terms(&config, stage, &config.pipeline.stages[stage], 1);
        terms.into_iter().find(|term| term.name == "component").map(|term| term.bytes)
    };
    assert_eq!(component("tell"), Some(8_192), "as it says");
    assert_eq!(component("out"), Some(crate::MEMORY_BYTES_DEFAULT), "it says nothing");
    assert_eq!(component("dead"), None);
    let without = TIME.replace(", tell.dead_letter", "").replace(", out.dead_letter", "");
    let warnings = load_own(&without).unwrap().warnings.to_string();
    assert!(warnings.contains("nothing subscribes to `out.dead_letter`"), "{warnings}");
    assert!(!warnings.contains("tell.dead_letter"), "a source rarely rejects: {warnings}");
}

#[test]
fn mistakes_in_the_programs_own_components_have_their_place() {
    let mut all = String::new();
    for (from, to) in [
        ("clock:", "clok:"),
        ("every: 2", "evry: 2"),
        ("every: 2", "every: often"),
        ("every: 2", "every: 0"),
        ("every: 2", "every: -1"),
        ("every: 2, ", ""),
        ("{ name: \"${ZONE:-utc}\" }", "{ nam: utc }"),
        ("text: a", "text: a, colour: red"),
        ("{ mark: { text: a } }", "[{ mark: { text: a } }]"),
        ("{ mark: { text: b } }", "{ mrak: { text: b } }"),
        ("{ mark: { text: b } }", "{ mark: { text: b }, stdout: {} }"),
        ("{ mark: { text: b } }", "{ clock: { every: 3 } }"),
    ] {
        assert!(TIME.contains(from), "{from}");
        let problems = load_own(&TIME.replacen(from, to, 1)).map(drop).unwrap_err();
        all.push_str(&format!("# {from} -> {to}\n{problems}\n"));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn a_variable_in_the_programs_own_component_may_be_a_number() {
    let yaml = TIME.replace("every: 2", "every: \"${COUNT}\"");
    assert!(load_own(&yaml).is_ok());
}

#[test]
fn the_schema_for_editors_allows_the_programs_own_components_where_they_may_stand() {
    let schema = pipeline_schema(&own());
    let validator = jsonschema::validator_for(&schema).unwrap();
    let is_valid = |yaml: &str| {
        let json = crate::config::tree::Node::parse(&"p.yaml".into(), yaml).unwrap().to_json();
        validator.is_valid(&json)
    };
    assert!(is_valid(TIME));
    assert!(is_valid(EUGENIO));
    assert!(!is_valid(&TIME.replace("every: 2", "evry: 2")));
    assert!(!is_valid(&TIME.replace("{ mark: { text: a } }", "[{ mark: { text: a } }]")), "it is no step");
    let text = schema.to_string();
    assert!(text.contains("Seconds between two events.") && text.contains("Puts a mark on each event."), "{text}");
}

#[test]
fn a_name_that_is_taken_or_is_none_is_refused_at_the_start() {
    let refused = |kind, name: &str, twice: bool| {
        let mut own = Registry::default();
        for _ in 0..=usize::from(twice) {
            own.add(kind, name, |_: &Mark, _| Err("none".into()));
        }
        own.check(built_in_components).err().unwrap_or_default()
    };
    for (kind, name) in [
        (ComponentKind::Source, "http"),
        (ComponentKind::Source, "acknowledge"),
        (ComponentKind::Source, "kafka"),
        (ComponentKind::Transform, "route"),
        (ComponentKind::Transform, "vrl"),
        (ComponentKind::Sink, "stdout"),
    ] {
        assert_eq!(refused(kind, name, false), format!("{} `{name}`: a built-in one has this name", kind.key()));
    }
    let no_name = "sink `Mark`: a name has lower-case letters, digits, `-` and `_`, a letter first";
    assert_eq!(refused(ComponentKind::Sink, "Mark", false), no_name);
    assert_eq!(refused(ComponentKind::Sink, "mark", true), "sink `mark`: it is registered twice");
    assert_eq!(refused(ComponentKind::Sink, "vrl", false), "", "no sink has this name");
    assert_eq!(own().check(built_in_components), Ok(()));
}
