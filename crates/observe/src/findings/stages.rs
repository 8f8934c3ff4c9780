//! What is found of a stage as a whole, and of its subscriptions.

use super::{finding, percent, span};
use crate::{
    plan::{Kind, Role},
    text::counted,
    units::sum,
    view::{Finding, FindingKind, InstanceView, LogView, Severity, StageView, SubscriptionView, View},
};

/// A log is nearly full from here on.
const LOG_FULL: f64 = 0.8;
/// Of a log's limits, for one partition (from a quarter on the edge refuses the key); and of what the log holds.
const KEY_SHARE: f64 = 0.2;
const KEY_SHARE_HELD: f64 = 0.4;
/// Rejections so long ago are no problem any more.
const REJECTS_RECENT_MS: u64 = 60_000;
/// A stage that settles nothing, though it could.
const STUCK_MS: u64 = 1_000 * super::STUCK_SECONDS as u64;
/// A link is without credit, and its consumer without events, for more than these shares.
const WINDOW_NO_CREDIT: f64 = 0.2;
const WINDOW_STARVED: f64 = 0.5;
const WINDOW_EVENTS_MAX: u64 = 100_000;
const WINDOW_BYTES_MAX: u64 = 64 << 20;
/// Addresses that are told one by one.
const ADDRESSES_MAX: usize = 5;

pub(super) fn of_stage(view: &View, stage: &StageView) -> Vec<Finding> {
    let absent = no_instance(view, stage);
    let lost = if absent.is_none() { unreachable(view, stage) } else { Vec::new() };
    let logs = stage.figures.logs.iter().filter_map(|log| log_full(view, stage, log));
    let keys = stage.figures.logs.iter().filter_map(|log| large_key(stage, log));
    let late = late(view, stage);
    [trouble(stage), absent, stuck(view, stage), late, rejects(stage), uneven(stage), links_left_out(stage)]
        .into_iter()
        .flatten()
        .chain(lost)
        .chain(logs)
        .chain(keys)
        .collect()
}

fn trouble(stage: &StageView) -> Option<Finding> {
    let trouble = stage.figures.trouble.as_ref()?;
    let (all, name) = (stage.instances.len(), &stage.name);
    let with = stage.instances.iter().filter(|instance| instance.figures.trouble.is_some()).count();
    let on = if all > 1 { format!(" ({with} of {all} instances)") } else { String::new() };
    let (what, component) = (if stage.role == Role::Source { "source" } else { "sink" }, &stage.component);
    let time = span(trouble.for_ms);
    let text = format!("The {component} {what} of `{name}`{on} has not worked for {time}: {}.", trouble.text);
    let advice = match stage.role {
        Role::Source => {
            "See that the service it reads from is up, and reachable from there. Nothing is lost meanwhile."
        }
        Role::Transform | Role::Sink => {
            "See that the service it writes to is up, and reachable from there. Nothing is lost meanwhile: events wait, and senders are slowed down."
        }
    };
    Some(finding(Severity::Problem, FindingKind::Trouble, name, text, advice))
}

/// It has neither an instance that answers nor a link, as far as that can be known.
fn no_instance(view: &View, stage: &StageView) -> Option<Finding> {
    let name = &stage.name;
    let is_there = !stage.instances.is_empty() || stage.addresses.iter().any(|address| address.is_there);
    let is_linked = view.to(name).any(|of| of.open_links().next().is_some() || !view.has_all_links(of));
    let above = view.to(name).any(|of| view.stage(&of.from).is_some_and(|from| !from.instances.is_empty()));
    let can_be_known = above || !stage.addresses.is_empty() || stage.role == Role::Source && stage.has_place;
    if is_there || is_linked || !can_be_known {
        return None;
    }
    let waiting = sum(view.to(name).map(|of| of.waiting));
    let wait = if waiting > 0 { format!("; {} wait for it", counted(waiting, "event")) } else { String::new() };
    let asked: Vec<_> = stage
        .addresses
        .iter()
        .take(ADDRESSES_MAX)
        .filter_map(|at| at.problem.as_ref().map(|problem| format!("{}: {problem}", at.address)))
        .collect();
    // What it says may be more than that nothing is there.
    let mut problems = stage.addresses.iter().filter_map(|at| at.problem.as_ref());
    let hangs = problems.any(|problem| !problem.contains("connection refused"));
    let at = match (asked.as_slice(), stage.has_place) {
        ([], true) => " Its `at` leads to no address.".to_owned(),
        ([], false) => String::new(),
        (_, _) => format!(" At {}.", asked.join("; at ")),
    };
    let text = format!("No instance of `{name}` is there{wait}.{at}");
    let advice = if hangs {
        format!(
            "Where one runs, it can't be asked: see why, and what its log says. Else start one (`jaiminho stage {name}`)."
        )
    } else {
        format!("Start one (`jaiminho stage {name}`), or see why those that should run do not.")
    };
    Some(finding(Severity::Problem, FindingKind::NoInstance, name, text, advice))
}

