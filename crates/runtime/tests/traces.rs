//! The spans of sampled events, of real stages in one process.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the failure")]

mod support;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::BoxFuture;
use jaiminho_core::{Event, Outcome, Reason, Rejection, Trace};
use jaiminho_runtime::{
    Answer, Batching, Call as Called, DeadLetterSpec, Emitted, Failure, Handler, Kind, NewEvent, Offer, OutputSpec,
    Outside, Receipt, Role, SPANS_OPEN_MAX, Settler, Sink, StageConfig, StageHandle, StageLimits, Transform, Turn,
    Verdict, spawn,
};
use jaiminho_telemetry::traces::{NOTICED_PER_SECOND, Recorded, SpanKind, TraceContext, Tracer};
use smallvec::smallvec;
use support::{
    Call, Collect, Local, accepted, event, log, offer, published,
    scripted::{deliveries, linked, soon, wanted},
    spans::{Spans, attribute, attributes, context, lasts, sampled, traced},
    stage,
};

const MS: u64 = 1_000_000;

/// Passes events on, each after this time.
struct Slow(Duration);

impl Transform for Slow {
    fn process<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<Verdict, Failure>> {
        Box::pin(async {
            tokio::time::sleep(self.0).await;
            Ok(Verdict::Emit(smallvec![Emitted::main(event.payload.clone())]))
        })
    }
}

/// Settles each event after this time.
struct Late(Duration, Settler);

