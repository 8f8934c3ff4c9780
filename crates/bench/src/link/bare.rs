//! The baselines: tonic streams of bytes, over connections with the settings of our links.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use jaiminho_link::{HTTP_FRAME_BYTES, http_window_bytes};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status};

use self::generated::bare_client::BareClient;
use self::generated::bare_server::{Bare, BareServer};
use self::generated::{Part, Request as Start};
use super::events::{Tally, event, frame, paced};
use super::{Arrived, Contender, Job, Sent};
use crate::BenchError;
use crate::process::{cpu_seconds, monotonic_ns};

#[expect(unreachable_pub, reason = "generated")]
mod generated {
    tonic::include_proto!("jaiminho.bench");
}

/// As our links have it.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Serves one stream.
struct Once {
    job: Job,
    /// Until the stream is asked for.
    started: Mutex<Option<oneshot::Sender<Started>>>,
}

/// The moment at which a stream is asked for.
struct Started {
    at_ns: u64,
    cpu_seconds: f64,
    /// Resolves when all is sent.
    sent: oneshot::Receiver<()>,
}

#[tonic::async_trait]
impl Bare for Once {
    type StreamStream = Pin<Box<dyn Stream<Item = Result<Part, Status>> + Send>>;

    async fn stream(&self, _: Request<Start>) -> Result<Response<Self::StreamStream>, Status> {
        let started = self.started.lock().unwrap_or_else(PoisonError::into_inner).take();
        let started = started.ok_or_else(|| Status::already_exists("one stream a run"))?;
        let (all_sent, sent) = oneshot::channel();
        let now = Started { at_ns: monotonic_ns(), cpu_seconds: cpu_seconds(), sent };
        started.send(now).map_err(|_| Status::unavailable("given up"))?;
        let mut all_sent = Some(all_sent);
        let end = stream::poll_fn(move |_| {
            // Nobody waits when the run was given up.
            let _given_up = all_sent.take().map(|all_sent| all_sent.send(()));
            Poll::Ready(None)
        });
        Ok(Response::new(parts(&self.job).map(|events| Ok(Part { events })).chain(end).boxed()))
    }
}

fn parts(job: &Job) -> Pin<Box<dyn Stream<Item = Bytes> + Send>> {
    let (count, size, batch) = (job.count, job.size, job.batch.max(1));
    match (job.contender, job.rate) {
        (_, Some(rate)) => ReceiverStream::new(paced(job, rate)).boxed(),
        (Contender::BareFrames, None) => {
            let firsts = (0..count).step_by(batch);
            stream::iter(firsts.map(move |first| frame(first, (count - first).min(batch as u64), size))).boxed()
        }
        (Contender::BareEvents | Contender::Link | Contender::InProcess | Contender::PassThrough, None) => {
            stream::iter((0..count).map(move |number| event(number, size))).boxed()
        }
    }
}

/// Serves until all is sent; the connection stays open until `stop`. Besides, the CPU-seconds before it began.
pub(crate) async fn produce(
    job: &Job,
    listener: TcpListener,
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> Result<(Sent, f64), BenchError> {
    let (start, started) = oneshot::channel();
    let once = Once { job: job.clone(), started: Mutex::new(Some(start)) };
    let serving = Server::builder()
        .max_frame_size(HTTP_FRAME_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .tcp_nodelay(true)
        .add_service(BareServer::new(once))
        .serve_with_incoming_shutdown(
            TcpListenerStream::new(listener)
                .map(|stream| stream.and_then(|stream| stream.set_nodelay(true).map(|()| stream))),
            stop.cancelled_owned(),
        );
    tasks.spawn(serving);
    let ended = |_| BenchError::Stream("it ended early".to_owned());
    let started = started.await.map_err(ended)?;
    started.sent.await.map_err(ended)?;
    Ok((Sent { started_ns: started.at_ns, finished_ns: monotonic_ns(), settled: None }, started.cpu_seconds))
}

/// Takes the stream to its end.
pub(crate) async fn consume(job: &Job, address: SocketAddr) -> Result<Arrived, BenchError> {
    let stream_error = |status: Status| BenchError::Stream(status.to_string());
    let window = http_window_bytes(job.window.saturating_mul(job.size as u64));
    let channel = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| BenchError::Stream(error.to_string()))?
        .initial_stream_window_size(window)
        .initial_connection_window_size(window)
        .max_frame_size(HTTP_FRAME_BYTES)
        .http2_keep_alive_interval(KEEPALIVE)
        .tcp_nodelay(true)
        .connect()
        .await
        .map_err(|error| BenchError::Stream(error.to_string()))?;
    let mut client = BareClient::new(channel).max_decoding_message_size(usize::MAX);
    let mut parts = client.stream(Start {}).await.map_err(stream_error)?.into_inner();
    let mut tally = Tally::new(job);
    while let Some(part) = parts.message().await.map_err(stream_error)? {
        tally.take(&part.events);
    }
    Ok(tally.arrived())
}
