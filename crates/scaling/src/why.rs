//! The sentence that says why.

use std::fmt;

/// Why a stage needs as many instances as it is said to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Why {
    /// It has no instance, and nothing to do.
    Absent,
    /// It has no instance, and so many events wait for it.
    Missed {
        /// Events.
        waiting: u64,
    },
    /// Its rate is not known yet.
    New,
    /// A source that does not tell how full it is.
    Untold,
    /// Its youngest instance started so many seconds ago.
    Starting {
        /// Seconds.
        seconds: u64,
    },
    /// What is below it holds it up.
    Blocked {
        /// Share of time.
        share: f64,
    },
    /// It has all the work that it can do, and nothing goes through.
    Stuck,
    /// It is busy, and the instances that it got lately brought nothing.
    Vain {
        /// It had so many before.
        before: u32,
        /// It has so many.
        now: u32,
        /// After a while a few more are tried.
        tries: bool,
    },
    /// It is too busy.
    Busy {
        /// Share of what it can do.
        busy: f64,
        /// What is aimed at.
        target: f64,
        /// Events that wait for it.
        waiting: u64,
        /// Events a second of one instance that is as busy as is aimed at.
        able: f64,
        /// Instances.
        wanted: u32,
    },
    /// It is as busy as it should be, or too busy for one less.
    Enough {
        /// Share of time.
        busy: f64,
    },
    /// It has nothing to do.
    Idle,
    /// Fewer would do.
    Low {
        /// Share of time.
        busy: f64,
        /// Events a second of one instance.
        rate: f64,
        /// Instances.
        wanted: u32,
    },
}

impl Why {
    /// How many instances it should have, of so many; none: nothing can be said, and it should keep what it has.
    pub(crate) fn wanted(&self, instances: u32) -> Option<u32> {
        match *self {
            Self::Absent => Some(0),
            Self::Missed { .. } | Self::Idle => Some(1),
            Self::New | Self::Untold | Self::Starting { .. } | Self::Blocked { .. } | Self::Stuck => None,
            Self::Vain { tries, .. } => tries.then_some(instances + tried(instances)),
            Self::Enough { .. } => Some(instances),
            Self::Busy { wanted, .. } | Self::Low { wanted, .. } => Some(wanted),
        }
    }
}

/// How many more of so many are tried: Kubernetes does not act on a tenth.
fn tried(instances: u32) -> u32 {
    instances / 10 + 1
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| format!("{:.0} %", 100.0 * share);
        match *self {
            Self::Absent => write!(f, "it has no instance, and nothing waits for it"),
            Self::Missed { waiting } => write!(f, "it has no instance, and {} for it", wait(waiting)),
            Self::New => write!(f, "its rate is not known yet: it keeps what it has"),
            Self::Untold => write!(
                f,
                "it takes events in from outside, and does not tell how full it is: it keeps what it has (eventsPerInstance says what one instance takes)"
            ),
            Self::Starting { seconds } => {
                write!(
                    f,
                    "its youngest instance started {seconds} s ago: it keeps what it has until that has shown what it can do"
                )
            }
            Self::Blocked { share } => {
                write!(f, "what is below it holds it up for {} of the time: more of it would wait, too", percent(share))
            }
            Self::Stuck => write!(
                f,
                "it has all the work that it can do, and nothing goes through: more of it would stand still, too"
            ),
            Self::Vain { before, now, tries } => {
                write!(f, "it is busy, but {now} instances do no more than {before} did: ")?;
                match tried(now) {
                    _ if !tries => write!(f, "it keeps what it has"),
                    1 => write!(f, "one more is tried"),
                    more => write!(f, "{more} more are tried"),
                }
            }
            Self::Busy { busy, target, waiting, able, .. } => {
                write!(f, "it is {} busy (target {})", percent(busy), percent(target))?;
                if waiting > 0 {
                    write!(f, ", and {} for it", wait(waiting))?;
                }
                write!(f, "; at the target an instance does {} events/s", figure(able))
            }
            Self::Enough { busy } => {
                write!(f, "it is {} busy, and one less would be too few", percent(busy))
            }
            Self::Idle => write!(f, "it has nothing to do"),
            Self::Low { busy, rate, .. } => {
                write!(f, "it is {} busy, with {} events/s an instance: fewer would do", percent(busy), figure(rate))
            }
        }
    }
}

fn wait(count: u64) -> String {
    if count == 1 { "1 event waits".into() } else { format!("{count} events wait") }
}

fn figure(rate: f64) -> String {
    if rate < 10.0 { format!("{rate:.1}") } else { format!("{rate:.0}") }
}
