//! The check of a tree against the generated JSON Schema, in words for people.

use std::collections::{BTreeSet, HashMap};

use jaiminho_event::units::{ByteSize, HumanDuration};
use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{JsonType, ValidationError, Validator};
use schemars::generate::SchemaSettings;
use serde_json::Value as Json;

use super::model::Pipeline;
use super::problem::{Place, Problem};
use super::tree::{Node, Value};
use crate::registry::{ComponentKind, Registry};

/// Deepest nesting of alternatives that is looked into for the likely one.
const ALTERNATIVES_DEPTH_MAX: usize = 8;

/// The JSON Schema of the pipeline file, for editors.
pub(crate) fn pipeline_schema(own: &Registry) -> Json {
    with_own(SchemaSettings::draft2020_12(), own)
}

/// The same without references: a schema path leads to its place without looking anything up.
pub(crate) fn inlined_schema(own: &Registry) -> Json {
    with_own(SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true), own)
}

/// The program's own components stand beside the built-in alternatives of their kind.
fn with_own(settings: SchemaSettings, own: &Registry) -> Json {
    let mut generator = settings.into_generator();
    let branches = own.schemas(&mut generator);
    let mut schema = generator.into_root_schema_for::<Pipeline>().to_value();
    for (kind, branch) in branches {
        let definitions = schema.get("$defs").cloned().unwrap_or_default();
        let kind = component_schema(&mut schema, &definitions, kind);
        if let Some(known) = kind.and_then(alternatives_mut) {
            known.push(branch);
        }
    }
    schema
}

/// The keys that a stage's `source`, `transform` or `sink` has without components of a program's own.
pub(crate) fn built_in_components(kind: ComponentKind) -> BTreeSet<String> {
    fn keys(schema: &Json, all: &mut BTreeSet<String>) {
        all.extend(property_names(schema));
        let inner = ["anyOf", "oneOf"].iter().filter_map(|word| schema.get(word)?.as_array()).flatten();
        inner.for_each(|schema| keys(schema, all));
    }
    let (mut schema, mut all) = (inlined_schema(&Registry::default()), BTreeSet::new());
    if let Some(kind) = component_schema(&mut schema, &Json::Null, kind) {
        keys(kind, &mut all);
    }
    all
}

/// What stands for a kind of component in the schema of a stage.
fn component_schema<'a>(schema: &'a mut Json, definitions: &Json, kind: ComponentKind) -> Option<&'a mut Json> {
    let stage = schema.pointer_mut("/properties/stages/additionalProperties")?;
    resolve(stage, definitions);
    stage.get_mut("properties")?.get_mut(kind.key())
}

/// Puts what it refers to in a reference's place.
fn resolve(schema: &mut Json, definitions: &Json) {
    let name = schema.get("$ref").and_then(Json::as_str).and_then(|path| path.strip_prefix("#/$defs/"));
    if let Some(definition) = name.and_then(|name| definitions.get(name)) {
        *schema = definition.clone();
    }
}

/// The innermost alternatives, each of which is one component; those that a reference stands for have others beside it.
fn alternatives_mut(schema: &mut Json) -> Option<&mut Vec<Json>> {
    let word = ["anyOf", "oneOf"].into_iter().find(|word| schema.get(word).is_some())?;
    let all = schema.get_mut(word)?.as_array_mut()?;
    let is_nested = all.first().is_some_and(|first| first.get("anyOf").is_some() || first.get("oneOf").is_some());
    if is_nested { alternatives_mut(all.first_mut()?) } else { Some(all) }
}

/// Checks `tree`; a scalar that came out of a variable is read as the number or flag that the schema wants there.
/// `overlaid`: by a profile or `--set`.
pub(crate) fn check(tree: &mut Node, own: &Registry, overlaid: bool) -> Vec<Problem> {
    let schema = inlined_schema(own);
    let validator = match jsonschema::validator_for(&schema) {
        Ok(validator) => validator,
        Err(error) => {
            return vec![Problem::error(tree.place.clone(), format!("the built-in schema is broken: {error}"))];
        }
    };
    retype_expanded(tree, &validator);
    let json = tree.to_json();
    let mut explainer = Explainer { tree, schema: &schema, overlaid, problems: Vec::new() };
    for error in validator.iter_errors(&json) {
        explainer.explain(&error, 0);
    }
    explainer.problems
}

