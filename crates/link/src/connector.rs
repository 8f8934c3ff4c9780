//! The consumer's end of a link: its own connection, and the pump behind the runtime's channels.

use std::error::Error;
use std::io;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use hyper_util::rt::TokioIo;
use jaiminho_core::{FRAME_BYTES, LinkError, Subscribe, Subscribed, ToConsumer, Versions};
use jaiminho_proto::FRAME_BYTES_MAX;
use jaiminho_proto::v1::ProducerMessage;
use jaiminho_proto::v1::stage_client::StageClient;
use jaiminho_runtime::{Address, Connect, LinkHalf};
use jaiminho_tls::{Connected, Fault, NO_TLS, ONLY_TLS, Tls};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint, Error as TransportError};

use crate::connection::Connection;
use crate::credit::{CreditCheck, Granted};
use crate::incoming;
use crate::outgoing::ToProducerStream;
use crate::server::{HTTP_FRAME_BYTES, deadline_after};
use crate::transport::{Dial, Tcp};

/// Messages that wait between a stage and the network. Frames in memory are bounded by the link's credit besides.
const FROM_PRODUCER_MAX: usize = 8;
const TO_PRODUCER_MAX: usize = 64;
/// HTTP/2 flow control must not be what holds a link back: its window, and a frame's columns, within these bounds.
const HTTP_WINDOW_BYTES_MIN: u64 = 256 * 1024;
const HTTP_WINDOW_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How long the last messages of a dropped link may take to leave, and its connection to close.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);

const NO_TLS_TOLD: &str =
    "the producer does not speak TLS; its stage needs `tls` with `cert` and `key`, or this one no `tls`";
const ONLY_TLS_TOLD: &str = "the producer speaks TLS; this stage needs `tls` with its `ca`";
const WANTS_TLS: &str = "if the producer speaks TLS, this stage needs `tls` with its `ca`";
const WANTS_CERTIFICATE: &str = "if the producer asks for a certificate, this stage's `tls` needs `cert` and `key`";
/// How tonic and HTTP/2 say so.
const ENDS_AT_ONCE: [&str; 3] = ["http2 error", "operation was canceled", "connection error"];

/// Deadlines of a [`Connector`].
#[derive(Clone, Debug)]
pub struct ConnectorConfig {
    /// From the name to an HTTP/2 connection, TLS included.
    pub connect_deadline: Duration,
    /// From there to `Subscribed`.
    pub subscribed_deadline: Duration,
    /// HTTP/2 ping, and how long its answer may take.
    pub keepalive_interval: Duration,
    pub keepalive_timeout: Duration,
    /// Whom to trust, this side's own certificate, and the name in the producers'.
    pub tls: Option<Tls>,
}

impl Default for ConnectorConfig {
    fn default() -> Self {
        Self {
            connect_deadline: Duration::from_secs(5),
            subscribed_deadline: Duration::from_secs(10),
            keepalive_interval: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(10),
            tls: None,
        }
    }
}

/// Opens links over gRPC. Each has its own connection and one task, which ends soon after the link.
#[derive(Clone, Debug)]
pub struct Connector<D = Tcp> {
    config: ConnectorConfig,
    tasks: TaskTracker,
    dial: D,
}

/// Both ends of a connection's life.
struct Life {
    /// Closes it, whatever its peer does.
    cut: DropGuard,
    /// It is closed.
    gone: CancellationToken,
}

impl Connector {
    /// Over TCP. The links' tasks are spawned on `tasks`.
    pub fn new(config: ConnectorConfig, tasks: TaskTracker) -> Self {
        Self::over(Tcp::default(), config, tasks)
    }
}

impl<D: Dial> Connector<D> {
    /// Over what `dial` opens. The links' tasks are spawned on `tasks`.
    pub fn over(dial: D, config: ConnectorConfig, tasks: TaskTracker) -> Self {
        Self { config, tasks, dial }
    }

