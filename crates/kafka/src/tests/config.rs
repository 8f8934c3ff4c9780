//! What client configuration follows from a sink's, and what is refused.

use std::collections::BTreeMap;

use jaiminho_runtime::Settler;
use serde_json::{Value as Json, json};

use crate::{KafkaSink, SinkConfig, client_config};

fn parse(json: Json) -> SinkConfig {
    serde_json::from_value(json).unwrap()
}

fn error(json: Json) -> String {
    let config = parse(json);
    let checked = config.check()[0].to_string();
    let made = KafkaSink::new(&config, "publish", Settler::default()).unwrap_err().to_string();
    assert_eq!(checked, made, "check and start disagree");
    checked
}

/// The expected properties beside those that every sink has.
fn assert_client(config: &SinkConfig, expected: &[(&str, &str)]) {
    const ALWAYS: &[(&str, &str)] = &[
        ("acks", "all"),
        ("enable.gapless.guarantee", "true"),
        ("enable.idempotence", "true"),
        ("message.timeout.ms", "0"),
        ("partitioner", "murmur2_random"),
        ("linger.ms", "1"),
        ("queue.buffering.max.kbytes", "65536"),
        ("queue.buffering.max.messages", "100000"),
        ("reconnect.backoff.max.ms", "1000"),
        ("socket.keepalive.enable", "true"),
    ];
    let expected: BTreeMap<String, String> =
        ALWAYS.iter().chain(expected).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    assert_eq!(client_config(config).unwrap(), expected);
    KafkaSink::new(config, "publish", Settler::default()).expect("librdkafka takes it");
}

const HUBS: [(&str, &str); 7] = [
    ("bootstrap.servers", "eugenio.servicebus.windows.net:9093"),
    ("connections.max.idle.ms", "180000"),
    ("message.max.bytes", "1000000"),
    ("metadata.max.age.ms", "180000"),
    ("request.timeout.ms", "60000"),
    ("security.protocol", "sasl_ssl"),
    ("topic.metadata.refresh.interval.ms", "180000"),
];

#[test]
fn a_plain_sink_is_idempotent_and_waits_for_ever() {
    let config = parse(json!({"bootstrap_servers": "a:9092", "topic": "t"}));
    assert_client(&config, &[("bootstrap.servers", "a:9092"), ("security.protocol", "plaintext")]);
}

#[test]
fn other_properties_reach_librdkafka() {
    let config = parse(json!({"bootstrap_servers": "a:9092", "topic": "t",
        "properties": {"compression.type": "zstd", "linger.ms": 7, "socket.nagle.disable": true}}));
    assert_client(
        &config,
        &[
            ("bootstrap.servers", "a:9092"),
            ("compression.type", "zstd"),
            ("linger.ms", "7"),
            ("security.protocol", "plaintext"),
            ("socket.nagle.disable", "true"),
        ],
    );
}

#[test]
fn sasl_reads_its_password_from_a_file_and_tls_encrypts() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    std::fs::write(&file, "s3cret\n").unwrap();
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let config = parse(json!({"bootstrap_servers": "a:9092", "topic": "t", "tls": {},
            "sasl": {"mechanism": mechanism, "username": "u", "password": {"file": file}}}));
        assert_client(
            &config,
            &[
                ("bootstrap.servers", "a:9092"),
                ("sasl.mechanism", mechanism),
                ("sasl.password", "s3cret"),
                ("sasl.username", "u"),
                ("security.protocol", "sasl_ssl"),
            ],
        );
    }
}

/// Fails where librdkafka was built without OAuth/OIDC, as some sets of features silently do.
#[test]
fn this_build_makes_an_oidc_client() {
    let config = parse(json!({"bootstrap_servers": "a:9092", "topic": "t", "tls": {},
        "sasl": {"mechanism": "OAUTHBEARER", "method": "oidc", "client_id": "me", "client_secret": "s3cret",
                 "scope": "kafka", "token_endpoint_url": "https://idp.example/token"}}));
    assert_client(
        &config,
        &[
            ("bootstrap.servers", "a:9092"),
            ("sasl.mechanism", "OAUTHBEARER"),
            ("sasl.oauthbearer.client.id", "me"),
            ("sasl.oauthbearer.client.secret", "s3cret"),
            ("sasl.oauthbearer.method", "oidc"),
            ("sasl.oauthbearer.scope", "kafka"),
            ("sasl.oauthbearer.token.endpoint.url", "https://idp.example/token"),
            ("security.protocol", "sasl_ssl"),
        ],
    );
}

