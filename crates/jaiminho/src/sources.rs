//! Producers over what is there already: an iterator, or a stream.

use std::{pin::Pin, time::Duration};

use futures_util::{FutureExt as _, Stream, StreamExt as _};
use jaiminho_runtime::{Left, Peer};

use crate::{Producer, Result, Turn};

/// A stream that has nothing is left alone this often, so that the stage's messages and links have their turn.
const BREATH: Duration = Duration::from_millis(100);

/// A producer of an iterator's items: as many as are asked for, and the stage's end with the last one.
///
/// An iterator that takes long to find its next item holds up its thread: make a stream of it.
#[derive(Debug)]
pub struct Items<I> {
    items: I,
    ends_alone: bool,
    consumers: usize,
}

impl<I: Iterator> Items<I> {
    /// All of them.
    pub fn new(items: impl IntoIterator<IntoIter = I>) -> Self {
        Self { items: items.into_iter(), ends_alone: false, consumers: 0 }
    }

    /// The stage ends when its last consumer leaves, with what is left of the iterator: GenStage's `on_cancel: :stop`.
    #[must_use]
    pub fn until_alone(mut self) -> Self {
        self.ends_alone = true;
        self
    }
}

impl<I> Producer for Items<I>
where
    I: Iterator + Send + 'static,
    I::Item: Send + 'static,
{
    type Out = I::Item;

    async fn handle_demand(&mut self, demand: u64, turn: &mut Turn<'_, I::Item>) -> Result {
        for _ in 0..demand {
            match self.items.next() {
                Some(item) => turn.emit(item),
                None => {
                    turn.stop();
                    break;
                }
            }
        }
        Ok(())
    }

    async fn handle_subscribe(&mut self, _: &Peer, _: &mut Turn<'_, I::Item>) -> Result {
        self.consumers += 1;
        Ok(())
    }

    async fn handle_cancel(&mut self, _: &Peer, _: &Left, turn: &mut Turn<'_, I::Item>) -> Result {
        self.consumers -= 1;
        if self.ends_alone && self.consumers == 0 {
            turn.stop();
        }
        Ok(())
    }
}

/// A producer of a stream's items: they are taken as consumers ask, and the stage ends with the last one.
pub struct Streamed<T> {
    items: Pin<Box<dyn Stream<Item = T> + Send>>,
    owed: u64,
}

impl<T> Streamed<T> {
    /// All of them.
    pub fn new(items: impl Stream<Item = T> + Send + 'static) -> Self {
        Self { items: Box::pin(items), owed: 0 }
    }
}

impl<T> std::fmt::Debug for Streamed<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streamed").field("owed", &self.owed).finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Streamed<T> {
    /// Takes what is there; when there is nothing, waits a little for it.
    async fn pull(&mut self, turn: &mut Turn<'_, T>) {
        let mut next = tokio::select! {
            next = self.items.next() => Some(next),
            () = turn.draining() => None,
            () = tokio::time::sleep(BREATH) => None,
        };
        while let Some(item) = next.take() {
            let Some(item) = item else { return turn.stop() };
            turn.emit(item);
            self.owed -= 1;
            if self.owed > 0 {
                next = self.items.next().now_or_never();
            }
        }
        if self.owed > 0 {
            turn.wake(Duration::ZERO);
        }
    }
}

impl<T: Send + 'static> Producer for Streamed<T> {
    type Out = T;

    async fn handle_demand(&mut self, demand: u64, turn: &mut Turn<'_, T>) -> Result {
        self.owed += demand;
        self.pull(turn).await;
        Ok(())
    }

    async fn handle_wake(&mut self, turn: &mut Turn<'_, T>) -> Result {
        self.pull(turn).await;
        Ok(())
    }
}
