//! Stages in one process, linked by their own handles: settlement, order, retries, drain.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the failure")]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use jaiminho_core::{Event, LinkError, Outcome, Reason, Rejection, Subscribe};
use jaiminho_runtime::{
    Address, Answer, Connect, DeadLetter, DeadLetterSpec, Emitted, Failure, LinkHalf, Outside, Pending, Receipt,
    Refusal, Role, Source, SourceError, SourceHandle, StageEnd, StageHandle, Transform, Verdict, spawn,
};
use smallvec::smallvec;
use support::{Always, Collect, Convert, Local, accepted, copy, event, log, offer, pipeline, published, stage};

/// With a lane for each thread: keys differ in the half of their hash that chooses it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_body_is_answered_when_the_sink_has_settled_all_of_it() {
    let sink = Collect::new(|_| accepted());
    let (source, rest, _) = pipeline(copy(), &sink);
    let answers = published(&source, (0..250).map(|n| event(n, Some(u64::from(n % 7) << 32))).collect()).await;
    assert_eq!(answers, vec![Answer::Settled(Outcome::Accepted); 250]);
    assert_eq!(sink.payloads().len(), 250);
    for key in 0..7 {
        let of_key: Vec<u32> = sink
            .payloads()
            .iter()
            .filter_map(|payload| std::str::from_utf8(payload).ok()?.parse::<u32>().ok())
            .filter(|n| n % 7 == key)
            .collect();
        assert!(of_key.is_sorted(), "key {key} out of order: {of_key:?}");
    }
    for stage in [vec![source], rest].concat() {
        assert_eq!(stage.drain(Duration::from_secs(5)).await, StageEnd::Drained { unsettled: 0 });
    }
}

#[tokio::test]
async fn a_rejection_is_stored_as_a_dead_letter_and_reaches_the_client() {
    let convert: Box<Convert> = Box::new(|event| {
        if *event.payload == *b"1" {
            return Ok(Verdict::Reject { reason: Reason::Invalid, text: "odd".into() });
        }
        Ok(Verdict::Emit(smallvec![Emitted::main(event.payload.clone())]))
    });
    let sink = Collect::new(|_| accepted());
    let (source, _rest, dead) = pipeline(convert, &sink);
    let answers = published(&source, vec![event(0, None), event(1, None)]).await;
    assert_eq!(answers[0], Answer::Settled(Outcome::Accepted));
    let Answer::Settled(Outcome::Rejected(rejection)) = &answers[1] else { panic!("{answers:?}") };
    assert_eq!((rejection.reason, rejection.text.as_str(), rejection.stored), (Reason::Invalid, "odd", true));
    assert_eq!(dead.payloads(), [Bytes::from("dead b\"1\" odd")]);
}

#[tokio::test]
async fn a_handler_that_panics_or_fails_is_tried_again_then_rejected_as_exhausted() {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let convert: Box<Convert> = Box::new(|event| {
        if *event.payload == *b"0" && CALLS.fetch_add(1, Ordering::SeqCst) < 2 {
            return Err(Failure { text: "not yet".into() });
        }
        assert_ne!(&*event.payload, b"1", "poison");
        Ok(Verdict::Emit(smallvec![Emitted::main(event.payload.clone())]))
    });
    let sink = Collect::new(|_| accepted());
    let (source, _rest, dead) = pipeline(convert, &sink);
    let answers = published(&source, vec![event(0, Some(1)), event(1, Some(1)), event(2, Some(1))]).await;
    let Answer::Settled(Outcome::Rejected(rejection)) = &answers[1] else { panic!("{answers:?}") };
    assert_eq!(rejection.reason, Reason::Exhausted);
    assert_eq!((&answers[0], &answers[2]), (&Answer::Settled(Outcome::Accepted), &Answer::Settled(Outcome::Accepted)));
    assert_eq!(sink.payloads(), [Bytes::from("0"), Bytes::from("2")]);
    assert_eq!(dead.payloads().len(), 1);
}

