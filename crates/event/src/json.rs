//! CloudEvents' JSON format, both ways.
//!
//! Reading from text keeps the data's own text (as `RawValue`) and builds no tree; everything else of an event is
//! scalars.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value as Json};

use crate::EventError;
use crate::event::{ATTRIBUTES_MAX, CloudEvent, Data};
use crate::timestamp::brief;
use crate::value::Value;

/// Deepest nesting of JSON data, so that whoever reads an event in its JSON format stays within serde's limit.
pub const DATA_DEPTH_MAX: usize = 120;

impl CloudEvent {
    /// Reads an event from a JSON tree. The data's text is the tree's, without white space.
    ///
    /// # Errors
    /// Says which member is missing or wrong.
    pub fn from_json(json: &Json) -> Result<Self, EventError> {
        let Json::Object(members) = json else { return Err(EventError::new("a CloudEvent in JSON is an object")) };
        let mut parts = Parts::default();
        for (name, value) in members {
            match name.as_str() {
                "data" => {
                    let text = value.to_string();
                    check_json(text.as_bytes())?;
                    parts.data = Some(text);
                }
                _ => parts.add(name, Scalar::of(name, value)?)?,
            }
        }
        parts.finish()
    }

    /// Reads an event from JSON text. The data keeps its own text.
    ///
    /// # Errors
    /// Says which member is missing or wrong, or where the text is not JSON. A member that stands twice is an error.
    pub fn from_json_slice(text: &[u8]) -> Result<Self, EventError> {
        if text.trim_ascii_start().starts_with(b"\"") {
            // The parser would give the whole string back in its error.
            return Err(EventError::at(0, "invalid type: string, expected a CloudEvent: an object"));
        }
        let mut deserializer = serde_json::Deserializer::from_slice(text);
        let (mut parts, data) = (&mut deserializer).deserialize_map(EventVisitor).map_err(|error| at(&error, text))?;
        deserializer.end().map_err(|error| at(&error, text))?;
        if let Some(data) = data {
            check_json(data.as_bytes()).map_err(|error| {
                let start = (data.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
                EventError::at(start + error.position.unwrap_or(0), format!("`data`: {}", error.problem()))
            })?;
            parts.data = Some(data.to_owned());
        }
        parts.finish()
    }

    /// The event as a JSON tree. JSON data becomes a JSON value, unless its text is not JSON: then it is a string.
    pub fn to_json(&self) -> Json {
        let mut members = Map::new();
        for (name, text) in [("specversion", "1.0"), ("id", &self.id), ("source", &self.source), ("type", &self.ty)] {
            members.insert(name.to_owned(), Json::String(text.to_owned()));
        }
        for (name, value) in &self.attributes {
            let value = match value {
                Value::Boolean(value) => Json::Bool(*value),
                Value::Integer(value) => Json::from(*value),
                Value::String(_) | Value::Binary(_) | Value::Uri(_) | Value::UriRef(_) | Value::Timestamp(_) => {
                    Json::String(value.to_text().into_owned())
                }
            };
            members.insert(name.clone(), value);
        }
        match &self.data {
            Data::None => None,
            Data::Binary(bytes) => {
                members.insert("data_base64".to_owned(), Json::String(BASE64_STANDARD.encode(bytes)))
            }
            Data::Text(text) => {
                let json = self.declares_json().then(|| serde_json::from_str(text).ok()).flatten();
                members.insert("data".to_owned(), json.unwrap_or_else(|| Json::String(text.clone())))
            }
        };
        Json::Object(members)
    }

    /// The event as JSON text. JSON data keeps its text, so no number loses a digit.
    pub fn to_json_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        let mut serializer = serde_json::Serializer::new(&mut out);
        // Writing strings and numbers into a Vec can't fail.
        let _ = self.write_json(&mut serializer);
        out
    }

