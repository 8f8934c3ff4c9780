//! What tests look at.

use std::time::Duration;

use jaiminho_core::{Credit, Fill, GroupKind, Instance, KeyShare, LinkId, LinkSeen, Window};
use jaiminho_runtime::{ConsumerSeen, Counts, GroupSeen, Inspection, LatencySeen, Load, OutputSeen, RoleSeen};

use crate::plan::{Kind, Plan, PlannedStage, PlannedSubscription, Role};

/// An instance of a stage of pipeline `p` that does nothing.
pub(crate) fn inspection(stage: &str, name: &str) -> Inspection {
    Inspection {
        pipeline: "p".into(),
        stage: stage.into(),
        instance: Instance { name: name.into(), incarnation: 1 },
        role: RoleSeen::Transform,
        up: Duration::from_secs(100),
        unix_ms: 1_000_000,
        is_draining: false,
        load: Load { recent: [0.0, 0.0, 1.0], ..Load::default() },
        outputs: vec![],
        inputs: vec![],
        in_work: 0,
        oldest: None,
        counts: Counts::default(),
        settle: LatencySeen::default(),
        end_to_end: LatencySeen::default(),
        rejections: vec![],
        trouble: None,
        usages: vec![],
        links_left_out: 0,
    }
}

/// An output with one required group.
pub(crate) fn output(name: &str, group: &str, links: Vec<ConsumerSeen>) -> OutputSeen {
    let groups = vec![GroupSeen {
        name: group.into(),
        kind: GroupKind::Required,
        waiting: 0,
        deliveries: 0,
        bytes: 0,
        redeliveries: 0,
        links,
    }];
    OutputSeen {
        name: name.into(),
        fill: Fill {
            events: 0,
            bytes: 0,
            capacity_events: 8_000,
            capacity_bytes: 32 << 20,
            span_used: 0,
            span: 128_000,
        },
        largest_share: KeyShare::default(),
        oldest: None,
        dropped: 0,
        tap_missed: 0,
        groups,
    }
}

/// A link that has credit left.
pub(crate) fn link(id: u64, instance: &str) -> ConsumerSeen {
    let link = LinkSeen {
        id: LinkId(id),
        instance: instance.into(),
        window: Window { events: 2_000, bytes: 1 << 20 },
        granted: Credit { events: 2_000, bytes: 1 << 20 },
        assigned: Credit::default(),
        sent: Credit::default(),
        unsettled: 0,
        is_cancelled: false,
    };
    ConsumerSeen { link, no_credit: Duration::ZERO, no_events: Duration::from_secs(100) }
}

/// `ingest`, `convert` and `publish`.
pub(crate) fn plan() -> Plan {
    let stage = |name: &str, role, component: &str, above: Option<&str>| PlannedStage {
        name: name.into(),
        role,
        component: component.into(),
        deadline_ms: None,
        subscribe_to: above
            .map(|output| PlannedSubscription { output: output.into(), kind: Kind::Required })
            .into_iter()
            .collect(),
        outputs: if role == Role::Sink { vec![] } else { vec![name.into()] },
    };
    Plan {
        pipeline: "p".into(),
        stages: vec![
            stage("ingest", Role::Source, "http", None),
            stage("convert", Role::Transform, "vrl", Some("ingest")),
            stage("publish", Role::Sink, "kafka", Some("convert")),
        ],
    }
}
