//! A pipeline that nobody runs: what its views look like while a slow broker holds it up.

#![allow(dead_code, unreachable_pub, reason = "an example has it too")]

use std::collections::BTreeMap;

use jaiminho_observe::{
    AddressView, Figures, Finding, FindingKind, History, InstanceView, Kind, LatencyView, Limit, LimitKind, LinkView,
    LoadView, LogView, Rates, RejectionView, Role, Severity, StageHistory, StageView, SubscriptionHistory,
    SubscriptionView, Totals, TroubleView, View,
};
use serde_json::json;

/// 2026-03-01, 12:00 in UTC.
const START_UNIX_MS: u64 = 1_772_366_400_000;

/// What is seen in this second since the start.
pub fn view(second: u64) -> View {
    let wave = 1.0 + 0.2 * (second as f64 / 7.0).sin();
    let rate = (2_400.0 * wave).round();
    View {
        pipeline: "eugenio".into(),
        unix_ms: START_UNIX_MS + second * 1_000,
        stages: vec![ingest(rate, second), convert(rate, second), publish(rate, second), dead()],
        subscriptions: vec![
            subscription("ingest", "convert", &["ingest-0", "ingest-1"], &["convert-0", "convert-1"], rate, 0.62),
            subscription("convert", "publish", &["convert-0", "convert-1"], &["publish-0"], rate * 1.5, 0.94),
            subscription("convert.dead_letter", "dead", &["convert-0", "convert-1"], &["dead-0"], 3.0, 0.0),
            subscription("publish.dead_letter", "dead", &["publish-0"], &["dead-0"], 0.0, 0.0),
        ],
        limit: Some(Limit {
            stage: "publish".into(),
            kind: LimitKind::Busy,
            share: 0.97,
            text: "`publish` is the limit: it had all the work that it can do for 97 % of the last 10 s, \
                   and `convert` waits for it"
                .into(),
        }),
        findings: findings(),
    }
}

/// The 15 minutes before this second.
pub fn history(second: u64) -> History {
    let mut history = History { interval_ms: 1_000, ..History::default() };
    for ago in (0..900).rev().filter(|ago| ago % 300 != 150) {
        let view = view(10_000 + second - ago);
        history.unix_ms.push(view.unix_ms - 10_000_000);
        for stage in view.stages {
            remember(history.stages.entry(stage.name).or_default(), &stage.figures);
        }
        for edge in view.subscriptions {
            let kept: &mut SubscriptionHistory = history.subscriptions.entry(edge.id).or_default();
            kept.events.push(edge.events.map(|value| value as f32));
            kept.waiting.push(Some(edge.waiting as f32));
            kept.no_credit.push(edge.no_credit.map(|value| value as f32));
        }
    }
    history
}

fn remember(kept: &mut StageHistory, figures: &Figures) {
    let narrow = |value: Option<f64>| value.map(|value| value as f32);
    kept.events_in.push(narrow(figures.rates.events_in));
    kept.accepted.push(narrow(figures.rates.accepted));
    kept.rejected.push(narrow(figures.rates.rejected));
    kept.fill.push(narrow(figures.logs.first().map(|log| log.fill)));
    kept.blocked.push(Some(figures.load.blocked as f32));
    kept.limit.push(Some(figures.load.limit as f32));
    kept.settle_p50_ms.push(narrow(figures.settle.p50_ms));
    kept.settle_p99_ms.push(narrow(figures.settle.p99_ms));
    kept.end_to_end_p50_ms.push(narrow(figures.end_to_end.p50_ms));
    kept.end_to_end_p99_ms.push(narrow(figures.end_to_end.p99_ms));
}

fn ingest(rate: f64, second: u64) -> StageView {
    let figures = |share: f64| Figures {
        load: LoadView { blocked: 0.88, limit: 0.02, starved: 0.1 },
        logs: vec![log("ingest", (7_400.0 * share) as u64, (8_000.0 * share) as u64)],
        settle: latency(1_840.0, 3_120.0),
        oldest_ms: Some(3_140),
        ..figures(rate * share, 410 * second, (9_800.0 * share) as u64)
    };
    let mut whole = figures(1.0);
    (whole.rates.refused, whole.totals.refused) = (Some(41.0), 8_123);
    stage(
        "ingest",
        Role::Source,
        "http",
        whole,
        vec![
            instance("ingest-0", "10.0.0.11:7400", figures(0.52)),
            instance("ingest-1", "10.0.0.12:7400", figures(0.48)),
        ],
    )
}

