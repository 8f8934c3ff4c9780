//! Links that are cut without a word: packets vanish, in one direction and in both. A converter runs behind a cable
//! of its own; what it held is delivered again over the links that are left or that come back.

use std::collections::BTreeMap;
use std::time::Duration;

use jaiminho_tests::{
    Cluster, Direction, Kafka, Ledger, Load, LoadConfig, Namespace, Place, Topic, eventually, free_port, skip_kafka,
};

use crate::pipelines::{ThreeStages, three_stages};

/// Longer than five missed heartbeats.
const CUT: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_cut_without_a_word_loses_nothing() {
    if skip_kafka() {
        return;
    }
    if !Namespace::is_allowed() {
        eprintln!("left out: network namespaces need root");
        return;
    }
    let kafka = Kafka::shared().await;
    let namespace = Namespace::new().await;
    let port = free_port();
    let on_cable =
        |host: std::net::Ipv4Addr, holder| Place { host: host.to_string(), namespace: holder, ..Place::local() };
    let places = BTreeMap::from([
        ("ingest".to_owned(), vec![on_cable(namespace.outside(), None)]),
        ("convert".to_owned(), vec![on_cable(namespace.inside(), Some(namespace.holder()))]),
        ("publish".to_owned(), vec![on_cable(namespace.outside(), None)]),
        ("dead".to_owned(), vec![Place::local()]),
    ]);
    let stages: Vec<_> = places.keys().cloned().collect();
    let mut cluster = Cluster::at("cut", places, |at| {
        three_stages(&ThreeStages { http_port: port, at, bootstrap: &kafka.bootstrap(), topic: "cut" })
    });
    stages.iter().for_each(|stage| cluster.start(stage, 0));
    cluster.ready().await;

    let ledger = Ledger::default();
    let config = LoadConfig::new(vec![port], 300.0);
    let load = Load::start(&config, &ledger);
    let mut breaks = 0;
    flowing(&ledger, "the start").await;
    for direction in [Direction::Both, Direction::In, Direction::Out] {
        namespace.cut(direction);
        tokio::time::sleep(CUT).await;
        namespace.heal(direction);
        // The links on both sides of the converter.
        breaks += 2;
        flowing(&ledger, &format!("a cut, {direction:?}")).await;
    }
    load.finish(Duration::from_secs(60)).await;
    cluster.assert_running();

    assert_eq!(ledger.rejected(), []);
    let verdict = Topic::read(&kafka.bootstrap(), "cut").await.check(&ledger);
    assert_eq!((verdict.missing, verdict.disordered, verdict.foreign_ids), (vec![], vec![], vec![]));
    assert!(verdict.duplicates <= breaks * config.in_flight_max() + ledger.repeats(), "{}", verdict.duplicates);
}

async fn flowing(ledger: &Ledger, after: &str) {
    let before = ledger.count();
    eventually(&format!("events flow after {after}"), Duration::from_secs(60), || async {
        let more = ledger.count() - before;
        if more > 500 { Ok(()) } else { Err(format!("only {more}")) }
    })
    .await;
}
