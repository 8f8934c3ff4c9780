//! Peers that break the protocol, at a real stage: each loses its link with the right error, and another never notices.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the failure")]

mod support;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use jaiminho_core::{
    Credit, Delivery, Disposition, EndReason, Event, KeyHash, LinkError, Outcome, Reason, Settled, Subscribe,
    ToConsumer, ToProducer, Versions, Window,
};
use jaiminho_runtime::{
    Address, Call, Discover, Emitted, Failure, Handler, Kind, LinkHalf, Outside, Pending, Receipt, Role, Serve as _,
    StageHandle, Transform, Turn, Verdict, spawn,
};
use smallvec::smallvec;
use support::{
    Collect, Local, accepted, event, log, offer,
    scripted::{Scripted, deliveries, delivery, linked, scripted, soon, wanted},
    stage,
};
use tokio::sync::{Semaphore, mpsc, oneshot};

/// How a link ends, whatever came before.
async fn end_of(half: &mut LinkHalf) -> Option<LinkError> {
    loop {
        match soon(half.from_producer.recv()).await {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Some(error),
            None => return None,
        }
    }
}

/// A source's stage with an honest consumer of its own group.
struct Producer {
    stage: StageHandle,
    honest: LinkHalf,
    settled: u64,
    offered: u32,
}

impl Producer {
    async fn new() -> Self {
        let outputs = vec![log("in", &["mid", "archive"])];
        let stage = spawn(stage("in", outputs, &[], &Local::default(), Role::Source(Box::new(Outside))));
        let group = Subscribe { group: "archive".into(), ..wanted("mid", "honest") };
        let honest = linked(&stage, group).await;
        Self { stage, honest, settled: 0, offered: 0 }
    }

    async fn offer(&mut self, count: u32) -> Pending {
        let events = (self.offered..self.offered + count).map(|number| event(number, None)).collect();
        self.offered += count;
        self.stage.source().offer(offer(events)).await.unwrap()
    }

    /// The honest link goes on: it gets what is offered, and its credit and dispositions count.
    async fn goes_on(&mut self) {
        let _pending = self.offer(1).await;
        let last = deliveries(&mut self.honest).await.last().unwrap().number;
        assert_eq!(last, u64::from(self.offered), "no gap");
        let settled = Disposition { first: self.settled + 1, last, state: Settled::Outcome(Outcome::Accepted) };
        self.settled = last;
        self.honest.to_producer.send(ToProducer::Dispositions(vec![settled])).await.unwrap();
        self.honest.to_producer.send(ToProducer::Credit(Credit { events: last + 10, bytes: 1_000 })).await.unwrap();
    }
}

fn disposition(first: u64, last: u64, state: Settled) -> ToProducer {
    ToProducer::Dispositions(vec![Disposition { first, last, state }])
}

#[tokio::test]
async fn a_consumer_that_breaks_the_protocol_loses_its_link_and_no_other_does() {
    let mut producer = Producer::new().await;
    let accepted = || Settled::Outcome(Outcome::Accepted);
    let breaches = [
        (ToProducer::Credit(Credit { events: 1_000, bytes: 1_000 }), "credit up to 1000 events"),
        (ToProducer::Credit(Credit { events: 10, bytes: u64::MAX }), "credit up to 18446744073709551615 bytes"),
        (disposition(1, 3, accepted()), "but the last delivery is 2"),
        (disposition(u64::MAX, u64::MAX, accepted()), "but the last delivery is 2"),
        (disposition(0, 1, accepted()), "but the last delivery is 2"),
        (disposition(2, 1, accepted()), "but the last delivery is 2"),
        (disposition(1, 1, Settled::Released), "but it was not revoked"),
    ];
    for (count, (breach, says)) in breaches.into_iter().enumerate() {
        let mut half = producer.stage.subscribe(wanted("mid", &format!("mid-{count}"))).await.unwrap();
        half.to_producer.send(ToProducer::Credit(Credit { events: 2, bytes: 1_000 })).await.unwrap();
        if count == 0 {
            let _pending = producer.offer(2).await;
            assert_eq!(deliveries(&mut producer.honest).await.len(), 2);
        }
        assert_eq!(deliveries(&mut half).await.len(), 2, "what the one before had comes to this one");
        half.to_producer.send(breach.clone()).await.unwrap();
        let Some(LinkError::Violation(text)) = end_of(&mut half).await else { panic!("{breach:?}") };
        assert!(text.contains(says), "{breach:?}: {text}");
        soon(half.to_producer.closed()).await;
        producer.goes_on().await;
    }
    let mut half = linked(&producer.stage, wanted("mid", "last")).await;
    assert_eq!(deliveries(&mut half).await.first().unwrap().event.attempt, 8, "released by each breach");
}

