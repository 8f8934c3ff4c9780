//! One bounded task for each event: GenStage's `ConsumerSupervisor`.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::future::{BoxFuture, FutureExt as _};
use jaiminho_core::{Event, Outcome, Payload, Reason, Rejection};
use jaiminho_runtime::{Receipt, Role, Settler, Sink};
use tokio::task::JoinSet;

use crate::{Codec, Failure, Json, Result, Stage};

/// Tries of one task, unless said otherwise.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(2);

impl Stage {
    /// Runs one task for each event, at most [`max_demand`](crate::Upstream::max_demand) for each producer; more events are asked
    /// for when `max_demand - min_demand` tasks have ended. An event is accepted when its task returns `Ok`; an error or a
    /// panic is tried again, five times, and holds its place meanwhile; then the event is rejected as `exhausted`.
    ///
    /// Tasks know no order, and go on when their producer is lost. Those that run when the stage has to end are dropped.
    pub fn tasks<T, F, R>(name: impl Into<String>, run: F) -> Self
    where
        T: Send + 'static,
        Json: Codec<T>,
        F: Fn(T) -> R + Send + Sync + 'static,
        R: Future<Output = Result> + Send + 'static,
    {
        Self::tasks_with(name, run, Json)
    }

    /// The same, with a codec.
    pub fn tasks_with<T, F, R>(name: impl Into<String>, run: F, codec: impl Codec<T>) -> Self
    where
        T: Send + 'static,
        F: Fn(T) -> R + Send + Sync + 'static,
        R: Future<Output = Result> + Send + 'static,
    {
        let start = move |payload: &Payload| match codec.decode(payload) {
            Ok(value) => Ok(run(value).boxed()),
            Err(failure) => Err(Rejection::new(Reason::Malformed, failure.into_text())),
        };
        let settler = Settler::default();
        let tasks = Tasks { start: Arc::new(start), settler: settler.clone(), running: JoinSet::new() };
        Self::new(name, Role::Sink(Box::new(tasks), settler))
    }
}

/// Makes the task of an event, unless it can't be read.
type Start = dyn Fn(&Payload) -> Result<BoxFuture<'static, Result>, Rejection> + Send + Sync;

struct Tasks {
    start: Arc<Start>,
    settler: Settler,
    /// No more than the stage's windows allow: only settled events make room for others.
    running: JoinSet<()>,
}

impl Sink for Tasks {
    fn send<'a>(&'a mut self, events: &'a mut Vec<(Receipt, Event)>) -> BoxFuture<'a, ()> {
        while self.running.try_join_next().is_some() {}
        for (receipt, event) in events.drain(..) {
            let (start, settler) = (self.start.clone(), self.settler.clone());
            self.running.spawn(async move { settler.settle(receipt, outcome(&*start, &event.payload).await) });
        }
        std::future::ready(()).boxed()
    }

    fn drain(&mut self, time_left: Duration) -> BoxFuture<'_, ()> {
        async move {
            let all = async { while self.running.join_next().await.is_some() {} };
            // Those that take longer are dropped: their events come again.
            let _late = tokio::time::timeout(time_left, all).await;
        }
        .boxed()
    }
}

async fn outcome(start: &Start, payload: &Payload) -> Outcome {
    let mut pause = PAUSE;
    let mut tries = 0;
    loop {
        let task = AssertUnwindSafe(async {
            match start(payload) {
                Ok(task) => Ok(task.await),
                Err(rejection) => Err(rejection),
            }
        });
        let failure = match task.catch_unwind().await {
            Ok(Ok(Ok(()))) => return Outcome::Accepted,
            Ok(Ok(Err(failure))) => failure,
            Ok(Err(rejection)) => return Outcome::Rejected(Box::new(rejection)),
            Err(_) => Failure::new("the task panicked"),
        };
        tries += 1;
        if tries >= TRIES {
            return Outcome::Rejected(Box::new(Rejection::new(Reason::Exhausted, failure.into_text())));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}
