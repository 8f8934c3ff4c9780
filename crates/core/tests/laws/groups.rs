//! The groups of a history: of every kind, with every dispatch, some with a selector.

use std::collections::BTreeMap;

use jaiminho_core::{Dispatch, Dispatcher, Event, GroupKind, LinkId, Member, NewDispatcher};

use crate::model::Group;
use crate::random::Random;

pub(crate) const SELECTOR: &str = "three of four";

pub(crate) fn is_selected(event: &Event) -> bool {
    !event.origin.offset.is_multiple_of(4)
}

/// Goes round by the offset, past those without credit.
#[derive(Debug)]
struct Round;

impl Dispatcher for Round {
    fn pick(&mut self, event: &Event, members: &[Member]) -> Option<LinkId> {
        let from = event.origin.offset as usize % members.len();
        let round = members.iter().skip(from).chain(&members[..from]);
        round.into_iter().find(|member| member.unused > 0).map(|member| member.link)
    }
}

/// One to four: required ones first.
pub(crate) fn groups(random: &mut Random) -> Vec<Group> {
    let is_broadcast = random.percent(30);
    let required = if is_broadcast { random.between(0, 1) } else { random.between(1, 3) };
    let mut groups = Vec::new();
    for index in 0..required {
        let dispatch = match random.between(0, 99) {
            0..=54 => Dispatch::Keyed,
            55..=69 => Dispatch::Demand,
            70..=89 => Dispatch::Fixed { partitions: random.between(1, 3) as u16 },
            _ => Dispatch::Custom(NewDispatcher::new(|| Round)),
        };
        groups.push(group(random, format!("group-{index}"), GroupKind::Required, dispatch));
    }
    let attached = if is_broadcast { random.between(1, 2) } else { random.between(0, 1) };
    for index in 0..attached {
        let mut attached = group(random, format!("attached-{index}"), GroupKind::Attached, Dispatch::Keyed);
        attached.gates = is_broadcast;
        groups.push(attached);
    }
    if groups.len() < 4 && random.percent(30) {
        groups.push(group(random, "tap".into(), GroupKind::Tap, Dispatch::Demand));
    }
    groups
}

fn group(random: &mut Random, name: String, kind: GroupKind, dispatch: Dispatch) -> Group {
    Group {
        name,
        kind,
        gates: kind == GroupKind::Required,
        partitions: if let Dispatch::Fixed { partitions } = dispatch { Some(partitions) } else { None },
        dispatch,
        has_selector: random.percent(25),
        is_selecting: false,
        has_left: false,
        copies: BTreeMap::new(),
        open: BTreeMap::new(),
        newest: BTreeMap::new(),
    }
}
