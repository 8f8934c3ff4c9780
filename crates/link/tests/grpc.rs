//! What only the gRPC transport has: deadlines, hostile producers, probes, reflection, TLS, the end of a server.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::path::Path;
use std::pin::Pin;
use std::time::{Duration, Instant};

use futures_util::stream::{self, Stream, StreamExt};
use jaiminho_core::{Credit, GroupKind, LinkError, Subscribe, ToConsumer, ToProducer, frame_bytes_max};
use jaiminho_link::{Connector, ConnectorConfig, ServeError, Server, ServerConfig, Tls, TlsError};
use jaiminho_proto::v1::stage_server::{Stage, StageServer};
use jaiminho_proto::v1::{self, consumer_message, producer_message::Message};
use jaiminho_proto::{encode_subscribed, encode_to_consumer};
use jaiminho_runtime::{Address, Connect, LinkHalf};
use support::{ENDLESS, Rig, check, frame, soon, subscribe, subscribed, usual_frame};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// Says the same to everybody, the first message at once and the others once it has credit, then waits.
struct Parrot(Vec<v1::ProducerMessage>);

#[tonic::async_trait]
impl Stage for Parrot {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<v1::ProducerMessage, Status>> + Send>>;

    async fn subscribe(
        &self,
        request: Request<Streaming<v1::ConsumerMessage>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let mut incoming = request.into_inner();
        let is_credit = |said: &v1::ConsumerMessage| matches!(said.message, Some(consumer_message::Message::Credit(_)));
        let credit = async move {
            while !incoming.message().await.is_ok_and(|said| said.is_some_and(|said| is_credit(&said))) {}
        };
        let (first, rest) = self.0.split_at(self.0.len().min(1));
        let (first, rest) = (first.to_vec(), rest.to_vec());
        let rest = stream::once(credit).flat_map(move |_| stream::iter(rest.clone()));
        Ok(Response::new(stream::iter(first).chain(rest).map(Ok).chain(stream::pending()).boxed()))
    }
}

/// A link to a parrot, with credit.
async fn heard(address: &Address, wanted: jaiminho_core::Subscribe) -> LinkHalf {
    let link = soon(connector(ConnectorConfig::default()).connect(address, wanted)).await.unwrap();
    link.to_producer.send(ENDLESS).await.unwrap();
    link
}

fn connector(config: ConnectorConfig) -> Connector {
    Connector::new(config, TaskTracker::new())
}

async fn parrot(said: Vec<v1::ProducerMessage>) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address(listener.local_addr().unwrap().to_string());
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    tokio::spawn(
        tonic::transport::Server::builder().add_service(StageServer::new(Parrot(said))).serve_with_incoming(incoming),
    );
    address
}

async fn channel(uri: String) -> tonic::transport::Channel {
    tonic::transport::Endpoint::from_shared(uri).unwrap().connect().await.unwrap()
}

fn events(change: impl FnOnce(&mut v1::Events)) -> v1::ProducerMessage {
    let mut message = encode_to_consumer(&frame(1, 8));
    let Some(Message::Events(events)) = &mut message.message else { panic!("not events") };
    change(events);
    message
}

#[tokio::test]
async fn each_wrong_message_of_a_producer_is_a_violation_and_the_last_item() {
    for (what, wrong) in [
        ("ends that decrease", events(|events| events.ends[1] = 0)),
        ("ends beyond the payloads", events(|events| events.ends[7] += 1)),
        ("a column too short", events(|events| events.key_hash.truncate(7))),
        ("a trace cut short", events(|events| events.traces = events.traces.slice(1..))),
        ("deliveries from 0", events(|events| events.first = 0)),
        (
            "a partition out of range",
            v1::ProducerMessage { message: Some(Message::Revoke(v1::Revoke { partitions: vec![4_096] })) },
        ),
        ("an empty message", v1::ProducerMessage { message: None }),
        ("a second Subscribed", encode_subscribed(&subscribed())),
        ("a frame beyond the limit", events(|events| events.payloads = vec![0; (4 << 20) + 1].into())),
    ] {
        let address = parrot(vec![encode_subscribed(&subscribed()), encode_to_consumer(&frame(1, 1)), wrong]).await;
        let mut link = heard(&address, subscribe()).await;
        assert_eq!(soon(link.from_producer.recv()).await, Some(Ok(frame(1, 1))), "{what}");
        let last = soon(link.from_producer.recv()).await;
        assert!(matches!(last, Some(Err(LinkError::Violation(_)))), "{what}: {last:?}");
        assert_eq!(soon(link.from_producer.recv()).await, None, "{what}");
    }
}

