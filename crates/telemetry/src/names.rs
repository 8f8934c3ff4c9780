//! Names of the runtime's metrics. Those of a source or sink stand beside it.

/// Unsettled events of an output. Label `output`.
pub const LOG_EVENTS: &str = "jaiminho_log_events";
/// Their bytes. Label `output`.
pub const LOG_BYTES: &str = "jaiminho_log_bytes";
/// Events sent to a group, redeliveries included. Labels `output`, `group`.
pub const DELIVERIES: &str = "jaiminho_deliveries_total";
/// Events sent to a group again. Labels `output`, `group`.
pub const REDELIVERIES: &str = "jaiminho_redeliveries_total";
/// Connected members of a group. Labels `output`, `group`.
pub const GROUP_MEMBERS: &str = "jaiminho_group_members";
/// Links from consumers. Label `stage`.
pub const LINKS_IN: &str = "jaiminho_links_in";
/// Links to producers. Label `stage`.
pub const LINKS_OUT: &str = "jaiminho_links_out";
/// Inputs in work. Label `stage`.
pub const INPUTS_IN_WORK: &str = "jaiminho_inputs_in_work";
/// 1; the labels `version`, `commit`, `pipeline` and `stage` say what runs.
pub const INFO: &str = "jaiminho_info";

/// Gives each its help text.
pub(crate) fn describe() {
    metrics::describe_gauge!(LOG_EVENTS, "Unsettled events of an output");
    metrics::describe_gauge!(LOG_BYTES, "Bytes of the unsettled events of an output");
    metrics::describe_counter!(DELIVERIES, "Events sent to a group, redeliveries included");
    metrics::describe_counter!(REDELIVERIES, "Events sent to a group again");
    metrics::describe_gauge!(GROUP_MEMBERS, "Connected members of a group");
    metrics::describe_gauge!(LINKS_IN, "Links from consumers");
    metrics::describe_gauge!(LINKS_OUT, "Links to producers");
    metrics::describe_gauge!(INPUTS_IN_WORK, "Inputs in work");
    metrics::describe_gauge!(INFO, "What runs: 1, with version, commit, pipeline and stage as labels");
}