impl Sink for Late {
    fn send<'a>(&'a mut self, events: &'a mut Vec<(Receipt, Event)>) -> BoxFuture<'a, ()> {
        let (settler, after) = (self.1.clone(), self.0);
        let receipts: Vec<Receipt> = events.drain(..).map(|(receipt, _)| receipt).collect();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            settler.settle_all(receipts.into_iter().map(|receipt| (receipt, Outcome::Accepted)));
        });
        Box::pin(async {})
    }

    fn drain(&mut self, _: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

fn late(after: Duration) -> Role {
    let settler = Settler::default();
    Role::Sink(Box::new(Late(after, settler.clone())), settler)
}

fn collect(sink: &Collect) -> Role {
    Role::Sink(Box::new(sink.clone()), sink.settler.clone())
}

/// Stages that are linked to each other, and what they record.
struct Traced {
    local: Local,
    tracer: Tracer,
    recorded: Recorded,
}

impl Traced {
    fn new() -> Self {
        let (tracer, recorded) = Tracer::new(100_000);
        Self { local: Local::default(), tracer, recorded }
    }

    fn config(&self, name: &str, outputs: Vec<OutputSpec>, from: &[&str], role: Role) -> StageConfig {
        traced(stage(name, outputs, from, &self.local, role), &self.tracer)
    }

    fn spawn(&self, name: &str, groups: &[&str], from: &[&str], role: Role) -> StageHandle {
        let outputs = if groups.is_empty() { vec![] } else { vec![log(name, groups)] };
        self.start(self.config(name, outputs, from, role))
    }

    fn start(&self, config: StageConfig) -> StageHandle {
        let name = config.stage.clone();
        let handle = spawn(config);
        self.local.put(&name, &handle);
        handle
    }

    fn source(&self, groups: &[&str]) -> StageHandle {
        self.spawn("in", groups, &[], Role::Source(Box::new(Outside)))
    }

    fn spans(&mut self, of: &TraceContext) -> Spans {
        Spans::all(&mut self.recorded).of(of)
    }
}

const WAITS: [&str; 6] = ["wait log", "wait credit", "wire", "queue", "convert", "wait room"];

#[tokio::test]
async fn an_event_has_one_trace_through_all_stages_whose_parts_add_up() {
    let mut stages = Traced::new();
    let source = stages.source(&["mid"]);
    let _mid = stages.spawn("mid", &["out"], &["in"], Role::Transform(Arc::new(Slow(Duration::from_millis(20)))));
    let _out = stages.spawn("out", &[], &["mid"], late(Duration::from_millis(30)));
    let (one, client) = sampled(1, None);
    published(&source, vec![one]).await;
    let spans = stages.spans(&client);

    let create = spans.one("create in");
    assert_eq!((create.parent, &create.kind), (Some(client.span), &SpanKind::Producer));
    let send = spans.one("send mid");
    assert_eq!((send.parent, &send.kind), (Some(create.context.span), &SpanKind::Producer));
    let process = spans.one("process mid");
    assert_eq!((process.parent, &process.kind), (Some(send.context.span), &SpanKind::Consumer));
    let mut below = spans.names_below(process);
    // On a busy machine a result waits for the stage's task.
    below.retain(|name| *name != "wait room");
    assert_eq!(below, ["wire", "queue", "convert", "send out"]);
    let last = spans.one("process out");
    assert_eq!(last.parent, Some(spans.one("send out").context.span));
    assert_eq!(spans.names_below(last), ["wire", "queue"]);

    let names = ["messaging.system", "messaging.operation.name", "messaging.operation.type"];
    assert_eq!(attributes(send, names), ["jaiminho", "send", "send"]);
    let names = ["messaging.destination.name", "messaging.consumer.group.name", "jaiminho.stage", "jaiminho.peer"];
    assert_eq!(attributes(send, names), ["in", "mid", "in", "mid-0"]);
    assert_eq!(attributes(process, names), ["in", "", "mid", "in-0"]);
    for span in [create, send, process, last] {
        assert_eq!(attributes(span, ["jaiminho.attempt", "jaiminho.outcome"]), ["1", "accepted"]);
        assert_eq!(span.error, None);
    }
    assert!(lasts(spans.one("convert")) >= 20 * MS);
    let in_sink = last.end - spans.part(last, "queue").end;
    assert!(in_sink >= 30 * MS);
    let (parts, all) = (spans.sum(&WAITS) + in_sink, last.end - create.start);
    assert!(parts <= all && all - parts < MS.max(all / 20), "{parts} of {all}: {spans:#?}");
}

#[tokio::test]
async fn what_an_event_waited_for_the_stage_to_take_it_is_told_beside_its_create_or_without_one_where_it_joins() {
    let mut stages = Traced::new();
    let source = stages.source(&["out"]);
    let (since, mut clients) = (stages.tracer.now() - 20 * MS, Vec::new());
    for _ in 0..2 {
        let (mut one, client) = sampled(1, None);
        one.trace.as_mut().unwrap().since = since;
        clients.push((source.source().offer(offer(vec![one])).await.unwrap(), client));
    }
    let _out = stages.spawn("out", &[], &["in"], late(Duration::ZERO));
    let [(first, client), (second, joined)] = <[_; 2]>::try_from(clients).unwrap();
    assert_eq!(soon(first.answers()).await, [Answer::Settled(Outcome::Accepted)]);
    assert_eq!(soon(second.answers()).await, [Answer::Settled(Outcome::Accepted)]);
    let all = Spans::all(&mut stages.recorded);
    let spans = all.of(&client);
    let (wait, create) = (spans.one("wait room"), spans.one("create in"));
    assert_eq!((wait.parent, wait.start, wait.end), (create.parent, since, create.start));
    let spans = all.of(&joined);
    assert_eq!((spans.names(), spans.0[0].parent, spans.0[0].start), (vec!["wait room"], Some(joined.span), since));
}

#[tokio::test]
async fn what_waited_for_credit_says_for_whose_and_what_waited_for_a_member_says_so() {
    let mut stages = Traced::new();
    let source = stages.source(&["mid"]);
    let (mut events, mut traces) = (Vec::new(), Vec::new());
    for number in 0..3 {
        let (event, trace) = sampled(number, Some(1));
        events.push(event);
        traces.push(trace);
    }
    let pending = source.source().offer(offer(events)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(60)).await;
    let slow = Role::Transform(Arc::new(Slow(Duration::from_millis(30))));
    let mut config = stages.config("mid", vec![log("mid", &["out"])], &["in"], slow);
    config.upstreams[0].window.events = 1;
    let _mid = stages.start(config);
    let _out = stages.spawn("out", &[], &["mid"], late(Duration::ZERO));
    pending.answers().await;
    let all = Spans::all(&mut stages.recorded);
    for trace in &traces {
        let spans = all.of(trace);
        let send = spans.one("send mid");
        assert!(lasts(spans.part(send, "wait log")) >= 60 * MS, "before the link: {spans:#?}");
    }
    let spans = all.of(&traces[2]);
    let (send, credit) = (spans.one("send mid"), spans.one("wait credit"));
    assert!(lasts(credit) >= 55 * MS, "two others of 30 ms went first: {spans:#?}");
    assert_eq!(attribute(credit, "jaiminho.peer").unwrap(), "mid-0");
    let wire = spans.part(spans.one("process mid"), "wire");
    let parts = lasts(spans.part(send, "wait log")) + lasts(credit);
    assert!((wire.start - send.start) - parts < MS, "contiguous, up to when it was sent: {spans:#?}");
}

#[tokio::test]
async fn each_group_of_a_fan_out_has_a_delivery_below_the_one_event() {
    let mut stages = Traced::new();
    let source = stages.source(&["a", "b"]);
    for name in ["a", "b"] {
        stages.spawn(name, &[], &["in"], late(Duration::from_millis(2)));
    }
    let (one, client) = sampled(1, None);
    published(&source, vec![one]).await;
    let spans = stages.spans(&client);
    let mut names: Vec<&str> =
        spans.names_below(spans.one("create in")).into_iter().filter(|name| name.starts_with("send")).collect();
    names.sort_unstable();
    assert_eq!(names, ["send a", "send b"]);
    for name in ["a", "b"] {
        assert_eq!(spans.one(&format!("process {name}")).parent, Some(spans.one(&format!("send {name}")).context.span));
    }
}

#[tokio::test]
async fn what_a_lost_link_had_comes_again_as_another_attempt() {
    let mut stages = Traced::new();
    let source = stages.source(&["out"]);
    let mut half = linked(&source, wanted("out", "out-1")).await;
    let (one, client) = sampled(1, None);
    let pending = source.source().offer(offer(vec![one])).await.unwrap();
    let got = deliveries(&mut half).await.remove(0).event;
    assert!(got.trace.as_ref().unwrap().since > 0 && context(&got).trace == client.trace);
    drop(half);
    tokio::time::sleep(Duration::from_millis(20)).await;
    let alone = stages.tracer.now();
    let _out = stages.spawn("out", &[], &["in"], late(Duration::ZERO));
    assert_eq!(soon(pending.answers()).await, [Answer::Settled(Outcome::Accepted)]);
    let spans = stages.spans(&client);
    let sends = spans.named("send out");
    let names = ["jaiminho.attempt", "jaiminho.outcome", "jaiminho.peer", "error.type"];
    assert_eq!(attributes(sends[0], names), ["1", "released", "out-1", "link_lost"]);
    assert_eq!(sends[0].context.span, context(&got).span);
    assert_eq!(sends[0].error.as_deref(), Some("the consumer is gone"));
    assert_eq!(attributes(sends[1], names), ["2", "accepted", "out-0", ""]);
    assert_eq!(sends.len(), 2);
    assert_eq!((sends[1].start, sends[1].parent), (sends[0].end, sends[0].parent), "from when it was given back");
    let wait = spans.part(sends[1], "wait log");
    assert!(wait.start == sends[1].start && wait.end >= alone, "until there was a member: {wait:?}");
    assert_eq!(attribute(spans.one("process out"), "jaiminho.attempt").unwrap(), "2");
}

#[tokio::test]
async fn a_rejection_is_an_error_up_to_the_source_and_its_dead_letter_is_in_the_same_trace() {
    let mut stages = Traced::new();
    let source = stages.source(&["mid"]);
    let odd = Call(Box::new(|_| Ok(Verdict::Reject { reason: Reason::Invalid, text: "odd".into() })));
    let mut config = stages.config("mid", vec![log("mid", &["out"])], &["in"], Role::Transform(Arc::new(odd)));
    let make: jaiminho_runtime::DeadLetter = Arc::new(|event, _| event.payload.clone());
    config.dead_letter = Some(DeadLetterSpec { output: log("mid.dead_letter", &["dead"]), make });
    let _mid = stages.start(config);
    let _dead = stages.spawn("dead", &[], &["mid.dead_letter"], late(Duration::ZERO));
    let (one, client) = sampled(1, None);
    published(&source, vec![one]).await;
    let spans = stages.spans(&client);
    let process = spans.one("process mid");
    for span in [process, spans.one("send mid"), spans.one("create in")] {
        assert_eq!(attributes(span, ["jaiminho.outcome", "error.type"]), ["rejected", "invalid"]);
        assert_eq!(attribute(span, "jaiminho.dead_letter.stored").unwrap(), "true");
        assert_eq!(span.error.as_deref(), Some("odd"));
    }
    let send = spans.one("send dead");
    assert_eq!(send.parent, Some(process.context.span));
    for span in [send, spans.one("process dead")] {
        assert_eq!((attribute(span, "jaiminho.outcome").unwrap().as_str(), &span.error), ("accepted", &None));
    }
}

#[tokio::test]
async fn a_sinks_rejection_and_its_dead_letter_are_in_the_trace() {
    let mut stages = Traced::new();
    let source = stages.source(&["out"]);
    let refuse = Collect::new(|_| Some(Outcome::Rejected(Box::new(Rejection::new(Reason::Refused, "no such topic")))));
    let mut config = stages.config("out", vec![], &["in"], collect(&refuse));
    let make: jaiminho_runtime::DeadLetter = Arc::new(|event, _| event.payload.clone());
    config.dead_letter = Some(DeadLetterSpec { output: log("out.dead_letter", &["dead"]), make });
    let _out = stages.start(config);
    let _dead = stages.spawn("dead", &[], &["out.dead_letter"], late(Duration::ZERO));
    let (one, client) = sampled(1, None);
    published(&source, vec![one]).await;
    let spans = stages.spans(&client);
    let process = spans.one("process out");
    assert_eq!(attributes(process, ["jaiminho.outcome", "error.type"]), ["rejected", "refused"]);
    assert_eq!(spans.one("send dead").parent, Some(process.context.span));
    let given = refuse.seen.lock().unwrap()[0].clone();
    assert_eq!(context(&given).span, process.context.span, "what the sink sends is below its stage's span");
    assert_eq!(given.trace.unwrap().since, spans.part(process, "queue").end);
}

#[tokio::test]
async fn what_a_source_rejects_or_its_log_finds_too_large_has_its_dead_letter_below_its_span() {
    let mut stages = Traced::new();
    let mut config = stages.config("in", vec![log("in", &["out"])], &[], Role::Source(Box::new(Outside)));
    let make: jaiminho_runtime::DeadLetter = Arc::new(|_, _| b"x"[..].into());
    config.dead_letter = Some(DeadLetterSpec { output: log("in.dead_letter", &["dead"]), make });
    let source = stages.start(config);
    let limits = StageLimits { event_bytes_max: 2, ..StageLimits::default() };
    let _out = stages.start(StageConfig { limits, ..stages.config("out", vec![], &["in"], late(Duration::ZERO)) });
    let _dead = stages.spawn("dead", &[], &["in.dead_letter"], late(Duration::ZERO));
    let (broken, client) = sampled(1, None);
    let pending = source.source().reject(broken, Rejection::new(Reason::Malformed, "broken")).await.unwrap();
    soon(pending.answers()).await;
    let by_source = stages.spans(&client);
    let (large, client) = sampled(100, None);
    published(&source, vec![large]).await;
    for (spans, reason) in [(by_source, "malformed"), (stages.spans(&client), "too_large")] {
        let create = spans.one("create in");
        assert_eq!(attributes(create, ["jaiminho.outcome", "error.type"]), ["rejected", reason]);
        assert_eq!(spans.names_below(create).last(), Some(&"send dead"));
        assert_eq!(spans.named("send out").len(), 0);
    }
}

/// One result of each batch.
struct Joins;

impl Handler for Joins {
    fn handle<'a>(&'a mut self, call: &'a Called, turn: &'a mut Turn) -> BoxFuture<'a, Result<(), Failure>> {
        if let Called::Events { events, .. } = call {
            turn.emit(events.iter().flat_map(|event| event.payload.to_vec()).collect::<Vec<u8>>(), None);
        }
        Box::pin(async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Ok(())
        })
    }
}