/// Where a string that a variable gave has the wrong type, tries it as a number or a flag.
fn retype_expanded(tree: &mut Node, validator: &Validator) {
    let mut paths = Vec::new();
    for error in validator.iter_errors(&tree.to_json()) {
        wrong_types(&error, 0, &mut paths);
    }
    for path in paths {
        let segments: Vec<String> = segments(&path);
        let Some(node) = tree.find_mut(segments.iter().map(String::as_str)) else { continue };
        let Value::Text { text, expanded: true } = &node.value else { continue };
        match serde_json::from_str(text) {
            Ok(Json::Bool(flag)) => node.value = Value::Bool(flag),
            Ok(Json::Number(number)) => node.value = Value::Number(number),
            Ok(_) | Err(_) => {}
        }
    }
}

fn wrong_types(error: &ValidationError<'_>, depth: usize, paths: &mut Vec<String>) {
    if let Some(alternatives) = alternatives(error.kind()) {
        if depth < ALTERNATIVES_DEPTH_MAX {
            alternatives.iter().flatten().for_each(|inner| wrong_types(inner, depth + 1, paths));
        }
    } else if let ValidationErrorKind::Type { .. } = error.kind() {
        paths.push(error.instance_path().as_str().to_owned());
    }
}

fn alternatives(kind: &ValidationErrorKind) -> Option<&[Vec<ValidationError<'static>>]> {
    if let ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } = kind {
        return Some(context);
    }
    None
}

/// Turns validation errors into problems.
struct Explainer<'a> {
    tree: &'a Node,
    schema: &'a Json,
    overlaid: bool,
    problems: Vec<Problem>,
}

