//! From a step's text to a compiled program, with errors that say where and why.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use vrl::{
    compiler::{CompilationResult, CompileConfig, Function, TypeState, compile_with_state, state::ExternalEnv},
    diagnostic::{Diagnostic, DiagnosticList, Formatter},
    value::{Kind, kind::Collection},
};

/// A program longer than this is refused.
const SOURCE_BYTES_MAX: u64 = 1 << 20;

/// Functions of VRL that a mapping may not use, and why. (Those that reach the network, the environment or the
/// system are not compiled in at all.)
const EXCLUDED: [(&str, &str); 10] = [
    ("random_bool", DIFFERS),
    ("random_bytes", DIFFERS),
    ("random_float", DIFFERS),
    ("random_int", DIFFERS),
    ("uuid_v4", DIFFERS),
    ("uuid_v7", DIFFERS),
    ("log", "a mapping has no log; try it with `jaiminho test`"),
    ("get_env_var", OUTSIDE),
    ("dns_lookup", OUTSIDE),
    ("http_request", OUTSIDE),
];
const DIFFERS: &str = "an event that is delivered again must give the same results";
const OUTSIDE: &str = "a mapping reaches neither network nor environment";

/// One mistake in a VRL program, or a file that can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileError {
    /// Which step of the transform, from 0.
    pub step: usize,
    /// The keys inside of the step that lead to it; none: it is the step's one text.
    pub within: Vec<String>,
    /// None for a program inside the pipeline file.
    pub file: Option<PathBuf>,
    /// From 1; in the program's own text. 0 when the file can't be read.
    pub line: usize,
    /// From 1, in characters. 0 when the file can't be read.
    pub column: usize,
    /// What is wrong, in one line.
    pub message: String,
    /// VRL's explanation with the lines concerned, without what is in `message` and without its place; may be empty.
    pub explanation: String,
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&name(self.step, &self.within, self.file.as_deref()))?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}", self.message)?;
        if self.explanation.is_empty() { Ok(()) } else { write!(f, "\n{}", self.explanation) }
    }
}

impl std::error::Error for CompileError {}

/// A step's program text and where it is from.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    pub(crate) step: usize,
    pub(crate) within: Vec<String>,
    pub(crate) file: Option<PathBuf>,
    pub(crate) text: String,
}

impl Text {
    pub(crate) fn inline(step: usize, text: &str) -> Self {
        Self { step, within: Vec::new(), file: None, text: text.to_owned() }
    }

    /// That to which these keys inside of the step lead.
    pub(crate) fn within(step: usize, keys: &[&str], text: &str) -> Self {
        Self { within: keys.iter().map(|key| (*key).to_owned()).collect(), ..Self::inline(step, text) }
    }

    /// Reads `path`, which is relative to `base_dir`.
    pub(crate) fn file(step: usize, base_dir: &Path, path: &Path) -> Result<Self, CompileError> {
        let path = base_dir.join(path);
        let failed = |message: String| CompileError {
            step,
            within: Vec::new(),
            file: Some(path.clone()),
            line: 0,
            column: 0,
            message,
            explanation: String::new(),
        };
        let size = std::fs::metadata(&path).map_err(|e| failed(format!("can't be read: {e}")))?.len();
        if size > SOURCE_BYTES_MAX {
            return Err(failed(format!("is {size} bytes long; at most {SOURCE_BYTES_MAX} are allowed")));
        }
        let text = std::fs::read_to_string(&path).map_err(|e| failed(format!("can't be read: {e}")))?;
        Ok(Self { step, within: Vec::new(), file: Some(path), text })
    }

    /// How messages call it.
    pub(crate) fn name(&self) -> String {
        name(self.step, &self.within, self.file.as_deref())
    }

    /// Compiles it; `read_only` forbids changes to the event.
    pub(crate) fn compile(&self, read_only: bool) -> Result<CompilationResult, Vec<CompileError>> {
        let mut config = CompileConfig::default();
        if read_only {
            config.set_read_only();
        }
        let state = TypeState {
            local: Default::default(),
            external: ExternalEnv::new_with_kind(event_kind(), Kind::object(Collection::empty())),
        };
        compile_with_state(&self.text, &functions(), &state, config).map_err(|list| self.errors(list))
    }