#[tokio::test]
async fn a_filtered_event_is_done_and_one_with_many_results_is_done_with_the_last() {
    let convert: Box<Convert> = Box::new(|event| match &event.payload[..] {
        b"0" => Ok(Verdict::Emit(smallvec![])),
        _ => Ok(Verdict::Emit(smallvec![Emitted::main(b"a"[..].into()), Emitted::main(b"b"[..].into())])),
    });
    let sink = Collect::new(|_| accepted());
    let (source, _rest, _) = pipeline(convert, &sink);
    let answers = published(&source, vec![event(0, None), event(1, None)]).await;
    assert_eq!(answers, vec![Answer::Settled(Outcome::Accepted); 2]);
    assert_eq!(sink.payloads().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn n15_a_stalled_sink_fills_the_log_and_then_the_edge_refuses() {
    let sink = Collect::new(|_| None);
    let (source, _rest, _) = pipeline(copy(), &sink);
    let mut pending = Vec::new();
    let refusal = loop {
        let number = pending.len() as u32;
        assert!(number < 4_000, "nothing pushes back");
        match source.source().offer(offer(vec![event(number, Some(u64::from(number)))])).await {
            Ok(taken) => pending.push(taken),
            Err(refusal) => break refusal,
        }
        tokio::time::sleep(Duration::from_micros(100)).await;
    };
    let Refusal::Overloaded { retry_after, .. } = refusal else { panic!("{refusal:?}") };
    assert!(retry_after >= Duration::from_secs(1) && retry_after <= Duration::from_secs(15));
    let last = pending.pop().unwrap();
    assert_eq!(last.answers().await, [Answer::Withdrawn], "never sent to anybody: withdrawn at its deadline");
    let first = pending.remove(0);
    assert_eq!(first.answers().await, [Answer::Unknown], "under way at its deadline");
}

#[tokio::test]
async fn a_retry_joins_its_unsettled_original() {
    let sink = Collect::new(|_| None);
    let (source, _rest, _) = pipeline(copy(), &sink);
    let first = source.source().offer(offer(vec![event(7, Some(1))])).await.unwrap();
    let second = source.source().offer(offer(vec![event(7, Some(1))])).await.unwrap();
    while sink.payloads().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    sink.settler.settle(Receipt::for_test(0), Outcome::Accepted);
    assert_eq!(first.answers().await, [Answer::Settled(Outcome::Accepted)]);
    assert_eq!(second.answers().await, [Answer::Settled(Outcome::Accepted)]);
    assert_eq!(sink.payloads().len(), 1, "one copy of the event");
}

#[tokio::test]
async fn a_drain_ends_at_its_deadline_when_downstream_is_dead() {
    let local = Local::default();
    let source = spawn(stage("in", vec![log("in", &["mid"])], &[], &local, Role::Source(Box::new(Outside))));
    let _pending = source.source().offer(offer(vec![event(0, None)])).await.unwrap();
    assert_eq!(source.drain(Duration::from_millis(600)).await, StageEnd::Drained { unsettled: 1 });
}

#[tokio::test]
async fn a_sink_that_panics_gets_all_it_had_not_settled_again_in_order() {
    let sink = Collect::new(|event| {
        static TRIES: AtomicU32 = AtomicU32::new(0);
        assert!(*event.payload != *b"1" || TRIES.fetch_add(1, Ordering::SeqCst) > 0, "first try");
        accepted()
    });
    let (source, _rest, _) = pipeline(copy(), &sink);
    let answers = published(&source, (0..3).map(|n| event(n, Some(1))).collect()).await;
    assert_eq!(answers, vec![Answer::Settled(Outcome::Accepted); 3]);
}

#[tokio::test]
async fn an_event_at_which_a_sink_always_panics_is_rejected_and_all_others_are_delivered() {
    static PANICS: AtomicU32 = AtomicU32::new(0);
    let sink = Collect::new(|event| {
        if *event.payload == *b"7" || *event.payload == *b"40" {
            PANICS.fetch_add(1, Ordering::SeqCst);
            panic!("poison");
        }
        accepted()
    });
    let (source, _rest, _) = pipeline(copy(), &sink);
    let answers = published(&source, (0..60).map(|n| event(n, Some(u64::from(n % 3)))).collect()).await;
    for (number, answer) in answers.iter().enumerate() {
        match answer {
            Answer::Settled(Outcome::Accepted) => assert!(number != 7 && number != 40),
            Answer::Settled(Outcome::Rejected(rejection)) => {
                assert_eq!(rejection.reason, Reason::Exhausted);
                assert!(number == 7 || number == 40, "{number} is innocent");
            }
            Answer::Withdrawn | Answer::Unknown => panic!("{number}: {answer:?}"),
        }
    }
    let panics = PANICS.load(Ordering::SeqCst);
    assert!((10..=14).contains(&panics), "five times alone each, and a few times among others: {panics}");
    let after = published(&source, vec![event(100, None)]).await;
    assert_eq!(after, [Answer::Settled(Outcome::Accepted)]);
}

fn limited(event_bytes_max: u64, sink: &Collect, dead_letters: bool) -> (StageHandle, Vec<StageHandle>, Collect) {
    let local = Local::default();
    let mut config = stage("in", vec![log("in", &["out"])], &[], &local, Role::Source(Box::new(Outside)));
    if dead_letters {
        let make: DeadLetter =
            Arc::new(|event, rejection| format!("{} {}", event.size(), rejection.text).into_bytes().into());
        config.dead_letter = Some(DeadLetterSpec { output: log("in.dead_letter", &["dead"]), make });
    }
    let source = spawn(config);
    local.put("in", &source);
    let mut config = stage("out", vec![], &["in"], &local, Role::Sink(Box::new(sink.clone()), sink.settler.clone()));
    config.limits.event_bytes_max = event_bytes_max;
    let out = spawn(config);
    let dead = Collect::new(|_| accepted());
    let role = Role::Sink(Box::new(dead.clone()), dead.settler.clone());
    let from: &[&str] = if dead_letters { &["in.dead_letter"] } else { &[] };
    (source, vec![out, spawn(stage("dead", vec![], from, &local, role))], dead)
}

#[tokio::test]
async fn an_event_above_its_groups_limit_is_stored_as_the_producers_dead_letter() {
    let sink = Collect::new(|_| accepted());
    let (source, _rest, dead) = limited(3, &sink, true);
    let answers = published(&source, vec![event(1, Some(1)), event(20_000, Some(1)), event(2, Some(1))]).await;
    let Answer::Settled(Outcome::Rejected(rejection)) = &answers[1] else { panic!("{answers:?}") };
    assert_eq!((rejection.reason, rejection.stored), (Reason::TooLarge, true));
    assert_eq!(dead.payloads(), [Bytes::from("5 event of 5 bytes; group out takes at most 3")]);
    assert_eq!(sink.payloads(), [Bytes::from("1"), Bytes::from("2")]);
}

#[tokio::test]
async fn a_source_without_dead_letters_answers_for_an_event_above_its_groups_limit() {
    let sink = Collect::new(|_| accepted());
    let (source, _rest, _) = limited(3, &sink, false);
    let answers = published(&source, vec![event(20_000, None)]).await;
    let Answer::Settled(Outcome::Rejected(rejection)) = &answers[0] else { panic!("{answers:?}") };
    assert_eq!((rejection.reason, rejection.stored), (Reason::TooLarge, false));
}

#[tokio::test]
async fn what_a_source_rejects_itself_is_a_dead_letter_and_else_gone() {
    for has_dead_letters in [true, false] {
        let sink = Collect::new(|_| accepted());
        let (source, _rest, dead) = limited(1_000, &sink, has_dead_letters);
        let rejection = Rejection::new(Reason::Malformed, "no event");
        let pending = source.source().reject(event(1, None), rejection.clone()).await.unwrap();
        let answers = tokio::time::timeout(Duration::from_secs(10), pending.answers()).await.unwrap();
        let outcome = Outcome::Rejected(Box::new(Rejection { stored: has_dead_letters, ..rejection }));
        assert_eq!(answers, [Answer::Settled(outcome)]);
        assert_eq!(dead.payloads().len(), usize::from(has_dead_letters));
        assert!(sink.payloads().is_empty());
        let drained = tokio::time::timeout(Duration::from_secs(10), source.drain(Duration::from_secs(9))).await;
        assert_eq!(drained, Ok(StageEnd::Drained { unsettled: 0 }));
    }
}

#[tokio::test]
async fn a_dead_letter_that_is_itself_too_large_is_final() {
    let local = Local::default();
    let mut config = stage("in", vec![log("in", &["out"])], &[], &local, Role::Source(Box::new(Outside)));
    let make: DeadLetter = Arc::new(|event, _| vec![b'x'; event.payload.len() * 2].into());
    config.dead_letter = Some(DeadLetterSpec { output: log("in.dead_letter", &["out"]), make });
    let source = spawn(config);
    local.put("in", &source);
    let sink = Collect::new(|_| accepted());
    let role = Role::Sink(Box::new(sink.clone()), sink.settler.clone());
    let mut config = stage("out", vec![], &["in", "in.dead_letter"], &local, role);
    config.limits.event_bytes_max = 3;
    let _out = spawn(config);
    let answers = published(&source, vec![event(20_000, None)]).await;
    let Answer::Settled(Outcome::Rejected(rejection)) = &answers[0] else { panic!("{answers:?}") };
    assert_eq!((rejection.reason, rejection.stored), (Reason::TooLarge, false));
    assert_eq!(sink.payloads(), Vec::<Bytes>::new());
}

fn room_for_five(output: &str) -> DeadLetterSpec {
    let mut letters = log(output, &["dead"]);
    letters.config.capacity_events = 5;
    DeadLetterSpec { output: letters, make: Arc::new(|event, _| event.payload.clone()) }
}

/// Starts who takes the dead letters: all events are then answered as rejected and stored. How many dead letters there were.
async fn stored(local: &Local, output: &str, pending: Pending) -> usize {
    let dead = Collect::new(|_| accepted());
    let role = Role::Sink(Box::new(dead.clone()), dead.settler.clone());
    let _dead = spawn(stage("dead", vec![], &[output], local, role));
    let answers = tokio::time::timeout(Duration::from_secs(10), pending.answers()).await.unwrap();
    let stored = |answer: &Answer| matches!(answer, Answer::Settled(Outcome::Rejected(rejection)) if rejection.stored);
    assert!(answers.iter().all(stored));
    dead.payloads().len()
}

#[tokio::test]
async fn what_a_sink_rejects_waits_for_room_among_the_dead_letters() {
    let local = Local::default();
    let source = spawn(stage("in", vec![log("in", &["out"])], &[], &local, Role::Source(Box::new(Outside))));
    local.put("in", &source);
    let no = || Outcome::Rejected(Box::new(Rejection { reason: Reason::Invalid, text: "no".into(), stored: false }));
    let sink = Collect::new(move |_| Some(no()));
    let role = Role::Sink(Box::new(sink.clone()), sink.settler.clone());
    let mut config = stage("out", vec![], &["in"], &local, role);
    config.dead_letter = Some(room_for_five("out.dead_letter"));
    let out = spawn(config);
    local.put("out", &out);
    let pending = source.source().offer(offer((0..300).map(|n| event(n, None)).collect())).await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), async {
        while sink.payloads().len() < 100 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    let status = out.status().await.unwrap();
    assert_eq!(status.logs[0].1, 5, "the dead letters keep to their log");
    assert_eq!(
        (sink.payloads().len(), status.inputs),
        (100, 100),
        "the rest of the window waits, and no credit came back"
    );
    assert_eq!(stored(&local, "out.dead_letter", pending).await, 300);
}

#[tokio::test]
async fn what_a_log_rejects_waits_for_room_among_the_dead_letters() {
    let local = Local::default();
    let mut config = stage("in", vec![log("in", &["out", "all"])], &[], &local, Role::Source(Box::new(Outside)));
    config.dead_letter = Some(room_for_five("in.dead_letter"));
    let source = spawn(config);
    local.put("in", &source);
    let sink = Collect::new(|_| accepted());
    let role = Role::Sink(Box::new(sink.clone()), sink.settler.clone());
    let mut config = stage("out", vec![], &["in"], &local, role);
    config.limits.event_bytes_max = 3;
    let _out = spawn(config);
    let pending = source.source().offer(offer((1_000..1_100).map(|n| event(n, None)).collect())).await.unwrap();
    // It takes them all, after they were rejected for the other.
    let all = Collect::new(|_| accepted());
    let role = Role::Sink(Box::new(all.clone()), all.settler.clone());
    let _all = spawn(stage("all", vec![], &["in"], &local, role));
    let dead_letters = async || source.status().await.unwrap().logs[1].1;
    tokio::time::timeout(Duration::from_secs(5), async {
        while dead_letters().await < 5 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(dead_letters().await, 5, "the dead letters keep to their log");
    assert_eq!(stored(&local, "in.dead_letter", pending).await, 100);
}

/// Counts how many of its calls are in flight.
#[derive(Default)]
struct Busy {
    now: AtomicU32,
    most: Arc<AtomicU32>,
}

impl Transform for Busy {
    fn process<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<Verdict, Failure>> {
        Box::pin(async move {
            self.most.fetch_max(self.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(1)).await;
            self.now.fetch_sub(1, Ordering::SeqCst);
            Ok(Verdict::Emit(smallvec![Emitted::main(event.payload.clone())]))
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_more_calls_of_a_transform_are_in_flight_than_its_concurrency() {
    let local = Local::default();
    let source = spawn(stage("in", vec![log("in", &["mid"])], &[], &local, Role::Source(Box::new(Outside))));
    local.put("in", &source);
    let busy = Busy::default();
    let most = busy.most.clone();
    let mut config = stage("mid", vec![log("mid", &["out"])], &["in"], &local, Role::Transform(Arc::new(busy)));
    config.limits.concurrency = 2;
    local.put("mid", &spawn(config));
    let sink = Collect::new(|_| accepted());
    let _out = spawn(stage("out", vec![], &["mid"], &local, Role::Sink(Box::new(sink.clone()), sink.settler.clone())));
    let answers = published(&source, (0..200).map(|n| event(n, None)).collect()).await;
    assert_eq!(answers, vec![Answer::Settled(Outcome::Accepted); 200]);
    assert_eq!(most.load(Ordering::SeqCst), 2);
}

/// Counts how often it connects.
struct Counted(Local, Arc<AtomicU32>);

impl Connect for Counted {
    fn connect<'a>(&'a self, address: &'a Address, subscribe: Subscribe) -> BoxFuture<'a, Result<LinkHalf, LinkError>> {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.connect(address, subscribe)
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_address_of_a_producer_is_left_alone_while_the_link_through_the_first_one_lives() {
    let local = Local::default();
    let source = spawn(stage("in", vec![log("in", &["out"])], &[], &local, Role::Source(Box::new(Outside))));
    local.put("in", &source);
    local.put("also-in", &source);
    let sink = Collect::new(|_| accepted());
    let mut config = stage("out", vec![], &["in"], &local, Role::Sink(Box::new(sink.clone()), sink.settler.clone()));
    let connects = Arc::new(AtomicU32::new(0));
    config.upstreams[0].discover = Box::new(Always(["in", "also-in"].map(|name| Address(name.into())).into(), true));
    config.upstreams[0].connect = Arc::new(Counted(local, connects.clone()));
    let _out = spawn(config);
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(connects.load(Ordering::SeqCst), 2, "the second replaced the first, and that was all");
    assert_eq!(source.status().await.unwrap().links_in, 1);
}

/// Offers one event, and has no more.
struct One;

impl Source for One {
    fn run(self: Box<Self>, handle: SourceHandle) -> BoxFuture<'static, Result<(), SourceError>> {
        Box::pin(async move {
            let pending = handle.offer(offer(vec![event(1, None)])).await;
            pending.map(|_| ()).map_err(|refusal| SourceError(refusal.to_string()))
        })
    }
}

#[tokio::test]
async fn a_source_that_comes_to_its_end_ends_its_stage_when_all_is_settled() {
    let local = Local::default();
    let source = spawn(stage("in", vec![log("in", &["out"])], &[], &local, Role::Source(Box::new(One))));
    local.put("in", &source);
    let early = tokio::time::timeout(Duration::from_millis(50), source.ended()).await;
    assert!(early.is_err() && !source.is_draining(), "its event is not settled");
    let sink = Collect::new(|_| accepted());
    let _out = spawn(stage("out", vec![], &["in"], &local, Role::Sink(Box::new(sink.clone()), sink.settler.clone())));
    let end = tokio::time::timeout(Duration::from_secs(10), source.ended()).await.unwrap();
    assert_eq!((end, sink.payloads().len()), (StageEnd::Drained { unsettled: 0 }, 1));
}

/// Offers one event, and panics.
struct Poor;

impl Source for Poor {
    fn run(self: Box<Self>, handle: SourceHandle) -> BoxFuture<'static, Result<(), SourceError>> {
        Box::pin(async move {
            let _pending = handle.offer(offer(vec![event(1, None)])).await;
            panic!("on purpose")
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_stage_whose_source_panics_finishes_what_it_had_taken_within_its_drain_and_has_failed() {
    for (drain_ms, link_after_ms, unsettled) in [(5_000, 2_000, 0), (1_000, 2_000, 1)] {
        let local = Local::default();
        let mut config = stage("in", vec![log("in", &["out"])], &[], &local, Role::Source(Box::new(Poor)));
        config.limits.drain = Duration::from_millis(drain_ms);
        let source = spawn(config);
        local.put("in", &source);
        tokio::time::sleep(Duration::from_millis(link_after_ms)).await;
        assert!(source.is_draining());
        let refused = source.source().offer(offer(vec![event(2, None)])).await;
        assert_eq!(refused.err(), Some(Refusal::Draining), "it takes nothing new");
        let sink = Collect::new(|_| accepted());
        let settler = sink.settler.clone();
        let _out = spawn(stage("out", vec![], &["in"], &local, Role::Sink(Box::new(sink.clone()), settler)));
        let StageEnd::Failed(text) = source.ended().await else { panic!("it has failed") };
        assert!(text.contains(&format!("{unsettled} unsettled: the source panicked")), "{text}");
        assert_eq!(sink.payloads().len(), 1 - unsettled);
    }
}
