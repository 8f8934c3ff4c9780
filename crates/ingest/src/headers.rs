//! What a request's headers say of its events: their format, CloudEvents' binary mode, allowed extra attributes, trace.

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, header};
use jaiminho_event::{CloudEvent, Value};
use jaiminho_telemetry::traces::TraceContext;
use percent_encoding::percent_decode;

use crate::draft::{Common, Fault, Format};
use crate::problem::Problem;
use crate::traced::traceparent;

const ACCEPTED: &str =
    "application/json, application/x-ndjson, application/cloudevents+json, application/cloudevents-batch+json";
const REQUIRED: [&str; 4] = ["ce-id", "ce-source", "ce-specversion", "ce-type"];

/// How the body holds its events.
pub(crate) fn format(headers: &HeaderMap) -> Result<Format, Problem> {
    let content_type = match headers.get(CONTENT_TYPE).map(HeaderValue::to_str) {
        None => None,
        Some(Ok(text)) => Some(text.trim().to_ascii_lowercase()),
        Some(Err(_)) => return Err(unsupported("Content-Type is not ASCII")),
    };
    let media_type = content_type.as_deref().map(|text| text.split(';').next().unwrap_or_default().trim());
    let format = match media_type {
        Some("application/cloudevents-batch+json") => Format::Batch,
        Some("application/cloudevents+json") => Format::Structured,
        Some(other) if other.starts_with("application/cloudevents") => {
            return Err(unsupported(&format!(
                "CloudEvents as `{}` are not read here, only as JSON",
                other.escape_debug()
            )));
        }
        _ if REQUIRED.iter().any(|name| headers.contains_key(*name)) => {
            return match binary_event(headers) {
                Ok(event) => Ok(Format::Binary(Box::new(event))),
                Err(fault) => Err(Fault { index: Some(0), ..fault }.problem(&[])),
            };
        }
        Some("application/x-ndjson" | "application/ndjson" | "application/jsonl" | "application/x-jsonlines") => {
            Format::Ndjson
        }
        Some(json) if json.ends_with("/json") || json.ends_with("+json") => Format::Json,
        Some(other) => return Err(unsupported(&format!("Content-Type `{}` is not read here", other.escape_debug()))),
        None => return Err(unsupported("Content-Type is missing")),
    };
    if let Some(charset) = content_type.as_deref().and_then(charset)
        && !matches!(charset, "utf-8" | "utf8" | "us-ascii")
    {
        return Err(unsupported(&format!("charset `{}`: JSON is UTF-8", charset.escape_debug())));
    }
    Ok(format)
}

fn unsupported(detail: &str) -> Problem {
    let detail = format!("{detail}; {ACCEPTED}, or CloudEvents in binary mode (ce- headers) are");
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-type", detail).header("accept-post", ACCEPTED)
}

fn charset(content_type: &str) -> Option<&str> {
    content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        (name.trim() == "charset").then(|| value.trim().trim_matches('"'))
    })
}

/// The attributes of CloudEvents' binary mode. Without `ce-id` the event has an empty id.
fn binary_event(headers: &HeaderMap) -> Result<CloudEvent, Fault> {
    let mut event = CloudEvent::default();
    let mut version = false;
    for name in headers.keys() {
        let Some(attribute) = name.as_str().strip_prefix("ce-") else { continue };
        let malformed = |problem: &str| Fault::malformed(format!("header `{name}`: {problem}"));
        if attribute == "datacontenttype" {
            return Err(malformed("in binary mode Content-Type is the data's content type"));
        }
        let mut values = headers.get_all(name).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return Err(malformed("stands twice")) };
        let text = attribute_text(value).map_err(malformed)?;
        event.set(attribute, Value::String(text)).map_err(|error| malformed(error.problem()))?;
        version |= attribute == "specversion";
    }
    if !version {
        return Err(Fault::malformed(
            "header `ce-specversion` is missing: a CloudEvent in binary mode has `ce-specversion: 1.0`",
        ));
    }
    for (name, value) in [("ce-source", &event.source), ("ce-type", &event.ty)] {
        if value.is_empty() {
            return Err(Fault::malformed(format!("header `{name}` is missing: every CloudEvent has one")));
        }
    }
    if let Some(value) = headers.get(CONTENT_TYPE) {
        let text = value.to_str().map_err(|_| Fault::malformed("Content-Type is not ASCII"))?;
        let set = event.set("datacontenttype", Value::String(text.to_owned()));
        set.map_err(|error| Fault::malformed(format!("Content-Type: {}", error.problem())))?;
    }
    Ok(event)
}

