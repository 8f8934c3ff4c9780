//! From JSON values to request bodies of bounded size.

use std::io::Read;

use serde_json::{Value, json};

use super::values::{Text, values};
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
    /// Where its events begin in what was read; empty when they are made up.
    pub(in crate::commands) lines: Vec<u64>,
}

/// Bodies, made while they are sent.
pub(super) type Bodies = Box<dyn Iterator<Item = Result<Body, Failure>> + std::marker::Send>;

/// Bodies of what is read.
pub(super) fn from_reader(name: String, reader: Box<dyn Read + std::marker::Send>, batch: usize) -> Bodies {
    Box::new(Batches { texts: Box::new(values(name, reader)), batch, held: None })
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
        Ok(Text { json: event.to_string(), line: None })
    });
    Box::new(Batches { texts: Box::new(texts), batch, held: None })
}

struct Batches {
    texts: Box<dyn Iterator<Item = Result<Text, Failure>> + std::marker::Send>,
    batch: usize,
    /// What did not fit the body before.
    held: Option<Result<Text, Failure>>,
}

impl Iterator for Batches {
    type Item = Result<Body, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        let first = match self.held.take().or_else(|| self.texts.next())? {
            Ok(first) => first,
            Err(error) => return Some(Err(error)),
        };
        let cloud_events = is_cloud_event(&first.json);
        let mut bytes = first.json.len();
        let mut texts = vec![first];
        while texts.len() < self.batch {
            match self.texts.next() {
                Some(Ok(text))
                    if is_cloud_event(&text.json) == cloud_events && bytes + text.json.len() < BODY_BYTES_MAX =>
                {
                    bytes += text.json.len() + 1;
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

fn body(cloud_events: bool, texts: &[Text]) -> Body {
    let list = || format!("[{}]", texts.iter().map(|text| text.json.as_str()).collect::<Vec<_>>().join(","));
    let (content_type, text) = match (cloud_events, texts) {
        (true, _) => ("application/cloudevents-batch+json", list()),
        (false, [one]) => ("application/json", one.json.clone()),
        (false, _) => ("application/json", list()),
    };
    let lines = texts.iter().filter_map(|text| text.line).collect();
    Body { content_type, bytes: text.into_bytes(), events: texts.len() as u64, lines }
}

/// Whether a value says itself that it is a CloudEvent.
pub(in crate::commands) fn is_cloud_event(text: &str) -> bool {
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
    fn a_body_knows_the_lines_of_its_events() {
        let bodies = read("1\n\n2\n3\n\n[4,\n5]", 2);
        let lines: Vec<_> = bodies.into_iter().map(|body| body.unwrap().lines).collect();
        assert_eq!(lines, [vec![1, 3], vec![4, 6], vec![7]]);
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
