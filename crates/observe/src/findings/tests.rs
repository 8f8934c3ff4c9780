use super::*;
use crate::{
    made::{inspection, link, output},
    make::tests::view_of,
    view::{AddressView, RejectionView, StageView, TroubleView},
};

/// `ingest`, `convert` and `publish`, linked to each other, idle.
fn healthy() -> View {
    let made = |stage: &str, name: &str, to: Option<(&str, &str)>| {
        let mut now = inspection(stage, name);
        now.outputs = to.map(|(group, member)| output(stage, group, vec![link(1, member)])).into_iter().collect();
        now
    };
    view_of(vec![
        made("ingest", "i-0", Some(("convert", "c-0"))),
        made("convert", "c-0", Some(("publish", "p-0"))),
        made("convert", "c-1", Some(("publish", "p-0"))),
        made("publish", "p-0", None),
    ])
}

fn stage<'a>(view: &'a mut View, name: &str) -> &'a mut StageView {
    view.stages.iter_mut().find(|stage| stage.name == name).unwrap()
}

/// The only thing that is found.
fn only(view: &View) -> Finding {
    let mut found = findings(view, 0);
    assert_eq!(found.len(), 1, "{found:#?}");
    found.remove(0)
}

fn check(found: &Finding, severity: Severity, kind: FindingKind, text: &str, advice: &str) {
    assert_eq!((found.severity, found.kind), (severity, kind), "{found:?}");
    assert!(found.text.contains(text), "{found:?}");
    assert!(found.advice.contains(advice), "{found:?}");
}

fn address(address: &str, is_there: bool, problem: Option<&str>) -> AddressView {
    AddressView { address: address.into(), is_there, problem: problem.map(Into::into) }
}

#[test]
fn of_a_healthy_pipeline_nothing_is_found() {
    assert_eq!(findings(&healthy(), 0), []);
}

#[test]
fn a_broker_that_does_not_answer_is_told_with_its_text_and_since_when() {
    let mut view = healthy();
    let trouble = TroubleView { text: "no broker answers".into(), since_unix_ms: 1, for_ms: 150_000 };
    let publish = stage(&mut view, "publish");
    publish.figures.trouble = Some(trouble.clone());
    publish.instances[0].figures.trouble = Some(trouble);
    let text = "The kafka sink of `publish` has not worked for 2 min: no broker answers.";
    check(&only(&view), Severity::Problem, FindingKind::Trouble, text, "Nothing is lost meanwhile");
}

#[test]
fn a_stage_without_an_instance_is_told_with_what_waits_for_it_and_where_it_was_looked_for() {
    let mut view = healthy();
    let publish = stage(&mut view, "publish");
    publish.instances.clear();
    publish.has_place = true;
    publish.addresses = vec![address("p:7400", false, Some("nothing answers (connection refused)"))];
    let of = view.subscriptions.iter_mut().find(|of| of.to == "publish").unwrap();
    of.links.clear();
    of.waiting = 12;
    let text =
        "No instance of `publish` is there; 12 events wait for it. At p:7400: nothing answers (connection refused).";
    check(&only(&view), Severity::Problem, FindingKind::NoInstance, text, "jaiminho stage publish");
}

#[test]
fn a_stage_that_is_not_asked_and_is_linked_is_well() {
    let mut view = healthy();
    stage(&mut view, "publish").instances.clear();
    assert_eq!(findings(&view, 0), []);
}

#[test]
fn a_stage_that_is_linked_and_whose_place_leads_nowhere_is_worth_knowing() {
    let mut view = healthy();
    let publish = stage(&mut view, "publish");
    publish.instances.clear();
    publish.addresses.clear();
    publish.has_place = true;
    let text = "`publish` is not seen: its `at` leads to no address that is asked.";
    check(&only(&view), Severity::Notice, FindingKind::Unreachable, text, "the stages before it tell");
    for one in &mut view.stages {
        (one.instances, one.addresses, one.has_place) = (vec![], vec![], one.name == "publish");
    }
    view.subscriptions.iter_mut().for_each(|of| of.links.clear());
    assert_eq!(findings(&view, 0), [], "nothing above is seen either");
}