#[tokio::test]
async fn a_subscribe_that_does_not_fit_is_refused_with_its_reason_and_nobody_else_is_disturbed() {
    let mut producer = Producer::new().await;
    let good = wanted("mid", "mid-0");
    let (ours, theirs) = ("p".into(), "q".into());
    let window = |events, bytes| Subscribe { window: Window { events, bytes }, ..good.clone() };
    let cases = [
        (Subscribe { pipeline: "q".into(), ..good.clone() }, LinkError::WrongPipeline { ours, theirs }),
        (Subscribe { output: "out".into(), ..good.clone() }, LinkError::UnknownOutput("out".into())),
        (
            Subscribe { output: "in.dead_letter".into(), ..good.clone() },
            LinkError::UnknownOutput("in.dead_letter".into()),
        ),
        (Subscribe { group: "other".into(), ..good.clone() }, LinkError::UnknownGroup("other".into())),
        (Subscribe { selector: Some("big".into()), ..good.clone() }, LinkError::Selector("unknown: big".into())),
        (
            Subscribe { versions: Versions { min: 2, max: 9 }, ..good.clone() },
            LinkError::Version { peer_min: 2, peer_max: 9, min: 1, max: 1 },
        ),
        (
            Subscribe { versions: Versions { min: 1, max: 0 }, ..good.clone() },
            LinkError::Version { peer_min: 1, peer_max: 0, min: 1, max: 1 },
        ),
        (window(0, 1_000), LinkError::Violation("window of 0 events or bytes".into())),
        (window(10, 0), LinkError::Violation("window of 0 events or bytes".into())),
    ];
    for (subscribe, expected) in cases {
        assert_eq!(producer.stage.subscribe(subscribe).await.err(), Some(expected));
        producer.goes_on().await;
    }
    assert_eq!(producer.stage.status().await.unwrap().links_in, 1);
}

#[tokio::test]
async fn an_absurd_window_is_cut_to_the_log_and_what_holds_is_said_and_kept_to() {
    let mut producer = Producer::new().await;
    let absurd = Subscribe { window: Window { events: u64::MAX, bytes: u64::MAX }, ..wanted("mid", "mid-0") };
    let mut half = producer.stage.subscribe(absurd).await.unwrap();
    assert_eq!(half.subscribed.window, Window { events: 1_000, bytes: 1 << 20 });
    half.to_producer.send(ToProducer::Credit(Credit { events: 1_001, bytes: 1 << 20 })).await.unwrap();
    assert!(matches!(end_of(&mut half).await, Some(LinkError::Violation(_))));
    producer.goes_on().await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_its_consumer_does_not_finish_ends_when_its_time_is_up() {
    let mut producer = Producer::new().await;
    let mut half = linked(&producer.stage, wanted("mid", "mid-0")).await;
    let _pending = producer.offer(3).await;
    assert_eq!(deliveries(&mut half).await.len(), 3);
    let begun = tokio::time::Instant::now();
    half.to_producer.send(ToProducer::Cancel { drain: true, time_left_ms: 3_000 }).await.unwrap();
    half.to_producer.send(disposition(1, 1, Settled::Outcome(Outcome::Accepted))).await.unwrap();
    let mut other = linked(&producer.stage, wanted("mid", "mid-1")).await;
    assert_eq!(end_of(&mut half).await, None, "as after any drain, the stream just ends");
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(3_000) && took < Duration::from_millis(3_500), "{took:?}");
    let again: Vec<u32> = deliveries(&mut other).await.iter().map(|delivery| delivery.event.attempt).collect();
    assert_eq!(again, [2, 2], "what was not settled is released");
}

