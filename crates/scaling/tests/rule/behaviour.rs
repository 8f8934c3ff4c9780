use std::time::Duration;

use jaiminho_scaling::{Decision, Options, Scaling, Sight, Why};

/// Two old instances, half as busy as is aimed at.
pub(crate) fn calm() -> Sight {
    Sight {
        instances: 2,
        youngest: Duration::from_secs(3_600),
        rate: Some(1_000.0),
        limit: 0.3,
        in_work: 40,
        unused_credit: Some(0.3),
        ..Sight::default()
    }
}

pub(crate) fn busy() -> Sight {
    Sight { limit: 0.95, waiting: 900, unused_credit: Some(0.0), ..calm() }
}

/// The last of so many looks, a second apart, from this second on.
pub(crate) fn look(scaling: &mut Scaling, seconds: std::ops::Range<u64>, sight: &Sight) -> Decision {
    seconds.map(|second| scaling.decide(Duration::from_secs(second), sight)).last().expect("a look")
}

fn first(sight: &Sight) -> Decision {
    Scaling::new(Options::default()).decide(Duration::ZERO, sight)
}

#[test]
fn a_busy_stage_gets_as_many_as_bring_it_to_the_target_and_drain_what_waits() {
    let decision = first(&Sight { waiting: 0, ..busy() });
    assert_eq!((decision.current, decision.needed), (2, 4), "2 × 0.95 / 0.6");
    assert_eq!(decision.why.to_string(), "it is 95 % busy (target 60 %); at the target an instance does 316 events/s");
    let few = Sight { instances: 20, limit: 0.63, waiting: 0, ..busy() };
    assert_eq!(first(&few).needed, 21);
    // 47.6 events/s an instance at the target: 15 000 events within 30 s are 500 a second.
    assert_eq!(first(&Sight { waiting: 15_000, ..few }).needed, 32);
}

#[test]
fn what_waits_and_grows_asks_for_more_and_what_shrinks_for_less() {
    let needed = |slope: i64| {
        let mut scaling = Scaling::new(Options { growth: 10.0, ..Options::default() });
        let at = |second: i64| Sight { instances: 10, waiting: (20_000 + slope * second) as u64, ..busy() };
        let whys = (0..20).map(|second| scaling.decide(Duration::from_secs(second as u64), &at(second)).why);
        let Some(Why::Busy { wanted, .. }) = whys.last() else { panic!("not busy") };
        wanted
    };
    assert!(needed(500) > needed(0) && needed(0) > needed(-500), "{} {} {}", needed(500), needed(0), needed(-500));
}

#[test]
fn no_decision_multiplies_by_more_than_the_growth() {
    assert_eq!(first(&Sight { waiting: 10_000_000, ..busy() }).needed, 4);
    let options = Options { growth: 3.0, ..Options::default() };
    let needed = Scaling::new(options).decide(Duration::ZERO, &Sight { waiting: 10_000_000, ..busy() }).needed;
    assert_eq!(needed, 6);
}

#[test]
fn it_keeps_what_it_has_while_more_would_not_help_or_nothing_is_known() {
    for (sight, why, text) in [
        (Sight { blocked: 0.8, limit: 0.2, ..busy() }, Why::Blocked { share: 0.8 }, "holds it up for 80 % of the time"),
        (Sight { blocked: 1.0, limit: 0.0, ..busy() }, Why::Blocked { share: 1.0 }, "holds it up for 100 %"),
        (Sight { rate: None, ..busy() }, Why::New, "not known yet"),
        (Sight { rate: Some(0.0), ..busy() }, Why::Stuck, "nothing goes through"),
        (Sight { is_source: true, ..busy() }, Why::Untold, "does not tell how full it is"),
    ] {
        let decision = first(&sight);
        assert_eq!((decision.needed, decision.why), (2, why));
        assert!(decision.why.to_string().contains(text), "{}", decision.why);
        // For an hour, too; nor are there fewer.
        assert_eq!(look(&mut Scaling::new(Options::default()), 0..3_600, &sight).needed, 2);
    }
}