#[tokio::test]
async fn a_frame_of_the_size_that_follows_from_the_largest_event_arrives_and_one_byte_more_is_a_violation() {
    let wanted = || Subscribe { event_bytes_max: 1_000, frame_bytes_max: frame_bytes_max(1_000), ..subscribe() };
    let filled_to = |length: usize| {
        let frame = |bytes: usize| events(|events| events.payloads = resized(events, bytes));
        let overhead = prost::Message::encoded_len(&frame(100_000)) - 100_000;
        frame(length - overhead)
    };
    let limit = usize::try_from(frame_bytes_max(1_000)).unwrap();
    for (length, arrives) in [(limit, true), (limit + 1, false)] {
        let frame = filled_to(length);
        assert_eq!(prost::Message::encoded_len(&frame), length);
        let mut link = heard(&parrot(vec![encode_subscribed(&subscribed()), frame]).await, wanted()).await;
        let item = soon(link.from_producer.recv()).await;
        assert_eq!(matches!(item, Some(Ok(_))), arrives);
        assert_eq!(matches!(item, Some(Err(LinkError::Violation(_)))), !arrives);
    }
}

/// The same payloads, filled up to `bytes` in the last event.
fn resized(events: &mut v1::Events, bytes: usize) -> bytes::Bytes {
    *events.ends.last_mut().unwrap() = u32::try_from(bytes).unwrap();
    let mut payloads = events.payloads.to_vec();
    payloads.resize(bytes, b'x');
    payloads.into()
}

#[tokio::test]
async fn a_producer_that_sends_more_than_it_has_credit_for_is_cut_off_unread() {
    let frames = (1..100).map(|number| encode_to_consumer(&usual_frame(number)));
    let address = parrot([encode_subscribed(&subscribed())].into_iter().chain(frames).collect()).await;
    let mut link = soon(connector(ConnectorConfig::default()).connect(&address, subscribe())).await.unwrap();
    link.to_producer.send(ToProducer::Credit(Credit { events: 9, bytes: 300 << 10 })).await.unwrap();
    for number in 1..=3 {
        assert_eq!(soon(link.from_producer.recv()).await, Some(Ok(usual_frame(number))));
    }
    let last = soon(link.from_producer.recv()).await;
    let what = format!("delivery 4 is beyond the credit of 9 events, {} bytes", 300 << 10);
    assert_eq!(last, Some(Err(LinkError::Violation(what))));
}

#[tokio::test]
async fn a_frame_above_what_the_consumer_said_it_takes_is_a_violation() {
    let address = parrot(vec![encode_subscribed(&subscribed()), encode_to_consumer(&usual_frame(1))]).await;
    let small = jaiminho_core::Subscribe { event_bytes_max: 1_000, frame_bytes_max: 10_000, ..subscribe() };
    let mut link = heard(&address, small).await;
    assert!(matches!(soon(link.from_producer.recv()).await, Some(Err(LinkError::Violation(_)))));
}

#[tokio::test]
async fn the_first_message_of_a_producer_must_be_subscribed() {
    let address = parrot(vec![encode_to_consumer(&frame(1, 1))]).await;
    let refused = soon(connector(ConnectorConfig::default()).connect(&address, subscribe())).await;
    assert!(matches!(refused, Err(LinkError::Violation(_))), "{refused:?}");
}

#[tokio::test]
async fn a_producer_that_never_answers_is_unavailable_at_the_deadline() {
    let address = parrot(vec![]).await;
    let config = ConnectorConfig { subscribed_deadline: Duration::from_millis(200), ..ConnectorConfig::default() };
    let refused = soon(connector(config).connect(&address, subscribe())).await;
    let Err(LinkError::Unavailable(text)) = refused else { panic!("{refused:?}") };
    assert!(text.ends_with("no Subscribed within 200 ms"), "{text}");
}

