//! `jaiminho list`: components and their options, out of the pipeline file's schema.

use std::collections::BTreeMap;

use jaiminho_telemetry::{Metric, names};
use serde_json::{Value, json};

use crate::cli::{Global, List};
use crate::config::{inlined_schema, nearest};
use crate::exit::Failure;
use crate::output::{line, table};

pub(crate) fn run(global: &Global, list: &List) -> Result<(), Failure> {
    if list.what.as_deref() == Some("metrics") {
        return metrics(global);
    }
    let schema = inlined_schema(&global.program.own);
    let components = components(&schema);
    let Some(what) = &list.what else {
        if global.json {
            let all: BTreeMap<_, _> = components.iter().map(|(name, component)| (name, &component.about)).collect();
            return line(json!(all));
        }
        let rows: Vec<Vec<String>> =
            components.iter().map(|(name, component)| vec![name.clone(), first_sentence(&component.about)]).collect();
        line(table(&rows, &[]))?;
        let name = &global.program.name;
        return line(format!(
            "`{name} list NAME` shows the options of one, `{name} list metrics` what is counted and measured."
        ));
    };
    let known: Vec<&str> = components.keys().map(String::as_str).collect();
    let what = meant(&known, what);
    let Some(component) = components.get(what) else {
        let hint = nearest(what, &known).map_or(known.join(", "), |near| format!("did you mean `{near}`?"));
        return Err(Failure::usage(format!("there is no component `{what}` ({hint})")));
    };
    if global.json {
        return line(format!("{:#}", component.schema));
    }
    line(text(what, component))
}

/// All metrics with their kinds, units, labels and meanings.
fn metrics(global: &Global) -> Result<(), Failure> {
    if global.json {
        let metric = |metric: &Metric| {
            json!({ "name": metric.name, "type": metric.kind.name(), "unit": metric.unit.name(), "labels": metric.labels,
                "meaning": metric.meaning() })
        };
        return line(format!("{:#}", names::all().map(metric).collect::<Value>()));
    }
    let head = ["METRIC", "TYPE", "UNIT", "LABELS", "MEANING"].map(str::to_owned).to_vec();
    let row = |metric: &Metric| {
        let (kind, unit) = (metric.kind.name().to_owned(), metric.unit.name());
        vec![metric.name.to_owned(), kind, unit, metric.labels.join(", "), metric.meaning()]
    };
    let rows: Vec<_> = std::iter::once(head).chain(names::all().map(row)).collect();
    line(table(&rows, &[]).trim_end())
}

/// `batch` is `transform.batch`, as long as no other component is called so.
fn meant<'a>(known: &[&'a str], what: &'a str) -> &'a str {
    let mut named = known.iter().filter(|name| name.split_once('.').is_some_and(|(_, short)| short == what));
    match (known.contains(&what), named.next(), named.next()) {
        (false, Some(only), None) => only,
        (true, ..) | (false, None, _) | (false, Some(_), Some(_)) => what,
    }
}

/// A source, transform or sink, or a whole stage.
struct Component<'a> {
    about: String,
    schema: &'a Value,
}

fn text(name: &str, component: &Component<'_>) -> String {
    let mut rows = Vec::new();
    options(component.schema, "", None, &mut rows);
    let kind = kind(component.schema);
    let options = match kind.as_str() {
        "map" if rows.is_empty() => "It has no options.\n".to_owned(),
        "map" => table(&rows, &[]),
        _ if rows.is_empty() => format!("It is a {kind}.\n"),
        _ => format!("It is a {kind}; as a map:\n\n{}", table(&rows, &[])),
    };
    format!("{name}: {}\n\n{}", component.about, options.trim_end())
}

