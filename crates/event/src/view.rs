//! A CloudEvent read in place: nothing of it is copied.
//!
//! The format is `io.cloudevents.v1.CloudEvent` (`proto/cloudevents/v1/cloudevents.proto`).

use std::borrow::Cow;

use crate::EventError;
use crate::event::{ATTRIBUTES_MAX, CloudEvent, Data, check_name, declares_json};
use crate::timestamp::{brief, format_timestamp};
use crate::value::ValueRef;
use crate::wire::{Fields, Raw};

/// Data of an event, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataRef<'a> {
    /// The event has no data.
    None,
    /// Text, JSON's too.
    Text(&'a str),
    /// Anything else.
    Binary(&'a [u8]),
}

/// A well-formed CloudEvent in its protobuf bytes, with its required attributes.
#[derive(Clone, Debug)]
pub struct EventView<'a> {
    id: &'a str,
    source: &'a str,
    ty: &'a str,
    attributes: Vec<(&'a str, ValueRef<'a>)>,
    data: DataRef<'a>,
}

impl<'a> EventView<'a> {
    /// Checks the whole event but the rules of its values ([`CloudEvent::validate`]); memory is bounded by
    /// [`ATTRIBUTES_MAX`]. As protobuf has it, the last of a repeated field or attribute holds, and an unknown
    /// field is ignored.
    ///
    /// # Errors
    /// Not protobuf, not UTF-8, a required attribute is missing or empty, another specversion, a name or a time
    /// that CloudEvents has not, too many attributes.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, EventError> {
        let mut view = Self { id: "", source: "", ty: "", attributes: Vec::new(), data: DataRef::None };
        let mut version = "";
        let mut schema = None;
        let mut fields = Fields::new(bytes, 0);
        while let Some((number, raw, at)) = fields.next()? {
            match number {
                1 => view.id = text(raw, at, "id")?,
                2 => view.source = text(raw, at, "source")?,
                3 => version = text(raw, at, "spec_version")?,
                4 => view.ty = text(raw, at, "type")?,
                5 => view.add_attribute(raw, at)?,
                6 => view.data = DataRef::Binary(content(raw, at, "binary_data")?.0),
                7 => view.data = DataRef::Text(text(raw, at, "text_data")?),
                8 => {
                    let any = any(raw, at)?;
                    view.data = DataRef::Binary(any.1);
                    schema = Some(any.0);
                }
                _ => {}
            }
            if matches!(number, 6 | 7) {
                schema = None;
            }
        }
        for (name, value) in [("id", view.id), ("source", view.source), ("type", view.ty)] {
            if value.is_empty() {
                return Err(EventError::new(format!("`{name}` is missing or empty: every CloudEvent has one")));
            }
        }
        if version != "1.0" {
            return Err(EventError::new(format!("specversion is `{}`, and must be `1.0`", brief(version))));
        }
        if let Some(url) = schema {
            view.add_default("datacontenttype", ValueRef::String("application/protobuf"));
            if !url.is_empty() {
                view.add_default("dataschema", ValueRef::Uri(url));
            }
        }
        Ok(view)
    }

    /// Attribute `id`.
    pub fn id(&self) -> &'a str {
        self.id
    }

    /// Attribute `source`.
    pub fn source(&self) -> &'a str {
        self.source
    }

    /// Attribute `type`.
    pub fn ty(&self) -> &'a str {
        self.ty
    }

    /// Any attribute as text, the required ones too; `None` when absent.
    pub fn attribute(&self, name: &str) -> Option<Cow<'a, str>> {
        match name {
            "id" => Some(Cow::Borrowed(self.id)),
            "source" => Some(Cow::Borrowed(self.source)),
            "type" => Some(Cow::Borrowed(self.ty)),
            "specversion" => Some(Cow::Borrowed("1.0")),
            _ => self.value(name).map(ValueRef::to_text),
        }
    }

    /// An optional or extension attribute.
    pub fn value(&self, name: &str) -> Option<ValueRef<'a>> {
        self.attributes.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    /// The optional and extension attributes, each once, in the order of the bytes.
    pub fn attributes(&self) -> impl ExactSizeIterator<Item = (&'a str, ValueRef<'a>)> + '_ {
        self.attributes.iter().copied()
    }

    /// The data.
    pub fn data(&self) -> DataRef<'a> {
        self.data
    }

    /// Whether the data is JSON text: by `datacontenttype`, or for want of one.
    pub fn is_json(&self) -> bool {
        let declared = match self.value("datacontenttype") {
            Some(value) => declares_json(Some(&value.to_text())),
            None => declares_json(None),
        };
        declared && matches!(self.data, DataRef::Text(_))
    }

    /// An owned copy.
    pub fn to_event(&self) -> CloudEvent {
        CloudEvent {
            id: self.id.to_owned(),
            source: self.source.to_owned(),
            ty: self.ty.to_owned(),
            attributes: self.attributes().map(|(name, value)| (name.to_owned(), value.to_value())).collect(),
            data: match self.data {
                DataRef::None => Data::None,
                DataRef::Text(text) => Data::Text(text.to_owned()),
                DataRef::Binary(bytes) => Data::Binary(bytes::Bytes::copy_from_slice(bytes)),
            },
        }
    }

    fn add_attribute(&mut self, raw: Raw<'a>, at: usize) -> Result<(), EventError> {
        let (bytes, start) = content(raw, at, "attributes")?;
        let (mut name, mut value) = ("", None);
        let mut fields = Fields::new(bytes, start);
        while let Some((number, raw, at)) = fields.next()? {
            match number {
                1 => name = text(raw, at, "attribute name")?,
                2 => value = attribute_value(raw, at)?.or(value),
                _ => {}
            }
        }
        check_name(name).map_err(|error| EventError::at(at, error.problem().to_owned()))?;
        let value = value.ok_or_else(|| EventError::at(at, format!("attribute `{name}` has no value")))?;
        match self.attributes.iter().position(|(known, _)| *known == name) {
            Some(known) => self.attributes[known].1 = value,
            None if self.attributes.len() == ATTRIBUTES_MAX => {
                return Err(EventError::at(at, format!("more than {ATTRIBUTES_MAX} attributes")));
            }
            None => self.attributes.push((name, value)),
        }
        Ok(())
    }

    fn add_default(&mut self, name: &'a str, value: ValueRef<'a>) {
        if self.value(name).is_none() && self.attributes.len() < ATTRIBUTES_MAX {
            self.attributes.push((name, value));
        }
    }
}

