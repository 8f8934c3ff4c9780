//! A real Jaeger, and what its query API tells of a trace.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde_json::Value;

use crate::{Child, Directory, eventually, free_ports};

/// For spans to be exported and stored.
const ARRIVAL: Duration = Duration::from_secs(60);

/// Whether tests that need Jaeger are left out: `tests/run` decides it.
pub fn skip_jaeger() -> bool {
    let skip = std::env::var_os("JAIMINHO_SKIP_JAEGER").is_some_and(|value| !value.is_empty());
    if skip {
        eprintln!("left out: no Jaeger");
    }
    skip
}

/// One Jaeger. Dropping it ends it.
#[derive(Debug)]
pub struct Jaeger {
    port: u16,
    child: Child,
    _directory: Directory,
}

/// A span as Jaeger shows it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub id: String,
    pub parent: Option<String>,
    pub name: String,
    /// `service.name`
    pub service: String,
    /// Since 1970.
    pub start_us: u64,
    pub duration_us: u64,
    pub tags: BTreeMap<String, String>,
    /// Of its process.
    pub resource: BTreeMap<String, String>,
    /// Trace and span of each.
    pub links: Vec<(String, String)>,
}

/// A trace as Jaeger shows it.
#[derive(Clone, Debug)]
pub struct Trace {
    pub id: String,
    pub spans: Vec<Seen>,
}

impl Jaeger {
    /// The one that tests share.
    pub async fn shared() -> Arc<Self> {
        static SHARED: tokio::sync::Mutex<Weak<Jaeger>> = tokio::sync::Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        if let Some(jaeger) = shared.upgrade() {
            return jaeger;
        }
        let jaeger = Arc::new(Self::start().await);
        *shared = Arc::downgrade(&jaeger);
        jaeger
    }

    async fn start() -> Self {
        let (port, directory) = (free_ports(6), Directory::new("jaeger"));
        let mut command = Command::new("bash");
        command.arg(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("jaeger/run"));
        command.arg(directory.path()).arg(port.to_string());
        let child = Child::spawn("jaeger", &command, &directory.path().join("run.log"));
        let jaeger = Self { port, child, _directory: directory };
        // The first time, it is built.
        eventually("Jaeger", Duration::from_secs(900), || async {
            if let Some(status) = jaeger.child.exited() {
                panic!("Jaeger ended with {status} (go is needed): {}", jaeger.child.log_tail());
            }
            jaeger.ask("/api/services").await.map(drop)
        })
        .await;
        jaeger
    }

    /// Where it takes spans: OTLP over gRPC.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The trace, once it is as wanted and has not grown for 300 ms: Jaeger may show a part of what it was sent at once.
    pub async fn trace(&self, id: &str, wanted: impl Fn(&Trace) -> bool) -> Trace {
        let (wanted, path) = (&wanted, format!("/api/traces/{id}"));
        let now = async || self.traces(&path).await?.pop().ok_or_else(|| "no such trace".to_owned());
        let now = &now;
        eventually(&format!("trace {id}"), ARRIVAL, || async move {
            let trace = now().await?;
            if !wanted(&trace) {
                return Err(trace.to_string());
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
            let later = now().await?;
            if later.spans.len() == trace.spans.len() { Ok(later) } else { Err(format!("more came: {later}")) }
        })
        .await
    }

    /// All traces that have a span of this name of a service, once there are so many.
    pub async fn having(&self, service: &str, name: &str, count: usize) -> Vec<Trace> {
        let path =
            format!("/api/traces?service={service}&operation={}&limit=1500&lookback=1h", name.replace(' ', "%20"));
        let path = path.as_str();
        eventually(&format!("{count} traces with `{name}`"), ARRIVAL, || async move {
            let traces = self.traces(path).await?;
            if traces.len() >= count { Ok(traces) } else { Err(format!("{} traces", traces.len())) }
        })
        .await
    }

    async fn traces(&self, path: &str) -> Result<Vec<Trace>, String> {
        let answer = self.ask(path).await?;
        Ok(answer["data"].as_array().into_iter().flatten().map(trace).collect())
    }

    async fn ask(&self, path: &str) -> Result<Value, String> {
        let url = format!("http://127.0.0.1:{}{path}", self.port + 1);
        let text = reqwest::get(url).await.map_err(|error| error.to_string())?.text().await;
        let text = text.map_err(|error| error.to_string())?;
        serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))
    }
}

