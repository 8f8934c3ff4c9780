//! Which columns fit, and what stands in them.

use ratatui::text::{Line, Span};

use super::app::Sort;
use super::theme::{Theme, Tone};
use crate::plan::Role;
use crate::units;
use crate::view::{Figures, LoadView, StageView, View};

/// The narrowest that a name's column gets, and the widest.
const NAME_WIDTHS: (u16, u16) = (15, 40);
/// Where the mark of the limiting stage stands.
pub(super) const MARK_WIDTH: u16 = 1;
/// What a state's column grows by when there is room for words.
const WORDS_WIDTH: u16 = 6;
/// What a bar grows by at most.
const BAR_GROWTH: u16 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Component,
    Instances,
    In,
    Out,
    InWork,
    Log,
    Credit,
    Oldest,
    P50,
    P99,
    EndToEnd,
    State,
    Rejected,
}

/// From left to right.
const IN_PLACE: [Column; 13] = [
    Column::Component,
    Column::Instances,
    Column::In,
    Column::Out,
    Column::InWork,
    Column::Log,
    Column::Credit,
    Column::Oldest,
    Column::P50,
    Column::P99,
    Column::EndToEnd,
    Column::State,
    Column::Rejected,
];

/// Where it is narrow, those at the end go first.
const BY_IMPORTANCE: [Column; 13] = [
    Column::State,
    Column::In,
    Column::Log,
    Column::Out,
    Column::P99,
    Column::Credit,
    Column::Oldest,
    Column::Rejected,
    Column::P50,
    Column::Instances,
    Column::EndToEnd,
    Column::InWork,
    Column::Component,
];

/// What fits into a width.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    pub(super) name_width: u16,
    /// From left to right, with their widths.
    pub(super) columns: Vec<(Column, u16)>,
    has_words: bool,
}

impl Columns {
    pub(super) fn fitting(width: u16) -> Self {
        let mut left = width.saturating_sub(MARK_WIDTH + NAME_WIDTHS.0);
        let mut kept = Vec::new();
        for column in BY_IMPORTANCE {
            let Some(rest) = left.checked_sub(column.width() + 1) else { break };
            left = rest;
            kept.push(column);
        }
        let mut take = |most: u16| {
            let taken = most.min(left);
            left -= taken;
            taken
        };
        let has_words = kept.contains(&Column::State) && take(WORDS_WIDTH) == WORDS_WIDTH;
        let mut name_width = NAME_WIDTHS.0 + take(5);
        let bars = take(2 * BAR_GROWTH) / 2;
        name_width += take(NAME_WIDTHS.1 - name_width);
        let grown = |column: Column| {
            column.width()
                + match column {
                    Column::State if has_words => WORDS_WIDTH,
                    Column::Log | Column::Credit => bars,
                    Column::State
                    | Column::Component
                    | Column::Instances
                    | Column::In
                    | Column::Out
                    | Column::InWork
                    | Column::Oldest
                    | Column::P50
                    | Column::P99
                    | Column::EndToEnd
                    | Column::Rejected => 0,
                }
        };
        let columns = IN_PLACE.into_iter().filter(|column| kept.contains(column));
        Self { name_width, columns: columns.map(|column| (column, grown(column))).collect(), has_words }
    }
}

impl Column {
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Component => "KIND",
            Self::Instances => "INST",
            Self::In => "IN/s",
            Self::Out => "OUT/s",
            Self::InWork => "IN WORK",
            Self::Log => "LOG",
            Self::Credit => "CREDIT",
            Self::Oldest => "OLDEST",
            Self::P50 => "P50",
            Self::P99 => "P99",
            Self::EndToEnd => "E2E99",
            Self::State => "STATE",
            Self::Rejected => "REJECT",
        }
    }

    fn width(self) -> u16 {
        match self {
            Self::Component => 8,
            Self::Instances => 4,
            Self::InWork => 7,
            Self::Log | Self::Credit => 9,
            Self::In
            | Self::Out
            | Self::Oldest
            | Self::P50
            | Self::P99
            | Self::EndToEnd
            | Self::State
            | Self::Rejected => 6,
        }
    }

    pub(super) fn is_right(self) -> bool {
        !matches!(self, Self::Component | Self::Log | Self::Credit | Self::State)
    }

    pub(super) fn is_of(self, sort: Sort) -> bool {
        match sort {
            Sort::Pipeline => false,
            Sort::Rate => self == Self::In,
            Sort::Log => self == Self::Log,
            Sort::Oldest => self == Self::Oldest,
            Sort::Latency => self == Self::P99,
            Sort::Limit => self == Self::State,
            Sort::Rejected => self == Self::Rejected,
        }
    }
}

/// What is shown in the columns of one row.
pub(super) struct Told<'a> {
    pub(super) stage: &'a StageView,
    pub(super) figures: &'a Figures,
    /// Unused share of the credit that it gives to what it consumes.
    pub(super) credit: Option<f64>,
    /// How many instances; none: it is one.
    pub(super) instances: Option<usize>,
    pub(super) is_draining: bool,
}

