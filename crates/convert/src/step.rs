//! The compiled steps of a transform, and what each makes of one event.

use std::{cell::RefCell, ops::ControlFlow, sync::LazyLock};

use jaiminho_core::Reason;
use smallvec::SmallVec;
use vrl::{
    compiler::{
        CompilationResult, ExpressionError, Program as Compiled, TargetValueRef, TimeZone,
        runtime::{Runtime, Terminate},
    },
    value::{ObjectMap, Secrets, Value},
};

use crate::{
    config::Route,
    source::{CompileError, Text, position},
};

/// Times without a zone are in UTC, wherever the process runs.
static UTC: LazyLock<TimeZone> = LazyLock::new(|| TimeZone::parse("UTC").unwrap_or_default());

#[derive(Clone, Debug)]
pub(crate) enum CompiledStep {
    Vrl(Code),
    Filter(Code),
}

#[derive(Clone, Debug)]
pub(crate) struct CompiledRoute {
    /// By the output's index.
    conditions: Vec<Code>,
    otherwise: Option<usize>,
    exclusive: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Code {
    compiled: Compiled,
    text: Text,
}

/// An event, and the outputs that it goes to.
pub(crate) type Routed = (ObjectMap, SmallVec<[usize; 1]>);

/// A rejection on its way out.
#[derive(Debug)]
pub(crate) struct Rejected {
    pub(crate) reason: Reason,
    pub(crate) text: String,
}

impl Rejected {
    pub(crate) fn invalid(text: impl Into<String>) -> Self {
        Self { reason: Reason::Invalid, text: text.into() }
    }
}

impl CompiledStep {
    /// Runs the step on one event, and adds what comes of it to `outputs`.
    pub(crate) fn apply(&self, event: ObjectMap, budget: &mut u64, outputs: &mut Vec<ObjectMap>) -> Result<(), Stop> {
        match self {
            Self::Filter(code) => {
                let mut value = Value::Object(event);
                let kept = code.holds(&mut value, budget)?;
                if let (true, Value::Object(event)) = (kept, value) {
                    outputs.push(event);
                }
                Ok(())
            }
            Self::Vrl(code) => {
                let parent = Parent::of(&event);
                let mut value = Value::Object(event);
                code.resolve(&mut value, budget)?;
                parent.adopt(value, outputs).map_err(Stop::Rejected)
            }
        }
    }
}

impl CompiledRoute {
    pub(crate) fn compile(
        index: usize,
        route: &Route,
        warnings: &mut Vec<CompileError>,
    ) -> Result<Self, Vec<CompileError>> {
        let (mut conditions, mut errors) = (Vec::new(), Vec::new());
        for (name, text) in &route.outputs {
            match Code::condition(
                "an output's condition",
                Text::within(index, &["route", "outputs", name], text),
                warnings,
            ) {
                Ok(code) => conditions.push(code),
                Err(found) => errors.extend(found),
            }
        }
        let names = route.names();
        let otherwise = route.r#else.as_ref().and_then(|other| names.iter().position(|name| name == other));
        if errors.is_empty() { Ok(Self { conditions, otherwise, exclusive: route.exclusive }) } else { Err(errors) }
    }

    pub(crate) fn apply(&self, event: ObjectMap, budget: &mut u64) -> Result<Routed, Stop> {
        let mut value = Value::Object(event);
        let mut outputs = SmallVec::new();
        for (index, condition) in self.conditions.iter().enumerate() {
            if condition.holds(&mut value, budget)? {
                outputs.push(index);
                if self.exclusive {
                    break;
                }
            }
        }
        if outputs.is_empty() {
            outputs.extend(self.otherwise);
        }
        let Value::Object(event) = value else { unreachable!("a condition changes nothing") };
        Ok((event, outputs))
    }
}

impl Code {
    pub(crate) fn program(text: Text, warnings: &mut Vec<CompileError>) -> Result<Self, Vec<CompileError>> {
        Self::compile(text, false, warnings)
    }

    /// An expression that is true or false, and changes nothing.
    pub(crate) fn condition(
        what: &str,
        text: Text,
        warnings: &mut Vec<CompileError>,
    ) -> Result<Self, Vec<CompileError>> {
        let code = Self::compile(text, true, warnings)?;
        let result = code.compiled.final_type_info().result;
        if !result.is_boolean() {
            let kind = result.kind();
            let message = format!("{what} must be a boolean, but this is of type {kind}; compare it, as `… == true`");
            return Err(vec![code.text.error(message)]);
        }
        Ok(code)
    }