impl Trace {
    /// The one span of this name.
    pub fn one(&self, name: &str) -> &Seen {
        match self.named(name)[..] {
            [span] => span,
            ref others => panic!("{} spans `{name}` in {self}", others.len()),
        }
    }

    /// All spans of this name, in the order of their start.
    pub fn named(&self, name: &str) -> Vec<&Seen> {
        self.spans.iter().filter(|span| span.name == name).collect()
    }

    /// Whether there is a span of this name.
    pub fn has(&self, name: &str) -> bool {
        self.spans.iter().any(|span| span.name == name)
    }

    /// The spans below this one.
    pub fn below(&self, span: &Seen) -> Vec<&Seen> {
        self.spans.iter().filter(|other| other.parent.as_deref() == Some(&span.id)).collect()
    }

    /// The span that this one is below.
    pub fn above(&self, span: &Seen) -> &Seen {
        let parent = span.parent.as_deref().unwrap_or_else(|| panic!("`{}` has no parent in {self}", span.name));
        let found = self.spans.iter().find(|other| other.id == parent);
        found.unwrap_or_else(|| panic!("the parent of `{}` is not in {self}", span.name))
    }
}

/// As a tree, for whoever reads a failed test.
impl std::fmt::Display for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        fn tree(
            trace: &Trace,
            f: &mut std::fmt::Formatter<'_>,
            span: &Seen,
            depth: usize,
            from: u64,
        ) -> std::fmt::Result {
            let (indent, start) = (2 * depth, span.start_us.saturating_sub(from));
            writeln!(
                f,
                "{:indent$}{} {} +{start} {} us {:?}",
                "", span.service, span.name, span.duration_us, span.tags
            )?;
            trace.below(span).into_iter().try_for_each(|below| tree(trace, f, below, depth + 1, from))
        }
        writeln!(f, "trace {}:", self.id)?;
        let from = self.spans.first().map_or(0, |span| span.start_us);
        let is_known = |id: &str| self.spans.iter().any(|span| span.id == id);
        let tops = self.spans.iter().filter(|span| !span.parent.as_deref().is_some_and(is_known));
        tops.into_iter().try_for_each(|span| tree(self, f, span, 1, from))
    }
}

impl Seen {
    /// The tag's text; empty without it.
    pub fn tag(&self, name: &str) -> &str {
        self.tags.get(name).map_or("", String::as_str)
    }

    /// Since 1970.
    pub fn end_us(&self) -> u64 {
        self.start_us + self.duration_us
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn pairs(tags: &Value) -> BTreeMap<String, String> {
    let tags = tags.as_array().into_iter().flatten();
    tags.map(|tag| (text(&tag["key"]), text(&tag["value"]))).collect()
}

fn trace(told: &Value) -> Trace {
    let mut spans: Vec<Seen> = told["spans"].as_array().into_iter().flatten().map(|span| seen(told, span)).collect();
    spans.sort_by_key(|span| span.start_us);
    Trace { id: text(&told["traceID"]), spans }
}

fn seen(told: &Value, span: &Value) -> Seen {
    let process = &told["processes"][text(&span["processID"])];
    let references = span["references"].as_array().cloned().unwrap_or_default();
    let (parents, links): (Vec<_>, Vec<_>) =
        references.iter().partition(|reference| reference["refType"] == "CHILD_OF");
    let place = |reference: &&Value| (text(&reference["traceID"]), text(&reference["spanID"]));
    Seen {
        id: text(&span["spanID"]),
        parent: parents.iter().map(|parent| text(&parent["spanID"])).next(),
        name: text(&span["operationName"]),
        service: text(&process["serviceName"]),
        start_us: span["startTime"].as_u64().unwrap_or_default(),
        duration_us: span["duration"].as_u64().unwrap_or_default(),
        tags: pairs(&span["tags"]),
        resource: pairs(&process["tags"]),
        links: links.iter().map(place).collect(),
    }
}
