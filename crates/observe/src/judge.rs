//! Which stage keeps the pipeline from being faster.
//!
//! The stage that is the limit has all the work that it can do; those above it have events that wait for it, and are blocked; those
//! below it wait for events, and are starved. So it is the furthest-downstream stage that is at its limit while one above it is
//! blocked. When none is, the source brings no more than this.

use crate::{
    plan::{Kind, Role},
    text::counted,
    units::sum,
    view::{Limit, LimitKind, StageView, SubscriptionView, View},
};

/// From this share of the last ten seconds on, a stage further on comes before one that has more.
const CLEAR: f64 = 0.5;
/// Below this share a stage is not named, unless a source is held up.
const FAINT: f64 = 0.2;

/// None: nothing is seen, or nothing explains why the source is held up.
pub(crate) fn limit(view: &View) -> Option<Limit> {
    if view.is_unseen() {
        return None;
    }
    absent(view).or_else(|| busy(view)).or_else(|| source(view))
}

/// Furthest downstream: a stage that events wait for, none of whose instances is linked.
fn absent(view: &View) -> Option<Limit> {
    let waits = |of: &&SubscriptionView| {
        let is_absent = of.waiting > 0 && of.links.iter().all(|link| link.is_cancelled) && view.has_all_links(of);
        of.kind == Kind::Required && is_absent && holds_up(view, of)
    };
    let of = below_first(view).find_map(|stage| view.to(&stage.name).find(waits))?;
    let is_seen = view.stage(&of.to).is_some_and(|stage| !stage.instances.is_empty());
    let text = if is_seen {
        format!(
            "{} in `{}` wait for `{}`, none of whose instances is linked to it",
            counted(of.waiting, "event"),
            of.from,
            of.to
        )
    } else {
        format!("{} in `{}` wait for `{}`, which has no instance", counted(of.waiting, "event"), of.from, of.to)
    };
    Some(Limit { stage: of.to.clone(), kind: LimitKind::NoInstance, share: 1.0, text })
}

/// Dead letters that wait hold nothing up before their log is full.
fn holds_up(view: &View, of: &SubscriptionView) -> bool {
    !of.output.ends_with(".dead_letter") || view.log(&of.output).is_some_and(|log| log.fill >= 1.0)
}

fn busy(view: &View) -> Option<Limit> {
    let candidates: Vec<_> = below_first(view).filter_map(|stage| Candidate::of(view, stage)).collect();
    let clear = candidates.iter().find(|candidate| candidate.share() >= CLEAR);
    let most = || candidates.iter().max_by(|one, other| one.share().total_cmp(&other.share()));
    let is_held_up = sources(view).any(|source| worst(source, |load| load.blocked) >= CLEAR);
    let least = if is_held_up { f64::MIN_POSITIVE } else { FAINT };
    clear.or_else(most).filter(|candidate| candidate.share() >= least).map(Candidate::limit)
}

/// A stage that may be the limit.
struct Candidate<'a> {
    stage: &'a StageView,
    /// That what is above it waits for it.
    above: (f64, &'a SubscriptionView),
    /// That it has all the work that it can do, in the instance of which that is most true.
    busy: f64,
}

impl<'a> Candidate<'a> {
    fn of(view: &'a View, stage: &'a StageView) -> Option<Self> {
        let waits = |of: &&SubscriptionView| of.kind == Kind::Required;
        let above = view.to(&stage.name).filter(waits).map(|of| (pressure(view, of), of));
        let above = above.max_by(|(one, _), (other, _)| one.total_cmp(other))?;
        let busy = if stage.instances.is_empty() { above.0 } else { worst(stage, |load| load.limit) };
        Some(Self { stage, above, busy })
    }

    fn share(&self) -> f64 {
        self.busy.min(self.above.0)
    }

    fn limit(&self) -> Limit {
        let (name, from) = (&self.stage.name, &self.above.1.from);
        let percent = format!("{:.0} % of the last 10 s", 100.0 * self.busy);
        let one =
            self.stage.instances.iter().find(|of| self.stage.instances.len() > 1 && of.figures.load.limit >= CLEAR);
        let mut text = match one {
            _ if self.stage.instances.is_empty() => {
                format!("`{from}` has events that `{name}`, of which nothing is seen, does not take ({percent})")
            }
            Some(one) if self.stage.figures.load.limit < CLEAR => {
                format!(
                    "instance `{}` of `{name}` has all the work that it can do ({percent}), and `{from}` waits for it",
                    one.name
                )
            }
            Some(_) | None => {
                format!("`{name}` has all the work that it can do ({percent}), and `{from}` waits for it")
            }
        };
        if let Some(trouble) = &self.stage.figures.trouble {
            text = format!("{text}: {}", trouble.text);
        }
        Limit { stage: name.clone(), kind: LimitKind::Busy, share: self.busy, text }
    }
}