/// A sink's stage whose producers are the test's, one for each address.
fn consumer(addresses: &[&str], window: Window) -> (StageHandle, mpsc::Receiver<Scripted>, Collect) {
    let sink = Collect::new(|_| accepted());
    let role = Role::Sink(Box::new(sink.clone()), sink.settler.clone());
    let (config, links) = scripted(stage("mid", vec![], &[], &Local::default(), role), addresses, window);
    (spawn(config), links, sink)
}

#[tokio::test]
async fn a_producer_that_breaks_the_protocol_given_up_and_linked_again_and_no_other_is() {
    let (_stage, mut links, sink) = consumer(&["a", "b"], Window { events: 4, bytes: 100 });
    let (mut honest, mut bad) = (soon(links.recv()).await.unwrap(), soon(links.recv()).await.unwrap());
    assert_eq!(honest.credit().await, Credit { events: 4, bytes: 100 });
    let ended = |last| ToConsumer::Ended { last, reason: EndReason::Draining };
    let events = |numbers: &[u64]| ToConsumer::Events {
        deliveries: numbers.iter().map(|&number| delivery(number)).collect(),
        backlog: 0,
        pressure: false,
    };
    let breaches = [
        vec![events(&[1, 2, 3, 4, 5])],
        vec![events(&[2])],
        vec![events(&[0])],
        vec![events(&[1, 2]), events(&[2])],
        vec![events(&[1]), events(&[3])],
        vec![events(&[1, 3])],
        vec![ended(0), events(&[1])],
    ];
    for (count, breach) in breaches.into_iter().enumerate() {
        assert_eq!(bad.credit().await, Credit { events: 4, bytes: 100 });
        let counter = bad.subscribe.link_counter;
        for message in breach {
            bad.say(message).await;
        }
        bad.given_up().await;
        bad = soon(links.recv()).await.unwrap();
        assert!(bad.subscribe.link_counter > counter, "a new link");
        honest.send([count as u64 + 1]).await;
        honest.settled(count as u64 + 1).await;
    }
    let came = |what: &str| sink.payloads().iter().filter(|payload| *payload == what).count();
    assert_eq!([came("0"), came("4"), came("5"), came("7")], [0, 1, 1, 1], "nothing of a bad frame is taken");
}

#[tokio::test(start_paused = true)]
async fn what_a_consumer_says_waits_for_room_in_its_channel_and_no_longer() {
    let sink = Collect::new(|_| accepted());
    let role = Role::Sink(Box::new(sink.clone()), sink.settler.clone());
    let window = Window { events: 1_000, bytes: 100_000 };
    let (mut config, mut links) = scripted(stage("mid", vec![], &[], &Local::default(), role), &["a"], window);
    config.upstreams[0].window = window;
    let _stage = spawn(config);
    let mut link = soon(links.recv()).await.unwrap();
    assert_eq!(link.credit().await.events, 1_000);
    let begun = tokio::time::Instant::now();
    for number in 1..=40 {
        link.send([number]).await;
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!((sink.payloads().len(), link.from_consumer.len()), (40, 16), "the channel is full");
    link.settled(40).await;
    assert_eq!(begun.elapsed(), Duration::ZERO, "nothing had to wait for a tick");
}

/// Two producers, of which the second is left to others once that is said.
struct Sparing {
    spare: Option<oneshot::Receiver<()>>,
    is_first: bool,
    spared: Vec<Address>,
}

impl Discover for Sparing {
    fn changed(&mut self) -> BoxFuture<'_, Vec<Address>> {
        Box::pin(async {
            let [a, b] = ["a", "b"].map(|name| Address(name.into()));
            if std::mem::take(&mut self.is_first) {
                return vec![a, b];
            }
            let Some(spare) = self.spare.take() else { return std::future::pending().await };
            spare.await.unwrap();
            self.spared = vec![b];
            vec![a]
        })
    }

    fn spared(&self) -> &[Address] {
        &self.spared
    }
}

