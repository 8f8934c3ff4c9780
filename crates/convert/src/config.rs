//! What `transform:` says: one step, or a list of steps, in this order: `dedupe`, `sample` and
//! `throttle`, `vrl` and `filter`, and at last `route`; or `batch` alone.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use jaiminho_event::units::HumanDuration;
use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor, value},
};

use crate::batch::Batch;

/// The steps of a transform, in order: what one emits, the next takes. One step need not be a list.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(untagged)]
pub enum TransformConfig {
    /// One step.
    Step(Step),
    /// Steps in order.
    Steps(#[schemars(length(min = 1))] Vec<Step>),
}

/// One step: a map with exactly one key.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum Step {
    /// A VRL program. `.` is the event in CloudEvents' JSON format; an array left in it means many events, `null` none,
    /// and `abort "reason"` rejects the event.
    Vrl(Source),
    /// A VRL expression of type boolean; events for which it is `true` are kept, unchanged.
    Filter(String),
    /// Of events with the same source and id only the first goes through; the others share what becomes of it. Stands before all other
    /// steps.
    Dedupe(Dedupe),
    /// Keeps a part of the events, of which an event is or is not whenever it is delivered; the others are done. Stands before `vrl` and
    /// `filter`: it decides by the event as the stage gets it.
    Sample(Sample),
    /// Lets events of a key through at most so fast, in each instance. Stands before `vrl` and `filter`: it decides by the event as the
    /// stage gets it.
    Throttle(Throttle),
    /// Named outputs by condition; other stages subscribe to `STAGE.OUTPUT`. Only the last step can be one, and the stage has
    /// no output of its own name then.
    Route(Route),
    /// Makes one event of many, with a JSON array of them as data (`application/cloudevents-batch+json`); all are settled when it is. It
    /// is a stage's only step.
    Batch(Batch),
}

/// How long, and of how many events, an instance drops the copies.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dedupe {
    /// How long an event is remembered after it was accepted.
    #[serde(default = "window")]
    pub window: HumanDuration,
    /// Events known at once, those in work included; beyond it the oldest one remembered is forgotten.
    #[serde(default = "ids_max")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub ids_max: u32,
}

fn window() -> HumanDuration {
    HumanDuration::from_secs(600)
}

fn ids_max() -> u32 {
    100_000
}

/// Which part of the events is kept.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// The share that is kept, from 0 to 1.
    #[schemars(range(min = 0, max = 1))]
    pub rate: f64,
    /// A template: of a key all events are kept, or none. Default: each event by its source and id.
    pub key: Option<String>,
}

/// How fast events may go on.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Throttle {
    /// Events a second, of each key.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub rate: f64,
    /// How many may go at once after a pause. Default: those of a second, one at least.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: Option<u32>,
    /// A template for the key. Default: all events have one.
    pub key: Option<String>,
    /// Keys that are told apart at once; all further ones share one rate.
    #[serde(default = "keys_max")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub keys_max: u32,
    /// What becomes of an event that comes too fast.
    #[serde(default)]
    pub over: Over,
}

/// What becomes of an event that comes too fast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Over {
    /// It waits, and pushes back.
    #[default]
    Wait,
    /// It is rejected.
    Reject,
    /// It is done, as if it were filtered.
    Drop,
}

fn keys_max() -> u32 {
    10_000
}

/// Where an event goes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// A VRL expression of type boolean for each output. An event goes, unchanged, to every output whose expression is `true`.
    #[serde(deserialize_with = "in_order")]
    #[schemars(with = "BTreeMap<String, String>", extend("minProperties" = 1, "maxProperties" = OUTPUTS_MAX))]
    pub outputs: Vec<(String, String)>,
    /// Where an event goes for which none is. Without it such an event is done, as if it were filtered.
    pub r#else: Option<String>,
    /// An event goes only to the first output, in the order of the file, whose expression is `true`.
    #[serde(default)]
    pub exclusive: bool,
}

/// What a [`Throttle`] keeps of a key, in a table that doubles as it grows.
pub const KEY_BYTES: u64 = 96;

/// Most outputs of a [`Route`].
pub const OUTPUTS_MAX: usize = 64;

