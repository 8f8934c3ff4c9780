//! `jaiminho autoscale --explain`: how many instances each stage needs, and why.

use std::time::Duration;

use jaiminho_observe::{INTERVAL, View};
use jaiminho_scaling::{Decision, Options, Scaling};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{block_on, scaler::sight};
use crate::{
    cli::{Autoscale, Global},
    exit::Failure,
    observed::{Reached, nothing_answers},
    output::{line, table},
};

/// So many looks, so that there are rates, and one sees what grows.
const LOOKS: u32 = 5;

pub(crate) fn run(global: &Global, arguments: &Autoscale) -> Result<(), Failure> {
    let options = options(&arguments.option)?;
    let mut reached = Reached::new(global)?;
    block_on(async {
        let (mut watcher, mut view) = reached.watcher().await;
        if let Some(failure) = nothing_answers(&view) {
            return Err(failure);
        }
        // What it would do after a while, it tells at once.
        let at_once = Options { down_after: Duration::ZERO, ..options };
        let mut stages: Vec<_> = view.stages.iter().map(|of| (of.name.clone(), Scaling::new(at_once), None)).collect();
        let start = Instant::now();
        for _ in 0..LOOKS {
            watcher.wait_until(Instant::now() + INTERVAL).await;
            view = watcher.look().await;
            for (name, scaling, told) in &mut stages {
                *told = Some(sight(&view, name).map(|sight| scaling.decide(start.elapsed(), &sight)));
            }
        }
        let told = stages.into_iter().filter_map(|(name, _, told)| Some((name, told?))).collect::<Vec<_>>();
        line(if global.json { as_json(&view, &told).to_string() } else { as_table(&told, &options) })
    })
}

fn options(given: &[String]) -> Result<Options, Failure> {
    let mut options = Options::default();
    for pair in given {
        let known = pair.split_once('=').map(|(key, value)| options.set(key.trim(), value.trim()));
        match known {
            Some(Ok(true)) => {}
            Some(Err(error)) => return Err(Failure::usage(format!("--option {pair}: {error}"))),
            Some(Ok(false)) | None => {
                let known = Options::KEYS.join(", ");
                return Err(Failure::usage(format!("--option {pair}: expected KEY=VALUE, KEY being one of {known}")));
            }
        }
    }
    Ok(options)
}

type Told = (String, Result<Decision, String>);

fn as_table(told: &[Told], options: &Options) -> String {
    let head = ["STAGE", "NOW", "NEEDED", "WHY"].map(str::to_owned).to_vec();
    let rows = told.iter().map(|(name, told)| match told {
        Ok(Decision { current, needed, why, .. }) => {
            let then = if needed < current {
                format!(" (told once that was so for {} s)", options.down_after.as_secs())
            } else {
                String::new()
            };
            vec![name.clone(), current.to_string(), needed.to_string(), format!("{why}{then}")]
        }
        Err(why) => vec![name.clone(), "?".into(), "?".into(), format!("it is seen in part: {why}")],
    });
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    table(&rows, &[1, 2]).trim_end().to_owned()
}

fn as_json(view: &View, told: &[Told]) -> Value {
    let stages = told.iter().map(|(name, told)| match told {
        Ok(Decision { current, needed, why, .. }) => {
            json!({ "stage": name, "current": current, "needed": needed, "why": why.to_string(), "problem": null })
        }
        Err(why) => json!({ "stage": name, "current": null, "needed": null, "why": null, "problem": why }),
    });
    json!({ "pipeline": view.pipeline, "stages": stages.collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use jaiminho_scaling::Why;

    use super::*;

    #[test]
    fn the_table_has_a_line_for_each_stage_with_the_reason() {
        let busy = Why::Busy { busy: 0.93, target: 0.6, waiting: 412, able: 316.0, wanted: 4 };
        let low = Why::Low { busy: 0.04, rate: 12.0, wanted: 2 };
        let told = [
            ("convert".to_owned(), Ok(Decision { current: 2, needed: 4, why: busy })),
            ("publish".to_owned(), Ok(Decision { current: 3, needed: 2, why: low })),
            ("dead".to_owned(), Err("the pipeline file does not say where `dead` is (`at`)".to_owned())),
        ];
        let text = as_table(&told, &Options::default());
        let expected = "\
STAGE    NOW  NEEDED  WHY
convert    2       4  it is 93 % busy (target 60 %), and 412 events wait for it; at the target an instance does 316 events/s
publish    3       2  it is 4 % busy, with 12 events/s an instance: fewer would do (told once that was so for 60 s)
dead       ?       ?  it is seen in part: the pipeline file does not say where `dead` is (`at`)";
        assert_eq!(text, expected);
        let json = as_json(&View { pipeline: "p".into(), ..View::default() }, &told);
        assert_eq!((&json["stages"][0]["needed"], &json["stages"][2]["needed"]), (&json!(4), &Value::Null));
    }

    #[test]
    fn options_are_those_of_a_trigger() {
        assert_eq!(options(&["target=0.7".into()]).unwrap(), Options { target: 0.7, ..Options::default() });
        for (given, told) in
            [("targt=0.7", "expected KEY=VALUE"), ("target", "expected KEY=VALUE"), ("target=7", "must be")]
        {
            assert!(options(&[given.into()]).unwrap_err().text.contains(told), "{given}");
        }
    }
}
