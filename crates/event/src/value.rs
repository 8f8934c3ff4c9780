//! Attribute values: CloudEvents' seven types, owned and borrowed.

use std::borrow::Cow;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;

use crate::timestamp::format_timestamp;

/// Value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `true` or `false`.
    Boolean(bool),
    /// 32 bits, signed.
    Integer(i32),
    /// Unicode text without control characters.
    String(String),
    /// Bytes; base64 as text.
    Binary(Bytes),
    /// An absolute URI.
    Uri(String),
    /// A URI or a relative reference.
    UriRef(String),
    /// RFC 3339. [`crate::CloudEvent::set`] brings it to UTC.
    Timestamp(String),
}

impl Value {
    /// The canonical string form of CloudEvents' type system.
    pub fn to_text(&self) -> Cow<'_, str> {
        match self {
            Self::Boolean(value) => Cow::Borrowed(if *value { "true" } else { "false" }),
            Self::Integer(value) => Cow::Owned(value.to_string()),
            Self::String(text) | Self::Uri(text) | Self::UriRef(text) | Self::Timestamp(text) => Cow::Borrowed(text),
            Self::Binary(bytes) => Cow::Owned(BASE64_STANDARD.encode(bytes)),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Self::Integer(value)
    }
}

/// Value of an attribute, borrowed from the event's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueRef<'a> {
    /// As [`Value::Boolean`].
    Boolean(bool),
    /// As [`Value::Integer`].
    Integer(i32),
    /// As [`Value::String`].
    String(&'a str),
    /// As [`Value::Binary`].
    Binary(&'a [u8]),
    /// As [`Value::Uri`].
    Uri(&'a str),
    /// As [`Value::UriRef`].
    UriRef(&'a str),
    /// An instant, between the years 1 and 9999.
    Timestamp {
        /// Since 1970, UTC.
        seconds: i64,
        /// Below 1,000,000,000.
        nanos: u32,
    },
}

impl<'a> ValueRef<'a> {
    /// The canonical string form of CloudEvents' type system.
    pub fn to_text(self) -> Cow<'a, str> {
        match self {
            Self::Boolean(value) => Cow::Borrowed(if value { "true" } else { "false" }),
            Self::Integer(value) => Cow::Owned(value.to_string()),
            Self::String(text) | Self::Uri(text) | Self::UriRef(text) => Cow::Borrowed(text),
            Self::Binary(bytes) => Cow::Owned(BASE64_STANDARD.encode(bytes)),
            Self::Timestamp { seconds, nanos } => Cow::Owned(format_timestamp(seconds, nanos).unwrap_or_default()),
        }
    }

    /// An owned copy.
    pub fn to_value(self) -> Value {
        match self {
            Self::Boolean(value) => Value::Boolean(value),
            Self::Integer(value) => Value::Integer(value),
            Self::String(text) => Value::String(text.to_owned()),
            Self::Binary(bytes) => Value::Binary(Bytes::copy_from_slice(bytes)),
            Self::Uri(text) => Value::Uri(text.to_owned()),
            Self::UriRef(text) => Value::UriRef(text.to_owned()),
            Self::Timestamp { .. } => Value::Timestamp(self.to_text().into_owned()),
        }
    }
}
