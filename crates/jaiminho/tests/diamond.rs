//! ingest → a, b → join, where a or the join holds batches, while instances come and go.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "in a test a panic is the failure")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jaiminho::{
    Batch, Batching, Codec as _, Json, Local, Producer, ProducerConsumer, Result, Running, Stage, StageEnd, Turn,
    Upstream,
};
use support::{Counter, Ear, Forwarder, Mouth, Queue, Sleeper, Told, ear};

const HOUR: Duration = Duration::from_secs(3_600);
const KEYS: u64 = 32;
/// What `b` adds, so that both ways can be told apart.
const BY_B: u64 = 1_000_000;

/// Passes numbers on.
struct Passer(&'static str, Mouth);

impl ProducerConsumer for Passer {
    type In = u64;
    type Out = u64;

    async fn handle_events(&mut self, events: Batch<u64>, turn: &mut Turn<'_, u64>) -> Result {
        let added = if self.0.starts_with('b') { BY_B } else { 0 };
        events.iter().for_each(|event| turn.emit_of(event, event.value + added));
        self.1.tell(Told::Events(self.0, events.into_values().collect()));
        Ok(())
    }
}

/// Emits so many numbers, as they are asked for.
struct UpTo(u64, u64);

impl Producer for UpTo {
    type Out = u64;

    async fn handle_demand(&mut self, demand: u64, turn: &mut Turn<'_, u64>) -> Result {
        let until = self.1.min(self.0 + demand);
        (self.0..until).for_each(|number| turn.emit(number));
        self.0 = until;
        Ok(())
    }
}

fn ingest(producer: impl Producer<Out = u64>) -> Stage {
    let codec = Json.keyed(|number: &u64| Some((number % KEYS).to_string()));
    Stage::producer_with("ingest", producer, codec).group("a").group("b")
}

fn passer(name: &'static str, mouth: &Mouth) -> Stage {
    let stage = Stage::producer_consumer(&name[..1], Passer(name, mouth.clone())).group("join");
    stage.subscribe_to(Upstream::new("ingest").max_demand(200))
}

fn join(name: &'static str, mouth: &Mouth) -> Stage {
    let upstream = |of| Upstream::new(of).max_demand(100);
    Stage::consumer("join", Forwarder(name, mouth.clone())).subscribe_to(upstream("a")).subscribe_to(upstream("b"))
}

/// What each instance handles until so many events have been.
async fn handled(ear: &mut Ear, of: [&'static str; 2], count: usize) -> Vec<(&'static str, u64)> {
    let mut handled = Vec::new();
    while handled.len() < count {
        if let Told::Events(name, numbers) = ear.next().await
            && of.contains(&name)
        {
            handled.extend(numbers.into_iter().map(|number| (name, number)));
        }
    }
    handled
}

async fn settles(stage: &Running) {
    let is_settled = async {
        while stage.status().await.unwrap().logs[0].1 > 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), is_settled).await.expect("something never settles");
}

fn batching() -> Batching {
    Batching::new(20, Duration::from_secs(5)).by(|event| event.key)
}

/// Both `a` and the join hold batches by key, and both get a second instance while events flow.
#[tokio::test(start_paused = true)]
async fn a_scale_up_while_batches_are_held_keeps_the_order_of_each_key_and_loses_nothing() {
    const COUNT: u64 = 5_000;
    let ((mouth, mut ear), local) = (ear(), Local::new());
    let ingest = local.start(ingest(UpTo(0, COUNT)));
    local.start(passer("a0", &mouth).batch(batching()));
    local.start(passer("b0", &mouth));
    local.start(join("join0", &mouth).batch(batching()));
    let joins = ["join0", "join1"];
    let mut seen = handled(&mut ear, joins, 1_000).await;
    local.start(join("join1", &mouth).batch(batching()));
    seen.extend(handled(&mut ear, joins, 1_000).await);
    local.start(passer("a1", &mouth).batch(batching()));
    let mut first: BTreeSet<u64> = BTreeSet::new();
    let mut last: BTreeMap<(bool, u64), u64> = BTreeMap::new();
    let mut by_second = 0;
    loop {
        for (name, number) in std::mem::take(&mut seen) {
            if first.insert(number) {
                let (is_b, number) = (number >= BY_B, number % BY_B);
                let before = last.insert((is_b, number % KEYS), number);
                assert!(before < Some(number), "{number} by {name} after {before:?} of its key");
                by_second += usize::from(name == "join1");
            }
        }
        if first.len() as u64 >= 2 * COUNT {
            break;
        }
        seen = handled(&mut ear, joins, 1).await;
    }
    assert!(by_second > 500, "the second join has its share: {by_second}");
    settles(&ingest).await;
}

/// Told before the handover's time-out: else the producer would take back what it had sent.
const BEFORE_TIME_OUT: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn what_a_batch_holds_goes_to_the_instance_that_takes_over_its_partition() {
    for (holder, first, second, count) in [("a", "a0", "a1", KEYS), ("join", "join0", "join1", 2 * KEYS)] {
        let ((mouth, mut ear), local) = (ear(), Local::new());
        let start = |name: &'static str| {
            let stage = if name.starts_with("join") { join(name, &mouth) } else { passer(name, &mouth) };
            let held = Batching::new(1_000, HOUR);
            local.start(if name.starts_with(holder) { stage.batch(held) } else { stage }.instance(name))
        };
        let ingest = local.start(ingest(Counter::silent(&mouth)));
        let stages = BTreeMap::from(["a0", "b0", "join0"].map(|name| (name, start(name))));
        ingest.info(Queue((0..KEYS).collect())).await.unwrap();
        ear.silence_of(first).await;
        let joined = start(second);
        tokio::time::sleep(BEFORE_TIME_OUT).await;
        for stage in [&stages[first], &joined] {
            assert_eq!(stage.drain(Duration::from_secs(5)).await, StageEnd::Drained { unsettled: 0 });
        }
        let mut handled: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        while let Ok(told) = ear.0.try_recv() {
            if let Told::Events(name, numbers) = told {
                handled.entry(name).or_default().extend(numbers);
            }
        }
        let (of_first, of_second) = (&handled[first], &handled[second]);
        assert!(of_first.len() as u64 > count / 8 && of_second.len() as u64 > count / 8, "{of_first:?} {of_second:?}");
        let all: BTreeSet<u64> = of_first.iter().chain(of_second).copied().collect();
        assert_eq!((all.len() as u64, (of_first.len() + of_second.len()) as u64), (count, count), "each once");
        settles(&ingest).await;
    }
}