    fn write_json<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, text) in [("specversion", "1.0"), ("id", &self.id), ("source", &self.source), ("type", &self.ty)] {
            map.serialize_entry(name, text)?;
        }
        for (name, value) in &self.attributes {
            match value {
                Value::Boolean(value) => map.serialize_entry(name, value)?,
                Value::Integer(value) => map.serialize_entry(name, value)?,
                Value::String(_) | Value::Binary(_) | Value::Uri(_) | Value::UriRef(_) | Value::Timestamp(_) => {
                    map.serialize_entry(name, &value.to_text())?;
                }
            }
        }
        match &self.data {
            Data::None => {}
            Data::Binary(bytes) => map.serialize_entry("data_base64", &BASE64_STANDARD.encode(bytes))?,
            Data::Text(text) => {
                let json = self.declares_json() && check_json(text.as_bytes()).is_ok();
                match json.then(|| serde_json::from_str::<&RawValue>(text).ok()).flatten() {
                    Some(raw) => map.serialize_entry("data", raw)?,
                    None => map.serialize_entry("data", text)?,
                }
            }
        }
        map.end()
    }
}

/// Whether a text is one JSON value that can be an event's data. Builds no tree.
///
/// # Errors
/// Where it is not JSON, or nested deeper than [`DATA_DEPTH_MAX`].
pub fn check_json(text: &[u8]) -> Result<(), EventError> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    Walk(DATA_DEPTH_MAX).deserialize(&mut deserializer).map_err(|error| at(&error, text))?;
    deserializer.end().map_err(|error| at(&error, text))
}

/// serde's line and column as a byte: that of the last character read. Column 0 is the end of the line before.
fn at(error: &serde_json::Error, text: &[u8]) -> EventError {
    let line_start = match error.line() {
        0 | 1 => 0,
        line => text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(line - 2).map_or(0, |(at, _)| at + 1),
    };
    let message = error.to_string();
    let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
    let problem = match error.classify() {
        serde_json::error::Category::Data => message.to_owned(),
        serde_json::error::Category::Io | serde_json::error::Category::Syntax | serde_json::error::Category::Eof => {
            format!("not JSON: {message}")
        }
    };
    EventError::at((line_start + error.column()).saturating_sub(1).min(text.len()), problem)
}

/// A member's value, other than `data`'s.
enum Scalar {
    Null,
    Bool(bool),
    Integer(i32),
    Text(String),
}

impl Scalar {
    fn of(name: &str, json: &Json) -> Result<Self, EventError> {
        match json {
            Json::Null => Ok(Self::Null),
            Json::Bool(value) => Ok(Self::Bool(*value)),
            Json::String(text) => Ok(Self::Text(text.clone())),
            Json::Number(number) => number
                .as_i64()
                .and_then(|number| i32::try_from(number).ok())
                .map(Self::Integer)
                .ok_or_else(|| EventError::new(format!("`{}` is {number}: {NUMBERS}", brief(name)))),
            Json::Array(_) | Json::Object(_) => Err(EventError::new(format!("`{}`: {SCALARS}", brief(name)))),
        }
    }
}

/// The attributes, the required ones, `data` and `data_base64`.
const MEMBERS_MAX: usize = ATTRIBUTES_MAX + 6;

const NUMBERS: &str = "an attribute's number is whole and has 32 bits; write others as strings";
const SCALARS: &str = "an attribute is a string, a whole number or a boolean; structure belongs into `data`";

/// What was read so far.
#[derive(Default)]
struct Parts {
    event: CloudEvent,
    version: bool,
    data: Option<String>,
    binary: Option<Bytes>,
}

impl Parts {
    fn add(&mut self, name: &str, value: Scalar) -> Result<(), EventError> {
        let value = match value {
            // As the format has it: an attribute that is null is not there.
            Scalar::Null => return Ok(()),
            Scalar::Bool(value) => Value::Boolean(value),
            Scalar::Integer(value) => Value::Integer(value),
            Scalar::Text(text) => Value::String(text),
        };
        match (name, value) {
            ("data_base64", Value::String(text)) => {
                let bytes = BASE64_STANDARD.decode(text);
                let bytes = bytes.map_err(|error| EventError::new(format!("`data_base64` is not base64: {error}")))?;
                self.binary = Some(Bytes::from(bytes));
                Ok(())
            }
            ("data_base64", _) => Err(EventError::new("`data_base64` must be a string")),
            ("id" | "source" | "type" | "specversion", value) if !matches!(value, Value::String(_)) => {
                Err(EventError::new(format!("`{name}` must be a string")))
            }
            (_, value) => {
                self.version |= name == "specversion";
                self.event.set(name, value)
            }
        }
    }

