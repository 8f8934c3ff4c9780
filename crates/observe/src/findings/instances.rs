//! What is found of single instances, and of instances beside each other.

use std::collections::BTreeMap;

use super::{finding, mib, percent, span};
use crate::view::{Finding, FindingKind, InstanceView, Severity, StageView, View};

/// Resident memory is near its bound from here on.
const MEMORY: f64 = 0.9;
/// Clocks may differ by so much.
const SKEW_MS: u64 = 500;

pub(super) fn of_instance(stage: &StageView, instance: &InstanceView) -> Vec<Finding> {
    let of_it = |found: Finding| Finding { instance: Some(instance.name.clone()), ..found };
    draining(stage, instance).map(of_it).into_iter().collect()
}

/// Once for each process, however many stages run in it.
pub(super) fn memory(view: &View) -> Vec<Finding> {
    let mut processes: BTreeMap<&str, Vec<(&StageView, &InstanceView)>> = BTreeMap::new();
    for (stage, instance) in all(view) {
        processes.entry(&instance.address).or_default().push((stage, instance));
    }
    processes.values().filter_map(|of| memory_of(of)).collect()
}

fn memory_of(instances: &[(&StageView, &InstanceView)]) -> Option<Finding> {
    let (stage, instance) = instances.first()?;
    let max = instance.memory_bytes_max.filter(|max| *max > 0)?;
    let taken = instance.resident_bytes.saturating_sub(instance.program_bytes);
    let share = taken as f64 / max as f64;
    let who = match instances.len() {
        1 => format!("`{}` of `{}`", instance.name, stage.name),
        count => format!("The process of {count} stages at {}", instance.address),
    };
    (share > MEMORY).then(|| {
        let (taken, share, max) = (mib(taken), percent(share), mib(max));
        let text = format!("{who} takes {taken} beside the program itself, {share} of its bound of {max}.");
        let advice = "The bound is the sum of limits that `jaiminho validate` prints: give the process that much memory and some for the program, or lower the limits.";
        let found = finding(Severity::Problem, FindingKind::Memory, &stage.name, text, advice);
        Finding { instance: Some(instance.name.clone()), ..found }
    })
}

fn draining(stage: &StageView, instance: &InstanceView) -> Option<Finding> {
    instance.is_draining.then(|| {
        let text =
            format!("`{}` of `{}` leaves: it takes nothing new, and finishes what it has.", instance.name, stage.name);
        let advice = "It should be gone within the stage's `drain` time.";
        finding(Severity::Notice, FindingKind::Draining, &stage.name, text, advice)
    })
}

/// The clock that is furthest from the middle one of all: what a slow answer makes of it is none.
pub(super) fn clock_skew(view: &View) -> Option<Finding> {
    let mut clocks: Vec<_> = all(view).collect();
    clocks.sort_by_key(|(_, instance)| instance.clock_ahead_ms);
    let middle = clocks.get(clocks.len() / 2)?.1;
    let apart = |of: &InstanceView| of.clock_ahead_ms.abs_diff(middle.clock_ahead_ms);
    let at_least =
        |of: &InstanceView| apart(of).saturating_sub(of.clock_within_ms.saturating_add(middle.clock_within_ms));
    let (stage, instance) = clocks.into_iter().max_by_key(|(_, instance)| at_least(instance))?;
    let (apart, at_least) = (apart(instance), at_least(instance));
    (at_least > SKEW_MS).then(|| {
        let direction = if instance.clock_ahead_ms > middle.clock_ahead_ms { "ahead of" } else { "behind" };
        let (name, stage) = (&instance.name, &stage.name);
        let text = format!("The clock of `{name}` of `{stage}` is {} {direction} the others'.", span(apart));
        let advice = "Set it, as by NTP: times from the edge to the sink, deadlines and traces are wrong by as much.";
        let found = finding(Severity::Problem, FindingKind::ClockSkew, stage, text, advice);
        Finding { instance: Some(name.clone()), ..found }
    })
}

pub(super) fn versions(view: &View) -> Option<Finding> {
    let mut versions: BTreeMap<String, usize> = BTreeMap::new();
    for (_, InstanceView { version, commit, .. }) in all(view) {
        let version = if commit.is_empty() { version.clone() } else { format!("{version} ({commit})") };
        *versions.entry(version).or_default() += 1;
    }
    (versions.len() > 1).then(|| {
        let counted: Vec<_> = versions.iter().map(|(version, count)| format!("{version}: {count}")).collect();
        Finding {
            severity: Severity::Notice,
            kind: FindingKind::Versions,
            stage: None,
            instance: None,
            text: format!("Instances run different versions: {}.", counted.join(", ")),
            advice: "During an upgrade that is as it should be; else bring all to one version.".into(),
        }
    })
}

fn all(view: &View) -> impl Iterator<Item = (&StageView, &InstanceView)> {
    view.stages.iter().flat_map(|stage| stage.instances.iter().map(move |instance| (stage, instance)))
}
