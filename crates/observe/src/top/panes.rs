//! What stands below the stages, or over all: findings, rejections, help.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Widget};

use super::app::{App, Pane};
use super::rows::Row;
use super::theme::Tone;
use crate::units;
use crate::view::{RejectionView, Severity};

/// Lines of one rejected event.
const EVENT_LINES_MAX: usize = 3;

const HELP: [(&str, &str); 23] = [
    ("↑ ↓  j k", "choose a row; Home and End the first and the last"),
    ("Enter  → ←", "show a stage's instances and links, or hide them"),
    ("s", "sort by the next column"),
    ("/", "show only stages with this in their name, or an instance's"),
    ("p", "pause: what is shown stays until p is pressed again"),
    ("f", "findings: what is wrong, and what to do"),
    ("r", "last rejected events of the chosen stage"),
    ("PgUp PgDn", "scroll these"),
    ("q  Ctrl-C", "quit"),
    ("", ""),
    ("»", "this stage keeps the pipeline from being faster"),
    ("B  blocked", "share of time: it has events that nobody further on can take yet"),
    ("L  limit", "share of time: it has all the work that it can do"),
    ("S  starved", "share of time: it could do more than comes"),
    ("LOG", "how full its fullest log is; full: it takes nothing more in"),
    ("CREDIT", "share of its links' windows that it still allows to be sent"),
    ("OLDEST", "for how long the oldest event that is not settled has been here"),
    ("P50 P99", "half, and 99 of 100, events took no longer from taken to settled"),
    ("E2E99", "of a sink: 99 of 100 took no longer from the first stage on"),
    ("REJECT", "events that this stage rejected since it started"),
    ("none", "of a link: share of time in which it had no credit"),
    ("", ""),
    ("", "Any key closes this."),
];

