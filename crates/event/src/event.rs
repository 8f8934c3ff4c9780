//! The owned event, its rules, and its protobuf form.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::EventError;
use crate::timestamp::{brief, format_timestamp, parse_timestamp};
use crate::value::Value;
use crate::view::EventView;
use crate::wire::{field_len, put_bytes, put_head, put_number, varint_len};

/// Longest name of an attribute. (CloudEvents recommends at most 20.)
pub const NAME_BYTES_MAX: usize = 64;

/// Most optional and extension attributes of one event.
pub const ATTRIBUTES_MAX: usize = 128;

/// Data of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Data {
    /// The event has no data.
    #[default]
    None,
    /// Text. JSON text when `datacontenttype` is absent, `*/json` or `+json`.
    Text(String),
    /// Anything else.
    Binary(Bytes),
}

/// A CloudEvent 1.0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CloudEvent {
    /// Not empty; with `source` it identifies the event.
    pub id: String,
    /// A URI reference, not empty.
    pub source: String,
    /// Attribute `type`; not empty.
    pub ty: String,
    /// All optional and extension attributes: `datacontenttype`, `dataschema`, `subject`, `time`, `partitionkey`, …
    pub attributes: BTreeMap<String, Value>,
    /// The data.
    pub data: Data,
}

impl CloudEvent {
    /// An event without optional attributes and data.
    pub fn new(id: impl Into<String>, source: impl Into<String>, ty: impl Into<String>) -> Self {
        Self { id: id.into(), source: source.into(), ty: ty.into(), ..Self::default() }
    }

    /// CloudEvents' protobuf format, in one allocation.
    ///
    /// A [`Value::Timestamp`] that is not RFC 3339 ([`CloudEvent::set`] lets none pass) is written as a string.
    pub fn encode(&self) -> Arc<[u8]> {
        let attributes: Vec<(&str, Coded<'_>, usize)> =
            self.attributes.iter().map(|(name, value)| coded(name, value)).collect();
        let data = match &self.data {
            Data::None => None,
            Data::Text(text) => Some((7, text.as_bytes())),
            Data::Binary(bytes) => Some((6, &bytes[..])),
        };
        let heads = [(1, self.id.as_str()), (2, &self.source), (3, "1.0"), (4, &self.ty)];
        let length = heads.iter().map(|(_, text)| field_len(text.len())).sum::<usize>()
            + attributes
                .iter()
                .map(|(name, _, value)| field_len(field_len(name.len()) + field_len(*value)))
                .sum::<usize>()
            + data.map_or(0, |(_, bytes)| field_len(bytes.len()));
        let mut encoded: Arc<[u8]> = std::iter::repeat_n(0, length).collect();
        let mut out = Arc::get_mut(&mut encoded).unwrap_or_default();
        for (number, text) in heads {
            put_bytes(&mut out, number, text.as_bytes());
        }
        for (name, value, value_len) in &attributes {
            put_head(&mut out, 5, field_len(name.len()) + field_len(*value_len));
            put_bytes(&mut out, 1, name.as_bytes());
            put_head(&mut out, 2, *value_len);
            value.put(&mut out);
        }
        if let Some((number, bytes)) = data {
            put_bytes(&mut out, number, bytes);
        }
        debug_assert!(out.is_empty(), "{length} bytes were too many");
        encoded
    }

    /// Reads CloudEvents' protobuf format.
    ///
    /// # Errors
    /// As [`EventView::parse`].
    pub fn decode(bytes: &[u8]) -> Result<Self, EventError> {
        EventView::parse(bytes).map(|view| view.to_event())
    }

    /// Any attribute as text, the required ones too; `None` when absent.
    pub fn attribute(&self, name: &str) -> Option<Cow<'_, str>> {
        match name {
            "id" => Some(Cow::Borrowed(&self.id)),
            "source" => Some(Cow::Borrowed(&self.source)),
            "type" => Some(Cow::Borrowed(&self.ty)),
            "specversion" => Some(Cow::Borrowed("1.0")),
            _ => self.attributes.get(name).map(Value::to_text),
        }
    }

