//! A real stage behind a real server: a consumer that breaks the protocol gets its status, and another goes on.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::Duration;

use futures_util::stream;
use jaiminho_core::{
    Credit, Dispatch, LinkError, OutputConfig, RequiredGroup, Subscribe, ToConsumer, ToProducer, Versions, Window,
};
use jaiminho_link::{Connector, ConnectorConfig};
use jaiminho_proto::v1::stage_client::StageClient;
use jaiminho_proto::v1::{self, consumer_message::Message};
use jaiminho_proto::{encode_subscribe, encode_to_producer, link_error};
use jaiminho_runtime::{Acknowledge, Address, Connect, NewEvent, Offer};
use support::{end_of, ingest, serve, soon, subscribe};
use tokio_util::task::TaskTracker;
use tonic::{Code, Status};

/// Says this after `Subscribe`, and returns the status that the call ends with.
async fn status_of(address: &Address, said: Vec<v1::ConsumerMessage>) -> Status {
    let client = StageClient::connect(format!("http://{}", address.0)).await.unwrap();
    end_of(client, stream::iter(said)).await
}

fn credit(events: u64, bytes: u64) -> Vec<v1::ConsumerMessage> {
    encode_to_producer(&ToProducer::Credit(Credit { events, bytes }))
}

fn disposed(first: u64, last: u64) -> Vec<v1::ConsumerMessage> {
    let dispositions = vec![v1::Disposition { first, last, state: 1, rejection: None }];
    vec![v1::ConsumerMessage { message: Some(Message::Dispositions(v1::Dispositions { dispositions })) }]
}

#[tokio::test]
async fn a_consumer_that_breaks_the_protocol_gets_its_status_and_another_goes_on() {
    let required = |name: &str| RequiredGroup { name: name.into(), dispatch: Dispatch::Keyed };
    let stage = ingest(OutputConfig {
        capacity_events: 100,
        capacity_bytes: 10_000,
        span: 1_600,
        links_max: 4,
        groups: vec![required("convert"), required("archive")],
        ..OutputConfig::default()
    });
    let address = serve(&stage, false).await;
    let tasks = TaskTracker::new();
    let connect = Connector::new(ConnectorConfig::default(), tasks);
    let archive = Subscribe { group: "archive".into(), ..subscribe() };
    let mut honest = soon(connect.connect(&address, archive)).await.unwrap();
    assert_eq!(
        honest.subscribed.window,
        Window { events: 100, bytes: 10_000 },
        "what the log holds, not what was asked for"
    );
    honest.to_producer.send(ToProducer::Credit(Credit { events: 100, bytes: 10_000 })).await.unwrap();

    let wanted = |change: fn(&mut Subscribe)| {
        let mut wanted = subscribe();
        change(&mut wanted);
        vec![encode_subscribe(&wanted)]
    };
    let after = |said: Vec<v1::ConsumerMessage>| [wanted(|_| {}), said].concat();
    let breaches = [
        (after(credit(101, 10_000)), Code::InvalidArgument),
        (after(credit(u64::MAX, u64::MAX)), Code::InvalidArgument),
        (after(disposed(1, 1)), Code::InvalidArgument),
        (after(disposed(u64::MAX, u64::MAX)), Code::InvalidArgument),
        (after(wanted(|_| {})), Code::InvalidArgument),
        (wanted(|wanted| wanted.window.events = 0), Code::InvalidArgument),
        (wanted(|wanted| wanted.pipeline = "other".into()), Code::FailedPrecondition),
        (wanted(|wanted| wanted.output = "convert".into()), Code::NotFound),
        (wanted(|wanted| wanted.group = "other".into()), Code::FailedPrecondition),
        (wanted(|wanted| wanted.versions = Versions { min: 2, max: 3 }), Code::Unimplemented),
    ];
    for (number, (said, code)) in breaches.into_iter().enumerate() {
        let status = soon(status_of(&address, said)).await;
        assert_eq!(status.code(), code, "{number}: {status}");
        assert!(!matches!(link_error(&status), LinkError::Unavailable(_)), "{number}: {status}");
        let payload = number.to_string().into_bytes().into();
        let events = vec![NewEvent { payload, key: None, identity: number as u128, trace: None }];
        let deadline = Some(Duration::from_secs(60));
        let _pending =
            stage.source().offer(Offer { events, deadline, acknowledge: Acknowledge::Published }).await.unwrap();
        loop {
            let Some(Ok(ToConsumer::Events { deliveries, .. })) = soon(honest.from_producer.recv()).await else {
                panic!("the honest link has ended");
            };
            if let Some(delivery) = deliveries.first() {
                assert_eq!(delivery.number, number as u64 + 1);
                break;
            }
        }
    }
}
