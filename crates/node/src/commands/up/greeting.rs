//! What `up` says once all runs: where things are, and what to type next, for the pipeline that it is.

use std::path::Path;

use serde_json::json;

use crate::cli::FILE_DEFAULT;
use crate::commands::local;
use crate::commands::send::is_cloud_event;
use crate::config::Config;
use crate::config::component::{IngestConfig, Sink, Source};
use crate::running::Running;

/// An event to try with, beside the pipeline file.
const EXAMPLE_FILE: &str = "example.json";

/// A longer one is nothing to show.
const EXAMPLE_BYTES_MAX: usize = 2_000;

pub(super) fn greeting(running: &Running, config: &Config, file: &Path, program: &str) -> String {
    let mut text = format!("Pipeline {} runs.\n\n", running.pipeline);
    let mut say = |what: &str, value: &str| text.push_str(&format!("  {what:<10}{value}\n"));
    if let Some(http) = &running.http {
        say("HTTP", http);
    }
    if let Some(websocket) = &running.websocket {
        say("WebSocket", websocket);
    }
    if let Some(broker) = &running.bootstrap_servers {
        say("broker", &format!("{broker} (embedded: in memory, keeps at most 5 MiB or 100,000 records a partition)"));
    }
    let tls = config.pipeline.telemetry.admin.tls.is_some();
    let metrics = format!("{}://{}/metrics", if tls { "https" } else { "http" }, local(running.admin));
    say("metrics", &metrics);
    if let Some(console) = &running.console {
        say("console", console);
    }
    text.push_str("\nTry, in another terminal:\n\n");
    let file = if file == Path::new(FILE_DEFAULT) {
        String::new()
    } else {
        format!(" -f {}", quoted(&file.to_string_lossy()))
    };
    for hint in post(running, config, &format!("{program} send{file}")) {
        text.push_str(&format!("  {hint}\n"));
    }
    let has_kafka = config.pipeline.stages.values().any(|stage| match stage.sink {
        Some(Sink::Kafka(_)) => true,
        Some(Sink::Stdout(_) | Sink::File(_) | Sink::Blackhole(_) | Sink::Own(_)) | None => false,
    });
    text.push_str(&if has_kafka { format!("  {program} tail{file}\n") } else { format!("  curl {metrics}\n") });
    text.push_str("\nCtrl-C drains and stops.");
    text
}

/// How an event gets in, by `send` among others; nothing where the pipeline makes them up or consumes them.
fn post(running: &Running, config: &Config, send: &str) -> Vec<String> {
    let source = |wanted: fn(&IngestConfig) -> bool| {
        config.in_order().into_iter().find_map(|(_, stage)| match stage.source.as_ref()? {
            Source::Ingest(ingest) => wanted(ingest).then_some((&**ingest, stage.key.as_deref())),
            Source::Kafka(_) | Source::Generate(_) | Source::Own(_) => None,
        })
    };
    if let (Some(url), Some((ingest, key))) = (&running.http, source(|ingest| ingest.http.is_some())) {
        let example = example(&config.base_dir, key);
        let media_type = if is_cloud_event(&example) { "application/cloudevents+json" } else { "application/json" };
        let (header, option, note) = match &ingest.tokens_file {
            None => (String::new(), String::new(), None),
            Some(tokens) => (
                " -H 'authorization: Bearer TOKEN'".to_owned(),
                format!(" --token-file {}", quoted(&tokens.to_string_lossy())),
                Some(format!("# TOKEN is a line of {}", tokens.display())),
            ),
        };
        let curl = format!("curl -i {url}{header} -H 'content-type: {media_type}' -d {}", quoted(&example));
        return note.into_iter().chain([curl, format!("{send}{option} --count 100")]).collect();
    }
    if let (Some(url), Some((ingest, key))) = (&running.websocket, source(|ingest| ingest.websocket.is_some())) {
        let echo = format!("echo {} | websocat", quoted(&example(&config.base_dir, key)));
        return match &ingest.tokens_file {
            None => vec![format!("{echo} {url}")],
            Some(tokens) => {
                vec![format!("# TOKEN is a line of {}", tokens.display()), format!("{echo} '{url}?access_token=TOKEN'")]
            }
        };
    }
    Vec::new()
}

