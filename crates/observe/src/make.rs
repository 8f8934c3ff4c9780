//! From what instances tell to a [`View`].

use std::collections::BTreeMap;

use jaiminho_core::Reason;
use jaiminho_event::EventView;
use jaiminho_runtime::{ConsumerSeen, LatencySeen, OutputSeen, RejectionSeen, Trouble};

use crate::{
    findings,
    gather::Addresses,
    judge,
    looks::{Between, Seen, Sent, percentile, since},
    plan::{Kind, Plan, PlannedStage, stage_of},
    units::sum,
    view::{
        AddressView, Figures, InstanceView, LatencyView, LinkView, LoadView, LogView, Rates, RejectionView, StageView,
        SubscriptionView, Totals, TroubleView, View,
    },
};

/// Rejections of a stage that are shown.
const REJECTIONS_MAX: usize = 16;

/// By stage and instance.
pub(crate) type AllSeen = BTreeMap<(String, String), Seen>;

/// Everything, with what follows from it.
pub(crate) fn view(plan: &Plan, unix_ms: u64, seen: &AllSeen, addresses: impl Fn(&str) -> Addresses) -> View {
    let mut left_out = 0;
    let mut stages = Vec::new();
    for planned in &plan.stages {
        let found = addresses(&planned.name);
        left_out += found.left_out;
        let instances: Vec<&Seen> = of_stage(seen, &planned.name).collect();
        stages.push(stage_view(planned, found, &instances));
    }
    let subscriptions = subscriptions(plan, seen);
    let mut view =
        View { pipeline: plan.pipeline.clone(), unix_ms, stages, subscriptions, limit: None, findings: vec![] };
    view.limit = judge::limit(&view);
    view.findings = findings::findings(&view, left_out);
    view
}

fn of_stage<'a>(seen: &'a AllSeen, stage: &str) -> impl Iterator<Item = &'a Seen> + use<'a> {
    let stage = stage.to_owned();
    seen.iter().filter(move |((of, _), _)| *of == stage).map(|(_, seen)| seen)
}

fn stage_view(planned: &PlannedStage, found: Addresses, instances: &[&Seen]) -> StageView {
    let addresses =
        found.asked.into_iter().map(|(address, problem, is_there)| AddressView { address, is_there, problem });
    let mut rejections: Vec<_> = instances
        .iter()
        .flat_map(|seen| seen.now.rejections.iter().map(|rejection| rejected(seen, rejection)))
        .collect();
    rejections.sort_by_key(|rejection| rejection.ago_ms);
    rejections.truncate(REJECTIONS_MAX);
    StageView {
        name: planned.name.clone(),
        role: planned.role,
        component: planned.component.clone(),
        deadline_ms: planned.deadline_ms,
        has_place: found.has_place,
        addresses: addresses.collect(),
        figures: figures(instances),
        links_left_out: sum(instances.iter().map(|seen| seen.now.links_left_out.into())),
        rejections,
        instances: instances.iter().map(|seen| instance_view(seen)).collect(),
    }
}

fn instance_view(seen: &Seen) -> InstanceView {
    InstanceView {
        name: seen.now.instance.name.clone(),
        address: seen.address.clone(),
        version: seen.process.version.clone(),
        commit: seen.process.commit.clone(),
        up_ms: millis(seen.now.up),
        clock_ahead_ms: seen.clock.ahead_ms,
        clock_within_ms: seen.clock.within_ms,
        resident_bytes: seen.process.resident_bytes,
        program_bytes: seen.process.program_bytes,
        memory_bytes_max: seen.process.memory_bytes_max,
        usages: usages(seen),
        is_draining: seen.now.is_draining,
        quiet_ms: millis(seen.quiet()),
        links_left_out: seen.now.links_left_out.into(),
        figures: figures(&[seen]),
    }
}

fn usages(seen: &Seen) -> BTreeMap<String, f64> {
    let share = |used: f64, max: f64| (used / max).clamp(0.0, 1.0);
    let limits = seen.now.usages.iter().filter(|usage| usage.max > 0);
    let limits = limits.map(|usage| (usage.name.clone(), share(usage.used as f64, usage.max as f64)));
    let cpu = seen.process.cpus.zip(seen.lately());
    limits.chain(cpu.map(|(cpus, lately)| ("cpu".to_owned(), share(lately.cpu(), cpus)))).collect()
}