fn convert(rate: f64, second: u64) -> StageView {
    let figures = |share: f64| Figures {
        load: LoadView { blocked: 0.91, limit: 0.06, starved: 0.03 },
        logs: vec![
            log("convert", (7_100.0 * share) as u64, (8_000.0 * share) as u64),
            log("convert.dead_letter", 0, 1_000),
        ],
        settle: latency(1_210.0, 2_400.0),
        oldest_ms: Some(2_410),
        ..figures(rate * share, 409 * second, (4_700.0 * share) as u64)
    };
    let mut whole = figures(1.0);
    whole.totals.rejected_here = [("invalid".to_owned(), 371), ("exhausted".to_owned(), 2)].into();
    let mut stage = stage(
        "convert",
        Role::Transform,
        "vrl",
        whole,
        vec![
            instance("convert-0", "10.0.1.21:7400", figures(0.5)),
            instance("convert-1", "10.0.1.22:7400", figures(0.5)),
        ],
    );
    stage.addresses.push(AddressView {
        address: "10.0.1.23:7400".into(),
        is_there: false,
        problem: Some("connection refused".into()),
    });
    stage.rejections = (0..3).map(|number| rejection("convert-0", number)).collect();
    stage
}

fn publish(rate: f64, second: u64) -> StageView {
    let figures = Figures {
        load: LoadView { blocked: 0.0, limit: 0.97, starved: 0.03 },
        settle: latency(420.0, 910.0),
        end_to_end: latency(1_850.0, 3_180.0),
        oldest_ms: Some(930),
        logs: vec![log("publish.dead_letter", 0, 1_000)],
        trouble: Some(TroubleView {
            text: "kafka-2:9092: connect: connection refused".into(),
            since_unix_ms: START_UNIX_MS - 95_000,
            for_ms: 95_000,
        }),
        ..figures(rate * 1.5, 600 * second, 2_000)
    };
    let instances = vec![instance("publish-0", "10.0.2.31:7400", figures.clone())];
    stage("publish", Role::Sink, "kafka", figures, instances)
}

fn dead() -> StageView {
    let figures = Figures {
        load: LoadView { blocked: 0.0, limit: 0.0, starved: 1.0 },
        settle: latency(11.0, 40.0),
        end_to_end: latency(1_220.0, 2_460.0),
        ..figures(3.0, 3, 1)
    };
    let instances = vec![instance("dead-0", "10.0.3.41:7400", figures.clone())];
    stage("dead", Role::Sink, "kafka", figures, instances)
}

fn figures(rate: f64, total: u64, in_work: u64) -> Figures {
    let bytes = 310.0;
    Figures {
        rates: Rates {
            events_in: Some(rate),
            bytes_in: Some(rate * bytes),
            accepted: Some(rate),
            rejected: Some(rate / 800.0),
            refused: Some(0.0),
            events_out: Some(rate),
            bytes_out: Some(rate * bytes),
        },
        totals: Totals { events_in: total, accepted: total, events_out: total, redelivered: 12, ..Totals::default() },
        in_work,
        ..Figures::default()
    }
}

fn stage(name: &str, role: Role, component: &str, figures: Figures, instances: Vec<InstanceView>) -> StageView {
    let addresses = instances
        .iter()
        .map(|one| AddressView { address: one.address.clone(), is_there: true, problem: None })
        .collect();
    let (name, component) = (name.to_owned(), component.to_owned());
    StageView {
        name,
        role,
        component,
        deadline_ms: None,
        has_place: true,
        addresses,
        figures,
        links_left_out: 0,
        rejections: Vec::new(),
        instances,
    }
}

