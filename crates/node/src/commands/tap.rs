//! `jaiminho tap OUTPUT`: a sample of the events of an output.

use std::time::Duration;

use jaiminho_core::Event;
use jaiminho_event::EventView;
use jaiminho_observe::{TapError, TapSummary, Tapped, stage_of};
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

use super::block_on;
use crate::{
    cli::{Global, Tap},
    exit::Failure,
    observed::Reached,
    output::{counted, line, note, printable, printable_json},
    signals::Signals,
};

/// For the last messages to leave.
const CLOSE_DEADLINE: Duration = Duration::from_secs(3);

pub(crate) fn run(global: &Global, tap: &Tap) -> Result<(), Failure> {
    let mut reached = Reached::new(global)?;
    block_on(async {
        let mut signals = Signals::listen()?;
        let tasks = TaskTracker::new();
        // It finds out whether the pipeline is where its file says, or in an `up` that runs here.
        reached.find().await;
        let open = reached.tap(&tap.output, &tap.filter, tap.rate, tasks.clone())?.open().await;
        let mut open = open.map_err(|error| refused(&tap.output, &error))?;
        let mut left = tap.count.unwrap_or(u64::MAX);
        while left > 0 {
            let tapped = tokio::select! {
                biased;
                _ = signals.next() => break,
                tapped = open.next() => tapped,
            };
            match tapped {
                Tapped::Event(producer, event) => {
                    line(if global.json {
                        printable_json(&as_json(&event).to_string())
                    } else {
                        text(&producer, &event)
                    })?;
                    left -= 1;
                }
                Tapped::Note(text) => note(printable(&text)),
            }
        }
        note(said(&open.end().await));
        tasks.close();
        let _late = tokio::time::timeout(CLOSE_DEADLINE, tasks.wait()).await;
        Ok(())
    })
}

/// Why nothing is shown.
pub(crate) fn refused(output: &str, error: &TapError) -> Failure {
    let stage = stage_of(output);
    Failure::unavailable(match error {
        TapError::NoAddress => format!("no address of stage `{stage}` is known: its `at` leads nowhere from here"),
        TapError::NoLink(_) => {
            let why = printable(&error.to_string());
            format!("nothing of `{output}` can be tapped: {why}; is `jaiminho stage {stage}` running there?")
        }
    })
}

/// In CloudEvents' JSON format; what is no CloudEvent as text.
pub(crate) fn as_json(event: &Event) -> Value {
    match EventView::parse(&event.payload) {
        Ok(view) => view.to_event().to_json(),
        Err(error) => json!({ "error": error.to_string(), "bytes": event.payload.escape_ascii().to_string() }),
    }
}

fn text(producer: &str, event: &Event) -> String {
    let again = if event.attempt > 1 { format!("  attempt {}", event.attempt) } else { String::new() };
    let json = printable_json(&format!("{:#}", as_json(event)));
    format!("{}{again}\n{json}\n", printable(producer))
}

fn said(summary: &TapSummary) -> String {
    let TapSummary { shown, filtered, dropped, missed } = *summary;
    let mut parts = vec![format!("{} shown", counted(shown, "event"))];
    if filtered > 0 {
        parts.push(format!("{filtered} not wanted by the filter"));
    }
    if dropped > 0 {
        parts.push(format!("{dropped} wanted, but more than --rate lets be shown"));
    }
    parts.push(match missed {
        Some(0) => "none missed".into(),
        Some(missed) => format!("{missed} passed by unseen"),
        None => "how many passed by unseen is not known".into(),
    });
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use jaiminho_event::CloudEvent;

    use super::*;

    #[test]
    fn an_event_does_not_steer_the_terminal_and_its_json_stays_json() {
        let id = "e\u{9b}2J\u{1b}[31m\u{202e}";
        let event = CloudEvent::new(id, "/s", "t").encode();
        let event = Event::new(event);
        let text = text("i\u{1b}-0", &event);
        assert!(!text.chars().any(|next| next != '\n' && (next.is_control() || next == '\u{202e}')), "{text:?}");
        let (_, json) = text.split_once('\n').unwrap();
        assert_eq!(serde_json::from_str::<Value>(json).unwrap()["id"], id);
    }
}
