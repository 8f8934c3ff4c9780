//! Reading: from a gRPC stream into the channel of a link, each message checked.

use std::error::Error;

use jaiminho_core::{LinkError, Subscribe, Subscribed, ToConsumer, ToProducer, Versions};
use jaiminho_proto::v1::{ConsumerMessage, ProducerMessage};
use jaiminho_proto::{FromConsumer, FromProducer, check_version, decode_consumer, decode_producer, link_error};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use crate::connector::chain;
use crate::outgoing::ConsumerEnd;

/// The consumer's first message, which has one of these versions.
pub(crate) async fn subscribe(
    incoming: &mut Streaming<ConsumerMessage>,
    versions: Versions,
) -> Result<Subscribe, LinkError> {
    let first = message(incoming).await?;
    first.as_ref().map_or(Ok(()), |first| check_version(first, versions))?;
    match first.map(decode_consumer).transpose()? {
        Some(FromConsumer::Subscribe(subscribe)) => Ok(*subscribe),
        Some(FromConsumer::Message(_)) => Err(LinkError::Violation("the first message is not Subscribe".into())),
        None => Err(LinkError::Violation("the stream ends before Subscribe".into())),
    }
}

/// The producer's first message, which has one of these versions.
pub(crate) async fn subscribed(
    incoming: &mut Streaming<ProducerMessage>,
    offered: Versions,
) -> Result<Subscribed, LinkError> {
    match from_producer(incoming).await? {
        Some(FromProducer::Subscribed(subscribed)) => {
            let version = subscribed.version;
            offered.common(Versions { min: version, max: version }).map(|_| subscribed)
        }
        Some(FromProducer::Message(_)) => Err(LinkError::Violation("the first message is not Subscribed".into())),
        None => Err(LinkError::Unavailable("the producer closed the link before Subscribed".into())),
    }
}

/// Any later message of a consumer; none when it has closed the stream.
async fn to_producer(incoming: &mut Streaming<ConsumerMessage>) -> Result<Option<ToProducer>, LinkError> {
    match from_consumer(incoming).await? {
        Some(FromConsumer::Message(message)) => Ok(Some(message)),
        Some(FromConsumer::Subscribe(_)) => Err(LinkError::Violation("a second Subscribe".into())),
        None => Ok(None),
    }
}

/// Any later message of a producer; none when it has closed the stream.
pub(crate) async fn to_consumer(incoming: &mut Streaming<ProducerMessage>) -> Result<Option<ToConsumer>, LinkError> {
    match from_producer(incoming).await? {
        Some(FromProducer::Message(message)) => Ok(Some(message)),
        Some(FromProducer::Subscribed(_)) => Err(LinkError::Violation("a second Subscribed".into())),
        None => Ok(None),
    }
}

async fn from_consumer(incoming: &mut Streaming<ConsumerMessage>) -> Result<Option<FromConsumer>, LinkError> {
    message(incoming).await?.map(decode_consumer).transpose()
}

async fn message(incoming: &mut Streaming<ConsumerMessage>) -> Result<Option<ConsumerMessage>, LinkError> {
    incoming.message().await.map_err(|status| match status.source() {
        Some(_) => unavailable(&status),
        // There is no status from a consumer: this side could not read what it sent.
        None => LinkError::Violation(format!("unreadable message: {}", status.message())),
    })
}

async fn from_producer(incoming: &mut Streaming<ProducerMessage>) -> Result<Option<FromProducer>, LinkError> {
    let message = incoming.message().await.map_err(|status| status_from_producer(&status))?;
    message.map(decode_producer).transpose()
}

/// What the producer says with a status, or the connection by breaking.
pub(crate) fn status_from_producer(status: &Status) -> LinkError {
    if status.source().is_some() { unavailable(status) } else { link_error(status) }
}

/// A status with a cause is the transport's, whatever its code.
fn unavailable(status: &Status) -> LinkError {
    LinkError::Unavailable(match status.source() {
        Some(cause) => format!("{}: {}", status.message(), chain(cause)),
        None => status.message().to_owned(),
    })
}

/// Carries a consumer's messages to its stage until either goes, or one is a violation.
///
/// `closed` says that nothing more can be told to the consumer; what has arrived before is still carried, unless the
/// connection is `cut` off.
pub(crate) async fn to_stage(
    mut incoming: Streaming<ConsumerMessage>,
    to_stage: mpsc::Sender<ToProducer>,
    ended: oneshot::Sender<ConsumerEnd>,
    closed: CancellationToken,
    cut: CancellationToken,
) {
    loop {
        let message = tokio::select! {
            biased;
            message = to_producer(&mut incoming) => message,
            () = closed.cancelled() => return,
            () = to_stage.closed() => return,
        };
        let end = match message {
            Ok(Some(message)) => {
                tokio::select! {
                    biased;
                    sent = to_stage.send(message) => if sent.is_err() { return },
                    () = cut.cancelled() => return,
                }
                continue;
            }
            Ok(None) => ConsumerEnd::Closed,
            Err(error) => ConsumerEnd::Broken(error),
        };
        // Nobody is there to be told once the link has ended.
        let _ = ended.send(end);
        return;
    }
}
