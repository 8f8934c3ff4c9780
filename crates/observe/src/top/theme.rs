//! How things look: in the terminal's own colours, or in none. Nothing is told by colour alone.

use ratatui::style::{Color, Modifier, Style};

/// Colours or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Theme {
    has_colour: bool,
}

/// What something means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Quiet,
    Title,
    Accent,
    Good,
    Warn,
    Bad,
}

impl Theme {
    /// As the environment's `NO_COLOR` wants it: `no_color` is its value.
    pub fn new(no_color: Option<&str>) -> Self {
        Self { has_colour: no_color.is_none_or(str::is_empty) }
    }

    pub(super) fn style(self, tone: Tone) -> Style {
        let (colour, modifier) = match tone {
            Tone::Quiet => (None, Modifier::DIM),
            Tone::Title => (None, Modifier::BOLD),
            Tone::Accent => (Some(Color::Cyan), Modifier::empty()),
            Tone::Good => (Some(Color::Green), Modifier::empty()),
            Tone::Warn => (Some(Color::Yellow), Modifier::empty()),
            Tone::Bad => (Some(Color::Red), Modifier::BOLD),
        };
        let style = Style::new().add_modifier(modifier);
        match colour.filter(|_| self.has_colour) {
            Some(colour) => style.fg(colour),
            None => style,
        }
    }
}