    fn compile(text: Text, read_only: bool, warnings: &mut Vec<CompileError>) -> Result<Self, Vec<CompileError>> {
        let CompilationResult { program, warnings: found, .. } = text.compile(read_only)?;
        // VRL doesn't look into `abort`, and so takes what only a reason uses for unused.
        let found = text.errors(found).into_iter();
        warnings.extend(found.filter(|warning| !warning.message.starts_with("unused variable")));
        Ok(Self { compiled: program, text })
    }

    fn holds(&self, value: &mut Value, budget: &mut u64) -> Result<bool, Stop> {
        Ok(self.resolve(value, budget)? == Value::Boolean(true))
    }

    fn resolve(&self, value: &mut Value, budget: &mut u64) -> Result<Value, Stop> {
        thread_local!(static RUNTIME: RefCell<Runtime> = RefCell::default());
        // Taken out, so that a panic inside VRL leaves a fresh one behind.
        let mut runtime = RUNTIME.take();
        let mut metadata = Value::Object(ObjectMap::new());
        let mut secrets = Secrets::default();
        let mut target = TargetValueRef { value, metadata: &mut metadata, secrets: &mut secrets };
        let mut control = || match budget.checked_sub(1) {
            Some(left) => {
                *budget = left;
                ControlFlow::Continue(())
            }
            None => ControlFlow::Break(()),
        };
        let result = runtime.resolve_with_control(&mut target, &self.compiled, &UTC, &mut control);
        runtime.clear();
        RUNTIME.set(runtime);
        result.map_err(|stopped| self.stop(stopped))
    }

    fn stop(&self, stopped: Terminate) -> Stop {
        match stopped {
            Terminate::Interrupted => Stop::Exhausted,
            Terminate::Abort(ExpressionError::Abort { message: Some(message), .. }) => {
                Stop::Rejected(Rejected::invalid(message))
            }
            Terminate::Abort(ExpressionError::Abort { span, message: None }) => {
                let (line, _) = position(&self.text.text, span.start());
                Stop::Rejected(Rejected::invalid(format!("aborted at {}:{line}", self.text.name())))
            }
            Terminate::Abort(error) | Terminate::Error(error) => Stop::Rejected(Rejected::invalid(error.to_string())),
        }
    }
}

/// Why a step yields nothing.
pub(crate) enum Stop {
    Rejected(Rejected),
    Exhausted,
}

/// What outputs inherit.
struct Parent {
    id: Value,
    source: Value,
}

impl Parent {
    fn of(event: &ObjectMap) -> Self {
        let field = |name: &str| event.get(name).cloned().unwrap_or(Value::Null);
        Self { id: field("id"), source: field("source") }
    }

    /// Takes the program's result apart into events.
    fn adopt(&self, result: Value, outputs: &mut Vec<ObjectMap>) -> Result<(), Rejected> {
        let Value::Array(events) = result else {
            let event = object(result).map_err(|kind| not_an_event("`.` after the program", &kind))?;
            outputs.extend(event.map(|event| self.complete(event, None)));
            return Ok(());
        };
        for (index, event) in events.into_iter().enumerate() {
            let event = object(event).map_err(|kind| not_an_event(&format!("output {index}"), &kind))?;
            outputs.extend(event.map(|event| self.complete(event, Some(index))));
        }
        Ok(())
    }

    fn complete(&self, mut event: ObjectMap, index: Option<usize>) -> ObjectMap {
        if event.get("id").is_none_or(|id| *id == self.id || *id == Value::Null) {
            let id = match index {
                None => self.id.clone(),
                Some(index) => Value::from(format!("{}/{index}", self.id.to_string_lossy())),
            };
            event.insert("id".into(), id);
        }
        event.entry("source".into()).or_insert_with(|| self.source.clone());
        event
    }
}

/// None for `null`; for what is neither, its type.
fn object(value: Value) -> Result<Option<ObjectMap>, String> {
    if let Value::Object(event) = value {
        Ok(Some(event))
    } else if value == Value::Null {
        Ok(None)
    } else {
        Err(value.kind_str().to_owned())
    }
}

fn not_an_event(what: &str, kind: &str) -> Rejected {
    Rejected::invalid(format!("{what} is of type {kind}, not an event (an object)"))
}
