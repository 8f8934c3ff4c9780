//! What a stage's author implements: [`Producer`], [`ProducerConsumer`] or [`Consumer`].

use futures_util::future::{BoxFuture, FutureExt as _};
use jaiminho_core::Outcome;
use jaiminho_runtime::{Call, Failure as Untyped, Handler, Info, Kind, Left, Peer, Role, Turn as Said};

use crate::{Batch, Codec, NoCodec, Nothing, Result, Turn};

/// Callbacks that all stages have; each does nothing unless it is implemented.
macro_rules! callbacks {
    ($out:ty) => {
        /// A message came, through [`Running::info`](crate::Running::info) or [`Turn::info`]. All events that were there
        /// before it are handled, and dispatched.
        fn handle_info(&mut self, info: Info, turn: &mut Turn<'_, $out>) -> impl Future<Output = Result> + Send {
            let _unheard = (info, turn);
            async { Ok(()) }
        }

        /// A link to a consumer or to a producer has opened.
        fn handle_subscribe(&mut self, peer: &Peer, turn: &mut Turn<'_, $out>) -> impl Future<Output = Result> + Send {
            let _unheard = (peer, turn);
            async { Ok(()) }
        }

        /// A link has ended: once for each that opened, after what it has brought.
        fn handle_cancel(
            &mut self,
            peer: &Peer,
            left: &Left,
            turn: &mut Turn<'_, $out>,
        ) -> impl Future<Output = Result> + Send {
            let _unheard = (peer, left, turn);
            async { Ok(()) }
        }

        /// The output had no room for so many events, and has discarded them: see
        /// [`Stage::overflow`](crate::Stage::overflow).
        fn handle_discarded(&mut self, events: u64, turn: &mut Turn<'_, $out>) -> impl Future<Output = Result> + Send {
            let _unheard = (events, turn);
            async { Ok(()) }
        }

        /// The time of [`Turn::wake`] has come.
        fn handle_wake(&mut self, turn: &mut Turn<'_, $out>) -> impl Future<Output = Result> + Send {
            let _unheard = turn;
            async { Ok(()) }
        }
    };
}

/// Brings events into the pipeline when somebody wants them.
pub trait Producer: Send + 'static {
    /// What it emits.
    type Out: Send + 'static;

    /// Consumers want `demand` events more than were asked for before. It may emit fewer now and the rest from any later
    /// call, exactly as many, or more: these wait in the log. Demand is told once, however consumers come and go.
    fn handle_demand(&mut self, demand: u64, turn: &mut Turn<'_, Self::Out>) -> impl Future<Output = Result> + Send;

    /// What became of the next events of those that it emitted by [`Turn::emit_tracked`]: in their order, each once. A source
    /// acknowledges here what it has read; where the stage ends before, it reads that again.
    fn handle_settled(
        &mut self,
        outcomes: &[Outcome],
        turn: &mut Turn<'_, Self::Out>,
    ) -> impl Future<Output = Result> + Send {
        let _unheard = (outcomes, turn);
        async { Ok(()) }
    }

    callbacks!(Self::Out);
}

/// Turns events into others, while somebody wants them.
pub trait ProducerConsumer: Send + 'static {
    /// What comes.
    type In: Send + 'static;
    /// What it emits.
    type Out: Send + 'static;

    /// At most `max_demand - min_demand` events of one producer.
    fn handle_events(
        &mut self,
        events: Batch<Self::In>,
        turn: &mut Turn<'_, Self::Out>,
    ) -> impl Future<Output = Result> + Send;

    callbacks!(Self::Out);
}

/// Takes events out of the pipeline.
pub trait Consumer: Send + 'static {
    /// What comes.
    type In: Send + 'static;

    /// At most `max_demand - min_demand` events of one producer. When it returns, all are accepted, but those that it
    /// rejects.
    fn handle_events(
        &mut self,
        events: Batch<Self::In>,
        turn: &mut Turn<'_, Nothing>,
    ) -> impl Future<Output = Result> + Send;

    callbacks!(Nothing);
}