/// `stage`, and each source, transform and sink.
fn components(schema: &Value) -> BTreeMap<String, Component<'_>> {
    let mut all = BTreeMap::new();
    let Some(stage) = schema.pointer("/properties/stages/additionalProperties") else { return all };
    let itself = |schema| Component { about: description(schema), schema };
    all.insert("stage".to_owned(), itself(stage));
    if let Some(schema) = schema.pointer("/properties/telemetry") {
        all.insert("telemetry".to_owned(), itself(schema));
    }
    for role in ["source", "transform", "sink"] {
        let Some(schema) = stage.pointer(&format!("/properties/{role}")) else { continue };
        for branch in alternatives(schema) {
            for (name, schema) in properties(branch) {
                // Of a source's own keys, only the endpoints are components.
                if branch.pointer("/properties/http").is_some() && properties(schema).next().is_none() {
                    continue;
                }
                let own = Some(description(schema)).filter(|_| properties(branch).count() > 1);
                let about = own.unwrap_or_else(|| description(branch));
                all.entry(format!("{role}.{name}")).or_insert(Component { about, schema });
            }
        }
    }
    if let Some(ingest) = stage
        .pointer("/properties/source")
        .and_then(|schema| alternatives(schema).into_iter().find(|branch| branch.pointer("/properties/http").is_some()))
    {
        all.insert("source".to_owned(), itself(ingest));
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

/// A row for each option, those of maps inside under their dotted path. `whole`: the default of all of it, which wins.
fn options(schema: &Value, prefix: &str, whole: Option<&Value>, rows: &mut Vec<Vec<String>>) {
    let branches = alternatives(schema);
    let needed_word = if branches.len() > 1 { "one of them" } else { "required" };
    for branch in branches {
        let required = branch.get("required").and_then(Value::as_array);
        for (name, option) in properties(branch) {
            let path = format!("{prefix}{name}");
            let needed = required.is_some_and(|required| required.iter().any(|key| key == name));
            let default = whole.and_then(|whole| whole.get(name)).or_else(|| option.get("default"));
            let word = match default {
                Some(Value::Null) | None if needed => needed_word.to_owned(),
                Some(Value::Null | Value::Object(_)) | None => String::new(),
                Some(default) => format!("default {default}"),
            };
            let own = Some(description(option)).filter(|own| !own.is_empty());
            let about = own.unwrap_or_else(|| if needed { description(branch) } else { String::new() });
            rows.push(vec![path.clone(), kind(option), word, about]);
            let nested = !["source", "transform", "sink"].contains(&name.as_str()) || !prefix.is_empty();
            if nested && prefix.matches('.').count() < 3 {
                options(option, &format!("{path}."), default, rows);
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
    use crate::registry::Registry;

    #[test]
    fn each_component_is_listed_with_what_it_does() {
        let schema = inlined_schema(&Registry::default());
        let components = components(&schema);
        for name in [
            "stage",
            "source",
            "source.http",
            "source.websocket",
            "source.generate",
            "source.kafka",
            "transform.vrl",
            "transform.filter",
            "transform.dedupe",
            "transform.sample",
            "transform.throttle",
            "transform.route",
            "transform.batch",
            "sink.kafka",
            "sink.stdout",
            "sink.file",
            "sink.blackhole",
        ] {
            assert!(components.contains_key(name), "{name} in {:?}", components.keys());
        }
        let mut rows = Vec::new();
        options(components["sink.kafka"].schema, "", None, &mut rows);
        let topic = rows.iter().find(|row| row[0] == "topic").unwrap();
        assert_eq!((topic[1].as_str(), topic[2].as_str()), ("string", "required"));
        assert!(rows.iter().any(|row| row[0] == "sasl.mechanism"), "{rows:?}");
    }

    #[test]
    fn what_is_listed_of_transforms_and_logs_is_what_the_file_means() {
        let schema = inlined_schema(&Registry::default());
        let components = components(&schema);
        let listed = |name: &str| text(name, &components[name]);
        insta::assert_snapshot!(listed("transform.filter"), @r##"
transform.filter: A VRL expression of type boolean; events for which it is `true` are kept, unchanged.

It is a string.
"##);
        insta::assert_snapshot!(listed("transform.vrl"), @r##"
transform.vrl: A VRL program. `.` is the event in CloudEvents' JSON format; an array left in it means many events, `null` none, and `abort "reason"` rejects the event.

It is a string or map; as a map:

file    string  one of them  A file, relative to the pipeline file's folder.
inline  string  one of them  The program itself.
"##);
        insta::assert_snapshot!(listed("sink.blackhole"), @r##"
sink.blackhole: Accepts every event and forgets it.

It has no options.
"##);
        let stage = listed("stage");
        let logs: Vec<&str> = stage.lines().filter(|line| line.contains("log")).collect();
        insta::assert_snapshot!(logs.join("\n"), @r##"
log                     map                                 What the main output, or each output of a `route`, holds until all its groups have settled it.
log.events              number            default 8000      Unsettled events. The span of offsets is 16 times as long.
log.bytes               number or string  default "32MiB"   Their bytes.
dead_letter_log         map                                 What the dead-letter output holds.
dead_letter_log.events  number            default 1000      Unsettled events. The span of offsets is 16 times as long.
dead_letter_log.bytes   number or string  default "4MiB"    Their bytes.
"##);
    }

    #[test]
    fn a_component_goes_by_its_last_name_where_it_is_the_only_one_of_that() {
        let known = ["sink.kafka", "source", "source.http", "source.kafka", "transform.batch"];
        for (what, found) in [
            ("batch", "transform.batch"),
            ("http", "source.http"),
            ("source.http", "source.http"),
            ("source", "source"),
            ("kafka", "kafka"),
            ("bach", "bach"),
        ] {
            assert_eq!(meant(&known, what), found);
        }
    }
}