impl Explainer<'_> {
    fn place(&self, path: &[String]) -> Place {
        self.tree.find(path.iter().map(String::as_str))
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the kinds are another crate's, and it adds to them")]
    fn explain(&mut self, error: &ValidationError<'_>, depth: usize) {
        let path = segments(error.instance_path().as_str());
        let place = self.place(&path);
        let here = path.join(".");
        if let Some(branches) = alternatives(error.kind()).filter(|_| depth < ALTERNATIVES_DEPTH_MAX) {
            return self.explain_alternatives(error, branches, depth);
        }
        match error.kind() {
            ValidationErrorKind::AdditionalProperties { unexpected } => {
                let known = parent_schema(self.schema, error.schema_path().as_str());
                let known = known.map(property_names).unwrap_or_default();
                self.unknown_keys(unexpected, &path, &known);
            }
            ValidationErrorKind::Required { property } => {
                let property = property.as_str().unwrap_or_default();
                self.problems.push(Problem::error(place, format!("{} needs a key `{property}`", named(&here))));
            }
            ValidationErrorKind::Type { kind } => {
                let pattern =
                    parent_schema(self.schema, error.schema_path().as_str()).and_then(|own| own.get("pattern"));
                let form = pattern.and_then(Json::as_str).and_then(described);
                let form = form.unwrap_or_else(|| format!("must be {}", type_words(kind)));
                self.problems
                    .push(Problem::error(place, format!("{} {form}, not {}", named(&here), is_now(error.instance()))));
            }
            ValidationErrorKind::MinProperties { .. } => {
                let known =
                    parent_schema(self.schema, error.schema_path().as_str()).map(property_names).unwrap_or_default();
                self.problems.push(match known.as_slice() {
                    [] => Problem::error(place, format!("{} is empty", named(&here))),
                    known => Problem::error(place, format!("{} needs one of its keys", named(&here)))
                        .hint(format!("valid here: {}", known.join(", "))),
                });
            }
            ValidationErrorKind::MaxProperties { limit: 1 } => {
                let given: Vec<&str> =
                    error.instance().as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
                self.exclusive(&path, &given.into_iter().map(|key| vec![key]).collect::<Vec<_>>());
            }
            ValidationErrorKind::Enum { options } => {
                let options: Vec<&str> = options.as_array().into_iter().flatten().filter_map(Json::as_str).collect();
                let wrong = error.instance().as_str().unwrap_or_default().to_owned();
                self.problems.push(
                    Problem::error(place, format!("{} can't be `{wrong}`", named(&here))).nearest(&wrong, options),
                );
            }
            ValidationErrorKind::Pattern { pattern } => {
                let form = described(pattern).unwrap_or_else(|| format!("must match {pattern}"));
                self.problems.push(Problem::error(place, format!("{} {form}", named(&here))));
            }
            // The other keywords' own words are clear. The value stays out of them: it may be a secret.
            other => self.problems.push(Problem::error(
                place,
                match bound(other) {
                    Some(words) => format!("{} must be {words}", named(&here)),
                    None => format!("{}: {}", named(&here), error.masked_with("the value")),
                },
            )),
        }
    }

    /// One problem for each key, at its place.
    fn unknown_keys<'b>(&mut self, unknown: impl IntoIterator<Item = &'b String>, path: &[String], known: &[String]) {
        let (here, map) = (path.join("."), self.tree.find_node(path.iter().map(String::as_str)));
        let places: HashMap<&str, &Place> = match map.map(|node| &node.value) {
            Some(Value::Map(entries)) => entries.iter().map(|entry| (entry.key.as_str(), &entry.key_place)).collect(),
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text { .. } | Value::List(_)) | None => {
                HashMap::new()
            }
        };
        for key in unknown {
            let place = places.get(key.as_str()).map_or(&self.tree.place, |place| place);
            let problem = Problem::error(place.clone(), unknown_key(key, &here));
            self.problems.push(problem.nearest(key, known.iter().map(String::as_str)));
        }
    }

    /// The keys that a map has of each of several shapes, if no other shape has them.
    fn groups<'e>(&self, error: &'e ValidationError<'_>) -> Vec<Vec<&'e str>> {
        let branches = self.schema.pointer(error.schema_path().as_str()).and_then(Json::as_array);
        let known: Vec<Vec<String>> = branches.into_iter().flatten().map(property_names).collect();
        let keys = || error.instance().as_object().into_iter().flatten().map(|(key, _)| key.as_str());
        let has = |names: &Vec<String>, key: &str| names.iter().any(|name| name == key);
        let only = |key: &str| known.iter().filter(|names| has(names, key)).count() == 1;
        let own = known.iter().map(|names| keys().filter(|key| has(names, key) && only(key)).collect::<Vec<_>>());
        own.filter(|group| !group.is_empty()).collect()
    }

    fn exclusive(&mut self, path: &[String], groups: &[Vec<&str>]) {
        let words = |group: &Vec<&str>| group.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
        let here = named(&path.join("."));
        let what = if groups.iter().all(|group| group.len() == 1) {
            let all: Vec<String> = groups.iter().map(words).collect();
            format!("{here} takes exactly one of its keys, not {} together", all.join(" and "))
        } else {
            let all: Vec<String> = groups.iter().map(words).collect();
            format!("{here} takes either {}, not both", all.join(" or "))
        };
        self.problems.push(exclusive(self.tree, path.iter().map(String::as_str), groups, what, self.overlaid));
    }

    /// None of several shapes fits: reports the errors of the one that was most likely meant.
    fn explain_alternatives(
        &mut self,
        error: &ValidationError<'_>,
        branches: &[Vec<ValidationError<'static>>],
        depth: usize,
    ) {
        let here = error.instance_path().as_str();
        let at_root = |inner: &ValidationError<'static>| inner.instance_path().as_str() == here;
        let is_required = |inner: &ValidationError<'static>| {
            use ValidationErrorKind::{Constant, Enum, Required};
            matches!(inner.kind(), Required { .. } | Constant { .. } | Enum { .. })
        };
        let known = alternative_names(self.schema, error.schema_path().as_str());
        // It has a key that another alternative is told by.
        let is_anothers = |inner: &ValidationError<'static>| {
            let ValidationErrorKind::AdditionalProperties { unexpected } = inner.kind() else { return false };
            unexpected.iter().any(|key| known.contains(key))
        };
        let score = |errors: &Vec<ValidationError<'static>>| {
            let wrong_type = has_wrong_type(errors, here, 0);
            let missing = errors.iter().any(|inner| at_root(inner) && is_required(inner));
            let anothers = errors.iter().any(|inner| at_root(inner) && is_anothers(inner));
            (wrong_type, missing, anothers, errors.len())
        };
        let Some(best) = branches.iter().min_by_key(|errors| score(errors)) else { return };
        let groups = self.groups(error);
        if groups.len() > 1 {
            return self.exclusive(&segments(here), &groups);
        }
        let (wrong_type, missing, ..) = score(best);
        if !wrong_type && !missing {
            for inner in best {
                // What is valid here is what any of them takes.
                if let ValidationErrorKind::AdditionalProperties { unexpected } = inner.kind()
                    && at_root(inner)
                    && !known.is_empty()
                {
                    self.unknown_keys(unexpected, &segments(here), &known);
                } else {
                    self.explain(inner, depth + 1);
                }
            }
            return;
        }
        let path = segments(here);
        let place = self.place(&path);
        let dotted = path.join(".");
        if let (false, Json::Object(map)) = (wrong_type, &**error.instance()) {
            // A map without the key that tells the alternatives apart: its own keys are the mistake.
            let unknown: Vec<&String> = map.keys().filter(|key| !known.contains(key)).collect();
            self.unknown_keys(unknown.iter().copied(), &path, &known);
            if unknown.is_empty() {
                self.problems.push(
                    Problem::error(place, format!("{} needs one of its keys", named(&dotted)))
                        .hint(format!("valid here: {}", known.join(", "))),
                );
            }
            return;
        }
        if let Some(wrong) = error.instance().as_str().filter(|_| !known.is_empty() && !wrong_type) {
            self.problems.push(
                Problem::error(place, format!("{} can't be `{wrong}`", named(&dotted)))
                    .nearest(wrong, known.iter().map(String::as_str)),
            );
            return;
        }
        let mut wanted = Vec::new();
        wanted_types(branches, here, 0, &mut wanted);
        // Where nothing may stand, something is what was meant.
        if wanted.len() > 1 {
            wanted.retain(|words| words != "null");
        }
        self.problems.push(Problem::error(
            place,
            format!("{} must be {}, not {}", named(&dotted), wanted.join(" or "), is_now(error.instance())),
        ));
    }
}

