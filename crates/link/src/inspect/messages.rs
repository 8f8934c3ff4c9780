//! What a stage tells, as messages, and back. Only a stage's own peers see it: what they do not know they leave out.

use std::time::Duration;

use jaiminho_core::{Credit, Fill, GroupKind, Instance, KeyShare, LinkId, LinkSeen, Reason, Window};
use jaiminho_proto::{INSPECTION_BYTES_MAX, v1};
use jaiminho_runtime::{
    ConsumerSeen, Counts, GroupSeen, InputSeen, Inspection, LATENCY_BOUNDS_MS, LatencySeen, Load, OutputSeen,
    RejectionSeen, RoleSeen, Trouble, Usage,
};
use prost::Message;

use super::{ProcessSeen, Told};

/// Links of one stage that are told of.
const LINKS_MAX: usize = 1_024;
/// Groups of one output that are told of.
const GROUPS_MAX: usize = 64;
/// Limits of one source that are told of.
const USAGES_MAX: usize = 8;
/// Stages of one process that are told of.
pub(crate) const STAGES_MAX: usize = 256;

/// Everything that fits: first the events of rejections are left out, then links.
pub(crate) fn encode(process: v1::Process, stages: &[Inspection]) -> v1::InspectResponse {
    let stages = stages.iter().take(STAGES_MAX).map(|stage| encode_stage(stage, LINKS_MAX)).collect();
    let mut response = v1::InspectResponse { process: Some(process), stages };
    if response.encoded_len() > INSPECTION_BYTES_MAX {
        response.stages.iter_mut().flat_map(|stage| &mut stage.rejections).for_each(|rejected| rejected.event.clear());
    }
    let mut links_max = LINKS_MAX;
    while response.encoded_len() > INSPECTION_BYTES_MAX && links_max > 0 {
        links_max /= 2;
        response.stages.iter_mut().for_each(|stage| thin_out(stage, links_max));
    }
    while response.encoded_len() > INSPECTION_BYTES_MAX {
        response.stages.pop();
    }
    response
}

/// Leaves so many links to consumers, and so many to producers.
fn thin_out(stage: &mut v1::StageSeen, links_max: usize) {
    let mut left_out = stage.inputs.len().saturating_sub(links_max);
    stage.inputs.truncate(links_max);
    let mut room = links_max;
    for group in stage.outputs.iter_mut().flat_map(|output| &mut output.groups) {
        left_out += group.links.len().saturating_sub(room);
        group.links.truncate(room);
        room -= group.links.len();
    }
    stage.links_left_out = stage.links_left_out.saturating_add(u32::try_from(left_out).unwrap_or(u32::MAX));
}

fn encode_stage(seen: &Inspection, links_max: usize) -> v1::StageSeen {
    let mut stage = v1::StageSeen {
        pipeline: seen.pipeline.clone(),
        stage: seen.stage.clone(),
        instance: Some(v1::Instance { name: seen.instance.name.clone(), incarnation: seen.instance.incarnation }),
        role: match seen.role {
            RoleSeen::Source => v1::StageRole::Source,
            RoleSeen::Transform => v1::StageRole::Transform,
            RoleSeen::Sink => v1::StageRole::Sink,
        }
        .into(),
        up_ms: ms(seen.up),
        is_draining: seen.is_draining,
        load: Some(encode_load(&seen.load)),
        outputs: seen.outputs.iter().map(encode_output).collect(),
        inputs: seen.inputs.iter().map(encode_input).collect(),
        in_work: seen.in_work,
        oldest_ms: seen.oldest.map(ms),
        counts: Some(encode_counts(&seen.counts)),
        settle: Some(encode_latency(&seen.settle)),
        end_to_end: Some(encode_latency(&seen.end_to_end)),
        rejections: seen.rejections.iter().map(encode_rejection).collect(),
        trouble: seen
            .trouble
            .as_ref()
            .map(|trouble| v1::Trouble { text: trouble.text.clone(), since_unix_ms: trouble.since_unix_ms }),
        links_left_out: 0,
        usages: seen.usages.iter().take(USAGES_MAX).map(encode_usage).collect(),
    };
    thin_out(&mut stage, links_max);
    stage
}

fn encode_usage(Usage { name, used, max }: &Usage) -> v1::Usage {
    v1::Usage { name: name.clone(), used: *used, max: *max }
}