#[tokio::test]
async fn the_result_of_a_batch_continues_its_first_trace_which_is_linked_to_the_others() {
    let stages = Traced::new();
    let source = stages.source(&["mid"]);
    let role = Role::Handler(Box::new(Joins), Kind::ProducerConsumer);
    let config = stages.config("mid", vec![log("mid", &["out"])], &["in"], role);
    let limits = StageLimits { batch: Some(Batching::new(4, Duration::from_secs(10))), ..StageLimits::default() };
    let _mid = stages.start(StageConfig { limits, ..config });
    let _out = stages.spawn("out", &[], &["mid"], late(Duration::ZERO));
    let ((b, of_b), (c, of_c)) = (sampled(1, None), sampled(2, None));
    published(&source, vec![event(0, None), b, c, event(3, None)]).await;
    let Traced { mut recorded, .. } = stages;
    let all = Spans::all(&mut recorded);
    let (b, c) = (all.of(&of_b), all.of(&of_c));
    assert_eq!((b.named("process out").len(), c.named("process out").len()), (1, 0), "one result");
    let (first, other) = (b.one("handle"), c.one("handle"));
    assert!(lasts(first) >= 5 * MS);
    assert_eq!((&first.links, &other.links), (&vec![other.context], &vec![first.context]));
    for spans in [&b, &c] {
        let process = spans.one("process mid");
        assert_eq!(spans.part(process, "queue").end, spans.part(process, "handle").start);
        assert_eq!(attribute(process, "jaiminho.outcome").unwrap(), "accepted");
    }
}

