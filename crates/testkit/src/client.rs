//! Clients: they offer numbered events to one ingest instance, remember what they were told, and send again, in order, what
//! was not acknowledged. What they know outlives the instance.

use std::time::Duration;

use jaiminho_core::Outcome;
use jaiminho_runtime::{Acknowledge, Answer, NewEvent, Offer, Refusal, SourceHandle};
use tokio::time::sleep;

use crate::event::Numbered;
use crate::world::World;

/// What one client does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientPlan {
    pub(crate) id: u32,
    pub(crate) keys: u32,
    /// Events in a body, at most.
    pub(crate) body: usize,
    /// Between two bodies.
    pub(crate) pause: Duration,
    /// Bytes beside the name; every tenth event has ten times as much.
    pub(crate) padding: usize,
    pub(crate) deadline: Option<Duration>,
}

/// What one client knows.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Events begun.
    begun: u64,
    /// Not settled, in the order in which they were begun.
    pub(crate) open: Vec<Numbered>,
    pub(crate) acknowledged: Vec<Numbered>,
}

/// A client that is told nothing definite tries again after this time.
const AGAIN: Duration = Duration::from_millis(300);

pub(crate) async fn run(world: World, host: String, plan: ClientPlan, source: SourceHandle) {
    loop {
        sleep(plan.pause).await;
        world.thawed(&host).await;
        let Some(body) = next_body(&world, &plan) else { continue };
        let events = body.iter().map(|event| new_event(*event, plan.padding)).collect();
        let offer = Offer { events, deadline: plan.deadline, acknowledge: Acknowledge::Published };
        match source.complete(offer, None).await {
            Ok(answers) => answered(&world, &host, plan.id, &body, &answers),
            Err(Refusal::Overloaded { cause, retry_after }) => {
                world.record(&host, format_args!("client {} refused: {cause}; again in {retry_after:?}", plan.id));
                sleep(retry_after).await;
            }
            Err(Refusal::Draining) => sleep(AGAIN).await,
            Err(Refusal::NeverFits { events, bytes }) => {
                world.wrong(format!("{host}: a body of {events} events and {bytes} bytes is refused for good"));
                sleep(AGAIN).await;
            }
        }
    }
}

/// What is not settled goes again before anything new. None: nothing to do.
fn next_body(world: &World, plan: &ClientPlan) -> Option<Vec<Numbered>> {
    let mut state = world.lock();
    let is_over = state.load_is_over;
    let memory = state.clients.entry(plan.id).or_default();
    if memory.open.is_empty() && !is_over {
        // Two neighbours of each key where there is room for both: order counts within a body too.
        for _ in 0..plan.body {
            let pair = memory.begun / 2;
            let (round, key) = (pair / u64::from(plan.keys), (pair % u64::from(plan.keys)) as u32);
            let number = 2 * round + memory.begun % 2 + 1;
            memory.begun += 1;
            memory.open.push(Numbered { key: plan.id * 100 + key, number });
        }
    }
    let body = memory.open[..memory.open.len().min(plan.body)].to_vec();
    (!body.is_empty()).then_some(body)
}

fn new_event(event: Numbered, padding: usize) -> NewEvent {
    let padding = if event.number.is_multiple_of(10) { 10 * padding } else { padding };
    NewEvent { payload: event.payload(padding).into(), key: event.key_hash(), identity: event.identity(), trace: None }
}

fn answered(world: &World, host: &str, client: u32, body: &[Numbered], answers: &[Answer]) {
    let mut state = world.lock();
    let [mut published, mut withdrawn, mut unknown] = [0, 0, 0];
    for (event, answer) in body.iter().zip(answers) {
        match answer {
            Answer::Settled(outcome) => {
                if let Outcome::Rejected(rejection) = outcome {
                    state.wrong(format!("{host}: good event {event:?} was rejected: {rejection:?}"));
                } else if !state.broker.has(*event) {
                    state.wrong(format!("{host}: {event:?} is acknowledged, and the broker doesn't have it"));
                }
                published += 1;
                let memory = state.clients.entry(client).or_default();
                memory.open.retain(|open| open != event);
                memory.acknowledged.push(*event);
            }
            Answer::Withdrawn => withdrawn += 1,
            Answer::Unknown => unknown += 1,
        }
    }
    let first = body[0];
    state.record(
        host,
        format_args!(
            "client {client} body from {}-{}: {published} published, {withdrawn} withdrawn, {unknown} unknown",
            first.key, first.number
        ),
    );
}