/// Share of time in which a producer was blocked, as far as this consumer is why; or all of it, where the consumer has more of its events
/// than it does in a second.
fn pressure(view: &View, of: &SubscriptionView) -> f64 {
    let held = sum(of.links.iter().map(|link| link.unsettled));
    let done = view.stage(&of.to).and_then(|consumer| consumer.figures.rates.settled());
    if done.is_some_and(|done| held as f64 > done.max(1.0)) {
        return 1.0;
    }
    let blocked = view.stage(&of.from).map_or(0.0, |producer| worst(producer, |load| load.blocked));
    let without = of
        .links
        .iter()
        .filter_map(|link| link.no_credit)
        .fold(None, |most: Option<f64>, share| Some(most.map_or(share, |most| most.max(share))));
    // Until links are seen twice, its events that wait tell.
    let guess = if of.waiting > 0 || of.links.is_empty() { 1.0 } else { 0.0 };
    // A log that is smaller than the window fills before credit ends.
    let is_full = view.log(&of.output).is_some_and(|log| log.fill >= 0.9);
    if is_full { blocked } else { blocked.min(without.unwrap_or(guess)) }
}

/// The source that brings most.
fn source(view: &View) -> Option<Limit> {
    let rate = |source: &&StageView| source.figures.rates.events_in.unwrap_or_default();
    let free = sources(view).filter(|source| worst(source, |load| load.blocked) < CLEAR);
    let source = free.max_by(|one, other| rate(one).total_cmp(&rate(other)))?;
    let name = &source.name;
    let text = match source.figures.rates.events_in {
        None => format!("nothing holds `{name}` back"),
        Some(0.0) => format!("`{name}` brings no events"),
        Some(rate) => format!("`{name}` brings {rate:.0} events/s, and nothing holds it back"),
    };
    Some(Limit { stage: name.clone(), kind: LimitKind::Source, share: 1.0 - source.figures.load.blocked, text })
}

fn sources(view: &View) -> impl Iterator<Item = &StageView> {
    view.stages.iter().filter(|stage| stage.role == Role::Source && !stage.instances.is_empty())
}

/// Stages, the last of the pipeline first.
fn below_first(view: &View) -> impl Iterator<Item = &StageView> {
    view.stages.iter().rev()
}

