//! What `top` knows, and what keys do to it.

use std::collections::BTreeSet;
use std::sync::Arc;

use crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::rows::{self, Row};
use super::theme::Theme;
use crate::view::View;

/// Characters of a filter.
const FILTER_MAX: usize = 64;
/// Rows that Page Up and Page Down move by.
const PAGE_ROWS: usize = 10;

/// The state of `top`: keys and looks go in, a frame comes out.
#[derive(Clone, Debug)]
pub struct App {
    /// What is drawn.
    pub(super) view: Arc<View>,
    /// The newest one, where it is not drawn because of a pause.
    newest: Option<Arc<View>>,
    pub(super) theme: Theme,
    pub(super) sort: Sort,
    pub(super) filter: String,
    /// Keys go into the filter.
    pub(super) is_typing: bool,
    pub(super) is_paused: bool,
    pub(super) pane: Pane,
    pub(super) has_help: bool,
    /// Lines of the pane that are above what is seen of it.
    pub(super) pane_offset: usize,
    /// Stages whose instances and links are shown.
    pub(super) open: BTreeSet<String>,
    /// The chosen row, by its key, and where it was last.
    chosen: (String, usize),
    is_over: bool,
}

/// What is below the stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pane {
    Findings,
    Rejections,
    None,
}

/// What stages are ordered by; the greatest comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Pipeline,
    Rate,
    Log,
    Oldest,
    Latency,
    Limit,
    Rejected,
}

impl Sort {
    pub(super) const ALL: [Self; 7] =
        [Self::Pipeline, Self::Rate, Self::Log, Self::Oldest, Self::Latency, Self::Limit, Self::Rejected];

    fn next(self) -> Self {
        let place = Self::ALL.iter().position(|sort| *sort == self).unwrap_or_default();
        Self::ALL[(place + 1) % Self::ALL.len()]
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pipeline => "pipeline",
            Self::Rate => "events in",
            Self::Log => "log",
            Self::Oldest => "oldest",
            Self::Latency => "p99",
            Self::Limit => "time at its limit",
            Self::Rejected => "rejected",
        }
    }
}

impl App {
    /// Before the first look.
    pub fn new(theme: Theme) -> Self {
        Self {
            view: Arc::default(),
            newest: None,
            theme,
            sort: Sort::Pipeline,
            filter: String::new(),
            is_typing: false,
            is_paused: false,
            pane: Pane::Findings,
            has_help: false,
            pane_offset: 0,
            open: BTreeSet::new(),
            chosen: (String::new(), 0),
            is_over: false,
        }
    }

    /// A new look at the pipeline.
    pub fn handle_view(&mut self, view: Arc<View>) {
        if self.is_paused {
            self.newest = Some(view);
        } else {
            self.view = view;
        }
    }

    /// What the terminal tells: keys; that its size has changed is seen when it is drawn.
    pub fn handle_event(&mut self, event: &Event) {
        let Event::Key(key) = event else { return };
        if key.kind == KeyEventKind::Release {
            return;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            self.is_over |= matches!(key.code, KeyCode::Char('c' | 'd'));
        } else if self.is_typing {
            self.type_filter(key.code);
        } else if self.has_help {
            self.has_help = false;
        } else {
            self.act(*key);
        }
    }

    /// Ends it.
    pub fn end(&mut self) {
        self.is_over = true;
    }

    /// It is to be left.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    pub(super) fn rows(&self) -> Vec<Row<'_>> {
        rows::rows(&self.view, self.sort, &self.filter, &self.open)
    }

    /// Which of these rows is chosen: the same one as before, else what is in its place.
    pub(super) fn chosen(&self, rows: &[Row<'_>]) -> usize {
        let same = rows.iter().position(|row| row.key() == self.chosen.0);
        same.unwrap_or_else(|| self.chosen.1.min(rows.len().saturating_sub(1)))
    }

    fn type_filter(&mut self, key: KeyCode) {
        // Other keys have no meaning here.
        if let KeyCode::Char(next) = key {
            if self.filter.chars().count() < FILTER_MAX {
                self.filter.push(next);
            }
        } else if key == KeyCode::Backspace {
            self.filter.pop();
        } else if key == KeyCode::Enter {
            self.is_typing = false;
        } else if key == KeyCode::Esc {
            self.is_typing = false;
            self.filter.clear();
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "keys are the terminal's; most mean nothing here")]
    fn act(&mut self, key: KeyEvent) {
        match key.code {
            KeyCode::Down | KeyCode::Char('j') => self.choose(|at, _| at + 1),
            KeyCode::Up | KeyCode::Char('k') => self.choose(|at, _| at.saturating_sub(1)),
            KeyCode::Home | KeyCode::Char('g') => self.choose(|_, _| 0),
            KeyCode::End | KeyCode::Char('G') => self.choose(|_, last| last),
            KeyCode::Enter | KeyCode::Char(' ') => self.unfold(None),
            KeyCode::Right | KeyCode::Char('l') => self.unfold(Some(true)),
            KeyCode::Left | KeyCode::Char('h') => self.unfold(Some(false)),
            KeyCode::PageDown => self.pane_offset = self.pane_offset.saturating_add(PAGE_ROWS),
            KeyCode::PageUp => self.pane_offset = self.pane_offset.saturating_sub(PAGE_ROWS),
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('/') => self.is_typing = true,
            KeyCode::Char('p') => self.pause(),
            KeyCode::Char('f') => self.show(Pane::Findings),
            KeyCode::Char('r') => self.show(Pane::Rejections),
            KeyCode::Char('?') => self.has_help = true,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('q') => self.end(),
            _ => {}
        }
    }

    fn choose(&mut self, to: impl Fn(usize, usize) -> usize) {
        let rows = self.rows();
        let last = rows.len().saturating_sub(1);
        let place = to(self.chosen(&rows), last).min(last);
        let key = rows.get(place).map(Row::key).unwrap_or_default();
        self.chosen = (key, place);
        self.pane_offset = 0;
    }

    /// Shows what the chosen row's stage consists of, or no more; none: the other way round.
    fn unfold(&mut self, open: Option<bool>) {
        let rows = self.rows();
        let Some(row) = rows.get(self.chosen(&rows)) else { return };
        let name = row.stage().name.clone();
        // The row may be one that goes: its stage stays chosen.
        let place = rows.iter().position(|row| row.key() == name).unwrap_or_default();
        let open = open.unwrap_or(!self.open.contains(&name));
        if open {
            self.open.insert(name);
        } else {
            self.open.remove(&name);
            self.chosen = (name, place);
        }
    }

    fn pause(&mut self) {
        self.is_paused = !self.is_paused;
        if let Some(newest) = self.newest.take() {
            self.view = newest;
        }
    }

    fn show(&mut self, pane: Pane) {
        self.pane = if self.pane == pane { Pane::None } else { pane };
        self.pane_offset = 0;
    }
}