fn encode_load(load: &Load) -> v1::Load {
    let [blocked, limit, starved] = load.recent;
    let (blocked_ms, limit_ms, starved_ms) = (ms(load.blocked), ms(load.limit), ms(load.starved));
    v1::Load { blocked_ms, limit_ms, starved_ms, blocked, limit, starved }
}

fn encode_counts(counts: &Counts) -> v1::EventCounts {
    let [malformed, invalid, too_large, exhausted, refused] = counts.rejected_here;
    v1::EventCounts {
        events_in: counts.events_in,
        bytes_in: counts.bytes_in,
        accepted: counts.accepted,
        rejected: counts.rejected,
        refused: counts.refused,
        rejected_malformed: malformed,
        rejected_invalid: invalid,
        rejected_too_large: too_large,
        rejected_exhausted: exhausted,
        rejected_refused: refused,
    }
}

fn encode_latency(latency: &LatencySeen) -> v1::Latency {
    v1::Latency { counts: latency.counts.to_vec(), sum_ms: latency.sum_ms }
}

fn encode_output(output: &OutputSeen) -> v1::OutputSeen {
    let Fill { events, bytes, capacity_events, capacity_bytes, span_used, span } = output.fill;
    v1::OutputSeen {
        name: output.name.clone(),
        events,
        events_max: capacity_events,
        bytes,
        bytes_max: capacity_bytes,
        span: span_used,
        span_max: span,
        largest_partition_events: output.largest_share.events,
        largest_partition_bytes: output.largest_share.bytes,
        oldest_ms: output.oldest.map(ms),
        dropped: output.dropped,
        tap_missed: output.tap_missed,
        groups: output.groups.iter().take(GROUPS_MAX).map(encode_group).collect(),
    }
}

fn encode_group(group: &GroupSeen) -> v1::GroupSeen {
    let mut links: Vec<_> = group.links.iter().collect();
    // Should some be left out, it is not these.
    links.sort_by_key(|seen| seen.link.granted.events.saturating_sub(seen.link.assigned.events));
    v1::GroupSeen {
        name: group.name.clone(),
        kind: match group.kind {
            GroupKind::Required => v1::GroupKind::Required,
            GroupKind::Attached => v1::GroupKind::Attached,
            GroupKind::Tap => v1::GroupKind::Tap,
        }
        .into(),
        waiting: group.waiting,
        deliveries: group.deliveries,
        bytes: group.bytes,
        redeliveries: group.redeliveries,
        links: links.into_iter().map(encode_consumer).collect(),
    }
}

fn encode_consumer(ConsumerSeen { link, no_credit, no_events }: &ConsumerSeen) -> v1::ConsumerLinkSeen {
    v1::ConsumerLinkSeen {
        id: link.id.0,
        instance: link.instance.clone(),
        window: Some(encode_window(link.window)),
        granted: Some(encode_credit(link.granted)),
        used: Some(encode_credit(link.assigned)),
        sent: Some(encode_credit(link.sent)),
        unsettled: link.unsettled,
        is_cancelled: link.is_cancelled,
        no_credit_ms: ms(*no_credit),
        no_events_ms: ms(*no_events),
    }
}

fn encode_input(input: &InputSeen) -> v1::InputSeen {
    v1::InputSeen {
        output: input.output.clone(),
        producer: input.producer.clone(),
        address: input.address.clone(),
        window: Some(encode_window(input.window)),
        granted: Some(encode_credit(input.granted)),
        received: Some(encode_credit(input.received)),
        processed: Some(encode_credit(input.processed)),
        unsettled: input.unsettled,
        pressure: input.pressure,
    }
}

fn encode_rejection(rejection: &RejectionSeen) -> v1::RejectedEvent {
    use v1::rejection::Reason as R;
    v1::RejectedEvent {
        unix_ms: rejection.unix_ms,
        reason: match rejection.reason {
            Reason::Malformed => R::Malformed,
            Reason::Invalid => R::Invalid,
            Reason::TooLarge => R::TooLarge,
            Reason::Exhausted => R::Exhausted,
            Reason::Refused => R::Refused,
        }
        .into(),
        text: rejection.text.clone(),
        event: rejection.event.as_ref().map_or_else(Default::default, |event| event.to_vec().into()),
    }
}

fn encode_window(Window { events, bytes }: Window) -> v1::Window {
    v1::Window { events, bytes }
}

