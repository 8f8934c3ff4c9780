//! `jaiminho validate`: all that is wrong, and the memory that each stage can take.

use serde_json::json;

use super::{threads, threads_of};
use crate::cli::{Global, Validate};
use crate::config::memory::{human, sum, terms};
use crate::config::{Config, Document, Files, Problem, Problems, Setting};
use crate::exit::{Exit, Failure};
use crate::output::{counted, line, note, table};

pub(crate) fn run(global: &Global, validate: &Validate) -> Result<(), Failure> {
    let setting = if validate.apart { Setting::Apart } else { Setting::Anywhere };
    let threads = validate.cores.map_or_else(threads, threads_of);
    let document = Document::open(&global.file, &global.overrides());
    match document.and_then(|document| document.check(setting, Files::All)) {
        Ok(config) if global.json => line(format!("{:#}", as_json(&config, threads))),
        Ok(config) => print(&config, threads),
        Err(problems) if global.json => {
            line(format!("{:#}", json!({ "valid": false, "problems": listed(&problems) })))?;
            Err(Failure::told(Exit::Config))
        }
        Err(problems) => Err(problems.into()),
    }
}

fn listed(problems: &Problems) -> Vec<serde_json::Value> {
    problems.0.iter().map(Problem::to_json).collect()
}

fn as_json(config: &Config, threads: u64) -> serde_json::Value {
    let stages: serde_json::Map<String, serde_json::Value> = config
        .in_order()
        .into_iter()
        .map(|(name, stage)| {
            let terms = terms(config, name, stage, threads);
            let listed: Vec<_> =
                terms.iter().map(|term| json!({ "name": term.name, "bytes": term.bytes, "from": term.from })).collect();
            (name.to_owned(), json!({ "bytes_max": sum(&terms), "terms": listed }))
        })
        .collect();
    json!({ "valid": true, "pipeline": config.pipeline.pipeline, "problems": listed(&config.warnings), "threads": threads, "memory": stages })
}

fn print(config: &Config, threads: u64) -> Result<(), Failure> {
    config.warnings.0.iter().for_each(note);
    line(format!(
        "Pipeline {} is valid. The most memory that one instance of each stage takes with {}, beside the program itself:\n",
        config.pipeline.pipeline,
        counted(threads, "thread")
    ))?;
    let mut rows = vec![vec!["STAGE".to_owned(), "TERM".into(), "AT MOST".into(), "FROM".into()]];
    for (name, stage) in config.in_order() {
        let terms = terms(config, name, stage, threads);
        for (index, term) in terms.iter().enumerate() {
            let stage = if index == 0 { name.to_owned() } else { String::new() };
            rows.push(vec![stage, term.name.into(), human(term.bytes), term.from.clone()]);
        }
        rows.push(vec![String::new(), "sum".into(), human(sum(&terms)), String::new()]);
    }
    line(table(&rows, &[2]).trim_end())
}