/// Where a VRL program is. Short form: the program itself, as a string (the same as `inline`).
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(untagged)]
pub enum Source {
    /// The program itself.
    Short(String),
    /// The long form.
    Long(SourceLong),
}

/// A map with exactly one key.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum SourceLong {
    /// A file, relative to the pipeline file's folder.
    File(PathBuf),
    /// The program itself.
    Inline(String),
}

impl TransformConfig {
    /// Its steps in order.
    pub fn steps(&self) -> &[Step] {
        match self {
            Self::Step(step) => std::slice::from_ref(step),
            Self::Steps(steps) => steps,
        }
    }

    /// Files of its programs, as they are named.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.steps().iter().filter_map(|step| {
            if let Step::Vrl(Source::Long(SourceLong::File(path))) = step { Some(path.as_path()) } else { None }
        })
    }

    /// The names of its outputs, each once, where it has a [`Route`]: what the indices of emitted events mean.
    pub fn outputs(&self) -> Option<Vec<&str>> {
        self.steps().iter().find_map(|step| match step {
            Step::Route(route) => Some(route.names()),
            Step::Dedupe(_) | Step::Vrl(_) | Step::Filter(_) | Step::Sample(_) | Step::Throttle(_) | Step::Batch(_) => {
                None
            }
        })
    }

    /// How it makes batches, if it does.
    pub fn batch(&self) -> Option<&Batch> {
        match self.steps() {
            [Step::Batch(batch)] => Some(batch),
            _ => None,
        }
    }

    /// Keys that it tells apart at once: each takes [`KEY_BYTES`].
    pub fn keys_max(&self) -> u64 {
        let keys = self.steps().iter().map(|step| match step {
            Step::Throttle(throttle) if throttle.key.is_some() => u64::from(throttle.keys_max),
            Step::Throttle(_)
            | Step::Dedupe(_)
            | Step::Vrl(_)
            | Step::Filter(_)
            | Step::Sample(_)
            | Step::Route(_)
            | Step::Batch(_) => 0,
        });
        keys.sum()
    }

    /// Which copies of events it drops.
    pub fn dedupe(&self) -> Option<jaiminho_runtime::Dedupe> {
        self.steps().iter().find_map(|step| match step {
            Step::Dedupe(Dedupe { window, ids_max }) => {
                Some(jaiminho_runtime::Dedupe { window: window.0, ids_max: *ids_max as usize })
            }
            Step::Vrl(_) | Step::Filter(_) | Step::Sample(_) | Step::Throttle(_) | Step::Route(_) | Step::Batch(_) => {
                None
            }
        })
    }
}

impl Route {
    /// Its outputs, each once.
    pub(crate) fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.outputs.iter().map(|(name, _)| name.as_str()).collect();
        names.extend(self.r#else.as_deref().filter(|name| !self.outputs.iter().any(|(known, _)| known == name)));
        names
    }
}

fn in_order<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, String)>, D::Error> {
    struct Entries;
    impl<'de> Visitor<'de> for Entries {
        type Value = Vec<(String, String)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map of outputs and their expressions")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut entries = Vec::new();
            while let Some(entry) = map.next_entry()? {
                entries.push(entry);
                if entries.len() > OUTPUTS_MAX {
                    return Err(de::Error::invalid_length(entries.len(), &self));
                }
            }
            if entries.is_empty() { Err(de::Error::invalid_length(0, &"at least one output")) } else { Ok(entries) }
        }
    }
    deserializer.deserialize_map(Entries)
}

// By hand: derived ones would answer most mistakes with "did not match any variant".
impl<'de> Deserialize<'de> for TransformConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StepsVisitor;
        impl<'de> Visitor<'de> for StepsVisitor {
            type Value = TransformConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a step ({STEP_WORDS}) or a list of steps")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                StepVisitor.visit_map(map).map(TransformConfig::Step)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                let steps = Vec::<Step>::deserialize(value::SeqAccessDeserializer::new(seq))?;
                if steps.is_empty() {
                    return Err(de::Error::invalid_length(0, &"at least one step"));
                }
                in_their_places(&steps).map_err(de::Error::custom)?;
                Ok(TransformConfig::Steps(steps))
            }
        }
        deserializer.deserialize_any(StepsVisitor)
    }
}