    async fn open(&self, address: &Address, subscribe: Subscribe) -> Result<LinkHalf, LinkError> {
        let deadline = self.config.connect_deadline;
        let fault = Fault::default();
        let (channel, life) = timeout(deadline, self.dial(address, &subscribe, &fault)).await.unwrap_or_else(|_| {
            Err(LinkError::Unavailable(format!("{}: no connection within {} ms", address.0, deadline.as_millis())))
        })?;
        let frame_bytes_max = usize::try_from(subscribe.frame_bytes_max).unwrap_or(FRAME_BYTES_MAX);
        let client = StageClient::new(channel).max_decoding_message_size(frame_bytes_max.min(FRAME_BYTES_MAX));

        let (to_producer, outgoing) = mpsc::channel(TO_PRODUCER_MAX);
        let (end, sent) = (CancellationToken::new(), CancellationToken::new());
        let granted = Granted::default();
        let outgoing = ToProducerStream::new(&subscribe, outgoing, end.clone(), sent.clone(), granted.clone());
        let deadline = self.config.subscribed_deadline;
        let offered = subscribe.versions;
        let answered = timeout(deadline, answer(client.clone(), outgoing, offered)).await.unwrap_or_else(|_| {
            Err(LinkError::Unavailable(format!("{}: no Subscribed within {} ms", address.0, deadline.as_millis())))
        });
        let (subscribed, incoming) = answered.map_err(|error| self.no_answer(address, error, &fault))?;

        let (to_stage, from_producer) = mpsc::channel(FROM_PRODUCER_MAX);
        let credit = CreditCheck::of(granted);
        let pump = Pump { client, incoming, credit, to_stage, end, sent, life };
        self.tasks.spawn(pump.run());
        Ok(LinkHalf { subscribed, to_producer, from_producer })
    }

    async fn dial(
        &self,
        address: &Address,
        subscribe: &Subscribe,
        fault: &Fault,
    ) -> Result<(Channel, Life), LinkError> {
        let unavailable = |error: TransportError| {
            told(address, fault).unwrap_or_else(|| LinkError::Unavailable(format!("{}: {}", address.0, chain(&error))))
        };
        let endpoint = self.endpoint(address, subscribe).map_err(unavailable)?;
        let (cut, gone) = (CancellationToken::new(), CancellationToken::new());
        let life = Life { cut: cut.clone().drop_guard(), gone: gone.clone() };
        let (dial, tls) = (self.dial.clone(), self.config.tls.clone());
        let (address, shared) = (address.clone(), fault.clone());
        let connect = tower::service_fn(move |_| {
            let (dial, tls, cut, gone) = (dial.clone(), tls.clone(), cut.clone(), gone.clone());
            let (address, fault) = (address.clone(), shared.clone());
            async move {
                let io = dialled(&dial, &address, tls.as_ref(), &fault).await?;
                Ok::<_, io::Error>(TokioIo::new(Connection::dialled(io, cut, gone)))
            }
        });
        let channel = endpoint.connect_with_connector(connect).await.map_err(unavailable)?;
        Ok((channel, life))
    }

    /// A server that wants TLS, or a certificate, may say nothing that this side could read: the connection only ends.
    fn no_answer(&self, address: &Address, error: LinkError, fault: &Fault) -> LinkError {
        if let Some(told) = told(address, fault) {
            return told;
        }
        let wanted = match &self.config.tls {
            None => WANTS_TLS,
            Some(tls) if tls.cert.is_none() => WANTS_CERTIFICATE,
            Some(_) => return error,
        };
        let ended = |text: &String| ENDS_AT_ONCE.iter().any(|end| text.contains(end));
        if let LinkError::Unavailable(text) = &error
            && ended(text)
        {
            return LinkError::Unavailable(format!(
                "{}: the connection ended before a first answer; {wanted}",
                address.0
            ));
        }
        error
    }

    fn endpoint(&self, address: &Address, subscribe: &Subscribe) -> Result<Endpoint, TransportError> {
        let window = http_window_bytes(subscribe.window.bytes);
        Ok(endpoint(address, self.config.tls.as_ref())?
            .initial_stream_window_size(window)
            .initial_connection_window_size(window)
            .max_frame_size(HTTP_FRAME_BYTES)
            .http2_keep_alive_interval(self.config.keepalive_interval)
            .keep_alive_timeout(self.config.keepalive_timeout)
            .keep_alive_while_idle(true))
    }
}