/// The types that alternatives, and those inside of them, want at one place.
fn wanted_types(branches: &[Vec<ValidationError<'static>>], here: &str, depth: usize, wanted: &mut Vec<String>) {
    for inner in branches.iter().flatten().filter(|inner| inner.instance_path().as_str() == here) {
        if let Some(branches) = alternatives(inner.kind()).filter(|_| depth < ALTERNATIVES_DEPTH_MAX) {
            wanted_types(branches, here, depth + 1, wanted);
        } else if let ValidationErrorKind::Type { kind } = inner.kind() {
            let words = type_words(kind);
            if !wanted.contains(&words) {
                wanted.push(words);
            }
        }
    }
}

/// What a number must be, where it is out of its bounds.
fn bound(kind: &ValidationErrorKind) -> Option<String> {
    if let ValidationErrorKind::Minimum { limit } = kind {
        Some(format!("at least {limit}"))
    } else if let ValidationErrorKind::ExclusiveMinimum { limit } = kind {
        Some(format!("above {limit}"))
    } else if let ValidationErrorKind::Maximum { limit } = kind {
        Some(format!("at most {limit}"))
    } else {
        None
    }
}

/// Whether a value is of another type than an alternative wants, whatever is inside of it.
fn has_wrong_type(errors: &[ValidationError<'static>], here: &str, depth: usize) -> bool {
    errors.iter().filter(|inner| inner.instance_path().as_str() == here).any(|inner| match alternatives(inner.kind()) {
        Some(branches) => {
            depth < ALTERNATIVES_DEPTH_MAX && branches.iter().all(|errors| has_wrong_type(errors, here, depth + 1))
        }
        None => matches!(inner.kind(), ValidationErrorKind::Type { .. }),
    })
}

/// A problem of groups of keys that exclude each other in the map at `path`, at the last of them; with a way to take away the
/// first, where a profile or `--set` lays over what the file says.
pub(super) fn exclusive<'a>(
    tree: &Node,
    path: impl IntoIterator<Item = &'a str> + Clone,
    groups: &[Vec<&str>],
    what: String,
    overlaid: bool,
) -> Problem {
    let given = tree.find_node(path.clone()).map(|node| node.among(&groups.concat())).unwrap_or_default();
    let place = given.last().map_or_else(|| tree.find(path.clone()), |last| last.key_place.clone());
    let problem = Problem::error(place, what);
    let first = given.first().and_then(|first| groups.iter().find(|group| group.contains(&first.key.as_str())));
    match first.filter(|_| overlaid) {
        Some(group) => {
            let path = path.into_iter().collect::<Vec<_>>().join(".");
            let sets: Vec<String> = group.iter().map(|key| format!("--set {path}.{key}=null")).collect();
            problem.hint(format!("`{}`, or `null` in a profile, takes away what the file says", sets.join(" ")))
        }
        None => problem,
    }
}

/// All keys and constants that the alternatives at a schema path know.
fn alternative_names(schema: &Json, schema_path: &str) -> Vec<String> {
    let branches = schema.pointer(schema_path).and_then(Json::as_array);
    let mut names = Vec::new();
    for branch in branches.into_iter().flatten() {
        names.extend(property_names(branch));
        names.extend(branch.get("const").and_then(Json::as_str).map(str::to_owned));
    }
    names.dedup();
    names
}

/// `must be …` for the pattern of a duration or a size, in its type's own words.
fn described(pattern: &str) -> Option<String> {
    let kinds = [schemars::schema_for!(HumanDuration).to_value(), schemars::schema_for!(ByteSize).to_value()];
    let has = |schema: &Json| {
        let own = schema.get("pattern").into_iter();
        let inner = schema.get("anyOf").and_then(Json::as_array).into_iter().flatten();
        own.chain(inner.filter_map(|branch| branch.get("pattern"))).any(|known| known.as_str() == Some(pattern))
    };
    let kind = kinds.iter().find(|schema| has(schema))?;
    let text = kind.get("description").and_then(Json::as_str)?;
    Some(format!("must be {}", text.replacen("A ", "a ", 1).trim_end_matches('.')))
}

fn parent_schema<'a>(schema: &'a Json, schema_path: &str) -> Option<&'a Json> {
    schema.pointer(schema_path.rsplit_once('/')?.0)
}

