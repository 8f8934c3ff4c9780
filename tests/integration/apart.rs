//! The stages as processes of their own, against a real Apache Kafka.

use std::time::Duration;

use jaiminho_tests::{
    Client, Cluster, Kafka, Ledger, Numbered, Reply, Topic, WebSocket, eventually, free_port, skip_kafka,
};

use crate::pipelines::{ThreeStages, three_stages};

const STAGES: [(&str, usize); 4] = [("ingest", 1), ("convert", 2), ("publish", 2), ("dead", 1)];

fn cluster(kafka: &Kafka, topic: &str, http_port: u16) -> Cluster {
    Cluster::new(topic, &STAGES, |at| {
        three_stages(&ThreeStages { http_port, at, bootstrap: &kafka.bootstrap(), topic })
    })
}

fn numbered(keys: u64, each: u64) -> Vec<Numbered> {
    let of_key = |key: u64| (1..=each).map(move |number| Numbered { key: format!("k{key}"), number });
    (0..keys).flat_map(of_key).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn stages_that_start_in_reverse_order_publish_what_is_acknowledged() {
    if skip_kafka() {
        return;
    }
    let kafka = Kafka::shared().await;
    let port = free_port();
    let mut cluster = cluster(&kafka, "apart", port);
    for (stage, count) in STAGES.iter().rev() {
        (0..*count).for_each(|index| cluster.start(stage, index));
    }
    cluster.ready().await;
    cluster.members("ingest", 0, "convert", 2.0).await;

    let ledger = Ledger::default();
    let client = Client::new(port);
    let events = numbered(40, 10);
    for body in events.chunks(50) {
        let answer = client.events(body).await.expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text);
        ledger.acknowledge(body);
    }
    let topic = Topic::read(&kafka.bootstrap(), "apart").await;
    let verdict = topic.check(&ledger);
    assert_eq!(verdict.missing, []);
    assert_eq!(verdict.disordered, []);
    assert_eq!(verdict.distinct, events.len() as u64);
    let record = &topic.records[0];
    assert_eq!(record.key.as_deref(), record.json()["key"].as_str(), "the record's key is the event's");
    assert_eq!(record.json()["converted"], true);
    assert_eq!(record.headers["ce_specversion"], "1.0");
    cluster.assert_running();

    let mut shares = Vec::new();
    for index in 0..2 {
        shares.push(cluster.instance("convert", index).metric("jaiminho_deliveries_total", "").await);
    }
    assert!(shares.iter().all(|share| *share > 0.0), "both converters work: {shares:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_client_is_told_when_the_broker_has_its_events() {
    if skip_kafka() {
        return;
    }
    let kafka = Kafka::shared().await;
    let port = free_port();
    let mut cluster = cluster(&kafka, "apart-ws", port);
    for (stage, count) in STAGES {
        (0..count).for_each(|index| cluster.start(stage, index));
    }
    cluster.ready().await;

    let ledger = Ledger::default();
    let mut socket = WebSocket::connect(port, Some("jaiminho.v1")).await.expect("a connection");
    assert_eq!(socket.protocol(), Some("jaiminho.v1"));
    let mut unsent = numbered(1, 50).into_iter();
    let mut sent = Vec::new();
    while ledger.count() < 50 {
        while socket.credit() > 0
            && let Some(event) = unsent.next()
        {
            socket.send(&event.cloud_event()).await.expect("room for a message");
            sent.push(event);
        }
        match socket.reply(Duration::from_secs(20)).await.expect("a reply") {
            Reply::Credit => {}
            Reply::Published(number) => {
                let index = usize::try_from(number).expect("a number") - 1;
                ledger.acknowledge(&sent[index..=index]);
            }
            Reply::Rejected(number, answer) => panic!("{number}: {answer}"),
        }
    }
    socket.close().await;
    let verdict = Topic::read(&kafka.bootstrap(), "apart-ws").await.check(&ledger);
    assert_eq!((verdict.missing, verdict.disordered, verdict.distinct), (vec![], vec![], 50));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_a_stage_rejects_is_answered_with_422_and_stored_once() {
    if skip_kafka() {
        return;
    }
    let kafka = Kafka::shared().await;
    let port = free_port();
    let mut cluster = Cluster::new("apart-reject", &STAGES, |at| {
        let file =
            three_stages(&ThreeStages { http_port: port, at, bootstrap: &kafka.bootstrap(), topic: "apart-reject" });
        file.replace(".data.converted = true", r#"if .data.number == 2 { abort \"two is not liked\" }"#)
    });
    for (stage, _) in STAGES {
        cluster.start(stage, 0);
    }
    cluster.ready().await;

    let client = Client::new(port);
    let answer = client.events(&numbered(1, 3)).await.expect("an answer");
    assert_eq!(answer.status, 207, "{}", answer.text);
    let unpublished = answer.unpublished();
    assert_eq!(unpublished.len(), 1, "{}", answer.text);
    let (index, status, reason) = &unpublished[0];
    assert_eq!((*index, status.as_str()), (1, "rejected"));
    assert!(reason.contains("two is not liked"), "{reason}");
    assert_eq!(answer.body["events"][0]["stored"], true, "{}", answer.text);

    let answer = client.events(&[Numbered { key: "k0".to_owned(), number: 2 }]).await.expect("an answer");
    assert_eq!(answer.status, 422, "{}", answer.text);
    let dead = Topic::read(&kafka.bootstrap(), "apart-reject.dead").await;
    assert_eq!(dead.records.len(), 2, "one dead letter a rejection");
    let published = Topic::read(&kafka.bootstrap(), "apart-reject").await;
    assert_eq!(published.records.len(), 2, "the others are published");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_that_joins_later_takes_its_share_and_events_wait_for_an_absent_one() {
    if skip_kafka() {
        return;
    }
    let kafka = Kafka::shared().await;
    let port = free_port();
    let mut cluster = cluster(&kafka, "apart-join", port);
    for stage in ["ingest", "publish", "dead"] {
        cluster.start(stage, 0);
    }
    eventually("the edge listens", Duration::from_secs(60), || async {
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.map(drop).map_err(|error| error.to_string())
    })
    .await;
    let client = Client::new(port);
    let waiting = tokio::spawn(async move {
        loop {
            let answer = client.events(&numbered(20, 5)).await.expect("an answer");
            match answer.status {
                200 => return,
                429 | 503 | 504 => tokio::time::sleep(answer.retry_after().unwrap_or_default()).await,
                status => panic!("{status}: {}", answer.text),
            }
        }
    });
    cluster.start("convert", 0);
    cluster.start("convert", 1);
    cluster.ready().await;
    jaiminho_tests::within("the answer to what waited", Duration::from_secs(60), waiting).await.expect("published");
    let ledger = Ledger::default();
    ledger.acknowledge(&numbered(20, 5));
    let verdict = Topic::read(&kafka.bootstrap(), "apart-join").await.check(&ledger);
    assert_eq!((verdict.missing, verdict.disordered), (vec![], vec![]));
}