fn in_their_places(steps: &[Step]) -> Result<(), &'static str> {
    let place = |step: &Step| match step {
        Step::Dedupe(_) => 0,
        Step::Sample(_) | Step::Throttle(_) => 1,
        Step::Vrl(_) | Step::Filter(_) => 2,
        Step::Route(_) => 3,
        Step::Batch(_) => 4,
    };
    for (before, after) in steps.iter().zip(steps.iter().skip(1)) {
        match (place(before), place(after)) {
            (4, _) | (_, 4) => return Err("`batch` must be the only step: give it a stage of its own"),
            (_, 0) => return Err("`dedupe` must be the first step, and stands there once"),
            (3, _) => return Err("`route` must be the last step"),
            (2, 1) => return Err("`sample` and `throttle` must stand before `vrl` and `filter`"),
            _ => {}
        }
    }
    Ok(())
}

const STEP_WORDS: &str = "`vrl:`, `filter:`, `dedupe:`, `sample:`, `throttle:`, `route:` or `batch:`";

struct StepVisitor;

impl<'de> Visitor<'de> for StepVisitor {
    type Value = Step;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a step: {STEP_WORDS}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        const KEYS: &[&str] = &["vrl", "filter", "dedupe", "sample", "throttle", "route", "batch"];
        let step = match map.next_key::<String>()?.as_deref() {
            Some("vrl") => Step::Vrl(map.next_value()?),
            Some("filter") => Step::Filter(map.next_value()?),
            Some("dedupe") => Step::Dedupe(map.next_value()?),
            Some("sample") => Step::Sample(map.next_value()?),
            Some("throttle") => Step::Throttle(map.next_value()?),
            Some("route") => Step::Route(map.next_value()?),
            Some("batch") => Step::Batch(map.next_value()?),
            Some(other) => return Err(de::Error::unknown_field(other, KEYS)),
            None => return Err(de::Error::custom("a step is empty; expected one of its keys")),
        };
        no_more(map, KEYS, "a step has one key; for two steps write a list")?;
        Ok(step)
    }
}

impl<'de> Deserialize<'de> for Step {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StepVisitor)
    }
}

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SourceVisitor;
        impl<'de> Visitor<'de> for SourceVisitor {
            type Value = Source;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a VRL program, `{file: PATH}` or `{inline: PROGRAM}`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Source::Short(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                const KEYS: &[&str] = &["file", "inline"];
                let source = match map.next_key::<String>()?.as_deref() {
                    Some("file") => SourceLong::File(map.next_value()?),
                    Some("inline") => SourceLong::Inline(map.next_value()?),
                    Some(other) => return Err(de::Error::unknown_field(other, KEYS)),
                    None => return Err(de::Error::custom("`vrl` is empty; expected `file` or `inline`")),
                };
                no_more(map, KEYS, "`vrl` has either `file` or `inline`")?;
                Ok(Source::Long(source))
            }
        }
        deserializer.deserialize_any(SourceVisitor)
    }
}