fn encode_credit(Credit { events, bytes }: Credit) -> v1::Credit {
    v1::Credit { events, bytes }
}

/// What an answer says. Lists are as long as the answer's bytes allow.
pub(crate) fn decode(response: v1::InspectResponse) -> Told {
    let process = response.process.unwrap_or_default();
    let unix_ms = process.unix_ms;
    let process = ProcessSeen {
        version: process.version,
        commit: process.commit,
        unix_ms,
        resident_bytes: process.resident_bytes,
        program_bytes: process.program_bytes,
        memory_bytes_max: Some(process.memory_bytes_max).filter(|bytes| *bytes > 0),
        cpu: duration(process.cpu_ms),
        cpus: Some(process.cpus).filter(|cpus| cpus.is_finite() && *cpus > 0.0),
    };
    Told { process, stages: response.stages.into_iter().take(STAGES_MAX).map(|s| decode_stage(s, unix_ms)).collect() }
}

fn decode_stage(seen: v1::StageSeen, unix_ms: u64) -> Inspection {
    let instance = seen.instance.unwrap_or_default();
    let role = match v1::StageRole::try_from(seen.role) {
        Ok(v1::StageRole::Source) => RoleSeen::Source,
        Ok(v1::StageRole::Sink) => RoleSeen::Sink,
        Ok(v1::StageRole::Transform | v1::StageRole::Unspecified) | Err(_) => RoleSeen::Transform,
    };
    Inspection {
        pipeline: seen.pipeline,
        stage: seen.stage,
        instance: Instance { name: instance.name, incarnation: instance.incarnation },
        role,
        up: duration(seen.up_ms),
        unix_ms,
        is_draining: seen.is_draining,
        load: decode_load(seen.load.unwrap_or_default()),
        outputs: seen.outputs.into_iter().map(decode_output).collect(),
        inputs: seen.inputs.into_iter().map(decode_input).collect(),
        in_work: seen.in_work,
        oldest: seen.oldest_ms.map(duration),
        counts: decode_counts(seen.counts.unwrap_or_default()),
        settle: decode_latency(seen.settle.unwrap_or_default()),
        end_to_end: decode_latency(seen.end_to_end.unwrap_or_default()),
        rejections: seen.rejections.into_iter().map(decode_rejection).collect(),
        trouble: seen.trouble.map(|trouble| Trouble { text: trouble.text, since_unix_ms: trouble.since_unix_ms }),
        links_left_out: seen.links_left_out,
        usages: seen.usages.into_iter().take(USAGES_MAX).map(decode_usage).collect(),
    }
}

fn decode_usage(v1::Usage { name, used, max }: v1::Usage) -> Usage {
    Usage { name, used, max }
}

fn decode_load(load: v1::Load) -> Load {
    let share = |share: f64| if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
    Load {
        blocked: duration(load.blocked_ms),
        limit: duration(load.limit_ms),
        starved: duration(load.starved_ms),
        recent: [share(load.blocked), share(load.limit), share(load.starved)],
    }
}

fn decode_counts(counts: v1::EventCounts) -> Counts {
    Counts {
        events_in: counts.events_in,
        bytes_in: counts.bytes_in,
        accepted: counts.accepted,
        rejected: counts.rejected,
        rejected_here: [
            counts.rejected_malformed,
            counts.rejected_invalid,
            counts.rejected_too_large,
            counts.rejected_exhausted,
            counts.rejected_refused,
        ],
        refused: counts.refused,
    }
}

/// Durations in other buckets than ours would be shown as what they are not.
fn decode_latency(latency: v1::Latency) -> LatencySeen {
    let counts: Option<[u64; LATENCY_BOUNDS_MS.len() + 1]> = latency.counts.try_into().ok();
    counts.map_or_else(LatencySeen::default, |counts| LatencySeen { counts, sum_ms: latency.sum_ms })
}

fn decode_output(output: v1::OutputSeen) -> OutputSeen {
    OutputSeen {
        name: output.name,
        fill: Fill {
            events: output.events,
            bytes: output.bytes,
            capacity_events: output.events_max,
            capacity_bytes: output.bytes_max,
            span_used: output.span,
            span: output.span_max,
        },
        largest_share: KeyShare { events: output.largest_partition_events, bytes: output.largest_partition_bytes },
        oldest: output.oldest_ms.map(duration),
        dropped: output.dropped,
        tap_missed: output.tap_missed,
        groups: output.groups.into_iter().take(GROUPS_MAX).map(decode_group).collect(),
    }
}

