//! Pipeline files of the tests.

/// What [`three_stages`] is made of.
pub(crate) struct ThreeStages<'a> {
    pub(crate) http_port: u16,
    /// `at:` of each stage.
    pub(crate) at: &'a dyn Fn(&str) -> String,
    pub(crate) bootstrap: &'a str,
    pub(crate) topic: &'a str,
}

/// HTTP to Kafka through a conversion that marks each event; dead letters go to a topic of their own.
pub(crate) fn three_stages(of: &ThreeStages<'_>) -> String {
    let ThreeStages { http_port, at, bootstrap, topic } = of;
    format!(
        r#"version: 1
pipeline: {topic}
stages:
  ingest:
    at: {ingest}
    key: "{{{{data.key}}}}"
    source:
      drain_delay: 1s
      http: {{ listen: "127.0.0.1:{http_port}", path: /events, deadline: 45s }}
      websocket: {{ path: /ws }}
  convert:
    at: {convert}
    subscribe_to: [ingest]
    transform: {{ vrl: ".data.converted = true" }}
  publish:
    at: {publish}
    subscribe_to: [convert]
    sink: {{ kafka: {{ bootstrap_servers: "{bootstrap}", topic: "{topic}" }} }}
  dead:
    subscribe_to: [convert.dead_letter, publish.dead_letter]
    sink: {{ kafka: {{ bootstrap_servers: "{bootstrap}", topic: "{topic}.dead" }} }}
"#,
        ingest = at("ingest"),
        convert = at("convert"),
        publish = at("publish"),
    )
}
