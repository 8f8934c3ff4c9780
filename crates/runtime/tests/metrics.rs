//! What a stage tells in metrics: counts are exact, what is gone is told no more, and the limiting stage is named.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the failure")]

mod support;

use std::time::Duration;

use jaiminho_core::{Credit, Delivery, Disposition, Outcome, Reason, Settled, ToConsumer, ToProducer};
use jaiminho_runtime::{Emitted, Outside, Rate, Role, Serve as _, Verdict, spawn};
use jaiminho_telemetry::Metrics;
use smallvec::smallvec;
use support::{
    Collect, Local, accepted, event, flood, log, offer, pipeline, published, rated,
    scripted::{deliveries, linked, soon, wanted},
    stage,
};

/// The value of one series; none: there is no such series.
fn value(metrics: &Metrics, series: &str) -> Option<f64> {
    let text = metrics.render();
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

/// Stages tell metrics four times a second.
async fn told() {
    tokio::time::sleep(Duration::from_millis(600)).await;
}

#[tokio::test(start_paused = true)]
async fn counters_are_exact_to_the_event() {
    let metrics = Metrics::default();
    let _recorder = metrics::set_default_local_recorder(&metrics);
    let convert = Box::new(|event: &jaiminho_core::Event| match &event.payload[..] {
        b"1" | b"2" => Ok(Verdict::Reject { reason: Reason::Invalid, text: "odd".into() }),
        b"3" => Ok(Verdict::Emit(smallvec![])),
        other => Ok(Verdict::Emit(smallvec![Emitted::main(other.into()); 2])),
    });
    let (source, _rest, _) = pipeline(convert, &Collect::new(|_| accepted()));
    published(&source, (0..10).map(|number| event(number, Some(u64::from(number)))).collect()).await;
    told().await;
    for (series, right) in [
        ("jaiminho_admission_total{stage=\"in\",decision=\"taken\"}", 1.0),
        ("jaiminho_admission_total{stage=\"in\",decision=\"log_full\"}", 0.0),
        ("jaiminho_events_in_total{stage=\"in\"}", 10.0),
        ("jaiminho_events_in_total{stage=\"mid\"}", 10.0),
        ("jaiminho_events_in_total{stage=\"out\"}", 14.0),
        ("jaiminho_events_in_total{stage=\"dead\"}", 2.0),
        ("jaiminho_events_in_bytes_total{stage=\"out\"}", 14.0),
        ("jaiminho_settled_total{stage=\"in\",outcome=\"accepted\"}", 8.0),
        ("jaiminho_settled_total{stage=\"in\",outcome=\"rejected\"}", 2.0),
        ("jaiminho_rejected_total{stage=\"mid\",reason=\"invalid\"}", 2.0),
        ("jaiminho_deliveries_total{stage=\"in\",output=\"in\",group=\"mid\"}", 10.0),
        ("jaiminho_delivered_bytes_total{stage=\"mid\",output=\"mid\",group=\"out\"}", 14.0),
        ("jaiminho_deliveries_total{stage=\"mid\",output=\"mid.dead_letter\",group=\"dead\"}", 2.0),
        ("jaiminho_redeliveries_total{stage=\"in\",output=\"in\",group=\"mid\"}", 0.0),
        ("jaiminho_released_total{stage=\"in\",output=\"in\",group=\"mid\"}", 0.0),
        ("jaiminho_released_total{stage=\"mid\",output=\"mid\",group=\"out\"}", 0.0),
        ("jaiminho_group_members{stage=\"in\",output=\"in\",group=\"mid\"}", 1.0),
        ("jaiminho_log_events{stage=\"in\",output=\"in\"}", 0.0),
        ("jaiminho_log_capacity_events{stage=\"mid\",output=\"mid\"}", 200.0),
        ("jaiminho_link_sent_events_total{stage=\"mid\",output=\"mid\",group=\"out\",peer=\"out-0\"}", 14.0),
        ("jaiminho_link_received_events_total{stage=\"out\",output=\"mid\",peer=\"mid-0\"}", 14.0),
        ("jaiminho_link_window_events{stage=\"in\",output=\"in\",group=\"mid\",peer=\"mid-0\"}", 100.0),
        ("jaiminho_link_ups_total{stage=\"mid\",side=\"consumer\"}", 2.0),
        ("jaiminho_link_ups_total{stage=\"mid\",side=\"producer\"}", 1.0),
        ("jaiminho_settle_seconds_count{stage=\"in\"}", 10.0),
        ("jaiminho_end_to_end_seconds_count{stage=\"out\"}", 14.0),
        ("jaiminho_batch_events_sum{stage=\"out\"}", 14.0),
        ("jaiminho_frame_events_sum{stage=\"in\"}", 10.0),
    ] {
        assert_eq!(value(&metrics, series), Some(right), "{series}");
    }
    let link = "{stage=\"in\",output=\"in\",group=\"mid\",peer=\"mid-0\"}";
    let of = |name: &str| value(&metrics, &format!("jaiminho_link_{name}{link}")).unwrap();
    let unused = of("credit_granted_events_total") - of("sent_events_total");
    assert_eq!(unused, of("credit_unused_events"));
}

#[tokio::test(start_paused = true)]
async fn what_a_link_or_a_stage_has_counted_since_the_last_tick_is_told_at_its_end() {
    let metrics = Metrics::default();
    let _recorder = metrics::set_default_local_recorder(&metrics);
    let local = Local::default();
    let source = spawn(stage("in", vec![log("in", &["out"])], &[], &local, Role::Source(Box::new(Outside))));
    local.put("in", &source);
    let mut half = linked(&source, wanted("out", "out-1")).await;
    told().await;
    let pending = source.source().offer(offer((0..3).map(|number| event(number, None)).collect())).await.unwrap();
    assert_eq!(deliveries(&mut half).await.len(), 3);
    drop(half);
    told().await;
    let link = "{stage=\"in\",output=\"in\",group=\"out\",peer=\"out-1\"}";
    assert_eq!(value(&metrics, &format!("jaiminho_link_sent_events_total{link}")), Some(3.0));
    let waited = value(&metrics, &format!("jaiminho_link_no_events_seconds_total{link}")).unwrap();
    assert!(waited > 0.5, "{waited}");

    let sink = Collect::new(|_| accepted());
    let out = spawn(stage("out", vec![], &["in"], &local, Role::Sink(Box::new(sink.clone()), sink.settler.clone())));
    soon(pending.answers()).await;
    told().await;
    published(&source, vec![event(3, None), event(4, None)]).await;
    source.drain(Duration::from_secs(1)).await;
    out.drain(Duration::from_secs(1)).await;
    for (series, right) in [
        ("jaiminho_settle_seconds_count{stage=\"in\"}", 5.0),
        ("jaiminho_settle_seconds_count{stage=\"out\"}", 5.0),
        ("jaiminho_end_to_end_seconds_count{stage=\"out\"}", 5.0),
        ("jaiminho_link_sent_events_total{stage=\"in\",output=\"in\",group=\"out\",peer=\"out-0\"}", 5.0),
        ("jaiminho_link_received_events_total{stage=\"out\",output=\"in\",peer=\"in-0\"}", 5.0),
    ] {
        assert_eq!(value(&metrics, series), Some(right), "{series}");
    }
}

#[tokio::test(start_paused = true)]
async fn deliveries_are_what_is_settled_and_what_came_back() {
    let metrics = Metrics::default();
    let _recorder = metrics::set_default_local_recorder(&metrics);
    let local = Local::default();
    let source = spawn(stage("in", vec![log("in", &["out"])], &[], &local, Role::Source(Box::new(Outside))));
    local.put("in", &source);
    let counts = || {
        ["deliveries", "redeliveries", "released"].map(|name| {
            value(&metrics, &format!("jaiminho_{name}_total{{stage=\"in\",output=\"in\",group=\"out\"}}")).unwrap()
        })
    };
    let mut half = linked(&source, wanted("out", "out-1")).await;
    let pending = source.source().offer(offer((0..5).map(|number| event(number, Some(1))).collect())).await.unwrap();
    assert_eq!(deliveries(&mut half).await.len(), 5);
    let (first, last) = (1, 2);
    let accepted_two = Disposition { first, last, state: Settled::Outcome(Outcome::Accepted) };
    half.to_producer.send(ToProducer::Dispositions(vec![accepted_two])).await.unwrap();
    told().await;
    assert_eq!(counts(), [5.0, 0.0, 0.0]);

    let mut other = linked(&source, wanted("out", "out-2")).await;
    drop(half);
    assert_eq!(deliveries(&mut other).await.len(), 3);
    told().await;
    assert_eq!(counts(), [8.0, 3.0, 3.0]);
    drop(other);

    let sink = Collect::new(|_| accepted());
    let _out = spawn(stage("out", vec![], &["in"], &local, Role::Sink(Box::new(sink.clone()), sink.settler.clone())));
    soon(pending.answers()).await;
    told().await;
    assert_eq!(counts(), [11.0, 6.0, 6.0]);
    assert_eq!(value(&metrics, "jaiminho_settled_total{stage=\"in\",outcome=\"accepted\"}"), Some(5.0));
}

#[tokio::test(start_paused = true)]
async fn what_a_revoked_member_gives_back_is_counted_as_released() {
    let metrics = Metrics::default();
    let _recorder = metrics::set_default_local_recorder(&metrics);
    let source = spawn(stage("in", vec![log("in", &["out"])], &[], &Local::default(), Role::Source(Box::new(Outside))));
    let mut half = linked(&source, wanted("out", "out-1")).await;
    // Of ten partitions some move.
    let events = (0..10).map(|number| event(number, Some(u64::from(number)))).collect();
    let _pending = source.source().offer(offer(events)).await.unwrap();
    let sent = deliveries(&mut half).await;
    let mut other = source.subscribe(wanted("out", "out-2")).await.unwrap();
    let partitions = loop {
        match soon(half.from_producer.recv()).await {
            Some(Ok(ToConsumer::Revoke { partitions })) => break partitions,
            Some(Ok(ToConsumer::Events { .. } | ToConsumer::Ended { .. })) => {}
            gone @ (None | Some(Err(_))) => panic!("{gone:?}"),
        }
    };
    let is_revoked = |delivery: &&Delivery| partitions.contains(&delivery.event.key.unwrap().partition());
    let released: Vec<u64> = sent.iter().filter(is_revoked).map(|delivery| delivery.number).collect();
    assert!(!released.is_empty());
    let back = released.iter().map(|&number| Disposition { first: number, last: number, state: Settled::Released });
    half.to_producer.send(ToProducer::Dispositions(back.collect())).await.unwrap();
    other.to_producer.send(ToProducer::Credit(Credit { events: 10, bytes: 1_000 })).await.unwrap();
    assert_eq!(deliveries(&mut other).await.len(), released.len());
    told().await;
    let count = |name: &str| {
        value(&metrics, &format!("jaiminho_{name}_total{{stage=\"in\",output=\"in\",group=\"out\"}}")).unwrap()
    };
    assert_eq!((count("released"), count("deliveries")), (released.len() as f64, 10.0 + released.len() as f64));
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_counted_by_cause() {
    let metrics = Metrics::default();
    let _recorder = metrics::set_default_local_recorder(&metrics);
    let source = spawn(stage("in", vec![log("in", &["mid"])], &[], &Local::default(), Role::Source(Box::new(Outside))));
    let mut pending = Vec::new();
    for part in 0..5 {
        let events = (0..250).map(|number| event(250 * part + number, None)).collect();
        pending.push(source.source().offer(offer(events)).await);
    }
    let too_many = (0..2_000).map(|number| event(number + 10_000, None)).collect();
    pending.push(source.source().offer(offer(too_many)).await);
    told().await;
    for (decision, right) in [("taken", 4.0), ("log_full", 1.0), ("never_fits", 1.0), ("draining", 0.0)] {
        let series = format!("jaiminho_admission_total{{stage=\"in\",decision=\"{decision}\"}}");
        assert_eq!(value(&metrics, &series), Some(right), "{decision}");
    }
}

#[tokio::test(start_paused = true)]
async fn series_of_a_link_go_with_it_and_how_it_ended_stays() {
    let metrics = Metrics::default();
    let _recorder = metrics::set_default_local_recorder(&metrics);
    let local = Local::default();
    let source = spawn(stage("in", vec![log("in", &["out"])], &[], &local, Role::Source(Box::new(Outside))));
    local.put("in", &source);
    let before = metrics.render().lines().count();
    for _ in 0..20 {
        let sink = Collect::new(|_| accepted());
        let out =
            spawn(stage("out", vec![], &["in"], &local, Role::Sink(Box::new(sink.clone()), sink.settler.clone())));
        told().await;
        published(&source, vec![event(1, None)]).await;
        told().await;
        assert!(metrics.render().contains("peer=\"out-0\""));
        out.drain(Duration::from_secs(1)).await;
        told().await;
        metrics.upkeep();
        assert!(!metrics.render().contains("peer="), "{}", metrics.render());
    }
    let downs = value(&metrics, "jaiminho_link_downs_total{stage=\"in\",side=\"consumer\",reason=\"cancelled\"}");
    assert_eq!(downs, Some(20.0), "{}", metrics.render());
    assert_eq!(value(&metrics, "jaiminho_link_ups_total{stage=\"in\",side=\"consumer\"}"), Some(20.0));
    assert_eq!(value(&metrics, "jaiminho_deliveries_total{stage=\"in\",output=\"in\",group=\"out\"}"), Some(20.0));
    let after = metrics.render().lines().count();
    assert!(after < before + 250, "{before} lines have become {after}");
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_that_is_slow_at_each_stage_in_turn_names_that_stage() {
    let metrics = Metrics::default();
    let _recorder = metrics::set_default_local_recorder(&metrics);
    let (mid, out) = (Rate::default(), Rate::default());
    let [source, _middle, _last] = rated(&mid, &out);
    let limits = || {
        ["in", "mid", "out"].map(|stage| {
            let series = format!("jaiminho_stage_limit_ratio{{stage=\"{stage}\"}}");
            value(&metrics, &series).unwrap() > 0.8
        })
    };
    let state = |stage: &str| {
        let of = |state: &&&str| {
            value(&metrics, &format!("jaiminho_stage_state{{stage=\"{stage}\",state=\"{state}\"}}")) == Some(1.0)
        };
        ["blocked", "limit", "starved"].iter().filter(of).copied().collect::<Vec<_>>()
    };
    mid.set(Some(40.0));
    flood(&source, 0, Duration::from_secs(20)).await;
    assert_eq!(limits(), [false, true, false]);
    assert_eq!(["in", "mid", "out"].map(state), [["blocked"], ["limit"], ["starved"]]);
    mid.set(None);
    out.set(Some(40.0));
    flood(&source, 100_000, Duration::from_secs(40)).await;
    assert_eq!(limits(), [false, false, true]);
    assert_eq!(["in", "mid", "out"].map(state), [["blocked"], ["blocked"], ["limit"]]);
    out.set(None);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(limits(), [false, false, false], "there is nothing to do: the source is the limit");
    let spent = ["blocked", "limit", "starved"].map(|state| {
        value(&metrics, &format!("jaiminho_stage_seconds_total{{stage=\"mid\",state=\"{state}\"}}")).unwrap()
    });
    assert!((spent.iter().sum::<f64>() - 90.0).abs() < 1.0, "{spent:?}");
}
