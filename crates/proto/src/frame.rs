//! The frame of events: one byte field with all payloads, and columns of numbers beside it.

use std::num::NonZeroU64;

use bytes::{Bytes, BytesMut};
use jaiminho_core::{Delivery, Event, KeyHash, LinkError, Origin, Payload, ToConsumer, Trace, TraceContext};

use crate::limits::{EVENT_COLUMNS_BYTES_MAX, EVENTS_PER_FRAME_MAX, FRAME_OVERHEAD_BYTES, violation};
use crate::v1;

const TRACE_BYTES: usize = size_of::<TraceContext>();

/// Cuts deliveries into runs whose frames keep to [`EVENTS_PER_FRAME_MAX`] and, encoded, to `frame_bytes_max`. An event
/// that is too large for any frame stands alone.
pub fn frames(deliveries: &[Delivery], frame_bytes_max: usize) -> impl Iterator<Item = &[Delivery]> {
    let room = frame_bytes_max.saturating_sub(FRAME_OVERHEAD_BYTES - EVENT_COLUMNS_BYTES_MAX);
    let mut rest = deliveries;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = rest.iter().take(EVENTS_PER_FRAME_MAX).take_while(|delivery| {
            bytes += delivery.event.payload.len() + EVENT_COLUMNS_BYTES_MAX;
            bytes <= room
        });
        let count = fits.count().max(1).min(rest.len());
        let (frame, after) = rest.split_at(count);
        rest = after;
        (!frame.is_empty()).then_some(frame)
    })
}

/// A frame of deliveries that are numbered without a gap. Copies each payload once. Of sampled events the last one says when the
/// frame was sent.
///
/// The caller keeps to the consumer's limits, with [`frames`]: a peer takes more as a violation.
pub fn encode_events(deliveries: &[Delivery], backlog: u64, pressure: bool) -> v1::Events {
    let count = deliveries.len();
    let mut payloads = BytesMut::with_capacity(deliveries.iter().map(|delivery| delivery.event.payload.len()).sum());
    let mut ends = Vec::with_capacity(count);
    let (mut key_hash, mut keyless) = (Written::new(count, 0), Vec::new());
    let mut attempt = Written::new(count, 1);
    let [mut arrived_ms, mut deadline_ms, mut incarnation, mut offset] =
        std::array::from_fn(|_| Written::new(count, 0));
    let (mut traced, mut traces, mut sent_unix_ns) = (Vec::new(), BytesMut::new(), 0);
    for (index, Delivery { event, .. }) in deliveries.iter().enumerate() {
        payloads.extend_from_slice(&event.payload);
        ends.push(payloads.len() as u32);
        key_hash.put(event.key.map_or(0, |key| key.0));
        if event.key.is_none() {
            keyless.push(index);
        }
        attempt.put(event.attempt);
        arrived_ms.put(event.arrived_ms);
        deadline_ms.put(event.deadline_ms.map_or(0, NonZeroU64::get));
        incarnation.put(event.origin.incarnation);
        offset.put(event.origin.offset);
        if let Some(trace) = &event.trace {
            traced.push(index as u32);
            traces.extend_from_slice(&trace.context);
            sent_unix_ns = trace.since;
        }
    }
    let (key_hash, keyless) = keys(key_hash.done(), &keyless, count);
    v1::Events {
        payloads: payloads.freeze(),
        ends,
        first: deliveries.first().map_or(0, |delivery| delivery.number),
        key_hash,
        keyless,
        attempt: attempt.done(),
        arrived_ms: arrived_ms.done(),
        deadline_ms: deadline_ms.done(),
        origin_incarnation: incarnation.done(),
        origin_offset: offset.done(),
        traced,
        traces: traces.freeze(),
        backlog,
        pressure,
        sent_unix_ns,
    }
}

/// The hashes, and which events have no key: a hash of 0 does not say it.
fn keys(hashes: Vec<u64>, keyless: &[usize], count: usize) -> (Vec<u64>, Bytes) {
    if keyless.len() == count {
        return (Vec::new(), Bytes::new());
    }
    let hashes = if hashes.is_empty() { vec![0] } else { hashes };
    if keyless.is_empty() {
        return (hashes, Bytes::new());
    }
    let mut bits = vec![0u8; count.div_ceil(8)];
    keyless.iter().for_each(|index| bits[index / 8] |= 1 << (index % 8));
    (hashes, Bytes::from(bits))
}

/// A column on its way: nothing when all are the default, one value when all are the same, else one of each event.
struct Written<T> {
    count: usize,
    default: T,
    first: T,
    put: usize,
    /// Empty as long as all are the same.
    each: Vec<T>,
}

impl<T: Copy + PartialEq> Written<T> {
    fn new(count: usize, default: T) -> Self {
        Self { count, default, first: default, put: 0, each: Vec::new() }
    }

    fn put(&mut self, value: T) {
        if !self.each.is_empty() {
            self.each.push(value);
        } else if self.put == 0 {
            self.first = value;
        } else if value != self.first {
            self.each.reserve_exact(self.count);
            self.each.resize(self.put, self.first);
            self.each.push(value);
        }
        self.put += 1;
    }

    fn done(self) -> Vec<T> {
        if self.each.is_empty() && self.first != self.default { vec![self.first] } else { self.each }
    }
}

