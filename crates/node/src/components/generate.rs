//! The source that makes events up.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::FuturesUnordered;
use jaiminho_core::Trace;
use jaiminho_event::units::ByteSize;
use jaiminho_event::{CloudEvent, Data, EventError, Template, format_timestamp, set_key};
use jaiminho_runtime::{Acknowledge, NewEvent, Offer, Refusal, Source, SourceError, SourceHandle};
use jaiminho_telemetry::names::spans;
use jaiminho_telemetry::traces::{Span, SpanKind, Tracer};
use schemars::JsonSchema;
use serde::Deserialize;

/// Most events of one offer, and most offers whose answers are awaited.
const BODY_EVENTS_MAX: u64 = 500;
pub(crate) const BODIES_MAX: usize = 16;
/// What an event may be longer than another: lengths of lengths, digits.
const LENGTHS_BYTES: u64 = 16;
/// Slow rates make one event at a time, fast ones what is due in so long.
const TICK: Duration = Duration::from_millis(10);

/// How many events, how fast, and what they look like.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GenerateConfig {
    /// Events a second. Default: as fast as they are taken.
    #[serde(default)]
    #[schemars(range(min = 0.001))]
    pub(crate) rate: Option<f64>,
    /// The source ends after so many. Default: never.
    #[serde(default)]
    pub(crate) count: Option<u64>,
    /// Least size of an event's data, filled up with a field `pad`.
    #[serde(default)]
    pub(crate) size: ByteSize,
    /// Different values of `deviceId` in the data, and of the key unless the stage has a `key`; 0: no key.
    #[serde(default = "default_keys")]
    pub(crate) keys: u64,
    /// Attribute `type`.
    #[serde(default = "default_type", rename = "type")]
    pub(crate) ty: String,
}

fn default_keys() -> u64 {
    100
}

fn default_type() -> String {
    "jaiminho.generated".to_owned()
}

/// Why there is no such source.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GenerateError {
    #[error("rate must be a number above 0, not {0}")]
    Rate(f64),
    #[error("type: {0}")]
    Type(EventError),
}

struct Generator {
    config: GenerateConfig,
    key: Option<Template>,
    source: String,
    /// Keeps ids of one run apart from those of the next.
    run: u64,
    tracer: Tracer,
}

/// A source of numbered events from `/PIPELINE/STAGE`; see [`GenerateConfig`].
pub(crate) fn generate(
    config: &GenerateConfig,
    key: Option<Template>,
    pipeline: &str,
    stage: &str,
    tracer: Tracer,
) -> Result<Box<dyn Source>, GenerateError> {
    if let Some(rate) = config.rate.filter(|rate| !(rate.is_finite() && *rate > 0.0)) {
        return Err(GenerateError::Rate(rate));
    }
    let run = unix_time().as_millis() as u64;
    let generator = Generator { config: config.clone(), key, source: format!("/{pipeline}/{stage}"), run, tracer };
    generator.cloud_event(0, unix_time()).validate().map_err(GenerateError::Type)?;
    Ok(Box::new(generator))
}

/// The most that such a source makes: bytes of one event, and of all that it offers at once.
pub(crate) fn generated_bytes_max(
    config: &GenerateConfig,
    key: Option<Template>,
    pipeline: &str,
    stage: &str,
) -> (u64, u64) {
    let (source, tracer) = (format!("/{pipeline}/{stage}"), Tracer::default());
    let generator = Generator { config: config.clone(), key, source, run: u64::MAX, tracer };
    let keys = config.keys.max(1);
    // Of the longest device, and of a number and a time as long as they come.
    let number = (u64::MAX / keys).saturating_mul(keys) - 1;
    let now = Duration::new(unix_time().as_secs(), 999_999_999);
    let event = generator.new_event(number, now).map_or(0, |event| event.payload.len() as u64) + LENGTHS_BYTES;
    let events = config.count.unwrap_or(u64::MAX).min(BODY_EVENTS_MAX);
    (event, event.saturating_mul(events))
}

