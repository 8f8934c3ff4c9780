//! From a record to an event: CloudEvents' Kafka binding, read; else plain JSON, else bytes.

use std::fmt::Write as _;

use jaiminho_core::{Reason, Rejection, Trace};
use jaiminho_event::{CloudEvent, Data, EventError, Template, Value, check_json, format_timestamp, set_key};
use jaiminho_runtime::NewEvent;
use jaiminho_telemetry::names::spans as names;
use jaiminho_telemetry::traces::{KeyValue, Span, SpanKind, TraceContext, Tracer};
use rdkafka::message::{Headers as _, Message};

use crate::record::TRACEPARENT;

/// An event to offer, or to reject.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) event: NewEvent,
    pub(super) rejection: Option<Rejection>,
}

/// What an item takes beside its payload: columns, its place in two queues, its trace in both.
pub(super) const ITEM_OVERHEAD_BYTES: u64 = 224;

impl Item {
    pub(super) fn bytes(&self) -> u64 {
        self.event.payload.len() as u64 + ITEM_OVERHEAD_BYTES
    }
}

/// Makes events of records.
#[derive(Debug)]
pub(super) struct Decoder {
    /// `type` of what is no CloudEvent.
    pub(super) ty: String,
    /// `source` of what is no CloudEvent.
    pub(super) source: String,
    /// Rendered into `partitionkey`.
    pub(super) key: Option<Template>,
    pub(super) event_bytes_max: usize,
    pub(super) tracer: Tracer,
}

/// Why a record is no event.
struct Fault(Reason, String);

impl From<EventError> for Fault {
    fn from(error: EventError) -> Self {
        Self(Reason::Malformed, error.problem().to_owned())
    }
}

impl Decoder {
    /// Never fails: what can't be read is an item to reject, with the record's bytes.
    pub(super) fn decode(&self, record: &impl Message) -> Item {
        let read = self.event(record).and_then(|mut event| {
            set_key(&mut event, self.key.as_ref(), || record.key().map(key_text))?;
            let mut item = NewEvent::from(&event);
            let bytes = item.payload.len();
            if bytes > self.event_bytes_max {
                let text = format!("an event of {bytes} bytes; the limit is {}", self.event_bytes_max);
                return Err(Fault(Reason::TooLarge, text));
            }
            item.trace = self.trace(record, &event.id);
            Ok(item)
        });
        let (event, rejection) = match read {
            Ok(event) => (event, None),
            Err(Fault(reason, text)) => {
                let id = place(record);
                let text = format!("{id}: {text}");
                // Its rejection is told in the sender's trace.
                let trace = self.trace(record, &id);
                (NewEvent { trace, ..self.bytes(record) }, Some(Rejection::new(reason, text)))
            }
        };
        Item { event, rejection }
    }

    /// A sampled record's place in its trace: it goes on with that of its header `traceparent`, or begins one.
    fn trace(&self, record: &impl Message, id: &str) -> Option<Box<Trace>> {
        if !self.tracer.is_on() {
            return None;
        }
        let parent = header(record, TRACEPARENT).ok().flatten().and_then(|text| TraceContext::parse(text).ok());
        let context = self.tracer.start(parent.as_ref())?;
        let (now, topic) = (self.tracer.now(), record.topic());
        let parent = parent.map(|parent| parent.span);
        let mut span = Span::new(context, parent, SpanKind::Consumer, format!("receive {topic}"), (now, now))
            .with(KeyValue::new(names::SYSTEM, names::SYSTEM_KAFKA))
            .with(KeyValue::new(names::OPERATION, names::RECEIVE))
            .with(KeyValue::new(names::OPERATION_TYPE, names::RECEIVE))
            .with_text(names::DESTINATION, topic)
            .with(KeyValue::new(names::PARTITION, record.partition().to_string()))
            .with(KeyValue::new(names::OFFSET, record.offset()))
            .with_text(names::MESSAGE_ID, id);
        if let Some(key) = record.key() {
            span = span.with_text(names::KEY, &key_text(key));
        }
        self.tracer.record(span);
        Some(Box::new(Trace { context: context.to_bytes(), since: now }))
    }