fn unreachable(view: &View, stage: &StageView) -> Vec<Finding> {
    let name = &stage.name;
    let is_linked = view.to(name).any(|of| of.open_links().next().is_some());
    if is_linked && stage.has_place && stage.addresses.is_empty() && stage.instances.is_empty() {
        let text = format!("`{name}` is not seen: its `at` leads to no address that is asked.");
        let advice = "Its figures are those that the stages before it tell. See what the name in its `at` means on this machine.";
        return vec![finding(Severity::Notice, FindingKind::Unreachable, name, text, advice)];
    }
    let told = stage.addresses.iter().filter_map(|at| Some((at, at.problem.as_ref()?)));
    let mut found: Vec<_> = told
        .map(|(at, problem)| {
            let text = format!("`{name}` is not seen at {}: {problem}.", at.address);
            let (severity, advice) = match at.is_there {
                true => (Severity::Notice, "Its figures are those that the stages before it tell.".to_owned()),
                false => (
                    Severity::Problem,
                    format!("Is `jaiminho stage {name}` running there? Where none is to be, `at` should not name it."),
                ),
            };
            finding(severity, FindingKind::Unreachable, name, text, advice)
        })
        .collect();
    let more = found.len().saturating_sub(ADDRESSES_MAX);
    found.truncate(ADDRESSES_MAX);
    if let Some(last) = found.last_mut().filter(|_| more > 0) {
        last.text = format!("{} So it is at {more} more addresses.", last.text);
    }
    found
}

/// It has settled nothing since the first look, which is not long enough ago.
pub(crate) fn is_undecided(view: &View) -> bool {
    let is_quiet = |instance: &InstanceView| (1..STUCK_MS).contains(&instance.quiet_ms);
    view.stages.iter().any(|stage| stage.instances.iter().any(|of| holds_old(stage, of) && is_quiet(of)))
}

/// Events that it could work on.
fn holds_old(stage: &StageView, instance: &InstanceView) -> bool {
    let figures = &instance.figures;
    let is_old = figures.oldest_ms.is_some_and(|oldest| oldest >= STUCK_MS);
    let is_idle = figures.in_work == 0 || figures.load.blocked >= 0.5 || figures.trouble.is_some();
    stage.role != Role::Source && is_old && !is_idle
}

/// What it has is older than its senders wait.
fn late(view: &View, stage: &StageView) -> Option<Finding> {
    let (deadline, oldest) = (stage.deadline_ms?, stage.figures.oldest_ms?);
    let whom = other_limit(view, stage)
        .map_or_else(|| "the stages after it".to_owned(), |limit| format!("`{limit}`, which is the limit"));
    (oldest > deadline).then(|| {
        let (name, oldest, deadline) = (&stage.name, span(oldest), span(deadline));
        let text = format!(
            "The oldest event in `{name}` has waited for {oldest}, and its senders wait {deadline}: they get 504, and send it again."
        );
        let advice = format!("Nothing is lost. It goes as fast as {whom}; a smaller `log` of `{name}` refuses earlier, with 429 and when to try again.");
        finding(Severity::Problem, FindingKind::Late, name, text, advice)
    })
}