#[tokio::test(start_paused = true)]
async fn a_producer_that_is_left_to_others_is_cancelled_in_order_and_not_linked_again() {
    let sink = Collect::new(|_| accepted());
    let role = Role::Sink(Box::new(sink.clone()), sink.settler.clone());
    let window = Window { events: 4, bytes: 100 };
    let (mut config, mut links) = scripted(stage("mid", vec![], &[], &Local::default(), role), &[], window);
    let (say, spare) = oneshot::channel();
    config.upstreams[0].discover = Box::new(Sparing { spare: Some(spare), is_first: true, spared: vec![] });
    let stage = spawn(config);
    let (mut stays, mut spared) = (soon(links.recv()).await.unwrap(), soon(links.recv()).await.unwrap());
    spared.credit().await;
    spared.send([1, 2]).await;
    say.send(()).unwrap();
    let mut heard = Vec::new();
    while !matches!(heard.last(), Some(ToProducer::Cancel { drain: true, .. })) {
        heard.push(soon(spared.from_consumer.recv()).await.unwrap());
    }
    assert!(
        heard.iter().any(|said| matches!(said, ToProducer::Dispositions(_))),
        "what it had sent is settled: {heard:?}"
    );
    spared.say(ToConsumer::Ended { last: 2, reason: EndReason::Draining }).await;
    spared.given_up().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(stage.status().await.unwrap().links_out, 1);
    assert!(links.try_recv().is_err(), "no new link");
    stays.send([1]).await;
    stays.settled(1).await;
}

#[tokio::test]
async fn a_producer_cannot_make_the_window_larger_than_wanted() {
    let (_stage, mut links, _) = consumer(&["a"], Window { events: u64::MAX, bytes: u64::MAX });
    assert_eq!(soon(links.recv()).await.unwrap().credit().await, Credit { events: 4, bytes: 100 });
}

#[tokio::test]
async fn a_smaller_window_of_the_producer_holds() {
    let (_stage, mut links, _) = consumer(&["a"], Window { events: 1, bytes: 50 });
    let mut link = soon(links.recv()).await.unwrap();
    assert_eq!(link.credit().await, Credit { events: 1, bytes: 50 });
    link.send([1]).await;
    assert_eq!(link.credit().await, Credit { events: 2, bytes: 51 });
}

#[tokio::test]
async fn a_window_of_nothing_is_no_link_and_is_tried_again() {
    let (stage, mut links, _) = consumer(&["a"], Window { events: 0, bytes: 50 });
    for _ in 0..2 {
        soon(links.recv()).await.unwrap().given_up().await;
    }
    assert_eq!(stage.status().await.unwrap().links_out, 0);
}

const WINDOW: Window = Window { events: 4, bytes: 100 };

#[tokio::test(start_paused = true)]
async fn links_beyond_the_limit_wait_for_a_place_and_a_dead_one_keeps_its_own_until_all_it_brought_is_done() {
    let sink = Collect::new(|_| None);
    let role = Role::Sink(Box::new(sink.clone()), sink.settler.clone());
    let config = stage("mid", vec![], &[], &Local::default(), role);
    let (mut config, mut links) = scripted(config, &["a", "b"], WINDOW);
    config.limits.links_max = 1;
    let _stage = spawn(config);
    let mut first = links.recv().await.unwrap();
    first.credit().await;
    first.send([1]).await;
    let wait = Duration::from_secs(8);
    assert!(tokio::time::timeout(wait, links.recv()).await.is_err(), "a second link");
    drop(first);
    assert!(tokio::time::timeout(wait, links.recv()).await.is_err(), "the dead one has something unsettled");
    sink.settler.settle(Receipt::for_test(0), Outcome::Accepted);
    assert!(tokio::time::timeout(wait, links.recv()).await.is_ok(), "its place is free");
}