    fn finish(self) -> Result<CloudEvent, EventError> {
        let mut event = self.event;
        if !self.version {
            return Err(EventError::new("`specversion` is missing: a CloudEvent has \"specversion\": \"1.0\""));
        }
        for (name, value) in [("id", &event.id), ("source", &event.source), ("type", &event.ty)] {
            if value.is_empty() {
                return Err(EventError::new(format!("`{name}` is missing or empty: every CloudEvent has one")));
            }
        }
        event.data = match (self.data, self.binary) {
            (Some(_), Some(_)) => return Err(EventError::new("`data` and `data_base64` exclude each other")),
            (None, None) => Data::None,
            (None, Some(bytes)) => Data::Binary(bytes),
            (Some(text), None) if event.declares_json() => Data::Text(text),
            (Some(text), None) if text == "null" => Data::None,
            (Some(text), None) => match serde_json::from_str(&text) {
                Ok(string) => Data::Text(string),
                Err(_) => {
                    let content_type = event.attribute("datacontenttype").unwrap_or_default();
                    let content_type = brief(&content_type);
                    return Err(EventError::new(format!(
                        "`data` must be a string where datacontenttype is `{content_type}`"
                    )));
                }
            },
        };
        Ok(event)
    }
}

struct EventVisitor;

impl<'de> Visitor<'de> for EventVisitor {
    /// The members, and the data's text where it stands.
    type Value = (Parts, Option<&'de str>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a CloudEvent: an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut parts = Parts::default();
        let mut data = None;
        let mut seen = std::collections::HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == "data" {
                let raw: &RawValue = map.next_value()?;
                data = Some(raw.get());
            } else {
                let value = map.next_value_seed(ScalarSeed(&name))?;
                parts.add(&name, value).map_err(A::Error::custom)?;
            }
            if !seen.insert(name.clone()) {
                return Err(A::Error::custom(format_args!("`{}` stands twice", brief(&name))));
            }
            if seen.len() > MEMBERS_MAX {
                return Err(A::Error::custom(format_args!("more than {MEMBERS_MAX} members")));
            }
        }
        Ok((parts, data))
    }
}

struct ScalarSeed<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for ScalarSeed<'_> {
    type Value = Scalar;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Scalar, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ScalarSeed<'_> {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {SCALARS}", brief(self.0))
    }

    fn visit_unit<E>(self) -> Result<Scalar, E> {
        Ok(Scalar::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
        Ok(Scalar::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Scalar, E> {
        i32::try_from(value)
            .map(Scalar::Integer)
            .map_err(|_| E::custom(format_args!("`{}` is {value}: {NUMBERS}", brief(self.0))))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Scalar, E> {
        i32::try_from(value)
            .map(Scalar::Integer)
            .map_err(|_| E::custom(format_args!("`{}` is {value}: {NUMBERS}", brief(self.0))))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Scalar, E> {
        Err(E::custom(format_args!("`{}` is {value}: {NUMBERS}", brief(self.0))))
    }

    fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Scalar, A::Error> {
        Err(A::Error::custom(format_args!("`{}`: {SCALARS}", brief(self.0))))
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Scalar, A::Error> {
        Err(A::Error::custom(format_args!("`{}`: {SCALARS}", brief(self.0))))
    }
}

/// Reads a value wholly, keeps nothing, and counts down the levels that are left.
struct Walk(usize);

impl Walk {
    fn deeper<E: serde::de::Error>(&self) -> Result<usize, E> {
        self.0.checked_sub(1).ok_or_else(|| E::custom(format_args!("data is nested deeper than {DATA_DEPTH_MAX}")))
    }
}

impl<'de> DeserializeSeed<'de> for Walk {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let left = self.deeper()?;
        while seq.next_element_seed(Walk(left))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let left = self.deeper()?;
        while map.next_key_seed(Walk(left))?.is_some() {
            map.next_value_seed(Walk(left))?;
        }
        Ok(())
    }
}
