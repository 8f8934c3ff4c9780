//! A handler driven by a test, without a stage around it.

use std::{any::Any, fmt, sync::Arc};

use jaiminho_core::{Event, Outcome, Reason};
use jaiminho_runtime::{Call, Handler, Left, Peer, Turn};

use crate::{
    Codec, Consumer, Failure, Json, NoCodec, Nothing, Producer, ProducerConsumer, Result,
    handlers::{Adapter, Consuming, Converting, Producing},
};

/// Calls a handler as its stage would, and says what came of it. No retries: a failure is the call's result.
///
/// ```
/// # use jaiminho::{Batch, Harness, ProducerConsumer, Result, Turn};
/// struct Halver;
///
/// impl ProducerConsumer for Halver {
///     type In = u64;
///     type Out = u64;
///
///     async fn handle_events(&mut self, numbers: Batch<u64>, turn: &mut Turn<'_, u64>) -> Result {
///         for number in &numbers {
///             match number.value % 2 {
///                 0 => turn.emit_of(number, number.value / 2),
///                 _ => turn.reject(number, "odd"),
///             }
///         }
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let said = Harness::producer_consumer(Halver).events([4, 5]).await.unwrap();
/// assert_eq!(said.emitted, [2]);
/// assert_eq!(said.rejected[0].0, 1);
/// # }
/// ```
pub struct Harness<In, Out> {
    handler: Box<dyn Handler>,
    input: Box<dyn Codec<In>>,
    output: Box<dyn Codec<Out>>,
    peer: Arc<Peer>,
    outputs: Vec<String>,
}

/// What a handler said in one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said<Out> {
    /// In order.
    pub emitted: Vec<Out>,
    /// The same of further outputs, by their names.
    pub emitted_to: Vec<(String, Out)>,
    /// The place of each rejected event in the batch, and why.
    pub rejected: Vec<(usize, Reason, String)>,
    /// Whether the stage comes to its end.
    pub stopped: bool,
}

impl<Out: Send + 'static> Harness<Nothing, Out>
where
    Json: Codec<Out>,
{
    /// Drives a producer.
    pub fn producer(producer: impl Producer<Out = Out>) -> Self {
        let handler = Producing(Adapter { handler: producer, input: (), output: Json });
        Self::new(Box::new(handler), Box::new(NoCodec), Box::new(Json))
    }
}

impl<In: Send + 'static, Out: Send + 'static> Harness<In, Out>
where
    Json: Codec<In> + Codec<Out>,
{
    /// Drives a producer-consumer.
    pub fn producer_consumer(handler: impl ProducerConsumer<In = In, Out = Out>) -> Self {
        let handler = Converting(Adapter { handler, input: Json, output: Json });
        Self::new(Box::new(handler), Box::new(Json), Box::new(Json))
    }
}

impl<In: Send + 'static> Harness<In, Nothing>
where
    Json: Codec<In>,
{
    /// Drives a consumer.
    pub fn consumer(consumer: impl Consumer<In = In>) -> Self {
        let handler = Consuming(Adapter { handler: consumer, input: Json, output: NoCodec });
        Self::new(Box::new(handler), Box::new(Json), Box::new(NoCodec))
    }
}

impl<In: 'static, Out: 'static> Harness<In, Out> {
    fn new(handler: Box<dyn Handler>, input: Box<dyn Codec<In>>, output: Box<dyn Codec<Out>>) -> Self {
        Self { handler, input, output, peer: Peer::producer_for_test("test"), outputs: vec![String::new()] }
    }

    /// The stage has this output, too.
    #[must_use]
    pub fn output(mut self, name: impl Into<String>) -> Self {
        self.outputs.push(name.into());
        self
    }

    /// Consumers want so many events more.
    ///
    /// # Errors
    /// As the handler's.
    pub async fn demand(&mut self, events: u64) -> Result<Said<Out>> {
        self.call(Call::Demand(events)).await
    }

    /// A batch has come.
    ///
    /// # Errors
    /// As the handler's; or an event can't be encoded.
    pub async fn events(&mut self, values: impl IntoIterator<Item = In>) -> Result<Said<Out>> {
        let encoded = values.into_iter().map(|value| {
            let key = self.input.key(&value);
            Ok(Event { key, ..Event::new(self.input.encode(value)?) })
        });
        let events = encoded.collect::<Result<Vec<Event>>>()?;
        self.call(Call::Events { from: self.peer.clone(), events }).await
    }

    /// A message has come.
    ///
    /// # Errors
    /// As the handler's.
    pub async fn info(&mut self, info: impl Any + Send + Sync) -> Result<Said<Out>> {
        self.call(Call::Info(Arc::new(info))).await
    }

    /// A link has opened.
    ///
    /// # Errors
    /// As the handler's.
    pub async fn subscribe(&mut self) -> Result<Said<Out>> {
        self.call(Call::Subscribed(self.peer.clone())).await
    }

    /// A link has ended.
    ///
    /// # Errors
    /// As the handler's.
    pub async fn cancel(&mut self, left: Left) -> Result<Said<Out>> {
        self.call(Call::Cancelled(self.peer.clone(), left)).await
    }

    /// The time that it asked for has come.
    ///
    /// # Errors
    /// As the handler's.
    pub async fn wake(&mut self) -> Result<Said<Out>> {
        self.call(Call::Wake).await
    }

    /// This became of the next events that it tracks.
    ///
    /// # Errors
    /// As the handler's.
    pub async fn settled(&mut self, outcomes: impl IntoIterator<Item = Outcome>) -> Result<Said<Out>> {
        self.call(Call::Settled(outcomes.into_iter().collect())).await
    }

    async fn call(&mut self, call: Call) -> Result<Said<Out>> {
        let mut turn = Turn::for_test(self.outputs.clone().into());
        self.handler.handle(&call, &mut turn).await.map_err(|failure| Failure::new(failure.text))?;
        let (mut emitted, mut emitted_to) = (Vec::new(), Vec::new());
        for (payload, output) in turn.emitted() {
            let value = self.output.decode(payload)?;
            match self.outputs.get(output).filter(|_| output > 0) {
                Some(name) => emitted_to.push((name.clone(), value)),
                None => emitted.push(value),
            }
        }
        let rejected = turn.rejected().map(|(place, why)| (place, why.reason, why.text.clone())).collect();
        Ok(Said { emitted, emitted_to, rejected, stopped: turn.is_stopped() })
    }
}

impl<In, Out> fmt::Debug for Harness<In, Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Harness").finish_non_exhaustive()
    }
}
