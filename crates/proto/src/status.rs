//! A link's error as a gRPC status, and back. The table in `stage.proto` is the contract.

use bytes::Bytes;
use jaiminho_core::{LinkError, cut};
use prost::Message;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

use crate::limits::STATUS_TEXT_BYTES_MAX;
use crate::v1::LinkFailure;
use crate::v1::link_failure::Kind;

/// The trailer that carries a `LinkFailure`.
pub const ERROR_KEY: &str = "jaiminho-error-bin";

/// The status that ends a link with this error. Texts are cut to [`STATUS_TEXT_BYTES_MAX`].
pub fn status_of(error: &LinkError) -> Status {
    let (code, failure) = describe(error);
    let mut metadata = MetadataMap::new();
    metadata.insert_bin(ERROR_KEY, MetadataValue::from_bytes(&failure.encode_to_vec()));
    let message = error.to_string();
    Status::with_details_and_metadata(code, cut(&message, STATUS_TEXT_BYTES_MAX), Bytes::new(), metadata)
}

/// The error that a status tells. One without `LinkFailure` is not a stage's, and never means to stop.
pub fn link_error(status: &Status) -> LinkError {
    let value = status.metadata().get_bin(ERROR_KEY).and_then(|value| value.to_bytes().ok());
    match value.and_then(|bytes| LinkFailure::decode(bytes).ok()) {
        Some(failure) => of_failure(failure, status),
        None => of_code(status),
    }
}

fn describe(error: &LinkError) -> (Code, LinkFailure) {
    let named = |kind: Kind, text: &str| LinkFailure {
        kind: kind.into(),
        text: cut(text, STATUS_TEXT_BYTES_MAX).to_owned(),
        ..LinkFailure::default()
    };
    let counted = |kind: Kind, number: u64| LinkFailure { kind: kind.into(), number, ..LinkFailure::default() };
    match error {
        LinkError::Violation(text) => (Code::InvalidArgument, named(Kind::Violation, text)),
        LinkError::Version { peer_min, peer_max, min, max } => {
            let failure = LinkFailure {
                version_min: *min,
                version_max: *max,
                peer_version_min: *peer_min,
                peer_version_max: *peer_max,
                ..named(Kind::Version, "")
            };
            (Code::Unimplemented, failure)
        }
        LinkError::UnknownOutput(name) => (Code::NotFound, named(Kind::UnknownOutput, name)),
        LinkError::WrongPipeline { ours, theirs } => {
            let theirs = cut(theirs, STATUS_TEXT_BYTES_MAX).to_owned();
            (Code::FailedPrecondition, LinkFailure { theirs, ..named(Kind::WrongPipeline, ours) })
        }
        LinkError::UnknownGroup(name) => (Code::FailedPrecondition, named(Kind::UnknownGroup, name)),
        LinkError::Selector(text) => (Code::FailedPrecondition, named(Kind::Selector, text)),
        LinkError::Partition(text) => (Code::FailedPrecondition, named(Kind::Partition, text)),
        LinkError::Fenced(name) => (Code::AlreadyExists, named(Kind::Fenced, name)),
        LinkError::Replaced => (Code::Aborted, named(Kind::Replaced, "")),
        LinkError::NotAllowed(text) => (Code::PermissionDenied, named(Kind::NotAllowed, text)),
        LinkError::Limit(text) => (Code::ResourceExhausted, named(Kind::Limit, text)),
        LinkError::Lagged(max_lag) => (Code::OutOfRange, counted(Kind::Lagged, *max_lag)),
        LinkError::Silent(ms) => (Code::DeadlineExceeded, counted(Kind::Silent, *ms)),
        LinkError::Draining => (Code::Unavailable, named(Kind::Draining, "")),
        LinkError::Unavailable(text) => (Code::Unavailable, named(Kind::Unavailable, text)),
    }
}

fn of_failure(failure: LinkFailure, status: &Status) -> LinkError {
    let text = cut(&failure.text, STATUS_TEXT_BYTES_MAX).to_owned();
    match Kind::try_from(failure.kind) {
        Ok(Kind::Violation) => LinkError::Violation(text),
        Ok(Kind::Version) => LinkError::Version {
            peer_min: failure.peer_version_min,
            peer_max: failure.peer_version_max,
            min: failure.version_min,
            max: failure.version_max,
        },
        Ok(Kind::UnknownOutput) => LinkError::UnknownOutput(text),
        Ok(Kind::WrongPipeline) => {
            LinkError::WrongPipeline { ours: text, theirs: cut(&failure.theirs, STATUS_TEXT_BYTES_MAX).to_owned() }
        }
        Ok(Kind::UnknownGroup) => LinkError::UnknownGroup(text),
        Ok(Kind::Selector) => LinkError::Selector(text),
        Ok(Kind::Partition) => LinkError::Partition(text),
        Ok(Kind::Fenced) => LinkError::Fenced(text),
        Ok(Kind::Replaced) => LinkError::Replaced,
        Ok(Kind::NotAllowed) => LinkError::NotAllowed(text),
        Ok(Kind::Limit) => LinkError::Limit(text),
        Ok(Kind::Lagged) => LinkError::Lagged(failure.number),
        Ok(Kind::Silent) => LinkError::Silent(failure.number),
        Ok(Kind::Draining) => LinkError::Draining,
        Ok(Kind::Unavailable) => LinkError::Unavailable(text),
        Ok(Kind::Unspecified) | Err(_) => of_code(status),
    }
}

/// What a status says by itself: a proxy's, the transport's, or tonic's own.
fn of_code(status: &Status) -> LinkError {
    let text = cut(status.message(), STATUS_TEXT_BYTES_MAX);
    let told = || if text.is_empty() { status.code().to_string() } else { format!("{}: {text}", status.code()) };
    match status.code() {
        // tonic reports a message above the decoding limit, or one that is not protobuf, with these.
        Code::InvalidArgument | Code::OutOfRange | Code::Internal => LinkError::Violation(told()),
        Code::ResourceExhausted => LinkError::Limit(told()),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Unimplemented
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => LinkError::Unavailable(told()),
    }
}