    /// Sets an attribute, the required ones too. Known ones get their type: `time` a timestamp, `dataschema` a URI,
    /// `subject`, `datacontenttype` and `partitionkey` a string. A timestamp is brought to UTC.
    ///
    /// # Errors
    /// A name that CloudEvents does not allow, or a value that the attribute can't have; nothing is changed then.
    pub fn set(&mut self, name: &str, value: Value) -> Result<(), EventError> {
        match name {
            "id" => self.id = required(name, &value)?,
            "source" => self.source = required(name, &value)?,
            "type" => self.ty = required(name, &value)?,
            "specversion" if value.to_text() == "1.0" => {}
            "specversion" => {
                return Err(EventError::new(format!(
                    "specversion is `{}`, and must be `1.0`",
                    brief(&value.to_text())
                )));
            }
            _ => {
                check_name(name)?;
                let value = typed(name, value)?;
                if self.attributes.len() >= ATTRIBUTES_MAX && !self.attributes.contains_key(name) {
                    return Err(EventError::new(format!("more than {ATTRIBUTES_MAX} attributes")));
                }
                self.attributes.insert(name.to_owned(), value);
            }
        }
        Ok(())
    }

    /// Whether the data is JSON text: by `datacontenttype`, or for want of one.
    pub fn is_json(&self) -> bool {
        matches!(self.data, Data::Text(_)) && self.declares_json()
    }

    /// Checks every rule: required attributes, names, types and values of attributes, their number.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn validate(&self) -> Result<(), EventError> {
        for (name, value) in [("id", &self.id), ("source", &self.source), ("type", &self.ty)] {
            check_required(name, value)?;
        }
        if self.attributes.len() > ATTRIBUTES_MAX {
            return Err(EventError::new(format!("more than {ATTRIBUTES_MAX} attributes")));
        }
        for (name, value) in &self.attributes {
            check_name(name)?;
            check_value(name, value)?;
        }
        Ok(())
    }

    pub(crate) fn declares_json(&self) -> bool {
        declares_json(self.attribute("datacontenttype").as_deref())
    }
}

/// Whether data of this content type is JSON; CloudEvents takes JSON for granted where there is none.
pub(crate) fn declares_json(content_type: Option<&str>) -> bool {
    let Some(content_type) = content_type else { return true };
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let subtype = media_type.rsplit('/').next().unwrap_or_default().as_bytes();
    subtype.eq_ignore_ascii_case(b"json")
        || subtype.len() > 5 && subtype[subtype.len() - 5..].eq_ignore_ascii_case(b"+json")
}

/// Lower-case letters and digits, 1 to 64; `data` and the required attributes are no names for others.
pub(crate) fn check_name(name: &str) -> Result<(), EventError> {
    let legal = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if !legal || name.len() > NAME_BYTES_MAX {
        let name = brief(name);
        return Err(EventError::new(format!("`{name}` is no attribute name: 1 to {NAME_BYTES_MAX} of a-z and 0-9")));
    }
    if matches!(name, "data" | "id" | "source" | "type" | "specversion") {
        return Err(EventError::new(format!("`{name}` can't be the name of an extension attribute")));
    }
    Ok(())
}

fn required(name: &str, value: &Value) -> Result<String, EventError> {
    let text = value.to_text();
    check_required(name, &text)?;
    Ok(text.into_owned())
}

fn check_required(name: &str, text: &str) -> Result<(), EventError> {
    if text.is_empty() {
        return Err(EventError::new(format!("`{name}` is missing or empty: every CloudEvent has one")));
    }
    check_text(name, text)
}

/// The value in the type that a known attribute has; others keep theirs.
fn typed(name: &str, value: Value) -> Result<Value, EventError> {
    let value = match (name, value) {
        ("time", Value::String(text)) | (_, Value::Timestamp(text)) => {
            let (seconds, nanos) =
                parse_timestamp(&text).map_err(|error| EventError::new(format!("`{name}`: {}", error.problem())))?;
            Value::Timestamp(format_timestamp(seconds, nanos).unwrap_or(text))
        }
        ("dataschema", Value::String(text) | Value::UriRef(text)) => Value::Uri(text),
        (_, value) => value,
    };
    check_value(name, &value)?;
    Ok(value)
}

