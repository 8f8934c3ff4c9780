//! Many events as one: a CloudEvent whose data is a batch of them, in CloudEvents' JSON batch format.

use std::borrow::Cow;

use futures_util::future::{BoxFuture, ready};
use jaiminho_core::{Event, KeyHash, Reason};
use jaiminho_event::{
    CloudEvent, Data, EventView, Template, TemplateError, Value, identity, key_hash,
    units::{ByteSize, HumanDuration},
};
use jaiminho_runtime::{Batching, Call, Failure, Handler, Turn};
use schemars::JsonSchema;
use serde::Deserialize;

/// What a batch takes beside its events, its source, type and key.
const ENVELOPE_BYTES: usize = 256;
/// As JSON, an event's text takes at most so many times its bytes: a control character is `\u0001`.
const JSON_FACTOR: u64 = 6;
/// And so much more: the names of the attributes that each event has.
const JSON_EVENT_BYTES: u64 = 96;

/// When a batch is complete: at the first limit that is reached. And what it becomes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "BatchStep")]
pub struct Batch {
    /// Events.
    #[schemars(range(min = 1, max = 100_000))]
    pub events: u32,
    /// Their bytes, as they come in. As JSON they may take twice as many; what doesn't fit then into one event becomes several.
    pub bytes: ByteSize,
    /// From the first event of the batch on.
    pub time: HumanDuration,
    /// A template: events of each key have batches of their own, and it is the `partitionkey` of what these become. Events without it
    /// have batches, too, and an empty one puts all together. Default: the events' `partitionkey`.
    pub key: Option<String>,
    /// The `source` of what a batch becomes; default `/PIPELINE/STAGE`.
    #[schemars(length(min = 1))]
    pub source: Option<String>,
    /// The `type` of what a batch becomes.
    #[serde(rename = "type")]
    #[schemars(length(min = 1))]
    pub ty: String,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            events: 100,
            bytes: ByteSize(256 << 10),
            time: HumanDuration::from_secs(1),
            key: None,
            source: None,
            ty: "jaiminho.batch.v1".to_owned(),
        }
    }
}

impl Batch {
    /// How the runtime makes its batches.
    ///
    /// # Errors
    /// Its key is no template.
    pub fn batching(&self) -> Result<Batching, TemplateError> {
        let batching = Batching::new(u64::from(self.events), self.time.0).bytes(self.bytes.0);
        let key = self.key()?;
        Ok(match key {
            Key::Own => batching.by(|event| event.key),
            Key::Made(_) => batching.by(move |event| {
                let view = EventView::parse(&event.payload).ok()?;
                key.of(&view).map(|key| KeyHash(key_hash(&key)))
            }),
        })
    }

    /// The bytes of a batch whose largest event has `event_bytes`, as JSON.
    pub fn json_bytes_max(&self, event_bytes: u64) -> u64 {
        let names = u64::from(self.events).saturating_mul(JSON_EVENT_BYTES);
        self.bytes.0.max(event_bytes).saturating_mul(JSON_FACTOR).saturating_add(names)
    }

    fn key(&self) -> Result<Key, TemplateError> {
        self.key.as_deref().map_or(Ok(Key::Own), |key| Template::parse(key).map(Key::Made))
    }
}

/// What the events of a batch have in common.
#[derive(Debug)]
enum Key {
    /// Their `partitionkey`.
    Own,
    Made(Template),
}

impl Key {
    fn of<'a>(&self, event: &EventView<'a>) -> Option<Cow<'a, str>> {
        let key = match self {
            Self::Own => event.attribute("partitionkey"),
            Self::Made(key) => key.render(event).ok().map(Cow::Owned),
        };
        key.filter(|key| !key.is_empty())
    }
}

/// Makes one CloudEvent of each batch. Its id is a hash of the sources and ids of its events, in order: the same when a batch is
/// handled again. An event that can't be read is rejected, alone.
#[derive(Debug)]
pub struct Batcher {
    key: Key,
    source: String,
    ty: String,
    bytes_max: usize,
}

/// What becomes of a batch, so far.
#[derive(Default)]
struct Open {
    json: Vec<u8>,
    ids: String,
    key: Option<String>,
}

