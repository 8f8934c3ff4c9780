//! `jaiminho validate`: all that is wrong, and the memory that each stage can take.

use jaiminho_convert::Program;
use serde_json::json;

use super::threads;
use crate::cli::{Global, Validate};
use crate::config::memory::{human, sum, terms};
use crate::config::{Config, Problems, Setting, load};
use crate::exit::Failure;
use crate::output::{line, table};

pub(crate) fn run(global: &Global, validate: &Validate) -> Result<(), Failure> {
    let setting = if validate.apart { Setting::Apart } else { Setting::Anywhere };
    let checked = load(&global.file, &global.overrides(), setting).map_err(Into::into).and_then(|config| {
        let mistakes = compile(&config);
        if mistakes.is_empty() { Ok(config) } else { Err(Mistakes::Programs(mistakes)) }
    });
    match checked {
        Ok(config) if global.json => line(format!("{:#}", as_json(&config))),
        Ok(config) => print(&config),
        Err(mistakes) => {
            if global.json {
                line(format!("{:#}", mistakes.as_json()))?;
            }
            Err(Failure::config(mistakes.text()))
        }
    }
}

enum Mistakes {
    File(Problems),
    /// Of the stages' programs, each with its stage.
    Programs(Vec<(String, jaiminho_convert::CompileError)>),
}

impl From<Problems> for Mistakes {
    fn from(problems: Problems) -> Self {
        Self::File(problems)
    }
}

impl Mistakes {
    fn text(&self) -> String {
        match self {
            Self::File(problems) => problems.to_string(),
            Self::Programs(errors) => {
                let lines: Vec<String> =
                    errors.iter().map(|(stage, error)| format!("stage `{stage}`: {error}")).collect();
                lines.join("\n")
            }
        }
    }

    fn as_json(&self) -> serde_json::Value {
        let problems: Vec<serde_json::Value> = match self {
            Self::File(problems) => problems.0.iter().map(crate::config::Problem::to_json).collect(),
            Self::Programs(errors) => errors
                .iter()
                .map(|(stage, error)| {
                    json!({ "file": error.file, "line": error.line, "column": error.column, "severity": "error", "stage": stage,
                            "message": error.message, "hint": null })
                })
                .collect(),
        };
        json!({ "valid": false, "problems": problems })
    }
}

fn compile(config: &Config) -> Vec<(String, jaiminho_convert::CompileError)> {
    let transforms = config.pipeline.stages.iter().filter_map(|(name, stage)| Some((name, stage.transform.as_ref()?)));
    transforms
        .filter_map(|(name, steps)| Some((name, Program::compile(steps, &config.base_dir).err()?)))
        .flat_map(|(name, errors)| errors.into_iter().map(move |error| (name.clone(), error)))
        .collect()
}

fn as_json(config: &Config) -> serde_json::Value {
    let stages: serde_json::Map<String, serde_json::Value> = config
        .in_order()
        .into_iter()
        .map(|(name, stage)| {
            let terms = terms(config, name, stage, threads());
            let listed: Vec<_> =
                terms.iter().map(|term| json!({ "name": term.name, "bytes": term.bytes, "from": term.from })).collect();
            (name.to_owned(), json!({ "bytes_max": sum(&terms), "terms": listed }))
        })
        .collect();
    let warnings: Vec<_> = config.warnings.0.iter().map(crate::config::Problem::to_json).collect();
    json!({ "valid": true, "pipeline": config.pipeline.pipeline, "problems": warnings, "memory": stages })
}

fn print(config: &Config) -> Result<(), Failure> {
    for warning in &config.warnings.0 {
        line(warning)?;
    }
    line(format!(
        "Pipeline {} is valid. The most memory that one instance of each stage takes, beside the program itself:\n",
        config.pipeline.pipeline
    ))?;
    let mut rows = vec![vec!["STAGE".to_owned(), "TERM".into(), "AT MOST".into(), "FROM".into()]];
    for (name, stage) in config.in_order() {
        let terms = terms(config, name, stage, threads());
        for (index, term) in terms.iter().enumerate() {
            let stage = if index == 0 { name.to_owned() } else { String::new() };
            rows.push(vec![stage, term.name.into(), human(term.bytes), term.from.clone()]);
        }
        rows.push(vec![String::new(), "sum".into(), human(sum(&terms)), String::new()]);
    }
    line(table(&rows, &[2]).trim_end())
}
