//! Profiles and `--set`: maps merge, lists and scalars replace, `null` removes.

use std::sync::Arc;

use super::problem::{Place, Problem, nearest};
use super::stages::STAGES_MAX;
use super::tree::{Entry, Node, Value};

/// What a stage has one of.
const ROLES: [&str; 3] = ["source", "transform", "sink"];

/// Lays `over` on `base`.
pub(crate) fn overlay(base: &mut Node, over: Node) {
    let Node { place, value } = over;
    match (&mut base.value, value) {
        (Value::Map(entries), Value::Map(changes)) => {
            changes.into_iter().for_each(|change| overlay_entry(entries, change))
        }
        (_, Value::Map(changes)) => {
            let mut entries = Vec::new();
            changes.into_iter().for_each(|change| overlay_entry(&mut entries, change));
            *base = Node { place, value: Value::Map(entries) };
        }
        (_, value) => *base = Node { place, value },
    }
}

fn overlay_entry(entries: &mut Vec<Entry>, change: Entry) {
    let at = entries.iter().position(|entry| entry.key == change.key);
    match (at, &change.node.value) {
        (Some(at), Value::Null) => {
            entries.remove(at);
        }
        (None, Value::Null) => {}
        (Some(at), _) => overlay(&mut entries[at].node, change.node),
        (None, _) => {
            let mut node = Node { place: change.node.place.clone(), value: Value::Null };
            overlay(&mut node, change.node);
            entries.push(Entry { node, ..change });
        }
    }
}

/// What is wrong with `name`, at `place`, if `tree` has other stages.
pub(crate) fn unknown_stage(tree: &Node, name: &str, place: Place) -> Option<Problem> {
    /// Beyond it they are only counted.
    const NAMED_MAX: usize = 16;
    let Some(Value::Map(entries)) = tree.child("stages").map(|entry| &entry.node.value) else { return None };
    let known: Vec<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
    if known.is_empty() || known.contains(&name) {
        return None;
    }
    let all = if known.len() <= NAMED_MAX { known.join(", ") } else { format!("{} others", known.len()) };
    let problem = Problem::error(place, format!("there is no stage `{name}`: the file has {all}"));
    Some(match nearest(name, &known) {
        Some(near) => problem.hint(format!("did you mean `{near}`?")),
        None => problem,
    })
}

/// The profile without the stages that are neither in the file nor whole themselves: those are mistakes.
pub(super) fn of_known_stages(tree: &Node, mut profile: Node, problems: &mut Vec<Problem>) -> Node {
    let is_whole = |node: &Node| match &node.value {
        Value::Null => false,
        Value::Map(_) => ROLES.iter().any(|role| node.child(role).is_some()),
        // Not a stage at all, which the schema says.
        Value::Bool(_) | Value::Number(_) | Value::Text { .. } | Value::List(_) => true,
    };
    if let Some(stages) = profile.find_mut(["stages"])
        && let Value::Map(entries) = &mut stages.value
        // Of more, only that is told.
        && entries.len() <= STAGES_MAX
    {
        entries.retain(|entry| {
            let unknown = unknown_stage(tree, &entry.key, entry.key_place.clone()).filter(|_| !is_whole(&entry.node));
            unknown.map(|problem| problems.push(problem)).is_none()
        });
    }
    profile
}

/// Applies one `--set PATH=VALUE`. The path leads into what is there; of a stage that is not there yet, it is the stage's
/// own, and the value the whole stage. The path's parts are joined by `.`; a part that has dots itself stands in
/// double quotes, and a list's item is named by its index. The value is YAML.
pub(crate) fn set(base: &mut Node, assignment: &str) -> Result<(), Box<Problem>> {
    let source: Arc<str> = format!("--set {}", assignment.split('=').next().unwrap_or_default()).into();
    let place = Place::start(&source);
    let fail = |what: &str| {
        Box::new(Problem::error(place.clone(), what).hint("for example --set stages.publish.concurrency=4"))
    };
    let (path, value) = assignment.split_once('=').ok_or_else(|| fail("expected PATH=VALUE"))?;
    let segments = segments(path).ok_or_else(|| fail("the path has an empty part or an open quote"))?;
    let mut over = Node::parse(&source, value)?;
    over.place = place.clone();
    if let [stages, name, inside @ ..] = segments.as_slice()
        && stages == "stages"
        && (!inside.is_empty() || over.value == Value::Null)
        && let Some(mut problem) = unknown_stage(base, name, place.clone())
    {
        problem.hint.get_or_insert_with(|| format!("a new one is given whole: --set 'stages.{name}={{...}}'"));
        return Err(Box::new(problem));
    }
    set_at(base, &segments, over).map_err(|what| fail(&what))
}

