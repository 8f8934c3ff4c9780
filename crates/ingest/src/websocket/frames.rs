//! Messages of `jaiminho.v1`.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::answer::EventOutcome;

/// From the client.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventFrame<'a> {
    pub(crate) n: Option<u64>,
    #[serde(borrow)]
    pub(crate) event: &'a RawValue,
}

impl<'a> EventFrame<'a> {
    /// What is no object is not looked into: its text would stand in the error.
    pub(crate) fn parse(text: &'a str) -> Result<Self, String> {
        if !text.trim_ascii_start().starts_with('{') {
            return Err("not an object".to_owned());
        }
        serde_json::from_str(text).map_err(|error| error.to_string())
    }
}

/// To the client.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ServerFrame<'a> {
    Credit(u64),
    Ack(Ack<'a>),
}

#[derive(Debug, Serialize)]
pub(crate) struct Ack<'a> {
    pub(crate) n: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<&'a str>,
    #[serde(flatten)]
    pub(crate) outcome: EventOutcome,
}

impl ServerFrame<'_> {
    pub(crate) fn text(&self) -> String {
        // Strings and numbers always serialize.
        serde_json::to_string(self).unwrap_or_default()
    }
}