/// In the instance where it is most.
fn worst(stage: &StageView, share: impl Fn(&crate::view::LoadView) -> f64) -> f64 {
    stage.instances.iter().map(|instance| share(&instance.figures.load)).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use jaiminho_runtime::Inspection;

    use super::*;
    use crate::{
        made::{inspection, link, output},
        make::tests::view_of,
        view::Rates,
    };

    /// `ingest`, `convert` and `publish`, each with its shares (blocked, limit, starved), linked to each other.
    fn three(shares: [[f64; 3]; 3]) -> Vec<Inspection> {
        let [ingest, convert, publish] = shares;
        let made = |stage: &str, name: &str, to: Option<(&str, &str)>, recent: [f64; 3]| {
            let mut now = inspection(stage, name);
            now.load.recent = recent;
            now.outputs = to.map(|(group, member)| output(stage, group, vec![link(1, member)])).into_iter().collect();
            now.outputs.iter_mut().for_each(|output| output.groups[0].waiting = u64::from(recent[0] > 0.1));
            now
        };
        vec![
            made("ingest", "i-0", Some(("convert", "c-0")), ingest),
            made("convert", "c-0", Some(("publish", "p-0")), convert),
            made("publish", "p-0", None, publish),
        ]
    }

    fn told(instances: Vec<Inspection>) -> (String, LimitKind) {
        let limit = view_of(instances).limit.unwrap();
        (limit.stage, limit.kind)
    }

    const IDLE: [f64; 3] = [0.0, 0.0, 1.0];
    const BLOCKED: [f64; 3] = [1.0, 0.0, 0.0];
    const BUSY: [f64; 3] = [0.0, 1.0, 0.0];

    #[test]
    fn the_stage_at_its_limit_below_blocked_ones_is_the_limit() {
        assert_eq!(told(three([IDLE, IDLE, IDLE])), ("ingest".into(), LimitKind::Source));
        assert_eq!(told(three([BLOCKED, BUSY, IDLE])), ("convert".into(), LimitKind::Busy));
        assert_eq!(told(three([BLOCKED, BLOCKED, BUSY])), ("publish".into(), LimitKind::Busy));
    }

    #[test]
    fn a_stage_that_is_busy_but_keeps_nobody_waiting_is_not() {
        assert_eq!(told(three([IDLE, [0.1, 0.6, 0.3], IDLE])), ("ingest".into(), LimitKind::Source));
    }

    #[test]
    fn of_two_the_furthest_downstream_that_is_clear_and_else_the_worse_one() {
        let both = three([BLOCKED, [0.6, 0.4, 0.0], [0.0, 0.7, 0.3]]);
        assert_eq!(told(both).0, "publish");
        let changing = three([BLOCKED, [0.3, 0.7, 0.0], [0.0, 0.3, 0.7]]);
        assert_eq!(told(changing).0, "convert");
        let faint = three([[0.4, 0.0, 0.6], [0.1, 0.3, 0.6], [0.0, 0.1, 0.9]]);
        assert_eq!(told(faint).0, "convert");
    }

    #[test]
    fn a_stage_that_events_wait_for_and_that_has_no_instance_is_the_limit() {
        let mut all = three([BLOCKED, BLOCKED, IDLE]);
        all.pop();
        all[1].outputs[0].groups[0].links.clear();
        all[1].outputs[0].groups[0].waiting = 12;
        let limit = view_of(all).limit.unwrap();
        assert_eq!((limit.stage.as_str(), limit.kind), ("publish", LimitKind::NoInstance));
        assert_eq!(limit.text, "12 events in `convert` wait for `publish`, which has no instance");
    }

    #[test]
    fn where_links_are_left_out_none_is_missed() {
        let mut all = three([BLOCKED, BLOCKED, BUSY]);
        all[1].outputs[0].groups[0].links.clear();
        assert_eq!(told(all.clone()), ("publish".into(), LimitKind::NoInstance));
        all[1].links_left_out = 7;
        assert_eq!(told(all), ("publish".into(), LimitKind::Busy));
    }

    #[test]
    fn a_stage_that_is_linked_and_tells_nothing_is_judged_by_those_before_it() {
        let mut all = three([BLOCKED, BLOCKED, IDLE]);
        all.pop();
        assert_eq!(told(all), ("publish".into(), LimitKind::Busy));
    }

    #[test]
    fn one_instance_that_is_at_its_limit_among_idle_ones_is_enough() {
        let mut all = three([BLOCKED, BUSY, IDLE]);
        all.extend((1..5).map(|index| inspection("convert", &format!("c-{index}"))));
        let limit = view_of(all).limit.unwrap();
        assert_eq!(limit.stage, "convert");
        assert!(limit.text.starts_with("instance `c-0` of `convert` has all the work"), "{}", limit.text);
    }

    #[test]
    fn of_two_consumers_of_one_output_it_is_the_one_that_lets_it_wait() {
        let mut all = three([BLOCKED, BUSY, BUSY]);
        let mut fast = all[0].outputs[0].groups[0].clone();
        (fast.name, fast.waiting) = ("publish".into(), 0);
        all[0].outputs[0].groups.push(fast);
        assert_eq!(told(all).0, "convert");
    }

    #[test]
    fn a_stage_that_has_more_than_it_does_in_a_second_is_waited_for_though_nothing_waits_elsewhere() {
        let mut view = view_of(three([IDLE, IDLE, BUSY]));
        assert_eq!(limit(&view).unwrap().kind, LimitKind::Source);
        view.stages[2].figures.rates = Rates { accepted: Some(100.0), rejected: Some(0.0), ..Rates::default() };
        for (held, stage) in [(50, "ingest"), (900, "publish")] {
            let to_publish = view.subscriptions.iter_mut().find(|of| of.to == "publish").unwrap();
            to_publish.links[0].unsettled = held;
            assert_eq!(limit(&view).unwrap().stage, stage, "{held}");
        }
    }

    #[test]
    fn where_nothing_is_seen_nothing_is_said() {
        assert_eq!(view_of(vec![]).limit, None);
    }
}
