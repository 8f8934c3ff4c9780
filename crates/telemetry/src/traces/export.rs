//! The task that sends spans to a collector: in batches, each within a deadline. What it can't send is counted, and gone.

use std::time::{Duration, Instant};

use opentelemetry::KeyValue;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use tokio::time::{sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::{Recorded, Span, otlp};
use crate::LAST;
use crate::names;
use crate::otlp::{Collector, CollectorError};

/// Most bytes of a batch, but for the one span that goes over it; collectors take 4 MiB.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// Most memory of a batch under way: as spans, as messages of each try, and as bytes.
pub const EXPORT_BYTES_MAX: usize = 6 * BATCH_BYTES_MAX;
/// Before a batch is tried again, doubled each time.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// Between two log lines that say that nothing can be sent.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// How spans are gathered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batches {
    /// Most spans of a batch.
    pub spans_max: usize,
    /// Longest wait of a span for its batch to fill.
    pub delay: Duration,
}

impl Default for Batches {
    fn default() -> Self {
        Self { spans_max: 512, delay: Duration::from_secs(1) }
    }
}

/// Sends what tracers record.
#[derive(Debug)]
pub struct Exporter {
    recorded: Recorded,
    resources: Vec<Resource>,
    batches: Batches,
    batch: Batch,
    /// Spans of the batch that is being sent.
    under_way: u64,
    collector: Collector,
    client: TraceServiceClient<Channel>,
    metadata: MetadataMap,
    health: Health,
    counters: Counters,
}

impl Exporter {
    /// Of the tracers whose other end is `recorded`; their resources by index. Must be called within a tokio runtime; nothing is
    /// connected yet.
    ///
    /// # Errors
    /// See [`CollectorError`].
    pub fn new(
        recorded: Recorded,
        resources: Vec<Vec<KeyValue>>,
        collector: Collector,
        batches: Batches,
    ) -> Result<Self, CollectorError> {
        let (client, metadata) = (TraceServiceClient::new(collector.channel()?), collector.metadata()?);
        let resources = resources.into_iter().map(otlp::resource).collect();
        let (batch, under_way, health, counters) = Default::default();
        Ok(Self { recorded, resources, batches, batch, under_way, collector, client, metadata, health, counters })
    }

    /// Until `end`; then what is left, within two seconds in all.
    pub async fn run(mut self, end: CancellationToken) {
        let late = async {
            end.cancelled().await;
            sleep(LAST).await;
        };
        tokio::select! {
            biased;
            () = self.export_all(&end) => {}
            () = late => {}
        }
        let mut failed = self.under_way;
        while self.fill() {
            failed += std::mem::take(&mut self.batch).spans.len() as u64;
        }
        self.counters.failed.increment(failed);
        self.counters.dropped(&self.recorded);
    }

    async fn export_all(&mut self, end: &CancellationToken) {
        while let Some(Some(())) = end.run_until_cancelled(self.gather()).await {
            self.export().await;
        }
        while self.fill() {
            self.export().await;
        }
    }

    /// The next batch: full, or as much of it as came in time. None: nothing comes any more. Dropped early, it loses nothing.
    async fn gather(&mut self) -> Option<()> {
        if self.batch.spans.is_empty() {
            let first = self.recorded.next().await?;
            self.batch.push(first);
        }
        let full_at = tokio::time::Instant::now() + self.batches.delay;
        while !self.batch.is_full(self.batches.spans_max) {
            match timeout_at(full_at, self.recorded.next()).await {
                Ok(Some(recorded)) => self.batch.push(recorded),
                Ok(None) | Err(_) => break,
            }
        }
        Some(())
    }

    /// The next batch, of what is there. False: nothing.
    fn fill(&mut self) -> bool {
        while !self.batch.is_full(self.batches.spans_max)
            && let Some(recorded) = self.recorded.try_next()
        {
            self.batch.push(recorded);
        }
        !self.batch.spans.is_empty()
    }

    /// The batch is tried until it is there, refused, or late.
    async fn export(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        let count = batch.spans.len() as u64;
        self.under_way = count;
        let resource_spans = otlp::request(&self.resources, batch.spans);
        let sent = timeout(self.collector.timeout, self.send(resource_spans)).await;
        let late = || Status::deadline_exceeded(format!("no answer within {} ms", self.collector.timeout.as_millis()));
        let refused = sent.unwrap_or_else(|_| Err(late()));
        let (failed, error) = match refused {
            Ok((0, _)) => (0, None),
            Ok((refused, why)) => (refused.min(count), Some(why)),
            Err(status) => (count, Some(status.to_string())),
        };
        self.under_way = 0;
        self.counters.exported.increment(count - failed);
        self.counters.failed.increment(failed);
        self.counters.dropped(&self.recorded);
        self.health.note(&self.collector.endpoint, error);
    }

    /// How many spans the collector refused, and why.
    async fn send(&self, resource_spans: Vec<ResourceSpans>) -> Result<(u64, String), Status> {
        let mut wait = RETRY_MIN;
        loop {
            let message = ExportTraceServiceRequest { resource_spans: resource_spans.clone() };
            let request = Request::from_parts(self.metadata.clone(), Default::default(), message);
            match self.client.clone().export(request).await {
                Ok(answer) => {
                    let partly = answer.into_inner().partial_success.unwrap_or_default();
                    return Ok((u64::try_from(partly.rejected_spans).unwrap_or(0), partly.error_message));
                }
                Err(status) if !may_pass(status.code()) => return Err(status),
                Err(status) => {
                    // The last word before the deadline says more than that it passed.
                    if wait * 2 > self.collector.timeout {
                        return Err(status);
                    }
                    sleep(wait).await;
                    wait *= 2;
                }
            }
        }
    }
}

/// By OTLP, what is worth another try.
fn may_pass(code: Code) -> bool {
    matches!(code, Code::Unavailable | Code::Aborted | Code::OutOfRange | Code::DataLoss | Code::ResourceExhausted)
}

#[derive(Debug, Default)]
struct Batch {
    spans: Vec<(usize, Span)>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, (resource, span): (usize, Span)) {
        self.bytes += span.bytes();
        self.spans.push((resource, span));
    }

    fn is_full(&self, spans_max: usize) -> bool {
        self.spans.len() >= spans_max.max(1) || self.bytes >= BATCH_BYTES_MAX
    }
}

/// What was told last of the collector.
#[derive(Debug, Default)]
struct Health {
    is_failing: bool,
    told_at: Option<Instant>,
}

impl Health {
    fn note(&mut self, endpoint: &str, error: Option<String>) {
        match error {
            Some(error) if self.told_at.is_none_or(|told| !self.is_failing && told.elapsed() > TELL_EVERY) => {
                (self.is_failing, self.told_at) = (true, Some(Instant::now()));
                tracing::warn!(
                    endpoint,
                    error,
                    "spans can't be exported: they are dropped and counted until it works again"
                );
            }
            None if self.is_failing => {
                self.is_failing = false;
                tracing::info!(endpoint, "spans are exported again");
            }
            Some(_) | None => {}
        }
    }
}

#[derive(Debug)]
struct Counters {
    exported: metrics::Counter,
    failed: metrics::Counter,
    dropped: metrics::Counter,
}

impl Default for Counters {
    fn default() -> Self {
        let of = |outcome: &'static str| metrics::counter!(names::SPANS, "outcome" => outcome);
        Self { exported: of("exported"), failed: of("failed"), dropped: of("dropped") }
    }
}

impl Counters {
    fn dropped(&self, recorded: &Recorded) {
        self.dropped.absolute(recorded.dropped());
    }
}