    fn event(&self, record: &impl Message) -> Result<CloudEvent, Fault> {
        let content_type = header(record, "content-type")?;
        let media_type =
            content_type.map(|text| text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
        let value = record.payload();
        match media_type.as_deref().and_then(|text| text.strip_prefix("application/cloudevents")) {
            Some("" | "+json") => return Ok(CloudEvent::from_json_slice(value.unwrap_or_default())?),
            Some("+protobuf") => {
                let event = CloudEvent::decode(value.unwrap_or_default())?;
                event.validate()?;
                return Ok(event);
            }
            Some(other) => {
                return Err(Fault(Reason::Malformed, format!("application/cloudevents{other} is not read here")));
            }
            None => {}
        }
        let is_cloud_event = header(record, "ce_specversion")?.is_some();
        let mut event = if is_cloud_event { binary_attributes(record)? } else { self.plain(record) };
        if let Some(content_type) = content_type {
            event.set("datacontenttype", content_type.into())?;
        }
        let Some(value) = value else { return Ok(event) };
        let (json, text) = kind(media_type.as_deref());
        event.data = match std::str::from_utf8(value) {
            Ok(text) if json && check_json(value).is_ok() => Data::Text(text.trim_ascii().to_owned()),
            Ok(_) | Err(_) if json && (is_cloud_event || content_type.is_some()) => {
                check_json(value)?;
                return Err(Fault(
                    Reason::Malformed,
                    "its value is not the JSON that its content type says".to_owned(),
                ));
            }
            Ok(value) if text => Data::Text(value.to_owned()),
            Ok(_) | Err(_) => Data::Binary(value.to_vec().into()),
        };
        if content_type.is_none() && !is_cloud_event {
            let found =
                if matches!(event.data, Data::Text(_)) { "application/json" } else { "application/octet-stream" };
            event.set("datacontenttype", found.into())?;
        }
        Ok(event)
    }

    /// The same id each time that the record is read.
    fn plain(&self, record: &impl Message) -> CloudEvent {
        let mut event = CloudEvent::new(place(record), &self.source, &self.ty);
        let millis = record.timestamp().to_millis();
        let time = millis.and_then(|ms| format_timestamp(ms.div_euclid(1000), ms.rem_euclid(1000) as u32 * 1_000_000));
        if let Some(time) = time {
            event.attributes.insert("time".to_owned(), Value::Timestamp(time));
        }
        event
    }

    /// The record as it is, for a dead letter; cut to what an event may have.
    fn bytes(&self, record: &impl Message) -> NewEvent {
        let mut event = self.plain(record);
        let value = record.payload().unwrap_or_default();
        if value.len() > self.event_bytes_max {
            event.attributes.insert("truncated".to_owned(), Value::Boolean(true));
        }
        event.data = Data::Binary(value[..value.len().min(self.event_bytes_max)].to_vec().into());
        if let Some(key) = record.key().filter(|key| !key.is_empty()).map(key_text) {
            event.attributes.insert("partitionkey".to_owned(), key.into());
        }
        NewEvent::from(&event)
    }
}

/// `TOPIC/PARTITION/OFFSET`
fn place(record: &impl Message) -> String {
    format!("{}/{}/{}", record.topic(), record.partition(), record.offset())
}

/// A key that is no text is written in hexadecimal digits.
fn key_text(key: &[u8]) -> String {
    match std::str::from_utf8(key) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        Ok(_) | Err(_) => key.iter().fold(String::with_capacity(2 * key.len()), |mut text, byte| {
            // Writing to a string can't fail.
            let _written = write!(text, "{byte:02x}");
            text
        }),
    }
}

/// Whether data of this media type is JSON, and whether it is text. CloudEvents takes JSON for granted where there is none.
fn kind(media_type: Option<&str>) -> (bool, bool) {
    let json = media_type.is_none_or(|text| text.ends_with("/json") || text.ends_with("+json"));
    (json, media_type.is_some_and(|text| text.starts_with("text/")))
}

/// The first header of this name, whatever its case, as text.
fn header<'a>(record: &'a impl Message, name: &'static str) -> Result<Option<&'a str>, Fault> {
    let mut headers = record.headers().into_iter().flat_map(|headers| headers.iter());
    let Some(header) = headers.find(|header| header.key.eq_ignore_ascii_case(name)) else { return Ok(None) };
    text(name, header.value).map(Some)
}

fn text<'a>(name: &str, value: Option<&'a [u8]>) -> Result<&'a str, Fault> {
    let not_text = |_| Fault(Reason::Malformed, format!("header {name} is not UTF-8"));
    std::str::from_utf8(value.unwrap_or_default()).map_err(not_text)
}

fn binary_attributes(record: &impl Message) -> Result<CloudEvent, Fault> {
    let mut event = CloudEvent::new("", "", "");
    for header in record.headers().into_iter().flat_map(|headers| headers.iter()) {
        if let Some(name) = header.key.strip_prefix("ce_") {
            event.set(name, text(header.key, header.value)?.into())?;
        }
    }
    event.validate()?;
    Ok(event)
}
