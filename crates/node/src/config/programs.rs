//! The stages' VRL programs, compiled; their mistakes stand where the program stands, in the pipeline file or in its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use jaiminho_convert::{CompileError, Program};

use super::component::Transform;
use super::files::Files;
use super::model::Pipeline;
use super::problem::{Place, Problem, Severity};
use super::tree::{Node, Value};

/// What the programs are a part of.
pub(super) struct Origin<'a> {
    pub(super) file: &'a Arc<str>,
    /// Its text, as it was read.
    pub(super) yaml: &'a str,
    pub(super) tree: &'a Node,
    /// Files of programs are relative to it.
    pub(super) base_dir: &'a Path,
}

/// The programs of `files` by their stages; `problems` gets every mistake and warning.
pub(super) fn compile(
    pipeline: &Pipeline,
    origin: &Origin<'_>,
    files: Files<'_>,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, Program> {
    let mut programs = BTreeMap::new();
    for (name, stage) in pipeline.stages.iter().filter(|(name, _)| files.has_program(name)) {
        let Some(Transform::Steps(steps)) = &stage.transform else { continue };
        match Program::compile(steps, origin.base_dir) {
            Ok(program) => {
                problems.extend(program.warnings().iter().map(|found| origin.problem(Severity::Warning, name, found)));
                if steps.batch().is_none() {
                    programs.insert(name.clone(), program);
                }
            }
            Err(errors) => {
                problems.extend(errors.iter().map(|found| origin.problem(Severity::Error, name, found)));
            }
        }
    }
    programs
}

impl Origin<'_> {
    fn problem(&self, severity: Severity, stage: &str, found: &CompileError) -> Problem {
        let (begins, text) = self.written(stage, found);
        let message = &found.message;
        let (line, column) = (found.line, found.column);
        let what = format!("stage `{stage}`: {message}");
        let Some(file) = found.file.as_ref().map(|file| file.display().to_string()) else {
            let problem = match self.place_in(&begins, text, line, column) {
                Some(place) => Problem::new(severity, place, what),
                None => Problem::new(severity, begins, what)
                    .hint(format!("line {line}, column {column} of the program that begins here")),
            };
            return problem.details(without_line_numbers(&found.explanation));
        };
        if line == 0 {
            return Problem::new(severity, begins, format!("stage `{stage}`: {file} {message}"));
        }
        let place = Place::new(&file.into(), line as u64, column as u64);
        Problem::new(severity, place, what)
            .hint(format!("the program is named in {begins}"))
            .details(found.explanation.clone())
    }

    /// Where a step's program, or the name of its file, stands, and its text.
    fn written(&self, stage: &str, found: &CompileError) -> (Place, &str) {
        let transform = self.tree.find_node(["stages", stage, "transform"]);
        let step = transform.and_then(|transform| match &transform.value {
            Value::List(steps) => steps.get(found.step),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text { .. } | Value::Map(_) => Some(transform),
        });
        let mut node = step.unwrap_or(self.tree);
        node = node.find_node(found.within.iter().map(String::as_str)).unwrap_or(node);
        // Checked: each map has one key, `vrl` or `filter`, and then `file` or `inline`.
        while let Value::Map(entries) = &node.value
            && let Some(entry) = entries.first()
        {
            node = &entry.node;
        }
        let text = if let Value::Text { text, .. } = &node.value { text.as_str() } else { "" };
        (node.place.clone(), text)
    }

    /// The place in the pipeline file of a program's line and column: none where the program isn't written down there line by
    /// line, because it is folded, escaped, or has variables in it.
    fn place_in(&self, begins: &Place, program: &str, line: usize, column: usize) -> Option<Place> {
        let (first, indent) = begins.position_in(self.file)?;
        let margin = indent - 1;
        let mut written = self.yaml.lines().skip(first - 1).chain([""]);
        if line == 1 {
            let here: String = written.clone().next()?.chars().skip(margin).collect();
            let quote = usize::from(here.starts_with(['"', '\'']));
            if here[quote..].starts_with(program.lines().next()?) {
                return Some(Place::new(self.file, first as u64, (margin + quote + column) as u64));
            }
        }
        // A block begins at its first line that isn't empty.
        let empty = program.lines().take_while(|line| line.is_empty()).count();
        let mut wanted = program.lines().chain([""]).take(line).skip(empty);
        let row = first + line.checked_sub(empty + 1)?;
        let is_there = wanted.all(|wanted| {
            let written = written.next().unwrap_or_default();
            let (before, text) = written.split_at_checked(margin).unwrap_or((written, ""));
            before.bytes().all(|byte| byte == b' ') && text == wanted
        });
        is_there.then(|| Place::new(self.file, row as u64, (margin + column) as u64))
    }
}

/// The lines that an explanation quotes are not those of the pipeline file.
fn without_line_numbers(explanation: &str) -> String {
    let line = |line: &str| match line.split_once('│') {
        Some((number, rest)) if number.trim().bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{}│{rest}", " ".repeat(number.len()))
        }
        Some(_) | None => line.to_owned(),
    };
    explanation.lines().map(line).collect::<Vec<_>>().join("\n")
}