/// Which span each of an author's log events is in.
#[derive(Clone, Default)]
struct Inside(Arc<Mutex<(Vec<&'static str>, Vec<&'static str>)>>);

impl tracing::Subscriber for Inside {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.is_span() || metadata.target() == "theirs"
    }

    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        let name = span.metadata().name();
        tracing::span::Id::from_u64(if name == "convert" { 1 } else { 2 })
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        let mut inside = self.0.lock().unwrap();
        let current = inside.0.last().copied().unwrap_or("none");
        inside.1.push(current);
    }

    fn enter(&self, span: &tracing::span::Id) {
        self.0.lock().unwrap().0.push(if span.into_u64() == 1 { "convert" } else { "other" });
    }

    fn exit(&self, _: &tracing::span::Id) {
        self.0.lock().unwrap().0.pop();
    }
}

#[tokio::test]
async fn what_an_author_logs_of_a_sampled_event_is_inside_its_call() {
    let inside = Inside::default();
    let _default = tracing::subscriber::set_default(inside.clone());
    let stages = Traced::new();
    let source = stages.source(&["mid"]);
    let says = Call(Box::new(|_| {
        tracing::info!(target: "theirs", "converting");
        Ok(Verdict::Emit(smallvec![]))
    }));
    let _mid = stages.spawn("mid", &["out"], &["in"], Role::Transform(Arc::new(says)));
    published(&source, vec![event(1, Some(1)), sampled(2, Some(1)).0, event(3, Some(1))]).await;
    assert_eq!(inside.0.lock().unwrap().1, ["none", "convert", "none"]);
}

