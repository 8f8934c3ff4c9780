//! Tests that lie beside a mapping, as YAML or JSON: an event in, the events or the rejection that must come out.
//!
//! ```yaml
//! stage: convert                  # whose transform; not needed where only one stage has one
//! defaults: { source: /devices }  # for each input that lacks them
//! schemas: { "https://example.org/m.json": ../schemas/m.json }   # by `dataschema`, relative to this file
//! tests:
//!   - name: Fahrenheit becomes Celsius
//!     input: { id: "1", type: raw, data: { f: 212 } }
//!     expect:                     # a list: what is named must be there and equal; null: must be absent
//!       - { id: "1", data: { c: 100 } }
//!   - name: without a reading nothing comes out
//!     input: { id: "2", type: raw, data: {} }
//!     expect: []
//!   - name: absolute zero
//!     input: { id: "3", type: raw, data: { f: -500 } }
//!     reject: below absolute zero   # a part of the reason
//! ```
//!
//! With `exact: true` (of one test or of a file) outputs must have nothing beside what is expected. Each test runs twice, and must give
//! the same bytes: an event that is delivered again may not turn into another.

mod compare;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use jaiminho_core::Event;
use jaiminho_event::CloudEvent;
use jaiminho_runtime::Verdict;
use jsonschema::Validator;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::Program;

/// A test file longer than this is refused.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// One file of tests.
#[derive(Debug)]
pub struct Suite {
    path: PathBuf,
    file: File,
    schemas: BTreeMap<String, Validator>,
}

/// What became of one test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestResult {
    /// Where it stands.
    pub file: PathBuf,
    /// Its name.
    pub name: String,
    /// What is wrong, in several lines: a line beginning with `-` was expected, one with `+` came.
    pub failure: Option<String>,
}

/// A test file that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", file.display())]
pub struct LoadError {
    /// The file or folder.
    pub file: PathBuf,
    /// With line and column, where it has them.
    pub problem: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    stage: Option<String>,
    #[serde(default)]
    defaults: Map<String, Value>,
    #[serde(default)]
    schemas: BTreeMap<String, PathBuf>,
    #[serde(default)]
    exact: bool,
    tests: Vec<Case>,
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "CaseAsWritten")]
struct Case {
    name: String,
    input: Map<String, Value>,
    exact: Option<bool>,
    expected: Expected,
}

#[derive(Debug)]
enum Expected {
    Events(Vec<Value>),
    Rejection(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseAsWritten {
    name: String,
    input: Map<String, Value>,
    expect: Option<Vec<Value>>,
    reject: Option<String>,
    exact: Option<bool>,
}

impl TryFrom<CaseAsWritten> for Case {
    type Error = String;

    fn try_from(CaseAsWritten { name, input, expect, reject, exact }: CaseAsWritten) -> Result<Self, String> {
        let expected = match (expect, reject) {
            (Some(events), None) => Expected::Events(events),
            (None, Some(reason)) => Expected::Rejection(reason),
            (Some(_), Some(_)) | (None, None) => {
                return Err(format!("test `{name}` must have either `expect` or `reject`"));
            }
        };
        Ok(Self { name, input, exact, expected })
    }
}

/// All test files (`*.yaml`, `*.yml`, `*.json`) of a folder, in the order of their names; none if there is no such folder.
///
/// # Errors
///
/// All files that can't be used.
pub fn load(folder: &Path) -> Result<Vec<Suite>, Vec<LoadError>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(vec![LoadError { file: folder.to_owned(), problem: e.to_string() }]),
    };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|p| is_test(p)).collect();
    paths.sort();
    let (mut suites, mut errors) = (Vec::new(), Vec::new());
    for path in paths {
        match Suite::load(&path) {
            Ok(suite) => suites.push(suite),
            Err(problem) => errors.push(LoadError { file: path, problem }),
        }
    }
    if errors.is_empty() { Ok(suites) } else { Err(errors) }
}

fn is_test(path: &Path) -> bool {
    path.extension().is_some_and(|ext| ["yaml", "yml", "json"].iter().any(|known| ext == *known))
}

/// Runs all tests of `suites`, each with the program of its stage.
pub fn run<'a>(suites: &[Suite], program: impl Fn(Option<&str>) -> Option<&'a Program>) -> Vec<TestResult> {
    let mut results = Vec::new();
    for suite in suites {
        match program(suite.stage()) {
            Some(program) => results.extend(suite.run(program)),
            None => results.push(TestResult {
                file: suite.path.clone(),
                name: "stage".to_owned(),
                failure: Some(match suite.stage() {
                    Some(stage) => format!("the pipeline has no stage `{stage}` with a transform"),
                    None => "name the `stage`: the pipeline has not exactly one stage with a transform".to_owned(),
                }),
            }),
        }
    }
    results
}

