//! Peers that break the protocol: each gets a status or is cut off, and another link on the same server never notices.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use h2::SendStream;
use h2::client::{ResponseFuture, SendRequest};
use jaiminho_core::LinkError;
use jaiminho_link::{ConnectorConfig, ServerConfig};
use jaiminho_proto::v1::stage_client::StageClient;
use jaiminho_proto::v1::{self, consumer_message::Message};
use jaiminho_proto::{encode_subscribe, link_error};
use jaiminho_runtime::LinkHalf;
use support::{ProducerHalf, Rig, check, end_of, soon, subscribe, usual_frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

const SUBSCRIBE_DEADLINE: Duration = Duration::from_secs(1);

/// A server with an honest link on it.
struct Town {
    rig: Rig,
    consumer: LinkHalf,
    producer: ProducerHalf,
}

impl Town {
    async fn new() -> Self {
        let config =
            ServerConfig { subscribe_deadline: SUBSCRIBE_DEADLINE, connections_max: 4, ..ServerConfig::default() };
        let mut rig = Rig::with(config, ConnectorConfig::default()).await;
        let (consumer, producer) = rig.link().await;
        Self { rig, consumer, producer }
    }

    /// The honest link works, and so does a new one.
    async fn stays_well(mut self) {
        check(&mut self.consumer, &mut self.producer).await;
        while self.rig.opened.try_recv().is_ok() {}
        let (mut consumer, mut producer) = self.rig.link().await;
        check(&mut consumer, &mut producer).await;
    }

    async fn tcp(&self) -> TcpStream {
        TcpStream::connect(&self.rig.address.0).await.unwrap()
    }

    /// Says this over tonic, then waits; returns how the call ends.
    async fn status_of(&self, said: impl Stream<Item = v1::ConsumerMessage> + Send + 'static) -> Status {
        let client = StageClient::connect(format!("http://{}", self.rig.address.0)).await.unwrap();
        soon(end_of(client, said)).await
    }

    /// A gRPC call whose body begins with these bytes.
    async fn call(&self, body: &[u8], end: bool) -> (ResponseFuture, SendStream<Bytes>) {
        let (h2, connection) = h2::client::handshake(self.tcp().await).await.unwrap();
        tokio::spawn(connection);
        self.call_on(h2.ready().await.unwrap(), body, end)
    }

    fn call_on(&self, mut h2: SendRequest<Bytes>, body: &[u8], end: bool) -> (ResponseFuture, SendStream<Bytes>) {
        let request = http::Request::post(format!("http://{}/jaiminho.v1.Stage/Subscribe", self.rig.address.0))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .unwrap();
        let (response, mut send) = h2.send_request(request, false).unwrap();
        send.send_data(Bytes::copy_from_slice(body), end).unwrap();
        (response, send)
    }

    /// The status of such a call, if there is one.
    async fn status_of_bytes(&self, body: &[u8], end: bool) -> Option<i32> {
        let (response, _send) = self.call(body, end).await;
        let response = soon(response).await.ok()?;
        let header = response.headers().get("grpc-status").cloned();
        let mut body = response.into_body();
        while let Some(Ok(data)) = soon(body.data()).await {
            body.flow_control().release_capacity(data.len()).unwrap();
        }
        let trailers = soon(body.trailers()).await.ok().flatten();
        header.or_else(|| trailers?.get("grpc-status").cloned())?.to_str().unwrap().parse().ok()
    }
}

/// Sends frames until nothing takes them any more.
async fn fill(producer: &ProducerHalf) {
    let mut number = 1;
    while let Ok(sent) = timeout(SUBSCRIBE_DEADLINE, producer.to_consumer.send(Ok(usual_frame(number)))).await {
        sent.unwrap();
        number += 1;
    }
}

fn message(message: Message) -> v1::ConsumerMessage {
    v1::ConsumerMessage { message: Some(message) }
}

fn valid() -> v1::ConsumerMessage {
    encode_subscribe(&subscribe())
}

fn named(name: String) -> v1::ConsumerMessage {
    encode_subscribe(&jaiminho_core::Subscribe { pipeline: name, ..subscribe() })
}

fn disposed(first: u64, last: u64, state: i32) -> v1::ConsumerMessage {
    let dispositions = vec![v1::Disposition { first, last, state, rejection: None }];
    message(Message::Dispositions(v1::Dispositions { dispositions }))
}

/// A message as gRPC frames it.
fn grpc_frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[0][..], &length.to_be_bytes(), message].concat()
}

