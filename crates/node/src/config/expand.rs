//! `${VAR}` and `${VAR:-default}` inside scalars. `$$` is `$`; any other `$` stays as written, so that
//! `$ConnectionString` does.

use super::problem::Problem;
use super::tree::{Node, Value};

/// Longest scalar after expansion, in bytes.
const EXPANDED_BYTES_MAX: usize = 64 * 1024;

/// Expands every scalar of `node`. `lookup` gives a variable's value.
pub(crate) fn expand(node: &mut Node, lookup: &dyn Fn(&str) -> Option<String>, problems: &mut Vec<Problem>) {
    match &mut node.value {
        Value::Text { text, expanded } if text.contains('$') => match expand_text(text, lookup) {
            Ok((new, any)) => {
                *text = new;
                *expanded = any;
            }
            Err(what) => problems.push(Problem::error(node.place.clone(), what)),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text { .. } => {}
        Value::List(items) => items.iter_mut().for_each(|item| expand(item, lookup, problems)),
        Value::Map(entries) => entries.iter_mut().for_each(|entry| expand(&mut entry.node, lookup, problems)),
    }
}

/// A text of the command line with this process's variables in it.
pub(crate) fn with_environment(text: &str) -> Result<String, String> {
    expand_text(text, &|name| std::env::var(name).ok()).map(|(text, _)| text)
}

/// The text, and whether a variable stood in it.
fn expand_text(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<(String, bool), String> {
    let mut out = String::with_capacity(text.len());
    let mut any = false;
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some(tail) = after.strip_prefix('{') {
            let (inside, tail) = tail.split_once('}').ok_or("`${` without its `}`; write `$$` for a plain `$`")?;
            out.push_str(&variable(inside, lookup)?);
            any = true;
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
        if out.len() > EXPANDED_BYTES_MAX {
            return Err(format!("longer than {EXPANDED_BYTES_MAX} bytes once its variables are expanded"));
        }
    }
    out.push_str(rest);
    Ok((out, any))
}

fn variable(inside: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let mut characters = name.chars();
    let head = characters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_');
    if !head || !characters.all(|next| next.is_ascii_alphanumeric() || next == '_') {
        return Err(format!(
            "`${{{inside}}}` names no environment variable (letters, digits and `_`); write `$$` for a plain `$`"
        ));
    }
    // As in a shell, `:-` also replaces an empty value.
    match (lookup(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => {
            Err(format!("environment variable {name} is not set; `${{{name}:-default}}` gives it a default"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("kafka".into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn variables_defaults_and_dollars_expand() {
        for (text, expected) in [
            ("${HOST}:9092", "kafka:9092"),
            ("${NONE:-embedded}", "embedded"),
            ("${EMPTY:-x}${EMPTY}", "x"),
            ("$ConnectionString", "$ConnectionString"),
            ("$${HOST} costs 5$", "${HOST} costs 5$"),
            ("${NONE:-}", ""),
            ("{{data.x}} $", "{{data.x}} $"),
        ] {
            assert_eq!(expand_text(text, &env).unwrap().0, expected, "{text}");
        }
    }

    #[test]
    fn an_unset_variable_and_a_broken_reference_say_what_is_wrong() {
        assert!(expand_text("${NONE}", &env).unwrap_err().contains("NONE is not set"));
        assert!(expand_text("a${HOST", &env).unwrap_err().contains("without its `}`"));
        assert!(expand_text("${a b}", &env).unwrap_err().contains("names no environment variable"));
    }
}
