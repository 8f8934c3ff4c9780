//! From a body's text to events that can be offered. No IO; no JSON tree is built.

use std::sync::Arc;

use http::StatusCode;
use jaiminho_core::Trace;
use jaiminho_event::{CloudEvent, Data, EventError, Template, Value, check_json, set_key};
use jaiminho_runtime::NewEvent;
use jaiminho_telemetry::traces::TraceContext;
use time::OffsetDateTime;

use crate::answer::EventId;
use crate::config::{Cost, EVENT_OVERHEAD_BYTES, LimitsConfig};
use crate::pieces::{Piece, array_pieces, line_pieces};
use crate::problem::{Position, Problem};
use crate::traced::Arrival;

/// How a body holds its events.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Format {
    /// One JSON value, or an array of them.
    Json,
    /// One JSON value a line.
    Ndjson,
    /// A CloudEvent in JSON.
    Structured,
    /// An array of CloudEvents in JSON.
    Batch,
    /// The body is the data; the attributes came in headers.
    Binary(Box<CloudEvent>),
}

/// Why a body is refused, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    pub(crate) detail: String,
    /// The event concerned, from 0.
    pub(crate) index: Option<usize>,
    /// Byte of the body.
    pub(crate) byte: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// Not what its format says.
    Malformed,
    /// An event over its limit.
    EventTooLarge,
    /// More events than the limit.
    TooManyEvents,
    /// Events that take more than what was reserved for them.
    BodyTooLarge,
}

impl Fault {
    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        Self { kind: FaultKind::Malformed, detail: detail.into(), index: None, byte: None }
    }

    pub(crate) fn at(mut self, byte: usize) -> Self {
        self.byte = Some(byte);
        self
    }

    /// `error` of an event whose text begins at `start` of the body.
    fn of(error: &EventError, start: usize) -> Self {
        Self { byte: error.position.map(|at| start + at), ..Self::malformed(error.problem()) }
    }

    pub(crate) fn problem(self, body: &[u8]) -> Problem {
        let (status, kind) = match self.kind {
            FaultKind::Malformed => (StatusCode::BAD_REQUEST, "malformed"),
            FaultKind::EventTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "event-too-large"),
            FaultKind::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "body-too-large"),
            FaultKind::TooManyEvents => (StatusCode::PAYLOAD_TOO_LARGE, "too-many-events"),
        };
        let mut problem = Problem::new(status, kind, self.detail);
        problem.index = self.index;
        problem.position = self.byte.map(|byte| Box::new(Position::of(body, byte)));
        problem
    }
}

/// Events ready to be offered, and their ids in the same order.
#[derive(Debug, Default)]
pub(crate) struct Drafts {
    pub(crate) events: Vec<NewEvent>,
    pub(crate) ids: Vec<EventId>,
    /// What they take.
    pub(crate) bytes: usize,
    /// No others came with it.
    is_one: bool,
}

/// What a request gives to each of its events.
#[derive(Clone, Debug, Default)]
pub(crate) struct Common {
    /// Attributes from allowed headers.
    pub(crate) attributes: Vec<(String, String)>,
    /// The request, or the message, in traces; none: traces are off.
    pub(crate) arrival: Option<Arc<Arrival>>,
    /// The client's trace, where it is sampled: what goes on with its events although nothing is told here.
    pub(crate) carried: Option<TraceContext>,
}

/// Makes events of bodies and messages.
#[derive(Debug)]
pub(crate) struct Drafter {
    /// `type` of plain JSON.
    pub(crate) ty: String,
    /// `source` of plain JSON.
    pub(crate) source: String,
    /// Rendered into `partitionkey`.
    pub(crate) key: Option<Template>,
    pub(crate) event_bytes_max: usize,
    pub(crate) events_max: usize,
}

/// What a draft takes beside its payload: columns, id, its piece of the body.
const DRAFT_COLUMNS_BYTES: usize = 192;

/// What its trace takes.
const TRACE_BYTES: u64 = 64;