#[test]
fn an_address_that_does_not_answer_is_a_problem_and_a_stage_that_tells_nothing_is_not() {
    let mut view = healthy();
    stage(&mut view, "convert").addresses =
        vec![address("c-0:7400", true, None), address("c-9:7400", false, Some("nothing answers (timed out)"))];
    let text = "`convert` is not seen at c-9:7400: nothing answers (timed out).";
    check(
        &only(&view),
        Severity::Problem,
        FindingKind::Unreachable,
        text,
        "Is `jaiminho stage convert` running there?",
    );
    stage(&mut view, "convert").addresses[1].is_there = true;
    check(&only(&view), Severity::Notice, FindingKind::Unreachable, "not seen at c-9:7400", "stages before it");
    let many = (0..40).map(|index| address(&format!("c-{index}:7400"), false, Some("nothing answers"))).collect();
    stage(&mut view, "convert").addresses = many;
    let found = findings(&view, 0);
    assert_eq!(found.len(), 5);
    assert!(found[4].text.ends_with("So it is at 35 more addresses."), "{}", found[4].text);
}

#[test]
fn what_holds_events_and_settles_none_is_stuck() {
    let mut view = healthy();
    let instance = &mut stage(&mut view, "convert").instances[1];
    (instance.figures.in_work, instance.figures.oldest_ms, instance.quiet_ms) = (3, Some(45_000), 31_000);
    let found = only(&view);
    let text = "`c-1` of `convert` has 3 events in work, the oldest for 45 s, and has settled none for 31 s.";
    check(&found, Severity::Problem, FindingKind::Stuck, text, "See its log");
    assert_eq!(found.instance.as_deref(), Some("c-1"));
    let figures = &mut stage(&mut view, "convert").instances[1].figures;
    figures.load.blocked = 1.0;
    assert_eq!(findings(&view, 0), [], "it waits for the stage after it");
}

#[test]
fn whether_what_is_slow_is_stuck_is_not_said_before_it_was_looked_at_for_long_enough() {
    let mut view = healthy();
    let instance = &mut stage(&mut view, "convert").instances[1];
    (instance.figures.in_work, instance.figures.oldest_ms) = (3, Some(45_000));
    (instance.figures.rates.accepted, instance.figures.rates.rejected) = (Some(0.0), Some(0.0));
    for (quiet_ms, undecided) in [(0, false), (3_000, true), (29_999, true), (30_000, false)] {
        stage(&mut view, "convert").instances[1].quiet_ms = quiet_ms;
        assert_eq!((view.is_undecided(), findings(&view, 0).len()), (undecided, usize::from(quiet_ms >= 30_000)));
    }
    stage(&mut view, "convert").instances[1].quiet_ms = 3_000;
    stage(&mut view, "convert").instances[1].figures.oldest_ms = Some(20_000);
    assert!(!view.is_undecided(), "nothing is old there");
}

#[test]
fn a_log_that_is_nearly_full_is_worth_knowing_and_a_problem_where_senders_are_refused() {
    let mut view = healthy();
    view.subscriptions[0].waiting = 6_500;
    let ingest = stage(&mut view, "ingest");
    ingest.figures.logs[0].fill = 0.81;
    let text = "The log of `ingest` is 81 % full; 6500 events wait for `convert`.";
    check(&only(&view), Severity::Notice, FindingKind::LogFull, text, "as fast as the stages after it can work");
    stage(&mut view, "ingest").figures.rates.refused = Some(3.0);
    check(&only(&view), Severity::Problem, FindingKind::LogFull, text, "Senders are refused");
    stage(&mut view, "ingest").figures.logs[0].fill = 0.8;
    assert_eq!(findings(&view, 0), []);
}

#[test]
fn memory_near_its_bound_is_told() {
    let mut view = healthy();
    let instance = &mut stage(&mut view, "publish").instances[0];
    (instance.resident_bytes, instance.memory_bytes_max) = (460 << 20, Some(500 << 20));
    let text = "`p-0` of `publish` takes 460 MiB beside the program itself, 92 % of its bound of 500 MiB.";
    check(&only(&view), Severity::Problem, FindingKind::Memory, text, "jaiminho validate");
    stage(&mut view, "publish").instances[0].program_bytes = 26 << 20;
    assert_eq!(findings(&view, 0), [], "the program is no term of the bound");
    stage(&mut view, "publish").instances[0].program_bytes = 0;
    stage(&mut view, "publish").instances[0].memory_bytes_max = None;
    assert_eq!(findings(&view, 0), []);
}