impl Suite {
    fn load(path: &Path) -> Result<Self, String> {
        let file: File = read(path)?;
        let mut schemas = BTreeMap::new();
        for (uri, schema_path) in &file.schemas {
            let schema_path = path.parent().unwrap_or(Path::new(".")).join(schema_path);
            let named = |e: String| format!("schema {}: {e}", schema_path.display());
            let schema: Value = read(&schema_path).map_err(named)?;
            let validator =
                jsonschema::options().should_validate_formats(true).build(&schema).map_err(|e| named(e.to_string()))?;
            schemas.insert(uri.clone(), validator);
        }
        Ok(Self { path: path.to_owned(), file, schemas })
    }

    /// The stage whose transform it tests, where it says so.
    pub fn stage(&self) -> Option<&str> {
        self.file.stage.as_deref()
    }

    /// How many tests it has.
    pub fn len(&self) -> usize {
        self.file.tests.len()
    }

    /// Whether it has no tests.
    pub fn is_empty(&self) -> bool {
        self.file.tests.is_empty()
    }

    /// Runs its tests in order.
    pub fn run(&self, program: &Program) -> Vec<TestResult> {
        let result = |case: &Case| TestResult {
            file: self.path.clone(),
            name: case.name.clone(),
            failure: self.check(case, program).err(),
        };
        self.file.tests.iter().map(result).collect()
    }

    fn check(&self, case: &Case, program: &Program) -> Result<(), String> {
        let mut input = self.file.defaults.clone();
        input.extend(case.input.clone());
        input.entry("specversion").or_insert_with(|| "1.0".into());
        let input =
            CloudEvent::from_json(&Value::Object(input)).map_err(|e| format!("`input` is no CloudEvent: {e}"))?;
        let actual = outcome(program, &input)?;
        if outcome(program, &input)? != actual {
            return Err("a second run gives another result; an event that is delivered again must not".to_owned());
        }
        let actual = actual.map(|outputs| outputs.iter().map(CloudEvent::to_json).collect::<Vec<_>>());
        match (&case.expected, actual) {
            (Expected::Events(expected), Ok(outputs)) => {
                compare::outputs(expected, &outputs, case.exact.unwrap_or(self.file.exact))?;
                self.validate(&outputs)
            }
            (Expected::Events(_), Err(reason)) => Err(format!("+ rejected: {reason}")),
            (Expected::Rejection(expected), Err(reason)) if reason.contains(expected.as_str()) => Ok(()),
            (Expected::Rejection(expected), Err(reason)) => {
                Err(format!("- rejected: … {expected} …\n+ rejected: {reason}"))
            }
            (Expected::Rejection(expected), Ok(outputs)) => {
                Err(format!("- rejected: … {expected} …\n{}", compare::added(&outputs)))
            }
        }
    }

