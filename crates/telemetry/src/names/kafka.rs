//! Of the Kafka sink. Each has the label `stage`.

/// Events by what became of them. Label `outcome` (`accepted`, `rejected`).
pub const SETTLED: &str = "jaiminho_kafka_settled_total";
/// Events that the sink holds until the broker has confirmed them.
pub const UNSETTLED: &str = "jaiminho_kafka_unsettled";
/// Times that a new producer replaced one that could not go on.
pub const RECOVERIES: &str = "jaiminho_kafka_recoveries_total";
/// Times that a record waited since librdkafka's queue was full.
pub const QUEUE_FULL: &str = "jaiminho_kafka_queue_full_total";
/// Topics that the sink has written to or tried to.
pub const TOPICS: &str = "jaiminho_kafka_topics";

/// Gives each its help text.
pub(super) fn describe() {
    metrics::describe_counter!(SETTLED, "Events by what became of them");
    metrics::describe_gauge!(UNSETTLED, "Events held until the broker has confirmed them");
    metrics::describe_counter!(RECOVERIES, "New producers made after one that could not go on");
    metrics::describe_counter!(QUEUE_FULL, "Waits for room in the producer's queue");
    metrics::describe_gauge!(TOPICS, "Topics written to or tried");
}
