//! `jaiminho list`: components and their options, out of the pipeline file's schema.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::cli::{Global, List};
use crate::config::{inlined_schema, nearest};
use crate::exit::Failure;
use crate::output::{line, table};

pub(crate) fn run(global: &Global, list: &List) -> Result<(), Failure> {
    let schema = inlined_schema();
    let components = components(&schema);
    let Some(what) = &list.what else {
        if global.json {
            let all: BTreeMap<_, _> = components.iter().map(|(name, schema)| (name, description(schema))).collect();
            return line(json!(all));
        }
        let rows: Vec<Vec<String>> =
            components.iter().map(|(name, schema)| vec![name.clone(), first_sentence(&description(schema))]).collect();
        line(table(&rows, &[]))?;
        return line("`jaiminho list NAME` shows the options of one.");
    };
    let Some(component) = components.get(what.as_str()) else {
        let known: Vec<&str> = components.keys().map(String::as_str).collect();
        let hint = nearest(what, &known).map_or(known.join(", "), |near| format!("did you mean `{near}`?"));
        return Err(Failure::usage(format!("there is no component `{what}` ({hint})")));
    };
    if global.json {
        return line(format!("{component:#}"));
    }
    let mut rows = Vec::new();
    options(component, "", &mut rows);
    line(format!("{what}: {}\n", description(component)))?;
    line(if rows.is_empty() { "It has no options.".to_owned() } else { table(&rows, &[]) })
}

/// `stage`, and each source, transform and sink.
fn components(schema: &Value) -> BTreeMap<String, &Value> {
    let mut all = BTreeMap::new();
    let Some(stage) = schema.pointer("/properties/stages/additionalProperties") else { return all };
    all.insert("stage".to_owned(), stage);
    for role in ["source", "transform", "sink"] {
        let Some(schema) = stage.pointer(&format!("/properties/{role}")) else { continue };
        for (name, component) in alternatives(schema).into_iter().flat_map(properties) {
            // Of a source's own keys, only the endpoints are components.
            if properties(component).next().is_some() || role != "source" || name == "generate" {
                all.entry(format!("{role}.{name}")).or_insert(component);
            }
        }
    }
    if let Some(ingest) = stage
        .pointer("/properties/source")
        .and_then(|schema| alternatives(schema).into_iter().find(|branch| branch.pointer("/properties/http").is_some()))
    {
        all.insert("source".to_owned(), ingest);
    }
    all
}

/// The schemas that one stands for: itself, or its alternatives, whatever is nested in whatever.
fn alternatives(schema: &Value) -> Vec<&Value> {
    let inner = ["oneOf", "anyOf"].iter().filter_map(|word| schema.get(*word)?.as_array()).flatten();
    let mut all: Vec<&Value> = inner.flat_map(alternatives).collect();
    if schema.get("properties").is_some() {
        all.push(schema);
    }
    all
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema.get("properties").and_then(Value::as_object).into_iter().flatten()
}

fn description(schema: &Value) -> String {
    let own = schema.get("description").and_then(Value::as_str);
    own.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn first_sentence(text: &str) -> String {
    text.split_once(". ").map_or(text, |(first, _)| first).trim_end_matches('.').to_owned()
}

/// A row for each option, those of maps inside under their dotted path.
fn options(schema: &Value, prefix: &str, rows: &mut Vec<Vec<String>>) {
    for branch in alternatives(schema) {
        let required = branch.get("required").and_then(Value::as_array);
        for (name, option) in properties(branch) {
            let path = format!("{prefix}{name}");
            let needed = required.is_some_and(|required| required.iter().any(|key| key == name));
            let default = match option.get("default") {
                Some(Value::Null) | None => {
                    if needed {
                        "required".to_owned()
                    } else {
                        String::new()
                    }
                }
                Some(Value::Object(_)) => String::new(),
                Some(default) => format!("default {default}"),
            };
            rows.push(vec![path.clone(), kind(option), default, description(option)]);
            let nested = !["source", "transform", "sink"].contains(&name.as_str()) || !prefix.is_empty();
            if nested && prefix.matches('.').count() < 3 {
                options(option, &format!("{path}."), rows);
            }
        }
    }
}

fn kind(schema: &Value) -> String {
    let word = |kind: &str| match kind {
        "object" => "map",
        "array" => "list",
        "integer" | "number" => "number",
        "boolean" => "true/false",
        _ => "string",
    };
    let named = match schema.get("type") {
        Some(Value::String(kind)) => vec![word(kind)],
        Some(Value::Array(kinds)) => {
            kinds.iter().filter_map(Value::as_str).filter(|kind| *kind != "null").map(word).collect()
        }
        _ => Vec::new(),
    };
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return values.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("|");
    }
    if !named.is_empty() {
        return named.join(" or ");
    }
    let inner = ["oneOf", "anyOf"].iter().filter_map(|word| schema.get(*word)?.as_array()).flatten();
    let mut kinds: Vec<String> = Vec::new();
    for branch in inner.filter(|branch| branch.get("type").and_then(Value::as_str) != Some("null")) {
        let kind = branch.get("const").and_then(Value::as_str).map_or_else(|| kind(branch), str::to_owned);
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let constants = schema.to_string().contains("\"const\"");
    kinds.join(if constants { "|" } else { " or " })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_component_is_listed_with_what_it_does() {
        let schema = inlined_schema();
        let components = components(&schema);
        for name in [
            "stage",
            "source",
            "source.http",
            "source.websocket",
            "source.generate",
            "transform.vrl",
            "transform.filter",
            "sink.kafka",
            "sink.stdout",
            "sink.file",
            "sink.blackhole",
        ] {
            assert!(components.contains_key(name), "{name} in {:?}", components.keys());
        }
        let mut rows = Vec::new();
        options(components["sink.kafka"], "", &mut rows);
        let topic = rows.iter().find(|row| row[0] == "topic").unwrap();
        assert_eq!((topic[1].as_str(), topic[2].as_str()), ("string", "required"));
        assert!(rows.iter().any(|row| row[0] == "sasl.mechanism"), "{rows:?}");
    }
}
