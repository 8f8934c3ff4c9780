//! Writing: from the channel of a link into a gRPC stream. The transport polls these; what it can't send yet stays in the channel.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::stream::Stream;
use jaiminho_core::{LinkError, Subscribe, Subscribed, ToConsumer, ToProducer};
use jaiminho_proto::v1::{ConsumerMessage, ProducerMessage};
use jaiminho_proto::{encode_framed, encode_subscribe, encode_subscribed, encode_to_producer, status_of};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};
use tonic::Status;

use crate::credit::Granted;

/// Producer to consumer: `Subscribed`, what the stage says, and its error or the consumer's violation as the status.
/// A consumer that closes its direction has left, and is told nothing more.
pub(crate) struct ToConsumerStream {
    /// `Subscribed`, and the rest of a message that was too long for one frame.
    ready: VecDeque<ProducerMessage>,
    frame_bytes_max: usize,
    from_stage: mpsc::Receiver<Result<ToConsumer, LinkError>>,
    /// How the consumer's direction ended; none once the stage stopped to read it.
    consumer_end: Option<oneshot::Receiver<ConsumerEnd>>,
    /// Tells the reader of the same link; none once the stream has ended.
    open: Option<DropGuard>,
}

/// The consumer's direction is at its end.
pub(crate) enum ConsumerEnd {
    Closed,
    Broken(LinkError),
}

impl ToConsumerStream {
    /// `frame_bytes_max` is the consumer's.
    pub(crate) fn new(
        subscribed: &Subscribed,
        frame_bytes_max: usize,
        from_stage: mpsc::Receiver<Result<ToConsumer, LinkError>>,
        consumer_end: oneshot::Receiver<ConsumerEnd>,
        open: DropGuard,
    ) -> Self {
        let ready = [encode_subscribed(subscribed)].into();
        Self { ready, frame_bytes_max, from_stage, consumer_end: Some(consumer_end), open: Some(open) }
    }

    fn end(&mut self, error: Option<&LinkError>) -> Poll<Option<Result<ProducerMessage, Status>>> {
        self.from_stage.close();
        self.open = None;
        Poll::Ready(error.map(|error| Err(status_of(error))))
    }
}

impl Stream for ToConsumerStream {
    type Item = Result<ProducerMessage, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.open.is_none() {
            return Poll::Ready(None);
        }
        if let Some(end) = &mut self.consumer_end
            && let Poll::Ready(end) = Pin::new(end).poll(context)
        {
            self.consumer_end = None;
            match end {
                Ok(ConsumerEnd::Closed) => return self.end(None),
                Ok(ConsumerEnd::Broken(error)) => return self.end(Some(&error)),
                Err(_) => {}
            }
        }
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(message)));
            }
            match ready!(self.from_stage.poll_recv(context)) {
                Some(Ok(message)) => {
                    let messages = encode_framed(&message, self.frame_bytes_max);
                    self.ready.extend(messages);
                }
                Some(Err(error)) => return self.end(Some(&error)),
                None => return self.end(None),
            }
        }
    }
}

/// Consumer to producer: `Subscribe`, then what the consumer says. Once cut, it ends with what is already in the channel.
pub(crate) struct ToProducerStream {
    from_consumer: mpsc::Receiver<ToProducer>,
    /// `Subscribe`, and the rest of a message that was too long for one.
    ready: VecDeque<ConsumerMessage>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    granted: Granted,
    _sent: DropGuard,
}

impl ToProducerStream {
    /// `sent` is cancelled when all is handed to the transport, or the transport gave up; `granted` follows what is said.
    pub(crate) fn new(
        subscribe: &Subscribe,
        from_consumer: mpsc::Receiver<ToProducer>,
        cut: CancellationToken,
        sent: CancellationToken,
        granted: Granted,
    ) -> Self {
        Self {
            from_consumer,
            ready: [encode_subscribe(subscribe)].into(),
            cut: Box::pin(cut.cancelled_owned()),
            granted,
            _sent: sent.drop_guard(),
        }
    }
}

impl Stream for ToProducerStream {
    type Item = ConsumerMessage;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<ConsumerMessage>> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Poll::Ready(Some(message));
            }
            if self.cut.as_mut().poll(context).is_ready() {
                self.from_consumer.close();
            }
            let Some(message) = ready!(self.from_consumer.poll_recv(context)) else { return Poll::Ready(None) };
            if let ToProducer::Credit(credit) = &message {
                self.granted.raise(*credit);
            }
            self.ready.extend(encode_to_producer(&message));
        }
    }
}