/// The runtime's role of a producer.
pub(crate) fn producer<P: Producer>(handler: P, output: impl Codec<P::Out>) -> Role {
    Role::Handler(Box::new(Producing(Adapter { handler, input: (), output })), Kind::Producer)
}

/// The same of a producer-consumer.
pub(crate) fn producer_consumer<H: ProducerConsumer>(
    handler: H,
    input: impl Codec<H::In>,
    output: impl Codec<H::Out>,
) -> Role {
    Role::Handler(Box::new(Converting(Adapter { handler, input, output })), Kind::ProducerConsumer)
}

/// The same of a consumer.
pub(crate) fn consumer<C: Consumer>(handler: C, input: impl Codec<C::In>) -> Role {
    Role::Handler(Box::new(Consuming(Adapter { handler, input, output: NoCodec })), Kind::Consumer)
}

/// Makes a runtime's handler of one of the three.
pub(crate) struct Adapter<H, In, Out> {
    pub(crate) handler: H,
    pub(crate) input: In,
    pub(crate) output: Out,
}

/// Calls the handler of an adapter for what all stages are called for; the rest stands behind.
macro_rules! handle {
    ($adapter:expr, $call:ident, $said:ident, |$handler:ident, $input:pat, $turn:ident| $($special:tt)*) => {
        async move {
            let Adapter { handler: $handler, input: $input, output } = &mut $adapter;
            let mut $turn = Turn::new($said, output);
            let result = match $call {
                Call::Info(info) => $handler.handle_info(info.clone(), &mut $turn).await,
                Call::Subscribed(peer) => $handler.handle_subscribe(peer, &mut $turn).await,
                Call::Cancelled(peer, left) => $handler.handle_cancel(peer, left, &mut $turn).await,
                Call::Discarded(events) => $handler.handle_discarded(*events, &mut $turn).await,
                Call::Wake => $handler.handle_wake(&mut $turn).await,
                $($special)*
            };
            $turn.end(result).map_err(|failure| Untyped::new(failure.into_text()))
        }
        .boxed()
    };
}

/// The same for stages that get events.
macro_rules! handle_batches {
    ($adapter:expr, $call:ident, $said:ident) => {
        handle!($adapter, $call, $said, |handler, input, turn|
            Call::Events { from, events } => {
                let batch = turn.decode(from, events, input);
                handler.handle_events(batch, &mut turn).await
            }
            Call::Demand(_) | Call::Settled(_) => Ok(()),
        )
    };
}

/// Adapters for producers.
pub(crate) struct Producing<P, C>(pub(crate) Adapter<P, (), C>);

impl<P: Producer, C: Codec<P::Out>> Handler for Producing<P, C> {
    fn handle<'a>(&'a mut self, call: &'a Call, said: &'a mut Said) -> BoxFuture<'a, Result<(), Untyped>> {
        handle!(self.0, call, said, |handler, (), turn|
            Call::Demand(demand) => handler.handle_demand(*demand, &mut turn).await,
            Call::Settled(outcomes) => handler.handle_settled(outcomes, &mut turn).await,
            Call::Events { .. } => Ok(()),
        )
    }
}

/// Adapters for producer-consumers.
pub(crate) struct Converting<H, In, Out>(pub(crate) Adapter<H, In, Out>);

impl<H: ProducerConsumer, In: Codec<H::In>, Out: Codec<H::Out>> Handler for Converting<H, In, Out> {
    fn handle<'a>(&'a mut self, call: &'a Call, said: &'a mut Said) -> BoxFuture<'a, Result<(), Untyped>> {
        handle_batches!(self.0, call, said)
    }
}

/// Adapters for consumers.
pub(crate) struct Consuming<C, In>(pub(crate) Adapter<C, In, NoCodec>);

impl<H: Consumer, In: Codec<H::In>> Handler for Consuming<H, In> {
    fn handle<'a>(&'a mut self, call: &'a Call, said: &'a mut Said) -> BoxFuture<'a, Result<(), Untyped>> {
        handle_batches!(self.0, call, said)
    }
}
