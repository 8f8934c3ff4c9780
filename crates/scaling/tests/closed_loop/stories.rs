//! What happens to a pipeline, and that its instances settle.

use std::f64::consts::TAU;

use crate::{
    model::{Run, StageSpec, Story, run, stage},
    plot::{Plot, draw},
};

/// From one event at a time to many: how busy a stage is tells of each something else.
const WIDTHS: [u32; 3] = [1, 8, 64];

fn step(at: f64, before: f64, after: f64) -> impl Fn(f64) -> f64 {
    move |now| if now < at { before } else { after }
}

fn wave(middle: f64, swing: f64, period_s: f64) -> impl Fn(f64) -> f64 {
    move |now| middle + swing * (now / period_s * TAU).sin()
}

/// From minute 20 to minute 50 each instance does a quarter.
fn slow_each(width: u32) -> Story {
    let mut publish = stage("publish", 1_000.0, width, 4);
    publish.able = Box::new(|now| if (1_200.0..3_000.0).contains(&now) { 250.0 } else { 1_000.0 });
    Story::new(9_000, |_| 2_000.0, vec![stage("convert", 2_000.0, width, 2), publish])
}

/// A broker's limit goes up and down by so much.
fn wobbling(able: f64, swing: f64, period_s: f64) -> impl Fn(f64) -> f64 {
    move |now| wave(able, able * swing, period_s)(now) * (1.0 + swing / 4.0 * (now / 23.0).sin())
}

/// From minute 20 to minute 50 all instances together do no more than `able`.
fn slow_together(width: u32, able: impl Fn(f64) -> f64 + 'static) -> Story {
    let mut publish = stage("publish", 1_000.0, width, 4);
    let able_together = move |now| if (1_200.0..3_000.0).contains(&now) { able(now) } else { f64::INFINITY };
    publish.able_together = Box::new(able_together);
    Story::new(9_000, |_| 2_000.0, vec![stage("convert", 2_000.0, width, 2), publish])
}

fn chain(width: u32) -> Story {
    let stages = [("parse", 3_000.0), ("convert", 1_000.0), ("publish", 1_500.0)];
    let stages = stages.map(|(name, able)| stage(name, able, width, 1));
    Story::new(5_400, step(600.0, 500.0, 2_000.0), stages.into())
}

/// An instance takes 2000 events/s and 1000 connections. Four times the load from minute 10 on; from minute 40 to 55 nothing
/// goes through below.
fn edge(width: u32, factor: f64) -> Story {
    let mut ingest = stage("ingest", 2_000.0, 1, 1);
    ingest.connections = Some(1_000.0);
    let mut publish = stage("publish", 1_000.0, width, 2);
    publish.able_together = Box::new(|now| if STALL_S.contains(&now) { 0.0 } else { f64::INFINITY });
    Story::new(5_400, step(600.0, 1_000.0, 1_000.0 * factor), vec![ingest, publish])
}

const STALL_S: std::ops::Range<f64> = 2_400.0..3_300.0;

fn on_cpu(request: f64, seconds: u32, offered: impl Fn(f64) -> f64 + 'static, instances: u32) -> Story {
    let mut convert = stage("convert", 1_000.0, 8, instances);
    convert.cpu_request = Some(request);
    Story::new(seconds, offered, vec![convert])
}

/// Of so many instances so many die after 20 s of overload, and come back: it lasts from minute 10 on until there are enough.
fn flapping(width: u32, instances: u32, pods: usize) -> Story {
    let mut convert = stage("convert", 1_000.0, width, instances);
    convert.dies = Some((pods, 20.0));
    let before = 500.0 * f64::from(instances);
    Story::new(5_400, step(600.0, before, 4.0 * before), vec![convert])
}

fn one(width: u32, instances: u32) -> Vec<StageSpec> {
    vec![stage("convert", 1_000.0, width, instances)]
}

/// The changes of one stage's wanted number within this time, as `from > to`.
fn changes(run: &Run, stage: usize, seconds: std::ops::Range<f64>) -> Vec<(u32, u32)> {
    let within = run.changes[stage].iter().filter(|(at, _, _)| seconds.contains(at));
    within.map(|(_, from, to)| (*from, *to)).collect()
}

/// How often a number that grew shrank next, or the other way.
fn turns(changes: &[(u32, u32)]) -> usize {
    changes.windows(2).filter(|pair| (pair[0].0 < pair[0].1) != (pair[1].0 < pair[1].1)).count()
}

