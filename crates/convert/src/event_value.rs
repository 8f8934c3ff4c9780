//! CloudEvents as VRL values, and back: CloudEvents' JSON format without a tree of JSON in between.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use jaiminho_event::{CloudEvent, Data, DataRef, EventView, Value as Attribute, ValueRef};
use vrl::value::{KeyString, ObjectMap, Value};

/// The event as `.` shows it. Data that is JSON is a tree; other text, and what isn't JSON after all, a string; bytes are
/// `data_base64`.
pub(crate) fn from_view(view: &EventView<'_>) -> ObjectMap {
    let mut event = ObjectMap::new();
    let mut put = |name: &str, value: Value| event.insert(KeyString::from(name), value);
    put("specversion", Value::from("1.0"));
    put("id", Value::from(view.id()));
    put("source", Value::from(view.source()));
    put("type", Value::from(view.ty()));
    for (name, value) in view.attributes() {
        put(name, from_attribute(value));
    }
    match view.data() {
        DataRef::None => {}
        DataRef::Text(text) => {
            let parsed = if view.is_json() { serde_json::from_str(text).ok() } else { None };
            put("data", parsed.unwrap_or_else(|| Value::from(text)));
        }
        DataRef::Binary(bytes) => {
            put("data_base64", Value::from(BASE64.encode(bytes)));
        }
    }
    event
}

fn from_attribute(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Boolean(value) => Value::Boolean(value),
        ValueRef::Integer(value) => Value::Integer(value.into()),
        ValueRef::Binary(bytes) => Value::from(BASE64.encode(bytes)),
        ValueRef::String(text) | ValueRef::Uri(text) | ValueRef::UriRef(text) => Value::from(text),
        ValueRef::Timestamp { .. } => Value::from(value.to_text().into_owned()),
    }
}

/// The event that a program left behind, with `partition_key` as its key whatever the program made of it.
///
/// # Errors
///
/// Which attribute is wrong, and what would be right.
pub(crate) fn into_event(mut fields: ObjectMap, partition_key: Option<&str>) -> Result<CloudEvent, String> {
    match fields.remove("specversion") {
        None => {}
        Some(version) if text(&version).as_deref() == Some("1.0") => {}
        Some(other) => return Err(format!("`specversion` is {other}; it must be \"1.0\"")),
    }
    fields.remove("partitionkey");
    let data = fields.remove("data");
    let data_base64 = fields.remove("data_base64");
    let mut event =
        CloudEvent::new(required(&mut fields, "id")?, required(&mut fields, "source")?, required(&mut fields, "type")?);
    for (name, value) in fields {
        if let Some(attribute) = into_attribute(&name, value)? {
            event.set(&name, attribute).map_err(|e| e.to_string())?;
        }
    }
    if let Some(key) = partition_key {
        event.set("partitionkey", Attribute::String(key.to_owned())).map_err(|e| e.to_string())?;
    }
    // Only text can be JSON: an empty one asks whether it would be.
    event.data = Data::Text(String::new());
    event.data = into_data(event.is_json(), data, data_base64)?;
    event.validate().map_err(|e| e.to_string())?;
    Ok(event)
}

fn required(fields: &mut ObjectMap, name: &str) -> Result<String, String> {
    match fields.remove(name) {
        None | Some(Value::Null) => Err(format!("`{name}` is missing")),
        Some(value) => match text(&value) {
            Some(text) if !text.is_empty() => Ok(text),
            Some(_) => Err(format!("`{name}` is empty")),
            None => Err(format!("`{name}` is of type {}; it must be a string", value.kind_str())),
        },
    }
}

/// None: the attribute is not set, as for `null` in the JSON format.
fn into_attribute(name: &str, value: Value) -> Result<Option<Attribute>, String> {
    Ok(Some(match value {
        Value::Null => return Ok(None),
        Value::Boolean(value) => Attribute::Boolean(value),
        Value::Integer(value) => Attribute::Integer(i32::try_from(value).map_err(|_| {
            format!("`{name}` is {value}: an attribute's integer has 32 bits; make it a string with to_string()")
        })?),
        Value::Timestamp(_) => Attribute::Timestamp(value.to_string_lossy().into_owned()),
        Value::Bytes(_) | Value::String(_) | Value::Regex(_) => {
            let text = text(&value).ok_or_else(|| format!("`{name}` is not UTF-8"))?;
            match name {
                "time" => Attribute::Timestamp(text),
                "dataschema" => Attribute::Uri(text),
                _ => Attribute::String(text),
            }
        }
        Value::Float(_) | Value::Object(_) | Value::Array(_) => {
            let kind = value.kind_str();
            return Err(format!(
                "`{name}` is of type {kind}; an attribute is a string, an integer or a boolean, all else belongs into `data`"
            ));
        }
    }))
}

fn into_data(is_json: bool, data: Option<Value>, data_base64: Option<Value>) -> Result<Data, String> {
    match (data, data_base64) {
        (Some(_), Some(_)) => Err("it has both `data` and `data_base64`; delete one with del()".to_owned()),
        (None, Some(value)) => {
            let text = text(&value).ok_or("`data_base64` must be a string")?;
            let bytes = BASE64.decode(text).map_err(|e| format!("`data_base64` is not base64: {e}"))?;
            Ok(Data::Binary(Bytes::from(bytes)))
        }
        (Some(value), None) if is_json => {
            if let Some(path) = infinite(&value) {
                return Err(format!("`data{path}` is an infinite number, which JSON can't say"));
            }
            serde_json::to_string(&value).map(Data::Text).map_err(|e| format!("`data` can't be JSON: {e}"))
        }
        (Some(Value::Null) | None, None) => Ok(Data::None),
        (Some(value @ (Value::Bytes(_) | Value::String(_))), None) => match text(&value) {
            Some(text) => Ok(Data::Text(text)),
            None => Ok(value.as_bytes().map_or(Data::None, |bytes| Data::Binary(bytes.clone()))),
        },
        (Some(value), None) => Err(format!(
            "`data` is of type {}, but `datacontenttype` says it is not JSON; set it to \"application/json\" or make it a string",
            value.kind_str()
        )),
    }
}

/// The value as text where it is text, and UTF-8.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Bytes(bytes) => std::str::from_utf8(bytes).ok().map(str::to_owned),
        Value::String(text) => Some(text.to_string()),
        Value::Regex(regex) => Some(regex.as_str().to_owned()),
        Value::Timestamp(_) => Some(value.to_string_lossy().into_owned()),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Object(_) | Value::Array(_) | Value::Null => {
            None
        }
    }
}

/// Path of the first infinite number.
fn infinite(value: &Value) -> Option<String> {
    match value {
        Value::Float(number) => number.is_infinite().then(String::new),
        Value::Object(fields) => {
            fields.iter().find_map(|(name, value)| infinite(value).map(|path| format!(".{name}{path}")))
        }
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(i, value)| infinite(value).map(|path| format!("[{i}]{path}")))
        }
        Value::Bytes(_)
        | Value::String(_)
        | Value::Regex(_)
        | Value::Integer(_)
        | Value::Boolean(_)
        | Value::Timestamp(_)
        | Value::Null => None,
    }
}