/// The pane's lines, its title first; none where there is no pane.
pub(super) fn lines(app: &App, rows: &[Row<'_>], width: u16) -> Vec<Line<'static>> {
    match app.pane {
        Pane::None => Vec::new(),
        Pane::Findings if app.view.findings.is_empty() => Vec::new(),
        Pane::Findings => findings(app, width),
        Pane::Rejections => rejections(app, rows, width),
    }
}

/// Draws as many lines as there is room for: the title, and those from the offset on.
pub(super) fn draw(app: &App, lines: &[Line<'_>], area: Rect, buffer: &mut Buffer) {
    let Some((title, body)) = lines.split_first() else { return };
    let room = usize::from(area.height).saturating_sub(1);
    let above = app.pane_offset.min(body.len().saturating_sub(room));
    let below = body.len() - above - room.min(body.len() - above);
    let shown = std::iter::once(title).chain(&body[above..]);
    for (line, at) in shown.zip(area.rows()) {
        buffer.set_line(at.x, at.y, line, at.width);
    }
    if area.height > 0 && above + below > 0 {
        let text = format!(" {below} more lines: PgDn ");
        let width = u16::try_from(text.chars().count()).unwrap_or(u16::MAX);
        let x = area.right().saturating_sub(width);
        buffer.set_stringn(x, area.y, text, usize::from(area.width), app.theme.style(Tone::Quiet));
    }
}

fn findings(app: &App, width: u16) -> Vec<Line<'static>> {
    let mut lines = vec![title(app, "Findings".into(), width)];
    for finding in &app.view.findings {
        let (mark, tone) = match finding.severity {
            Severity::Problem => ("! ", Tone::Bad),
            Severity::Notice => ("· ", Tone::Warn),
        };
        let text = wrapped(&finding.text, width, 2);
        lines.extend(text.into_iter().enumerate().map(|(at, line)| {
            let mark = Span::styled(if at == 0 { mark } else { "  " }, app.theme.style(tone));
            Line::from(vec![mark, line.into()])
        }));
        let advice = wrapped(&finding.advice, width, 2).into_iter().filter(|line| !line.is_empty());
        lines.extend(advice.map(|line| Span::styled(format!("  {line}"), app.theme.style(Tone::Quiet)).into()));
    }
    lines
}

fn rejections(app: &App, rows: &[Row<'_>], width: u16) -> Vec<Line<'static>> {
    let Some(stage) = rows.get(app.chosen(rows)).map(Row::stage) else { return Vec::new() };
    let mut lines = vec![title(app, format!("Last rejections at {}", stage.name), width)];
    if stage.rejections.is_empty() {
        let most = app.view.stages.iter().find(|stage| !stage.rejections.is_empty());
        let hint = most.map_or(String::new(), |stage| format!(" {} has: choose it.", stage.name));
        lines.push(format!("This stage has rejected nothing.{hint}").into());
    }
    for rejection in &stage.rejections {
        lines.extend(rejected(app, rejection, width));
    }
    lines
}

fn rejected(app: &App, rejection: &RejectionView, width: u16) -> Vec<Line<'static>> {
    let theme = app.theme;
    let mut lines = vec![Line::from(vec![
        Span::styled(format!("{}  ", units::clock(rejection.unix_ms)), theme.style(Tone::Quiet)),
        Span::styled(format!("{}  ", rejection.reason), theme.style(Tone::Bad)),
        Span::styled(rejection.instance.clone(), theme.style(Tone::Quiet)),
    ])];
    lines.extend(wrapped(&rejection.text, width, 2).into_iter().map(|line| format!("  {line}").into()));
    let event = match &rejection.event {
        Some(event) => event.to_string(),
        None => "(the event is large, or can't be read)".into(),
    };
    // What is not shown need not be broken into lines.
    let most = EVENT_LINES_MAX * usize::from(width.saturating_sub(2)).max(1);
    let mut seen: String = event.chars().take(most).collect();
    if seen.len() < event.len() {
        seen.pop();
        seen.push('…');
    }
    let shown = wrapped(&seen, width, 2);
    lines.extend(shown.into_iter().map(|line| Span::styled(format!("  {line}"), theme.style(Tone::Quiet)).into()));
    lines
}

fn title(app: &App, text: String, width: u16) -> Line<'static> {
    let rest = usize::from(width).saturating_sub(text.chars().count() + 1);
    Line::from(vec![
        Span::styled(text, app.theme.style(Tone::Title)),
        Span::styled(format!(" {}", "─".repeat(rest)), app.theme.style(Tone::Quiet)),
    ])
}

/// Keys and words, over all.
pub(super) fn draw_help(app: &App, area: Rect, buffer: &mut Buffer) {
    let (wide, high) = (78.min(area.width), (HELP.len() as u16 + 2).min(area.height));
    let place =
        Rect { x: area.x + (area.width - wide) / 2, y: area.y + (area.height - high) / 2, width: wide, height: high };
    Clear.render(place, buffer);
    let block = Block::bordered().title(" Keys and words ");
    let inner = block.inner(place);
    block.render(place, buffer);
    for ((key, does), at) in HELP.iter().zip(inner.rows()) {
        let line = Line::from(vec![
            Span::styled(format!(" {key:<11}"), app.theme.style(Tone::Title)),
            Span::styled(*does, Style::new().remove_modifier(Modifier::all())),
        ]);
        buffer.set_line(at.x, at.y, &line, at.width);
    }
}

/// Lines of at most `width` characters less `indent`, broken between words where that is possible.
pub(super) fn wrapped(text: &str, width: u16, indent: u16) -> Vec<String> {
    let most = usize::from(width.saturating_sub(indent)).max(1);
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        if used > 0 && used + 1 + word.len() > most {
            lines.push(String::new());
            used = 0;
        }
        while !word.is_empty() {
            let space = usize::from(used > 0);
            let taken: String = word.drain(..word.len().min(most - used - space)).collect();
            used += space + taken.chars().count();
            if let Some(line) = lines.last_mut() {
                line.push_str(&" ".repeat(space));
                line.push_str(&taken);
            }
            if !word.is_empty() {
                lines.push(String::new());
                used = 0;
            }
        }
    }
    lines
}
