//! Every kind of component of a program's own, in one pipeline that ends by itself.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the failure")]

use std::{
    process::ExitCode,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::{BoxFuture, FutureExt as _, ready};
use jaiminho::{
    Batch, CloudEvent, Consumer, Data, Event, Json, Nothing, Outcome, Producer, ProducerConsumer, Result, Turn,
    app::{App, Context, Settings},
    raw::{
        Acknowledge, Emitted, Failure, NewEvent, Offer, Receipt, Settler, Sink, Source, SourceError, SourceHandle,
        Transform, Verdict,
    },
};

/// Some letters.
#[derive(Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Letters {
    letters: String,
}

impl Settings for Letters {}

fn cloud(letter: char) -> CloudEvent {
    let mut event = CloudEvent::new(letter.to_string(), "/letters", "letter");
    event.data = Data::Text(format!("{{\"letter\":\"{letter}\"}}"));
    event
}

/// Emits the letters, and ends.
impl Producer for Letters {
    type Out = CloudEvent;

    async fn handle_demand(&mut self, _: u64, turn: &mut Turn<'_, CloudEvent>) -> Result {
        self.letters.drain(..).for_each(|letter| turn.emit(cloud(letter)));
        turn.stop();
        Ok(())
    }
}

/// The same as a source of the runtime's.
struct Offered(String, Context);

impl Source for Offered {
    fn run(self: Box<Self>, handle: SourceHandle) -> BoxFuture<'static, Result<(), SourceError>> {
        async move {
            let mut events = Vec::new();
            for letter in self.0.chars() {
                let mut event = cloud(letter);
                self.1.enter(&mut event).map_err(|error| SourceError(error.to_string()))?;
                events.push(NewEvent::from(&event));
            }
            let offer = Offer { events, deadline: None, acknowledge: Acknowledge::Published };
            let taken = handle.offer(offer).await.map_err(|refusal| SourceError(refusal.to_string()))?;
            taken.answers().await;
            Ok(())
        }
        .boxed()
    }
}

/// Puts the letters behind each event's type.
impl ProducerConsumer for Letters {
    type In = CloudEvent;
    type Out = CloudEvent;

    async fn handle_events(&mut self, events: Batch<CloudEvent>, turn: &mut Turn<'_, CloudEvent>) -> Result {
        for event in &events {
            let mut value = event.value.clone();
            value.ty.push_str(&self.letters);
            turn.emit_of(event, value);
        }
        Ok(())
    }
}

/// The same as a transform of the runtime's.
struct Behind(String);

impl Transform for Behind {
    fn process<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<Verdict, Failure>> {
        let verdict = CloudEvent::decode(&event.payload).map(|mut value| {
            value.ty.push_str(&self.0);
            Verdict::Emit([Emitted::main(value.encode().into())].into_iter().collect())
        });
        ready(verdict.map_err(|error| Failure::new(error.to_string()))).boxed()
    }
}

/// What sinks got: key, and type.
type Got = Arc<Mutex<Vec<String>>>;

fn got(all: &Got, event: &CloudEvent) {
    let key = event.attribute("partitionkey").unwrap_or_default().into_owned();
    all.lock().unwrap().push(format!("{} {key} {}", event.id, event.ty));
}

struct Keeper(Got);

impl Consumer for Keeper {
    type In = CloudEvent;

    async fn handle_events(&mut self, events: Batch<CloudEvent>, _: &mut Turn<'_, Nothing>) -> Result {
        events.into_values().for_each(|event| got(&self.0, &event));
        Ok(())
    }
}

/// The same as a sink of the runtime's.
struct Settling(Got, Settler);

impl Sink for Settling {
    fn send<'a>(&'a mut self, events: &'a mut Vec<(Receipt, Event)>) -> BoxFuture<'a, ()> {
        for (receipt, event) in events.drain(..) {
            got(&self.0, &CloudEvent::decode(&event.payload).unwrap());
            self.1.settle(receipt, Outcome::Accepted);
        }
        ready(()).boxed()
    }

    fn drain(&mut self, _: Duration) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }
}

const PIPELINE: &str = r#"
version: 1
pipeline: kinds
stages:
  one: { key: "k-{{data.letter}}", source: { letters: { letters: abc } } }
  two: { key: "{{data.letter}}", source: { offered: { letters: de } } }
  mark: { subscribe_to: [one, two], transform: { mark: { letters: "-x" } } }
  behind: { subscribe_to: [mark], transform: { behind: { letters: "-y" } } }
  keep: { subscribe_to: [behind], sink: { keep: { letters: "" } } }
  settle: { subscribe_to: [behind], sink: { settle: { letters: "" } } }
  dead:
    subscribe_to: [mark.dead_letter, behind.dead_letter, keep.dead_letter, settle.dead_letter]
    sink: { blackhole: {} }
"#;

#[test]
fn each_kind_of_component_works_in_a_pipeline_and_keys_are_as_the_file_says() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.yaml");
    std::fs::write(&file, PIPELINE).unwrap();
    let (kept, settled) = (Got::default(), Got::default());
    let (keep, settle) = (kept.clone(), settled.clone());
    let app = App::new()
        .producer("letters", |letters: &Letters, _| Ok(letters.clone()))
        .source("offered", |letters: &Letters, context| Ok(Offered(letters.letters.clone(), context.clone())))
        .producer_consumer("mark", |letters: &Letters, _| Ok(letters.clone()))
        .transform("behind", |letters: &Letters, _| Ok(Behind(letters.letters.clone())))
        .consumer("keep", move |_: &Letters, _| Ok(Keeper(keep.clone())))
        .sink("settle", move |_: &Letters, _, settler| Ok(Settling(settle.clone(), settler)));
    let args = ["kinds", "up", "--admin", "127.0.0.1:0", "--json", "-f"].map(Into::into);
    let code = app.run_with(args.into_iter().chain([file.into_os_string()]));
    assert_eq!(code, ExitCode::SUCCESS);
    for all in [kept, settled] {
        let mut all = all.lock().unwrap().clone();
        all.sort();
        let letters = [("a", "k-a"), ("b", "k-b"), ("c", "k-c"), ("d", "d"), ("e", "e")];
        assert_eq!(all, letters.map(|(id, key)| format!("{id} {key} letter-x-y")));
    }
}

#[test]
fn a_name_that_a_built_in_component_has_ends_the_program() {
    let app = App::new().producer_with("http", Json, |_: &Letters, _| Ok(jaiminho::Items::new([1])));
    assert_eq!(app.run_with(["own".into(), "list".into()]), ExitCode::from(70));
}
