//! The list of metrics for people: `docs/metrics.md`.

use std::fmt::Write as _;

use crate::names;

/// All metrics as a table in Markdown.
pub fn table() -> String {
    let mut text = String::from("| metric | type | unit | labels | meaning |\n|---|---|---|---|---|\n");
    for metric in names::all() {
        let labels = metric.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        let (name, kind, unit) = (metric.name, metric.kind.name(), metric.unit.name());
        let help = metric.meaning().replace('|', "\\|");
        // Writing to a string can't fail.
        let _row = writeln!(text, "| `{name}` | {kind} | {unit} | {labels} | {help} |");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::path::Path;

    use super::*;
    use crate::metric::{Kind, Unit};

    #[test]
    fn the_documented_table_is_that_of_the_program() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
        let text = std::fs::read_to_string(&path).unwrap();
        let (before, rest) = text.split_once("| metric | ").unwrap();
        let (_, after) = rest.split_once("\n\n").unwrap();
        let right = format!("{before}{}\n{after}", table());
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, &right).unwrap();
        } else {
            assert!(
                text == right,
                "docs/metrics.md is stale: UPDATE_DOCS=1 cargo test -p jaiminho-telemetry documented_table"
            );
        }
    }

    #[test]
    fn names_say_what_a_metric_is() {
        let mut seen = HashSet::new();
        for metric in names::all() {
            let (name, unit) = (metric.name, metric.unit);
            assert!(seen.insert(name) && name.starts_with("jaiminho_"), "{name}");
            assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
            let stem = name.trim_end_matches("_total");
            assert_eq!(stem.ends_with("_seconds"), unit == Unit::Seconds, "{name}");
            assert_eq!(stem.ends_with("_bytes"), unit == Unit::Bytes, "{name}");
            assert_eq!(stem.ends_with("_ratio"), unit == Unit::Ratio, "{name}");
            assert!(metric.meaning().ends_with(['.', '…']), "{name}");
        }
    }
}
