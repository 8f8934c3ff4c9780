//! A YAML document as a tree in which every value and every key knows where it stands.
//!
//! Parsing is bounded: in bytes, nodes, depth, and in what aliases may expand to.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{Location, Spanned};

use super::problem::{Place, Problem};

/// Longest pipeline file, in bytes.
pub(crate) const FILE_BYTES_MAX: usize = 1 << 20;
/// Most values in a pipeline file, aliases expanded.
const NODES_MAX: usize = 100_000;
/// Deepest nesting.
const DEPTH_MAX: usize = 64;

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) value: Value,
}

/// What a node holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    /// `expanded`: a variable stood in it, so it may also be read as a number or a boolean.
    Text {
        text: String,
        expanded: bool,
    },
    List(Vec<Node>),
    /// In the order of the file; keys are unique.
    Map(Vec<Entry>),
}

/// One key of a map.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_place: Place,
    pub(crate) node: Node,
}

impl Entry {
    /// Every place in it, its key's included.
    pub(crate) fn places(&self, into: &mut BTreeSet<Place>) {
        into.insert(self.key_place.clone());
        self.node.places(into);
    }
}

impl Node {
    /// Parses one YAML document of at most [`FILE_BYTES_MAX`] bytes.
    pub(crate) fn parse(file: &Arc<str>, yaml: &str) -> Result<Self, Box<Problem>> {
        if yaml.len() > FILE_BYTES_MAX {
            let what = format!("the file has {} bytes, more than {FILE_BYTES_MAX}", yaml.len());
            return Err(Box::new(Problem::error(Place::start(file), what)));
        }
        let raw: Raw = serde_saphyr::from_str_with_options(yaml, options()).map_err(|error| {
            let place =
                error.location().map_or_else(|| Place::start(file), |at| Place::new(file, at.line(), at.column()));
            Box::new(Problem::error(place, words(error.without_snippet())))
        })?;
        Ok(raw.placed(file))
    }

    /// The value under `key`, if this is a map that has it.
    pub(crate) fn child(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text { .. } | Value::List(_) => None,
        }
    }

    /// The entries of `keys` that this map has, in its own order.
    pub(crate) fn among(&self, keys: &[&str]) -> Vec<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().filter(|entry| keys.contains(&entry.key.as_str())).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text { .. } | Value::List(_) => Vec::new(),
        }
    }

    /// Removes and returns `key`, if this is a map that has it.
    pub(crate) fn take(&mut self, key: &str) -> Option<Entry> {
        let Value::Map(entries) = &mut self.value else { return None };
        let at = entries.iter().position(|entry| entry.key == key)?;
        Some(entries.remove(at))
    }

    /// The node that a path of keys and list indexes leads to, as far as it exists, with the key's own place.
    pub(crate) fn find<'a>(&self, path: impl IntoIterator<Item = &'a str>) -> Place {
        let mut node = self;
        let mut place = &self.place;
        for segment in path {
            match &node.value {
                Value::Map(_) => {
                    let Some(entry) = node.child(segment) else { break };
                    node = &entry.node;
                    place = if node.is_scalar() { &node.place } else { &entry.key_place };
                }
                Value::List(items) => {
                    let Some(item) = segment.parse::<usize>().ok().and_then(|index| items.get(index)) else { break };
                    node = item;
                    place = &item.place;
                }
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text { .. } => break,
            }
        }
        place.clone()
    }

    /// The node at a path.
    pub(crate) fn find_node<'a>(&self, path: impl IntoIterator<Item = &'a str>) -> Option<&Self> {
        path.into_iter().try_fold(self, |node, segment| match &node.value {
            Value::Map(_) => node.child(segment).map(|entry| &entry.node),
            Value::List(items) => items.get(segment.parse::<usize>().ok()?),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text { .. } => None,
        })
    }

    /// The node at a path, to change it.
    pub(crate) fn find_mut<'a>(&mut self, path: impl IntoIterator<Item = &'a str>) -> Option<&mut Self> {
        let mut node = self;
        for segment in path {
            node = match &mut node.value {
                Value::Map(entries) => &mut entries.iter_mut().find(|entry| entry.key == segment)?.node,
                Value::List(items) => items.get_mut(segment.parse::<usize>().ok()?)?,
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text { .. } => return None,
            };
        }
        Some(node)
    }

    /// Every place in it, its own included.
    pub(crate) fn places(&self, into: &mut BTreeSet<Place>) {
        into.insert(self.place.clone());
        match &self.value {
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text { .. } => {}
            Value::List(items) => items.iter().for_each(|item| item.places(into)),
            Value::Map(entries) => entries.iter().for_each(|entry| entry.places(into)),
        }
    }

    fn is_scalar(&self) -> bool {
        match &self.value {
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text { .. } => true,
            Value::List(_) | Value::Map(_) => false,
        }
    }

    /// The same without places.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(flag) => (*flag).into(),
            Value::Number(number) => serde_json::Value::Number(number.clone()),
            Value::Text { text, .. } => text.clone().into(),
            Value::List(items) => items.iter().map(Self::to_json).collect(),
            Value::Map(entries) => serde_json::Value::Object(
                entries.iter().map(|entry| (entry.key.clone(), entry.node.to_json())).collect(),
            ),
        }
    }
}