fn no_more<'de, A: MapAccess<'de>>(mut map: A, keys: &'static [&'static str], rule: &str) -> Result<(), A::Error> {
    match map.next_key::<String>()? {
        None => Ok(()),
        Some(key) if keys.contains(&key.as_str()) => Err(de::Error::custom(rule)),
        Some(key) => Err(de::Error::unknown_field(&key, keys)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<TransformConfig, String> {
        serde_json::from_str(text).map_err(|e| e.to_string())
    }

    #[test]
    fn a_step_and_a_list_of_steps_are_read() {
        let one = parse(r#"{"vrl": {"file": "mappings/a.vrl"}}"#).unwrap();
        assert_eq!(one.steps(), [Step::Vrl(Source::Long(SourceLong::File("mappings/a.vrl".into())))]);
        let many = parse(r#"[{"vrl": ".x = 1"}, {"vrl": {"inline": ".y = 1"}}, {"filter": "true"}]"#).unwrap();
        assert_eq!(many.steps().len(), 3);
        assert_eq!(many.steps()[0], Step::Vrl(Source::Short(".x = 1".into())));
    }

    #[test]
    fn the_schema_allows_what_is_read_and_nothing_else() {
        let schema = serde_json::to_value(schemars::schema_for!(TransformConfig)).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        for (text, allowed) in [
            (r#"{"vrl": {"file": "a.vrl"}}"#, true),
            (r#"{"vrl": ".x = 1"}"#, true),
            (r#"[{"vrl": {"inline": ".y = 1"}}, {"filter": "true"}]"#, true),
            (r#"{"lua": "x"}"#, false),
            (r#"{"vrl": {"file": "x", "inline": "y"}}"#, false),
            (r#"{"vrl": "x", "filter": "y"}"#, false),
            (r#"{"vrl": 7}"#, false),
            (r#"{"route": {"outputs": {"hot": "true", "odd": "false"}, "else": "rest", "exclusive": true}}"#, true),
            (r#"[{"vrl": ".x = 1"}, {"route": {"outputs": {"hot": "true"}}}]"#, true),
            (r#"[{"sample": {"rate": 0.1, "key": "{{subject}}"}}, {"throttle": {"rate": 5, "over": "drop"}}]"#, true),
            (r#"[{"dedupe": {}}, {"vrl": ".x = 1"}]"#, true),
            (r#"{"dedupe": {"window": "1h", "ids_max": 5}}"#, true),
            (r#"{"dedupe": {"window": "1 hour"}}"#, false),
            (r#"{"dedupe": {"key": "x"}}"#, false),
            (
                r#"{"batch": {"events": 10, "bytes": "64KiB", "time": "500ms", "key": "{{subject}}", "type": "b"}}"#,
                true,
            ),
            (r#"{"batch": {}}"#, true),
            (r#"{"batch": {"size": 10}}"#, false),
            (r#"{"sample": {"rate": "x"}}"#, false),
            (r#"{"throttle": {"burst": 5}}"#, false),
            (r#"{"throttle": {"rate": 5, "over": "board"}}"#, false),
            (r#"{"route": {"outputs": {}}}"#, false),
            (r#"{"route": {"outputs": {"hot": 1}}}"#, false),
            (r#"{"route": {"else": "rest"}}"#, false),
            ("[]", false),
            ("{}", false),
        ] {
            assert_eq!(parse(text).is_ok(), allowed, "{text}");
            assert_eq!(validator.is_valid(&serde_json::from_str(text).unwrap()), allowed, "{text}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        let cases = [
            (
                r#"{"lua": "x"}"#,
                "unknown field `lua`, expected one of `vrl`, `filter`, `dedupe`, `sample`, `throttle`, `route`, `batch`",
            ),
            (r#"{"vrl": {"path": "x"}}"#, "unknown field `path`, expected `file` or `inline`"),
            (r#"{"vrl": {"file": "x", "inline": "y"}}"#, "`vrl` has either `file` or `inline`"),
            (r#"{"vrl": "x", "filter": "y"}"#, "a step has one key; for two steps write a list"),
            (
                r#"[{"vrl": "x", "fitler": "y"}]"#,
                "unknown field `fitler`, expected one of `vrl`, `filter`, `dedupe`, `sample`, `throttle`, `route`, `batch`",
            ),
            ("{}", "a step is empty"),
            (r#"{"vrl": 7}"#, "expected a VRL program, `{file: PATH}` or `{inline: PROGRAM}`"),
            (
                r#""x""#,
                "expected a step (`vrl:`, `filter:`, `dedupe:`, `sample:`, `throttle:`, `route:` or `batch:`) or a list of steps",
            ),
            ("[]", "expected at least one step"),
            (r#"[{"route": {"outputs": {"a": "true"}}}, {"vrl": "x"}]"#, "`route` must be the last step"),
            (r#"[{"vrl": "x"}, {"batch": {}}]"#, "`batch` must be the only step: give it a stage of its own"),
            (r#"[{"filter": "true"}, {"sample": {"rate": 1}}]"#, "must stand before `vrl` and `filter`"),
            (r#"[{"sample": {"rate": 1}}, {"dedupe": {}}]"#, "`dedupe` must be the first step, and stands there once"),
            (r#"[{"dedupe": {}}, {"dedupe": {}}]"#, "`dedupe` must be the first step, and stands there once"),
            (r#"{"route": {"outputs": {}}}"#, "expected at least one output"),
        ];
        for (text, expected) in cases {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