impl Batcher {
    /// `source` where the file names none. What it makes has `bytes_max` at most: a batch that takes more becomes several.
    ///
    /// # Errors
    /// Its key is no template.
    pub fn new(config: &Batch, source: String, bytes_max: u64) -> Result<Self, TemplateError> {
        Ok(Self {
            key: config.key()?,
            source: config.source.clone().unwrap_or(source),
            ty: config.ty.clone(),
            bytes_max: usize::try_from(bytes_max).unwrap_or(usize::MAX),
        })
    }

    fn make(&self, events: &[Event], turn: &mut Turn) -> Result<(), Failure> {
        let mut open = Open::default();
        for (index, event) in events.iter().enumerate() {
            let view = match EventView::parse(&event.payload) {
                Ok(view) => view,
                Err(error) => {
                    turn.reject(index, Reason::Malformed, error.to_string());
                    continue;
                }
            };
            let (json, key) = (view.to_event().to_json_bytes(), self.key.of(&view));
            let envelope = ENVELOPE_BYTES + self.source.len() + self.ty.len() + key.as_deref().map_or(0, str::len);
            if json.len() + envelope > self.bytes_max {
                let text = format!("as JSON it makes a batch of more than {} bytes, alone", self.bytes_max);
                turn.reject(index, Reason::TooLarge, text);
                continue;
            }
            if open.json.len() + 1 + json.len() + envelope > self.bytes_max {
                self.close(std::mem::take(&mut open), turn);
            }
            open.json.push(if open.json.is_empty() { b'[' } else { b',' });
            open.json.extend(json);
            open.ids.push_str(&format!("{:032x}", identity(view.source(), view.id())));
            open.key = key.map(Cow::into_owned);
            if turn.is_unordered() {
                turn.accept_early(index)?;
            }
        }
        self.close(open, turn);
        Ok(())
    }

    fn close(&self, Open { mut json, ids, key }: Open, turn: &mut Turn) {
        if json.is_empty() {
            return;
        }
        json.push(b']');
        let mut batch = CloudEvent::new(format!("{:032x}", identity("", &ids)), &self.source, &self.ty);
        // One that no attribute may have is no key.
        let key = key.filter(|key| batch.set("partitionkey", Value::String(key.clone())).is_ok());
        let hash = key.as_deref().map(|key| KeyHash(key_hash(key)));
        let content = Value::String("application/cloudevents-batch+json".to_owned());
        batch.attributes.insert("datacontenttype".to_owned(), content);
        batch.data = Data::Text(String::from_utf8_lossy(&json).into_owned());
        turn.emit(batch.encode(), hash);
    }
}