/// What this side and the producer do not agree on.
fn told(address: &Address, fault: &Fault) -> Option<LinkError> {
    let told = match fault.told()? {
        NO_TLS => NO_TLS_TOLD.to_owned(),
        ONLY_TLS => ONLY_TLS_TOLD.to_owned(),
        other => format!("TLS with the producer: {other}"),
    };
    Some(LinkError::Unavailable(format!("{}: {told}", address.0)))
}

/// Requests say what is below; tonic itself is to leave TLS to [`jaiminho_tls::connect`].
pub(crate) fn endpoint(address: &Address, tls: Option<&Tls>) -> Result<Endpoint, TransportError> {
    let at = |scheme| Endpoint::from_shared(format!("{scheme}://{}", address.0));
    let endpoint = at("http")?;
    Ok(match tls {
        None => endpoint,
        Some(_) => endpoint.origin(at("https")?.uri().clone()),
    })
}

/// A connection to a stage, hands shaken.
pub(crate) async fn dialled<D: Dial>(
    dial: &D,
    address: &Address,
    tls: Option<&Tls>,
    fault: &Fault,
) -> io::Result<Connected<D::Io>> {
    let host = address.0.rsplit_once(':').map_or(address.0.as_str(), |(host, _)| host);
    let io = dial.dial(address.0.clone()).await?;
    jaiminho_tls::connect(io, tls, host.trim_matches(['[', ']']), fault).await
}

/// HTTP/2's window on a link of this window in bytes: 128 KiB more, from 256 KiB to 64 MiB.
pub fn http_window_bytes(window_bytes: u64) -> u32 {
    window_bytes.saturating_add(FRAME_BYTES).clamp(HTTP_WINDOW_BYTES_MIN, HTTP_WINDOW_BYTES_MAX) as u32
}

impl<D: Dial> Connect for Connector<D> {
    fn connect<'a>(&'a self, address: &'a Address, subscribe: Subscribe) -> BoxFuture<'a, Result<LinkHalf, LinkError>> {
        self.open(address, subscribe).boxed()
    }
}

/// Starts the RPC, and reads the first message.
async fn answer(
    mut client: StageClient<Channel>,
    outgoing: ToProducerStream,
    offered: Versions,
) -> Result<(Subscribed, Streaming<ProducerMessage>), LinkError> {
    let mut incoming =
        client.subscribe(outgoing).await.map_err(|status| incoming::status_from_producer(&status))?.into_inner();
    let subscribed = incoming::subscribed(&mut incoming, offered).await?;
    Ok((subscribed, incoming))
}

/// The network side of one open link.
struct Pump {
    /// Kept: without it the connection would begin to close.
    client: StageClient<Channel>,
    incoming: Streaming<ProducerMessage>,
    credit: CreditCheck,
    to_stage: mpsc::Sender<Result<ToConsumer, LinkError>>,
    /// Makes the other direction end with what it has.
    end: CancellationToken,
    /// It has ended.
    sent: CancellationToken,
    life: Life,
}

impl Pump {
    async fn run(mut self) {
        let sent = self.sent.clone();
        tokio::select! {
            biased;
            () = self.carry() => {}
            () = deadline_after(&sent, CLOSE_DEADLINE) => {}
        }
        let Self { client, mut incoming, credit: _, to_stage, end, sent: _, life } = self;
        drop(to_stage);
        end.cancel();
        // A reset would overtake what the consumer said last: the producer answers the end of this direction with its own.
        let _ = timeout(CLOSE_DEADLINE, discard(&mut incoming)).await;
        drop((client, incoming));
        let _ = timeout(CLOSE_DEADLINE, life.gone.cancelled()).await;
        drop(life.cut);
    }

    /// Until the producer ends the link, breaks the protocol, or the consumer drops its half.
    async fn carry(&mut self) {
        loop {
            let item = tokio::select! {
                biased;
                item = incoming::to_consumer(&mut self.incoming) => item.transpose(),
                () = self.to_stage.closed() => return,
            };
            let Some(item) = item else { return };
            let item = item.and_then(|message| self.credit.check(message));
            let is_last = item.is_err();
            if self.to_stage.send(item).await.is_err() || is_last {
                return;
            }
        }
    }
}

async fn discard(incoming: &mut Streaming<ProducerMessage>) {
    while let Ok(Some(_)) = incoming.message().await {}
}

/// An error with its causes: tonic's own text is only "transport error".
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Some errors repeat their cause.
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
