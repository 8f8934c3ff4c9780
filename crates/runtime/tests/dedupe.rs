//! A stage that drops copies, between producers and a consumer that the test plays.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the failure")]

mod support;

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use jaiminho_core::{
    Credit, Delivery, Disposition, Event, GroupKind, Instance, KeyHash, Outcome, Reason, Rejection, Settled, Subscribe,
    ToConsumer, ToProducer, Versions, Window,
};
use jaiminho_runtime::{
    DeadLetterSpec, Dedupe, Emitted, Failure, LinkHalf, Role, Serve as _, StageEnd, StageHandle, Transform, Verdict,
    spawn,
};
use smallvec::smallvec;
use support::{
    Local, log,
    scripted::{Scripted, deliveries, delivery, scripted, soon},
    stage,
};
use tokio::sync::Semaphore;

const WINDOW: Window = Window { events: 20, bytes: 1_000 };
const KEY: KeyHash = KeyHash(7);

/// An event's payload is its identity; rejects "bad". A call waits until the test lets it return.
struct Gate(Arc<Semaphore>);

impl Transform for Gate {
    fn dedupe(&self) -> Option<Dedupe> {
        Some(Dedupe { window: Duration::from_secs(4), ids_max: 100 })
    }

    fn identity(&self, event: &Event) -> Option<u128> {
        Some(event.payload.iter().fold(0, |all, byte| all << 8 | u128::from(*byte)))
    }

    fn process<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<Verdict, Failure>> {
        Box::pin(async move {
            self.0.acquire().await.unwrap().forget();
            if *event.payload == *b"bad" {
                return Ok(Verdict::Reject { reason: Reason::Invalid, text: "no".into() });
            }
            Ok(Verdict::Emit(smallvec![Emitted::main(event.payload.clone())]))
        })
    }
}

/// The stage, the producers `a` and `b`, and the consumers of its output and of its dead letters.
struct Bench {
    stage: StageHandle,
    a: Scripted,
    b: Scripted,
    out: LinkHalf,
    dead: LinkHalf,
    gate: Arc<Semaphore>,
}

impl Bench {
    async fn new(gate: usize) -> Self {
        let gate = Arc::new(Semaphore::new(gate));
        let role = Role::Transform(Arc::new(Gate(gate.clone())));
        let mut config = stage("mid", vec![log("mid", &["out"])], &[], &Local::default(), role);
        (config.limits.timeout, config.limits.concurrency) = (Duration::from_secs(600), 1);
        let make: jaiminho_runtime::DeadLetter = Arc::new(|event, _| event.payload.clone());
        config.dead_letter = Some(DeadLetterSpec { output: log("mid.dead_letter", &["dead"]), make });
        let (config, mut links) = scripted(config, &["a", "b"], WINDOW);
        let stage = spawn(config);
        let (a, b) = (soon(links.recv()).await.unwrap(), soon(links.recv()).await.unwrap());
        let out = consume(&stage, "mid", "out").await;
        let dead = consume(&stage, "mid.dead_letter", "dead").await;
        let mut bench = Self { stage, a, b, out, dead, gate };
        bench.a.credit().await;
        bench.b.credit().await;
        bench
    }

