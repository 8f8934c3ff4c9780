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
    text.chars().map(|next| if next.is_control() { '\u{fffd}' } else { next }).collect()
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
    use super::*;

    #[test]
    fn what_others_wrote_does_not_steer_the_terminal() {
        assert_eq!((thousands(1_234_567), thousands(12)), ("1,234,567".into(), "12".into()));
        assert_eq!(printable("a\u{1b}[31mb"), "a\u{fffd}[31mb");
    }
}
