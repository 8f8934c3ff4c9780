//! The Inspect service beside a real stage: what it tells, and who asks too much.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use jaiminho_core::{OutputConfig, RequiredGroup};
use jaiminho_link::{About, AskError, Asker, Server, ServerConfig};
use jaiminho_runtime::{Address, StageHandle, Usage};
use support::{SOON, ingest, serve, soon};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// A source whose one group has no member.
fn alone() -> StageHandle {
    let convert = RequiredGroup { name: "convert".into(), dispatch: Default::default() };
    ingest(OutputConfig { groups: vec![convert], ..OutputConfig::default() })
}

#[tokio::test]
async fn an_asker_is_told_what_the_stage_tells_and_of_its_process() {
    let stage = alone();
    stage.source().usages().limit("connections", 4, &Arc::new(Semaphore::new(3)));
    let mut asker = Asker::new(serve(&stage, true).await, None);
    let told = asker.ask(SOON).await.unwrap();
    let seen = stage.inspect().await.unwrap();
    assert_eq!((told.process.version.as_str(), told.process.commit.as_str()), ("1.2.3", "abc"));
    assert_eq!(told.process.memory_bytes_max, Some(1 << 30));
    assert!(told.process.resident_bytes > told.process.program_bytes, "{:?}", told.process);
    assert!(told.process.program_bytes > 1 << 20, "{:?}", told.process);
    assert_eq!(told.process.cpus, Some(2.0));
    assert_eq!(told.stages.len(), 1);
    let first = &told.stages[0];
    assert_eq!(first.usages, [Usage { name: "connections".into(), used: 1, max: 4 }]);
    assert_eq!((&first.pipeline, &first.stage, &first.instance), (&seen.pipeline, &seen.stage, &seen.instance));
    assert_eq!((&first.outputs, first.role), (&seen.outputs, seen.role));
}

#[tokio::test]
async fn however_often_it_is_asked_the_stage_is_asked_ten_times_a_second_and_the_rest_is_refused() {
    let stage = alone();
    let began = Instant::now();
    let address = serve(&stage, true).await;
    let mut asker = Asker::new(address, None);
    let (mut looks, mut answered, mut refused) = (std::collections::BTreeSet::new(), 0, 0);
    for _ in 0..300 {
        match asker.ask(SOON).await {
            Ok(told) => {
                answered += 1;
                looks.insert(told.stages[0].up);
            }
            Err(AskError::Busy(text)) => {
                refused += 1;
                assert!(text.contains("more than 50 times"), "{text}");
            }
            Err(other) => panic!("{other}"),
        }
    }
    let seconds = began.elapsed().as_secs() as usize + 1;
    assert!(looks.len() <= 10 * seconds && answered <= 50 * seconds, "{looks:?} {answered} in {seconds} s");
    assert_eq!(answered + refused, 300);
}

#[tokio::test]
async fn many_at_once_are_answered_one_after_the_other() {
    let stage = alone();
    let address = serve(&stage, true).await;
    let asked = join_all((0..20).map(|_| {
        let mut asker = Asker::new(address.clone(), None);
        async move {
            loop {
                let asked = Instant::now();
                match asker.ask(SOON).await {
                    // It has waited for its turn, but no longer than a second.
                    Err(AskError::Busy(_)) if asked.elapsed() >= Duration::from_millis(900) => {}
                    told => break told,
                }
            }
        }
    }));
    let asked = tokio::time::timeout(SOON, asked).await.expect("all have their turn");
    assert!(asked.iter().all(Result::is_ok), "{asked:?}");
}

#[tokio::test]
async fn who_does_not_read_the_answer_is_cut_off_and_others_are_answered_then() {
    let stage = alone();
    let address = serve(&stage, true).await;
    let mut deaf = Vec::new();
    for _ in 0..2 {
        let mut client = h2::client::Builder::new();
        client.initial_window_size(0);
        let tcp = TcpStream::connect(&address.0).await.unwrap();
        let (mut h2, connection) = client.handshake::<_, Bytes>(tcp).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = http::Request::post(format!("http://{}/jaiminho.v1.Inspect/Inspect", address.0))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .unwrap();
        let (response, mut send) = h2.send_request(request, false).unwrap();
        send.send_data(Bytes::from_static(&[0; 5]), true).unwrap();
        deaf.push((soon(response).await.unwrap(), connection, h2));
    }
    let mut asker = Asker::new(address, None);
    let refused = asker.ask(SOON).await;
    assert!(matches!(&refused, Err(AskError::Busy(text)) if text.contains("more than 2 ask at once")), "{refused:?}");
    for (_, connection, _) in deaf {
        let ended = tokio::time::timeout(Duration::from_secs(20), connection).await;
        assert!(ended.is_ok(), "its connection is closed");
    }
    asker.ask(SOON).await.unwrap();
}

#[tokio::test]
async fn what_is_no_stage_or_tells_nothing_is_told_apart() {
    let stage = alone();
    let foreign = Asker::new(serve(&stage, false).await, None).ask(SOON).await;
    assert_eq!(foreign, Err(AskError::Foreign));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = Address(listener.local_addr().unwrap().to_string());
    let late = Asker::new(silent.clone(), None).ask(Duration::from_millis(200)).await;
    assert_eq!(late, Err(AskError::NoAnswer("no answer within 200 ms".into())));
    drop(listener);
    let refused = Asker::new(silent, None).ask(SOON).await;
    assert_eq!(refused, Err(AskError::NoAnswer("connection refused".into())));
}

#[tokio::test]
async fn a_connection_that_was_lost_is_made_again() {
    let stage = alone();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut asker = Asker::new(Address(address.to_string()), None);
    let mut listener = Some(listener);
    for _ in 0..2 {
        let listening = match listener.take() {
            Some(listening) => listening,
            None => TcpListener::bind(address).await.unwrap(),
        };
        let stop = CancellationToken::new();
        let server = Server::new(Arc::new(stage.clone()), ServerConfig::default()).await.unwrap();
        let server = server.with_inspection(vec![stage.clone()], About::default());
        let running = tokio::spawn(server.run(listening, stop.clone()));
        asker.ask(SOON).await.unwrap();
        stop.cancel();
        soon(running).await.unwrap().unwrap();
        assert_eq!(asker.ask(SOON).await, Err(AskError::NoAnswer("connection refused".into())));
    }
}