#[test]
fn the_memory_of_a_process_is_told_once_for_all_its_stages() {
    let mut view = healthy();
    for instance in view.stages.iter_mut().flat_map(|stage| &mut stage.instances) {
        instance.address = "127.0.0.1:1".into();
        (instance.resident_bytes, instance.memory_bytes_max) = (460 << 20, Some(500 << 20));
    }
    let text = "The process of 4 stages at 127.0.0.1:1 takes 460 MiB";
    check(&only(&view), Severity::Problem, FindingKind::Memory, text, "jaiminho validate");
}

#[test]
fn rejections_are_told_by_reason_with_the_last_text_and_are_a_problem_as_long_as_they_are_new() {
    let mut view = healthy();
    let convert = stage(&mut view, "convert");
    convert.figures.totals.rejected_here.insert("invalid".into(), 10);
    convert.figures.totals.rejected_here.insert("malformed".into(), 2);
    convert.rejections = vec![RejectionView {
        instance: "c-0".into(),
        unix_ms: 1,
        ago_ms: 5_000,
        reason: "invalid".into(),
        text: "no unit".into(),
        event: None,
    }];
    let text = "`convert` has rejected 12 events since its start (invalid: 10, malformed: 2), the last 5 s ago: invalid: no unit.";
    check(&only(&view), Severity::Problem, FindingKind::Rejects, text, "convert.dead_letter");
    stage(&mut view, "convert").rejections[0].ago_ms += 60_000;
    assert_eq!(only(&view).severity, Severity::Notice);
}

#[test]
fn a_key_that_has_much_of_a_log_is_skewed() {
    let mut view = healthy();
    let log = &mut stage(&mut view, "ingest").figures.logs[0];
    (log.largest_key, log.fill) = (0.26, 0.5);
    let text = "One key, or few that share a partition, has 26 % of the log of `ingest`.";
    check(&only(&view), Severity::Problem, FindingKind::SkewedKeys, text, "A `key` with more values");
    stage(&mut view, "ingest").figures.logs[0].fill = 0.79;
    assert_eq!(findings(&view, 0), [], "others have as much");
}

#[test]
fn an_instance_that_gets_nearly_all_and_can_do_no_more_is_skewed() {
    let mut view = healthy();
    let instances = &mut stage(&mut view, "convert").instances;
    instances[0].figures.rates.events_in = Some(900.0);
    instances[1].figures.rates.events_in = Some(100.0);
    assert_eq!(findings(&view, 0), [], "it could do more");
    stage(&mut view, "convert").instances[0].figures.load.limit = 0.9;
    let text = "`c-0` gets 90 % of the events of `convert`, which has 2 instances, and can do no more.";
    check(&only(&view), Severity::Problem, FindingKind::SkewedKeys, text, "dispatch: demand");
}

#[test]
fn links_without_credit_whose_consumer_starves_need_a_larger_window() {
    let mut view = healthy();
    stage(&mut view, "ingest").instances[0].figures.load.blocked = 0.9;
    stage(&mut view, "convert").figures.load.starved = 0.75;
    let of = &mut view.subscriptions[0];
    of.no_credit = Some(0.8);
    (of.links[0].events, of.links[0].bytes) = (Some(1_000.0), Some(100_000.0));
    let text = "its links have no credit 80 % of the time, while it has nothing to do 75 % of it.";
    let found = only(&view);
    check(
        &found,
        Severity::Problem,
        FindingKind::SmallWindow,
        text,
        "`window: { max_demand: 16000 }` (now 2000) of stage `convert`",
    );
    view.subscriptions[0].links[0].bytes = Some(1_000_000.0);
    check(
        &only(&view),
        Severity::Problem,
        FindingKind::SmallWindow,
        text,
        "`window: { bytes: 8192KiB }` (now 1024KiB)",
    );
    stage(&mut view, "convert").figures.load.starved = 0.1;
    assert_eq!(findings(&view, 0), [], "it is slow itself");
}