/// Checks a frame, and gives each event its own memory: keeping one keeps nothing else of the frame.
///
/// Allocates no more than the frame's own size and a constant for each event; nothing before the frame is checked.
///
/// # Errors
/// [`LinkError::Violation`] that says what does not fit.
pub fn decode_events(frame: &v1::Events) -> Result<ToConsumer, LinkError> {
    let columns = Columns::check(frame)?;
    let mut traced = frame.traced.iter().zip(frame.traces.chunks_exact(TRACE_BYTES)).peekable();
    let mut deliveries = Vec::with_capacity(frame.ends.len());
    let mut start = 0;
    for (index, &end) in frame.ends.iter().enumerate() {
        let end = end as usize;
        let trace = traced.next_if(|(at, _)| **at as usize == index);
        let trace = trace.and_then(|(_, bytes)| TraceContext::try_from(bytes).ok());
        let trace = trace.map(|context| Box::new(Trace { context, since: frame.sent_unix_ns }));
        deliveries.push(Delivery {
            number: frame.first + index as u64,
            event: columns.event(index, frame.payloads[start..end].into(), trace),
        });
        start = end;
    }
    Ok(ToConsumer::Events { deliveries, backlog: frame.backlog, pressure: frame.pressure })
}

/// The columns of a frame, checked.
struct Columns<'a> {
    key_hash: Column<'a, u64>,
    keyless: &'a [u8],
    keyed: bool,
    attempt: Column<'a, u32>,
    arrived_ms: Column<'a, u64>,
    deadline_ms: Column<'a, u64>,
    origin_incarnation: Column<'a, u64>,
    origin_offset: Column<'a, u64>,
}

impl<'a> Columns<'a> {
    fn check(frame: &'a v1::Events) -> Result<Self, LinkError> {
        let count = frame.ends.len();
        check_ends(frame)?;
        check_numbers(frame)?;
        check_traces(frame)?;
        let keyless = &frame.keyless[..];
        if !keyless.is_empty() && (frame.key_hash.is_empty() || keyless.len() != count.div_ceil(8)) {
            let (bits, hashes) = (keyless.len(), frame.key_hash.len());
            return Err(violation(format!("frame: keyless has {bits} bytes for {count} events and {hashes} hashes")));
        }
        let columns = Self {
            key_hash: Column::check("key_hash", &frame.key_hash, 0, count)?,
            keyless,
            keyed: !frame.key_hash.is_empty(),
            attempt: Column::check("attempt", &frame.attempt, 1, count)?,
            arrived_ms: Column::check("arrived_ms", &frame.arrived_ms, 0, count)?,
            deadline_ms: Column::check("deadline_ms", &frame.deadline_ms, 0, count)?,
            origin_incarnation: Column::check("origin_incarnation", &frame.origin_incarnation, 0, count)?,
            origin_offset: Column::check("origin_offset", &frame.origin_offset, 0, count)?,
        };
        if frame.attempt.contains(&0) {
            return Err(violation("frame: an attempt of 0; the first is 1"));
        }
        Ok(columns)
    }

    fn event(&self, index: usize, payload: Payload, trace: Option<Box<Trace>>) -> Event {
        let keyless = self.keyless.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1);
        Event {
            payload,
            key: (self.keyed && !keyless).then(|| KeyHash(self.key_hash.at(index))),
            attempt: self.attempt.at(index),
            arrived_ms: self.arrived_ms.at(index),
            deadline_ms: NonZeroU64::new(self.deadline_ms.at(index)),
            origin: Origin { incarnation: self.origin_incarnation.at(index), offset: self.origin_offset.at(index) },
            trace,
        }
    }
}

/// A column: one value for all events, or one of each.
enum Column<'a, T> {
    Same(T),
    Each(&'a [T]),
}

impl<'a, T: Copy> Column<'a, T> {
    fn check(name: &str, values: &'a [T], default: T, count: usize) -> Result<Self, LinkError> {
        match values {
            [] => Ok(Self::Same(default)),
            [same] if count > 0 => Ok(Self::Same(*same)),
            each if each.len() == count => Ok(Self::Each(each)),
            each => Err(violation(format!("frame: {name} has {} values for {count} events", each.len()))),
        }
    }

    fn at(&self, index: usize) -> T {
        match self {
            Self::Same(value) => *value,
            Self::Each(values) => values[index],
        }
    }
}

fn check_ends(frame: &v1::Events) -> Result<(), LinkError> {
    let (count, length) = (frame.ends.len(), frame.payloads.len());
    if count > EVENTS_PER_FRAME_MAX {
        return Err(violation(format!("frame: {count} events, more than {EVENTS_PER_FRAME_MAX}")));
    }
    if !frame.ends.is_sorted() {
        return Err(violation("frame: ends decrease"));
    }
    let last = frame.ends.last().map_or(0, |last| *last as usize);
    if last != length {
        return Err(violation(format!("frame: the last event ends at {last}, payloads at {length}")));
    }
    Ok(())
}

fn check_numbers(frame: &v1::Events) -> Result<(), LinkError> {
    let (first, count) = (frame.first, frame.ends.len() as u64);
    let legal = if count == 0 { first == 0 } else { first > 0 && first.checked_add(count).is_some() };
    if !legal {
        return Err(violation(format!("frame: {count} events with numbers from {first}")));
    }
    Ok(())
}

fn check_traces(frame: &v1::Events) -> Result<(), LinkError> {
    let (traced, bytes, count) = (frame.traced.len(), frame.traces.len(), frame.ends.len());
    if bytes != traced * TRACE_BYTES {
        return Err(violation(format!("frame: traces has {bytes} bytes for {traced} events of {TRACE_BYTES}")));
    }
    let ascending = frame.traced.is_sorted_by(|one, next| one < next);
    if !ascending || frame.traced.last().is_some_and(|last| *last as usize >= count) {
        return Err(violation(format!("frame: traced does not ascend within {count} events")));
    }
    Ok(())
}
