//! `jaiminho top`: what a running pipeline does.

use std::io::{self, IsTerminal as _};

use jaiminho_observe::text;
use jaiminho_observe::top::{self, App, Theme};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::block_on;
use crate::cli::{Global, Top};
use crate::exit::Failure;
use crate::observed::{Reached, Seen, nothing_answers};
use crate::output::{line, printable_json};
use crate::signals::Signals;

pub(crate) fn run(global: &Global, top: &Top) -> Result<(), Failure> {
    if !(top.once || io::stdin().is_terminal() && io::stdout().is_terminal()) {
        return Err(Failure::usage("there is no terminal to draw on; `jaiminho top --once` prints one look"));
    }
    let reached = Reached::new(global)?;
    if top.once { once(global, reached) } else { live(reached) }
}

fn once(global: &Global, mut reached: Reached) -> Result<(), Failure> {
    block_on(async {
        let view = reached.view(1).await;
        if let Some(failure) = nothing_answers(&view) {
            return Err(failure);
        }
        if global.json {
            return line(printable_json(&serde_json::to_string(&view).map_err(Failure::software)?));
        }
        line(text::once(&view))
    })
}

fn live(mut reached: Reached) -> Result<(), Failure> {
    block_on(async {
        let mut signals = Signals::listen()?;
        let (watcher, view) = reached.watcher().await;
        if let Some(failure) = nothing_answers(&view) {
            return Err(failure);
        }
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let seen = Seen::by(watcher, view, reached, &tasks, stop.clone());
        let app = App::new(Theme::new(std::env::var("NO_COLOR").ok().as_deref()));
        let stopped = stop.clone();
        // It waits for keys, which blocks its thread.
        let mut shown = tasks.spawn_blocking(move || top::show(app, seen.views, || stopped.is_cancelled()));
        let shown = tokio::select! {
            shown = &mut shown => shown,
            _ = signals.next() => {
                stop.cancel();
                shown.await
            }
        };
        stop.cancel();
        tasks.close();
        tasks.wait().await;
        shown.map_err(Failure::software)?.map_err(|error| Failure::unavailable(format!("the terminal: {error}")))
    })
}