fn rejected(seen: &Seen, rejection: &RejectionSeen) -> RejectionView {
    let event = rejection.event.as_ref().and_then(|event| EventView::parse(event).ok());
    RejectionView {
        instance: seen.now.instance.name.clone(),
        unix_ms: rejection.unix_ms,
        ago_ms: seen.now.unix_ms.saturating_sub(rejection.unix_ms),
        reason: rejection.reason.name().to_owned(),
        text: rejection.text.clone(),
        event: event.map(|event| event.to_event().to_json()),
    }
}

/// Of an instance, or of all of a stage.
fn figures(instances: &[&Seen]) -> Figures {
    let mut logs: Vec<LogView> = Vec::new();
    for output in instances.iter().flat_map(|seen| &seen.now.outputs) {
        match logs.iter_mut().find(|log| log.output == output.name) {
            Some(log) => add_log(log, output),
            None => logs.push(log_view(output)),
        }
    }
    Figures {
        rates: rates(instances),
        totals: totals(instances),
        load: load(instances),
        in_work: sum(instances.iter().map(|seen| seen.now.in_work)),
        oldest_ms: instances.iter().filter_map(|seen| seen.now.oldest).max().map(millis),
        settle: latency(instances, |seen| &seen.settle),
        end_to_end: latency(instances, |seen| &seen.end_to_end),
        logs,
        trouble: instances.iter().filter_map(|seen| trouble(seen)).max_by_key(|trouble| trouble.for_ms),
    }
}

fn trouble(seen: &Seen) -> Option<TroubleView> {
    let Trouble { text, since_unix_ms } = seen.now.trouble.clone()?;
    Some(TroubleView { text, since_unix_ms, for_ms: seen.now.unix_ms.saturating_sub(since_unix_ms) })
}

fn rates(instances: &[&Seen]) -> Rates {
    let lapses: Vec<Between<'_>> = instances.iter().filter_map(|seen| seen.recently()).collect();
    let rate = |count: fn(&crate::looks::Marks) -> u64| {
        let all: f64 = lapses.iter().map(|lapse| lapse.rate(count)).sum();
        (!lapses.is_empty()).then_some(all)
    };
    Rates {
        events_in: rate(|marks| marks.counts.events_in),
        bytes_in: rate(|marks| marks.counts.bytes_in),
        accepted: rate(|marks| marks.counts.accepted),
        rejected: rate(|marks| marks.counts.rejected),
        refused: rate(|marks| marks.counts.refused),
        events_out: rate(|marks| marks.sent().events),
        bytes_out: rate(|marks| marks.sent().bytes),
    }
}

fn totals(instances: &[&Seen]) -> Totals {
    let counts = || instances.iter().map(|seen| seen.now.counts);
    let sent = || instances.iter().map(|seen| seen.marks().sent());
    let here = (0..).zip(Reason::ALL).map(|(index, reason): (usize, _)| {
        (reason.name().to_owned(), sum(counts().map(|counts| counts.rejected_here[index])))
    });
    Totals {
        events_in: sum(counts().map(|counts| counts.events_in)),
        bytes_in: sum(counts().map(|counts| counts.bytes_in)),
        accepted: sum(counts().map(|counts| counts.accepted)),
        rejected: sum(counts().map(|counts| counts.rejected)),
        rejected_here: here.collect(),
        refused: sum(counts().map(|counts| counts.refused)),
        events_out: sum(sent().map(|sent| sent.events)),
        bytes_out: sum(sent().map(|sent| sent.bytes)),
        redelivered: sum(sent().map(|sent| sent.repeated)),
    }
}

fn load(instances: &[&Seen]) -> LoadView {
    let share = |state: usize| mean(instances.iter().map(|seen| seen.now.load.recent[state])).unwrap_or_default();
    LoadView { blocked: share(0), limit: share(1), starved: share(2) }
}

fn latency(instances: &[&Seen], of: impl Fn(&crate::looks::Marks) -> &LatencySeen) -> LatencyView {
    let mut all = LatencySeen::default();
    for lapse in instances.iter().filter_map(|seen| seen.lately()) {
        let came = since(of(lapse.now), of(lapse.before));
        all.counts.iter_mut().zip(came.counts).for_each(|(all, came)| *all = all.saturating_add(came));
    }
    LatencyView { count: sum(all.counts.into_iter()), p50_ms: percentile(&all, 0.5), p99_ms: percentile(&all, 0.99) }
}