#[tokio::test]
async fn failed_tries_are_counted_and_are_part_of_the_call() {
    let mut stages = Traced::new();
    let source = stages.source(&["mid"]);
    let tries = Mutex::new(0);
    let second = Call(Box::new(move |_| {
        *tries.lock().unwrap() += 1;
        if *tries.lock().unwrap() < 3 { Err(Failure::new("not yet")) } else { Ok(Verdict::Emit(smallvec![])) }
    }));
    let _mid = stages.spawn("mid", &["out"], &["in"], Role::Transform(Arc::new(second)));
    let (one, client) = sampled(1, None);
    published(&source, vec![one]).await;
    let spans = stages.spans(&client);
    assert_eq!(attribute(spans.one("convert"), "jaiminho.failures").unwrap(), "2");
    assert!(lasts(spans.one("convert")) > 10 * MS, "back-off included");
}

/// Nobody subscribes: what it had taken is withdrawn at its deadline.
#[tokio::test]
async fn what_is_withdrawn_says_so() {
    let mut stages = Traced::new();
    let source = stages.source(&["out"]);
    let (one, client) = sampled(1, None);
    let offered = Offer { deadline: Some(Duration::from_millis(100)), ..offer(vec![one]) };
    assert_eq!(source.source().offer(offered).await.unwrap().answers().await, [Answer::Withdrawn]);
    let spans = stages.spans(&client);
    assert_eq!(spans.names(), ["create in"]);
    assert_eq!(attribute(&spans.0[0], "jaiminho.outcome").unwrap(), "withdrawn");
}