/// Of each instance's ability, at the end.
fn use_at_end(run: &Run, stage: usize, able: f64) -> f64 {
    let notes = &run.stages[stage][run.stages[stage].len() - 60..];
    notes.iter().map(|note| note.rate / (f64::from(note.running) * able)).sum::<f64>() / 60.0
}

#[test]
fn after_a_step_up_it_settles_within_three_decisions_and_stays_so() {
    for (width, factor, startup_s) in WIDTHS.into_iter().flat_map(|width| {
        [(width, 2.0, 20.0), (width, 4.0, 20.0), (width, 8.0, 20.0), (width, 4.0, 5.0), (width, 8.0, 120.0)]
    }) {
        let story = Story::new(30_000, step(600.0, 500.0, 500.0 * factor), one(width, 1));
        let run = run(Story { startup_s, ..story });
        let told = changes(&run, 0, 0.0..30_000.0);
        let what = format!("width {width}, ×{factor}, start-up {startup_s} s: {told:?}");
        assert!(told.len() <= 3 && turns(&told) == 0, "{what}");
        let last = run.changes[0].last().expect("a change").0;
        assert!(last < 720.0 + 3.0 * startup_s, "{what}: the last one after {last} s");
        let used = use_at_end(&run, 0, 1_000.0);
        assert!((0.45..0.9).contains(&used), "{what}: {used}");
        assert!(run.refused.iter().skip(1_200).all(|refused| *refused == 0.0), "{what}");
    }
}

#[test]
fn after_a_step_down_it_goes_down_once_and_no_further_than_it_can() {
    for width in WIDTHS {
        let run = run(Story::new(14_400, step(3_600.0, 6_000.0, 1_500.0), one(width, 10)));
        let told = changes(&run, 0, 3_600.0..14_400.0);
        assert!(told.len() <= 3 && turns(&told) == 0, "width {width}: {told:?}");
        assert_eq!(changes(&run, 0, 3_600.0..3_900.0), [], "width {width}: not before five minutes");
        let used = use_at_end(&run, 0, 1_000.0);
        assert!((0.3..0.8).contains(&used), "width {width}: {used}");
    }
}

#[test]
fn of_far_too_many_it_takes_one_after_another_and_stops_before_it_is_too_few() {
    for width in WIDTHS {
        let run = run(Story::new(20_000, |_| 1_000.0, one(width, 10)));
        let told = changes(&run, 0, 0.0..20_000.0);
        assert_eq!(turns(&told), 0, "width {width}: {told:?}");
        assert!((2..=3).contains(&told.last().expect("a change").1), "width {width}: {told:?}");
    }
}

#[test]
fn under_a_steady_and_noisy_load_it_never_goes_to_and_fro() {
    for (width, load) in WIDTHS.into_iter().flat_map(|width| [0.35, 0.5, 0.55, 0.58].map(|load| (width, load))) {
        for instances in [1, 2, 3, 8, 30] {
            let rate = 1_000.0 * f64::from(instances) * load;
            let mut story = Story::new(40_000, move |_| rate, one(width, instances));
            story.noise = 0.2;
            let run = run(story);
            let told = changes(&run, 0, 0.0..40_000.0);
            assert!(turns(&told) == 0 && told.len() <= 6, "width {width}, {instances} at {load}: {told:?}");
        }
    }
}

#[test]
fn it_follows_a_ramp_and_a_slow_wave_without_going_to_and_fro() {
    for width in WIDTHS {
        let ramp = |now: f64| 500.0 + 3.0 * (now - 600.0).clamp(0.0, 3_600.0);
        let told = changes(&run(Story::new(9_000, ramp, one(width, 1))), 0, 0.0..9_000.0);
        assert!(
            turns(&told) == 0 && told.last().is_some_and(|(_, to)| (12..=21).contains(to)),
            "width {width}: {told:?}"
        );
        // Up and down once in each of four half hours.
        let run = run(Story::new(7_200, wave(4_000.0, 3_500.0, 1_800.0), one(width, 4)));
        let told = changes(&run, 0, 0.0..7_200.0);
        assert!(turns(&told) <= 8, "width {width}: {told:?}");
        assert!(run.refused.iter().sum::<f64>() < 0.005 * run.offered.iter().sum::<f64>(), "width {width}");
    }
}

