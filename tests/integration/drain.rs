//! SIGTERM: take nothing new, finish what is in flight, leave.

use std::time::Duration;

use jaiminho_tests::{
    Client, Cluster, Kafka, Ledger, Load, LoadConfig, Numbered, Topic, eventually, free_port, skip_kafka,
};

use crate::pipelines::{ThreeStages, three_stages};

const STAGES: [(&str, usize); 4] = [("ingest", 1), ("convert", 2), ("publish", 2), ("dead", 1)];

async fn running(kafka: &Kafka, topic: &str, port: u16, drain_delay: &str) -> Cluster {
    let mut cluster = Cluster::new(topic, &STAGES, |at| {
        three_stages(&ThreeStages { http_port: port, at, bootstrap: &kafka.bootstrap(), topic })
            .replace("drain_delay: 1s", &format!("drain_delay: {drain_delay}"))
    });
    for (stage, count) in STAGES {
        (0..count).for_each(|index| cluster.start(stage, index));
    }
    cluster.ready().await;
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_that_drains_under_load_leaves_no_duplicate_and_loses_nothing() {
    if skip_kafka() {
        return;
    }
    let kafka = Kafka::shared().await;
    let port = free_port();
    let mut cluster = running(&kafka, "drain", port, "1s").await;
    let ledger = Ledger::default();
    let load = Load::start(&LoadConfig::new(vec![port], 500.0), &ledger);
    for stage in ["convert", "publish"] {
        let before = ledger.count();
        eventually("events before the drain", Duration::from_secs(30), || async {
            let more = ledger.count() - before;
            if more > 500 { Ok(()) } else { Err(format!("{more}")) }
        })
        .await;
        cluster.drain(stage, 1).await;
    }
    let before = ledger.count();
    eventually("events after the drains", Duration::from_secs(30), || async {
        let more = ledger.count() - before;
        if more > 500 { Ok(()) } else { Err(format!("{more}")) }
    })
    .await;
    load.finish(Duration::from_secs(60)).await;
    cluster.assert_running();

    assert_eq!(ledger.rejected(), []);
    let verdict = Topic::read(&kafka.bootstrap(), "drain").await.check(&ledger);
    assert_eq!((verdict.missing, verdict.disordered), (vec![], vec![]));
    assert!(
        verdict.duplicates <= ledger.repeats(),
        "{} twice, clients repeated {}",
        verdict.duplicates,
        ledger.repeats()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_edge_serves_on_at_first_then_ends_with_success() {
    if skip_kafka() {
        return;
    }
    let kafka = Kafka::shared().await;
    let port = free_port();
    let mut cluster = running(&kafka, "drain-edge", port, "8s").await;
    let client = Client::new(port);
    let event = |number| [Numbered { key: "k".to_owned(), number }];
    assert_eq!(client.events(&event(1)).await.expect("an answer").status, 200);

    let ingest = cluster.instance("ingest", 0);
    ingest.child.terminate();
    let admin = ingest.place.admin_url("/readyz");
    eventually("readiness goes", Duration::from_secs(30), || async {
        let status = reqwest::get(&admin).await.map_err(|error| error.to_string())?.status();
        if status == 503 { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    let answer = client.events(&event(2)).await.expect("it serves on");
    assert_eq!(answer.status, 200, "{}", answer.text);
    cluster.drained("ingest", 0).await;
}
