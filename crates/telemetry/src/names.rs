//! Names of all metrics and of their labels: the runtime's here, those of a source or sink in a module of its own.

pub mod ingest;
pub mod kafka;
pub mod spans;

/// Unsettled events of an output. Label `output`.
pub const LOG_EVENTS: &str = "jaiminho_log_events";
/// Their bytes. Label `output`.
pub const LOG_BYTES: &str = "jaiminho_log_bytes";
/// Events sent to a group, redeliveries included. Labels `output`, `group`.
pub const DELIVERIES: &str = "jaiminho_deliveries_total";
/// Events sent to a group again. Labels `output`, `group`.
pub const REDELIVERIES: &str = "jaiminho_redeliveries_total";
/// Dead letters that nobody subscribes to: counted, and gone. Label `output`.
pub const DROPPED: &str = "jaiminho_dropped_total";
/// Events that a tap had no credit for. Label `output`.
pub const TAP_MISSED: &str = "jaiminho_tap_missed_total";
/// Connected members of a group. Labels `output`, `group`.
pub const GROUP_MEMBERS: &str = "jaiminho_group_members";
/// Links from consumers. Label `stage`.
pub const LINKS_IN: &str = "jaiminho_links_in";
/// Links to producers. Label `stage`.
pub const LINKS_OUT: &str = "jaiminho_links_out";
/// Inputs in work. Label `stage`.
pub const INPUTS_IN_WORK: &str = "jaiminho_inputs_in_work";
/// Events taken in, from links or by the source. Label `stage`.
pub const EVENTS_IN: &str = "jaiminho_events_in_total";
/// Inputs settled. Labels `stage`, `outcome` (`accepted`, `rejected`).
pub const SETTLED: &str = "jaiminho_settled_total";
/// Events that this stage rejected. Labels `stage`, `reason`.
pub const REJECTED: &str = "jaiminho_rejected_total";
/// Copies of events that a stage dropped. Label `stage`.
pub const DUPLICATES: &str = "jaiminho_duplicates_total";
/// Copies that wait for what becomes of the first. Label `stage`.
pub const DUPLICATES_WAITING: &str = "jaiminho_duplicates_waiting";
/// Identities of events that a stage knows. Label `stage`.
pub const IDS_KNOWN: &str = "jaiminho_ids_known";
/// Identities for which there was no room: one was forgotten before its time, or an event went through without. Label `stage`.
pub const IDS_FORGOTTEN: &str = "jaiminho_ids_forgotten_total";
/// Offers refused at the edge. Label `stage`.
pub const REFUSED: &str = "jaiminho_refused_total";
/// From taken (into a log, or a sink) to settled. Label `stage`.
pub const SETTLE_SECONDS: &str = "jaiminho_settle_seconds";
/// From the edge's arrival to settled in a sink. Label `stage`.
pub const END_TO_END_SECONDS: &str = "jaiminho_end_to_end_seconds";
/// 1; the labels `version`, `commit`, `pipeline` and `stage` say what runs.
pub const INFO: &str = "jaiminho_info";

/// Gives each its help text.
pub(crate) fn describe() {
    metrics::describe_gauge!(LOG_EVENTS, "Unsettled events of an output");
    metrics::describe_gauge!(LOG_BYTES, "Bytes of the unsettled events of an output");
    metrics::describe_counter!(DELIVERIES, "Events sent to a group, redeliveries included");
    metrics::describe_counter!(REDELIVERIES, "Events sent to a group again");
    metrics::describe_counter!(DROPPED, "Dead letters that nobody subscribes to");
    metrics::describe_counter!(TAP_MISSED, "Events that a tap had no credit for");
    metrics::describe_gauge!(GROUP_MEMBERS, "Connected members of a group");
    metrics::describe_gauge!(LINKS_IN, "Links from consumers");
    metrics::describe_gauge!(LINKS_OUT, "Links to producers");
    metrics::describe_gauge!(INPUTS_IN_WORK, "Inputs in work");
    metrics::describe_counter!(EVENTS_IN, "Events taken in");
    metrics::describe_counter!(SETTLED, "Inputs settled");
    metrics::describe_counter!(REJECTED, "Events that this stage rejected");
    metrics::describe_counter!(DUPLICATES, "Copies of events that a stage dropped");
    metrics::describe_gauge!(DUPLICATES_WAITING, "Copies that wait for what becomes of the first");
    metrics::describe_gauge!(IDS_KNOWN, "Identities of events that a stage knows");
    metrics::describe_counter!(IDS_FORGOTTEN, "Identities for which there was no room");
    metrics::describe_counter!(REFUSED, "Offers refused at the edge");
    metrics::describe_histogram!(SETTLE_SECONDS, "From taken, into a log or a sink, to settled");
    metrics::describe_histogram!(END_TO_END_SECONDS, "From the edge's arrival to settled in a sink");
    metrics::describe_gauge!(INFO, "What runs: 1, with version, commit, pipeline and stage as labels");
    ingest::describe();
    kafka::describe();
}