impl Drafter {
    /// What the events of a body, or of a message (no format), take at most.
    pub(crate) fn cost(&self, limits: &LimitsConfig, format: Option<&Format>, common: &Common) -> Cost {
        let text = |text: &str| text.len() as u64;
        let own = EVENT_OVERHEAD_BYTES + text(&self.ty) + text(&self.source);
        let given = common.attributes.iter().map(|(name, value)| 2 * (text(name) + text(value)) + 16);
        let trace = if common.arrival.is_some() || common.carried.is_some() { TRACE_BYTES } else { 0 };
        let event_bytes = own + given.sum::<u64>() + trace;
        let copies = Cost::copies(self.key.is_some());
        match format {
            // Its attributes came in headers.
            Some(Format::Binary(_)) => {
                Cost { copies, event_bytes: event_bytes + 3 * limits.header_bytes.0, events_max: 1 }
            }
            Some(Format::Structured) | None => Cost { copies, event_bytes, events_max: 1 },
            Some(Format::Json | Format::Ndjson | Format::Batch) => {
                Cost { copies, event_bytes, events_max: u64::from(limits.events) }
            }
        }
    }

    /// All events of a body, or none.
    pub(crate) fn body(&self, format: Format, body: &[u8], common: &Common, bytes_max: usize) -> Result<Drafts, Fault> {
        let mut drafts = Drafts::default();
        if let Format::Binary(event) = format {
            self.check_text_size(body.len(), 0).map_err(|fault| Fault { index: Some(0), ..fault })?;
            let event = self.binary(*event, body)?;
            drafts.is_one = true;
            self.push(&mut drafts, event, common).map_err(|fault| Fault { index: Some(0), ..fault })?;
            return Ok(drafts);
        }
        let text = std::str::from_utf8(body)
            .map_err(|error| Fault::malformed("the body is not UTF-8").at(error.valid_up_to()))?;
        let structured = matches!(format, Format::Structured | Format::Batch);
        let pieces = match format {
            Format::Ndjson => line_pieces(text, self.events_max)?,
            Format::Json if text.trim_ascii_start().starts_with('[') => array_pieces(text, self.events_max)?,
            Format::Batch => array_pieces(text, self.events_max)?,
            Format::Json | Format::Structured | Format::Binary(_) => vec![Piece { text, start: 0 }],
        };
        drafts.is_one = pieces.len() == 1;
        drafts.events.reserve_exact(pieces.len());
        drafts.ids.reserve_exact(pieces.len());
        for (index, piece) in pieces.into_iter().enumerate() {
            let one = |fault: Fault| Fault { index: Some(index), ..fault };
            if drafts.bytes > bytes_max {
                let detail = format!("its events take more than the {bytes_max} bytes reserved for them");
                return Err(Fault { kind: FaultKind::BodyTooLarge, ..Fault::malformed(detail) });
            }
            self.check_text_size(piece.text.len(), piece.start).map_err(one)?;
            let event = if structured { self.structured(piece) } else { self.plain(piece) }.map_err(one)?;
            self.push(&mut drafts, event, common).map_err(one)?;
        }
        Ok(drafts)
    }

    /// One event of a WebSocket message: a CloudEvent if it is an object with `specversion`, else plain JSON.
    pub(crate) fn message(&self, text: &str, common: &Common) -> Result<(NewEvent, EventId), Fault> {
        let piece = Piece { text, start: 0 };
        self.check_text_size(text.len(), 0)?;
        let event =
            if crate::pieces::has_member(text, "specversion") { self.structured(piece) } else { self.plain(piece) }?;
        self.one(event, common)
    }

    /// One CloudEvent in JSON.
    pub(crate) fn structured_message(&self, text: &str, common: &Common) -> Result<(NewEvent, EventId), Fault> {
        self.check_text_size(text.len(), 0)?;
        let event = self.structured(Piece { text, start: 0 })?;
        self.one(event, common)
    }

    fn one(&self, event: (CloudEvent, bool), common: &Common) -> Result<(NewEvent, EventId), Fault> {
        let mut drafts = Drafts { is_one: true, ..Drafts::default() };
        self.push(&mut drafts, event, common)?;
        match (drafts.events.pop(), drafts.ids.pop()) {
            (Some(event), Some(id)) => Ok((event, id)),
            _ => Err(Fault::malformed("no event")),
        }
    }

    fn plain(&self, piece: Piece<'_>) -> Result<(CloudEvent, bool), Fault> {
        check_json(piece.text.as_bytes()).map_err(|error| Fault::of(&error, piece.start))?;
        let mut event = CloudEvent::new(new_id(), &self.source, &self.ty);
        event.attributes.insert("datacontenttype".to_owned(), Value::String("application/json".to_owned()));
        if let Some(now) = now_text() {
            event.attributes.insert("time".to_owned(), Value::Timestamp(now));
        }
        event.data = Data::Text(piece.text.trim_ascii().to_owned());
        Ok((event, true))
    }

