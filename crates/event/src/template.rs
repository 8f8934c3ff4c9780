//! Text with fields of an event in it: `eugenio.{{type}}`, `{{data.deviceId}}`.
//!
//! A path is the name of an attribute, or `data` and the way into JSON data: member names and, in arrays, indices,
//! separated by dots; a name with other characters than letters, digits, `_` and `-` is written in double quotes. The data is scanned, not built into a
//! tree.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::event::check_name;
use crate::view::{DataRef, EventView};

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Attribute(String),
    Data { path: String, steps: Vec<String> },
}

/// Why a text is not a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem} (at byte {position})")]
pub struct TemplateError {
    /// Byte of the template.
    pub position: usize,
    problem: String,
}

/// The event has no such field, or it is null, an array, or an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the event has no `{path}` that is a string, a number or a boolean")]
pub struct MissingField {
    /// As it stands in the template.
    pub path: String,
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// `{{` without `}}`, or a path that can't be one.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut position = 0;
        while let Some(open) = text[position..].find("{{").map(|at| position + at) {
            if open > position {
                parts.push(Part::Literal(text[position..open].to_owned()));
            }
            let inner = open + 2;
            let close = text[inner..].find("}}").map(|at| inner + at);
            let close = close.ok_or_else(|| error(open, "`{{` without `}}`"))?;
            parts.push(parse_path(text[inner..close].trim(), inner)?);
            position = close + 2;
        }
        if position < text.len() {
            parts.push(Part::Literal(text[position..].to_owned()));
        }
        Ok(Self { parts })
    }

    /// The text for an event. A number is written as it stands in the data.
    ///
    /// # Errors
    /// The first field that the event does not have.
    pub fn render(&self, event: &EventView<'_>) -> Result<String, MissingField> {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Attribute(name) => match event.attribute(name) {
                    Some(text) => out.push_str(&text),
                    None => return Err(MissingField { path: name.clone() }),
                },
                Part::Data { path, steps } => {
                    let missing = || MissingField { path: path.clone() };
                    let DataRef::Text(text) = event.data() else { return Err(missing()) };
                    if !event.is_json() || !push_scalar(text, steps, &mut out) {
                        return Err(missing());
                    }
                }
            }
        }
        Ok(out)
    }

    /// The fields that it needs, as they stand in it.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Literal(_) => None,
            Part::Attribute(name) => Some(name.as_str()),
            Part::Data { path, .. } => Some(path.as_str()),
        })
    }

    /// Whether it is the same text for every event.
    pub fn is_literal(&self) -> bool {
        self.paths().next().is_none()
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.parts {
            match part {
                Part::Literal(text) => f.write_str(text)?,
                Part::Attribute(path) | Part::Data { path, .. } => write!(f, "{{{{{path}}}}}")?,
            }
        }
        Ok(())
    }
}

impl std::str::FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        Self::parse(text)
    }
}

fn error(position: usize, problem: impl Into<String>) -> TemplateError {
    TemplateError { position, problem: problem.into() }
}

fn parse_path(path: &str, position: usize) -> Result<Part, TemplateError> {
    if path != "data" && !path.starts_with("data.") {
        if !matches!(path, "id" | "source" | "type" | "specversion") {
            check_name(path).map_err(|wrong| {
                error(position, format!("{}; a path is an attribute's name, or `data.` and a member", wrong.problem()))
            })?;
        }
        return Ok(Part::Attribute(path.to_owned()));
    }
    let mut steps = Vec::new();
    let mut rest = path.strip_prefix("data").unwrap_or_default();
    while let Some(step) = rest.strip_prefix('.') {
        let (name, after) = match step.strip_prefix('"') {
            Some(quoted) => {
                let end =
                    quoted.find('"').ok_or_else(|| error(position, format!("`{path}`: a quote is not closed")))?;
                (&quoted[..end], &quoted[end + 1..])
            }
            None => step.split_at(step.find('.').unwrap_or(step.len())),
        };
        let plain = name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'));
        if name.is_empty() || !plain && !step.starts_with('"') {
            return Err(error(
                position,
                format!("`{path}`: between dots stand letters, digits, _ and -, or a quoted name"),
            ));
        }
        steps.push(name.to_owned());
        rest = after;
    }
    if !rest.is_empty() {
        return Err(error(position, format!("`{path}`: a dot must stand before `{rest}`")));
    }
    Ok(Part::Data { path: path.to_owned(), steps })
}

/// Appends the scalar at the end of the path; false when there is none.
fn push_scalar(json: &str, steps: &[String], out: &mut String) -> bool {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let Ok(Some(raw)) = Find(steps).deserialize(&mut deserializer) else { return false };
    if deserializer.end().is_err() {
        return false;
    }
    match raw.get().as_bytes().first() {
        Some(b'"') => match serde_json::from_str::<String>(raw.get()) {
            Ok(text) => out.push_str(&text),
            Err(_) => return false,
        },
        Some(b'{' | b'[' | b'n') | None => return false,
        Some(_) => out.push_str(raw.get()),
    }
    true
}

/// Finds the value at a path. Of members with the same name the last holds, as everywhere else.
struct Find<'a>(&'a [String]);

impl<'de> DeserializeSeed<'de> for Find<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        match self.0 {
            [] => serde::Deserialize::deserialize(deserializer).map(Some),
            [_, ..] => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Find<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Some((step, rest)) = self.0.split_first() else { return Ok(None) };
        let mut found = None;
        while let Some(same) = map.next_key_seed(Is(step))? {
            if same {
                found = map.next_value_seed(Find(rest))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let Some((step, rest)) = self.0.split_first() else { return Ok(None) };
        let mut found = None;
        if let Ok(index) = step.parse::<usize>() {
            for _ in 0..index {
                if seq.next_element::<IgnoredAny>()?.is_none() {
                    return Ok(None);
                }
            }
            found = seq.next_element_seed(Find(rest))?.flatten();
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// Compares a member's name without keeping it.
struct Is<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}
