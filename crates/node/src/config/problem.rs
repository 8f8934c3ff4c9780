//! What is wrong with a pipeline file, and where.

use std::fmt;
use std::sync::Arc;

/// `file:line:column`; line 0 means the whole file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    file: Arc<str>,
    line: u64,
    column: u64,
}

impl Place {
    pub(crate) fn new(file: &Arc<str>, line: u64, column: u64) -> Self {
        Self { file: Arc::clone(file), line, column }
    }

    pub(crate) fn start(file: &Arc<str>) -> Self {
        Self::new(file, 0, 0)
    }

    /// Line and column, from 1, if it is in `file` and not all of it.
    pub(crate) fn position_in(&self, file: &str) -> Option<(usize, usize)> {
        let position = |at| usize::try_from(at).ok().filter(|at| *at > 0);
        (*self.file == *file).then(|| Some((position(self.line)?, position(self.column)?))).flatten()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(out, "{}", self.file),
            line => write!(out, "{}:{line}:{}", self.file, self.column),
        }
    }
}

/// Whether it stops the pipeline from starting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    Error,
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Problem {
    pub(crate) place: Place,
    pub(crate) severity: Severity,
    /// What is wrong, in one line.
    pub(crate) what: String,
    /// What would be right.
    pub(crate) hint: Option<String>,
    /// More about it, in lines of its own.
    pub(crate) details: Option<String>,
}

impl Problem {
    pub(crate) fn error(place: Place, what: impl Into<String>) -> Self {
        Self::new(Severity::Error, place, what)
    }

    pub(crate) fn warning(place: Place, what: impl Into<String>) -> Self {
        Self::new(Severity::Warning, place, what)
    }

    pub(crate) fn new(severity: Severity, place: Place, what: impl Into<String>) -> Self {
        Self { place, severity, what: what.into(), hint: None, details: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With lines of more about it, if there are any.
    pub(crate) fn details(mut self, details: String) -> Self {
        self.details = Some(details).filter(|details| !details.is_empty());
        self
    }

    /// With the nearest of `known` as hint, or all of them when none is near and they are few.
    pub(crate) fn nearest<'a>(self, wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let known: Vec<&str> = known.into_iter().collect();
        if let Some(near) = nearest(wrong, &known) {
            return self.hint(format!("did you mean `{near}`?"));
        }
        match known.len() {
            0 => self,
            1..=16 => self.hint(format!("valid here: {}", known.join(", "))),
            _ => self,
        }
    }

    pub(crate) fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "file": &*self.place.file,
            "line": self.place.line,
            "column": self.place.column,
            "severity": match self.severity { Severity::Error => "error", Severity::Warning => "warning" },
            "message": self.what,
            "hint": self.hint,
            "details": self.details,
        })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(out, "{}: {severity}: {}", self.place, self.what)?;
        if let Some(hint) = &self.hint {
            write!(out, " ({hint})")?;
        }
        self.details.iter().flat_map(|details| details.lines()).try_for_each(|line| write!(out, "\n  {line}"))
    }
}

/// The one of `known` that `wrong` was probably meant to be.
pub(crate) fn nearest<'a>(wrong: &str, known: &[&'a str]) -> Option<&'a str> {
    let distance = |word: &str| strsim::damerau_levenshtein(&wrong.to_lowercase(), &word.to_lowercase());
    let best = known.iter().map(|word| (distance(word), *word)).min()?;
    (best.0 <= wrong.chars().count().max(3) / 3 + 1).then_some(best.1)
}

/// Most problems that are told at once.
const TOLD_MAX: usize = 100;

/// All that is wrong, in the order of the file.
#[derive(Debug, thiserror::Error)]
pub(crate) struct Problems(pub(crate) Vec<Problem>);

impl Problems {
    pub(crate) fn has_errors(&self) -> bool {
        self.0.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// In the order of the file, each once; a file that is wrong in very many places is told the first ones, and how many
    /// more there are.
    pub(crate) fn finish(&mut self) {
        self.0.sort();
        self.0.dedup();
        if self.0.len() <= TOLD_MAX {
            return;
        }
        let more = Self(self.0.split_off(TOLD_MAX));
        let (count, severity) = (more.0.len(), if more.has_errors() { Severity::Error } else { Severity::Warning });
        let place = Place::start(&self.0[0].place.file);
        self.0.push(Problem::new(severity, place, format!("{count} more, which are not told")));
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(out)?;
            }
            write!(out, "{problem}")?;
        }
        Ok(())
    }
}
