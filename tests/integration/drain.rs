//! SIGTERM: take nothing new, finish what is in flight, leave.

use std::time::Duration;

use jaiminho_tests::{
    Client, Cluster, Kafka, Ledger, Load, LoadConfig, Numbered, Topic, eventually, free_port, skip_kafka,
};

use crate::pipelines::{ThreeStages, three_stages};

const STAGES: [(&str, usize); 4] = [("ingest", 1), ("convert", 2), ("publish", 2), ("dead", 1)];

async fn running(kafka: &Kafka, topic: &str, port: u16) -> Cluster {
    let mut cluster = Cluster::new(topic, &STAGES, |at| {
        three_stages(&ThreeStages { http_port: port, at, bootstrap: &kafka.bootstrap(), topic })
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
    let mut cluster = running(&kafka, "drain", port).await;
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
    assert!(verdict.duplicates <= ledger.repeats(), "{} more than clients repeated", verdict.duplicates);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_edge_serves_on_at_first_then_ends_with_success() {
    if skip_kafka() {
        return;
    }
    let kafka = Kafka::shared().await;
    let port = free_port();
    let mut cluster = running(&kafka, "drain-edge", port).await;
    let client = Client::new(port);
    let event = |number| [Numbered { key: "k".to_owned(), number }];
    assert_eq!(client.events(&event(1)).await.expect("an answer").status, 200);

    let ingest = cluster.instance("ingest", 0);
    ingest.child.terminate();
    let admin = ingest.place.admin_url("/readyz");
    eventually("readiness goes", Duration::from_secs(30), || async {
        match reqwest::get(&admin).await {
            Ok(answer) if answer.status() != 503 => Err(answer.status().to_string()),
            // It may be gone by now.
            Ok(_) | Err(_) => Ok(()),
        }
    })
    .await;
    let answer = client.events(&event(2)).await;
    // It serves on for a second; a slow machine may ask later than that.
    if let Ok(answer) = answer {
        assert!([200, 503].contains(&answer.status), "{}", answer.text);
    }
    cluster.drained("ingest", 0).await;
}