#[test]
fn a_fast_wave_is_met_by_what_its_crest_needs() {
    for width in WIDTHS {
        let run = run(Story::new(14_400, wave(4_000.0, 3_500.0, 120.0), one(width, 4)));
        let told = changes(&run, 0, 0.0..14_400.0);
        assert!(turns(&told) == 0 && told.len() <= 5, "width {width}: {told:?}");
        assert!(run.refused.iter().skip(600).all(|refused| *refused == 0.0), "width {width}");
    }
}

#[test]
fn instances_that_a_broker_makes_slow_get_company_while_it_is_slow() {
    for width in WIDTHS {
        let run = run(slow_each(width));
        let told = changes(&run, 1, 1_200.0..9_000.0);
        assert!(turns(&told) == 1, "width {width}: {told:?}");
        assert!(told.iter().any(|(_, to)| (10..=16).contains(to)), "width {width}: {told:?}");
        assert!(told.last().is_some_and(|(_, to)| (3..=7).contains(to)), "width {width}: {told:?}");
        assert_eq!(changes(&run, 0, 600.0..9_000.0), [], "width {width}: what is above it has no part in it");
    }
}

#[test]
fn a_broker_with_a_limit_of_its_own_is_not_met_with_ever_more_instances() {
    for (width, (able, swing, period_s)) in WIDTHS.into_iter().flat_map(|width| BROKERS.map(|broker| (width, broker))) {
        let run = run(slow_together(width, wobbling(able, swing, period_s)));
        let what = format!("width {width}, {able} ± {swing} in {period_s} s: {:?}", run.changes);
        let told = changes(&run, 1, 1_200.0..3_000.0);
        assert!(told.iter().all(|(_, to)| *to <= 10), "{what}");
        let above = changes(&run, 0, 1_200.0..3_000.0);
        assert_eq!(above, [], "{what}: what is above it is blocked, and more of it would wait, too");
        let after = changes(&run, 1, 3_000.0..9_000.0);
        assert!(turns(&after) <= 1 && after.iter().all(|(_, to)| *to <= 16), "{what}");
    }
}

/// What one takes, and by how much and in what time that goes up and down.
const BROKERS: [(f64, f64, f64); 6] = [
    (0.0, 0.0, 60.0),
    (1_200.0, 0.0, 60.0),
    (1_200.0, 0.05, 60.0),
    (1_200.0, 0.1, 40.0),
    (1_200.0, 0.1, 110.0),
    (1_200.0, 0.1, 300.0),
];

/// Of three hours, from a quarter of the first one on it grows no more than by what is tried, at longer and longer intervals.
fn only_tries(run: &Run) -> bool {
    let late = changes(run, 0, 900.0..10_800.0);
    late.len() <= 6 && late.iter().all(|(from, to)| *to <= from + from / 10 + 1)
}

#[test]
fn a_limit_that_lasts_for_hours_is_not_met_with_ever_more_instances() {
    for (width, (able, swing, period_s)) in WIDTHS.into_iter().flat_map(|width| BROKERS.map(|broker| (width, broker))) {
        let mut stages = one(width, 4);
        stages[0].able_together = Box::new(wobbling(able, swing, period_s));
        let run = run(Story::new(10_800, |_| 2_000.0, stages));
        assert!(only_tries(&run), "width {width}, {able} ± {swing} in {period_s} s: {:?}", run.changes);
    }
}

#[test]
fn bursts_that_a_broker_can_not_take_are_not_met_with_ever_more_instances() {
    for (width, (able, swing, period_s)) in
        WIDTHS.into_iter().flat_map(|width| BROKERS[1..].iter().map(move |broker| (width, *broker)))
    {
        for (calm, every_s) in [(600.0, 150.0), (600.0, 400.0), (900.0, 240.0)] {
            let mut stages = one(width, 4);
            stages[0].able_together = Box::new(wobbling(able, swing, period_s));
            let run = run(Story::new(10_800, move |now| if now % every_s < 45.0 { 2_000.0 } else { calm }, stages));
            let what = format!("width {width}, {able} ± {swing} in {period_s} s, calm {calm}, each {every_s} s");
            assert!(only_tries(&run), "{what}: {:?}", run.changes);
        }
    }
}

/// For three hours one key has about as many events as one instance can do; then there are as many of all keys, and later eight times as many.
fn hot_key(width: u32, instances: u32, share: f64) -> Story {
    let offered = 1_000.0 * share + 100.0 * f64::from(instances);
    let mut stages = one(width, instances);
    stages[0].hot = Box::new(step(10_800.0, 1_000.0 * share / offered, 0.0));
    Story::new(16_200, move |now| offered * step(12_600.0, 1.0, 8.0)(now), stages)
}