/// A sink that stands still fills the join's log, and so ingest's: what `a` holds goes on before its batch is complete.
#[tokio::test(start_paused = true)]
async fn pressure_that_begins_at_the_joins_log_flushes_what_is_held_above_it() {
    let ((mouth, mut ear), local) = (ear(), Local::new());
    let ingest = local.start(ingest(Counter::silent(&mouth)).log(40, 1 << 20));
    local.start(passer("a0", &mouth).batch(Batching::new(12, HOUR)));
    local.start(passer("b0", &mouth));
    let join = Stage::producer_consumer("join", Passer("join", mouth.clone())).subscribe_to("a").subscribe_to("b");
    let join = local.start(join.group("sleeper").log(10, 1 << 20));
    local.start(Stage::consumer("sleeper", Sleeper(mouth.clone())).subscribe_to("join"));
    ingest.info(Queue((0..32).collect())).await.unwrap();
    assert_eq!(ear.batches("a0", 2).await, [(0..12).collect::<Vec<_>>(), (12..24).collect()]);
    ear.silence_of("a0").await;
    assert!(join.status().await.unwrap().logs[0].1 >= 10, "the join takes nothing more in");
    ingest.info(Queue(vec![32])).await.unwrap();
    assert_eq!(ear.batches("a0", 1).await, [(24..33).collect::<Vec<_>>()]);
}