#[test]
fn a_starved_stage_is_not_scaled_up_whatever_waits() {
    let sight = Sight { limit: 0.0, waiting: 100_000, unused_credit: Some(1.0), ..calm() };
    assert_eq!(look(&mut Scaling::new(Options::default()), 0..600, &sight).needed, 2);
}

#[test]
fn what_was_asked_for_holds_while_it_starts() {
    let mut scaling = Scaling::new(Options::default());
    assert_eq!(look(&mut scaling, 0..5, &busy()).needed, 4);
    let third = Sight { instances: 3, youngest: Duration::from_secs(1), ..busy() };
    assert_eq!(look(&mut scaling, 5..30, &third).needed, 4);
}

#[test]
fn an_instance_that_starts_is_waited_for_and_one_that_does_so_again_and_again_is_not() {
    let mut scaling = Scaling::new(Options::default());
    let young = Sight { youngest: Duration::from_secs(12), ..busy() };
    let decision = look(&mut scaling, 0..30, &young);
    assert_eq!((decision.needed, decision.why), (2, Why::Starting { seconds: 12 }));
    assert!(decision.why.to_string().contains("started 12 s ago"), "{}", decision.why);
    assert_eq!(look(&mut scaling, 30..31, &young).needed, 4);
    // One more than there were is waited for anew.
    let more = Sight { instances: 3, ..young };
    assert!(matches!(look(&mut scaling, 31..61, &more).why, Why::Starting { .. }));
    let decision = look(&mut scaling, 61..62, &more);
    assert!(!matches!(decision.why, Why::Starting { .. }), "{decision:?}");
}

#[test]
fn fewer_must_have_been_enough_for_a_while_and_the_most_of_them_counts() {
    let mut scaling = Scaling::new(Options::default());
    let four = Sight { instances: 4, limit: 0.55, ..calm() };
    look(&mut scaling, 0..100, &four);
    // 250 events/s an instance are known to be easy.
    let low = |rate: f64| Sight { rate: Some(rate), limit: 0.05, unused_credit: Some(0.6), ..four };
    let decision = look(&mut scaling, 100..150, &low(500.0));
    assert_eq!(decision.needed, 4, "{decision:?}");
    assert!(matches!(decision.why, Why::Low { wanted: 3, .. }), "{decision:?}");
    let decision = look(&mut scaling, 150..215, &low(150.0));
    assert_eq!(decision.needed, 3, "{decision:?}");
    let decision = look(&mut scaling, 215..300, &low(150.0));
    assert_eq!(decision.needed, 1, "{decision:?}");
    assert_eq!(decision.why.to_string(), "it is 5 % busy, with 38 events/s an instance: fewer would do");
}

#[test]
fn one_busy_look_begins_the_wait_anew() {
    let mut scaling = Scaling::new(Options::default());
    let low = Sight { instances: 4, limit: 0.0, rate: Some(0.0), in_work: 0, ..calm() };
    assert_eq!(look(&mut scaling, 0..50, &low).needed, 4);
    assert!(look(&mut scaling, 50..51, &Sight { instances: 4, ..busy() }).needed > 4);
    assert!(look(&mut scaling, 51..100, &low).needed > 4);
}

#[test]
fn what_is_not_seen_for_a_while_does_not_count_as_low() {
    let mut scaling = Scaling::new(Options::default());
    let low = Sight { instances: 4, limit: 0.0, rate: Some(0.0), in_work: 0, ..calm() };
    assert_eq!(look(&mut scaling, 0..30, &low).needed, 4);
    assert_eq!(look(&mut scaling, 300..330, &low).needed, 4);
    assert_eq!(look(&mut scaling, 330..362, &low).needed, 1);
}

#[test]
fn a_stage_that_was_full_is_not_made_so_small_that_it_would_be_so_again() {
    let mut scaling = Scaling::new(Options::default());
    // 500 events/s an instance at most; so wide that with 330 it is never full.
    assert_eq!(look(&mut scaling, 0..100, &Sight { instances: 2, ..busy() }).needed, 4);
    let three = Sight { instances: 3, limit: 0.0, rate: Some(990.0), unused_credit: Some(0.6), ..calm() };
    for hour in 1..24 {
        assert_eq!(look(&mut scaling, hour * 3_600..hour * 3_600 + 600, &three).needed, 3, "hour {hour}");
    }
}

