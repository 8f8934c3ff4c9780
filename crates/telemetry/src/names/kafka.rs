//! Of the Kafka sink and source.

use crate::metric::metrics;

metrics! {
    /// Events by what became of them at the broker: `accepted` or `rejected`.
    SETTLED: Counter, "jaiminho_kafka_settled_total", Of("event"), ["stage", "outcome"];
    /// Events that the sink holds until the broker has confirmed them.
    UNSETTLED: Gauge, "jaiminho_kafka_unsettled", Of("event"), ["stage"];
    /// Times that a new producer or consumer replaced one that could not go on.
    RECOVERIES: Counter, "jaiminho_kafka_recoveries_total", Of("client"), ["stage"];
    /// Times that a record waited since librdkafka's queue was full.
    QUEUE_FULL: Counter, "jaiminho_kafka_queue_full_total", Of("wait"), ["stage"];
    /// Topics that the sink has written to or tried to.
    TOPICS: Gauge, "jaiminho_kafka_topics", Of("topic"), ["stage"];

    /// Errors that the client told of its brokers, or that came with a record, by librdkafka's name for it. Most are tried again.
    ERRORS: Counter, "jaiminho_kafka_errors_total", Of("error"), ["stage", "error"];
    /// Longest throttle that a broker has asked for within the last five seconds; 0 without one.
    THROTTLE: Gauge, "jaiminho_kafka_throttle_seconds", Seconds, ["stage"];
    /// Slowest broker's mean round trip within the last five seconds.
    ROUND_TRIP: Gauge, "jaiminho_kafka_round_trip_seconds", Seconds, ["stage"];
    /// Brokers to which the client has a connection that works.
    BROKERS_UP: Gauge, "jaiminho_kafka_brokers_up", Of("broker"), ["stage"];
    /// Requests that a broker did not answer in time.
    TIMEOUTS: Counter, "jaiminho_kafka_request_timeouts_total", Of("request"), ["stage"];

    /// Records read by the source.
    RECORDS: Counter, "jaiminho_kafka_records_total", Of("record"), ["stage"];
    /// Commits of offsets, by what became of them: `done` or `failed`.
    COMMITS: Counter, "jaiminho_kafka_commits_total", Of("commit"), ["stage", "outcome"];
    /// Changes of the partitions that a source reads, by `kind`: `assigned`, `revoked` or `lost`.
    REBALANCES: Counter, "jaiminho_kafka_rebalances_total", Of("change"), ["stage", "kind"];
    /// Records between what the group has committed and a partition's end, of the partitions that this instance reads.
    LAG: Gauge, "jaiminho_kafka_lag", Of("record"), ["stage", "topic", "partition"];
    /// Partitions that a source reads.
    PARTITIONS: Gauge, "jaiminho_kafka_partitions", Of("partition"), ["stage"];
}
