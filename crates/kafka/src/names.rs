//! Every metric of this crate.

/// Events by what became of them; label `outcome`: `accepted` or `rejected`.
pub(crate) const SETTLED_TOTAL: &str = "jaiminho_kafka_settled_total";
/// Events that the sink holds until the broker has confirmed them.
pub(crate) const UNSETTLED: &str = "jaiminho_kafka_unsettled";
/// Times that a new producer replaced one that could not go on.
pub(crate) const RECOVERIES_TOTAL: &str = "jaiminho_kafka_recoveries_total";
/// Times that a record waited since librdkafka's queue was full.
pub(crate) const QUEUE_FULL_TOTAL: &str = "jaiminho_kafka_queue_full_total";
/// Topics that this sink has written to or tried to.
pub(crate) const TOPICS: &str = "jaiminho_kafka_topics";

/// Gives the recorder the description of each metric.
pub fn describe_metrics() {
    metrics::describe_counter!(SETTLED_TOTAL, "Events by what became of them");
    metrics::describe_gauge!(UNSETTLED, "Events held until the broker has confirmed them");
    metrics::describe_counter!(RECOVERIES_TOTAL, "New producers made after one that could not go on");
    metrics::describe_counter!(QUEUE_FULL_TOTAL, "Waits for room in the producer's queue");
    metrics::describe_gauge!(TOPICS, "Topics written to or tried");
}