#[test]
fn event_hubs_by_connection_string() {
    let string = "Endpoint=sb://eugenio.servicebus.windows.net/;SharedAccessKeyName=send;SharedAccessKey=a+b/c=";
    let config = parse(json!({"topic": "t", "event_hubs": {"connection_string": string}}));
    let mut expected = HUBS.to_vec();
    expected.extend([("sasl.mechanism", "PLAIN"), ("sasl.username", "$ConnectionString"), ("sasl.password", string)]);
    assert_client(&config, &expected);
}

#[test]
fn event_hubs_by_entra() {
    let config = parse(json!({"topic": "t", "event_hubs": {"namespace": "eugenio",
        "entra": {"tenant": "tt", "client_id": "cc", "client_secret": "s3cret"}}}));
    let mut expected = HUBS.to_vec();
    expected.extend([
        ("sasl.mechanism", "OAUTHBEARER"),
        ("sasl.oauthbearer.client.id", "cc"),
        ("sasl.oauthbearer.client.secret", "s3cret"),
        ("sasl.oauthbearer.method", "oidc"),
        ("sasl.oauthbearer.scope", "https://eugenio.servicebus.windows.net/.default"),
        ("sasl.oauthbearer.token.endpoint.url", "https://login.microsoftonline.com/tt/oauth2/v2.0/token"),
    ]);
    assert_client(&config, &expected);
}

#[test]
fn event_hubs_by_managed_identity() {
    let config = parse(json!({"topic": "t", "event_hubs": {"namespace": "eugenio.servicebus.windows.net",
        "managed_identity": {"client_id": "cc"}}}));
    let query = "query=api-version=2018-02-01&resource=https://eugenio.servicebus.windows.net&client_id=cc";
    let mut expected = HUBS.to_vec();
    expected.extend([
        ("sasl.mechanism", "OAUTHBEARER"),
        ("sasl.oauthbearer.config", query),
        ("sasl.oauthbearer.metadata.authentication.type", "azure_imds"),
        ("sasl.oauthbearer.method", "oidc"),
    ]);
    assert_client(&config, &expected);
}

#[test]
fn a_property_of_the_sinks_own_is_refused_with_its_reason() {
    for (name, reason) in [
        ("enable.idempotence", "it is always true: retries must neither duplicate nor reorder"),
        ("acks", "it is always all: an event is acknowledged only when it is safe"),
        ("retries", "a broker that is away is retried without limit"),
        ("message.send.max.retries", "a broker that is away is retried without limit"),
        ("max.in.flight.requests.per.connection", "idempotence sets it"),
        ("message.timeout.ms", "there is none: a broker that is away is waited for"),
        ("sasl.password", "it is the field sasl.password, where it is kept out of logs"),
        ("bootstrap.servers", "it is the field bootstrap_servers"),
    ] {
        let text = error(json!({"bootstrap_servers": "a:9092", "topic": "t", "properties": {name: "1"}}));
        assert_eq!(text, format!("property {name} can't be set: {reason}"));
    }
}

#[test]
fn an_unknown_property_or_value_is_named_in_librdkafkas_words() {
    let text = error(json!({"bootstrap_servers": "a:9092", "topic": "t", "properties": {"linger.mss": "1"}}));
    assert_eq!(text, "property linger.mss: No such configuration property: \"linger.mss\"");
    let text = error(json!({"bootstrap_servers": "a:9092", "topic": "t", "properties": {"compression.type": "zip"}}));
    assert!(text.starts_with("property compression.type: Invalid value"), "{text}");
    assert!(!text.contains("zip"), "{text}");
}