#[tokio::test]
async fn a_port_behind_which_nothing_happens_is_unavailable_at_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address(listener.local_addr().unwrap().to_string());
    let config = ConnectorConfig {
        connect_deadline: Duration::from_millis(200),
        subscribed_deadline: Duration::from_millis(200),
        ..ConnectorConfig::default()
    };
    let refused = soon(connector(config).connect(&address, subscribe())).await;
    assert!(matches!(refused, Err(LinkError::Unavailable(_))), "{refused:?}");
}

#[tokio::test]
async fn an_address_that_is_none_is_unavailable() {
    for address in ["", "a b:1", "127.0.0.1:99999", "127.0.0.1"] {
        let refused = soon(connector(ConnectorConfig::default()).connect(&Address(address.into()), subscribe())).await;
        assert!(matches!(refused, Err(LinkError::Unavailable(_))), "{address}: {refused:?}");
    }
}

#[tokio::test]
async fn a_connector_leaves_no_task_behind() {
    let mut rig = Rig::grpc().await;
    let (consumer, producer) = rig.link().await;
    let (_other, gone) = rig.link().await;
    drop((consumer, gone, _other));
    rig.tasks.close();
    soon(rig.tasks.wait()).await;
    drop(producer);
}

#[tokio::test]
async fn health_tells_liveness_from_readiness() {
    let (rig, server) = (Rig::grpc().await, ServerConfig::default());
    let server = Server::new(rig.script.clone(), server).await.unwrap();
    let health = server.health();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(server.run(listener, rig.stop.clone()));
    let mut client = HealthClient::new(channel(address).await);
    let mut serving = async |service: &str| {
        let answer = client.check(HealthCheckRequest { service: service.into() }).await;
        answer.map(|answer| answer.into_inner().status == 1).map_err(|status| status.code())
    };
    for ready in [false, true, false] {
        health.set_ready(ready).await;
        for service in ["", "readiness", "jaiminho.v1.Stage"] {
            assert_eq!(serving(service).await, Ok(ready), "{service}");
        }
        assert_eq!(serving("liveness").await, Ok(true));
    }
    assert_eq!(serving("other").await, Err(tonic::Code::NotFound));
}

#[tokio::test]
async fn both_versions_of_reflection_list_the_services() {
    let rig = Rig::grpc().await;
    let uri = format!("http://{}", rig.address.0);
    macro_rules! services {
        ($version:ident) => {{
            use tonic_reflection::pb::$version::ServerReflectionRequest;
            use tonic_reflection::pb::$version::server_reflection_client::ServerReflectionClient;
            use tonic_reflection::pb::$version::server_reflection_request::MessageRequest;
            use tonic_reflection::pb::$version::server_reflection_response::MessageResponse;
            let mut client = ServerReflectionClient::new(channel(uri.clone()).await);
            let request = ServerReflectionRequest {
                host: String::new(),
                message_request: Some(MessageRequest::ListServices(String::new())),
            };
            let mut answers = client.server_reflection_info(stream::iter([request])).await.unwrap().into_inner();
            let answer = answers.message().await.unwrap().unwrap().message_response;
            let Some(MessageResponse::ListServicesResponse(list)) = answer else { panic!("{answer:?}") };
            list.service.into_iter().map(|service| service.name).collect::<Vec<_>>()
        }};
    }
    for services in [services!(v1), services!(v1alpha)] {
        for name in ["jaiminho.v1.Stage", "jaiminho.v1.Inspect", "grpc.health.v1.Health"] {
            assert!(services.iter().any(|service| service == name), "{services:?}");
        }
    }
}

