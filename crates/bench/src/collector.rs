//! A collector of OpenTelemetry's protocol that counts the spans it gets, and keeps none.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::BenchError;

/// Serves until its process ends.
#[derive(Debug)]
pub struct Collector {
    /// Where it listens.
    pub address: SocketAddr,
    spans: Arc<AtomicU64>,
}

struct Counting(Arc<AtomicU64>);

impl Collector {
    /// Listens on a free port of this machine.
    pub async fn start() -> Result<Self, BenchError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(BenchError::io("a collector"))?;
        let address = listener.local_addr().map_err(BenchError::io("a collector"))?;
        let spans = Arc::new(AtomicU64::new(0));
        let service = TraceServiceServer::new(Counting(spans.clone())).max_decoding_message_size(usize::MAX);
        let served = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(served.serve_with_incoming(TcpListenerStream::new(listener)));
        Ok(Self { address, spans })
    }

    /// Spans so far.
    pub fn spans(&self) -> u64 {
        self.spans.load(Ordering::Relaxed)
    }
}

#[tonic::async_trait]
impl TraceService for Counting {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.get_ref().resource_spans.iter();
        let count: usize = resources.flat_map(|resource| &resource.scope_spans).map(|scope| scope.spans.len()).sum();
        self.0.fetch_add(count as u64, Ordering::Relaxed);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}