    /// Checks each output's data by the schema that its `dataschema` names.
    fn validate(&self, outputs: &[Value]) -> Result<(), String> {
        if self.schemas.is_empty() {
            return Ok(());
        }
        let mut problems = Vec::new();
        for (index, output) in outputs.iter().enumerate() {
            let Some(uri) = output.get("dataschema").and_then(Value::as_str) else { continue };
            let Some(validator) = self.schemas.get(uri) else {
                problems.push(format!("output {index}: `dataschema` is {uri}, which `schemas` does not name"));
                continue;
            };
            for error in validator.iter_errors(output.get("data").unwrap_or(&Value::Null)) {
                problems.push(format!("output {index}: data{}: {error}", error.instance_path()));
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
    }
}

/// The outputs, or the reason of the rejection.
type Outcome = Result<Vec<CloudEvent>, String>;

/// # Errors
///
/// An output that can't be decoded.
fn outcome(program: &Program, input: &CloudEvent) -> Result<Outcome, String> {
    let event = Event::new(input.encode());
    match program.run(&event) {
        Verdict::Emit(outputs) => {
            let decoded: Result<Vec<_>, _> = outputs.iter().map(|o| CloudEvent::decode(&o.payload)).collect();
            decoded.map(Ok).map_err(|e| e.to_string())
        }
        Verdict::Reject { text, .. } => Ok(Err(text)),
    }
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, String> {
    let size = std::fs::metadata(path).map_err(|e| e.to_string())?.len();
    if size > FILE_BYTES_MAX {
        return Err(format!("is {size} bytes long; at most {FILE_BYTES_MAX} are allowed"));
    }
    let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    serde_saphyr::from_str(&text).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(program: &str, tests: &str) -> Vec<Option<String>> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.yaml"), tests).unwrap();
        std::fs::write(folder.path().join("notes.txt"), "no test").unwrap();
        std::fs::write(folder.path().join("s.schema"), r#"{"properties": {"c": {"type": "string"}}}"#).unwrap();
        let config = serde_json::from_value(serde_json::json!({ "vrl": program })).unwrap();
        let program = Program::compile(&config, folder.path()).unwrap();
        let suites = load(folder.path()).unwrap();
        run(&suites, |_| Some(&program)).into_iter().map(|r| r.failure).collect()
    }

    const CELSIUS: &str = "if .data.f == null { . = null } else { .data.c = (to_int!(del(.data.f)) - 32) * 5 / 9 }";

    #[test]
    fn expectations_are_subsets_unless_exact() {
        let tests = "
defaults: { source: /d, type: raw }
tests:
  - { name: a, input: { id: '1', data: { f: 212 } }, expect: [ { id: '1', data: { c: 100 } } ] }
  - { name: b, input: { id: '1', data: {} }, expect: [] }
  - { name: c, input: { id: '1', data: { f: x } }, reject: to_int }
  - { name: d, exact: true, input: { id: '1', data: { f: 212 } }, expect: [ { id: '1', data: { c: 100 } } ] }
  - { name: e, input: { id: '1', data: { f: 212 } }, expect: [ { data: { c: 101, f: null } } ] }
  - { name: f, input: { id: '1', data: { f: 212 } }, reject: cold }
  - { name: g, input: { id: '1', data: { f: x } }, expect: [] }
  - { name: h, input: { id: '1', data: { f: x } }, reject: cold }
";
        let results = results(CELSIUS, tests);
        assert_eq!(results[..3], [None, None, None]);
        let text = |i: usize| results[i].clone().unwrap();
        assert!(text(3).contains("+    \"type\": \"raw\""), "{}", text(3));
        assert!(text(4).contains("-      \"c\": 101\n+      \"c\": 100.0"), "{}", text(4));
        assert!(!text(4).lines().any(|l| l.starts_with('-') && l.contains("type")), "{}", text(4));
        assert!(text(5).starts_with("- rejected: … cold …\n+"), "{}", text(5));
        assert!(text(6).starts_with("+ rejected: function call error"), "{}", text(6));
        assert!(text(7).starts_with("- rejected: … cold …\n+ rejected: function"), "{}", text(7));
    }

    #[test]
    fn data_is_checked_by_its_schema() {
        let tests = "
schemas: { 'https://x/s': s.schema }
tests:
  - { name: a, input: { id: '1', source: s, type: t, dataschema: 'https://x/s', data: { f: 212 } }, expect: [ {} ] }
  - { name: b, input: { id: '1', source: s, type: t, dataschema: 'https://x/other', data: { f: 212 } }, expect: [ {} ] }
";
        let results = results(CELSIUS, tests);
        assert_eq!(results[0].as_deref(), Some("output 0: data/c: 100.0 is not of type \"string\""));
        assert!(results[1].as_deref().unwrap().contains("which `schemas` does not name"));
    }

    #[test]
    fn a_result_that_changes_from_run_to_run_fails() {
        let tests = "tests: [ { name: a, input: { id: '1', source: s, type: t }, expect: [ {} ] } ]";
        let results = results(".data = now()", tests);
        assert!(results[0].as_deref().unwrap().contains("second run"));
    }

    #[test]
    fn bad_files_are_named_with_the_place() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.yaml"), "tests:\n  - name: x\n    inptu: {}\n").unwrap();
        std::fs::write(folder.path().join("b.yaml"), "tests: [ { name: both, input: {} } ]").unwrap();
        let errors = load(folder.path()).unwrap_err();
        let first = errors[0].to_string();
        assert!(first.contains("a.yaml") && first.contains("inptu") && first.contains('3'), "{first}");
        assert!(errors[1].to_string().contains("either `expect` or `reject`"), "{}", errors[1]);
        assert!(load(&folder.path().join("none")).unwrap().is_empty());
    }
}
