//! Reading: from a gRPC stream into the channel of a link, each message checked.

use std::error::Error;

use jaiminho_core::{LinkError, Subscribe, Subscribed, ToConsumer, ToProducer};
use jaiminho_proto::v1::{ConsumerMessage, ProducerMessage};
use jaiminho_proto::{FromConsumer, FromProducer, decode_consumer, decode_producer, link_error};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};

/// The consumer's first message.
pub(crate) async fn subscribe(incoming: &mut Streaming<ConsumerMessage>) -> Result<Subscribe, LinkError> {
    match next(incoming).await?.map(decode_consumer).transpose()? {
        Some(FromConsumer::Subscribe(subscribe)) => Ok(*subscribe),
        Some(FromConsumer::Message(_)) => Err(LinkError::Violation("the first message is not Subscribe".into())),
        None => Err(LinkError::Violation("the stream ends before Subscribe".into())),
    }
}

/// The producer's first message.
pub(crate) async fn subscribed(incoming: &mut Streaming<ProducerMessage>) -> Result<Subscribed, LinkError> {
    match next(incoming).await?.map(decode_producer).transpose()? {
        Some(FromProducer::Subscribed(subscribed)) => Ok(subscribed),
        Some(FromProducer::Message(_)) => Err(LinkError::Violation("the first message is not Subscribed".into())),
        None => Err(LinkError::Unavailable("the producer closed the link before Subscribed".into())),
    }
}

/// Any later message of a consumer; none when it has closed the stream.
async fn to_producer(incoming: &mut Streaming<ConsumerMessage>) -> Result<Option<ToProducer>, LinkError> {
    match next(incoming).await?.map(decode_consumer).transpose()? {
        Some(FromConsumer::Message(message)) => Ok(Some(message)),
        Some(FromConsumer::Subscribe(_)) => Err(LinkError::Violation("a second Subscribe".into())),
        None => Ok(None),
    }
}

/// Any later message of a producer; none when it has closed the stream.
pub(crate) async fn to_consumer(incoming: &mut Streaming<ProducerMessage>) -> Result<Option<ToConsumer>, LinkError> {
    match next(incoming).await?.map(decode_producer).transpose()? {
        Some(FromProducer::Message(message)) => Ok(Some(message)),
        Some(FromProducer::Subscribed(_)) => Err(LinkError::Violation("a second Subscribed".into())),
        None => Ok(None),
    }
}

/// The next message, or how the stream broke.
async fn next<M>(incoming: &mut Streaming<M>) -> Result<Option<M>, LinkError> {
    incoming.message().await.map_err(|status| broken(&status))
}

/// What this side could not read is a violation; anything else is the peer's word, or the connection's end.
fn broken(status: &Status) -> LinkError {
    let is_ours = status.source().is_none() && status.details().is_empty();
    match status.code() {
        Code::Internal | Code::OutOfRange | Code::Unimplemented if is_ours => {
            LinkError::Violation(format!("unreadable message: {}", status.message()))
        }
        _ => link_error(status),
    }
}

/// Carries a consumer's messages to its stage until either goes, or one is a violation.
///
/// `closed` says that nothing more can be told to the consumer; what has arrived before is still carried.
pub(crate) async fn to_stage(
    mut incoming: Streaming<ConsumerMessage>,
    to_stage: mpsc::Sender<ToProducer>,
    violated: oneshot::Sender<LinkError>,
    closed: CancellationToken,
) {
    loop {
        let message = tokio::select! {
            biased;
            message = to_producer(&mut incoming) => message,
            () = closed.cancelled() => return,
            () = to_stage.closed() => return,
        };
        match message {
            Ok(None) => return,
            Ok(Some(message)) => {
                if to_stage.send(message).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                // Nobody is there to be told once the link has ended.
                let _ = violated.send(error);
                return;
            }
        }
    }
}