/// Everything that the peer still says, until it closes.
async fn until_closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    // A reset instead of an end is as good.
    let _ = soon(stream.read_to_end(&mut said)).await;
    said
}

#[tokio::test]
async fn each_wrong_message_is_a_violation() {
    let many = v1::Disposition { first: 1, last: 1, state: 1, rejection: None };
    let many = v1::Dispositions { dispositions: vec![many; 257] };
    let credit = || message(Message::Credit(v1::Credit { events: 1, bytes: 1 }));
    let cases = [
        ("credit first", vec![credit()]),
        ("an empty message first", vec![v1::ConsumerMessage { message: None }]),
        (
            "a Subscribe with nothing but versions",
            vec![message(Message::Subscribe(v1::Subscribe {
                version_min: 1,
                version_max: 1,
                ..v1::Subscribe::default()
            }))],
        ),
        ("an empty name", vec![named(String::new())]),
        ("a long name", vec![named("x".repeat(254))]),
        ("a huge Subscribe", vec![named("x".repeat(9 << 10))]),
        ("a second Subscribe", vec![valid(), valid()]),
        ("an empty message", vec![valid(), v1::ConsumerMessage { message: None }]),
        ("a range from the end", vec![valid(), disposed(2, 1, 1)]),
        ("a range from 0", vec![valid(), disposed(0, 1, 1)]),
        ("an unknown state", vec![valid(), disposed(1, 1, 99)]),
        ("a rejection without a reason", vec![valid(), disposed(1, 1, 2)]),
        ("too many dispositions", vec![valid(), message(Message::Dispositions(many))]),
        ("a huge message", vec![valid(), named("x".repeat(9 << 10))]),
    ];
    let town = Town::new().await;
    for (what, said) in cases {
        let status = town.status_of(stream::iter(said)).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status:?}");
        assert!(matches!(link_error(&status), LinkError::Violation(_)), "{what}: {status:?}");
    }
    town.stays_well().await;
}

#[tokio::test]
async fn an_empty_subscribe_has_no_common_version() {
    let town = Town::new().await;
    let status = town.status_of(stream::iter([message(Message::Subscribe(v1::Subscribe::default()))])).await;
    assert_eq!(link_error(&status), LinkError::Version { peer_min: 0, peer_max: 0, min: 1, max: 1 });
    town.stays_well().await;
}

#[tokio::test]
async fn a_stream_without_subscribe_is_ended_at_the_deadline() {
    let town = Town::new().await;
    let status = town.status_of(stream::pending()).await;
    assert_eq!((status.code(), link_error(&status)), (Code::DeadlineExceeded, LinkError::Silent(1_000)));
    town.stays_well().await;
}

#[tokio::test]
async fn bytes_that_are_no_messages_are_a_violation() {
    let town = Town::new().await;
    let invalid = Some(Code::InvalidArgument as i32);
    let length_of_4_gib = [0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3];
    let subscribed = grpc_frame(&prost::Message::encode_to_vec(&valid()));
    for (what, body) in [
        ("not protobuf", grpc_frame(&[0xff; 40])),
        ("a field cut short", grpc_frame(&[0x0a, 0x7f, 1])),
        ("a length of 4 GiB", length_of_4_gib.to_vec()),
        ("a compression that was not agreed on", [&[1][..], &grpc_frame(&[0; 8])[1..]].concat()),
        ("an unknown flag", [&[9][..], &grpc_frame(&[0; 8])[1..]].concat()),
        ("not protobuf, after Subscribe", [subscribed.clone(), grpc_frame(&[0xff; 40])].concat()),
        ("a length of 4 GiB, after Subscribe", [&subscribed[..], &length_of_4_gib].concat()),
    ] {
        assert_eq!(town.status_of_bytes(&body, false).await, invalid, "{what}");
    }
    assert_eq!(town.status_of_bytes(&[], true).await, invalid, "an end before Subscribe");
    assert_eq!(town.status_of_bytes(&subscribed[..20], true).await, invalid, "an end within Subscribe");
    town.stays_well().await;
}

