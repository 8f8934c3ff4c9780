//! All metrics, each with its kind, unit, labels and meaning: the runtime's here, those of a source or sink in a module of its own.

use crate::metric::{Metric, metrics};

pub mod ingest;
pub mod kafka;
pub mod process;
pub mod spans;

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Metric> {
    LIST.iter().chain(ingest::LIST).chain(kafka::LIST).chain(process::LIST)
}

metrics! {
    /// Events taken in, from links or by the source.
    EVENTS_IN: Counter, "jaiminho_events_in_total", Of("event"), ["stage"];
    /// Bytes of the events taken in.
    BYTES_IN: Counter, "jaiminho_events_in_bytes_total", Bytes, ["stage"];
    /// Inputs settled, by what became of them at the end: `accepted` or `rejected`, here or further on.
    SETTLED: Counter, "jaiminho_settled_total", Of("event"), ["stage", "outcome"];
    /// Events that this stage rejected, by reason: `malformed`, `invalid`, `too_large`, `exhausted` or `refused`.
    REJECTED: Counter, "jaiminho_rejected_total", Of("event"), ["stage", "reason"];
    /// Offers of a source (a request's body, a WebSocket's messages), by decision: `taken`, or refused for `log_full`,
    /// `predicted_wait`, `hot_key` (its partition has over a quarter of the log), `dead_letters_full`, `never_fits` or `draining`.
    ADMISSION: Counter, "jaiminho_admission_total", Of("offer"), ["stage", "decision"];
    /// Inputs in work: taken and not settled.
    INPUTS_IN_WORK: Gauge, "jaiminho_inputs_in_work", Of("event"), ["stage"];
    /// Age of the oldest event that the stage has not settled, in a log or in its sink; 0 without one.
    OLDEST_UNSETTLED: Gauge, "jaiminho_oldest_unsettled_seconds", Seconds, ["stage"];
    /// From taken (into a log, or a sink) to settled.
    SETTLE_SECONDS: Histogram(LATENCY_SECONDS), "jaiminho_settle_seconds", Seconds, ["stage"];
    /// Of a sink: from the edge's arrival, by that machine's clock, to settled here.
    END_TO_END_SECONDS: Histogram(LATENCY_SECONDS), "jaiminho_end_to_end_seconds", Seconds, ["stage"];
    /// Events in each frame sent to a consumer.
    FRAME_EVENTS: Histogram(BATCH), "jaiminho_frame_events", Of("event"), ["stage"];
    /// Events given at once to a sink or a handler.
    BATCH_EVENTS: Histogram(BATCH), "jaiminho_batch_events", Of("event"), ["stage"];

    /// Where the stage's time goes: `blocked` (waits for downstream), `limit` (has all the work that it can do), `starved` (could
    /// do more than comes). One state holds at a time.
    STAGE_TIME: Counter, "jaiminho_stage_seconds_total", Seconds, ["stage", "state"];
    /// 1 for the state in which the stage was most of the last ten seconds, 0 for the others.
    STAGE_STATE: Gauge, "jaiminho_stage_state", Of("state"), ["stage", "state"];
    /// Share of the last ten seconds in which the stage was at its limit. The stage with the most limits the pipeline; where none
    /// has much, the source does: there is nothing more to do.
    STAGE_LIMIT: Gauge, "jaiminho_stage_limit_ratio", Ratio, ["stage"];

    /// Unsettled events of an output.
    LOG_EVENTS: Gauge, "jaiminho_log_events", Of("event"), ["stage", "output"];
    /// Bytes of the unsettled events of an output.
    LOG_BYTES: Gauge, "jaiminho_log_bytes", Bytes, ["stage", "output"];
    /// Most unsettled events that the output takes.
    LOG_CAPACITY_EVENTS: Gauge, "jaiminho_log_capacity_events", Of("event"), ["stage", "output"];
    /// Most bytes of unsettled events that the output takes.
    LOG_CAPACITY_BYTES: Gauge, "jaiminho_log_capacity_bytes", Bytes, ["stage", "output"];
    /// Age of the oldest unsettled event of an output; 0 without one.
    LOG_OLDEST: Gauge, "jaiminho_log_oldest_seconds", Seconds, ["stage", "output"];
    /// Events dropped because nobody subscribes: dead letters, mostly.
    DROPPED: Counter, "jaiminho_dropped_total", Of("event"), ["stage", "output"];
    /// Events that a tap had no credit for.
    TAP_MISSED: Counter, "jaiminho_tap_missed_total", Of("event"), ["stage", "output"];

    /// Events sent to a group, redeliveries included.
    DELIVERIES: Counter, "jaiminho_deliveries_total", Of("event"), ["stage", "output", "group"];
    /// Bytes of the events sent to a group, redeliveries included.
    DELIVERED_BYTES: Counter, "jaiminho_delivered_bytes_total", Bytes, ["stage", "output", "group"];
    /// Events sent to a group again.
    REDELIVERIES: Counter, "jaiminho_redeliveries_total", Of("event"), ["stage", "output", "group"];
    /// Deliveries that came back without an outcome, mostly of a link that ended or a partition that moved. Deliveries less these are
    /// what the group has settled, or has on its links.
    RELEASED: Counter, "jaiminho_released_total", Of("event"), ["stage", "output", "group"];
    /// Connected members of a group.
    GROUP_MEMBERS: Gauge, "jaiminho_group_members", Of("instance"), ["stage", "output", "group"];
    /// A group's events that wait: for credit, for a member, or for a partition that moves.
    GROUP_WAITING: Gauge, "jaiminho_group_waiting_events", Of("event"), ["stage", "output", "group"];

    /// Links from consumers.
    LINKS_IN: Gauge, "jaiminho_links_in", Of("link"), ["stage"];
    /// Links to producers.
    LINKS_OUT: Gauge, "jaiminho_links_out", Of("link"), ["stage"];
    /// Links that were opened; `side` is who is at the other end, `consumer` or `producer`.
    LINK_UPS: Counter, "jaiminho_link_ups_total", Of("link"), ["stage", "side"];
    /// Links that ended, by why: `draining`, `unavailable` (the connection closed), `silent`, `replaced` (by a newer link of the same
    /// instance), `lagged`, `violation` (of the protocol), `fenced`, `cancelled` …
    LINK_DOWNS: Counter, "jaiminho_link_downs_total", Of("link"), ["stage", "side", "reason"];
    /// Links that did not come about, by why: as of those that ended, and `unknown_output`, `wrong_pipeline`, `limit` …
    LINK_REFUSALS: Counter, "jaiminho_link_refusals_total", Of("link"), ["stage", "side", "reason"];

    /// Events sent on a link to a consumer: of its credit, what is used.
    LINK_SENT_EVENTS: Counter, "jaiminho_link_sent_events_total", Of("event"), ["stage", "output", "group", "peer"];
    /// Bytes of the events sent on a link to a consumer.
    LINK_SENT_BYTES: Counter, "jaiminho_link_sent_bytes_total", Bytes, ["stage", "output", "group", "peer"];
    /// Credit in events that the consumer has granted on the link.
    LINK_GRANTED_EVENTS: Counter, "jaiminho_link_credit_granted_events_total", Of("event"), ["stage", "output", "group", "peer"];
    /// Credit in bytes that the consumer has granted on the link.
    LINK_GRANTED_BYTES: Counter, "jaiminho_link_credit_granted_bytes_total", Bytes, ["stage", "output", "group", "peer"];
    /// Credit in events that is not used yet.
    LINK_UNUSED_EVENTS: Gauge, "jaiminho_link_credit_unused_events", Of("event"), ["stage", "output", "group", "peer"];
    /// Credit in bytes that is not used yet; 0 also where it is overdrawn by one event.
    LINK_UNUSED_BYTES: Gauge, "jaiminho_link_credit_unused_bytes", Bytes, ["stage", "output", "group", "peer"];
    /// Events sent on the link that the consumer has not settled.
    LINK_UNSETTLED: Gauge, "jaiminho_link_unsettled_events", Of("event"), ["stage", "output", "group", "peer"];
    /// The link's window: the most events in flight, unprocessed.
    LINK_WINDOW: Gauge, "jaiminho_link_window_events", Of("event"), ["stage", "output", "group", "peer"];
    /// Time in which all the link's credit was used: the consumer holds it up.
    LINK_NO_CREDIT: Counter, "jaiminho_link_no_credit_seconds_total", Seconds, ["stage", "output", "group", "peer"];
    /// Time in which the link had credit and so no event to send.
    LINK_NO_EVENTS: Counter, "jaiminho_link_no_events_seconds_total", Seconds, ["stage", "output", "group", "peer"];

    /// Events received on a link to a producer.
    LINK_RECEIVED_EVENTS: Counter, "jaiminho_link_received_events_total", Of("event"), ["stage", "output", "peer"];
    /// Bytes of the events received on a link to a producer.
    LINK_RECEIVED_BYTES: Counter, "jaiminho_link_received_bytes_total", Bytes, ["stage", "output", "peer"];
    /// Credit in events that this stage has given to the producer.
    LINK_GIVEN_EVENTS: Counter, "jaiminho_link_credit_given_events_total", Of("event"), ["stage", "output", "peer"];
    /// Events received on a link to a producer that are not processed yet.
    LINK_HELD_EVENTS: Gauge, "jaiminho_link_held_events", Of("event"), ["stage", "output", "peer"];

    /// Spans of traces, by `outcome`: `exported`; `failed`, the collector did not take them in time; `dropped`, there was no room.
    SPANS: Counter, "jaiminho_spans_total", Of("span"), ["outcome"];

    /// Copies of events that a stage dropped.
    DUPLICATES: Counter, "jaiminho_duplicates_total", Of("event"), ["stage"];
    /// Copies that wait for what becomes of the first.
    DUPLICATES_WAITING: Gauge, "jaiminho_duplicates_waiting", Of("event"), ["stage"];
    /// Identities of events that a stage knows.
    IDS_KNOWN: Gauge, "jaiminho_ids_known", Of("identity"), ["stage"];
    /// Identities for which there was no room: one was forgotten before its time, or an event went through without.
    IDS_FORGOTTEN: Counter, "jaiminho_ids_forgotten_total", Of("identity"), ["stage"];
}