#[tokio::test]
async fn a_stopped_server_takes_no_link_and_ends_once_its_links_have_ended() {
    let mut rig = Rig::grpc().await;
    let (mut consumer, mut producer) = rig.link().await;
    rig.stop.cancel();
    check(&mut consumer, &mut producer).await;
    while rig.connect.connect(&rig.address, subscribe()).await.is_ok() {}
    drop(producer);
    assert_eq!(soon(consumer.from_producer.recv()).await, None);
    soon(rig.server.take().unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_stopped_server_cuts_off_what_does_not_end() {
    let config = ServerConfig { stop_deadline: Duration::from_millis(300), ..ServerConfig::default() };
    let mut rig = Rig::with(config, ConnectorConfig::default()).await;
    let (_consumer, producer) = rig.link().await;
    let mut number = 1;
    while let Ok(sent) =
        tokio::time::timeout(Duration::from_millis(200), producer.to_consumer.send(Ok(usual_frame(number)))).await
    {
        sent.unwrap();
        number += 1;
    }
    rig.stop.cancel();
    let since = Instant::now();
    soon(rig.server.take().unwrap()).await.unwrap();
    assert!(since.elapsed() >= Duration::from_millis(300));
    soon(producer.to_consumer.closed()).await;
}

#[tokio::test]
async fn a_cut_connection_ends_both_halves() {
    let mut rig = Rig::grpc().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = std::mem::replace(&mut rig.address, Address(listener.local_addr().unwrap().to_string()));
    let relay = tokio::spawn(async move {
        let (mut consumer, _) = listener.accept().await.unwrap();
        let mut producer = tokio::net::TcpStream::connect(server.0).await.unwrap();
        tokio::io::copy_bidirectional(&mut consumer, &mut producer).await
    });
    let (mut consumer, mut producer) = rig.link().await;
    check(&mut consumer, &mut producer).await;
    relay.abort();
    let last = soon(consumer.from_producer.recv()).await;
    assert!(matches!(last, Some(Err(LinkError::Unavailable(_)))), "{last:?}");
    assert_eq!(soon(consumer.from_producer.recv()).await, None);
    soon(consumer.to_producer.closed()).await;
    assert_eq!(soon(producer.from_consumer.recv()).await, None);
    soon(producer.to_consumer.closed()).await;
}

/// A CA, and certificates that it signed for `localhost` and for a client.
struct Certificates {
    folder: tempfile::TempDir,
}

impl Certificates {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).unwrap();
        write(folder.path(), "ca", &ca.pem());
        let issuer = rcgen::Issuer::new(params, key);
        for name in ["localhost", "client"] {
            let key = rcgen::KeyPair::generate().unwrap();
            let cert = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
            write(folder.path(), name, &cert.pem());
            write(folder.path(), &format!("{name}-key"), &key.serialize_pem());
        }
        Self { folder }
    }

    fn tls(&self, name: Option<&str>) -> Tls {
        let path = |name: &str| self.folder.path().join(format!("{name}.pem"));
        Tls {
            ca: Some(path("ca")),
            cert: name.map(path),
            key: name.map(|name| path(&format!("{name}-key"))),
            server_name: None,
        }
    }
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(format!("{name}.pem")), text).unwrap();
}

async fn tls_rig(server: Tls, client: Tls) -> Rig {
    let server = ServerConfig { tls: Some(server), ..ServerConfig::default() };
    let mut rig = Rig::with(server, ConnectorConfig { tls: Some(client), ..ConnectorConfig::default() }).await;
    rig.address = Address(rig.address.0.replace("127.0.0.1", "localhost"));
    rig
}

#[tokio::test]
async fn a_link_works_over_tls_with_certificates_on_both_sides() {
    let certificates = Certificates::new();
    let mut rig = tls_rig(certificates.tls(Some("localhost")), certificates.tls(Some("client"))).await;
    let (mut consumer, mut producer) = rig.link().await;
    check(&mut consumer, &mut producer).await;

    let by_address = Address(rig.address.0.replace("localhost", "127.0.0.1"));
    assert!(matches!(soon(rig.connect.connect(&by_address, subscribe())).await, Err(LinkError::Unavailable(_))));
    let named = Tls { server_name: Some("localhost".into()), ..certificates.tls(Some("client")) };
    let named = connector(ConnectorConfig { tls: Some(named), ..ConnectorConfig::default() });
    soon(named.connect(&by_address, subscribe())).await.unwrap();
}

