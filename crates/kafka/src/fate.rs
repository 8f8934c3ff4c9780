//! What an error of librdkafka or a broker means for the record it came with.

use jaiminho_core::Reason;
use rdkafka::types::RDKafkaErrorCode as Code;

/// What is to be done with a record that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Not its fault: again, for as long as it takes, and nothing of its key before it.
    Retry,
    /// For good.
    Reject(Reason),
    /// The broker refused a whole batch, for the fault of at least one of its records: find out which.
    Suspect(Reason),
    /// The topic is unknown or not allowed. It may be about to appear: for good only after the grace time.
    TopicAway,
}

/// The fate of a record that librdkafka took and that failed later.
///
/// A policy violation is what Event Hubs calls throttling: it is retried.
#[expect(clippy::wildcard_enum_match_arm, reason = "librdkafka's codes are not ours to list")]
pub(crate) fn of_delivery(code: Code) -> Fate {
    match code {
        Code::MessageSizeTooLarge | Code::InvalidMessageSize => Fate::Suspect(Reason::TooLarge),
        Code::InvalidRecord | Code::InvalidTimestamp => Fate::Suspect(Reason::Refused),
        Code::InvalidTopic => Fate::Reject(Reason::Refused),
        Code::UnknownTopic
        | Code::UnknownTopicOrPartition
        | Code::UnknownTopicId
        | Code::UnknownPartition
        | Code::TopicAuthorizationFailed => Fate::TopicAway,
        _ => Fate::Retry,
    }
}

/// The fate of a record that librdkafka did not take: alone, so no other record is at fault.
pub(crate) fn of_produce(code: Code) -> Fate {
    match of_delivery(code) {
        Fate::Suspect(reason) => Fate::Reject(reason),
        fate @ (Fate::Retry | Fate::Reject(_) | Fate::TopicAway) => fate,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_violation_is_throttling_and_retried() {
        assert_eq!(of_delivery(Code::PolicyViolation), Fate::Retry);
    }

    #[test]
    fn an_unavailable_service_never_rejects() {
        for code in [
            Code::BrokerTransportFailure,
            Code::AllBrokersDown,
            Code::NotEnoughReplicas,
            Code::PurgeInflight,
            Code::Fatal,
            Code::GaplessGuarantee,
            Code::Authentication,
            Code::ClusterAuthorizationFailed,
            Code::InvalidDifferentRecord,
            Code::ThrottlingQuotaExceeded,
            Code::MessageTimedOut,
        ] {
            assert_eq!(of_delivery(code), Fate::Retry, "{code:?}");
            assert_eq!(of_produce(code), Fate::Retry, "{code:?}");
        }
    }

    #[test]
    fn a_batch_that_is_too_large_makes_its_records_suspect_and_a_record_alone_is_rejected() {
        assert_eq!(of_delivery(Code::MessageSizeTooLarge), Fate::Suspect(Reason::TooLarge));
        assert_eq!(of_produce(Code::MessageSizeTooLarge), Fate::Reject(Reason::TooLarge));
    }
}