#[tokio::test]
async fn slow_and_rejected_events_that_are_not_sampled_leave_a_span_each_but_few() {
    let mut stages = Traced::new();
    stages.tracer = stages.tracer.with_slow(Duration::from_millis(1));
    let source = stages.source(&["mid"]);
    let third = Call(Box::new(|event| match event.payload[0] {
        b'3' => Ok(Verdict::Reject { reason: Reason::Invalid, text: "three".into() }),
        _ => Ok(Verdict::Emit(smallvec![Emitted::main(event.payload.clone())])),
    }));
    let _mid = stages.spawn("mid", &["out"], &["in"], Role::Transform(Arc::new(third)));
    let _out = stages.spawn("out", &[], &["mid"], late(Duration::from_millis(10)));
    published(&source, vec![event(1, None), event(3, None)]).await;
    let spans = Spans(stages.recorded.take());
    let (slow, rejected) = (spans.one("slow"), spans.one("rejected"));
    assert_eq!((spans.0.len(), slow.parent, rejected.parent), (2, None, None));
    assert!(lasts(slow) >= 10 * MS && slow.context.trace != rejected.context.trace);
    let names = ["jaiminho.stage", "jaiminho.origin", "jaiminho.attempt", "jaiminho.outcome", "error.type"];
    assert_eq!(attributes(slow, names), ["out", "1/0", "1", "accepted", ""]);
    assert_eq!(attributes(rejected, names), ["mid", "1/1", "1", "rejected", "invalid"]);

    let began = std::time::Instant::now();
    published(&source, (0..200).map(|number| event(number, None)).collect()).await;
    let noticed = stages.recorded.take().len() as u64;
    let most = (began.elapsed().as_secs() + 2) * NOTICED_PER_SECOND;
    assert!((NOTICED_PER_SECOND - 2..=most).contains(&noticed), "{noticed} of {most}");
}

#[tokio::test]
async fn a_stage_whose_tracer_is_off_passes_the_context_on_as_it_came() {
    let local = Local::default();
    let source = spawn(stage("in", vec![log("in", &["out"])], &[], &local, Role::Source(Box::new(Outside))));
    local.put("in", &source);
    let sink = Collect::new(|_| accepted());
    let _out = spawn(stage("out", vec![], &["in"], &local, collect(&sink)));
    let (one, client) = sampled(1, None);
    published(&source, vec![one, event(2, None)]).await;
    let seen = sink.seen.lock().unwrap();
    assert_eq!(seen[0].trace.as_deref(), Some(&Trace { context: client.to_bytes(), since: 0 }));
    assert_eq!(seen[1].trace, None);
}

#[tokio::test]
async fn events_that_are_not_sampled_leave_nothing() {
    let mut stages = Traced::new();
    let source = stages.source(&["mid"]);
    let _mid = stages.spawn("mid", &["out"], &["in"], Role::Transform(Arc::new(Slow(Duration::ZERO))));
    let _out = stages.spawn("out", &[], &["mid"], late(Duration::ZERO));
    published(&source, (0..100).map(|number| event(number, None)).collect()).await;
    assert_eq!(stages.recorded.take(), []);
    assert_eq!(stages.tracer.dropped(), 0);
}

#[tokio::test]
async fn what_is_over_the_limit_goes_on_without_spans_and_is_counted() {
    const OVER: usize = 100;
    let mut stages = Traced::new();
    let mut output = log("in", &["out"]);
    (output.config.capacity_events, output.config.capacity_bytes) = (10_000, 1 << 24);
    let source = stages.start(stages.config("in", vec![output], &[], Role::Source(Box::new(Outside))));
    let events: Vec<NewEvent> = (0..(SPANS_OPEN_MAX + OVER) as u32).map(|number| sampled(number, None).0).collect();
    let pending = source.source().offer(offer(events)).await.unwrap();
    assert_eq!(stages.tracer.dropped(), OVER as u64);
    let (broken, _) = sampled(u32::MAX, None);
    let rejected = source.source().reject(broken, Rejection::new(Reason::Malformed, "broken")).await.unwrap();
    soon(rejected.answers()).await;
    assert_eq!(stages.tracer.dropped(), OVER as u64 + 1, "one that the source rejects, too");
    assert_eq!(stages.recorded.take(), []);
    let _out = stages.spawn("out", &[], &["in"], late(Duration::ZERO));
    // Taken while they come: the queue has room for so many bytes only.
    let (mut spans, mut answers) = (Spans(vec![]), std::pin::pin!(soon(pending.answers())));
    let answers = loop {
        tokio::select! {
            Some((_, span)) = stages.recorded.next() => spans.0.push(span),
            answers = &mut answers => break answers,
        }
    };
    spans.0.extend(stages.recorded.take());
    assert!(answers.iter().all(|answer| *answer == Answer::Settled(Outcome::Accepted)));
    assert_eq!(spans.named("create in").len(), SPANS_OPEN_MAX);
    assert_eq!(spans.named("send out").len(), SPANS_OPEN_MAX);
    assert_eq!(spans.named("process out").len(), SPANS_OPEN_MAX + OVER, "the next stage has room again");
}
