//! `jaiminho top`: the pipeline in a terminal.
//!
//! [`App`] is all that it knows and does: keys and looks go in, a frame comes out. What is here owns the terminal.

mod app;
mod columns;
mod draw;
mod panes;
mod rows;
#[cfg(test)]
mod tests;
mod theme;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossterm::event;
use tokio::sync::watch;

pub use self::app::App;
pub use self::theme::Theme;
use crate::view::View;

/// How soon a new look is drawn; a key is drawn at once.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Shows what comes on `views` until a key or `stopped` ends it. Blocks its thread. The terminal is as before when this returns,
/// and when it panics.
///
/// # Errors
/// When the terminal can't be read or written.
pub fn show(mut app: App, mut views: watch::Receiver<Arc<View>>, stopped: impl Fn() -> bool) -> io::Result<()> {
    app.handle_view(views.borrow_and_update().clone());
    let mut terminal = ratatui::try_init()?;
    let result = loop {
        if let Err(error) = terminal.draw(|frame| app.draw(frame)) {
            break Err(error);
        }
        match turn(&mut app, &mut views, &stopped) {
            Ok(()) if app.is_over() => break Ok(()),
            Ok(()) => {}
            Err(error) => break Err(error),
        }
    };
    ratatui::try_restore().and(result)
}

/// Waits until there is something new to draw, and takes it in.
fn turn(app: &mut App, views: &mut watch::Receiver<Arc<View>>, stopped: impl Fn() -> bool) -> io::Result<()> {
    loop {
        let mut is_new = event::poll(LOOK_INTERVAL)?;
        if is_new {
            app.handle_event(&event::read()?);
        }
        if views.has_changed().unwrap_or(false) {
            app.handle_view(views.borrow_and_update().clone());
            is_new = true;
        }
        if stopped() {
            app.end();
        }
        if is_new || app.is_over() {
            return Ok(());
        }
    }
}
