//! Keys and looks in, frames out.

use std::sync::Arc;

use crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::style::Color;

use super::{App, Theme};
use crate::fixture;
use crate::view::View;

fn app() -> App {
    let mut app = App::new(Theme::new(None));
    app.handle_view(Arc::new(fixture::view(0)));
    app
}

fn press(app: &mut App, keys: &str) {
    for key in keys.chars() {
        let code = match key {
            '\n' => KeyCode::Enter,
            '\u{1b}' => KeyCode::Esc,
            '\u{8}' => KeyCode::Backspace,
            '▽' => KeyCode::PageDown,
            other => KeyCode::Char(other),
        };
        app.handle_event(&Event::Key(KeyEvent::new(code, KeyModifiers::NONE)));
    }
}

fn drawn(app: &App, width: u16, height: u16) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| app.draw(frame)).unwrap();
    terminal.backend().buffer().clone()
}

fn lines(app: &App, width: u16, height: u16) -> Vec<String> {
    let buffer = drawn(app, width, height);
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..height).map(line).collect()
}

fn text(app: &App, width: u16, height: u16) -> String {
    lines(app, width, height).join("\n")
}

/// Names of the stages, from top to bottom.
fn stages(app: &App) -> Vec<String> {
    let named = |line: String| Some(line.split_once(['▸', '▾'])?.1.split_whitespace().next()?.to_owned());
    lines(app, 80, 40).into_iter().filter_map(named).collect()
}

#[test]
fn a_small_terminal_shows_the_limit_all_stages_and_what_is_wrong() {
    insta::assert_snapshot!(text(&app(), 80, 24));
}

#[test]
fn a_large_one_has_all_columns_and_instances_and_links_of_an_open_stage() {
    let mut app = app();
    press(&mut app, "j\nG\n");
    insta::assert_snapshot!(text(&app, 140, 40));
}

#[test]
fn rejections_of_the_chosen_stage_have_reason_and_event() {
    let mut app = app();
    press(&mut app, "r");
    assert!(text(&app, 80, 30).contains("This stage has rejected nothing. convert has: choose it."));
    press(&mut app, "j");
    insta::assert_snapshot!(text(&app, 80, 30));
}

#[test]
fn help_says_what_keys_and_words_mean() {
    let mut app = app();
    press(&mut app, "?");
    insta::assert_snapshot!(text(&app, 80, 27));
    press(&mut app, "q");
    assert!(!app.is_over() && !text(&app, 80, 27).contains("Keys and words"), "any key closes it, and does no more");
}

#[test]
fn a_narrow_terminal_loses_columns_from_the_least_important_on() {
    let heading = |width| lines(&app(), width, 24).into_iter().find(|line| line.contains("STAGE")).unwrap();
    let titles = |width| heading(width).split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>().join(" ");
    assert_eq!(titles(80), "IN/s OUT/s LOG CREDIT OLDEST P99 STATE REJECT");
    assert_eq!(titles(60), "IN/s OUT/s LOG P99 STATE");
    assert_eq!(titles(40), "IN/s LOG STATE");
    assert_eq!(titles(24), "STATE");
}

#[test]
fn no_size_and_no_key_is_too_much() {
    for width in [0, 1, 7, 20, 39, 80, 99, 100, 140, 300] {
        for height in [0, 1, 2, 5, 11, 24, 90] {
            let mut app = app();
            for key in "jjj\nkk\nGrf▽?xr▽s/con\np\u{1b}sssssssghl".chars() {
                press(&mut app, &key.to_string());
                drawn(&app, width, height);
            }
            let mut empty = App::new(Theme::new(None));
            press(&mut empty, "j\nr");
            drawn(&empty, width, height);
        }
    }
}

#[test]
fn without_colour_nothing_is_lost() {
    let mut plain = App::new(Theme::new(Some("1")));
    plain.handle_view(Arc::new(fixture::view(0)));
    press(&mut plain, "j\n");
    let buffer = drawn(&plain, 140, 40);
    let has_colour =
        |buffer: &Buffer| buffer.content().iter().any(|cell| (cell.fg, cell.bg) != (Color::Reset, Color::Reset));
    assert!(!has_colour(&buffer));
    let mut coloured = app();
    press(&mut coloured, "j\n");
    assert!(has_colour(&drawn(&coloured, 140, 40)));
    assert_eq!(text(&plain, 140, 40), text(&coloured, 140, 40));
}