#[tokio::test]
async fn a_client_without_a_certificate_of_the_ca_is_refused() {
    let (ours, theirs) = (Certificates::new(), Certificates::new());
    let stranger = Tls { ca: ours.tls(None).ca, ..theirs.tls(Some("client")) };
    for client in [ours.tls(None), stranger, theirs.tls(None)] {
        let rig = tls_rig(ours.tls(Some("localhost")), client).await;
        let refused = soon(rig.connect.connect(&rig.address, subscribe())).await;
        assert!(matches!(refused, Err(LinkError::Unavailable(_))), "{refused:?}");
        let plain = connector(ConnectorConfig::default());
        let refused = soon(plain.connect(&rig.address, subscribe())).await;
        assert!(matches!(refused, Err(LinkError::Unavailable(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn a_required_group_is_joined_with_its_certificate_alone() {
    let certificates = Certificates::new();
    for (name, kind, is_refused) in [
        ("client", GroupKind::Required, false),
        ("other", GroupKind::Required, true),
        ("other", GroupKind::Attached, false),
        ("other", GroupKind::Tap, false),
    ] {
        let members = [("convert".to_owned(), name.to_owned())].into();
        let tls = Some(certificates.tls(Some("localhost")));
        let server = ServerConfig { tls, members, ..ServerConfig::default() };
        let client = ConnectorConfig { tls: Some(certificates.tls(Some("client"))), ..ConnectorConfig::default() };
        let rig = Rig::with(server, client).await;
        let address = Address(rig.address.0.replace("127.0.0.1", "localhost"));
        let linked = soon(rig.connect.connect(&address, Subscribe { kind, ..subscribe() })).await;
        let told = "the certificate of who wants to join group `convert` is for `client`, not for `other`";
        assert_eq!(linked.err(), is_refused.then(|| LinkError::NotAllowed(told.into())), "{name} {kind:?}");
    }
}

#[tokio::test]
async fn an_unusable_tls_is_found_before_the_server_runs() {
    let rig = Rig::in_process().await;
    let certificates = Certificates::new();
    let full = certificates.tls(Some("localhost"));
    let start = async |tls: Tls| {
        let config = ServerConfig { tls: Some(tls), ..ServerConfig::default() };
        Server::new(rig.script.clone(), config).await.err().map(|error| error.to_string())
    };
    let missing = |what| Some(ServeError::from(TlsError::Missing(what)).to_string());
    assert_eq!(start(Tls { cert: None, key: None, ..full.clone() }).await, missing("cert"));
    assert_eq!(start(Tls { key: None, ..full.clone() }).await, missing("key"));
    let lost = start(Tls { key: Some("/nowhere".into()), ..full.clone() }).await.unwrap();
    assert!(lost.starts_with("tls: cannot read `key: /nowhere`"), "{lost}");
    assert_eq!(start(full).await, None);
}

#[tokio::test]
async fn an_idle_link_stays_open_and_silence_is_left_to_the_stage() {
    let certificates = Certificates::new();
    let tls = [None, Some((certificates.tls(Some("localhost")), certificates.tls(Some("client"))))];
    for (server, client) in tls.map(Option::unzip) {
        let deadline = Duration::from_secs(1);
        let server = ServerConfig { subscribe_deadline: deadline, tls: server, ..ServerConfig::default() };
        let mut rig = Rig::with(server, ConnectorConfig { tls: client, ..ConnectorConfig::default() }).await;
        rig.address = Address(rig.address.0.replace("127.0.0.1", "localhost"));
        let (mut consumer, mut producer) = rig.link().await;
        let quiet = tokio::time::timeout(2 * deadline, consumer.from_producer.recv()).await;
        assert!(quiet.is_err(), "{quiet:?}");
        check(&mut consumer, &mut producer).await;
        let heartbeat = ToConsumer::Events { deliveries: vec![], backlog: 0, pressure: false };
        producer.to_consumer.send(Ok(heartbeat.clone())).await.unwrap();
        assert_eq!(soon(consumer.from_producer.recv()).await, Some(Ok(heartbeat)));
    }
}