fn set_at(node: &mut Node, path: &[String], over: Node) -> Result<(), String> {
    let Some((head, tail)) = path.split_first() else {
        overlay(node, over);
        return Ok(());
    };
    match &mut node.value {
        Value::List(items) => {
            let count = items.len();
            let item = head.parse::<usize>().ok().and_then(|index| items.get_mut(index));
            return set_at(item.ok_or_else(|| format!("`{head}` is no index of a list of {count}"))?, tail, over);
        }
        Value::Map(entries) if !tail.is_empty() => {
            if let Some(entry) = entries.iter_mut().find(|entry| entry.key == *head) {
                return set_at(&mut entry.node, tail, over);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text { .. } | Value::Map(_) => {}
    }
    // What does not exist yet becomes maps.
    let place = over.place.clone();
    let wrapped = path.iter().rev().fold(over, |node, key| {
        let entry = Entry { key: key.clone(), key_place: place.clone(), node };
        Node { place: place.clone(), value: Value::Map(vec![entry]) }
    });
    overlay(node, wrapped);
    Ok(())
}

fn segments(path: &str) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    let mut rest = path;
    loop {
        let (part, tail) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => rest.split_at(rest.find('.').unwrap_or(rest.len())),
        };
        if part.is_empty() {
            return None;
        }
        parts.push(part.to_owned());
        match tail.strip_prefix('.') {
            Some(next) => rest = next,
            None => return tail.is_empty().then_some(parts),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tree(yaml: &str) -> Node {
        Node::parse(&"t".into(), yaml).unwrap()
    }

    #[test]
    fn maps_merge_lists_and_scalars_replace_and_null_removes() {
        let mut base = tree("{a: {x: 1, y: 2}, list: [1, 2], gone: {deep: 1}, text: a}");
        overlay(&mut base, tree("{a: {y: 3, z: {q: null, r: 4}}, list: [9], gone: null, never: null, text: {b: 1}}"));
        assert_eq!(base.to_json(), json!({"a": {"x": 1, "y": 3, "z": {"r": 4}}, "list": [9], "text": {"b": 1}}));
    }

    #[test]
    fn set_reaches_through_maps_lists_and_quoted_keys() {
        let mut base = tree("{stages: {a: {list: [{x: 1}, 2]}}}");
        for assignment in [
            "stages.a.list.0.x=5",
            "stages.b={size: 1MiB}",
            r#"stages.a.properties."compression.type"=zstd"#,
            "stages.a.list.1=[a]",
        ] {
            set(&mut base, assignment).unwrap();
        }
        let expected = json!({"stages": {"a": {"list": [{"x": 5}, ["a"]], "properties": {"compression.type": "zstd"}}, "b": {"size": "1MiB"}}});
        assert_eq!(base.to_json(), expected);
        set(&mut base, "stages.b=null").unwrap();
        assert!(base.child("stages").unwrap().node.child("b").is_none());
    }

    #[test]
    fn a_bad_assignment_says_what_is_wrong() {
        let mut base = tree("{list: [1]}");
        for (assignment, what) in
            [("x", "PATH=VALUE"), ("a..b=1", "empty part"), ("list.7=1", "no index"), ("a=[", "--set a")]
        {
            let problem = set(&mut base, assignment).unwrap_err().to_string();
            assert!(problem.contains(what), "{assignment}: {problem}");
        }
    }
}