#[test]
fn more_that_bring_nothing_are_not_followed_by_more_until_one_is_tried() {
    let mut scaling = Scaling::new(Options::default());
    assert_eq!(look(&mut scaling, 0..60, &busy()).needed, 4);
    let four = Sight { instances: 4, ..busy() };
    let decision = look(&mut scaling, 60..600, &four);
    assert_eq!((decision.needed, decision.why), (4, Why::Vain { before: 2, now: 4, tries: false }));
    assert_eq!(decision.why.to_string(), "it is busy, but 4 instances do no more than 2 did: it keeps what it has");
    assert_eq!(look(&mut scaling, 600..1_200, &four).needed, 5);
    let five = Sight { instances: 5, ..busy() };
    assert_eq!(look(&mut scaling, 1_200..1_250, &five).needed, 5);
    // It does more now: that helps, and goes on.
    let better = Sight { rate: Some(1_300.0), ..five };
    assert!(look(&mut scaling, 1_250..1_300, &better).needed >= 8);
}

/// Four do what two did, and every fifth look is a calm one.
fn flickering(second: u64) -> Sight {
    if second.is_multiple_of(5) { Sight { instances: 4, ..calm() } } else { Sight { instances: 4, ..busy() } }
}

#[test]
fn a_calm_look_is_no_proof_that_more_instances_helped() {
    let mut scaling = Scaling::new(Options::default());
    assert_eq!(look(&mut scaling, 0..60, &busy()).needed, 4);
    for second in 60..650 {
        assert_eq!(scaling.decide(Duration::from_secs(second), &flickering(second)).needed, 4, "second {second}");
    }
    let needed = (650..1_200).map(|second| scaling.decide(Duration::from_secs(second), &flickering(second)).needed);
    assert_eq!(needed.max(), Some(5));
}

#[test]
fn a_calm_time_in_which_it_does_as_much_or_an_hour_ends_what_was_in_vain() {
    for (calm_s, rate, needed) in [(200, 1_000.0, 4), (400, 1_000.0, 7), (400, 600.0, 4), (3_700, 600.0, 7)] {
        let mut scaling = Scaling::new(Options::default());
        look(&mut scaling, 0..60, &busy());
        let calm = Sight { instances: 4, rate: Some(rate), ..calm() };
        look(&mut scaling, 60..60 + calm_s, &calm);
        let busy = Sight { instances: 4, waiting: 0, ..busy() };
        let decision = look(&mut scaling, 60 + calm_s..62 + calm_s, &busy);
        assert_eq!(decision.needed, needed, "{calm_s} s at {rate}: {decision:?}");
    }
}

#[test]
fn fewer_that_do_more_than_was_ever_tried_get_more_at_once() {
    let mut scaling = Scaling::new(Options::default());
    look(&mut scaling, 0..60, &busy());
    // Tries in vain, up to six.
    for (from, instances) in [(60, 4), (700, 5), (1_400, 6)] {
        look(&mut scaling, from..from + 630, &Sight { instances, ..busy() });
    }
    look(&mut scaling, 2_100..2_500, &Sight { instances: 4, rate: Some(300.0), ..calm() });
    let decision = look(&mut scaling, 2_500..2_530, &Sight { instances: 4, rate: Some(4_000.0), ..busy() });
    assert!(decision.needed >= 7, "{decision:?}");
}

#[test]
fn a_burst_is_no_calm_time_in_which_it_does_as_much() {
    let mut scaling = Scaling::new(Options::default());
    look(&mut scaling, 0..60, &busy());
    look(&mut scaling, 60..460, &Sight { instances: 4, rate: Some(800.0), ..calm() });
    // The rate is up before it shows in how busy the stage is.
    look(&mut scaling, 460..470, &Sight { instances: 4, rate: Some(1_000.0), ..calm() });
    assert_eq!(look(&mut scaling, 470..500, &Sight { instances: 4, ..busy() }).needed, 4);
}

