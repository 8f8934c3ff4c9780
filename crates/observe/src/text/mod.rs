//! A [`View`](crate::View) as text: what `top --once`, `topology` and `doctor` print.

mod doctor;
mod graph;
mod table;
mod top;

pub use doctor::doctor;
pub use graph::{dot, mermaid, topology};
pub use table::table;
pub use top::once;

use crate::{
    plan::{Kind, Role},
    units::percent,
    view::LoadView,
};

/// What others wrote may not steer the terminal.
pub fn printable(text: &str) -> String {
    text.chars().map(|next| if steers(next) { '\u{fffd}' } else { next }).collect()
}

/// JSON that says the same, and does not steer the terminal either: what would is escaped. Lines stay lines.
pub fn printable_json(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for next in json.chars() {
        // Outside of strings JSON has no such characters but line feeds, and within strings no line feeds.
        if steers(next) && next != '\n' {
            text.push_str(&format!("\\u{:04x}", u32::from(next)));
        } else {
            text.push(next);
        }
    }
    text
}

/// Control characters, C1 among them, and those that turn the direction of writing.
fn steers(next: char) -> bool {
    next.is_control()
        || matches!(next, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `1 event`, `2 events`.
pub fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// `1,234,567`
pub fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// What a stage is busy with most, and for which share of the time.
pub fn load(load: &LoadView) -> String {
    let LoadView { blocked, limit, starved } = load;
    let states = [(blocked, "blocked"), (limit, "at limit"), (starved, "starved")];
    match states.into_iter().max_by(|(one, _), (other, _)| one.total_cmp(other)) {
        Some((share, name)) if *share > 0.0 => format!("{name} {}", percent(*share)),
        Some(_) | None => "–".into(),
    }
}

/// As the pipeline file has it.
pub fn role(role: Role) -> &'static str {
    match role {
        Role::Source => "source",
        Role::Transform => "transform",
        Role::Sink => "sink",
    }
}

/// As the pipeline file has it.
pub fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Required => "required",
        Kind::Attached => "attached",
        Kind::Tap => "tap",
    }
}

#[cfg(test)]
mod tests {
    use jaiminho_runtime::Trouble;

    use super::*;
    use crate::{
        made::{inspection, link, output},
        make::tests::view_of,
        view::AddressView,
    };

    #[test]
    fn what_others_wrote_does_not_steer_the_terminal() {
        assert_eq!((thousands(1_234_567), thousands(12)), ("1,234,567".into(), "12".into()));
        assert_eq!(printable("a\u{1b}[31mb\u{9b}2J\u{202e}c"), "a\u{fffd}[31mb\u{fffd}2J\u{fffd}c");
    }

    #[test]
    fn json_that_does_not_steer_the_terminal_says_the_same() {
        let value = serde_json::json!({ "id": "a\u{1b}b\u{7f}\u{9b}2J\u{2066}\u{202e}é\n" });
        for json in [value.to_string(), format!("{value:#}")] {
            let text = printable_json(&json);
            assert!(!text.chars().any(|next| steers(next) && next != '\n'), "{text:?}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
            assert_eq!(text.lines().count(), json.lines().count());
        }
    }

    #[test]
    fn names_that_an_instance_makes_up_reach_no_terminal_raw() {
        let name = "x\u{9b}2J\u{202e}\u{1b}[31m";
        let mut now = inspection("convert", name);
        now.outputs = vec![output(&format!("convert.{name}"), name, vec![link(1, name)])];
        now.trouble = Some(Trouble { text: name.into(), since_unix_ms: 1 });
        let mut view = view_of(vec![now]);
        let address = AddressView { address: name.into(), is_there: false, problem: Some(name.into()) };
        view.stages[1].addresses.push(address);
        for text in [once(&view), topology(&view), mermaid(&view), dot(&view), doctor(&view)] {
            assert!(text.contains("[31m"), "{text}");
            assert!(!text.chars().any(|next| steers(next) && next != '\n'), "{text:?}");
        }
    }
}
