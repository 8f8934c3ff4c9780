//! How an event becomes a record: topic, key, headers, value. CloudEvents' Kafka binding.

use std::borrow::Cow;

use jaiminho_event::{DataRef, EventView, Template};
use rdkafka::message::{Header, OwnedHeaders};

use crate::config::{ConfigError, Mode, SinkConfig};

pub(crate) const STRUCTURED: &str = "application/cloudevents+json; charset=UTF-8";
/// W3C's, in lower case: Kafka's names are not folded.
pub(crate) const TRACEPARENT: &str = "traceparent";
const TOPIC_BYTES_MAX: usize = 249;

/// The parsed templates of a sink.
#[derive(Debug)]
pub(crate) struct Shape {
    topic: Template,
    /// The topic where it is the same for every event.
    literal: Option<String>,
    key: Option<Template>,
    headers: Vec<(String, Template)>,
    mode: Mode,
}

/// A record's parts, borrowed from the event where they can be.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) key: Option<Cow<'a, str>>,
    pub(crate) headers: OwnedHeaders,
    /// None: a tombstone, an event without data.
    pub(crate) value: Option<Cow<'a, [u8]>>,
}

impl Shape {
    pub(crate) fn new(config: &SinkConfig) -> Result<Self, ConfigError> {
        let (topic, literal) = topic(&config.topic)?;
        let key = config.key.as_ref().map(|key| template("key", key)).transpose()?;
        let headers = config.headers.iter().map(|(name, text)| header(name, text)).collect::<Result<_, _>>()?;
        Ok(Self { topic, literal, key, headers, mode: config.mode })
    }

    /// Every mistake of its parts.
    pub(crate) fn check(config: &SinkConfig) -> impl Iterator<Item = ConfigError> {
        let key = config.key.as_ref().and_then(|key| template("key", key).err());
        let headers = config.headers.iter().filter_map(|(name, text)| header(name, text).err());
        topic(&config.topic).err().into_iter().chain(key).chain(headers)
    }

    /// The event's topic, or why it has none.
    pub(crate) fn topic(&self, event: &EventView<'_>) -> Result<Cow<'_, str>, String> {
        if let Some(literal) = &self.literal {
            return Ok(Cow::Borrowed(literal));
        }
        let name = self.topic.render(event).map_err(|missing| format!("topic: {missing}"))?;
        if is_topic_name(&name) { Ok(Cow::Owned(name)) } else { Err(format!("no topic's name: {name:?}")) }
    }

    /// The record's key.
    pub(crate) fn key<'a>(&self, event: &EventView<'a>) -> Option<Cow<'a, str>> {
        match &self.key {
            Some(template) => template.render(event).ok().map(Cow::Owned),
            None => event.attribute("partitionkey"),
        }
    }

    /// With a header for its trace, unless the file says what that is.
    pub(crate) fn parts<'a>(&self, event: &EventView<'a>, traceparent: Option<&str>) -> Parts<'a> {
        let key = self.key(event);
        let mut headers = OwnedHeaders::new_with_capacity(event.attributes().len() + self.headers.len() + 5);
        let value = match self.mode {
            Mode::Binary => {
                headers = binary_headers(headers, event);
                match event.data() {
                    DataRef::None => None,
                    DataRef::Text(text) => Some(Cow::Borrowed(text.as_bytes())),
                    DataRef::Binary(bytes) => Some(Cow::Borrowed(bytes)),
                }
            }
            Mode::Structured => {
                headers = add(headers, "content-type", STRUCTURED);
                Some(Cow::Owned(event.to_event().to_json_bytes()))
            }
        };
        let is_set = self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(TRACEPARENT));
        if let Some(traceparent) = traceparent.filter(|_| !is_set) {
            headers = add(headers, TRACEPARENT, traceparent);
        }
        for (name, template) in &self.headers {
            if let Ok(text) = template.render(event) {
                headers = add(headers, name, &text);
            }
        }
        Parts { key, headers, value }
    }
}

/// The topic's template, and its name where that is the same for every event.
fn topic(text: &str) -> Result<(Template, Option<String>), ConfigError> {
    let topic = template("topic", text)?;
    let literal = topic.is_literal().then(|| text.to_owned());
    match literal.as_ref().filter(|name| !is_topic_name(name)) {
        Some(name) => Err(ConfigError::Topic(name.clone())),
        None => Ok((topic, literal)),
    }
}

fn header(name: &str, text: &str) -> Result<(String, Template), ConfigError> {
    let reserved = name.starts_with("ce_") || name.eq_ignore_ascii_case("content-type");
    if name.is_empty() || name.contains('\0') || reserved {
        return Err(ConfigError::Header(name.to_owned()));
    }
    Ok((name.to_owned(), template(&format!("headers.{name}"), text)?))
}

fn template(field: &str, text: &str) -> Result<Template, ConfigError> {
    Template::parse(text).map_err(|error| ConfigError::Template { field: field.to_owned(), error: error.to_string() })
}

fn binary_headers(mut headers: OwnedHeaders, event: &EventView<'_>) -> OwnedHeaders {
    for (name, text) in
        [("ce_specversion", "1.0"), ("ce_id", event.id()), ("ce_source", event.source()), ("ce_type", event.ty())]
    {
        headers = add(headers, name, text);
    }
    let mut prefixed = String::with_capacity(32);
    for (name, value) in event.attributes() {
        let text = value.to_text();
        if name == "datacontenttype" {
            headers = add(headers, "content-type", &text);
        } else {
            prefixed.clear();
            prefixed.push_str("ce_");
            prefixed.push_str(name);
            headers = add(headers, &prefixed, &text);
        }
    }
    headers
}

fn add(headers: OwnedHeaders, key: &str, value: &str) -> OwnedHeaders {
    headers.insert(Header { key, value: Some(value) })
}

pub(crate) fn is_topic_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !name.is_empty() && name.len() <= TOPIC_BYTES_MAX && name != "." && name != ".." && name.bytes().all(legal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_are_kafkas() {
        for good in ["a", "eugenio.measurement.v1", "A_b-9", &"x".repeat(249)] {
            assert!(is_topic_name(good), "{good}");
        }
        for bad in ["", ".", "..", "a b", "a/b", "ä", "a\0", &"x".repeat(250)] {
            assert!(!is_topic_name(bad), "{bad}");
        }
    }
}