#[test]
fn one_hot_key_is_not_met_with_ever_more_instances() {
    for (width, instances) in WIDTHS.into_iter().flat_map(|width| [4, 8].map(|instances| (width, instances))) {
        for share in [0.9, 0.95, 0.98, 1.0, 1.02] {
            let run = run(hot_key(width, instances, share));
            let what = format!("width {width}, {instances} instances, {share} of one: {:?}", run.changes);
            assert!(only_tries(&run), "{what}");
            let after = changes(&run, 0, 12_600.0..13_200.0);
            assert!(after.len() <= 3 && turns(&after) == 0, "{what}");
            let used = use_at_end(&run, 0, 1_000.0);
            assert!((0.3..0.95).contains(&used), "{what}: {used}");
        }
    }
}

/// A broker is the limit for half an hour; after that and some calm, the load grows eightfold.
#[test]
fn load_that_grows_once_a_limit_has_gone_is_met_as_ever() {
    for (width, calm_s) in WIDTHS.into_iter().flat_map(|width| [60.0, 300.0, 900.0, 3_600.0].map(|calm| (width, calm)))
    {
        let mut stages = one(width, 4);
        stages[0].able_together = Box::new(|now| if now < 1_800.0 { 1_200.0 } else { f64::INFINITY });
        let grows = 1_800.0 + calm_s;
        let offered = move |now: f64| {
            if now < 1_800.0 {
                2_000.0
            } else if now < grows {
                1_500.0
            } else {
                16_000.0
            }
        };
        let run = run(Story::new(6 * 3_600, offered, stages));
        let told = changes(&run, 0, grows..grows + 600.0);
        let what = format!("width {width}, calm {calm_s}: {:?}", run.changes);
        assert!(told.len() <= 3 && turns(&told) == 0, "{what}");
        assert!(told.last().is_some_and(|(_, to)| (19..=40).contains(to)), "{what}");
    }
}

#[test]
fn stages_in_a_row_settle_one_after_another() {
    for width in WIDTHS {
        let run = run(chain(width));
        for stage in 0..3 {
            let told = changes(&run, stage, 0.0..5_400.0);
            let ups = told.iter().filter(|(from, to)| from < to).count();
            assert!(ups <= 3 && turns(&told) <= 1, "width {width}, stage {stage}: {told:?}");
            assert!(
                run.changes[stage].iter().all(|(at, _, _)| *at < 1_500.0),
                "width {width}, stage {stage}: {told:?}"
            );
        }
        assert!(run.refused.iter().skip(1_200).all(|refused| *refused == 0.0), "width {width}");
    }
}

#[test]
fn a_source_grows_with_its_own_use_and_not_while_what_is_below_it_stalls() {
    for (width, factor) in WIDTHS.into_iter().flat_map(|width| [2.0, 4.0].map(|factor| (width, factor))) {
        let run = run(edge(width, factor));
        let told = changes(&run, 0, 0.0..5_400.0);
        let what = format!("width {width}, ×{factor}: {:?}", run.changes);
        assert!((1..=3).contains(&told.len()) && turns(&told) == 0, "{what}");
        assert!(run.changes[0].last().is_some_and(|(at, _, _)| *at < 900.0), "{what}: later, too");
        let is_refused = |seconds: std::ops::Range<usize>| run.refused[seconds].iter().any(|refused| *refused > 0.0);
        assert!(!is_refused(1_500..2_400) && is_refused(2_500..3_300) && !is_refused(3_600..5_400), "{what}");
        let used = use_at_end(&run, 0, 2_000.0);
        assert!((0.3..0.7).contains(&used), "{what}: {used}");
    }
}