fn property_names(schema: &Json) -> Vec<String> {
    schema.get("properties").and_then(Json::as_object).map(|all| all.keys().cloned().collect()).unwrap_or_default()
}

fn segments(pointer: &str) -> Vec<String> {
    pointer.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~")).collect()
}

fn named(path: &str) -> String {
    if path.is_empty() { "the file".into() } else { format!("`{path}`") }
}

fn unknown_key(key: &str, here: &str) -> String {
    if here.is_empty() { format!("unknown key `{key}`") } else { format!("unknown key `{key}` in `{here}`") }
}

fn type_words(kind: &TypeKind) -> String {
    let name = |kind: JsonType| match kind {
        JsonType::Null => "null",
        JsonType::Boolean => "true or false",
        JsonType::Integer => "a whole number",
        JsonType::Number => "a number",
        JsonType::String => "a string",
        JsonType::Array => "a list",
        JsonType::Object => "a map",
    };
    match kind {
        TypeKind::Single(single) => name(*single).to_owned(),
        TypeKind::Multiple(set) => {
            let all: Vec<&str> = set.iter().filter(|kind| *kind != JsonType::Null).map(name).collect();
            all.join(" or ")
        }
    }
}

/// Never the text itself: it may be a secret in the wrong place.
fn is_now(value: &Json) -> String {
    match value {
        Json::Null => "empty".into(),
        Json::Bool(flag) => flag.to_string(),
        Json::Number(number) => number.to_string(),
        Json::String(_) => "a string".into(),
        Json::Array(_) => "a list".into(),
        Json::Object(_) => "a map".into(),
    }
}
