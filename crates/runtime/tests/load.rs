//! What a stage tells of itself: where its time goes, what its links lacked, counts, latencies, rejections.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the failure")]

mod support;

use std::time::Duration;

use jaiminho_core::Reason;
use jaiminho_runtime::{Emitted, Inspection, Load, Outside, REJECTIONS_MAX, Rate, Role, StageHandle, Verdict, spawn};
use smallvec::smallvec;
use support::{Collect, Local, accepted, copy, event, flood, log, offer, pipeline, published, rated, stage};

async fn inspected(stages: &[StageHandle; 3]) -> [Box<Inspection>; 3] {
    let [source, middle, out] = stages;
    [source.inspect().await.unwrap(), middle.inspect().await.unwrap(), out.inspect().await.unwrap()]
}

/// Which of blocked, limit and starved each was most of the last ten seconds.
async fn states(stages: &[StageHandle; 3]) -> [&'static str; 3] {
    inspected(stages).await.map(|seen| *seen).map(
        |Inspection { stage, load: Load { recent: [blocked, limit, starved], .. }, .. }| match [blocked, limit, starved]
            .map(|share| share > 0.9)
        {
            [true, _, _] => "blocked",
            [_, true, _] => "limit",
            [_, _, true] => "starved",
            [false, false, false] => panic!("{stage}: {blocked} {limit} {starved}"),
        },
    )
}

#[tokio::test(start_paused = true)]
async fn a_slow_transform_is_the_limit_blocks_who_is_before_it_and_starves_who_is_after_it() {
    let stages = rated(&Rate::new(Some(40.0)), &Rate::default());
    flood(&stages[0], 0, Duration::from_secs(20)).await;
    assert_eq!(states(&stages).await, ["blocked", "limit", "starved"]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_sink_is_the_limit_and_blocks_all_before_it() {
    let stages = rated(&Rate::default(), &Rate::new(Some(40.0)));
    flood(&stages[0], 0, Duration::from_secs(30)).await;
    assert_eq!(states(&stages).await, ["blocked", "blocked", "limit"]);
}

#[tokio::test(start_paused = true)]
async fn where_little_comes_all_are_starved() {
    let stages = rated(&Rate::default(), &Rate::default());
    for number in 0..20 {
        published(&stages[0], vec![event(number, None)]).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(states(&stages).await, ["starved", "starved", "starved"]);
}

#[tokio::test(start_paused = true)]
async fn one_event_that_a_sink_does_not_finish_makes_it_the_limit() {
    let sink = Collect::new(|_| None);
    let (source, rest, _) = pipeline(copy(), &sink);
    let _pending = source.source().offer(offer(vec![event(1, None)])).await.unwrap();
    tokio::time::sleep(Duration::from_secs(15)).await;
    let out = rest[1].inspect().await.unwrap();
    assert!(out.load.recent[1] > 0.9, "{:?}", out.load);
    assert!(out.oldest.unwrap() > Duration::from_secs(14), "{:?}", out.oldest);
}

#[tokio::test(start_paused = true)]
async fn a_stage_without_consumers_is_blocked_once_events_wait() {
    let local = Local::default();
    let source = spawn(stage("in", vec![log("in", &["mid"])], &[], &local, Role::Source(Box::new(Outside))));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(source.inspect().await.unwrap().load.blocked.is_zero(), "nothing waits");
    let _pending = source.source().offer(offer(vec![event(1, None)])).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let Load { blocked, starved, .. } = source.inspect().await.unwrap().load;
    assert_eq!((blocked.as_secs(), starved.as_secs()), (5, 5));
}

#[tokio::test(start_paused = true)]
async fn a_link_is_without_credit_or_without_events_all_its_life() {
    let stages = rated(&Rate::new(Some(40.0)), &Rate::default());
    tokio::time::sleep(Duration::from_secs(10)).await;
    flood(&stages[0], 0, Duration::from_secs(10)).await;
    let [source, middle, _] = inspected(&stages).await;
    let [link] = &source.outputs[0].groups[0].links[..] else { panic!("{source:?}") };
    let sum = link.no_credit + link.no_events;
    assert!(sum <= source.up && source.up - sum < Duration::from_millis(100), "{sum:?} of {:?}", source.up);
    assert!(link.no_events >= Duration::from_secs(10), "{link:?}");
    assert!(link.no_credit >= Duration::from_secs(9), "{link:?}");
    let [ahead] = &middle.outputs[0].groups[0].links[..] else { panic!("{middle:?}") };
    assert!(ahead.no_credit < Duration::from_millis(100), "{ahead:?}");
}

#[tokio::test(start_paused = true)]
async fn counts_are_exact_and_the_last_rejections_are_kept() {
    let convert = Box::new(|event: &jaiminho_core::Event| match &event.payload[..] {
        b"1" | b"2" => Ok(Verdict::Reject { reason: Reason::Invalid, text: "odd".into() }),
        b"3" => Ok(Verdict::Emit(smallvec![])),
        other => Ok(Verdict::Emit(smallvec![Emitted::main(other.into()); 2])),
    });
    let sink = Collect::new(|_| accepted());
    let (source, rest, _) = pipeline(convert, &sink);
    published(&source, (0..10).map(|number| event(number, Some(u64::from(number)))).collect()).await;
    let [source, middle, out] = inspected(&[source, rest[0].clone(), rest[1].clone()]).await;
    let counts = |seen: &Inspection| (seen.counts.events_in, seen.counts.bytes_in, seen.counts.accepted);
    assert_eq!([counts(&source), counts(&middle), counts(&out)], [(10, 10, 8), (10, 10, 8), (14, 14, 14)]);
    assert_eq!((middle.counts.rejected, middle.counts.rejected_here), (2, [0, 2, 0, 0, 0]));
    assert_eq!((source.counts.rejected, source.counts.rejected_here), (2, [0; 5]), "not rejected here");
    let told = middle.rejections.iter().map(|seen| (seen.text.as_str(), seen.event.as_deref().unwrap().to_vec()));
    assert_eq!(told.collect::<Vec<_>>(), [("odd", b"1".to_vec()), ("odd", b"2".to_vec())]);
    let group = &middle.outputs[0].groups[0];
    assert_eq!((group.deliveries, group.bytes, group.redeliveries, group.waiting), (14, 14, 0, 0));
    assert_eq!(source.settle.counts.iter().sum::<u64>(), 10, "one an event");
    assert_eq!(out.end_to_end.counts.iter().sum::<u64>(), 14, "one a result");
}

#[tokio::test(start_paused = true)]
async fn only_the_last_rejections_are_kept() {
    let convert = Box::new(|_: &_| Ok(Verdict::Reject { reason: Reason::Invalid, text: "no".into() }));
    let (source, rest, _) = pipeline(convert, &Collect::new(|_| accepted()));
    published(&source, (0..30).map(|number| event(number, None)).collect()).await;
    let seen = rest[0].inspect().await.unwrap().rejections;
    let payloads: Vec<_> = seen.iter().filter_map(|seen| seen.event.as_deref()).collect();
    assert_eq!((seen.len(), payloads.last().copied()), (REJECTIONS_MAX, Some(&b"29"[..])));
}