/// It holds such events, and does not settle any; but for those that wait for a stage that is not there.
fn stuck(view: &View, stage: &StageView) -> Option<Finding> {
    let mut below = view.subscriptions.iter().filter(|of| of.from == stage.name && of.kind == Kind::Required);
    if below.any(|of| of.waiting > 0 && of.open_links().next().is_none()) {
        return None;
    }
    let is_stuck = |of: &&InstanceView| holds_old(stage, of) && of.quiet_ms >= STUCK_MS;
    let instance = stage.instances.iter().find(is_stuck)?;
    let (name, figures) = (&stage.name, &instance.figures);
    let (oldest, quiet) = (span(figures.oldest_ms.unwrap_or_default()), span(instance.quiet_ms));
    let held = counted(figures.in_work, "event");
    let text = format!(
        "`{}` of `{name}` has {held} in work, the oldest for {oldest}, and has settled none for {quiet}.",
        instance.name
    );
    let advice =
        "See its log: a transform that fails or hangs is tried again, a sink waits for its service without limit.";
    let found = finding(Severity::Problem, FindingKind::Stuck, name, text, advice);
    Some(Finding { instance: Some(instance.name.clone()), ..found })
}

fn rejects(stage: &StageView) -> Option<Finding> {
    let (name, here) = (&stage.name, &stage.figures.totals.rejected_here);
    let last = stage.rejections.first()?;
    let reasons: Vec<_> =
        here.iter().filter(|(_, count)| **count > 0).map(|(reason, count)| format!("{reason}: {count}")).collect();
    let ago = last.ago_ms;
    let severity = if ago < REJECTS_RECENT_MS { Severity::Problem } else { Severity::Notice };
    let text = format!(
        "`{name}` has rejected {} since its start ({}), the last {} ago: {}: {}.",
        counted(stage.figures.totals.all_rejected_here(), "event"),
        reasons.join(", "),
        span(ago),
        last.reason,
        last.text
    );
    let advice = format!(
        "Mend what sends or converts them; `jaiminho top` shows the last ones. Their dead letters are where a stage subscribes to `{name}.dead_letter`."
    );
    Some(finding(severity, FindingKind::Rejects, name, text, advice))
}

fn log_full(view: &View, stage: &StageView, log: &LogView) -> Option<Finding> {
    if log.fill <= LOG_FULL {
        return None;
    }
    let waiting = view.subscriptions.iter().filter(|of| of.output == log.output && of.kind == Kind::Required);
    let slowest = waiting.max_by_key(|of| of.waiting).filter(|of| of.waiting > 0);
    let for_whom =
        slowest.map_or_else(String::new, |of| format!("; {} wait for `{}`", counted(of.waiting, "event"), of.to));
    let text = format!("The log of `{}` is {} full{for_whom}.", log.output, percent(log.fill));
    let refuses = stage.role == Role::Source && stage.figures.rates.refused.is_some_and(|rate| rate > 0.0);
    let (severity, effect) = match refuses {
        true => (Severity::Problem, "Senders are refused meanwhile."),
        false => (Severity::Notice, "When it is full, the stages before it wait, and senders are slowed down."),
    };
    let whom = other_limit(view, stage)
        .map_or_else(|| "the stages after it".to_owned(), |limit| format!("`{limit}`, which is the limit,"));
    let advice = format!("{effect} It empties as fast as {whom} can work; a larger `log` only bridges a peak.");
    Some(finding(severity, FindingKind::LogFull, &stage.name, text, advice))
}

/// The limit, where it is another stage.
fn other_limit<'a>(view: &'a View, stage: &StageView) -> Option<&'a str> {
    view.limit.as_ref().map(|limit| limit.stage.as_str()).filter(|limit| *limit != stage.name)
}

