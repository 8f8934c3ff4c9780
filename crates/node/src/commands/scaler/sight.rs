//! What a view tells of one stage, for whoever decides how many instances it needs; or what is missing to tell it.

use std::time::Duration;

use jaiminho_observe::{FindingKind, InstanceView, Kind, Role, StageView, SubscriptionView, View};
use jaiminho_scaling::Sight;

/// All instances of the stage, and of those it consumes, which know what waits for it. An error says which of them are not seen:
/// what the others tell is no total.
pub(crate) fn sight(view: &View, name: &str) -> Result<Sight, String> {
    let stage = view.stage(name).ok_or_else(|| format!("there is no stage `{name}`"))?;
    let too_many = view.findings.iter().find(|finding| finding.kind == FindingKind::TooMany);
    if let Some(finding) = too_many {
        return Err(finding.text.clone());
    }
    whole(view, stage)?;
    for of in consumed(view, name) {
        whole(view, view.stage(&of.from).ok_or_else(|| format!("there is no stage `{}`", of.from))?)?;
        let is_seen = |consumer: &str| stage.instances.iter().any(|instance| instance.name == consumer);
        if let Some(link) = of.open_links().find(|link| !is_seen(&link.consumer)) {
            return Err(format!(
                "`{}` is linked to an instance of `{name}`, `{}`, that is not found",
                of.from, link.consumer
            ));
        }
    }
    Ok(seen(view, stage))
}

/// Links to optional groups hold nothing up.
fn consumed<'a>(view: &'a View, name: &'a str) -> impl Iterator<Item = &'a SubscriptionView> {
    view.to(name).filter(|of| of.kind != Kind::Tap)
}

/// Every address of the stage tells of itself; where there is none, it has no instance.
fn whole(view: &View, stage: &StageView) -> Result<(), String> {
    let name = &stage.name;
    if let Some((address, problem)) = stage.addresses.iter().find_map(|at| Some((&at.address, at.problem.as_ref()?))) {
        return Err(format!("`{name}` at {address} is not seen: {problem}"));
    }
    match (stage.instances.is_empty(), stage.has_place) {
        (false, _) => Ok(()),
        (true, false) => Err(format!("the pipeline file does not say where `{name}` is (`at`)")),
        (true, true) if is_absent(view, stage) => Ok(()),
        (true, true) => Err(format!("no instance of `{name}` is found")),
    }
}

/// That nothing is found of a stage may be the fault of who looks. It has no instance where those it consumes say so: they are seen,
/// and none of them is linked to it; or they have none themselves. Nobody says so of a source.
fn is_absent(view: &View, stage: &StageView) -> bool {
    let says_so = |of: &SubscriptionView| {
        let from = view.stage(&of.from).filter(|from| whole(view, from).is_ok());
        from.is_some() && of.open_links().next().is_none()
    };
    let mut consumed = consumed(view, &stage.name).peekable();
    consumed.peek().is_some() && consumed.all(says_so)
}

fn seen(view: &View, stage: &StageView) -> Sight {
    // Who leaves does nothing new.
    let staying: Vec<_> = stage.instances.iter().filter(|instance| !instance.is_draining).collect();
    let count = staying.len();
    let mean = |share: fn(&InstanceView) -> f64| staying.iter().copied().map(share).sum::<f64>() / count.max(1) as f64;
    let waiting = consumed(view, &stage.name).map(|of| of.waiting).fold(0, u64::saturating_add);
    let most = staying.iter().map(|instance| instance.figures.load.limit).fold(0.0, f64::max);
    let (unused, window) = consumed(view, &stage.name)
        .map(SubscriptionView::credit)
        .fold((0.0, 0.0), |(unused, window), (of, whole)| (unused + of as f64, window + whole as f64));
    // What comes in comes as credit is given, in gulps; what is settled is what it does. A source's is settled further on.
    let is_source = stage.role == Role::Source;
    let rate = if is_source { stage.figures.rates.events_in } else { stage.figures.rates.settled() };
    let all_rates = staying.iter().all(|instance| instance.figures.rates.events_in.is_some());
    Sight {
        instances: u32::try_from(count).unwrap_or(u32::MAX),
        youngest: staying.iter().map(|instance| Duration::from_millis(instance.up_ms)).min().unwrap_or_default(),
        is_source,
        rate: rate.filter(|_| all_rates),
        blocked: mean(|instance| instance.figures.load.blocked),
        // What waits may wait for one of them, as keyed events do: more of them share the keys out anew.
        limit: if waiting > 0 { most } else { mean(|instance| instance.figures.load.limit) },
        waiting,
        in_work: stage.figures.in_work,
        unused_credit: (window > 0.0).then(|| unused / window),
        saturation: if is_source { saturation(&staying) } else { None },
    }
}

