//! Adding a stage to a pipeline file.

use jaiminho_tests::{Client, Cluster, Kafka, Ledger, Numbered, Topic, free_port, skip_kafka};

use crate::pipelines::{ThreeStages, three_stages};

/// As in the README; `at` is an address of the test instead of a DNS name.
const FILTER: &str = r#"  only_even:
    at: AT
    subscribe_to: [ingest]
    transform: { filter: "mod(to_int!(.data.number), 2) == 0" }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn four_lines_add_a_filter_and_the_stages_around_it_only_learn_whom_to_subscribe_to() {
    if skip_kafka() {
        return;
    }
    let kafka = Kafka::shared().await;
    let port = free_port();
    let stages = [("ingest", 1), ("only_even", 1), ("convert", 1), ("publish", 1), ("dead", 1)];
    let mut cluster = Cluster::new("walk", &stages, |at| {
        let file = three_stages(&ThreeStages { http_port: port, at, bootstrap: &kafka.bootstrap(), topic: "walk" });
        let filter = FILTER.replace("AT", &at("only_even"));
        let file = file.replace("  convert:\n", &format!("{filter}  convert:\n"));
        let from = format!("    at: {}\n    subscribe_to: [ingest]\n    transform: {{ vrl", at("convert"));
        assert!(file.contains(&from), "{file}");
        file.replace(&from, &from.replace("[ingest]", "[only_even]"))
            .replace("[convert.dead_letter", "[only_even.dead_letter, convert.dead_letter")
    });
    for (stage, _) in stages {
        cluster.start(stage, 0);
    }
    cluster.ready().await;

    let events: Vec<_> = (1..=20).map(|number| Numbered { key: "k".to_owned(), number }).collect();
    let answer = Client::new(port).events(&events).await.expect("an answer");
    assert_eq!(answer.status, 200, "a filtered event is done: {}", answer.text);
    let verdict = Topic::read(&kafka.bootstrap(), "walk").await.check(&Ledger::default());
    assert_eq!((verdict.distinct, verdict.duplicates), (10, 0));
}