/// What lies beside the pipeline file; else JSON that has the key, where that is one field.
fn example(folder: &Path, key: Option<&str>) -> String {
    match std::fs::read_to_string(folder.join(EXAMPLE_FILE)) {
        Ok(text) if text.len() <= EXAMPLE_BYTES_MAX => return text.trim().to_owned(),
        Ok(_) | Err(_) => {}
    }
    let field = key.and_then(|key| key.strip_prefix("{{data.")?.strip_suffix("}}"));
    match field.filter(|field| field.chars().all(|next| next.is_ascii_alphanumeric() || next == '_')) {
        Some(field) => json!({ field: "a-1", "value": 21.5 }),
        None => json!({ "value": 21.5 }),
    }
    .to_string()
}

/// One word for a shell.
fn quoted(text: &str) -> String {
    let is_plain = |next: char| next.is_alphanumeric() || "/._-".contains(next);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, Setting, load};

    /// What is said of a pipeline with this source and sink.
    fn said(source: &str, sink: &str, running: Running, example: Option<&str>) -> String {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.yaml");
        let yaml = format!(
            "version: 1\npipeline: p\nstages:\n  in: {{ {source} }}\n  out: {{ subscribe_to: [in], sink: {{ {sink} }} }}\n"
        );
        std::fs::write(&file, yaml).unwrap();
        if let Some(example) = example {
            std::fs::write(folder.path().join(EXAMPLE_FILE), example).unwrap();
        }
        let config = load(&file, &Overrides::default(), Setting::Together).unwrap();
        greeting(&running, &config, &file, "jaiminho").replace(&folder.path().display().to_string(), "DIR")
    }

    fn running(http: Option<&str>, websocket: Option<&str>, broker: Option<&str>) -> Running {
        Running {
            pid: 1,
            pipeline: "p".into(),
            bootstrap_servers: broker.map(Into::into),
            http: http.map(Into::into),
            websocket: websocket.map(Into::into),
            admin: ([127, 0, 0, 1], 9464).into(),
            inspect: None,
            console: Some("http://127.0.0.1:9470/".into()),
            file: None,
            plan: None,
        }
    }

    const HTTP: &str = r#"key: "{{data.sensor}}", source: { http: { path: /in } }"#;
    const KAFKA: &str = "kafka: { bootstrap_servers: embedded, topic: t }";

    #[test]
    fn a_pipeline_with_http_is_tried_with_an_event_that_has_its_key() {
        let running = running(Some("http://localhost:8080/in"), None, Some("127.0.0.1:1"));
        insta::assert_snapshot!(said(HTTP, KAFKA, running, None));
    }

    #[test]
    fn the_example_beside_the_file_wins_and_is_quoted() {
        let running = running(Some("http://localhost:8080/in"), None, None);
        let text = r#"{"specversion": "1.0", "id": "it's"}"#;
        insta::assert_snapshot!(said(HTTP, "blackhole: {}", running, Some(text)));
    }

    #[test]
    fn who_needs_a_token_is_told_where_one_is() {
        let source = r#"source: { tokens_file: tokens, http: {}, websocket: {} }"#;
        let running = running(Some("http://localhost:8080/events"), Some("ws://localhost:8080/ws"), None);
        insta::assert_snapshot!(said(source, "stdout: {}", running, None));
    }

    #[test]
    fn what_a_shell_would_take_apart_is_quoted() {
        assert_eq!(["a/b-1.yaml", "my file", "it's", ""].map(quoted), ["a/b-1.yaml", "'my file'", "'it'\\''s'", "''"]);
    }

    #[test]
    fn a_websocket_alone_is_tried_with_its_client() {
        let url = "ws://localhost:8081/ws";
        let open = r#"source: { websocket: { listen: "0.0.0.0:8081" } }"#;
        let closed = r#"source: { tokens_file: tokens, websocket: { listen: "0.0.0.0:8081" } }"#;
        insta::assert_snapshot!(said(open, "stdout: {}", running(None, Some(url), None), None));
        insta::assert_snapshot!(said(closed, "stdout: {}", running(None, Some(url), None), None));
    }

    #[test]
    fn what_makes_its_events_up_is_only_read() {
        insta::assert_snapshot!(said(
            "source: { generate: { rate: 1 } }",
            KAFKA,
            running(None, None, Some("127.0.0.1:1")),
            None
        ));
    }
}
