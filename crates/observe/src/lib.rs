//! What a running pipeline looks like from outside.
//!
//! A [`Plan`] says which stages there are to be, a [`View`] what all that answer tell together, and what follows from it: which
//! stage is the limit, and what is wrong. A [`Watcher`] finds the instances, asks them, and makes a view every second.

#![warn(missing_docs)]

#[cfg(test)]
extern crate self as jaiminho_observe;

mod console;
mod findings;
#[cfg(test)]
mod fixture;
mod gather;
mod history;
mod judge;
mod looks;
#[cfg(test)]
mod made;
mod make;
mod plan;
mod tap;
pub mod text;
pub mod top;
mod units;
mod view;

pub use console::{About, Console, TAPS_MAX, TapEvents, TapRequest, Taps, VIEWERS_MAX, router};
pub use findings::STUCK_SECONDS;
pub use gather::{INSTANCES_MAX, INTERVAL, Target, Watcher};
pub use history::{HISTORY_MAX, Record};
pub use plan::{Kind, Plan, PlannedStage, PlannedSubscription, Role, stage_of};
pub use tap::{Filter, OpenTap, Tap, TapError, TapSummary, Tapped};
pub use view::{
    AddressView, Figures, Finding, FindingKind, History, InstanceView, LatencyView, Limit, LimitKind, LinkView,
    LoadView, LogView, Rates, RejectionView, Severity, StageHistory, StageView, SubscriptionHistory, SubscriptionView,
    Totals, TroubleView, View,
};