fn log_view(output: &OutputSeen) -> LogView {
    let OutputSeen { fill, largest_share, .. } = output;
    let share = |events: u64, bytes: u64| ratio(events, fill.capacity_events).max(ratio(bytes, fill.capacity_bytes));
    LogView {
        output: output.name.clone(),
        events: fill.events,
        capacity_events: fill.capacity_events,
        bytes: fill.bytes,
        capacity_bytes: fill.capacity_bytes,
        fill: share(fill.events, fill.bytes).max(ratio(fill.span_used, fill.span)),
        largest_key: share(largest_share.events, largest_share.bytes),
        oldest_ms: output.oldest.map(millis),
        dropped: output.dropped,
        tap_missed: output.tap_missed,
    }
}

/// The same output of one more instance.
fn add_log(log: &mut LogView, output: &OutputSeen) {
    let other = log_view(output);
    for (all, more) in [
        (&mut log.events, other.events),
        (&mut log.capacity_events, other.capacity_events),
        (&mut log.bytes, other.bytes),
        (&mut log.capacity_bytes, other.capacity_bytes),
        (&mut log.dropped, other.dropped),
        (&mut log.tap_missed, other.tap_missed),
    ] {
        *all = all.saturating_add(more);
    }
    log.fill = log.fill.max(other.fill);
    log.largest_key = log.largest_key.max(other.largest_key);
    log.oldest_ms = log.oldest_ms.max(other.oldest_ms);
}

/// Those of the plan, in its order, and those of ad-hoc groups that are there.
fn subscriptions(plan: &Plan, seen: &AllSeen) -> Vec<SubscriptionView> {
    let mut wanted: Vec<(String, String, Kind)> = Vec::new();
    for stage in &plan.stages {
        wanted.extend(stage.subscribe_to.iter().map(|of| (of.output.clone(), stage.name.clone(), of.kind)));
    }
    let mut other = BTreeMap::new();
    for output in seen.values().flat_map(|seen| &seen.now.outputs) {
        let groups = output.groups.iter().filter(|of| !is_planned(plan, &output.name, &of.name));
        other.extend(groups.map(|of| ((output.name.clone(), of.name.clone()), of.kind.into())));
    }
    wanted.extend(other.into_iter().map(|((output, group), kind)| (output, group, kind)));
    wanted.into_iter().map(|(output, to, kind)| subscription(seen, output, to, kind)).collect()
}

fn is_planned(plan: &Plan, output: &str, group: &str) -> bool {
    plan.stage(group).is_some_and(|stage| stage.subscribe_to.iter().any(|of| of.output == output))
}

fn subscription(seen: &AllSeen, output: String, to: String, kind: Kind) -> SubscriptionView {
    let from = stage_of(&output).to_owned();
    let producers: Vec<&Seen> = of_stage(seen, &from).collect();
    let mut view = SubscriptionView {
        id: format!("{output}>{to}"),
        output,
        from,
        to,
        kind,
        waiting: 0,
        events: None,
        bytes: None,
        redelivered: None,
        deliveries: 0,
        redeliveries: 0,
        no_credit: None,
        links: Vec::new(),
    };
    for producer in producers {
        add_producer(&mut view, producer);
    }
    view.no_credit = mean(view.links.iter().filter(|link| !link.is_cancelled).filter_map(|link| link.no_credit));
    view
}

/// What one producer's instance tells of the group.
fn add_producer(view: &mut SubscriptionView, producer: &Seen) {
    let output = producer.now.outputs.iter().find(|output| output.name == view.output);
    let Some(group) = output.and_then(|output| output.groups.iter().find(|group| group.name == view.to)) else {
        return;
    };
    view.waiting = view.waiting.saturating_add(group.waiting);
    view.deliveries = view.deliveries.saturating_add(group.deliveries);
    view.redeliveries = view.redeliveries.saturating_add(group.redeliveries);
    if let Some(lapse) = producer.recently() {
        let rate = |count: fn(&Sent) -> u64| lapse.rate(|marks| marks.group(&view.output, &view.to).map_or(0, count));
        let add = |all: Option<f64>, rate: f64| Some(all.unwrap_or_default() + rate);
        view.events = add(view.events, rate(|sent| sent.events));
        view.bytes = add(view.bytes, rate(|sent| sent.bytes));
        view.redelivered = add(view.redelivered, rate(|sent| sent.repeated));
    }
    let links = group.links.iter().map(|seen| link_view(&view.output, producer, seen));
    view.links.extend(links.collect::<Vec<_>>());
}