#[tokio::test]
async fn bytes_that_are_not_http2_close_the_connection() {
    let town = Town::new().await;
    for said in [
        &[0xa5; 4_096][..],
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03-------------",
    ] {
        let mut stream = town.tcp().await;
        stream.write_all(said).await.unwrap();
        until_closed(&mut stream).await;
    }
    town.stays_well().await;
}

#[tokio::test]
async fn garbage_after_the_http2_preface_closes_the_connection() {
    let town = Town::new().await;
    let mut stream = town.tcp().await;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&[0xff; 512]).await.unwrap();
    until_closed(&mut stream).await;
    town.stays_well().await;
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed_at_the_deadline() {
    let town = Town::new().await;
    let mut silent = town.tcp().await;
    let mut slow = town.tcp().await;
    slow.write_all(b"PRI * HTTP").await.unwrap();
    until_closed(&mut silent).await;
    until_closed(&mut slow).await;
    town.stays_well().await;
}

#[tokio::test]
async fn a_connection_without_a_stream_is_closed_at_the_deadline() {
    let town = Town::new().await;
    let mut begun = town.tcp().await;
    begun.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let uri = format!("http://{}", town.rig.address.0);
    let mut asked = HealthClient::new(tonic::transport::Endpoint::from_shared(uri).unwrap().connect_lazy());
    let mut watch = asked.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    soon(watch.message()).await.unwrap();
    until_closed(&mut begun).await;
    tokio::time::sleep(2 * SUBSCRIBE_DEADLINE).await;
    soon(asked.check(HealthCheckRequest::default())).await.expect("the other stream is open");
    drop(watch);
    let (h2, connection) = h2::client::handshake(town.tcp().await).await.unwrap();
    // A reset instead of an end is as good.
    let _ = soon(connection).await;
    drop(h2);
    town.stays_well().await;
}

#[tokio::test]
async fn a_consumer_that_never_reads_is_cut_off_when_its_link_ends() {
    let mut town = Town::new().await;
    let (response, _send) = town.call(&grpc_frame(&prost::Message::encode_to_vec(&valid())), false).await;
    let producer = soon(town.rig.opened.recv()).await.unwrap();
    let mut unread = soon(response).await.unwrap().into_body();
    fill(&producer).await;
    assert!(!producer.to_consumer.is_closed());
    let to_consumer = producer.to_consumer.clone();
    drop(producer);
    soon(to_consumer.closed()).await;
    while let Some(Ok(_)) = soon(unread.data()).await {}
    assert!(soon(unread.trailers()).await.is_err(), "its connection is closed");
    town.stays_well().await;
}

#[tokio::test]
async fn a_consumer_that_stands_still_is_cut_off_when_its_link_ends() {
    let mut town = Town::new().await;
    let windows = 64 << 20;
    let mut client = h2::client::Builder::new();
    client.initial_window_size(windows).initial_connection_window_size(windows);
    let (h2, mut connection) = client.handshake::<_, Bytes>(town.tcp().await).await.unwrap();
    let (_response, _send) = town.call_on(h2, &grpc_frame(&prost::Message::encode_to_vec(&valid())), false);
    let producer = tokio::select! {
        ended = &mut connection => panic!("{ended:?}"),
        producer = soon(town.rig.opened.recv()) => producer.unwrap(),
    };
    fill(&producer).await;
    let to_consumer = producer.to_consumer.clone();
    drop(producer);
    soon(to_consumer.closed()).await;
    town.stays_well().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_at_once_and_their_places_come_back() {
    let town = Town::new().await;
    let mut held = vec![town.tcp().await, town.tcp().await, town.tcp().await];
    let mut beyond = town.tcp().await;
    assert_eq!(until_closed(&mut beyond).await, [0; 0]);
    for stream in &mut held {
        until_closed(stream).await;
    }
    town.stays_well().await;
}

#[tokio::test]
async fn a_consumer_that_resets_its_stream_ends_the_link() {
    let mut town = Town::new().await;
    let (response, mut send) = town.call(&grpc_frame(&prost::Message::encode_to_vec(&valid())), false).await;
    let mut producer = soon(town.rig.opened.recv()).await.unwrap();
    let _response = soon(response).await.unwrap();
    send.send_reset(h2::Reason::CANCEL);
    assert_eq!(soon(producer.from_consumer.recv()).await, None);
    soon(producer.to_consumer.closed()).await;
    town.stays_well().await;
}
