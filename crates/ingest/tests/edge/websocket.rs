//! WebSocket: protocols, acknowledgements, credit, close codes.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use jaiminho_core::Reason;
use jaiminho_event::{CloudEvent, Data};
use jaiminho_runtime::{Answer, Refusal, TestOffer};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::support::{PATIENCE, Running, accepted, rejected, start};

pub(crate) type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

const EVENT: &str = r#"{"specversion":"1.0","id":"1","source":"/d","type":"t","data":1}"#;

async fn try_connect(running: &Running, protocol: Option<&str>) -> Result<Client, Box<Error>> {
    let mut request = format!("ws://{}/ws", running.address).into_client_request().unwrap();
    if let Some(protocol) = protocol {
        request.headers_mut().insert("sec-websocket-protocol", protocol.parse().unwrap());
    }
    let (client, response) = connect_async(request).await?;
    if let Some(protocol) = protocol {
        assert!(protocol.contains(response.headers()["sec-websocket-protocol"].to_str().unwrap()));
    }
    Ok(client)
}

pub(crate) async fn connect(running: &Running, protocol: Option<&str>) -> Client {
    try_connect(running, protocol).await.unwrap()
}

pub(crate) async fn send(client: &mut Client, text: &str) {
    client.send(Message::text(text.to_owned())).await.unwrap();
}