#[test]
fn a_clock_that_differs_from_the_others_is_told() {
    let mut view = healthy();
    stage(&mut view, "publish").instances[0].clock_ahead_ms = -3_200;
    let text = "The clock of `p-0` of `publish` is 3 s behind the others'.";
    check(&only(&view), Severity::Problem, FindingKind::ClockSkew, text, "NTP");
    stage(&mut view, "publish").instances[0].clock_within_ms = 2_800;
    assert_eq!(findings(&view, 0), [], "its answer was so long on its way");
    for stage in &mut view.stages {
        stage.instances.iter_mut().for_each(|instance| instance.clock_ahead_ms = 9_000);
    }
    assert_eq!(findings(&view, 0), [], "it is the viewer's that differs");
}

#[test]
fn who_leaves_and_who_has_another_version_is_worth_knowing() {
    let mut view = healthy();
    stage(&mut view, "convert").instances[0].is_draining = true;
    check(&only(&view), Severity::Notice, FindingKind::Draining, "`c-0` of `convert` leaves", "drain");
    let instance = &mut stage(&mut view, "convert").instances[0];
    (instance.is_draining, instance.version, instance.commit) = (false, "2.0.0".into(), "abc".into());
    check(&only(&view), Severity::Notice, FindingKind::Versions, "2.0.0 (abc): 1", "upgrade");
}

#[test]
fn links_that_are_left_out_are_told_and_what_follows_from_none_is_not() {
    let mut view = healthy();
    stage(&mut view, "ingest").links_left_out = 3;
    let convert = stage(&mut view, "convert");
    convert.instances.clear();
    view.subscriptions.iter_mut().find(|of| of.to == "convert").unwrap().links.clear();
    let text = "The instances of `ingest` leave 3 links out of what they tell";
    check(&only(&view), Severity::Notice, FindingKind::TooMany, text, "without them");
    let drawn = crate::text::topology(&view);
    assert!(drawn.contains("http source, 1 instance, 3 links not shown"), "{drawn}");
}

#[test]
fn problems_come_first_and_more_addresses_than_are_asked_are_told() {
    let mut view = healthy();
    stage(&mut view, "ingest").figures.logs[0].fill = 0.9;
    stage(&mut view, "publish").instances[0].clock_ahead_ms = 5_000;
    let found = findings(&view, 44);
    let kinds: Vec<_> = found.iter().map(|finding| finding.kind).collect();
    assert_eq!(kinds, [FindingKind::ClockSkew, FindingKind::LogFull, FindingKind::TooMany]);
    assert!(found[2].text.starts_with("44 more addresses are not asked"), "{}", found[2].text);
}

#[test]
fn senders_that_wait_longer_than_they_were_told_are_a_problem() {
    let mut view = healthy();
    let ingest = stage(&mut view, "ingest");
    ingest.deadline_ms = Some(30_000);
    ingest.figures.oldest_ms = Some(30_000);
    assert_eq!(findings(&view, 0), []);
    stage(&mut view, "ingest").figures.oldest_ms = Some(66_000);
    let text =
        "The oldest event in `ingest` has waited for 66 s, and its senders wait 30 s: they get 504, and send it again.";
    check(&only(&view), Severity::Problem, FindingKind::Late, text, "refuses earlier, with 429");
}

#[test]
fn a_stage_that_nobody_takes_events_from_is_not_stuck() {
    let mut view = healthy();
    let convert = stage(&mut view, "convert");
    let figures = &mut convert.instances[0].figures;
    (figures.in_work, figures.oldest_ms) = (17, Some(60_000));
    convert.instances[0].quiet_ms = 60_000;
    check(&only(&view), Severity::Problem, FindingKind::Stuck, "has 17 events in work", "See its log");
    let of = view.subscriptions.iter_mut().find(|of| of.from == "convert").unwrap();
    (of.waiting, of.links) = (17, vec![]);
    assert!(findings(&view, 0).iter().all(|found| found.kind != FindingKind::Stuck));
}