/// `CloudEventAttributeValue`; `None` when it holds nothing that we know.
fn attribute_value(raw: Raw<'_>, at: usize) -> Result<Option<ValueRef<'_>>, EventError> {
    let (bytes, start) = content(raw, at, "attribute value")?;
    let mut value = None;
    let mut fields = Fields::new(bytes, start);
    while let Some((number, raw, at)) = fields.next()? {
        value = Some(match number {
            1 => ValueRef::Boolean(varint(raw, at, "ce_boolean")? != 0),
            // An int32 is sign-extended to 64 bits; as protobuf has it, the lower 32 count.
            2 => ValueRef::Integer(varint(raw, at, "ce_integer")? as i32),
            3 => ValueRef::String(text(raw, at, "ce_string")?),
            4 => ValueRef::Binary(content(raw, at, "ce_bytes")?.0),
            5 => ValueRef::Uri(text(raw, at, "ce_uri")?),
            6 => ValueRef::UriRef(text(raw, at, "ce_uri_ref")?),
            7 => timestamp(raw, at)?,
            _ => continue,
        });
    }
    Ok(value)
}

/// `google.protobuf.Timestamp`
fn timestamp(raw: Raw<'_>, at: usize) -> Result<ValueRef<'_>, EventError> {
    let (bytes, start) = content(raw, at, "ce_timestamp")?;
    let (mut seconds, mut nanos) = (0i64, 0i32);
    let mut fields = Fields::new(bytes, start);
    while let Some((number, raw, at)) = fields.next()? {
        match number {
            1 => seconds = varint(raw, at, "seconds")? as i64,
            2 => nanos = varint(raw, at, "nanos")? as i32,
            _ => {}
        }
    }
    let nanos = u32::try_from(nanos).ok().filter(|nanos| format_timestamp(seconds, *nanos).is_some());
    let nanos =
        nanos.ok_or_else(|| EventError::at(at, "a time outside the years 1 to 9999, or its nanos above a second"))?;
    Ok(ValueRef::Timestamp { seconds, nanos })
}

/// `google.protobuf.Any`: type URL and value.
fn any(raw: Raw<'_>, at: usize) -> Result<(&str, &[u8]), EventError> {
    let (bytes, start) = content(raw, at, "proto_data")?;
    let (mut url, mut value) = ("", &[][..]);
    let mut fields = Fields::new(bytes, start);
    while let Some((number, raw, at)) = fields.next()? {
        match number {
            1 => url = text(raw, at, "type_url")?,
            2 => value = content(raw, at, "value")?.0,
            _ => {}
        }
    }
    Ok((url, value))
}

fn content<'a>(raw: Raw<'a>, at: usize, field: &str) -> Result<(&'a [u8], usize), EventError> {
    match raw {
        Raw::Bytes(bytes, start) => Ok((bytes, start)),
        Raw::Varint(_) | Raw::Fixed => {
            Err(EventError::at(at, format!("not a CloudEvent: `{field}` must be length-delimited")))
        }
    }
}

fn text<'a>(raw: Raw<'a>, at: usize, field: &str) -> Result<&'a str, EventError> {
    let (bytes, start) = content(raw, at, field)?;
    str::from_utf8(bytes)
        .map_err(|error| EventError::at(start + error.valid_up_to(), format!("`{field}` is not UTF-8")))
}

fn varint(raw: Raw<'_>, at: usize, field: &str) -> Result<u64, EventError> {
    match raw {
        Raw::Varint(value) => Ok(value),
        Raw::Bytes(..) | Raw::Fixed => Err(EventError::at(at, format!("not a CloudEvent: `{field}` must be a varint"))),
    }
}
