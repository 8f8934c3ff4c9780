//! A transform that gives up order and durability.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the failure")]

mod support;

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use jaiminho_core::{Event, Outcome};
use jaiminho_runtime::{Answer, Emitted, Failure, Outside, Role, StageEnd, Transform, Verdict, spawn};
use smallvec::smallvec;
use support::{Collect, Local, accepted, event, log, published, stage};
use tokio::sync::Barrier;

/// Lets two events on together, never one.
struct Pairs(Barrier);

impl Transform for Pairs {
    fn process<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<Verdict, Failure>> {
        Box::pin(async move {
            self.0.wait().await;
            Ok(Verdict::Emit(smallvec![Emitted::main(event.payload.clone())]))
        })
    }
}

#[tokio::test(start_paused = true)]
async fn an_unordered_transform_works_on_a_key_twice_at_once_and_accepts_what_is_in_its_log() {
    let (local, sink) = (Local::default(), Collect::new(|_| accepted()));
    let source = spawn(stage("in", vec![log("in", &["mid"])], &[], &local, Role::Source(Box::new(Outside))));
    local.put("in", &source);
    let role = Role::Transform(Arc::new(Pairs(Barrier::new(2))));
    let mut config = stage("mid", vec![log("mid", &["out"])], &["in"], &local, role);
    config.limits.unordered = true;
    let middle = spawn(config);
    local.put("mid", &middle);
    let answers = published(&source, vec![event(1, Some(7)), event(2, Some(7))]).await;
    assert_eq!(answers, vec![Answer::Settled(Outcome::Accepted); 2], "nobody consumes the results yet");
    assert_eq!(middle.status().await.unwrap().logs[0].1, 2);
    let role = Role::Sink(Box::new(sink.clone()), sink.settler.clone());
    let _out = spawn(stage("out", vec![], &["mid"], &local, role));
    assert_eq!(middle.drain(Duration::from_secs(5)).await, StageEnd::Drained { unsettled: 0 });
    assert_eq!(sink.payloads().len(), 2);
}