fn link_view(output: &str, producer: &Seen, ConsumerSeen { link, .. }: &ConsumerSeen) -> LinkView {
    let id = link.id.0;
    let rate = |count: fn(&Sent) -> u64| {
        producer.recently().map(|lapse| lapse.rate(|marks| marks.link(output, id).map_or(0, count)))
    };
    let no_credit = producer.lately().and_then(|Between { before, now }| {
        let (before, now) = (before.link(output, id).copied().unwrap_or_default(), now.link(output, id)?);
        let without = now.no_credit.saturating_sub(before.no_credit).as_secs_f64();
        let with = now.no_events.saturating_sub(before.no_events).as_secs_f64();
        (without + with > 0.0).then(|| without / (without + with))
    });
    LinkView {
        producer: producer.now.instance.name.clone(),
        consumer: link.instance.clone(),
        window_events: link.window.events,
        window_bytes: link.window.bytes,
        credit_unused: link.granted.events.saturating_sub(link.assigned.events),
        unsettled: link.unsettled,
        events: rate(|sent| sent.events),
        bytes: rate(|sent| sent.bytes),
        no_credit,
        is_cancelled: link.is_cancelled,
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn mean(numbers: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = numbers.fold((0.0, 0_u32), |(sum, count), number| (sum + number, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole > 0 { part as f64 / whole as f64 } else { 0.0 }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use jaiminho_core::{Credit, Fill, GroupKind, KeyShare, Payload, Window};
    use jaiminho_event::CloudEvent;
    use jaiminho_link::ProcessSeen;
    use jaiminho_runtime::Inspection;

    use super::*;
    use crate::{
        looks::Clock,
        made::{inspection, link, output, plan},
        text,
        top::{App, Theme},
    };

    fn seen(now: Inspection) -> Seen {
        Seen::new(format!("{}:7400", now.instance.name), ProcessSeen::default(), Clock::default(), now)
    }

    fn keyed(all: Vec<Seen>) -> AllSeen {
        all.into_iter().map(|seen| ((seen.now.stage.clone(), seen.now.instance.name.clone()), seen)).collect()
    }

    /// What these instances are shown as.
    pub(crate) fn view_of(instances: Vec<Inspection>) -> View {
        view(&plan(), 1_000_000, &keyed(instances.into_iter().map(seen).collect()), |_| Addresses::default())
    }

    /// Two looks, a second apart.
    fn view_after(pairs: Vec<(Inspection, Inspection)>) -> View {
        let all = pairs.into_iter().map(|(before, mut now)| {
            now.up = before.up + Duration::from_secs(1);
            seen(now).after(seen(before))
        });
        view(&plan(), 1_000_000, &keyed(all.collect()), |_| Addresses::default())
    }

    #[test]
    fn a_stage_is_the_sum_of_its_instances_but_for_ages_and_shares() {
        let made = |name: &str, events_in: u64, limit: f64| {
            let mut now = inspection("convert", name);
            now.counts.events_in = events_in;
            now.load.recent = [0.0, limit, 1.0 - limit];
            now.oldest = Some(Duration::from_millis(events_in));
            now.settle.counts[3] = events_in;
            now.outputs = vec![output("convert", "publish", vec![])];
            now.outputs[0].fill.events = events_in;
            now
        };
        let view = view_after(vec![
            (made("c-0", 100, 0.2), made("c-0", 300, 0.2)),
            (made("c-1", 1_000, 1.0), made("c-1", 1_050, 1.0)),
        ]);
        let convert = view.stages.iter().find(|stage| stage.name == "convert").unwrap();
        let Figures { rates, totals, load, oldest_ms, settle, logs, .. } = &convert.figures;
        assert_eq!((rates.events_in, totals.events_in), (Some(250.0), 1_350));
        assert_eq!((load.limit, *oldest_ms), (0.6, Some(1_050)));
        assert_eq!((settle.count, settle.p50_ms), (250, Some(7.5)));
        assert_eq!((logs[0].events, logs[0].capacity_events, logs[0].fill), (1_350, 16_000, 1_050.0 / 8_000.0));
        assert_eq!(convert.instances[0].figures.rates.events_in, Some(200.0));
    }

    #[test]
    fn a_subscription_shows_the_credit_of_each_link_and_what_it_lacked() {
        let made = |sent: u64, no_credit: u64| {
            let mut link = link(7, "p-0");
            link.link.assigned = Credit { events: 1_950, bytes: 0 };
            link.link.sent = Credit { events: sent, bytes: 10 * sent };
            link.no_credit = Duration::from_millis(no_credit);
            let mut now = inspection("convert", "c-0");
            now.outputs = vec![output("convert", "publish", vec![link])];
            now.outputs[0].groups[0].deliveries = sent;
            now.outputs[0].groups[0].waiting = 12;
            now
        };
        let (before, mut now) = (made(100, 0), made(400, 750));
        now.outputs[0].groups[0].links[0].no_events += Duration::from_millis(250);
        let view = view_after(vec![(before, now)]);
        let publish = view.subscriptions.iter().find(|of| of.id == "convert>publish").unwrap();
        assert_eq!((publish.events, publish.waiting, publish.no_credit), (Some(300.0), 12, Some(0.75)));
        let LinkView { producer, consumer, credit_unused, events, bytes, .. } = &publish.links[0];
        assert_eq!((producer.as_str(), consumer.as_str(), *credit_unused), ("c-0", "p-0", 50));
        assert_eq!((*events, *bytes), (Some(300.0), Some(3_000.0)));
        let ingest = view.subscriptions.iter().find(|of| of.id == "ingest>convert").unwrap();
        assert_eq!((ingest.events, ingest.links.len()), (None, 0), "its producer is not seen");
    }

    /// An instance that tells the largest of all numbers wherever it tells one.
    fn immense(stage: &str, name: &str, group: &str) -> Inspection {
        const MAX: u64 = u64::MAX;
        let mut link = link(MAX, "p-0");
        link.link.granted = Credit { events: MAX, bytes: MAX };
        (link.link.sent, link.link.unsettled) = (link.link.granted, MAX);
        link.link.window = Window { events: MAX, bytes: MAX };
        (link.no_credit, link.no_events) = (Duration::from_millis(MAX), Duration::from_millis(MAX));
        let mut output = output(stage, group, vec![link.clone(), link]);
        output.fill =
            Fill { events: MAX, bytes: MAX, capacity_events: MAX, capacity_bytes: MAX, span_used: MAX, span: MAX };
        output.largest_share = KeyShare { events: MAX, bytes: MAX };
        (output.oldest, output.dropped, output.tap_missed) = (Some(Duration::from_millis(MAX)), MAX, MAX);
        let of = &mut output.groups[0];
        (of.waiting, of.deliveries, of.bytes, of.redeliveries) = (MAX, MAX, MAX, MAX);
        let mut other = of.clone();
        (other.name, other.kind) = ("tap-1".into(), GroupKind::Tap);
        output.groups.push(other);
        let mut now = inspection(stage, name);
        now.outputs = vec![output];
        (now.unix_ms, now.in_work, now.oldest) = (MAX, MAX, Some(Duration::from_millis(MAX)));
        now.counts.rejected_here = [MAX; 5];
        for count in [
            &mut now.counts.events_in,
            &mut now.counts.bytes_in,
            &mut now.counts.accepted,
            &mut now.counts.rejected,
            &mut now.counts.refused,
        ] {
            *count = MAX;
        }
        (now.settle.counts, now.settle.sum_ms) = ([MAX; 16], MAX);
        now.end_to_end = now.settle;
        now.trouble = Some(Trouble { text: "no broker".into(), since_unix_ms: MAX });
        now.rejections =
            vec![RejectionSeen { unix_ms: MAX, reason: Reason::Invalid, text: "no unit".into(), event: None }];
        now
    }

    #[test]
    fn the_largest_numbers_of_two_instances_add_up_to_the_largest() {
        let process = ProcessSeen {
            resident_bytes: u64::MAX,
            memory_bytes_max: Some(u64::MAX),
            unix_ms: u64::MAX,
            ..Default::default()
        };
        let seen = |stage: &str, name: &str, group: &str, clock_ahead_ms: i64| {
            let mut now = immense(stage, name, group);
            let first = inspection(stage, name);
            now.up = Duration::from_millis(u64::MAX);
            let clock = Clock { ahead_ms: clock_ahead_ms, within_ms: u64::MAX };
            Seen::new("a:1".into(), process.clone(), clock, now).after(self::seen(first))
        };
        let all = vec![
            seen("ingest", "i-0", "convert", i64::MAX),
            seen("ingest", "i-1", "convert", i64::MIN),
            seen("convert", "c-0", "publish", i64::MAX),
            seen("convert", "c-1", "publish", i64::MIN),
        ];
        let view = view(&plan(), 1_000_000, &keyed(all), |_| Addresses { left_out: 1, ..Addresses::default() });
        let ingest = &view.stages[0].figures;
        assert_eq!((ingest.totals.events_in, ingest.totals.all_rejected_here()), (u64::MAX, u64::MAX));
        assert_eq!((ingest.totals.events_out, ingest.in_work), (u64::MAX, u64::MAX));
        assert_eq!((ingest.logs[0].events, ingest.settle.count), (u64::MAX, u64::MAX));
        let of = &view.subscriptions[0];
        assert_eq!((of.waiting, of.deliveries, of.credit()), (u64::MAX, u64::MAX, (u64::MAX, u64::MAX)));
        assert!(!view.findings.is_empty() && view.limit.is_some());
        for text in [text::once(&view), text::topology(&view), text::mermaid(&view), text::doctor(&view)] {
            assert!(text.contains("convert"), "{text}");
        }
        let record = crate::history::Record::default();
        record.push(&view);
        let mut app = App::new(Theme::new(None));
        app.handle_view(std::sync::Arc::new(view));
        let mut terminal = ratatui::Terminal::new(ratatui::backend::TestBackend::new(120, 40)).unwrap();
        terminal.draw(|frame| app.draw(frame)).unwrap();
    }

    #[test]
    fn groups_that_the_plan_does_not_name_are_shown_as_what_they_are() {
        let mut ingest = inspection("ingest", "i-0");
        ingest.outputs = vec![output("ingest", "convert", vec![])];
        let mut tap = ingest.outputs[0].groups[0].clone();
        (tap.name, tap.kind) = ("tap-1".into(), GroupKind::Tap);
        ingest.outputs[0].groups.push(tap);
        let view = view_of(vec![ingest]);
        let ids: Vec<_> = view.subscriptions.iter().map(|of| (of.id.as_str(), of.kind)).collect();
        let known =
            [("ingest>convert", Kind::Required), ("convert>publish", Kind::Required), ("ingest>tap-1", Kind::Tap)];
        assert_eq!(ids, known);
    }

    #[test]
    fn ages_are_by_the_clock_of_the_instance_alone() {
        let made = |name: &str, unix_ms: u64, ago_ms: u64| {
            let mut now = inspection("publish", name);
            now.unix_ms = unix_ms;
            now.trouble = Some(Trouble { text: name.into(), since_unix_ms: unix_ms - 10 * ago_ms });
            let unix_ms = unix_ms - ago_ms;
            now.rejections = vec![RejectionSeen { unix_ms, reason: Reason::Invalid, text: String::new(), event: None }];
            now
        };
        // An hour ahead, and an hour behind.
        let view = view_of(vec![made("p-0", 4_600_000, 9_000), made("p-1", 997_000, 2_000)]);
        let publish = &view.stages[2];
        let rejected: Vec<_> = publish.rejections.iter().map(|of| (of.instance.as_str(), of.ago_ms)).collect();
        assert_eq!(rejected, [("p-1", 2_000), ("p-0", 9_000)], "the newest is first");
        let trouble = publish.figures.trouble.as_ref().unwrap();
        assert_eq!((trouble.text.as_str(), trouble.for_ms), ("p-0", 90_000), "the longest");
        let told: Vec<_> = view.findings.iter().map(|finding| finding.text.as_str()).collect();
        assert!(told.iter().any(|text| text.contains("has not worked for 90 s")), "{told:?}");
        assert!(told.iter().any(|text| text.contains("the last 2 s ago")), "{told:?}");
    }

    #[test]
    fn a_rejected_event_is_shown_in_cloudevents_json_and_what_is_none_is_left_out() {
        let event = CloudEvent::new("e1", "/s", "t").encode();
        let rejection = |unix_ms: u64, event: Option<Payload>| RejectionSeen {
            unix_ms,
            reason: Reason::Invalid,
            text: "no unit".into(),
            event,
        };
        let mut convert = inspection("convert", "c-0");
        convert.rejections = vec![rejection(1, Some(event.into())), rejection(2, Some(vec![0xff].into()))];
        let view = view_of(vec![convert]);
        let rejections = &view.stages[1].rejections;
        assert_eq!((rejections[0].unix_ms, &rejections[0].event), (2, &None));
        assert_eq!(rejections[1].event.as_ref().unwrap()["id"], "e1");
    }
}