/// The mean of what the instances use most of. None: there is none, or one of them does not tell.
fn saturation(staying: &[&InstanceView]) -> Option<f64> {
    let most = staying.iter().map(|instance| instance.usages.values().copied().reduce(f64::max));
    let sum = most.sum::<Option<f64>>()?;
    (!staying.is_empty()).then(|| sum / staying.len() as f64)
}

#[cfg(test)]
pub(super) mod tests {
    use jaiminho_observe::{AddressView, Figures, Finding, LinkView, LoadView, Rates, Severity};

    use super::*;

    fn instance(name: &str, up_ms: u64) -> InstanceView {
        let figures = Figures {
            rates: Rates { events_in: Some(100.0), ..Rates::default() },
            load: LoadView { blocked: 0.1, limit: 0.5, starved: 0.4 },
            ..Figures::default()
        };
        InstanceView {
            name: name.into(),
            address: format!("{name}:7400"),
            version: String::new(),
            commit: String::new(),
            up_ms,
            clock_ahead_ms: 0,
            clock_within_ms: 0,
            resident_bytes: 0,
            program_bytes: 0,
            memory_bytes_max: None,
            usages: [("cpu".to_owned(), 0.5), ("connections".to_owned(), 0.25)].into(),
            is_draining: false,
            quiet_ms: 0,
            links_left_out: 0,
            figures,
        }
    }

    fn stage(name: &str, role: Role, instances: Vec<InstanceView>) -> StageView {
        let at = |one: &InstanceView| AddressView { address: one.address.clone(), is_there: true, problem: None };
        let is_there = !instances.is_empty();
        let (events_in, accepted) = (is_there.then_some(7_000.0), is_there.then_some(190.0));
        let rates = Rates { events_in, accepted, rejected: is_there.then_some(10.0), ..Rates::default() };
        StageView {
            name: name.into(),
            role,
            component: String::new(),
            deadline_ms: None,
            has_place: true,
            addresses: instances.iter().map(at).collect(),
            links_left_out: 0,
            figures: Figures { rates, in_work: 7, ..Figures::default() },
            rejections: vec![],
            instances,
        }
    }

    fn subscription(from: &str, to: &str, consumers: &[&str]) -> SubscriptionView {
        let link = |consumer: &&str| LinkView {
            producer: format!("{from}-0"),
            consumer: (*consumer).to_owned(),
            window_events: 100,
            window_bytes: 1 << 20,
            credit_unused: 25,
            unsettled: 75,
            events: None,
            bytes: None,
            no_credit: None,
            is_cancelled: false,
        };
        SubscriptionView {
            id: format!("{from}>{to}"),
            output: from.into(),
            from: from.into(),
            to: to.into(),
            kind: Kind::Required,
            waiting: 30,
            events: None,
            bytes: None,
            redelivered: None,
            deliveries: 0,
            redeliveries: 0,
            no_credit: None,
            links: consumers.iter().map(link).collect(),
        }
    }

    /// Three stages, all of which are seen.
    pub(in crate::commands::scaler) fn three() -> View {
        View {
            pipeline: "p".into(),
            stages: vec![
                stage("ingest", Role::Source, vec![instance("i-0", 90_000)]),
                stage("convert", Role::Transform, vec![instance("c-0", 90_000), instance("c-1", 4_000)]),
                stage("publish", Role::Sink, vec![instance("p-0", 90_000)]),
            ],
            subscriptions: vec![
                subscription("ingest", "convert", &["c-0", "c-1"]),
                subscription("convert", "publish", &["p-0"]),
            ],
            ..View::default()
        }
    }

    #[test]
    fn all_instances_of_a_stage_are_one_sight() {
        let sight = sight(&three(), "convert").unwrap();
        let told = Sight {
            instances: 2,
            youngest: Duration::from_secs(4),
            is_source: false,
            rate: Some(200.0),
            blocked: 0.1,
            limit: 0.5,
            waiting: 30,
            in_work: 7,
            unused_credit: Some(0.25),
            saturation: None,
        };
        assert_eq!(sight, told);
    }

