//! What is said too often is counted instead.

use std::{
    collections::HashMap,
    fmt,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tracing::{
    Event, Level, Metadata,
    callsite::Identifier,
    field::{Field, Visit},
};
use tracing_subscriber::layer::{Context, Filter};

/// How often one thing is said of one subject (a stage, an output, a peer …) within a [`WINDOW`].
pub(crate) const FIRST: u32 = 5;
/// After this time how often more it was said is told, and it may be said again.
pub(crate) const WINDOW: Duration = Duration::from_secs(10);
/// Things of one subject that are told apart; beyond, subjects are not.
pub(crate) const KINDS_MAX: usize = 1_024;
/// Target of what is never limited: a process's and a stage's start, drain and end.
pub const LIFE: &str = "jaiminho::life";

/// Target of what tells how often more something was said. It is as loud as that, so no level hides it.
pub(crate) const SUMMARIES: &str = module_path!();
/// What makes a subject. Numbers of links, errors' texts and counts don't: they may be others each time.
const SUBJECT: [&str; 8] = ["stage", "output", "group", "peer", "address", "reason", "topic", "facility"];
/// Of a message in a summary.
const MESSAGE_BYTES_MAX: usize = 256;

/// A filter that lets pass what is not said too often. What is below `info` was asked for, and always passes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limit(Arc<Mutex<HashMap<Kind, Said>>>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kind(Identifier, u64);

#[derive(Debug)]
struct Said {
    /// When the window began.
    since: Instant,
    /// When it was told last how often more it was said; at first, when it was said.
    told: Instant,
    /// In this window.
    passed: u32,
    /// What did not pass and was not told.
    more: u64,
    level: Level,
    target: &'static str,
    last: Words,
}

#[derive(Debug, Default)]
struct Words {
    message: String,
    stage: Option<String>,
    peer: Option<String>,
    error: Option<String>,
    subject: DefaultHasher,
}

impl Limit {
    fn allows(&self, event: &Event<'_>, now: Instant) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO || [LIFE, SUMMARIES].contains(&metadata.target()) {
            return true;
        }
        let mut words = Words::default();
        event.record(&mut words);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kind = Kind(metadata.callsite(), words.subject.finish());
        if all.len() >= KINDS_MAX && !all.contains_key(&kind) {
            // There are only so many places that say something.
            kind.1 = 0;
        }
        let said = all.entry(kind).or_insert_with(|| Said::new(now, metadata));
        if now.duration_since(said.since) >= WINDOW {
            (said.since, said.passed) = (now, 0);
        }
        let passes = said.passed < FIRST;
        if passes {
            said.passed += 1;
        } else {
            said.more += 1;
            said.last = words;
        }
        passes
    }

    /// Tells of what did not pass, of each thing once in a [`WINDOW`].
    pub(crate) fn tell(&self, now: Instant) {
        let mut over = Vec::new();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, said| {
            let lasted = now.duration_since(said.told);
            if lasted >= WINDOW && said.more > 0 {
                let last = std::mem::take(&mut said.last);
                over.push((said.level, said.target, std::mem::take(&mut said.more), lasted, last));
                said.told = now;
            }
            said.more > 0 || now.duration_since(said.since) < WINDOW
        });
        // Not under the lock: what is said comes through here.
        for (level, target, more, lasted, words) in over {
            words.tell(level, target, more, lasted);
        }
    }
}

#[cfg(test)]
impl Limit {
    pub(crate) fn kinds(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Said {
    fn new(since: Instant, metadata: &'static Metadata<'static>) -> Self {
        let (level, target) = (*metadata.level(), metadata.target());
        Self { since, told: since, passed: 0, more: 0, level, target, last: Words::default() }
    }
}

impl Words {
    fn tell(self, level: Level, of: &str, more: u64, lasted: Duration) {
        let Self { message, stage, peer, error, subject: _ } = self;
        let (seconds, stage, peer, error) = (lasted.as_secs(), stage.as_deref(), peer.as_deref(), error.as_deref());
        match level {
            Level::ERROR => tracing::error!(stage, peer, error, more, of, "{message} ({more} more in {seconds} s)"),
            Level::WARN => tracing::warn!(stage, peer, error, more, of, "{message} ({more} more in {seconds} s)"),
            _ => tracing::info!(stage, peer, error, more, of, "{message} ({more} more in {seconds} s)"),
        }
    }
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let is_subject = SUBJECT.contains(&field.name());
        if !is_subject && !["message", "error"].contains(&field.name()) {
            return;
        }
        let mut text = format!("{value:?}");
        if is_subject {
            (field.name(), &text).hash(&mut self.subject);
        }
        text.truncate(text.floor_char_boundary(MESSAGE_BYTES_MAX));
        match field.name() {
            "message" => self.message = text,
            "stage" => self.stage = Some(text),
            "peer" => self.peer = Some(text),
            "error" => self.error = Some(text),
            _ => {}
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

impl<S> Filter<S> for Limit {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        self.allows(event, Instant::now())
    }
}
