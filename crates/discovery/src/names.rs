//! A set of instances that DNS names, asked again and again.

use std::collections::BTreeSet;
use std::fmt;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{self, BoxFuture, Either, FutureExt};
use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::RecordType;
use jaiminho_runtime::{Address, Discover};
use tokio::time::{Instant, sleep_until, timeout};

use crate::INSTANCES_MAX;
use crate::known::{Answer, Known};
use crate::resolver::{Resolver, ask};

/// Bounds of the pause between two rounds; the TTL decides between them.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(3);
/// How long the answer about one address family waits for the other: some servers never answer about AAAA.
const FAMILY_GRACE: Duration = Duration::from_millis(500);
/// Rounds that fail before the system's configuration is read again.
const FAILURES_MAX: u32 = 3;

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) enum Question {
    /// A and AAAA.
    Hosts { host: String, port: u16 },
    /// SRV.
    Services { name: String },
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hosts { host, port } => write!(f, "{host}:{port} (A, AAAA)"),
            Self::Services { name } => write!(f, "{name} (SRV)"),
        }
    }
}

/// The set so far, and the next round of questions.
pub(crate) struct Names {
    question: Question,
    resolver: Resolver,
    /// None before the first round, and after too many failures.
    open: Option<TokioResolver>,
    /// A round under way: it survives a dropped `changed`, or a busy caller would never see its end.
    round: Option<BoxFuture<'static, Vec<Answer>>>,
    next: Instant,
    /// Per kind of record.
    known: Vec<Known>,
    /// What `changed` said last.
    said: Option<BTreeSet<Address>>,
    failures: u32,
}

impl Names {
    pub(crate) fn new(question: Question, resolver: Resolver) -> Self {
        let kinds = match question {
            Question::Hosts { .. } => 2,
            Question::Services { .. } => 1,
        };
        let known = (0..kinds).map(|_| Known::default()).collect();
        Self { question, resolver, open: None, round: None, next: Instant::now(), known, said: None, failures: 0 }
    }

    async fn next_change(&mut self) -> Vec<Address> {
        loop {
            let answers = self.finish_round().await;
            self.note(&answers);
            for (known, answer) in self.known.iter_mut().zip(answers) {
                known.take(answer, Instant::now());
            }
            let set = self.present();
            if self.said.as_ref() != Some(&set) {
                if set.is_empty() && self.failures == 0 {
                    tracing::warn!(question = %self.question, "DNS knows no instance of this name; looking on");
                }
                let addresses = set.iter().cloned().collect();
                self.said = Some(set);
                return addresses;
            }
        }
    }

    /// Safe to drop at any point.
    async fn finish_round(&mut self) -> Vec<Answer> {
        if self.round.is_none() {
            sleep_until(self.next).await;
            self.round = Some(self.start_round());
        }
        let Some(round) = &mut self.round else { return Vec::new() };
        let answers = round.await;
        self.round = None;
        self.next = Instant::now() + pause(&answers);
        answers
    }

    fn start_round(&mut self) -> BoxFuture<'static, Vec<Answer>> {
        let open = match self.open.take().map_or_else(|| self.resolver.open(), Ok) {
            Ok(open) => open,
            Err(error) => {
                let failed = Answer::Failed(format!("the resolver's configuration: {error}"));
                return future::ready(vec![failed; self.known.len()]).boxed();
            }
        };
        self.open = Some(open.clone());
        match self.question.clone() {
            Question::Hosts { host, port } => both_families(open, host, port).boxed(),
            Question::Services { name } => ask(open, name, RecordType::SRV, 0).map(|answer| vec![answer]).boxed(),
        }
    }

    /// Counts failures, and logs where they begin.
    fn note(&mut self, answers: &[Answer]) {
        let failed = answers.iter().all(|answer| matches!(answer, Answer::Failed(_)));
        if !failed {
            self.failures = 0;
            return;
        }
        if let (0, Some(Answer::Failed(reason))) = (self.failures, answers.first()) {
            tracing::warn!(question = %self.question, error = %reason, "DNS fails; the last known instances stay");
        }
        self.failures += 1;
        if self.failures.is_multiple_of(FAILURES_MAX) {
            self.open = None;
        }
    }

    fn present(&self) -> BTreeSet<Address> {
        let all: BTreeSet<_> = self.known.iter().flat_map(Known::addresses).cloned().collect();
        if all.len() > INSTANCES_MAX {
            tracing::warn!(question = %self.question, named = all.len(), INSTANCES_MAX, "DNS names too many instances; some are left out");
        }
        all.into_iter().take(INSTANCES_MAX).collect()
    }
}

impl Discover for Names {
    /// The first call resolves with the first round: an empty set when it fails. May be dropped at any time.
    fn changed(&mut self) -> BoxFuture<'_, Vec<Address>> {
        self.next_change().boxed()
    }
}

async fn both_families(resolver: TokioResolver, host: String, port: u16) -> Vec<Answer> {
    let v4 = pin!(ask(resolver.clone(), host.clone(), RecordType::A, port));
    let v6 = pin!(ask(resolver, host, RecordType::AAAA, port));
    match future::select(v4, v6).await {
        Either::Left((v4, v6)) => {
            let v6 = other_family(&v4, v6).await;
            vec![v4, v6]
        }
        Either::Right((v6, v4)) => vec![other_family(&v6, v4).await, v6],
    }
}

/// Waits in full unless there are addresses to go on with.
async fn other_family(first: &Answer, other: impl Future<Output = Answer>) -> Answer {
    match first {
        Answer::Found { .. } => timeout(FAMILY_GRACE, other)
            .await
            .unwrap_or_else(|_| Answer::Failed("no answer while the other address family had one".into())),
        Answer::Empty | Answer::Failed(_) => other.await,
    }
}

/// By the shortest TTL; soon when something failed or was empty. Up to a tenth less, so that replicas don't ask in step.
fn pause(answers: &[Answer]) -> Duration {
    let ttl = |answer: &Answer| match answer {
        Answer::Found { ttl, .. } => Some(*ttl),
        Answer::Empty | Answer::Failed(_) => None,
    };
    let shortest = answers.iter().filter_map(ttl).min().unwrap_or(PAUSE_MIN);
    shortest.clamp(PAUSE_MIN, PAUSE_MAX).mul_f64(rand::random_range(0.9..=1.0))
}