impl Told<'_> {
    pub(super) fn cell(&self, column: Column, width: u16, columns: &Columns, theme: Theme) -> Line<'static> {
        let (figures, is_sink) = (self.figures, self.stage.role == Role::Sink);
        match column {
            Column::Component if self.instances.is_some() => self.stage.component.clone().into(),
            Column::Component => Line::default(),
            Column::Instances => self.instances.map_or(Line::default(), |count| count.to_string().into()),
            Column::In => units::count(figures.rates.events_in).into(),
            Column::Out if is_sink => units::count(figures.rates.accepted).into(),
            Column::Out => units::count(figures.rates.events_out).into(),
            Column::InWork => units::count(Some(figures.in_work as f64)).into(),
            Column::Log => {
                let fill = figures.fill();
                let tone = if fill.is_some_and(|fill| fill > 0.8) { Tone::Bad } else { Tone::Accent };
                measured(fill, width, theme, tone)
            }
            Column::Credit => {
                let tone = if self.credit.is_some_and(|credit| credit < 0.1) { Tone::Warn } else { Tone::Good };
                measured(self.credit, width, theme, tone)
            }
            Column::Oldest => units::duration(figures.oldest_ms.map(|ms| ms as f64)).into(),
            Column::P50 => units::latency(figures.settle.p50_ms).into(),
            Column::P99 => units::latency(figures.settle.p99_ms).into(),
            Column::EndToEnd if is_sink => units::latency(figures.end_to_end.p99_ms).into(),
            Column::EndToEnd => Line::default(),
            Column::State => self.state(columns.has_words, theme),
            Column::Rejected => {
                let rejected = figures.totals.all_rejected_here();
                let tone = if rejected > 0 { Tone::Warn } else { Tone::Quiet };
                Span::styled(units::count(Some(rejected as f64)), theme.style(tone)).into()
            }
        }
    }

    /// Where most of the time goes, by a letter or a word.
    fn state(&self, has_words: bool, theme: Theme) -> Line<'static> {
        let said = |text: String, tone| Span::styled(text, theme.style(tone)).into();
        if self.instances == Some(0) {
            return said("absent".into(), Tone::Bad);
        }
        if self.is_draining {
            return said("drains".into(), Tone::Warn);
        }
        let LoadView { blocked, limit, starved } = self.figures.load;
        let (word, share, tone) = if limit > 0.0 && limit >= blocked && limit >= starved {
            ("limit", limit, Tone::Bad)
        } else if blocked > 0.0 && blocked >= starved {
            ("blocked", blocked, Tone::Warn)
        } else if starved > 0.0 {
            ("starved", starved, Tone::Quiet)
        } else {
            return said("–".into(), Tone::Quiet);
        };
        let share = units::percent(share);
        said(if has_words { format!("{word:<7} {share:>4}") } else { format!("{} {share:>4}", letter(word)) }, tone)
    }
}

fn letter(word: &str) -> String {
    word.chars().take(1).flat_map(char::to_uppercase).collect()
}

/// A bar and its share in figures; nothing where nothing is known.
fn measured(share: Option<f64>, width: u16, theme: Theme, tone: Tone) -> Line<'static> {
    let Some(share) = share else { return Span::styled("–", theme.style(Tone::Quiet)).into() };
    let mut line = bar(share, width.saturating_sub(5), theme, tone);
    line.push_span(format!(" {:>4}", units::percent(share)));
    line
}

/// As `██████▌░░░`.
pub(super) fn bar(share: f64, width: u16, theme: Theme, tone: Tone) -> Line<'static> {
    let filled = (share.clamp(0.0, 1.0) * f64::from(width)).round();
    // Something is not nothing, and not quite all is not all.
    let filled = if share > 0.0 { filled.max(1.0) } else { filled };
    let filled = if share < 1.0 { filled.min(f64::from(width) - 1.0) } else { filled }.max(0.0) as usize;
    Line::from(vec![
        Span::styled("█".repeat(filled), theme.style(tone)),
        Span::styled("░".repeat(usize::from(width) - filled), theme.style(Tone::Quiet)),
    ])
}

/// Of the windows of the links on which a stage, or one instance of it, consumes: the share that is credit, unused.
pub(super) fn credit(view: &View, stage: &str, instance: Option<&str>) -> Option<f64> {
    let edges = view.subscriptions.iter().filter(|edge| edge.to == stage);
    let links = edges.flat_map(|edge| &edge.links).filter(|link| instance.is_none_or(|name| link.consumer == name));
    let (unused, window) = links.fold((0.0, 0.0), |(unused, window), link| {
        (unused + link.credit_unused.min(link.window_events) as f64, window + link.window_events as f64)
    });
    (window > 0.0).then(|| unused / window)
}