    #[test]
    fn who_leaves_does_not_count_and_who_is_new_has_no_rate_yet() {
        let mut view = three();
        view.stages[1].instances[1].is_draining = true;
        let of = sight(&view, "convert").unwrap();
        assert_eq!((of.instances, of.youngest), (1, Duration::from_secs(90)));
        view.stages[1].instances[0].figures.rates.events_in = None;
        assert_eq!(sight(&view, "convert").unwrap().rate, None);
    }

    #[test]
    fn where_events_wait_a_stage_is_as_busy_as_the_busiest_of_its_instances() {
        let mut view = three();
        view.stages[1].instances[0].figures.load.limit = 1.0;
        assert_eq!(sight(&view, "convert").unwrap().limit, 1.0);
        view.subscriptions[0].waiting = 0;
        assert_eq!(sight(&view, "convert").unwrap().limit, 0.75);
    }

    #[test]
    fn a_source_is_as_full_as_its_instances_are_of_what_each_uses_most_of() {
        let mut view = three();
        assert_eq!(sight(&view, "ingest").unwrap().saturation, Some(0.5));
        assert_eq!(sight(&view, "convert").unwrap().saturation, None, "it is known by its work");
        let full = [("connections".to_owned(), 1.0)].into();
        view.stages[0].instances.push(InstanceView { usages: full, ..instance("i-1", 90_000) });
        assert_eq!(sight(&view, "ingest").unwrap().saturation, Some(0.75));
        view.stages[0].instances[1].usages.clear();
        assert_eq!(sight(&view, "ingest").unwrap().saturation, None, "one does not tell");
    }

    #[test]
    fn what_is_seen_in_part_is_no_total() {
        let lost = |view: &mut View, stage: usize| {
            let problem = Some("connection refused".into());
            let address = "10.0.0.9:7400".to_owned();
            view.stages[stage].addresses.push(AddressView { address, is_there: false, problem });
        };
        let (mut own, mut above, mut below) = (three(), three(), three());
        lost(&mut own, 1);
        lost(&mut above, 0);
        lost(&mut below, 2);
        assert_eq!(sight(&own, "convert"), Err("`convert` at 10.0.0.9:7400 is not seen: connection refused".into()));
        assert_eq!(sight(&above, "convert"), Err("`ingest` at 10.0.0.9:7400 is not seen: connection refused".into()));
        assert!(sight(&below, "convert").is_ok(), "what is below it tells nothing of it");
        assert!(sight(&own, "publish").is_err());

        let mut hidden = three();
        hidden.stages[1].instances.pop();
        let why = "`ingest` is linked to an instance of `convert`, `c-1`, that is not found";
        assert_eq!(sight(&hidden, "convert"), Err(why.into()));

        let mut many = three();
        many.findings.push(Finding {
            severity: Severity::Notice,
            kind: FindingKind::TooMany,
            stage: None,
            instance: None,
            text: "3 addresses are not asked".into(),
            advice: String::new(),
        });
        assert_eq!(sight(&many, "convert"), Err("3 addresses are not asked".into()));
    }

    #[test]
    fn a_stage_has_no_instance_where_those_above_it_say_so_and_else_is_not_seen() {
        let mut view = three();
        view.stages[1] = stage("convert", Role::Transform, vec![]);
        view.subscriptions[0].links.clear();
        let none = sight(&view, "convert").unwrap();
        assert_eq!((none.instances, none.waiting, none.is_active()), (0, 30, true));
        view.subscriptions[1].links.clear();
        view.stages[2] = stage("publish", Role::Sink, vec![]);
        assert_eq!(sight(&view, "publish").map(|of| of.instances), Ok(0), "those above have none, too");
        view.stages[0] = stage("ingest", Role::Source, vec![]);
        for name in ["ingest", "convert", "publish"] {
            assert!(sight(&view, name).is_err(), "{name}: nobody says so");
        }
        let mut apart = three();
        apart.stages[0] = StageView { has_place: false, ..stage("ingest", Role::Source, vec![]) };
        let why = "the pipeline file does not say where `ingest` is (`at`)";
        assert_eq!(sight(&apart, "convert"), Err(why.into()));
    }
}