#[test]
fn fields_that_do_not_fit_together_are_refused() {
    for (json, expected) in [
        (json!({"topic": "t"}), "bootstrap_servers or event_hubs is missing"),
        (
            json!({"topic": "t", "bootstrap_servers": "a", "event_hubs": {"namespace": "n"}}),
            "bootstrap_servers and event_hubs exclude each other",
        ),
        (json!({"topic": "a b", "bootstrap_servers": "a"}), "topic \"a b\" is not a name that Kafka allows"),
        (json!({"topic": "{{type", "bootstrap_servers": "a"}), "topic: "),
        (json!({"topic": "t", "bootstrap_servers": "a", "key": "{{"}), "key: "),
        (json!({"topic": "t", "bootstrap_servers": "a", "headers": {"ce_id": "x"}}), "headers: \"ce_id\" can't be set"),
        (
            json!({"topic": "t", "bootstrap_servers": "a", "sasl": {"mechanism": "PLAIN"}}),
            "sasl.mechanism PLAIN needs username and password",
        ),
        (
            json!({"topic": "t", "bootstrap_servers": "a", "sasl": {"mechanism": "OAUTHBEARER"}}),
            "sasl.mechanism OAUTHBEARER needs client_id, client_secret and token_endpoint_url",
        ),
        (json!({"topic": "t", "bootstrap_servers": "a", "tls": {"cert": "c"}}), "tls needs cert and key together"),
        (
            json!({"topic": "t", "event_hubs": {"namespace": "n"}}),
            "event_hubs needs exactly one of connection_string, entra and managed_identity",
        ),
        (json!({"topic": "t", "event_hubs": {"managed_identity": {}}}), "event_hubs.namespace is missing"),
        (
            json!({"topic": "t", "event_hubs": {"connection_string": "nonsense"}}),
            "event_hubs.connection_string has no part Endpoint=sb://HOST/",
        ),
        (
            json!({"topic": "t", "event_hubs": {"namespace": "n", "managed_identity": {}},
                   "properties": {"compression.type": "zstd"}}),
            "property compression.type: Event Hubs takes none, and gzip where its tier is Premium or Dedicated",
        ),
        (
            json!({"topic": "t", "bootstrap_servers": "a",
                   "sasl": {"mechanism": "PLAIN", "username": "u", "password": {"file": "/nonexistent"}}}),
            "sasl.password: can't read /nonexistent: No such file or directory (os error 2)",
        ),
    ] {
        let text = error(json);
        assert!(text.starts_with(expected), "{text:?} instead of {expected:?}");
    }
}

#[test]
fn all_mistakes_come_at_once_each_with_the_way_to_its_setting() {
    let config = parse(
        json!({"topic": "a b", "bootstrap_servers": "a", "key": "{{", "queue_events": 4_000_000_000_u32,
        "headers": {"ce_id": "x", "x.y": "{{data.}}"},
        "sasl": {"mechanism": "PLAIN", "username": "u", "password": {"file": "/nonexistent"}},
        "tls": {"cert": "c"},
        "properties": {"acks": 1, "no.such": 1, "retries": 3, "linger.mss": 2, "linger.ms": -4, "compression.type": "gzip"}}),
    );
    let told: Vec<String> =
        config.check().iter().map(|error| format!("{}: {error}", error.path().join(" > "))).collect();
    let expected = [
        "sasl > password > file: sasl.password: can't read /nonexistent: No such file or directory (os error 2)",
        "tls: tls needs cert and key together",
        "properties > acks: property acks can't be set: it is always all: an event is acknowledged only when it is safe",
        "properties > retries: property retries can't be set: a broker that is away is retried without limit",
        "topic: topic \"a b\" is not a name that Kafka allows: 1-249 of a-z, A-Z, 0-9, '.', '_' and '-'",
        "key: key: `{{` without `}}` (at byte 0)",
        "headers > ce_id: headers: \"ce_id\" can't be set: ce_… and content-type belong to CloudEvents",
        "headers > x.y: headers.x.y: `data.`: between dots stand letters, digits, _ and -, or a quoted name (at byte 2)",
        "properties > linger.ms: property linger.ms: Configuration property \"queue.buffering.max.ms\" value [value] is \
         outside allowed range 0..900000",
        "properties > linger.mss: property linger.mss: No such configuration property: \"linger.mss\"",
        "properties > no.such: property no.such: No such configuration property: \"no.such\"",
        "queue_events: property queue.buffering.max.messages: Configuration property \"queue.buffering.max.messages\" value \
         -294967296 is outside allowed range 0..2147483647",
    ];
    assert_eq!(told, expected);
}

#[test]
fn unknown_fields_are_refused() {
    for json in [
        json!({"topic": "t", "topik": "t"}),
        json!({"topic": "t", "sasl": {"mechanism": "PLAIN", "user": "u"}}),
        json!({"topic": "t", "tls": {"authority": "u"}}),
    ] {
        assert!(serde_json::from_value::<SinkConfig>(json).unwrap_err().to_string().contains("unknown field"));
    }
}

#[test]
fn a_secret_is_in_no_debug_output() {
    let config = parse(json!({"topic": "t", "bootstrap_servers": "a",
        "sasl": {"mechanism": "PLAIN", "username": "u", "password": "s3cret", "client_secret": "s3cret"},
        "tls": {"key_password": "s3cret"},
        "event_hubs": {"connection_string": "s3cret", "entra": {"tenant": "t", "client_id": "c", "client_secret": "s3cret"}},
        "properties": {"ssl.keystore.password": "s3cret"}}));
    assert!(!format!("{config:?} {config:#?}").contains("s3cret"));
}