/// The next JSON message.
async fn frame(client: &mut Client) -> Value {
    loop {
        let message = tokio::time::timeout(PATIENCE, client.next()).await.unwrap().unwrap().unwrap();
        match message {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// The next acknowledgement; credits are skipped.
pub(crate) async fn ack(client: &mut Client) -> Value {
    loop {
        let mut frame = frame(client).await;
        if let Some(ack) = frame.get_mut("ack") {
            return ack.take();
        }
        assert!(frame["credit"].is_u64(), "{frame}");
    }
}

/// Code and reason with which the server closes.
pub(crate) async fn closed(client: &mut Client) -> (u16, String) {
    loop {
        let message = tokio::time::timeout(PATIENCE, client.next()).await.unwrap();
        match message {
            Some(Ok(Message::Close(Some(frame)))) => return (frame.code.into(), frame.reason.to_string()),
            Some(Ok(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn offer(running: &mut Running) -> TestOffer {
    tokio::time::timeout(PATIENCE, running.desk.next()).await.unwrap().unwrap()
}

fn event(offer: &TestOffer, at: usize) -> CloudEvent {
    CloudEvent::decode(&offer.offer.events[at].payload).unwrap()
}

#[tokio::test]
async fn a_plain_client_sends_json_or_cloudevents() {
    let mut running = start(json!({}));
    let mut client = connect(&running, None).await;
    send(&mut client, "{\"a\":1}").await;
    let offered = offer(&mut running).await;
    assert_eq!((event(&offered, 0).ty.as_str(), offered.offer.deadline), ("p.ingest", None));
    offered.answer(vec![accepted()]);
    send(&mut client, EVENT).await;
    let offered = offer(&mut running).await;
    assert_eq!((event(&offered, 0).id.as_str(), event(&offered, 0).data), ("1", Data::Text("1".to_owned())));
    offered.answer(vec![rejected(Reason::Invalid, "no", false)]);
}

#[tokio::test]
async fn what_a_client_sent_before_it_closed_is_offered() {
    let mut running = start(json!({}));
    let mut client = connect(&running, None).await;
    for n in 0..3 {
        send(&mut client, &n.to_string()).await;
    }
    client.close(None).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let offered = offer(&mut running).await;
        let count = offered.offer.events.len();
        seen.extend((0..count).map(|at| event(&offered, at).data));
        offered.answer(vec![accepted(); count]);
    }
    assert_eq!(seen, ["0", "1", "2"].map(|text| Data::Text(text.to_owned())));
}

#[tokio::test]
async fn our_protocol_acknowledges_by_number_in_the_order_of_outcomes() {
    let mut running = start(json!({ "websocket": { "in_flight_max": 8 } }));
    let mut client = connect(&running, Some("jaiminho.v1, cloudevents.json")).await;
    assert_eq!(frame(&mut client).await, json!({ "credit": 8 }));
    send(&mut client, &format!("{{\"n\":1,\"event\":{EVENT}}}")).await;
    let (_, first) = offer(&mut running).await.take();
    send(&mut client, "{\"event\":{\"a\":1}}").await;
    let second = offer(&mut running).await;
    let id = event(&second, 0).id;
    second.answer(vec![rejected(Reason::Invalid, "no", true)]);
    let expected = json!({ "n": 2, "id": id, "status": "rejected", "reason": "invalid: no", "stored": true });
    assert_eq!(ack(&mut client).await, expected);
    first.send(vec![accepted()]);
    assert_eq!(ack(&mut client).await, json!({ "n": 1, "status": "published" }));
    send(&mut client, "{\"n\":3,\"event\":1}").await;
    let (_, third) = offer(&mut running).await.take();
    third.send(vec![Answer::Unknown]);
    assert_eq!(ack(&mut client).await["status"], json!("unknown"));
}

#[tokio::test]
async fn credit_grows_with_the_outcomes_and_more_closes_with_1002() {
    let mut running = start(json!({ "acknowledge": "accepted", "websocket": { "in_flight_max": 2 } }));
    let mut client = connect(&running, Some("jaiminho.v1")).await;
    assert_eq!(frame(&mut client).await, json!({ "credit": 2 }));
    send(&mut client, "{\"event\":1}").await;
    offer(&mut running).await.answer(vec![accepted()]);
    assert_eq!(frame(&mut client).await["ack"]["status"], json!("accepted"));
    assert_eq!(frame(&mut client).await, json!({ "credit": 3 }));
    for _ in 0..3 {
        send(&mut client, "{\"event\":1}").await;
    }
    let mut unanswered = Vec::new();
    let (code, reason) = loop {
        tokio::select! {
            closed = closed(&mut client) => break closed,
            offer = running.desk.next() => unanswered.push(offer.unwrap().take()),
        }
    };
    assert_eq!((code, reason.as_str()), (1002, "event 4 is beyond the credit of 3"));
}

#[tokio::test]
async fn a_wrong_number_closes_with_1002_and_a_bad_frame_with_1007() {
    let running = start(json!({}));
    for (text, code) in [
        ("{\"n\":2,\"event\":1}", 1002),
        ("{", 1007),
        ("{\"n\":1}", 1007),
        ("{\"event\":1,\"more\":2}", 1007),
        ("1", 1007),
        ("{\"event\":}", 1007),
        ("", 1007),
    ] {
        let mut client = connect(&running, Some("jaiminho.v1")).await;
        send(&mut client, text).await;
        assert_eq!(closed(&mut client).await.0, code, "{text}");
    }
}

#[tokio::test]
async fn our_protocol_rejects_what_is_no_event_and_stays_open() {
    let mut running = start(json!({ "limits": { "event_bytes": 256 } }));
    let mut client = connect(&running, Some("jaiminho.v1")).await;
    send(&mut client, "{\"event\":{\"specversion\":\"1.0\"}}").await;
    let told = ack(&mut client).await;
    assert_eq!((&told["n"], &told["status"], &told["stored"]), (&json!(1), &json!("rejected"), &json!(false)));
    assert!(told["reason"].as_str().unwrap().starts_with("malformed: "), "{told}");
    send(&mut client, &format!("{{\"n\":2,\"event\":\"{}\"}}", "x".repeat(260))).await;
    assert!(ack(&mut client).await["reason"].as_str().unwrap().starts_with("too_large: "));
    send(&mut client, "{\"n\":3,\"event\":1}").await;
    offer(&mut running).await.answer(vec![accepted()]);
    assert_eq!(ack(&mut client).await["n"], json!(3));
}

#[tokio::test]
async fn what_arrives_during_an_offer_is_offered_together_in_order() {
    let mut running = start(json!({}));
    let mut client = connect(&running, Some("jaiminho.v1")).await;
    send(&mut client, "{\"event\":0}").await;
    let first = offer(&mut running).await;
    for n in 1..20 {
        send(&mut client, &format!("{{\"event\":{n}}}")).await;
    }
    // A ping's answer says that all before it was read.
    client.send(Message::Ping(bytes::Bytes::from_static(b"x"))).await.unwrap();
    loop {
        let message = tokio::time::timeout(PATIENCE, client.next()).await.unwrap().unwrap().unwrap();
        if matches!(&message, Message::Pong(data) if data.as_ref() == b"x") {
            break;
        }
    }
    first.answer(vec![accepted()]);
    let mut next = 1;
    while next < 20 {
        let offered = offer(&mut running).await;
        let count = offered.offer.events.len();
        assert!(count > 1);
        for at in 0..count {
            assert_eq!(event(&offered, at).data, Data::Text(next.to_string()));
            next += 1;
        }
        offered.answer(vec![accepted(); count]);
    }
    for _ in 0..20 {
        ack(&mut client).await;
    }
}

#[tokio::test]
async fn a_refused_offer_is_made_again_and_what_never_fits_is_rejected_alone() {
    let mut running = start(json!({}));
    let mut client = connect(&running, Some("jaiminho.v1")).await;
    send(&mut client, "{\"event\":1}").await;
    let full = || Refusal::Overloaded { cause: "log full".to_owned(), retry_after: Duration::from_secs(1) };
    offer(&mut running).await.refuse(full());
    offer(&mut running).await.refuse(Refusal::NeverFits { events: 1, bytes: 1 });
    assert_eq!(
        ack(&mut client).await,
        json!({ "n": 1, "status": "rejected", "reason": "too_large: it can never fit the log", "stored": false })
    );
    send(&mut client, "{\"event\":2}").await;
    offer(&mut running).await.answer(vec![accepted()]);
    assert_eq!(ack(&mut client).await["n"], json!(2));
}

#[tokio::test]
async fn a_plain_client_is_held_back_then_closed_with_1013() {
    let mut running = start(json!({ "websocket": { "in_flight_max": 2, "hold_max": "1s" } }));
    let mut client = connect(&running, None).await;
    for n in 0..5 {
        send(&mut client, &n.to_string()).await;
    }
    let mut held = Vec::new();
    let mut taken = 0;
    while taken < 2 {
        let (offer, answer) = offer(&mut running).await.take();
        taken += offer.events.len();
        held.push((offer.events.len(), answer));
    }
    assert_eq!(taken, 2);
    assert_eq!(closed(&mut client).await.0, 1013);
}

#[tokio::test]
async fn cloudevents_json_takes_nothing_else() {
    let mut running = start(json!({}));
    let mut client = connect(&running, Some("cloudevents.json")).await;
    send(&mut client, EVENT).await;
    offer(&mut running).await.answer(vec![accepted()]);
    send(&mut client, "{\"a\":1}").await;
    let (code, reason) = closed(&mut client).await;
    assert_eq!(code, 1007);
    assert!(reason.contains("specversion"), "{reason}");
}

#[tokio::test]
async fn bad_messages_close_with_their_codes() {
    let running = start(json!({ "limits": { "event_bytes": 256 } }));
    let big = |bytes: usize| Message::text(format!("\"{}\"", "x".repeat(bytes)));
    let not_utf8 = {
        use tokio_tungstenite::tungstenite::protocol::frame::{
            Frame,
            coding::{Data as Code, OpCode},
        };
        Message::Frame(Frame::message(vec![0xffu8, 0xfe], OpCode::Data(Code::Text), true))
    };
    for (message, code) in [
        (Message::binary(vec![1u8]), 1003),
        (Message::text("{"), 1007),
        (not_utf8, 1007),
        (big(280), 1009),
        (big(100_000), 1009),
    ] {
        let mut client = connect(&running, None).await;
        client.send(message).await.unwrap();
        assert_eq!(closed(&mut client).await.0, code);
    }
}

#[tokio::test]
async fn a_silent_client_is_closed_and_one_that_answers_pings_is_not() {
    let mut running = start(json!({ "websocket": { "ping_interval": "200ms", "idle_timeout": "2s" } }));
    let mut silent = connect(&running, None).await;
    let mut client = connect(&running, Some("jaiminho.v1")).await;
    // Its pongs go out as it reads.
    let reading =
        tokio::time::timeout(Duration::from_secs(3), async { while let Some(Ok(_)) = client.next().await {} }).await;
    assert!(reading.is_err(), "closed though it answered");
    send(&mut client, "{\"event\":1}").await;
    offer(&mut running).await.answer(vec![accepted()]);
    assert_eq!(ack(&mut client).await["n"], json!(1));
    assert_eq!(closed(&mut silent).await.0, 1001);
}

#[tokio::test]
async fn a_drain_answers_what_it_took_then_closes_with_1001() {
    let mut running = start(json!({}));
    let mut client = connect(&running, Some("jaiminho.v1")).await;
    send(&mut client, "{\"event\":1}").await;
    let (_, answer) = offer(&mut running).await.take();
    running.desk.drain();
    let mut idle = connect_or_none(&running).await;
    answer.send(vec![accepted()]);
    assert_eq!(ack(&mut client).await["n"], json!(1));
    assert_eq!(closed(&mut client).await.0, 1001);
    if let Some(idle) = &mut idle {
        assert_eq!(closed(idle).await.0, 1001);
    }
    tokio::time::timeout(PATIENCE, running.task).await.unwrap().unwrap().unwrap();
}

/// The drain may be faster.
async fn connect_or_none(running: &Running) -> Option<Client> {
    try_connect(running, None).await.ok()
}

#[tokio::test]
async fn upgrades_are_refused_without_token_room_or_common_protocol() {
    let tokens = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(tokens.path(), "secret").unwrap();
    let status = |error: Box<Error>| match *error {
        Error::Http(response) => response.status().as_u16(),
        other => panic!("{other}"),
    };
    let running = start(json!({ "tokens_file": tokens.path() }));
    assert_eq!(status(try_connect(&running, None).await.unwrap_err()), 401);
    let with_token = connect_async(format!("ws://{}/ws?access_token=secret", running.address)).await;
    assert!(with_token.is_ok());
    let running = start(json!({ "limits": { "sockets": 1 } }));
    assert_eq!(status(try_connect(&running, Some("mqtt")).await.unwrap_err()), 400);
    let _first = connect(&running, None).await;
    assert_eq!(status(try_connect(&running, None).await.unwrap_err()), 503);
}

#[tokio::test]
async fn random_messages_close_the_socket_and_nothing_else() {
    let mut running = start(json!({}));
    let mut seed = 7u64;
    for round in 0..60 {
        let mut client = connect(&running, [None, Some("jaiminho.v1"), Some("cloudevents.json")][round % 3]).await;
        let bytes: Vec<u8> = (0..40)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (seed >> 56) as u8
            })
            .collect();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let message = if round % 4 == 0 { Message::binary(bytes) } else { Message::text(text) };
        client.send(message).await.unwrap();
        assert!(matches!(closed(&mut client).await.0, 1003 | 1007));
    }
    let mut client = connect(&running, None).await;
    send(&mut client, "1").await;
    offer(&mut running).await.answer(vec![accepted()]);
}