/// What the parser says, for people: without its own "at line …", which the place says already, and without advice for
/// programmers.
#[expect(clippy::wildcard_enum_match_arm, reason = "the breaches are another crate's, and it adds to them")]
fn words(error: &serde_saphyr::Error) -> String {
    if let serde_saphyr::Error::Budget { breach, .. } = error {
        return match breach {
            BudgetBreach::Documents { .. } => "the file holds more than one YAML document".to_owned(),
            BudgetBreach::Depth { .. } => format!("nested more than {DEPTH_MAX} deep"),
            BudgetBreach::Nodes { .. } => format!("more than {NODES_MAX} values"),
            BudgetBreach::ScalarBytes { .. } => format!("values of more than {FILE_BYTES_MAX} bytes together"),
            other => format!("more than a pipeline file may hold: {other:?}"),
        };
    }
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    text.split(", set DuplicateKeyPolicy").next().unwrap_or_default().to_owned()
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            max_nodes: NODES_MAX,
            max_events: 4 * NODES_MAX,
            max_documents: 1,
            max_total_scalar_bytes: FILE_BYTES_MAX,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: NODES_MAX,
            max_replay_stack_depth: DEPTH_MAX,
        },
        strict_booleans: true,
        with_snippet: false,
    }
}

/// As it comes from the parser: places without a file.
struct Raw {
    at: Location,
    value: RawValue,
}

enum RawValue {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Raw>),
    Map(Vec<(String, Location, Raw)>),
}

impl Raw {
    fn placed(self, file: &Arc<str>) -> Node {
        let value = match self.value {
            RawValue::Null => Value::Null,
            RawValue::Bool(flag) => Value::Bool(flag),
            RawValue::Number(number) => Value::Number(number),
            RawValue::Text(text) => Value::Text { text, expanded: false },
            RawValue::List(items) => Value::List(items.into_iter().map(|item| item.placed(file)).collect()),
            RawValue::Map(entries) => Value::Map(
                entries
                    .into_iter()
                    .map(|(key, at, raw)| Entry {
                        key,
                        key_place: Place::new(file, at.line(), at.column()),
                        node: raw.placed(file),
                    })
                    .collect(),
            ),
        };
        Node { place: Place::new(file, self.at.line(), self.at.column()), value }
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<RawValue>::deserialize(deserializer)?;
        Ok(Self { at: spanned.referenced, value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for RawValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = RawValue;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<RawValue, E> {
        Ok(RawValue::Null)
    }

    fn visit_none<E>(self) -> Result<RawValue, E> {
        Ok(RawValue::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<RawValue, D::Error> {
        RawValue::deserialize(deserializer)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<RawValue, E> {
        Ok(RawValue::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<RawValue, E> {
        Ok(RawValue::Number(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<RawValue, E> {
        Ok(RawValue::Number(number.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<RawValue, E> {
        let number = serde_json::Number::from_f64(number);
        number.map(RawValue::Number).ok_or_else(|| E::custom("infinite and not-a-number values are not allowed"))
    }

    fn visit_str<E>(self, text: &str) -> Result<RawValue, E> {
        Ok(RawValue::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<RawValue, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(RawValue::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawValue, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            entries.push((key.value, key.referenced, map.next_value()?));
        }
        Ok(RawValue::Map(entries))
    }
}