    /// Until so many inputs are in work.
    async fn has_inputs(&self, count: u64) {
        soon(async {
            while self.stage.status().await.unwrap().inputs != count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    /// The next events of the output.
    async fn emits(&mut self, names: &[&str]) {
        let mut came = Vec::new();
        while came.len() < names.len() {
            came.extend(deliveries(&mut self.out).await.iter().map(name));
        }
        assert_eq!(came, names);
    }

    async fn emits_nothing(&mut self) {
        let next = tokio::time::timeout(Duration::from_secs(1), deliveries(&mut self.out)).await;
        assert!(next.is_err(), "{next:?}");
    }

    async fn settle(&self, number: u64, outcome: Outcome) {
        let settled = Disposition { first: number, last: number, state: Settled::Outcome(outcome) };
        self.out.to_producer.send(ToProducer::Dispositions(vec![settled])).await.unwrap();
    }
}

fn name(delivery: &Delivery) -> String {
    String::from_utf8(delivery.event.payload.to_vec()).unwrap()
}

async fn consume(stage: &StageHandle, output: &str, group: &str) -> LinkHalf {
    let subscribe = Subscribe {
        versions: Versions { min: 1, max: 1 },
        pipeline: "p".into(),
        output: output.into(),
        group: group.into(),
        kind: GroupKind::Required,
        instance: Instance { name: group.into(), incarnation: 1 },
        link_counter: 1,
        window: WINDOW,
        event_bytes_max: 1_000,
        frame_bytes_max: 10_000,
        selector: None,
        partition: None,
    };
    let half = stage.subscribe(subscribe).await.unwrap();
    half.to_producer.send(ToProducer::Credit(Credit { events: 20, bytes: 1_000 })).await.unwrap();
    half
}

/// Sends events, the first with this number, all of one key.
async fn send(link: &Scripted, first: u64, names: &[&str]) {
    let deliveries = (first..).zip(names).map(|(number, name)| {
        let payload = name.as_bytes().to_vec().into();
        Delivery { number, event: Event { payload, key: Some(KEY), ..delivery(number).event } }
    });
    link.say(ToConsumer::Events { deliveries: deliveries.collect(), backlog: 0, pressure: false }).await;
}

/// The next dispositions of a producer's deliveries.
async fn told(link: &mut Scripted) -> Vec<(u64, Settled)> {
    loop {
        match soon(link.from_consumer.recv()).await {
            Some(ToProducer::Dispositions(ranges)) => {
                let each =
                    |range: Disposition| (range.first..=range.last).map(move |number| (number, range.state.clone()));
                return ranges.into_iter().flat_map(each).collect();
            }
            Some(ToProducer::Credit(_) | ToProducer::Cancel { .. }) => {}
            None => panic!("the link has ended"),
        }
    }
}

fn accepted(number: u64) -> (u64, Settled) {
    (number, Settled::Outcome(Outcome::Accepted))
}

fn rejected(number: u64, text: &str, stored: bool) -> (u64, Settled) {
    let rejection = Rejection { stored, ..Rejection::new(Reason::Invalid, text) };
    (number, Settled::Outcome(Outcome::Rejected(Box::new(rejection))))
}

#[tokio::test(start_paused = true)]
async fn a_copy_waits_for_the_first_shares_its_acceptance_and_later_ones_are_accepted_at_once_until_the_window_is_over()
{
    let mut bench = Bench::new(100).await;
    send(&bench.a, 1, &["x"]).await;
    bench.emits(&["x"]).await;
    send(&bench.b, 1, &["x"]).await;
    bench.has_inputs(2).await;
    bench.emits_nothing().await;
    bench.settle(1, Outcome::Accepted).await;
    assert_eq!(told(&mut bench.a).await, [accepted(1)]);
    assert_eq!(told(&mut bench.b).await, [accepted(1)]);
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    send(&bench.b, 2, &["x"]).await;
    assert_eq!(told(&mut bench.b).await, [accepted(2)]);
    bench.emits_nothing().await;
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    send(&bench.b, 3, &["x"]).await;
    bench.emits(&["x"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_copy_shares_a_rejection_and_makes_no_second_dead_letter() {
    let mut bench = Bench::new(0).await;
    send(&bench.a, 1, &["bad", "x"]).await;
    bench.has_inputs(2).await;
    send(&bench.b, 1, &["bad", "x"]).await;
    bench.has_inputs(4).await;
    bench.gate.add_permits(2);
    assert_eq!(deliveries(&mut bench.dead).await.iter().map(name).collect::<Vec<_>>(), ["bad"]);
    let stored = Disposition { first: 1, last: 1, state: Settled::Outcome(Outcome::Accepted) };
    bench.dead.to_producer.send(ToProducer::Dispositions(vec![stored])).await.unwrap();
    assert_eq!(told(&mut bench.a).await, [rejected(1, "no", true)]);
    assert_eq!(told(&mut bench.b).await, [rejected(1, "no", true)]);
    bench.emits(&["x"]).await;
    let (_, Settled::Outcome(outcome)) = rejected(1, "not here", false) else { panic!("it is one") };
    bench.settle(1, outcome).await;
    assert_eq!(told(&mut bench.a).await, [rejected(2, "not here", false)]);
    assert_eq!(told(&mut bench.b).await, [rejected(2, "not here", false)]);
    send(&bench.b, 3, &["x"]).await;
    bench.gate.add_permits(1);
    bench.emits(&["x"]).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_revoked_leaves_its_place_to_the_copy_that_waits_and_order_holds() {
    let mut bench = Bench::new(0).await;
    // One in work, one for which a worker has room, one that waits.
    send(&bench.a, 1, &["1", "2", "x"]).await;
    bench.has_inputs(3).await;
    send(&bench.b, 1, &["x", "y", "z"]).await;
    bench.has_inputs(6).await;
    bench.a.say(ToConsumer::Revoke { partitions: vec![KEY.partition()] }).await;
    assert_eq!(told(&mut bench.a).await, [(3, Settled::Released)]);
    bench.gate.add_permits(10);
    bench.emits(&["1", "2", "x", "y", "z"]).await;
    for number in 3..=5 {
        bench.settle(number, Outcome::Accepted).await;
        assert_eq!(told(&mut bench.b).await, [accepted(number - 2)]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_is_revoked_is_released_at_once_and_the_first_goes_on() {
    let mut bench = Bench::new(0).await;
    send(&bench.a, 1, &["x"]).await;
    bench.has_inputs(1).await;
    send(&bench.b, 1, &["x", "y"]).await;
    bench.has_inputs(3).await;
    bench.b.say(ToConsumer::Revoke { partitions: vec![KEY.partition()] }).await;
    assert_eq!(told(&mut bench.b).await, [(1, Settled::Released), (2, Settled::Released)]);
    bench.gate.add_permits(10);
    bench.emits(&["x"]).await;
    bench.settle(1, Outcome::Accepted).await;
    assert_eq!(told(&mut bench.a).await, [accepted(1)]);
    bench.has_inputs(0).await;
}

#[tokio::test(start_paused = true)]
async fn a_copy_shares_what_becomes_of_the_first_though_that_ones_link_is_dead() {
    let mut bench = Bench::new(0).await;
    send(&bench.a, 1, &["bad", "x"]).await;
    bench.has_inputs(2).await;
    send(&bench.b, 1, &["x"]).await;
    bench.has_inputs(3).await;
    let Bench { a, .. } = bench;
    drop(a);
    while bench.stage.status().await.unwrap().links_out > 1 {
        tokio::task::yield_now().await;
    }
    // What came behind the rejected one on the dead link is dropped: the copy is the first now.
    bench.gate.add_permits(3);
    let next = deliveries(&mut bench.out).await;
    assert_eq!(next.iter().map(name).collect::<Vec<_>>(), ["x"]);
    let settled = Disposition { first: 1, last: 1, state: Settled::Outcome(Outcome::Accepted) };
    bench.out.to_producer.send(ToProducer::Dispositions(vec![settled])).await.unwrap();
    assert_eq!(told(&mut bench.b).await, [accepted(1)]);
}

#[tokio::test(start_paused = true)]
async fn a_drain_settles_the_copies_that_wait() {
    let mut bench = Bench::new(100).await;
    send(&bench.a, 1, &["x"]).await;
    send(&bench.b, 1, &["x", "y"]).await;
    bench.emits(&["x"]).await;
    bench.has_inputs(3).await;
    let stage = bench.stage.clone();
    let drained = tokio::spawn(async move { stage.drain(Duration::from_secs(20)).await });
    bench.settle(1, Outcome::Accepted).await;
    bench.emits(&["y"]).await;
    bench.settle(2, Outcome::Accepted).await;
    let ended = |last| ToConsumer::Ended { last, reason: jaiminho_core::EndReason::Draining };
    bench.a.say(ended(1)).await;
    bench.b.say(ended(2)).await;
    assert_eq!(drained.await.unwrap(), StageEnd::Drained { unsettled: 0 });
    let mut all = Vec::new();
    while all.len() < 2 {
        all.extend(told(&mut bench.b).await);
    }
    assert_eq!(all, [accepted(1), accepted(2)]);
}