/// A header's value as CloudEvents has it: unquoted, then percent-decoded once; UTF-8.
fn attribute_text(value: &HeaderValue) -> Result<String, &'static str> {
    let bytes = value.as_bytes();
    let unquoted;
    let bytes = match bytes.strip_prefix(b"\"").and_then(|bytes| bytes.strip_suffix(b"\"")) {
        None => bytes,
        Some(quoted) => {
            unquoted = unescape(quoted)?;
            &unquoted
        }
    };
    percent_decode(bytes)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| "is not UTF-8 after percent-decoding")
}

/// A quoted string's inside without its backslashes.
fn unescape(quoted: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut bytes = quoted.iter().copied();
    let mut out = Vec::with_capacity(quoted.len());
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => out.push(bytes.next().ok_or("ends in a backslash")?),
            b'"' => return Err("has a quote inside of quotes"),
            other => out.push(other),
        }
    }
    Ok(out)
}

/// Allowed headers as attributes, and the client's trace.
pub(crate) fn common(headers: &HeaderMap, allowed: &[(HeaderName, String)]) -> Result<Common, Problem> {
    let mut attributes = Vec::new();
    for (name, attribute) in allowed {
        let Some(value) = headers.get(name).filter(|value| !value.is_empty()) else { continue };
        let text = std::str::from_utf8(value.as_bytes()).ok().filter(|text| !text.contains(char::is_control));
        let Some(text) = text else {
            let detail = format!("header `{name}` becomes an attribute, and must be UTF-8 without control characters");
            return Err(Problem::new(StatusCode::BAD_REQUEST, "malformed", detail));
        };
        attributes.push((attribute.clone(), text.to_owned()));
    }
    Ok(Common { attributes, arrival: None, carried: traceparent(headers).filter(TraceContext::is_sampled) })
}

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Identity,
    Gzip,
    Zstd,
}

pub(crate) fn coding(headers: &HeaderMap) -> Result<Coding, Problem> {
    let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
    let (value, more) = (values.next(), values.next());
    let text = match value.map(HeaderValue::to_str) {
        None => return Ok(Coding::Identity),
        Some(Ok(text)) if more.is_none() => text.trim().to_ascii_lowercase(),
        Some(Ok(_) | Err(_)) => "of more than one step".to_owned(),
    };
    match text.as_str() {
        "" | "identity" => Ok(Coding::Identity),
        "gzip" | "x-gzip" => Ok(Coding::Gzip),
        "zstd" => Ok(Coding::Zstd),
        other => {
            let detail = format!("Content-Encoding `{}` is not read here; gzip and zstd are", other.escape_debug());
            let problem = Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-encoding", detail);
            Err(problem.header("accept-encoding", "gzip, zstd"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &'static [u8]) -> Result<String, &'static str> {
        attribute_text(&HeaderValue::from_bytes(value).unwrap())
    }

    #[test]
    fn a_value_is_unquoted_then_decoded_once() {
        assert_eq!(text(b"plain"), Ok("plain".to_owned()));
        assert_eq!(text(b"Euro%20%E2%82%AC%20%F0%9F%98%80"), Ok("Euro \u{20ac} \u{1f600}".to_owned()));
        assert_eq!(text(b"\"a \\\"b\\\" %22\""), Ok("a \"b\" \"".to_owned()));
        assert_eq!(text(b"%2541"), Ok("%41".to_owned()));
        assert_eq!(text(b"50%"), Ok("50%".to_owned()));
    }

    #[test]
    fn a_value_that_is_not_utf8_is_refused() {
        assert!(text(b"%C3%28").is_err() && text(b"\xff").is_err());
        assert!(text(b"\"a\\\"").is_err() && text(b"\"a\"b\"").is_err());
    }
}