    fn structured(&self, piece: Piece<'_>) -> Result<(CloudEvent, bool), Fault> {
        let mut error = match CloudEvent::from_json_slice(piece.text.as_bytes()) {
            Ok(event) => return Ok((event, false)),
            Err(error) => error,
        };
        // The one thing that we forgive: a CloudEvent without an id gets one.
        if let Some(inside) = piece.text.trim_ascii_start().strip_prefix('{')
            && !crate::pieces::has_member(piece.text, "id")
        {
            let with_id = format!("{{\"id\":\"{}\",{inside}", new_id());
            match CloudEvent::from_json_slice(with_id.as_bytes()) {
                Ok(event) => return Ok((event, true)),
                // What is missing besides.
                Err(other) if other.position.is_none() => error = other,
                Err(_) => {}
            }
        }
        Err(Fault::of(&error, piece.start))
    }

    fn binary(&self, mut event: CloudEvent, body: &[u8]) -> Result<(CloudEvent, bool), Fault> {
        let assigned = event.id.is_empty();
        if assigned {
            event.id = new_id();
        }
        let content_type = event.attribute("datacontenttype").map(|text| text.to_ascii_lowercase());
        let media_type = content_type.as_deref().map(|text| text.split(';').next().unwrap_or_default().trim());
        let json = media_type.is_none_or(|text| text.ends_with("/json") || text.ends_with("+json"));
        event.data = match std::str::from_utf8(body) {
            Ok("") if media_type.is_none() => Data::None,
            Ok(text) if json => {
                check_json(body).map_err(|error| Fault { index: Some(0), ..Fault::of(&error, 0) })?;
                Data::Text(text.trim_ascii().to_owned())
            }
            Err(error) if json => {
                let fault = Fault::malformed("the body is not UTF-8, and JSON is").at(error.valid_up_to());
                return Err(Fault { index: Some(0), ..fault });
            }
            Ok(text) if media_type.is_some_and(|text| text.starts_with("text/")) => Data::Text(text.to_owned()),
            Ok(_) | Err(_) => Data::Binary(bytes::Bytes::copy_from_slice(body)),
        };
        Ok((event, assigned))
    }

    fn check_text_size(&self, bytes: usize, start: usize) -> Result<(), Fault> {
        if bytes <= self.event_bytes_max {
            return Ok(());
        }
        Err(self.too_large(bytes).at(start))
    }

    fn too_large(&self, bytes: usize) -> Fault {
        let detail = format!("an event of {bytes} bytes; the limit is {}", self.event_bytes_max);
        Fault { kind: FaultKind::EventTooLarge, ..Fault::malformed(detail) }
    }

    /// Completes an event: common attributes, key, encoding.
    fn push(
        &self,
        drafts: &mut Drafts,
        (mut event, assigned): (CloudEvent, bool),
        common: &Common,
    ) -> Result<(), Fault> {
        for (name, value) in &common.attributes {
            event.set(name, Value::String(value.clone())).map_err(|error| Fault::of(&error, 0))?;
        }
        let unchanged = set_key(&mut event, self.key.as_ref(), || None);
        let unchanged = unchanged.map_err(|error| Fault::malformed(error.problem()))?;
        let payload = unchanged.unwrap_or_else(|| event.encode());
        if payload.len() > self.event_bytes_max {
            return Err(self.too_large(payload.len()));
        }
        drafts.bytes += payload.len() + DRAFT_COLUMNS_BYTES;
        let trace = match &common.arrival {
            Some(arrival) => arrival.event(&event, drafts.is_one),
            None => common.carried.map(|context| Trace { context: context.to_bytes(), since: 0 }),
        };
        drafts.events.push(NewEvent { trace: trace.map(Box::new), ..NewEvent::encoded(&event, payload) });
        drafts.ids.push(EventId { text: event.id, assigned });
        Ok(())
    }
}

fn new_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

fn now_text() -> Option<String> {
    let now = OffsetDateTime::now_utc();
    jaiminho_event::format_timestamp(now.unix_timestamp(), now.nanosecond() / 1_000_000 * 1_000_000)
}

#[cfg(test)]
#[path = "draft_tests.rs"]
pub(crate) mod tests;