#[test]
fn what_strangers_wrote_steers_no_terminal() {
    let mut app = app();
    press(&mut app, "jr");
    let buffer = drawn(&app, 140, 60);
    assert!(text(&app, 140, 60).contains("<b>bold</b>"));
    assert!(!buffer.content().iter().any(|cell| cell.symbol().contains(char::is_control)));
}

#[test]
fn a_pause_keeps_what_is_shown_and_goes_on_with_the_newest() {
    let mut app = app();
    press(&mut app, "p");
    app.handle_view(Arc::new(fixture::view(60)));
    assert!(text(&app, 80, 24).contains("PAUSED") && text(&app, 80, 24).contains("12:00:00 UTC"));
    press(&mut app, "p");
    assert!(!text(&app, 80, 24).contains("PAUSED") && text(&app, 80, 24).contains("12:01:00 UTC"));
}

#[test]
fn stages_are_sorted_and_the_chosen_one_stays_chosen() {
    let mut app = app();
    assert_eq!(stages(&app), ["ingest", "convert", "publish", "dead"]);
    press(&mut app, "jjj");
    let chosen = |app: &App| app.rows()[app.chosen(&app.rows())].key();
    let mut orders = Vec::new();
    for _ in 0..7 {
        press(&mut app, "s");
        assert_eq!(chosen(&app), "dead");
        orders.push(stages(&app).join(" "));
    }
    assert_eq!(orders[0], "publish ingest convert dead", "events in");
    assert_eq!(orders[2], "ingest convert publish dead", "oldest");
    assert_eq!(orders[4], "publish convert ingest dead", "time at its limit");
    assert_eq!(orders[6], "ingest convert publish dead", "the pipeline's order again");
    let mut view = fixture::view(1);
    view.stages.pop();
    app.handle_view(Arc::new(view));
    assert_eq!(chosen(&app), "publish", "the one in the place of the one that is gone");
}

#[test]
fn a_filter_leaves_stages_with_that_name_or_such_an_instance() {
    let mut app = app();
    press(&mut app, "/PUB\n");
    assert_eq!(stages(&app), ["publish"]);
    press(&mut app, "/\u{8}\u{8}\u{8}ert-1\n");
    assert_eq!(stages(&app), ["convert"]);
    press(&mut app, "/q");
    assert!(!app.is_over() && text(&app, 80, 24).contains("No stage and no instance has `ert-1q` in its name"));
    press(&mut app, "\u{1b}");
    assert_eq!(stages(&app).len(), 4);
}

#[test]
fn an_open_stage_shows_its_parts_and_a_closed_one_stays_chosen() {
    let mut app = app();
    press(&mut app, "j\n");
    let open = text(&app, 80, 40);
    for part in
        ["    convert-1  ", "10.0.1.23:7400: connection refused", "ingest-1 → convert-0", "760/2000", "none  62%"]
    {
        assert!(open.contains(part), "{part} in\n{open}");
    }
    press(&mut app, "jjh");
    assert!(!text(&app, 80, 40).contains("ingest-1 → convert-0"));
    assert_eq!(app.rows()[app.chosen(&app.rows())].key(), "convert");
}

#[test]
fn a_subscription_that_nobody_takes_up_says_so() {
    let mut view: View = fixture::view(0);
    view.stages[3].instances.clear();
    view.subscriptions[2].links.clear();
    view.subscriptions[2].waiting = 77;
    let mut app = App::new(Theme::new(None));
    app.handle_view(Arc::new(view));
    press(&mut app, "G\n");
    let text = text(&app, 80, 40);
    assert!(
        text.contains("← convert.dead_letter: dead is not connected; 77 wait") && text.contains("absent"),
        "{text}"
    );
}

#[test]
fn q_and_ctrl_c_end_it_even_while_a_filter_is_typed() {
    let mut app = app();
    press(&mut app, "q");
    assert!(app.is_over());
    let mut app = self::app();
    press(&mut app, "/");
    app.handle_event(&Event::Key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));
    assert!(app.is_over());
}