#[test]
fn a_source_that_fills_up_again_after_a_calm_time_gets_more() {
    let full = Sight { is_source: true, saturation: Some(0.9), ..calm() };
    let mut scaling = Scaling::new(Options::default());
    assert_eq!(look(&mut scaling, 0..60, &full).needed, 3);
    look(&mut scaling, 60..240, &Sight { instances: 3, saturation: Some(0.5), ..full });
    // Quiet connections: no more events than before.
    assert!(look(&mut scaling, 240..300, &Sight { instances: 3, ..full }).needed > 3);
}

#[test]
fn more_than_a_tenth_are_tried_less_and_less_often_and_chance_is_no_gain() {
    let mut scaling = Scaling::new(Options::default());
    look(&mut scaling, 0..60, &Sight { instances: 10, ..busy() });
    let (mut instances, mut told) = (20, vec![]);
    for second in 60..6_000 {
        let rate = 1_000.0 * (1.0 + 0.05 * (second as f64 / 10.0).sin());
        let sight = Sight { instances, rate: Some(rate), ..busy() };
        let decision = scaling.decide(Duration::from_secs(second), &sight);
        if decision.needed > instances {
            let text = format!("{} more are tried", decision.needed - instances);
            assert!(decision.why.to_string().ends_with(&text), "{}", decision.why);
            told.push((second / 60, decision.needed));
            instances = decision.needed;
        }
    }
    assert_eq!(told, [(10, 23), (20, 26), (40, 29), (80, 32)]);
}

#[test]
fn without_an_instance_one_is_needed_once_something_waits() {
    let none = Sight { instances: 0, rate: None, ..Sight::default() };
    assert_eq!((first(&none).needed, none.is_active()), (0, false));
    let missed = Sight { waiting: 3, ..none };
    assert_eq!((first(&missed).needed, missed.is_active()), (1, true));
    assert_eq!(first(&missed).why.to_string(), "it has no instance, and 3 events wait for it");
}

#[test]
fn a_source_is_scaled_by_how_full_it_is_and_is_always_active() {
    let source = Sight { is_source: true, limit: 0.0, in_work: 0, rate: Some(0.0), ..calm() };
    assert!(source.is_active());
    let full = Sight { saturation: Some(0.9), rate: Some(2_000.0), ..source };
    assert_eq!(first(&full).needed, 3);
    let mut scaling = Scaling::new(Options::default());
    assert_eq!(look(&mut scaling, 0..10, &full).needed, 3);
    let held = Sight { instances: 3, rate: Some(3_000.0), blocked: 0.1, ..full };
    assert_eq!(look(&mut scaling, 10..600, &held).needed, 3, "what is below it may be why");
    let options = Options { events_per_instance: Some(1_200.0), ..Options::default() };
    let given = Sight { rate: Some(2_000.0), ..source };
    assert_eq!(Scaling::new(options).decide(Duration::ZERO, &given).needed, 3);
    let larger = Sight { saturation: Some(0.95), ..given };
    assert_eq!(Scaling::new(options).decide(Duration::ZERO, &larger).needed, 4, "the larger one counts");
}

#[test]
fn the_passing_slowness_of_a_broker_is_not_believed_for_ever() {
    let mut scaling = Scaling::new(Options::default());
    let fast = Sight { instances: 4, rate: Some(2_000.0), ..calm() };
    look(&mut scaling, 0..300, &fast);
    let slow = Sight { instances: 8, rate: Some(2_000.0), ..busy() };
    look(&mut scaling, 300..600, &slow);
    let over = Sight { instances: 14, limit: 0.0, waiting: 0, unused_credit: Some(0.6), rate: Some(2_000.0), ..calm() };
    assert_eq!(look(&mut scaling, 600..1_100, &over).needed, 14);
    let needed = (2..12).map(|hour: u64| look(&mut scaling, hour * 3_600..hour * 3_600 + 900, &over).needed).last();
    assert!(needed < Some(8), "{needed:?}");
}
