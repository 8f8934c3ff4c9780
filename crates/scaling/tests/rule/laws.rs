use std::time::Duration;

use jaiminho_scaling::{Options, Scaling, Sight, Why};
use proptest::prelude::*;

fn sights() -> impl Strategy<Value = Sight> {
    let counts = (0_u32..50, 0_u64..200, 0_u64..1_000_000, 0_u64..1_000);
    let shares =
        (0.0..=1.0_f64, 0.0..=1.0_f64, proptest::option::of(0.0..=1.0_f64), proptest::option::of(0.0..=1.2_f64));
    let rate = proptest::option::of(prop_oneof![Just(0.0), 0.0..1e6_f64]);
    (counts, shares, rate, any::<bool>()).prop_map(|(counts, shares, rate, is_source)| {
        let (instances, seconds, waiting, in_work) = counts;
        let (blocked, limit, unused_credit, saturation) = shares;
        let limit = limit * (1.0 - blocked);
        let youngest = Duration::from_secs(seconds);
        Sight { instances, youngest, is_source, rate, blocked, limit, waiting, in_work, unused_credit, saturation }
    })
}

/// Sights that a decision can follow from at once.
fn clear_sights() -> impl Strategy<Value = Sight> {
    let clear = |sight: Sight| Sight {
        instances: sight.instances.max(1),
        youngest: Duration::from_secs(600),
        is_source: false,
        rate: Some(sight.rate.unwrap_or(500.0).max(1.0)),
        blocked: 0.0,
        ..sight
    };
    sights().prop_map(clear)
}

fn first(sight: &Sight) -> u32 {
    Scaling::new(Options::default()).decide(Duration::ZERO, sight).needed
}

proptest! {
    #[test]
    fn it_never_asks_for_none_of_some_nor_for_more_than_it_may_grow(history in prop::collection::vec((sights(), 1_u64..20), 1..60)) {
        let mut scaling = Scaling::new(Options::default());
        let (mut now, mut most) = (0, 1);
        for (sight, seconds) in history {
            now += seconds;
            let decision = scaling.decide(Duration::from_secs(now), &sight);
            most = most.max(2 * sight.instances).max(sight.instances + 1);
            prop_assert_eq!(decision.current, sight.instances);
            prop_assert!(decision.needed <= most, "{:?}: {} of {}", sight, decision.needed, most);
            prop_assert!(decision.needed >= 1 || sight.instances == 0, "{:?}", sight);
            prop_assert!(!decision.why.to_string().is_empty());
        }
    }

    #[test]
    fn the_busier_it_is_and_the_more_waits_the_more_it_needs(sight in clear_sights(), limit in 0.0..=1.0_f64, waiting in 0_u64..1_000_000) {
        let more = Sight { limit: sight.limit.max(limit), waiting: sight.waiting.max(waiting), ..sight };
        prop_assert!(first(&more) >= first(&sight));
        let larger = Sight { instances: sight.instances + 1, ..sight };
        prop_assert!(first(&larger) >= first(&sight));
    }

    #[test]
    fn at_first_sight_it_never_goes_down_and_only_a_busy_stage_goes_up(sight in sights()) {
        let needed = first(&sight);
        prop_assert!(needed >= sight.instances);
        let decision = Scaling::new(Options::default()).decide(Duration::ZERO, &sight);
        if needed > sight.instances {
            let is_up = matches!(decision.why, Why::Busy { busy, target, .. } if busy > target);
            prop_assert!(is_up || matches!(decision.why, Why::Missed { .. }), "{decision:?}");
        }
    }

    #[test]
    fn blocked_or_starved_it_never_goes_up(mut sights in prop::collection::vec(sights(), 1..40), is_blocked in any::<bool>()) {
        let mut scaling = Scaling::new(Options::default());
        let instances = sights[0].instances.max(1);
        for (second, sight) in (0..).zip(&mut sights) {
            (sight.instances, sight.is_source, sight.limit, sight.saturation) = (instances, false, 0.0, None);
            sight.blocked = if is_blocked { 0.61 + 0.39 * sight.blocked } else { 0.0 };
            let needed = scaling.decide(Duration::from_secs(second), sight).needed;
            prop_assert!(needed <= instances, "{sight:?}: {needed}");
        }
    }

    #[test]
    fn the_same_looks_lead_to_the_same_decisions(history in prop::collection::vec(sights(), 1..30)) {
        let run = || {
            let mut scaling = Scaling::new(Options::default());
            (0..).zip(&history).map(|(second, sight)| scaling.decide(Duration::from_secs(second), sight)).collect::<Vec<_>>()
        };
        prop_assert_eq!(run(), run());
    }

    #[test]
    fn one_that_knows_nothing_yet_begins_with_what_there_is(sight in clear_sights(), limit in 0.0..0.59_f64) {
        let sight = Sight { limit, saturation: None, ..sight };
        prop_assert_eq!(first(&sight), sight.instances);
    }
}
