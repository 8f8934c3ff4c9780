//! A stage with several outputs.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the failure")]

mod support;

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use jaiminho_core::{Event, Outcome, Reason};
use jaiminho_runtime::{
    Answer, Call as Called, Emitted, Failure, Handler, Kind, Outside, Role, StageHandle, Turn, Verdict, spawn,
};
use smallvec::smallvec;
use support::{Call, Collect, Local, accepted, event, log, offer, published, stage};

fn number(event: &Event) -> usize {
    std::str::from_utf8(&event.payload).unwrap().parse().unwrap()
}

/// in -> mid, whose even events go to `mid.even`, odd ones to `mid.odd`, and those above 1,000 to an output that it lacks.
fn split(even: &Collect, odd: &Collect) -> (StageHandle, StageHandle) {
    let local = Local::default();
    let source = spawn(stage("in", vec![log("in", &["mid"])], &[], &local, Role::Source(Box::new(Outside))));
    local.put("in", &source);
    let route = Call(Box::new(|event| {
        let output = if number(event) > 1_000 { 2 } else { number(event) % 2 };
        Ok(Verdict::Emit(smallvec![Emitted { payload: event.payload.clone(), output }]))
    }));
    let mut outputs = vec![log("mid.even", &["even"]), log("mid.odd", &["odd"])];
    outputs.iter_mut().for_each(|output| output.config.capacity_events = 10);
    let middle = spawn(stage("mid", outputs, &["in"], &local, Role::Transform(Arc::new(route))));
    local.put("mid", &middle);
    for (name, sink) in [("even", even), ("odd", odd)] {
        let role = Role::Sink(Box::new(sink.clone()), sink.settler.clone());
        let _running = spawn(stage(name, vec![], &[&format!("mid.{name}")], &local, role));
    }
    (source, middle)
}

#[tokio::test(start_paused = true)]
async fn each_result_goes_to_the_output_that_it_names_and_to_none_that_the_stage_lacks() {
    let (even, odd) = (Collect::new(|_| accepted()), Collect::new(|_| accepted()));
    let (source, _middle) = split(&even, &odd);
    let answers = published(&source, (1..=4).chain([2_000]).map(|n| event(n, None)).collect()).await;
    assert_eq!(answers[..4], vec![Answer::Settled(Outcome::Accepted); 4]);
    let Answer::Settled(Outcome::Rejected(rejection)) = &answers[4] else { panic!("{:?}", answers[4]) };
    assert_eq!((rejection.reason, rejection.text.as_str()), (Reason::Invalid, "the stage has no output 2"));
    let sorted = |sink: &Collect| {
        let mut all = sink.payloads();
        all.sort();
        all
    };
    assert_eq!(sorted(&even), ["2", "4"]);
    assert_eq!(sorted(&odd), ["1", "3"]);
}

/// Sends what it gets into an output that there is not.
struct Astray;

impl Handler for Astray {
    fn handle<'a>(&'a mut self, call: &'a Called, turn: &'a mut Turn) -> BoxFuture<'a, Result<(), Failure>> {
        if let Called::Events { events, .. } = call {
            turn.emit_of(0, events[0].payload.clone()).into_output(1);
        }
        Box::pin(async { Ok(()) })
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_whose_result_a_handler_sends_into_an_output_that_it_lacks_is_rejected_and_not_lost() {
    let local = Local::default();
    let source = spawn(stage("in", vec![log("in", &["mid"])], &[], &local, Role::Source(Box::new(Outside))));
    local.put("in", &source);
    let role = Role::Handler(Box::new(Astray), Kind::Consumer);
    let _middle = spawn(stage("mid", vec![log("mid", &[])], &["in"], &local, role));
    let answers = published(&source, vec![event(1, None)]).await;
    let Answer::Settled(Outcome::Rejected(rejection)) = &answers[0] else { panic!("{answers:?}") };
    assert_eq!((rejection.reason, rejection.text.as_str()), (Reason::Exhausted, "the stage has no output 1"));
}

#[tokio::test(start_paused = true)]
async fn an_output_without_room_pushes_back_for_all_of_them() {
    let (even, odd) = (Collect::new(|_| None), Collect::new(|_| accepted()));
    let (source, middle) = split(&even, &odd);
    let evens = (0..40).map(|n| event(2 * n, None));
    let pending = source.source().offer(offer(evens.chain((0..40).map(|n| event(2 * n + 1, None))).collect())).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let logs = middle.status().await.unwrap().logs;
    assert_eq!(logs[0].1, 10, "{logs:?}");
    assert!(odd.payloads().len() < 40, "odd events wait for room among the even ones: {}", odd.payloads().len());
    drop(pending);
}
