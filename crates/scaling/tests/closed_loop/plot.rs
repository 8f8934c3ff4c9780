//! A plot of a run, as SVG: what is offered and taken, and each stage's instances, over minutes.

use std::fmt::Write;

use crate::model::Run;

const WIDTH: f64 = 760.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const PANEL: f64 = 120.0;
const GAP: f64 = 34.0;
const TOP: f64 = 34.0;
const COLOURS: [&str; 3] = ["#9aa5b1", "#1f77b4", "#d62728"];

pub(crate) struct Plot<'a> {
    pub(crate) title: &'a str,
    pub(crate) names: &'a [&'a str],
    pub(crate) run: &'a Run,
}

/// A line: its name and its values, one a second.
type Line = (&'static str, Vec<f64>);

pub(crate) fn draw(plot: &Plot<'_>) -> String {
    let mut panels: Vec<(String, Vec<Line>)> = Vec::new();
    let run = plot.run;
    let taken = run.offered.iter().zip(&run.refused).map(|(offered, refused)| offered - refused).collect();
    panels.push(("events/s".into(), vec![("offered", run.offered.clone()), ("taken", taken)]));
    for (name, notes) in plot.names.iter().zip(&run.stages) {
        let of = |value: fn(&crate::model::Note) -> f64| notes.iter().map(value).collect();
        let lines =
            vec![("wanted", of(|note| f64::from(note.wanted))), ("running", of(|note| f64::from(note.running)))];
        panels.push((format!("instances of {name}"), lines));
    }
    let height = TOP + panels.len() as f64 * (PANEL + GAP);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"{LEFT}\" y=\"18\" font-size=\"13\" font-weight=\"bold\" fill=\"#222222\">{}</text>\n",
        plot.title
    );
    for (index, (title, lines)) in panels.iter().enumerate() {
        panel(&mut svg, TOP + index as f64 * (PANEL + GAP), title, lines);
    }
    svg.push_str("</svg>\n");
    svg
}

fn panel(svg: &mut String, top: f64, title: &str, lines: &[Line]) {
    let seconds = lines[0].1.len() as f64;
    let most = nice(lines.iter().flat_map(|(_, values)| values).fold(1.0, |most, value| value.max(most)));
    let x = |second: f64| LEFT + second / seconds * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| top + 14.0 + (PANEL - 14.0) * (1.0 - value / most);
    let mut put = |text: String| svg.push_str(&text);
    put(format!("<text x=\"{LEFT}\" y=\"{:.1}\" fill=\"#444444\">{title}</text>\n", top + 6.0));
    for part in 0..=4 {
        let (value, at) = (most * f64::from(part) / 4.0, y(most * f64::from(part) / 4.0));
        put(format!("<path d=\"M{LEFT} {at:.1}H{:.1}\" stroke=\"#e4e7eb\"/>\n", WIDTH - RIGHT));
        put(format!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#666666\">{value}</text>\n",
            LEFT - 6.0,
            at + 4.0
        ));
    }
    let minutes = (seconds / 60.0) as u32;
    for minute in (0..=minutes).step_by((minutes / 12).max(1).next_multiple_of(5) as usize) {
        let at = x(f64::from(minute) * 60.0);
        put(format!(
            "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#666666\">{minute} min</text>\n",
            top + PANEL + 13.0
        ));
    }
    for (index, (name, values)) in lines.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        put(format!("<path d=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>\n", path(values, &x, &y)));
        let at = WIDTH - RIGHT - 70.0 * (lines.len() - index) as f64;
        put(format!("<text x=\"{at:.1}\" y=\"{:.1}\" fill=\"{colour}\">{name}</text>\n", top + 6.0));
    }
}

/// Where a value does not change, nothing is drawn; of many seconds, one in ten.
fn path(values: &[f64], x: &impl Fn(f64) -> f64, y: &impl Fn(f64) -> f64) -> String {
    let mut path = String::new();
    let mut before = f64::NAN;
    let last = values.len() - 1;
    for (second, value) in values.iter().enumerate().filter(|(second, _)| second % 10 == 0 || *second == last) {
        let (at, height) = (x(second as f64), y(*value));
        let is_step = value.fract() == 0.0;
        if second == 0 {
            let _ = write!(path, "M{at:.1} {height:.1}");
        } else if is_step && *value != before {
            let _ = write!(path, "H{at:.1}V{height:.1}");
        } else if !is_step {
            let _ = write!(path, "L{at:.1} {height:.1}");
        } else if second == last {
            let _ = write!(path, "H{at:.1}");
        }
        before = *value;
    }
    path
}

/// The next number that divides well by four.
fn nice(value: f64) -> f64 {
    let scales = (0..9).map(|power| 10.0_f64.powi(power));
    let mut steps = scales.flat_map(|scale| [4.0, 8.0, 12.0, 16.0, 20.0, 24.0, 32.0].map(|step| step * scale));
    steps.find(|step| *step >= value).unwrap_or(value)
}
