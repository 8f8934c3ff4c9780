//! From JSON values to request bodies of bounded size.

use std::io::Read;

use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::cli::Send;
use crate::exit::Failure;

/// Largest body: below the server's default limit.
const BODY_BYTES_MAX: usize = 512 * 1024;

/// One request's body.
#[derive(Debug)]
pub(in crate::commands) struct Body {
    pub(in crate::commands) content_type: &'static str,
    pub(in crate::commands) bytes: Vec<u8>,
    pub(in crate::commands) events: u64,
}

/// Bodies, made while they are sent.
pub(super) type Bodies = Box<dyn Iterator<Item = Result<Body, Failure>> + std::marker::Send>;

/// JSON values one after another (a line each, or not), and those in lists.
pub(super) fn from_reader(name: String, reader: Box<dyn Read + std::marker::Send>, batch: usize) -> Bodies {
    let values = serde_json::Deserializer::from_reader(reader).into_iter::<Box<RawValue>>();
    let texts = values.flat_map(move |value| match value {
        Ok(value) => {
            flatten(&value).map_or_else(|error| vec![Err(bad(&name, &error))], |all| all.into_iter().map(Ok).collect())
        }
        Err(error) => vec![Err(bad(&name, &error))],
    });
    Box::new(Batches { texts: Box::new(texts), batch, held: None })
}

fn bad(name: &str, error: &serde_json::Error) -> Failure {
    Failure::data(format!("{name}: not JSON: {error}"))
}

/// The elements of a list, or the value itself.
fn flatten(value: &RawValue) -> Result<Vec<String>, serde_json::Error> {
    if value.get().starts_with('[') {
        let items: Vec<&RawValue> = serde_json::from_str(value.get())?;
        return Ok(items.into_iter().map(|item| item.get().to_owned()).collect());
    }
    Ok(vec![value.get().to_owned()])
}

/// Made-up telemetry: events in CloudEvents' format, numbered, their keys in turn.
pub(super) fn made(count: u64, send: &Send, batch: usize) -> Bodies {
    let (keys, ty) = (send.keys, send.ty.clone());
    let filling = "x".repeat(usize::try_from(send.size).unwrap_or_default());
    let source = format!("/jaiminho/send/{}", std::process::id());
    // A second run of the same process id must not repeat ids.
    let now_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_millis();
    let now_ms = u64::try_from(now_ms).unwrap_or_default();
    let texts = (0..count).map(move |number| {
        let device = format!("device-{}", number % keys);
        let temperature = json!({ "metric": "temperature", "unit": "C", "value": (number % 400) as f64 / 10.0, "ts": now_ms });
        let mut data = json!({ "deviceId": device, "ts": now_ms, "number": number, "readings": [temperature] });
        if !filling.is_empty() {
            data["filling"] = Value::String(filling.clone());
        }
        let event = json!({
            "specversion": "1.0", "id": format!("{now_ms}-{number}"), "source": source, "type": ty, "partitionkey": device,
            "datacontenttype": "application/json", "data": data,
        });
        Ok(event.to_string())
    });
    Box::new(Batches { texts: Box::new(texts), batch, held: None })
}

struct Batches {
    texts: Box<dyn Iterator<Item = Result<String, Failure>> + std::marker::Send>,
    batch: usize,
    /// What did not fit the body before.
    held: Option<Result<String, Failure>>,
}

impl Iterator for Batches {
    type Item = Result<Body, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        let first = match self.held.take().or_else(|| self.texts.next())? {
            Ok(first) => first,
            Err(error) => return Some(Err(error)),
        };
        let cloud_events = is_cloud_event(&first);
        let mut bytes = first.len();
        let mut texts = vec![first];
        while texts.len() < self.batch {
            match self.texts.next() {
                Some(Ok(text)) if is_cloud_event(&text) == cloud_events && bytes + text.len() < BODY_BYTES_MAX => {
                    bytes += text.len() + 1;
                    texts.push(text);
                }
                held => {
                    self.held = held;
                    break;
                }
            }
        }
        Some(Ok(body(cloud_events, &texts)))
    }
}

fn body(cloud_events: bool, texts: &[String]) -> Body {
    let (content_type, text) = match (cloud_events, texts) {
        (true, _) => ("application/cloudevents-batch+json", format!("[{}]", texts.join(","))),
        (false, [one]) => ("application/json", one.clone()),
        (false, _) => ("application/json", format!("[{}]", texts.join(","))),
    };
    Body { content_type, bytes: text.into_bytes(), events: texts.len() as u64 }
}

/// Whether a value says itself that it is a CloudEvent.
fn is_cloud_event(text: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct Head {
        specversion: Option<serde::de::IgnoredAny>,
    }
    text.contains("\"specversion\"") && serde_json::from_str::<Head>(text).is_ok_and(|head| head.specversion.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &'static str, batch: usize) -> Vec<Result<Body, Failure>> {
        from_reader("test".into(), Box::new(text.as_bytes()), batch).collect()
    }

    #[test]
    fn values_are_batched_by_kind_and_lists_are_opened() {
        let bodies = read("{\"a\":1}\n[{\"a\":2}, {\"a\":3}]\n{\"specversion\":\"1.0\",\"id\":\"x\"} 7", 2);
        let bodies: Vec<Body> = bodies.into_iter().map(Result::unwrap).collect();
        let shown: Vec<_> =
            bodies.iter().map(|body| (body.content_type, String::from_utf8_lossy(&body.bytes).into_owned())).collect();
        assert_eq!(
            shown,
            [
                ("application/json", "[{\"a\":1},{\"a\":2}]".to_owned()),
                ("application/json", "{\"a\":3}".to_owned()),
                ("application/cloudevents-batch+json", "[{\"specversion\":\"1.0\",\"id\":\"x\"}]".to_owned()),
                ("application/json", "7".to_owned()),
            ]
        );
    }

    #[test]
    fn what_is_no_json_is_reported_after_what_came_before() {
        let bodies = read("{\"a\":1}\n{oops", 1);
        assert_eq!(bodies.len(), 2);
        assert!(bodies[0].is_ok());
        assert!(bodies[1].as_ref().unwrap_err().text.contains("line 2"));
    }

    #[test]
    fn bodies_stay_below_the_servers_limit() {
        let text: String = (0..20).map(|_| format!("\"{}\"\n", "y".repeat(100_000))).collect();
        let bodies: Vec<_> =
            from_reader("t".into(), Box::new(std::io::Cursor::new(text)), 1000).map(Result::unwrap).collect();
        assert!(bodies.iter().all(|body| body.bytes.len() <= BODY_BYTES_MAX + 2));
        assert_eq!(bodies.iter().map(|body| body.events).sum::<u64>(), 20);
    }
}