    /// One error or warning of ours, at the start of the text.
    pub(crate) fn error(&self, message: String) -> CompileError {
        CompileError {
            step: self.step,
            within: self.within.clone(),
            file: self.file.clone(),
            line: 1,
            column: 1,
            message,
            explanation: String::new(),
        }
    }

    /// Each diagnostic with its place.
    pub(crate) fn errors(&self, list: DiagnosticList) -> Vec<CompileError> {
        list.iter().map(|diagnostic| self.locate(diagnostic)).collect()
    }

    fn locate(&self, diagnostic: &Diagnostic) -> CompileError {
        let label = diagnostic.labels().iter().find(|l| l.primary).or(diagnostic.labels().first());
        let offset = label.map_or(0, |l| l.span.start());
        let (line, column) = position(&self.text, offset);
        let excluded = label.and_then(|l| exclusion(self.text.get(l.span.range())?));
        let (message, explanation) = match excluded {
            // VRL would name others that it takes for what was meant.
            Some((name, reason)) => (format!("`{name}` can't be used: {reason}"), String::new()),
            None => {
                let rendered = Formatter::new(&self.text, diagnostic.clone()).to_string();
                (diagnostic.message().to_owned(), explanation(&rendered))
            }
        };
        CompileError {
            step: self.step,
            within: self.within.clone(),
            file: self.file.clone(),
            line,
            column,
            message,
            explanation,
        }
    }
}

/// Of a rendered diagnostic: neither its first lines, `error[E103]: message` and `┌─ :2:8`, nor advice that is the same for all.
fn explanation(rendered: &str) -> String {
    const ADVICE: [&str; 2] = ["= see language documentation", "= try your code"];
    let lines = rendered.trim().lines().skip(1).filter(|line| {
        let text = line.trim_start();
        !text.starts_with("┌─") && ADVICE.iter().all(|advice| !text.starts_with(advice))
    });
    lines.map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// What VRL may take for granted of an event: it saves mappings from handling what can't happen.
fn event_kind() -> Kind {
    let known = ["id", "source", "specversion", "type"].map(|name| (name.into(), Kind::bytes()));
    let mut fields = Collection::from(std::collections::BTreeMap::from(known));
    fields.set_unknown(Kind::any());
    Kind::object(fields)
}

fn functions() -> Vec<Box<dyn Function>> {
    let mut all = vrl::stdlib::all();
    all.retain(|function| EXCLUDED.iter().all(|(name, _)| *name != function.identifier()));
    all
}

fn name(step: usize, within: &[String], file: Option<&Path>) -> String {
    match (file, within) {
        (Some(file), _) => file.display().to_string(),
        (None, []) => format!("step {}, inline program", step + 1),
        (None, keys) => format!("step {}, {}", step + 1, keys.join(".")),
    }
}

fn exclusion(called: &str) -> Option<(&'static str, &'static str)> {
    EXCLUDED.iter().find(|(name, _)| *name == called).copied()
}

/// Line and column of a byte offset, both from 1.
pub(crate) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset.min(text.len())).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |i| i + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str) -> Vec<CompileError> {
        Text::inline(0, text).compile(false).err().unwrap()
    }

    #[test]
    fn an_error_has_line_column_and_explanation() {
        let found = errors(".a = 1\n  .b = to_int(.c)\n");
        assert_eq!((found[0].line, found[0].column), (2, 8), "{found:?}");
        assert!(found[0].to_string().starts_with("step 1, inline program:2:8: unhandled"), "{}", found[0]);
        assert!(found[0].explanation.contains("to_int(.c)"), "{}", found[0].explanation);
    }

    #[test]
    fn every_error_is_reported() {
        assert_eq!(errors(".a = nope()\n.b = nope_too()").len(), 2);
    }

    #[test]
    fn an_excluded_function_is_refused_with_its_reason() {
        let found = errors(".id = uuid_v4()");
        assert_eq!(found[0].to_string(), format!("step 1, inline program:1:7: `uuid_v4` can't be used: {DIFFERS}"));
        let found = errors(".x = get_env_var!(\"HOME\")");
        assert!(found[0].message.contains(OUTSIDE), "{found:?}");
    }

    #[test]
    fn a_syntax_error_has_a_place() {
        let found = errors(".a = 1\n.b = (");
        assert_eq!(found[0].line, 2, "{found:?}");
    }
}