impl Handler for Batcher {
    fn handle<'a>(&'a mut self, call: &'a Call, turn: &'a mut Turn) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(ready(match call {
            Call::Events { events, .. } => self.make(events, turn),
            Call::Demand(_)
            | Call::Info(_)
            | Call::Subscribed(_)
            | Call::Cancelled(..)
            | Call::Wake
            | Call::Discarded(_)
            | Call::Settled(_) => Ok(()),
        }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(id: &str, key: Option<&str>) -> Event {
        let mut event = CloudEvent::new(id, "/devices", "t");
        if let Some(key) = key {
            event.set("partitionkey", Value::String(key.to_owned())).unwrap();
        }
        event.data = Data::Text(format!(r#"{{"n":{id}}}"#));
        Event { key: key.map(|key| KeyHash(key_hash(key))), ..Event::new(event.encode()) }
    }

    fn batch(config: &str, bytes_max: u64, events: &[Event]) -> (Vec<serde_json::Value>, Vec<(usize, String)>) {
        let config: Batch = serde_json::from_str(config).unwrap();
        let mut turn = Turn::for_test(std::sync::Arc::default());
        Batcher::new(&config, "/p/s".into(), bytes_max).unwrap().make(events, &mut turn).unwrap();
        let emitted = turn.emitted().map(|(payload, _)| CloudEvent::decode(payload).unwrap().to_json());
        let rejected = turn.rejected().map(|(index, why)| (index, format!("{:?}: {}", why.reason, why.text)));
        (emitted.collect(), rejected.collect())
    }

    #[test]
    fn a_batch_becomes_one_event_in_the_json_batch_format_with_its_key() {
        let events = [event("1", Some("k")), event("2", Some("k"))];
        let (emitted, rejected) = batch("{}", 10_000, &events);
        assert_eq!((emitted.len(), rejected.len()), (1, 0));
        let member = |n| json!({"specversion": "1.0", "id": format!("{n}"), "source": "/devices", "type": "t", "partitionkey": "k", "data": {"n": n}});
        let expected = json!({
            "specversion": "1.0", "id": emitted[0]["id"], "source": "/p/s", "type": "jaiminho.batch.v1", "partitionkey": "k",
            "datacontenttype": "application/cloudevents-batch+json", "data": [member(1), member(2)],
        });
        assert_eq!(emitted[0], expected);
        let config = r#"{"source": "/mine", "type": "own", "key": "{{data.n}}"}"#;
        let (own, _) = batch(config, 10_000, &events[..1]);
        assert_eq!(
            (&own[0]["source"], &own[0]["type"], &own[0]["partitionkey"]),
            (&json!("/mine"), &json!("own"), &json!("1"))
        );
        let mut odd = CloudEvent::new("1", "/devices", "t");
        odd.data = Data::Text(r#"{"n":"a\u0001"}"#.into());
        let (odd, _) = batch(r#"{"key": "{{data.n}}"}"#, 10_000, &[Event::new(odd.encode())]);
        assert_eq!(odd[0].get("partitionkey"), None, "no attribute may be that");
        let (together, _) = batch(r#"{"key": ""}"#, 10_000, &events);
        assert_eq!(together[0].get("partitionkey"), None);
    }

    #[test]
    fn its_id_is_the_same_for_the_same_events_in_the_same_order_alone() {
        let of = |ids: &[&str]| {
            let events: Vec<Event> = ids.iter().map(|id| event(id, None)).collect();
            batch("{}", 10_000, &events).0[0]["id"].clone()
        };
        assert_eq!(of(&["1", "2"]), of(&["1", "2"]));
        assert_ne!(of(&["1", "2"]), of(&["2", "1"]));
        assert_ne!(of(&["1", "2"]), of(&["12"]));
    }

    #[test]
    fn what_can_not_be_read_is_rejected_alone() {
        let events = [event("1", None), Event::new(b"\xff\xff".to_vec()), event("2", None)];
        let (emitted, rejected) = batch("{}", 10_000, &events);
        assert_eq!(emitted[0]["data"].as_array().unwrap().len(), 2);
        assert!(rejected.len() == 1 && rejected[0].0 == 1 && rejected[0].1.starts_with("Malformed"), "{rejected:?}");
    }

    #[test]
    fn a_batch_that_is_too_large_becomes_several_and_an_event_that_is_too_large_alone_is_rejected() {
        let mut large = CloudEvent::new("9", "/devices", "t");
        large.data = Data::Text("x".repeat(600));
        let mut events: Vec<Event> = (1..=6).map(|n| event(&n.to_string(), None)).collect();
        events.push(Event::new(large.encode()));
        let config: Batch = serde_json::from_str("{}").unwrap();
        let mut turn = Turn::for_test(std::sync::Arc::default());
        Batcher::new(&config, "/p/s".into(), 512).unwrap().make(&events, &mut turn).unwrap();
        assert!(turn.emitted().all(|(payload, _)| payload.len() <= 512));
        let (emitted, rejected) = batch("{}", 512, &events);
        let members = emitted.iter().map(|batch| batch["data"].as_array().unwrap().len());
        assert!(emitted.len() > 1 && members.sum::<usize>() == 6, "{emitted:?}");
        assert!(rejected.len() == 1 && rejected[0].0 == 6 && rejected[0].1.starts_with("TooLarge"), "{rejected:?}");
    }

    #[test]
    fn as_json_no_event_takes_more_than_it_is_said_to() {
        let mut worst = CloudEvent::new("\"", "\"", "\"");
        worst.data = Data::Text("\u{1}".repeat(1_000));
        let mut bare = CloudEvent::new("1", "s", "t");
        for n in 0..20 {
            bare.set(&format!("a{n}"), Value::String("\"".into())).unwrap();
        }
        for event in [worst, CloudEvent::new("1", "s", "t"), bare] {
            let bytes = event.encode().len() as u64;
            let config = Batch { events: 1, bytes: ByteSize(bytes), ..Batch::default() };
            assert!(event.to_json_bytes().len() as u64 <= config.json_bytes_max(0), "{event:?}");
        }
    }
}
