//! A stage's events as a stream.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{
    Stream,
    future::{BoxFuture, FutureExt as _},
};
use jaiminho_core::{Event, Outcome, Reason, Rejection};
use jaiminho_runtime::{Receipt, Role, Settler, Sink, StageEnd, StageHandle};
use tokio::sync::mpsc;

use crate::{Codec, Stage};

/// Whoever reads a stream decides how long its end takes.
const UNHURRIED: Duration = Duration::from_secs(365 * 24 * 3_600);

/// The stage behind a stream has ended, and not in order.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Lost(pub String);

/// The events that a stage gets, one after the other. Each is accepted when the next one is asked for, or the stream is
/// dropped. Dropping it ends the stage: what it had not given out goes to others.
///
/// It ends when the stage does; after [`Lost`], if that was not in order.
pub struct Events<T> {
    chunks: mpsc::Receiver<Chunk>,
    chunk: VecDeque<(Receipt, Event)>,
    given: Option<Receipt>,
    settler: Settler,
    codec: Box<dyn Codec<T>>,
    handle: Arc<OnceLock<StageHandle>>,
    end: Option<BoxFuture<'static, StageEnd>>,
    is_over: bool,
}

type Chunk = Vec<(Receipt, Event)>;

impl Stage {
    /// A stage whose events are read from a stream.
    pub fn events<T: 'static>(name: impl Into<String>, codec: impl Codec<T>) -> (Self, Events<T>) {
        let (sender, chunks) = mpsc::channel(1);
        let settler = Settler::default();
        let mut stage = Self::new(name, Role::Sink(Box::new(Forward(sender)), settler.clone())).drain(UNHURRIED);
        let handle: Arc<OnceLock<StageHandle>> = Arc::default();
        stage.announces = Some(handle.clone());
        let codec = Box::new(codec);
        let (chunk, given, end) = (VecDeque::new(), None, None);
        (stage, Events { chunks, chunk, given, settler, codec, handle, end, is_over: false })
    }
}

impl<T> Events<T> {
    fn accept(&mut self) {
        if let Some(receipt) = self.given.take() {
            self.settler.settle(receipt, Outcome::Accepted);
        }
    }
}

impl<T: 'static> Stream for Events<T> {
    type Item = Result<T, Lost>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        this.accept();
        while !this.is_over {
            if let Some((receipt, event)) = this.chunk.pop_front() {
                match this.codec.decode(&event.payload) {
                    Ok(value) => {
                        this.given = Some(receipt);
                        return Poll::Ready(Some(Ok(value)));
                    }
                    Err(failure) => {
                        let rejection = Rejection::new(Reason::Malformed, failure.into_text());
                        this.settler.settle(receipt, Outcome::Rejected(Box::new(rejection)));
                    }
                }
            } else if this.end.is_none() {
                match ready!(this.chunks.poll_recv(context)) {
                    Some(chunk) => this.chunk = chunk.into(),
                    None => match this.handle.get().cloned() {
                        Some(handle) => this.end = Some(async move { handle.ended().await }.boxed()),
                        // The stage was never started.
                        None => this.is_over = true,
                    },
                }
            } else if let Some(end) = &mut this.end {
                let end = ready!(end.poll_unpin(context));
                this.is_over = true;
                match end {
                    StageEnd::Drained { .. } => {}
                    StageEnd::Failed(text) => return Poll::Ready(Some(Err(Lost(text)))),
                    StageEnd::Fenced(name) => {
                        return Poll::Ready(Some(Err(Lost(format!("a newer instance has the name {name}")))));
                    }
                }
            }
        }
        Poll::Ready(None)
    }
}

impl<T> Drop for Events<T> {
    fn drop(&mut self) {
        self.accept();
        if let Some(handle) = self.handle.get() {
            handle.begin_drain(Duration::ZERO);
        }
    }
}

impl<T> fmt::Debug for Events<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("is_over", &self.is_over).finish_non_exhaustive()
    }
}

struct Forward(mpsc::Sender<Chunk>);

impl Sink for Forward {
    fn send<'a>(&'a mut self, events: &'a mut Vec<(Receipt, Event)>) -> BoxFuture<'a, ()> {
        async move {
            // When nobody reads any more the stage ends, and its events are released.
            let _unread = self.0.send(std::mem::take(events)).await;
        }
        .boxed()
    }

    fn drain(&mut self, _: Duration) -> BoxFuture<'_, ()> {
        std::future::ready(()).boxed()
    }
}