fn decode_group(group: v1::GroupSeen) -> GroupSeen {
    GroupSeen {
        name: group.name,
        kind: match v1::GroupKind::try_from(group.kind) {
            Ok(v1::GroupKind::Attached) => GroupKind::Attached,
            Ok(v1::GroupKind::Tap) => GroupKind::Tap,
            Ok(v1::GroupKind::Required | v1::GroupKind::Unspecified) | Err(_) => GroupKind::Required,
        },
        waiting: group.waiting,
        deliveries: group.deliveries,
        bytes: group.bytes,
        redeliveries: group.redeliveries,
        links: group.links.into_iter().map(decode_consumer).collect(),
    }
}

fn decode_consumer(seen: v1::ConsumerLinkSeen) -> ConsumerSeen {
    ConsumerSeen {
        link: LinkSeen {
            id: LinkId(seen.id),
            instance: seen.instance,
            window: decode_window(seen.window),
            granted: decode_credit(seen.granted),
            assigned: decode_credit(seen.used),
            sent: decode_credit(seen.sent),
            unsettled: seen.unsettled,
            is_cancelled: seen.is_cancelled,
        },
        no_credit: duration(seen.no_credit_ms),
        no_events: duration(seen.no_events_ms),
    }
}

fn decode_input(input: v1::InputSeen) -> InputSeen {
    InputSeen {
        output: input.output,
        producer: input.producer,
        address: input.address,
        window: decode_window(input.window),
        granted: decode_credit(input.granted),
        received: decode_credit(input.received),
        processed: decode_credit(input.processed),
        unsettled: input.unsettled,
        pressure: input.pressure,
    }
}

fn decode_rejection(rejected: v1::RejectedEvent) -> RejectionSeen {
    use v1::rejection::Reason as R;
    RejectionSeen {
        unix_ms: rejected.unix_ms,
        reason: match R::try_from(rejected.reason) {
            Ok(R::Malformed) => Reason::Malformed,
            Ok(R::Invalid) => Reason::Invalid,
            Ok(R::TooLarge) => Reason::TooLarge,
            Ok(R::Exhausted) => Reason::Exhausted,
            Ok(R::Refused | R::Unspecified) | Err(_) => Reason::Refused,
        },
        text: rejected.text,
        event: (!rejected.event.is_empty()).then(|| rejected.event.as_ref().into()),
    }
}

fn decode_window(window: Option<v1::Window>) -> Window {
    let v1::Window { events, bytes } = window.unwrap_or_default();
    Window { events, bytes }
}

fn decode_credit(credit: Option<v1::Credit>) -> Credit {
    let v1::Credit { events, bytes } = credit.unwrap_or_default();
    Credit { events, bytes }
}

pub(super) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