fn instance(name: &str, address: &str, figures: Figures) -> InstanceView {
    InstanceView {
        name: name.into(),
        address: address.into(),
        version: "0.1.0".into(),
        commit: "3e5babe".into(),
        up_ms: 8_040_000,
        clock_ahead_ms: -3,
        clock_within_ms: 1,
        resident_bytes: 61 << 20,
        program_bytes: 26 << 20,
        memory_bytes_max: Some(412 << 20),
        usages: BTreeMap::from([("cpu".to_owned(), 0.31)]),
        is_draining: false,
        quiet_ms: 0,
        links_left_out: 0,
        figures,
    }
}

fn latency(p50_ms: f64, p99_ms: f64) -> LatencyView {
    LatencyView { count: 24_000, p50_ms: Some(p50_ms), p99_ms: Some(p99_ms) }
}

fn log(output: &str, events: u64, capacity_events: u64) -> LogView {
    LogView {
        output: output.into(),
        events,
        capacity_events,
        bytes: events * 310,
        capacity_bytes: 32 << 20,
        fill: events as f64 / capacity_events as f64,
        largest_key: 0.04,
        oldest_ms: (events > 0).then_some(3_100),
        dropped: 0,
        tap_missed: 0,
    }
}

fn subscription(
    output: &str,
    to: &str,
    producers: &[&str],
    consumers: &[&str],
    rate: f64,
    no_credit: f64,
) -> SubscriptionView {
    let share = 1.0 / (producers.len() * consumers.len()) as f64;
    let link = |producer: &str, consumer: &str| LinkView {
        producer: producer.into(),
        consumer: consumer.into(),
        window_events: 2_000,
        window_bytes: 1 << 20,
        credit_unused: (2_000.0 * (1.0 - no_credit)) as u64,
        unsettled: (rate * share) as u64,
        events: Some(rate * share),
        bytes: Some(rate * share * 310.0),
        no_credit: Some(no_credit),
        is_cancelled: false,
    };
    let links = producers.iter().flat_map(|producer| consumers.iter().map(|consumer| link(producer, consumer)));
    SubscriptionView {
        id: format!("{output}>{to}"),
        output: output.into(),
        from: jaiminho_observe::stage_of(output).into(),
        to: to.into(),
        kind: Kind::Required,
        waiting: (no_credit * 1_900.0) as u64,
        events: Some(rate),
        bytes: Some(rate * 310.0),
        redelivered: Some(0.0),
        deliveries: 1_204_000,
        redeliveries: 12,
        no_credit: Some(no_credit),
        links: links.collect(),
    }
}

fn rejection(instance: &str, number: u64) -> RejectionView {
    let sensor = format!("eug-{:04}", 42 + number);
    RejectionView {
        instance: instance.into(),
        unix_ms: START_UNIX_MS - number * 4_200,
        ago_ms: number * 4_200,
        reason: "invalid".into(),
        text: format!("mapping.vrl:12: no unit in reading {number} of {sensor}: <b>bold</b> & \u{1b}[31mred"),
        event: (number < 2).then(|| {
            json!({
                "specversion": "1.0", "id": format!("e-{number}"), "type": "telemetry", "source": "/devices",
                "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                "data": { "deviceId": sensor, "readings": [{ "metric": "inlet", "value": 71.6 }] },
            })
        }),
    }
}

fn findings() -> Vec<Finding> {
    let finding = |severity, kind, stage: &str, instance: Option<&str>, text: &str, advice: &str| Finding {
        severity,
        kind,
        stage: Some(stage.into()),
        instance: instance.map(Into::into),
        text: text.into(),
        advice: advice.into(),
    };
    vec![
        finding(
            Severity::Problem,
            FindingKind::Trouble,
            "publish",
            Some("publish-0"),
            "publish-0 can't reach a broker for 95 s: kafka-2:9092: connect: connection refused.",
            "Look whether kafka-2 runs, and whether its port is open from here.",
        ),
        finding(
            Severity::Problem,
            FindingKind::LogFull,
            "ingest",
            None,
            "The log of ingest is 93 % full: clients get 429.",
            "Make publish faster, or give it more instances.",
        ),
        finding(
            Severity::Notice,
            FindingKind::Unreachable,
            "convert",
            None,
            "Nothing answers at 10.0.1.23:7400 (connection refused).",
            "If an instance of convert is to run there, start it.",
        ),
    ]
}