fn large_key(stage: &StageView, log: &LogView) -> Option<Finding> {
    if log.largest_key < KEY_SHARE || log.largest_key < KEY_SHARE_HELD * log.fill {
        return None;
    }
    let text = format!(
        "One key, or few that share a partition, has {} of the log of `{}`.",
        percent(log.largest_key),
        log.output
    );
    Some(skewed(stage, text))
}

/// One instance has most of the work, and can't do more.
fn uneven(stage: &StageView) -> Option<Finding> {
    let rate = |instance: &InstanceView| instance.figures.rates.events_in.unwrap_or_default();
    let (all, count) = (stage.instances.iter().map(rate).sum::<f64>(), stage.instances.len() as f64);
    let most = stage.instances.iter().max_by(|one, other| rate(one).total_cmp(&rate(other)))?;
    let share = rate(most) / all;
    let is_even = share < (1.0 + 1.0 / count) / 2.0;
    if stage.role == Role::Source || count < 2.0 || all < 1.0 || is_even || most.figures.load.limit < 0.5 {
        return None;
    }
    let text = format!(
        "`{}` gets {} of the events of `{}`, which has {count} instances, and can do no more.",
        most.name,
        percent(share),
        stage.name
    );
    Some(Finding { instance: Some(most.name.clone()), ..skewed(stage, text) })
}

fn skewed(stage: &StageView, text: String) -> Finding {
    let advice = "Events of one key go to one instance, one after the other. A `key` with more values, or `dispatch: demand` where order does not matter, spreads them.";
    finding(Severity::Problem, FindingKind::SkewedKeys, &stage.name, text, advice)
}

fn links_left_out(stage: &StageView) -> Option<Finding> {
    let (name, count) = (&stage.name, stage.links_left_out);
    (count > 0).then(|| {
        let text = format!("The instances of `{name}` leave {} out of what they tell: there are too many.", counted(count, "link"));
        let advice = "Links and credit are shown without them: of those to consumers the ones with the least credit left are there. The metrics have all.";
        finding(Severity::Notice, FindingKind::TooMany, name, text, advice)
    })
}

/// Links lack credit while those who give it lack events: all of the window is on its way.
pub(super) fn small_window(view: &View, of: &SubscriptionView) -> Option<Finding> {
    let (from, to) = (view.stage(&of.from)?, view.stage(&of.to)?);
    let no_credit = of.no_credit.filter(|share| *share > WINDOW_NO_CREDIT)?;
    let starved = to.figures.load.starved;
    let is_held_up = from.instances.iter().any(|instance| instance.figures.load.blocked > WINDOW_NO_CREDIT);
    if to.instances.is_empty() || starved < WINDOW_STARVED || !is_held_up {
        return None;
    }
    let link = of
        .links
        .iter()
        .max_by(|one, other| one.events.partial_cmp(&other.events).unwrap_or(std::cmp::Ordering::Equal))?;
    let size = link.bytes.unwrap_or_default() / link.events.filter(|rate| *rate > 0.0)?;
    // So many times as much would be done if it never lacked events; and as much again, so that it is not at its edge.
    let factor = 2.0 / (1.0 - starved).max(0.1);
    let grown = |now: u64, max: u64| ((now as f64 * factor) as u64).clamp(now, max.max(now));
    let setting = if size * link.window_events as f64 > link.window_bytes as f64 {
        let kib = grown(link.window_bytes, WINDOW_BYTES_MAX).div_ceil(1 << 10);
        format!("`window: {{ bytes: {kib}KiB }}` (now {}KiB)", link.window_bytes >> 10)
    } else {
        let events = grown(link.window_events, WINDOW_EVENTS_MAX);
        format!("`window: {{ max_demand: {events} }}` (now {})", link.window_events)
    };
    let text = format!(
        "The window of `{}` is too small for the round trip to `{}`: its links have no credit {} of the time, while it has nothing to do {} of it.",
        of.to,
        of.output,
        percent(no_credit),
        percent(starved)
    );
    let advice = format!("Set {setting} of stage `{}`; `jaiminho validate` tells what that takes of memory.", of.to);
    Some(finding(Severity::Problem, FindingKind::SmallWindow, &of.to, text, advice))
}
