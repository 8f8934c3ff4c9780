//! The producer's end of a link: from the RPC to the stage's channels.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jaiminho_core::{GroupKind, LinkError, Subscribe};
use jaiminho_proto::v1::ConsumerMessage;
use jaiminho_proto::v1::stage_server::{Stage, StageServer};
use jaiminho_proto::{CONSUMER_MESSAGE_BYTES_MAX, FRAME_BYTES_MAX, status_of};
use jaiminho_runtime::{LinkHalf, Serve};
use jaiminho_tls::PeerCertificate;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

use crate::incoming;
use crate::outgoing::ToConsumerStream;
use crate::server::ServerConfig;
use crate::streams::Peer;

pub(crate) use jaiminho_proto::FILE_DESCRIPTOR_SET;
/// As probes ask for it.
pub(crate) const NAME: &str = "jaiminho.v1.Stage";

pub(crate) struct StageService {
    stage: Arc<dyn Serve>,
    subscribe_deadline: Duration,
    answer_deadline: Duration,
    /// See [`ServerConfig::members`].
    members: BTreeMap<String, String>,
    tasks: TaskTracker,
}

impl StageService {
    /// Its tasks are spawned on `tasks`, and end with their connections.
    pub(crate) fn server(stage: Arc<dyn Serve>, config: &ServerConfig, tasks: TaskTracker) -> StageServer<Self> {
        let service = Self {
            stage,
            subscribe_deadline: config.subscribe_deadline,
            answer_deadline: config.answer_deadline,
            members: config
                .tls
                .as_ref()
                .filter(|tls| tls.ca.is_some())
                .map_or_else(BTreeMap::new, |_| config.members.clone()),
            tasks,
        };
        StageServer::new(service).max_decoding_message_size(CONSUMER_MESSAGE_BYTES_MAX)
    }

    /// The stage's half of a new link, and the largest frame that its consumer takes.
    async fn open(
        &self,
        incoming: &mut Streaming<ConsumerMessage>,
        certificate: &PeerCertificate,
    ) -> Result<(LinkHalf, usize), LinkError> {
        let silent_ms = u64::try_from(self.subscribe_deadline.as_millis()).unwrap_or(u64::MAX);
        let subscribe = timeout(self.subscribe_deadline, incoming::subscribe(incoming, self.stage.versions()))
            .await
            .unwrap_or(Err(LinkError::Silent(silent_ms)))?;
        self.may_join(&subscribe, certificate)?;
        let frame_bytes_max = usize::try_from(subscribe.frame_bytes_max).unwrap_or(usize::MAX);
        timeout(self.answer_deadline, self.stage.subscribe(subscribe))
            .await
            .unwrap_or_else(|_| Err(LinkError::Unavailable("the stage does not answer".into())))
            .map(|half| (half, frame_bytes_max.min(FRAME_BYTES_MAX)))
    }

    fn may_join(&self, subscribe: &Subscribe, certificate: &PeerCertificate) -> Result<(), LinkError> {
        let group = &subscribe.group;
        match self.members.get(group).filter(|_| subscribe.kind == GroupKind::Required) {
            None => Ok(()),
            Some(name) => certificate.check(name).map_err(|wrong| {
                LinkError::NotAllowed(format!("the certificate of who wants to join group `{group}` {wrong}"))
            }),
        }
    }
}

#[tonic::async_trait]
impl Stage for StageService {
    type SubscribeStream = ToConsumerStream;

    async fn subscribe(
        &self,
        request: Request<Streaming<ConsumerMessage>>,
    ) -> Result<Response<ToConsumerStream>, Status> {
        let Peer { address, certificate, cut, .. } = Peer::of(request.extensions()).cloned().unwrap_or_default();
        let mut incoming = request.into_inner();
        let (half, frame_bytes_max) = self.open(&mut incoming, &certificate).await.map_err(|error| {
            let peer = address.map(|address| address.to_string());
            if let LinkError::NotAllowed(reason) = &error {
                tracing::warn!(peer, reason, "a consumer is refused");
            } else {
                tracing::debug!(peer, %error, "no link");
            }
            status_of(&error)
        })?;
        let LinkHalf { subscribed, to_producer, from_producer } = half;
        let closed = CancellationToken::new();
        let (ended, consumer_end) = oneshot::channel();
        let (open, deadline) = (closed.clone().drop_guard(), self.subscribe_deadline);
        self.tasks.spawn(async move {
            incoming::to_stage(incoming, to_producer, ended, closed.clone(), cut.clone()).await;
            // Who reads nothing keeps HTTP/2 from asking for the end of the stream.
            if timeout(deadline, closed.cancelled()).await.is_err() {
                tracing::debug!(peer = ?address, "a consumer does not read that its link has ended: it is cut off");
                cut.cancel();
            }
        });
        Ok(Response::new(ToConsumerStream::new(&subscribed, frame_bytes_max, from_producer, consumer_end, open)))
    }
}