impl Source for Generator {
    fn run(self: Box<Self>, handle: SourceHandle) -> BoxFuture<'static, Result<(), SourceError>> {
        async move {
            let began = Instant::now();
            let mut pending = FuturesUnordered::new();
            let mut made = 0;
            while !handle.is_draining() && self.config.count.is_none_or(|count| made < count) {
                let due = self.due(made, began.elapsed());
                if due == 0 {
                    let tick = tokio::time::sleep(self.until_next(made, began.elapsed()));
                    tokio::select! { () = tick => {}, () = handle.draining() => break }
                    continue;
                }
                if pending.len() >= BODIES_MAX {
                    tokio::select! { _ = pending.next() => {}, () = handle.draining() => break }
                    continue;
                }
                let events = (made..made + due).map(|number| self.new_event(number, unix_time()));
                let events = events.collect::<Result<_, _>>()?;
                match handle.offer(Offer { events, deadline: None, acknowledge: Acknowledge::Published }).await {
                    Ok(taken) => {
                        made += due;
                        pending.push(taken.answers());
                    }
                    Err(Refusal::Draining) => break,
                    Err(Refusal::NeverFits { .. }) => {
                        return Err(SourceError("generated events never fit the log: make it larger".to_owned()));
                    }
                    Err(Refusal::Overloaded { retry_after, .. }) => {
                        tokio::select! {
                            () = tokio::time::sleep(retry_after) => {},
                            () = handle.draining() => break,
                        }
                    }
                }
            }
            while pending.next().await.is_some() {}
            Ok(())
        }
        .boxed()
    }
}

impl Generator {
    /// How many events to make now.
    fn due(&self, made: u64, elapsed: Duration) -> u64 {
        let due = self.config.rate.map_or(BODY_EVENTS_MAX, |rate| {
            // The first is due at once; `as` saturates.
            ((elapsed.as_secs_f64() * rate) as u64).saturating_add(1).saturating_sub(made)
        });
        let left = self.config.count.map_or(u64::MAX, |count| count - made);
        due.min(left).min(BODY_EVENTS_MAX)
    }

    fn until_next(&self, made: u64, elapsed: Duration) -> Duration {
        let rate = self.config.rate.unwrap_or(f64::MAX);
        // At most a day, so that the slowest rate is no overflow.
        let next = Duration::from_secs_f64((made as f64 / rate).min(elapsed.as_secs_f64() + 86_400.0));
        next.saturating_sub(elapsed).max(TICK)
    }

    fn new_event(&self, number: u64, now: Duration) -> Result<NewEvent, SourceError> {
        let mut event = self.cloud_event(number, now);
        set_key(&mut event, self.key.as_ref(), || None)
            .map_err(|error| SourceError(format!("generated event: {error}")))?;
        Ok(NewEvent { trace: self.trace(&event.id), ..NewEvent::from(&event) })
    }

    /// Where sampled, the event's trace, which begins here.
    fn trace(&self, id: &str) -> Option<Box<Trace>> {
        let context = self.tracer.start(None)?;
        let now = self.tracer.now();
        let span = Span::new(context, None, SpanKind::Producer, "generate", (now, now));
        self.tracer.record(span.with_text(spans::MESSAGE_ID, id));
        Some(Box::new(Trace { context: context.to_bytes(), since: now }))
    }

    fn cloud_event(&self, number: u64, now: Duration) -> CloudEvent {
        let mut event = CloudEvent::new(format!("{:x}-{number}", self.run), &self.source, &self.config.ty);
        if let Some(time) = format_timestamp(now.as_secs() as i64, now.subsec_nanos()) {
            event.attributes.insert("time".to_owned(), jaiminho_event::Value::Timestamp(time));
        }
        let device = format!("device-{}", number % self.config.keys.max(1));
        let mut data = format!("{{\"n\":{number},\"deviceId\":\"{device}\"");
        let size = usize::try_from(self.config.size.0).unwrap_or(usize::MAX);
        let pad = size.saturating_sub(data.len() + ",\"pad\":\"\"}".len());
        if pad > 0 {
            data.push_str(",\"pad\":\"");
            data.extend(std::iter::repeat_n('x', pad));
            data.push('"');
        }
        data.push('}');
        event.data = Data::Text(data);
        event.attributes.insert("datacontenttype".to_owned(), "application/json".into());
        if self.config.keys > 0 && self.key.is_none() {
            event.attributes.insert("partitionkey".to_owned(), device.into());
        }
        event
    }
}

fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
