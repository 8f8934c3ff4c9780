//! Of the Kafka sink and source. Each has the label `stage`.

/// Events by what became of them. Label `outcome` (`accepted`, `rejected`).
pub const SETTLED: &str = "jaiminho_kafka_settled_total";
/// Events that the sink holds until the broker has confirmed them.
pub const UNSETTLED: &str = "jaiminho_kafka_unsettled";
/// Times that a new producer or consumer replaced one that could not go on.
pub const RECOVERIES: &str = "jaiminho_kafka_recoveries_total";
/// Times that a record waited since librdkafka's queue was full.
pub const QUEUE_FULL: &str = "jaiminho_kafka_queue_full_total";
/// Topics that the sink has written to or tried to.
pub const TOPICS: &str = "jaiminho_kafka_topics";

/// Records read by the source.
pub const RECORDS: &str = "jaiminho_kafka_records_total";
/// Commits of offsets. Label `outcome` (`done`, `failed`).
pub const COMMITS: &str = "jaiminho_kafka_commits_total";
/// Changes of the partitions that a source reads. Label `kind` (`assigned`, `revoked`, `lost`).
pub const REBALANCES: &str = "jaiminho_kafka_rebalances_total";
/// Records between what the group has committed and a partition's end. Labels `topic`, `partition`.
pub const LAG: &str = "jaiminho_kafka_lag";
/// Partitions that a source reads.
pub const PARTITIONS: &str = "jaiminho_kafka_partitions";

/// Gives each its help text.
pub(super) fn describe() {
    metrics::describe_counter!(SETTLED, "Events by what became of them");
    metrics::describe_gauge!(UNSETTLED, "Events held until the broker has confirmed them");
    metrics::describe_counter!(RECOVERIES, "New clients made after one that could not go on");
    metrics::describe_counter!(QUEUE_FULL, "Waits for room in the producer's queue");
    metrics::describe_gauge!(TOPICS, "Topics written to or tried");
    metrics::describe_counter!(RECORDS, "Records read");
    metrics::describe_counter!(COMMITS, "Commits of offsets, by what became of them");
    metrics::describe_counter!(REBALANCES, "Changes of the partitions that are read");
    metrics::describe_gauge!(LAG, "Records between what the group has committed and the end");
    metrics::describe_gauge!(PARTITIONS, "Partitions that are read");
}