/// Waits for the test before each call returns; rejects "1".
struct Gate(Arc<Semaphore>);

impl Transform for Gate {
    fn process<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<Verdict, Failure>> {
        Box::pin(async move {
            self.0.acquire().await.unwrap().forget();
            let payload = event.payload.clone();
            if *payload == *b"1" {
                return Ok(Verdict::Reject { reason: Reason::Invalid, text: "no".into() });
            }
            Ok(Verdict::Emit(smallvec![Emitted::main(payload)]))
        })
    }
}

impl Handler for Gate {
    fn handle<'a>(&'a mut self, call: &'a Call, turn: &'a mut Turn) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            let Call::Events { events, .. } = call else { return Ok(()) };
            self.0.acquire().await.unwrap().forget();
            for (index, event) in events.iter().enumerate() {
                if *event.payload == *b"1" {
                    turn.reject(index, Reason::Invalid, "no");
                } else {
                    turn.emit_of(index, event.payload.clone());
                }
            }
            Ok(())
        })
    }
}

/// What comes out of a stage of deliveries 1 to 3 of one key and 4 of another, when 1 is rejected.
async fn results_with_one_rejected(role: fn(Gate) -> Role, is_dead: bool) -> Vec<Bytes> {
    let gate = Arc::new(Semaphore::new(0));
    let role = role(Gate(gate.clone()));
    let mut config = stage("mid", vec![log("mid", &["out"])], &[], &Local::default(), role);
    config.limits.timeout = Duration::from_secs(60);
    let (config, mut links) = scripted(config, &["a"], WINDOW);
    let stage = spawn(config);
    let out = Subscribe { output: "mid".into(), group: "out".into(), ..wanted("mid", "out-0") };
    let mut out = linked(&stage, out).await;
    let mut link = links.recv().await.unwrap();
    link.credit().await;
    let keyed = |number: u64, key: u64| {
        let delivery = delivery(number);
        Delivery { event: Event { key: Some(KeyHash(key)), ..delivery.event }, ..delivery }
    };
    let deliveries = vec![keyed(1, 7), keyed(2, 7), keyed(3, 7), keyed(4, 8)];
    link.say(ToConsumer::Events { deliveries, backlog: 0, pressure: false }).await;
    while stage.status().await.unwrap().inputs < 4 {
        tokio::task::yield_now().await;
    }
    let _alive = if is_dead {
        drop(link);
        while stage.status().await.unwrap().links_out > 0 {
            tokio::task::yield_now().await;
        }
        None
    } else {
        Some(link)
    };
    gate.add_permits(4);
    let mut payloads = Vec::new();
    for _ in 0..4 {
        let next = tokio::time::timeout(Duration::from_secs(5), out.from_producer.recv()).await;
        let Ok(Some(Ok(ToConsumer::Events { deliveries, .. }))) = next else { break };
        payloads.extend(deliveries.iter().map(|delivery| Bytes::copy_from_slice(&delivery.event.payload)));
    }
    payloads.sort();
    payloads
}

const TRANSFORM: fn(Gate) -> Role = |gate| Role::Transform(Arc::new(gate));
/// It gets two events at once.
const HANDLER: fn(Gate) -> Role = |gate| Role::Handler(Box::new(gate), Kind::ProducerConsumer);

#[tokio::test(start_paused = true)]
async fn a_rejection_on_a_dead_link_drops_what_of_its_key_came_behind_it() {
    for role in [TRANSFORM, HANDLER] {
        assert_eq!(results_with_one_rejected(role, true).await, [Bytes::from("4")], "the other key goes on");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rejection_on_a_live_link_drops_nothing() {
    for role in [TRANSFORM, HANDLER] {
        let results = results_with_one_rejected(role, false).await;
        assert_eq!(results, [Bytes::from("2"), Bytes::from("3"), Bytes::from("4")]);
    }
}
