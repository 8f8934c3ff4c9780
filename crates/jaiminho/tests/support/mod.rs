//! The stages of GenStage's own tests.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::{sync::Arc, time::Duration};

use jaiminho::{Batch, Consumer, Failure, Info, Left, Nothing, Peer, Producer, ProducerConsumer, Result, Turn};
use tokio::sync::mpsc;

/// What a stage of a test tells it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// `handle_events` of the stage of this name.
    Events(&'static str, Vec<u64>),
    Demand(u64),
    Info(&'static str, u64),
    Subscribed(&'static str, String),
    Cancelled(&'static str, String, Left),
}

pub(crate) struct Ear(pub(crate) mpsc::UnboundedReceiver<Told>);

#[derive(Clone)]
pub(crate) struct Mouth(pub(crate) mpsc::UnboundedSender<Told>);

pub(crate) fn ear() -> (Mouth, Ear) {
    let (mouth, ear) = mpsc::unbounded_channel();
    (Mouth(mouth), Ear(ear))
}

impl Mouth {
    pub(crate) fn tell(&self, told: Told) {
        // The test may be over.
        let _over = self.0.send(told);
    }
}

impl Ear {
    /// The next thing told, whatever it is.
    pub(crate) async fn next(&mut self) -> Told {
        tokio::time::timeout(Duration::from_secs(20), self.0.recv()).await.expect("nothing is told").unwrap()
    }

    /// Waits until this is told, among a thousand other things.
    pub(crate) async fn hear(&mut self, wanted: Told) {
        let mut others = Vec::new();
        for _ in 0..1_000 {
            match tokio::time::timeout(Duration::from_secs(20), self.0.recv()).await {
                Ok(Some(told)) if told == wanted => return,
                Ok(Some(told)) if others.len() < 40 => others.push(told),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break,
            }
        }
        panic!("{wanted:?} is not told, but {others:?}");
    }

    /// The batches of one stage in their order, as many as are wanted.
    pub(crate) async fn batches(&mut self, of: &str, count: usize) -> Vec<Vec<u64>> {
        let mut batches = Vec::new();
        while batches.len() < count {
            if let Told::Events(stage, batch) = self.next().await
                && stage == of
            {
                batches.push(batch);
            }
        }
        batches
    }

    /// A stage handles no events for a while.
    pub(crate) async fn silence_of(&mut self, of: &str) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
        while let Ok(Some(told)) = tokio::time::timeout_at(deadline, self.0.recv()).await {
            assert!(!matches!(&told, Told::Events(stage, _) if *stage == of), "{told:?}");
        }
    }

    /// Nothing is told for a while; then nothing was under way.
    pub(crate) async fn silence(&mut self) {
        let told = tokio::time::timeout(Duration::from_secs(1), self.0.recv()).await;
        assert!(told.is_err(), "{told:?}");
    }
}

/// Emits 0, 1, 2 … as asked, or only what it is told to by infos.
pub(crate) struct Counter {
    pub(crate) next: Option<u64>,
    pub(crate) mouth: Mouth,
}

/// An info at which a counter emits these.
pub(crate) struct Queue(pub(crate) Vec<u64>);

impl Counter {
    pub(crate) fn new(mouth: &Mouth) -> Self {
        Self { next: Some(0), mouth: mouth.clone() }
    }

    pub(crate) fn silent(mouth: &Mouth) -> Self {
        Self { next: None, mouth: mouth.clone() }
    }
}

impl Producer for Counter {
    type Out = u64;

    async fn handle_demand(&mut self, demand: u64, turn: &mut Turn<'_, u64>) -> Result {
        match &mut self.next {
            Some(next) => {
                (*next..*next + demand).for_each(|number| turn.emit(number));
                *next += demand;
            }
            None => self.mouth.tell(Told::Demand(demand)),
        }
        Ok(())
    }

    async fn handle_info(&mut self, info: Info, turn: &mut Turn<'_, u64>) -> Result {
        match info.downcast::<Queue>() {
            Ok(queue) => queue.0.iter().for_each(|number| turn.emit(*number)),
            Err(info) => self.mouth.tell(Told::Info("counter", *info.downcast::<u64>().map_err(|_| "no number")?)),
        }
        Ok(())
    }

    async fn handle_discarded(&mut self, events: u64, _: &mut Turn<'_, u64>) -> Result {
        self.mouth.tell(Told::Info("discarded", events));
        Ok(())
    }

    async fn handle_subscribe(&mut self, peer: &Peer, _: &mut Turn<'_, u64>) -> Result {
        self.mouth.tell(Told::Subscribed("counter", peer.instance.name.clone()));
        Ok(())
    }

    async fn handle_cancel(&mut self, peer: &Peer, left: &Left, _: &mut Turn<'_, u64>) -> Result {
        self.mouth.tell(Told::Cancelled("counter", peer.instance.name.clone(), left.clone()));
        Ok(())
    }
}

/// Tells the test what it gets.
pub(crate) struct Forwarder(pub(crate) &'static str, pub(crate) Mouth);

impl Consumer for Forwarder {
    type In = u64;

    async fn handle_events(&mut self, events: Batch<u64>, _: &mut Turn<'_, Nothing>) -> Result {
        self.1.tell(Told::Events(self.0, events.into_values().collect()));
        Ok(())
    }

    async fn handle_info(&mut self, info: Info, turn: &mut Turn<'_, Nothing>) -> Result {
        heard(self.0, &self.1, info, turn)
    }

    async fn handle_subscribe(&mut self, peer: &Peer, _: &mut Turn<'_, Nothing>) -> Result {
        self.1.tell(Told::Subscribed(self.0, peer.name.clone()));
        Ok(())
    }

    async fn handle_cancel(&mut self, peer: &Peer, left: &Left, _: &mut Turn<'_, Nothing>) -> Result {
        self.1.tell(Told::Cancelled(self.0, peer.name.clone(), left.clone()));
        Ok(())
    }
}

/// What a stage of a test does at an info.
pub(crate) enum Do {
    Say(u64),
    Ask(Arc<Peer>, u64),
    Cancel(Arc<Peer>),
    Stop,
    Fail,
}

fn heard<Out: 'static>(name: &'static str, mouth: &Mouth, info: Info, turn: &mut Turn<'_, Out>) -> Result {
    match &*info.downcast::<Do>().map_err(|_| "not understood")? {
        Do::Say(number) => mouth.tell(Told::Info(name, *number)),
        Do::Ask(peer, n) => turn.ask(peer, *n),
        Do::Cancel(peer) => turn.cancel(peer),
        Do::Stop => turn.stop(),
        Do::Fail => return Err(Failure::new("told to")),
    }
    Ok(())
}

/// Emits each event twice.
pub(crate) struct Doubler(pub(crate) Mouth);

impl ProducerConsumer for Doubler {
    type In = u64;
    type Out = u64;

    async fn handle_events(&mut self, events: Batch<u64>, turn: &mut Turn<'_, u64>) -> Result {
        self.0.tell(Told::Events("doubler", events.iter().map(|event| event.value).collect()));
        for event in events {
            turn.emit(event.value);
            turn.emit(event.value);
        }
        Ok(())
    }

    async fn handle_info(&mut self, info: Info, turn: &mut Turn<'_, u64>) -> Result {
        heard("doubler", &self.0, info, turn)
    }

    async fn handle_subscribe(&mut self, peer: &Peer, _: &mut Turn<'_, u64>) -> Result {
        self.0.tell(Told::Subscribed("doubler", peer.name.clone()));
        Ok(())
    }

    async fn handle_cancel(&mut self, peer: &Peer, left: &Left, _: &mut Turn<'_, u64>) -> Result {
        self.0.tell(Told::Cancelled("doubler", peer.name.clone(), left.clone()));
        Ok(())
    }
}

/// Emits what it gets only later, at a message to itself.
pub(crate) struct Postponer(pub(crate) Mouth);

impl ProducerConsumer for Postponer {
    type In = u64;
    type Out = u64;

    async fn handle_events(&mut self, events: Batch<u64>, turn: &mut Turn<'_, u64>) -> Result {
        turn.info(Queue(events.into_values().collect()));
        Ok(())
    }

    async fn handle_info(&mut self, info: Info, turn: &mut Turn<'_, u64>) -> Result {
        let queue = info.downcast::<Queue>().map_err(|_| "not understood")?;
        self.0.tell(Told::Events("postponer", queue.0.clone()));
        queue.0.iter().for_each(|number| turn.emit(*number));
        Ok(())
    }
}

/// Emits nothing.
pub(crate) struct Discarder(pub(crate) Mouth);

impl ProducerConsumer for Discarder {
    type In = u64;
    type Out = u64;

    async fn handle_events(&mut self, events: Batch<u64>, _: &mut Turn<'_, u64>) -> Result {
        self.0.tell(Told::Events("discarder", events.into_values().collect()));
        Ok(())
    }
}

/// Never returns from its first batch.
pub(crate) struct Sleeper(pub(crate) Mouth);

impl Consumer for Sleeper {
    type In = u64;

    async fn handle_events(&mut self, events: Batch<u64>, _: &mut Turn<'_, Nothing>) -> Result {
        self.0.tell(Told::Events("sleeper", events.into_values().collect()));
        std::future::pending().await
    }
}

pub(crate) fn twice(numbers: std::ops::RangeInclusive<u64>) -> Vec<u64> {
    numbers.flat_map(|number| [number, number]).collect()
}