const fn duration(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(id: u64, name_bytes: usize) -> ConsumerSeen {
        let credit = |events| Credit { events, bytes: 10 * events };
        let link = LinkSeen {
            id: LinkId(id),
            instance: format!("{id:0name_bytes$}"),
            window: Window { events: 2_000, bytes: 1 << 20 },
            granted: credit(id + 5_000),
            assigned: credit(4_000),
            sent: credit(3_000),
            unsettled: 7,
            is_cancelled: id == 3,
        };
        ConsumerSeen { link, no_credit: duration(id), no_events: duration(1_000) }
    }

    fn stage(links: u64, name_bytes: usize, event_bytes: usize) -> Inspection {
        let group = GroupSeen {
            name: "convert".into(),
            kind: GroupKind::Tap,
            waiting: 1,
            deliveries: 2,
            bytes: 3,
            redeliveries: 4,
            links: (0..links).map(|id| link(id, name_bytes)).collect(),
        };
        let output = OutputSeen {
            name: "ingest".into(),
            fill: Fill { events: 1, bytes: 2, capacity_events: 3, capacity_bytes: 4, span_used: 5, span: 6 },
            largest_share: KeyShare { events: 1, bytes: 2 },
            oldest: Some(duration(9)),
            dropped: 1,
            tap_missed: 2,
            groups: vec![group],
        };
        let input = InputSeen {
            output: "before".into(),
            producer: "b-0".into(),
            address: "b:7400".into(),
            window: Window { events: 1, bytes: 2 },
            granted: Credit { events: 3, bytes: 4 },
            received: Credit { events: 2, bytes: 3 },
            processed: Credit { events: 1, bytes: 2 },
            unsettled: 1,
            pressure: true,
        };
        let reasons = [Reason::Malformed, Reason::Invalid, Reason::TooLarge, Reason::Exhausted, Reason::Refused];
        let rejected = |reason| RejectionSeen {
            unix_ms: 5,
            reason,
            text: "no unit".into(),
            event: Some(vec![1; event_bytes].into()),
        };
        let mut settle = LatencySeen { sum_ms: 99, ..LatencySeen::default() };
        settle.counts = std::array::from_fn(|index| index as u64);
        Inspection {
            pipeline: "p".into(),
            stage: "ingest".into(),
            instance: Instance { name: "i-0".into(), incarnation: 1 << 60 },
            role: RoleSeen::Sink,
            up: duration(1_234),
            unix_ms: 77,
            is_draining: true,
            load: Load { blocked: duration(1), limit: duration(2), starved: duration(3), recent: [0.5, 0.25, 0.25] },
            outputs: vec![output],
            inputs: vec![input],
            in_work: 8,
            oldest: Some(duration(10)),
            counts: Counts {
                events_in: 1,
                bytes_in: 2,
                accepted: 3,
                rejected: 4,
                rejected_here: [1, 2, 3, 4, 5],
                refused: 6,
            },
            settle,
            end_to_end: settle,
            rejections: reasons.map(rejected).to_vec(),
            trouble: Some(Trouble { text: "broker down".into(), since_unix_ms: 3 }),
            usages: vec![Usage { name: "connections".into(), used: 3, max: 1_024 }],
            links_left_out: 0,
        }
    }

    fn over_the_wire(stages: &[Inspection]) -> (v1::InspectResponse, Told) {
        let response = encode(v1::Process { unix_ms: 77, ..v1::Process::default() }, stages);
        let bytes = response.encode_to_vec();
        assert!(bytes.len() <= INSPECTION_BYTES_MAX, "{}", bytes.len());
        let told = decode(v1::InspectResponse::decode(bytes.as_slice()).unwrap());
        (response, told)
    }

    #[test]
    fn what_is_told_arrives_whole() {
        let stages = [stage(4, 1, 100)];
        assert_eq!(over_the_wire(&stages).1.stages, stages);
    }

    #[test]
    fn of_too_many_links_those_with_most_credit_are_left_out_and_counted() {
        let (response, told) = over_the_wire(&[stage(5_000, 1, 10)]);
        let links = &told.stages[0].outputs[0].groups[0].links;
        assert_eq!((links.len(), response.stages[0].links_left_out), (1_024, 5_000 - 1_024));
        assert_eq!(told.stages[0].links_left_out, 5_000 - 1_024);
        assert!(links.iter().all(|seen| seen.link.granted.events < 5_000 + 1_024));
        let (response, told) = over_the_wire(&[stage(5_000, 253, 10)]);
        let links = told.stages[0].outputs[0].groups[0].links.len();
        assert!(links >= 256, "{links}");
        assert_eq!(response.stages[0].links_left_out as usize, 5_000 - links);
    }

    #[test]
    fn rejected_events_are_left_out_before_anything_else() {
        let stages: Vec<_> = (0..30).map(|_| stage(10, 20, 4_096)).collect();
        let (_, told) = over_the_wire(&stages);
        assert_eq!(told.stages.len(), 30);
        assert!(told.stages.iter().all(|seen| seen.rejections.len() == 5 && seen.rejections[0].event.is_none()));
        assert!(told.stages.iter().all(|seen| seen.outputs[0].groups[0].links.len() == 10));
    }

    #[test]
    fn what_a_foreign_stage_leaves_out_or_makes_up_is_taken_for_nothing() {
        let odd = v1::StageSeen {
            role: 99,
            load: Some(v1::Load { blocked: f64::NAN, limit: 7.0, ..v1::Load::default() }),
            settle: Some(v1::Latency { counts: vec![1, 2], sum_ms: 3 }),
            ..v1::StageSeen::default()
        };
        let told = decode(v1::InspectResponse { process: None, stages: vec![odd] });
        let seen = &told.stages[0];
        assert_eq!((seen.load.recent, seen.settle), ([0.0, 1.0, 0.0], LatencySeen::default()));
        assert_eq!(told.process.memory_bytes_max, None);
    }
}