fn check_value(name: &str, value: &Value) -> Result<(), EventError> {
    let wanted = match name {
        "time" => (matches!(value, Value::Timestamp(_)), "an RFC 3339 time"),
        "dataschema" => (matches!(value, Value::Uri(_)), "a URI"),
        "datacontenttype" | "subject" | "partitionkey" => (matches!(value, Value::String(_)), "a string"),
        _ => (true, ""),
    };
    if !wanted.0 {
        return Err(EventError::new(format!("`{name}` must be {}", wanted.1)));
    }
    match value {
        Value::Boolean(_) | Value::Integer(_) | Value::Binary(_) => Ok(()),
        Value::Timestamp(text) => parse_timestamp(text).map(|_| ()),
        Value::String(text) | Value::Uri(text) | Value::UriRef(text) => {
            if text.is_empty() && matches!(name, "dataschema" | "datacontenttype" | "subject" | "partitionkey") {
                return Err(EventError::new(format!("`{name}` is empty: leave it out, or give it a value")));
            }
            check_text(name, text)
        }
    }
}

/// CloudEvents' strings have no control characters and no noncharacters.
fn check_text(name: &str, text: &str) -> Result<(), EventError> {
    let wrong = text.char_indices().find(|(_, c)| c.is_control() || is_noncharacter(*c));
    match wrong {
        None => Ok(()),
        Some((at, c)) => Err(EventError::new(format!(
            "`{name}` has the character U+{:04X} at byte {at}: control characters and noncharacters are not allowed",
            c as u32
        ))),
    }
}

fn is_noncharacter(c: char) -> bool {
    let code = c as u32;
    (0xFDD0..=0xFDEF).contains(&code) || code & 0xFFFE == 0xFFFE
}

/// An attribute's value on its way into protobuf.
enum Coded<'a> {
    Number(u8, u64),
    Bytes(u8, &'a [u8]),
    Timestamp(i64, u32),
}

/// Name, value, and the length of its `CloudEventAttributeValue`.
fn coded<'a>(name: &'a str, value: &'a Value) -> (&'a str, Coded<'a>, usize) {
    let coded = match value {
        Value::Boolean(value) => Coded::Number(1, u64::from(*value)),
        Value::Integer(value) => Coded::Number(2, i64::from(*value) as u64),
        Value::String(text) => Coded::Bytes(3, text.as_bytes()),
        Value::Binary(bytes) => Coded::Bytes(4, bytes),
        Value::Uri(text) => Coded::Bytes(5, text.as_bytes()),
        Value::UriRef(text) => Coded::Bytes(6, text.as_bytes()),
        Value::Timestamp(text) => match parse_timestamp(text) {
            Ok((seconds, nanos)) => Coded::Timestamp(seconds, nanos),
            Err(_) => Coded::Bytes(3, text.as_bytes()),
        },
    };
    let length = match &coded {
        Coded::Number(_, value) => 1 + varint_len(*value),
        Coded::Bytes(_, bytes) => field_len(bytes.len()),
        Coded::Timestamp(seconds, nanos) => field_len(timestamp_len(*seconds, *nanos)),
    };
    (name, coded, length)
}

impl Coded<'_> {
    fn put(&self, out: &mut &mut [u8]) {
        match self {
            Self::Number(number, value) => put_number(out, *number, *value),
            Self::Bytes(number, bytes) => put_bytes(out, *number, bytes),
            Self::Timestamp(seconds, nanos) => {
                put_head(out, 7, timestamp_len(*seconds, *nanos));
                put_number(out, 1, *seconds as u64);
                if *nanos != 0 {
                    put_number(out, 2, u64::from(*nanos));
                }
            }
        }
    }
}

fn timestamp_len(seconds: i64, nanos: u32) -> usize {
    let nanos = if nanos == 0 { 0 } else { 1 + varint_len(u64::from(nanos)) };
    1 + varint_len(seconds as u64) + nanos
}