#[test]
fn on_cpu_it_settles_within_three_decisions_and_does_not_hunt() {
    for (request, factor) in [0.1, 0.5, 1.0].into_iter().flat_map(|request| [2.0, 4.0].map(|factor| (request, factor)))
    {
        let before = 0.6 * 1_000.0 * request;
        let up_and_down = move |now: f64| if (600.0..4_200.0).contains(&now) { factor * before } else { before };
        let run = run(on_cpu(request, 9_000, up_and_down, 1));
        let (up, down) = (changes(&run, 0, 0.0..4_200.0), changes(&run, 0, 4_200.0..9_000.0));
        let what = format!("request {request}, ×{factor}: {up:?}, {down:?}");
        let ups = up.iter().filter(|(from, to)| from < to).count();
        // Work that has piled up is CPU, too: one more than is needed then goes again.
        assert!((1..=3).contains(&ups) && turns(&up) <= 1 && up.len() <= 4, "{what}");
        assert!((1..=3).contains(&down.len()) && turns(&down) == 0, "{what}");
        assert!(run.refused.iter().skip(1_200).all(|refused| *refused == 0.0), "{what}");
    }
    for (load, instances) in [0.5, 0.7, 0.76, 0.8].into_iter().flat_map(|load| [1, 3, 8].map(|count| (load, count))) {
        let rate = 1_000.0 * f64::from(instances) * load;
        let told = changes(&run(on_cpu(1.0, 40_000, move |_| rate, instances)), 0, 0.0..40_000.0);
        assert!(turns(&told) == 0 && told.len() <= 3, "{instances} at {load}: {told:?}");
    }
}

#[test]
fn instances_that_die_of_overload_get_company_although_one_is_always_young() {
    for (width, (instances, pods)) in
        WIDTHS.into_iter().flat_map(|width| [(1, 1), (4, 1), (4, 4)].map(|of| (width, of)))
    {
        let run = run(flapping(width, instances, pods));
        let told = changes(&run, 0, 0.0..5_400.0);
        let what = format!("width {width}, {pods} of {instances}: {:?}", run.changes[0]);
        // What those that die are able to do looks like less than it is: one that is too many goes again.
        assert!((1..=3).contains(&told.len()) && turns(&told) <= 1, "{what}");
        assert!(run.refused.iter().skip(1_200).all(|refused| *refused == 0.0), "{what}");
        let used = use_at_end(&run, 0, 1_000.0);
        assert!((0.3..0.9).contains(&used), "{what}: {used}");
    }
}

#[test]
fn while_an_instance_does_not_answer_nothing_changes() {
    let story = Story::new(3_600, step(600.0, 500.0, 2_000.0), one(8, 1));
    let run = run(Story { unseen: 590.0..1_800.0, ..story });
    assert_eq!(changes(&run, 0, 0.0..1_800.0), []);
    let told = changes(&run, 0, 1_800.0..3_600.0);
    assert!(told.len() <= 3 && turns(&told) == 0 && !told.is_empty(), "{told:?}");
}

#[test]
fn the_plots_in_the_docs_are_of_these_stories() {
    let ramp = |now: f64| 500.0 + 3.0 * ((now - 600.0).clamp(0.0, 1_800.0) - (now - 3_600.0).clamp(0.0, 1_800.0));
    for (name, title, story) in [
        ("step", "Four times the load from minute 10 on", Story::new(3_600, step(600.0, 500.0, 2_000.0), one(8, 1))),
        ("ramp", "A ramp, up and down", Story::new(7_200, ramp, one(8, 1))),
        ("wave", "A wave of half an hour", Story::new(7_200, wave(4_000.0, 3_500.0, 1_800.0), one(8, 4))),
        ("fast-wave", "A wave of two minutes", Story::new(3_600, wave(4_000.0, 3_500.0, 120.0), one(8, 4))),
        ("chain", "Three stages, four times the load from minute 10 on", chain(8)),
        ("slow-instances", "Each instance of publish does a quarter from minute 20 to 50", slow_each(8)),
        (
            "slow-broker",
            "The broker takes about 1200 events/s from minute 20 to 50",
            slow_together(8, wobbling(1_200.0, 0.1, 110.0)),
        ),
        ("edge", "Four times the load from minute 10 on; a stall below it from minute 40 to 55", edge(8, 4.0)),
        ("flapping", "Four times the load from minute 10 on, of which an instance dies within 20 s", flapping(8, 1, 1)),
        ("cpu", "On CPU: four times the load from minute 10 to 40", {
            on_cpu(1.0, 3_600, |now| if (600.0..2_400.0).contains(&now) { 2_000.0 } else { 500.0 }, 1)
        }),
    ] {
        let names: Vec<&str> = story.stages.iter().map(|stage| stage.name).collect();
        let run = run(story);
        let text = draw(&Plot { title, names: &names, run: &run });
        let path = format!("{}/../../docs/scaling/{name}.svg", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let drawn = std::fs::read_to_string(&path).unwrap_or_default();
        let how = "`UPDATE_DOCS=1 cargo test -p jaiminho-scaling` draws it anew";
        assert!(drawn == text, "{path} is not of this story: {how}");
    }
}
