//! `jaiminho test`: the tests of mappings, in the folder `tests` beside the pipeline file.

use jaiminho_convert::mapping_tests::{self, TestResult};
use serde_json::json;

use crate::cli::{Global, Test};
use crate::config::{Document, Files, Setting};
use crate::exit::Failure;
use crate::output::line;

pub(crate) fn run(global: &Global, test: &Test) -> Result<(), Failure> {
    let document = Document::open(&global.file, &global.overrides())?;
    let config = document.check(Setting::Anywhere, Files::Programs)?;
    let programs = &config.programs;
    let folder = test.folder.clone().unwrap_or_else(|| config.base_dir.join("tests"));
    let suites = mapping_tests::load(&folder).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Failure::data(lines.join("\n"))
    })?;
    let results = mapping_tests::run(&suites, |stage| match stage {
        Some(stage) => programs.get(stage),
        None if programs.len() == 1 => programs.values().next(),
        None => None,
    });
    if results.is_empty() {
        return Err(Failure::data(format!("there are no tests in {}", folder.display())));
    }
    let failed = results.iter().filter(|result| result.failure.is_some()).count();
    if global.json {
        line(as_json(&results))?;
    } else {
        print(&results)?;
        line(format!("{} passed, {failed} failed", results.len() - failed))?;
    }
    if failed > 0 { Err(Failure::data(format!("{failed} of {} tests failed", results.len()))) } else { Ok(()) }
}

fn print(results: &[TestResult]) -> Result<(), Failure> {
    for result in results {
        match &result.failure {
            None => line(format!("ok      {}: {}", result.file.display(), result.name))?,
            Some(failure) => {
                line(format!("FAILED  {}: {}", result.file.display(), result.name))?;
                line(failure.lines().map(|text| format!("        {text}\n")).collect::<String>().trim_end())?;
            }
        }
    }
    Ok(())
}

fn as_json(results: &[TestResult]) -> serde_json::Value {
    results.iter().map(|result| json!({ "file": result.file, "name": result.name, "passed": result.failure.is_none(), "failure": result.failure })).collect()
}
