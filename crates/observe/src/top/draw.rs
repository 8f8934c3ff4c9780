//! A frame: the pipeline, its limit, the stages, a pane, the keys.

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

use super::app::App;
use super::columns::{self, Columns, MARK_WIDTH, Told};
use super::panes;
use super::rows::Row;
use super::theme::Tone;
use crate::text::counted;
use crate::units;
use crate::view::{LimitKind, LinkView, Severity, StageView, SubscriptionView};

/// In less than this many columns and rows nothing can be told.
const AREA_MIN: (u16, u16) = (24, 6);
/// Lines that the limit's reason may take.
const LIMIT_LINES_MAX: usize = 2;
/// The fewest rows of stages that a pane leaves, where there are so many.
const ROWS_MIN: u16 = 6;

impl App {
    /// Draws all of it.
    pub fn draw(&self, frame: &mut Frame<'_>) {
        let area = frame.area();
        let buffer = frame.buffer_mut();
        if area.width < AREA_MIN.0 || area.height < AREA_MIN.1 {
            for (word, at) in ["the", "terminal", "is", "too", "small"].iter().zip(area.rows()) {
                buffer.set_stringn(at.x, at.y, word, usize::from(at.width), Style::new());
            }
            return;
        }
        let limit = self.limit(area.width);
        let rows = self.rows();
        let pane = panes::lines(self, &rows, area.width);
        let above = 2 + u16::try_from(limit.len()).unwrap_or_default();
        let pane_height = self.pane_height(area, above + 1, rows.len(), pane.len());
        let [header, limits, table, below, footer] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(above - 2),
            Constraint::Min(1),
            Constraint::Length(pane_height),
            Constraint::Length(1),
        ])
        .areas(area);
        self.draw_header(header, buffer);
        for (line, at) in limit.iter().zip(limits.rows()) {
            buffer.set_line(at.x, at.y, line, at.width);
        }
        self.draw_table(&rows, table, buffer);
        panes::draw(self, &pane, below, buffer);
        self.draw_keys(footer, buffer);
        if self.has_help {
            panes::draw_help(self, area, buffer);
        }
    }

    /// What the table does not need, or a third.
    fn pane_height(&self, area: Rect, others: u16, rows: usize, lines: usize) -> u16 {
        let left = area.height.saturating_sub(others);
        let rows = u16::try_from(rows).unwrap_or(u16::MAX);
        let most = left.saturating_sub(rows).max(area.height / 3).min(left.saturating_sub(rows.min(ROWS_MIN)));
        u16::try_from(lines).unwrap_or(u16::MAX).min(most)
    }

    fn draw_header(&self, area: Rect, buffer: &mut Buffer) {
        let (view, theme) = (&self.view, self.theme);
        let mut right = Line::default();
        if self.is_paused {
            right.push_span(Span::styled(" PAUSED ", Style::new().add_modifier(Modifier::REVERSED | Modifier::BOLD)));
            right.push_span("  ");
        }
        let problems = view.findings.iter().filter(|finding| finding.severity == Severity::Problem).count();
        let notices = view.findings.len() - problems;
        for (count, noun, tone) in [(problems, "problem", Tone::Bad), (notices, "notice", Tone::Warn)] {
            if count > 0 {
                let text = format!("{}  ", counted(count as u64, noun));
                right.push_span(Span::styled(text, theme.style(tone)));
            }
        }
        if view.unix_ms > 0 {
            right.push_span(Span::styled(format!("{} UTC", units::clock(view.unix_ms)), theme.style(Tone::Quiet)));
        }
        let instances: usize = view.stages.iter().map(|stage| stage.instances.len()).sum();
        let name = if view.pipeline.is_empty() { "jaiminho" } else { &view.pipeline };
        let mut left = Line::from(Span::styled(name.to_owned(), theme.style(Tone::Title)));
        if !view.stages.is_empty() {
            let text =
                format!("  {}, {}", counted(view.stages.len() as u64, "stage"), counted(instances as u64, "instance"));
            left.push_span(Span::styled(text, theme.style(Tone::Quiet)));
        }
        let right_width = u16::try_from(right.width()).unwrap_or(u16::MAX).min(area.width);
        buffer.set_line(area.x, area.y, &left, area.width.saturating_sub(right_width + 1));
        buffer.set_line(area.right() - right_width, area.y, &right, right_width);
    }

    /// Which stage keeps it from being faster, and why.
    fn limit(&self, width: u16) -> Vec<Line<'static>> {
        let (text, tone) = match &self.view.limit {
            Some(limit) if limit.text.contains(&limit.stage) => (limit.text.clone(), limit.kind),
            Some(limit) => (format!("{}: {}", limit.stage, limit.text), limit.kind),
            None if self.view.stages.is_empty() => return vec!["Waiting for the first look …".into()],
            None => return vec!["Nothing limits it that can be seen.".into()],
        };
        let tone = match tone {
            LimitKind::Source => Tone::Title,
            LimitKind::Busy | LimitKind::NoInstance => Tone::Bad,
        };
        let lines = panes::wrapped(&text, width, 0);
        lines.into_iter().take(LIMIT_LINES_MAX).map(|line| Span::styled(line, self.theme.style(tone)).into()).collect()
    }

    fn draw_table(&self, rows: &[Row<'_>], area: Rect, buffer: &mut Buffer) {
        let columns = Columns::fitting(area.width);
        let [heading, body] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
        let bold = self.theme.style(Tone::Title);
        buffer.set_string(heading.x + MARK_WIDTH, heading.y, "STAGE", bold);
        let mut x = heading.x + MARK_WIDTH + columns.name_width;
        for (column, width) in &columns.columns {
            let style = if column.is_of(self.sort) { bold.add_modifier(Modifier::REVERSED) } else { bold };
            put(buffer, (x + 1, heading.y), *width, column.is_right(), &Span::styled(column.title(), style).into());
            x += width + 1;
        }
        buffer.set_style(heading, Style::new().add_modifier(Modifier::UNDERLINED));
        let chosen = self.chosen(rows);
        let seen = usize::from(body.height);
        let above = chosen.saturating_sub(seen / 2).min(rows.len().saturating_sub(seen));
        for ((at, row), place) in rows.iter().enumerate().skip(above).zip(body.rows()) {
            self.draw_row(row, &columns, place, buffer);
            if at == chosen {
                buffer.set_style(place, Style::new().add_modifier(Modifier::REVERSED));
            }
        }
        if rows.is_empty() && !self.view.stages.is_empty() && body.height > 0 {
            let text = format!("No stage and no instance has `{}` in its name; Esc shows all.", self.filter);
            buffer.set_stringn(body.x + MARK_WIDTH, body.y, text, usize::from(body.width), Style::new());
        }
    }

    fn draw_row(&self, row: &Row<'_>, columns: &Columns, area: Rect, buffer: &mut Buffer) {
        let view = &self.view;
        match row {
            Row::Stage { stage, is_open } => {
                let is_limit = view.limit.as_ref().is_some_and(|limit| limit.stage == stage.name);
                let style = self.theme.style(if is_limit { Tone::Bad } else { Tone::Title });
                let mark = if is_limit { "»" } else { " " };
                let fold = if *is_open { "▾" } else { "▸" };
                let name = Line::from(vec![
                    Span::styled(format!("{mark}{fold} "), style),
                    Span::styled(stage.name.clone(), style),
                ]);
                let told = Told {
                    stage,
                    figures: &stage.figures,
                    credit: columns::credit(view, &stage.name, None),
                    instances: Some(stage.instances.len()),
                    is_draining: stage.instances.iter().any(|instance| instance.is_draining),
                };
                self.draw_cells(&name, &told, columns, area, buffer);
            }
            Row::Instance(stage, instance) => {
                let mut name = Line::from(format!("     {}", instance.name));
                let address = Span::styled(format!("  {}", instance.address), self.theme.style(Tone::Quiet));
                let fits = name.width() + address.width() <= usize::from(MARK_WIDTH + columns.name_width);
                if fits && instance.address != instance.name {
                    name.push_span(address);
                }
                let told = Told {
                    stage,
                    figures: &instance.figures,
                    credit: columns::credit(view, &stage.name, Some(&instance.name)),
                    instances: None,
                    is_draining: instance.is_draining,
                };
                self.draw_cells(&name, &told, columns, area, buffer);
            }
            Row::Silent(_, address) => {
                let problem = address.problem.as_deref().unwrap_or_default();
                let text = format!("     {}: {problem}", address.address);
                buffer.set_stringn(area.x, area.y, text, usize::from(area.width), self.theme.style(Tone::Bad));
            }
            Row::Link(stage, edge, link) => self.draw_link(stage, edge, link, area, buffer),
            Row::Unlinked(_, edge) => {
                let waiting = units::count(Some(edge.waiting as f64));
                let text = format!("     ← {}: {} is not connected; {waiting} wait", edge.output, edge.to);
                buffer.set_stringn(area.x, area.y, text, usize::from(area.width), self.theme.style(Tone::Warn));
            }
        }
    }

    fn draw_cells(&self, name: &Line<'_>, told: &Told<'_>, columns: &Columns, area: Rect, buffer: &mut Buffer) {
        put(buffer, (area.x, area.y), MARK_WIDTH + columns.name_width, false, name);
        let mut x = area.x + MARK_WIDTH + columns.name_width;
        for (column, width) in &columns.columns {
            let cell = told.cell(*column, *width, columns, self.theme);
            put(buffer, (x + 1, area.y), *width, column.is_right(), &cell);
            x += width + 1;
        }
    }

    /// From whom to whom, how fast, how much of its window is credit, and how often it had none.
    fn draw_link(&self, stage: &StageView, edge: &SubscriptionView, link: &LinkView, area: Rect, buffer: &mut Buffer) {
        let theme = self.theme;
        let mut text = format!("     {} → {}", link.producer, link.consumer);
        if let Some((_, output)) = edge.output.split_once('.') {
            text.push_str(&format!(" ({output})"));
        }
        if edge.to != stage.name {
            text.push_str(&format!(" ({})", edge.to));
        }
        if link.is_cancelled {
            text.push_str(" leaves");
        }
        let share = link.credit_unused as f64 / link.window_events.max(1) as f64;
        let none = link.no_credit.unwrap_or_default();
        let unused = units::count(Some(link.credit_unused as f64));
        let window = units::count(Some(link.window_events as f64));
        let tone = if none > 0.5 { Tone::Bad } else { Tone::Quiet };
        let mut right = Line::from(format!("{:>6}/s  ", units::count(link.events)));
        right.extend(columns::bar(share, 8, theme, Tone::Good));
        right.push_span(format!(" {:<12}", format!("{unused}/{window}")));
        right.push_span(Span::styled(format!("none {:>4}", units::percent(none)), theme.style(tone)));
        if area.width >= 100 {
            right.push_span(format!("  {:>6} unsettled", units::count(Some(link.unsettled as f64))));
        }
        let width = u16::try_from(right.width()).unwrap_or(u16::MAX).min(area.width);
        put(buffer, (area.x, area.y), area.width.saturating_sub(width + 1), false, &text.into());
        buffer.set_line(area.right() - width, area.y, &right, width);
    }

    fn draw_keys(&self, area: Rect, buffer: &mut Buffer) {
        let line = if self.is_typing {
            let mut line = Line::from(format!("filter by name: {}▏", self.filter));
            line.push_span(Span::styled("  Enter keeps it, Esc shows all", self.theme.style(Tone::Quiet)));
            line
        } else {
            let sort = format!("sort: {}", self.sort.name());
            let filter = if self.filter.is_empty() { "filter".to_owned() } else { format!("filter: {}", self.filter) };
            let keys = [
                ("q", "quit"),
                ("?", "help"),
                ("s", &sort),
                ("/", &filter),
                ("p", if self.is_paused { "go on" } else { "pause" }),
                ("f", "findings"),
                ("r", "rejections"),
                ("Enter", "open"),
                ("↑↓", "choose"),
            ];
            let mut line = Line::default();
            for (key, does) in keys {
                let does = format!(" {does}  ");
                if line.width() + key.chars().count() + does.chars().count() > usize::from(area.width) + 2 {
                    break;
                }
                line.push_span(Span::styled(key, self.theme.style(Tone::Title)));
                line.push_span(Span::styled(does, self.theme.style(Tone::Quiet)));
            }
            line
        };
        buffer.set_line(area.x, area.y, &line, area.width);
    }
}

/// Writes a cell, cut where it does not fit: an ellipsis says so.
fn put(buffer: &mut Buffer, (x, y): (u16, u16), width: u16, is_right: bool, line: &Line<'_>) {
    let used = u16::try_from(line.width()).unwrap_or(u16::MAX);
    let indent = if is_right { width.saturating_sub(used) } else { 0 };
    buffer.set_line(x + indent, y, line, width);
    if used > width && width > 0 {
        buffer[(x + width - 1, y)].set_symbol("…");
    }
}
