//! Progress on standard error, figures on standard output.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{HumanCount, ProgressBar};
use jaiminho_bench::stats::{Figure, Goal};
use serde_json::{Value, json};

use crate::cli::{Global, VERSION};
use crate::exit::Failure;
use crate::output;

/// How often the elapsed time is drawn again.
const TICK: Duration = Duration::from_millis(200);

/// Steps of all runs; nothing on a standard error that is no terminal.
pub(super) struct Progress(ProgressBar);

impl Progress {
    pub(super) fn new(steps: u64) -> Self {
        if !io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new(steps);
        bar.enable_steady_tick(TICK);
        Self(output::styled(bar, "{bar:30} {pos}/{len}  {elapsed}  {msg}"))
    }

    /// What is being measured now.
    pub(super) fn begin(&self, what: &str) {
        self.0.set_message(what.to_owned());
    }

    pub(super) fn step(&self) {
        self.0.inc(1);
    }

    pub(super) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

/// The figures, and under which conditions they hold.
pub(super) fn print(global: &Global, bench: &str, conditions: &Value, figures: &[Figure]) -> Result<(), Failure> {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let build = if cfg!(debug_assertions) { "development" } else { "release" };
    if global.json {
        return output::line(json!({
            "bench": bench, "version": VERSION, "build": build, "cores": cores, "conditions": conditions, "figures": figures,
        }));
    }
    output::line(output::table(&rows(figures), &[1, 2, 3]).trim_end())?;
    let conditions = conditions.as_object().into_iter().flatten();
    let conditions: Vec<String> = conditions.map(|(name, value)| format!("{name} {value}")).collect();
    output::line(format!("\n{build} build, {cores} cores; {}", conditions.join(", ")))?;
    if cfg!(debug_assertions) {
        output::line("A development build: these figures say nothing of the program's speed.")?;
    }
    Ok(())
}

fn rows(figures: &[Figure]) -> Vec<Vec<String>> {
    let head = ["", "median", "least", "most", "", "goal", ""].map(str::to_owned).to_vec();
    let row = |figure: &Figure| {
        let goal = figure.goal.map(|goal| match goal {
            Goal::AtLeast(least) => format!("≥ {least}"),
            Goal::AtMost(most) => format!("≤ {most}"),
        });
        let met = figure.met.map(|met| if met { "met" } else { "not met" });
        vec![
            figure.what.clone(),
            number(figure.spread.median),
            number(figure.spread.min),
            number(figure.spread.max),
            figure.unit.to_owned(),
            goal.unwrap_or_default(),
            met.unwrap_or_default().to_owned(),
        ]
    };
    std::iter::once(head).chain(figures.iter().map(row)).collect()
}

/// Three digits, or all before the point.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1_000.0 => HumanCount(value.round() as u64).to_string(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (3_312_345.6, "3,312,346"),
            (999.6, "1000"),
            (1_000.0, "1,000"),
            (12.34, "12.3"),
            (1.1, "1.10"),
            (0.042, "0.042"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn a_row_says_whether_the_goal_is_met() {
        let figure = Figure::of("f", "a ratio", "×", [1.0, 1.2, 1.3]).unwrap();
        let rows = rows(&[figure.clone().with_goal(Goal::AtLeast(1.1)), figure]);
        assert_eq!(rows[1], ["a ratio", "1.20", "1.00", "1.30", "×", "≥ 1.1", "met"]);
        assert_eq!(rows[2][5..], ["", ""]);
    }
}
