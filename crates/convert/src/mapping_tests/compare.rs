//! Expected against actual events, and a difference that people can read.

use serde_json::{Map, Value};
use similar::TextDiff;

/// Relative difference up to which two numbers are the same.
const TOLERANCE: f64 = 1e-9;

/// Compares a test's outputs; objects may have more than what is expected, unless `exact`.
///
/// # Errors
///
/// A line difference from what was expected to what came.
pub(super) fn outputs(expected: &[Value], actual: &[Value], exact: bool) -> Result<(), String> {
    let actual = sorted(&Value::Array(actual.to_vec()));
    let wanted = sorted(&overlay(&Value::Array(expected.to_vec()), &actual, exact));
    if wanted == actual { Ok(()) } else { Err(difference(&pretty(&wanted), &pretty(&actual))) }
}

/// All of it as added lines.
pub(super) fn added(actual: &[Value]) -> String {
    let actual = sorted(&Value::Array(actual.to_vec()));
    pretty(&actual).lines().map(|line| format!("+{line}\n")).collect()
}

/// What `actual` would have to be: itself where the test says nothing, else what it expects.
fn overlay(expected: &Value, actual: &Value, exact: bool) -> Value {
    match (expected, actual) {
        (Value::Object(expected), Value::Object(actual)) => {
            let mut wanted = if exact { Map::new() } else { actual.clone() };
            for (name, value) in expected {
                if value.is_null() {
                    wanted.remove(name);
                } else {
                    let value = actual.get(name).map_or_else(|| value.clone(), |found| overlay(value, found, exact));
                    wanted.insert(name.clone(), value);
                }
            }
            Value::Object(wanted)
        }
        (Value::Array(expected), Value::Array(actual)) => {
            let mut actual = actual.iter();
            let pair =
                |value: &Value| actual.next().map_or_else(|| value.clone(), |found| overlay(value, found, exact));
            Value::Array(expected.iter().map(pair).collect())
        }
        (Value::Number(a), Value::Number(b)) if same(a.as_f64(), b.as_f64()) => actual.clone(),
        _ => expected.clone(),
    }
}

fn same(a: Option<f64>, b: Option<f64>) -> bool {
    let (Some(a), Some(b)) = (a, b) else { return false };
    a == b || (a - b).abs() <= TOLERANCE * a.abs().max(b.abs())
}

/// With the keys of objects in order, so that a difference shows only what differs.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().map(|(name, value)| (name.clone(), sorted(value))).collect();
            fields.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(fields.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

fn difference(expected: &str, actual: &str) -> String {
    let diff = TextDiff::from_lines(expected, actual);
    diff.unified_diff().context_radius(3).header("expected", "actual").to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_expected_does_not_show_as_a_difference() {
        let actual = [json!({"id": "1", "data": {"b": 2, "a": 1.0}})];
        assert_eq!(outputs(&[json!({"data": {"a": 1}})], &actual, false), Ok(()));
        let text = outputs(&[json!({"data": {"a": 2}})], &actual, false).unwrap_err();
        let changed: Vec<_> = text.lines().skip(2).filter(|l| l.starts_with(['-', '+'])).collect();
        assert_eq!(changed, ["-      \"a\": 2,", "+      \"a\": 1.0,"]);
    }

    #[test]
    fn null_means_absent_and_the_number_of_events_counts() {
        let actual = [json!({"id": "1"})];
        assert_eq!(outputs(&[json!({"x": null})], &actual, false), Ok(()));
        assert!(outputs(&[json!({"id": null})], &actual, false).is_err());
        assert!(outputs(&[], &actual, false).is_err());
        assert!(outputs(&[json!({}), json!({})], &actual, false).is_err());
        assert!(outputs(&[json!({})], &actual, true).is_err());
    }
}
