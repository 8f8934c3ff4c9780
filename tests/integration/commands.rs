//! Each command, as its user types it: what it says, and how it ends.

use std::path::Path;
use std::process::Output;
use std::sync::{Arc, Mutex, PoisonError};

use jaiminho_tests::exit::{CONFIG, DATA, UNAVAILABLE, USAGE};
use jaiminho_tests::{Directory, Jaiminho, free_port, jaiminho, jaiminho_fed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const PIPELINE: &str = r#"version: 1
pipeline: commands
stages:
  ingest:
    at: { dns: "localhost:7400" }
    source: { http: { listen: "127.0.0.1:PORT" } }
  publish:
    subscribe_to: [ingest]
    sink: { kafka: { bootstrap_servers: embedded, topic: t } }
"#;

fn directory() -> Directory {
    let directory = Directory::new("commands");
    directory.write("pipeline.yaml", &PIPELINE.replace("PORT", &free_port().to_string()));
    directory
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The exit code, standard output, and the last line of standard error.
async fn run(directory: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = jaiminho(directory, arguments).await;
    let last = text(&stderr).lines().last().unwrap_or_default().to_owned();
    (status.code(), text(&stdout), last)
}

/// An HTTP server that gives these answers, one a connection, and keeps the requests.
async fn server(answers: Vec<&'static str>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/events", listener.local_addr().expect("its address"));
    let requests = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&requests);
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut request = Vec::new();
            loop {
                let mut more = [0; 4096];
                let count = stream.read(&mut more).await.expect("a request");
                request.extend_from_slice(&more[..count]);
                let whole = text(&request);
                let Some((head, body)) = whole.split_once("\r\n\r\n") else { continue };
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                if body.len() >= length.unwrap_or(0) {
                    break;
                }
            }
            kept.lock().unwrap_or_else(PoisonError::into_inner).push(text(&request));
            stream.write_all(answer.as_bytes()).await.expect("an answer");
        }
    });
    (url, requests)
}

fn answer(status: &str, headers: &str, body: &str) -> &'static str {
    let length = body.len();
    let text = format!("HTTP/1.1 {status}\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}");
    Box::leak(text.into_boxed_str())
}

const PUBLISHED: &str = r#"{"status":"published","count":3,"events":[]}"#;

#[tokio::test]
async fn send_posts_a_file_and_obeys_retry_after() {
    let directory = directory();
    directory.write("events.ndjson", "{\"a\":1}\n[2,3]\n");
    let (url, requests) = server(vec![
        answer("429 Too Many Requests", "retry-after: 1\r\n", r#"{"detail":"log full; nothing was taken"}"#),
        answer("503 Service Unavailable", "retry-after: 1\r\n", "{}"),
        answer("200 OK", "", PUBLISHED),
    ])
    .await;
    let began = std::time::Instant::now();
    let (code, stdout, stderr) = run(directory.path(), &["send", "events.ndjson", "--url", &url, "--json"]).await;
    assert_eq!(code, Some(0), "{stderr}");
    let told: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!((&told["done"], &told["rejected"], &told["retries"]), (&3.into(), &0.into(), &2.into()));
    assert!(began.elapsed().as_secs() >= 2, "it does not wait: {:?}", began.elapsed());
    let requests = requests.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let bodies: Vec<_> = requests.iter().map(|request| request.split_once("\r\n\r\n").expect("a body").1).collect();
    assert_eq!(bodies.len(), 3);
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
}

#[tokio::test]
async fn send_posts_what_comes_on_standard_input() {
    let directory = directory();
    let broken = "standard input: the value of line 4 is not JSON: EOF while parsing an object at line 5 column 0";
    for (input, exit, body, said) in [
        ("{\"a\":1}\n{\"a\":2}\n3\n", Some(0), Some("[{\"a\":1},{\"a\":2},3]"), ""),
        ("{\"a\":1}\n\n\n{\"a\"\n", Some(DATA), Some("{\"a\":1}"), broken),
        ("", Some(0), None, ""),
    ] {
        let (url, requests) = server(vec![answer("200 OK", "", PUBLISHED)]).await;
        let arguments = ["send", "-", "--url", &url];
        let Output { status, stderr, .. } = jaiminho_fed(directory.path(), &arguments, input.as_bytes()).await;
        let stderr = text(&stderr);
        assert_eq!(status.code(), exit, "{input:?}: {stderr}");
        assert!(stderr.trim_end().ends_with(said), "{input:?}: {stderr}");
        let requests = requests.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let bodies: Vec<_> = requests.iter().map(|request| request.split_once("\r\n\r\n").expect("a body").1).collect();
        assert_eq!(bodies, body.into_iter().collect::<Vec<_>>(), "{input:?}");
    }
}

#[tokio::test]
async fn send_posts_made_up_events_in_batches_with_ids_of_their_own() {
    let directory = directory();
    let ok = || answer("200 OK", "", PUBLISHED);
    let (url, requests) = server(vec![ok(), ok(), ok()]).await;
    let (code, stdout, stderr) =
        run(directory.path(), &["send", "--count", "25", "--batch", "10", "--keys", "3", "--url", &url]).await;
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.starts_with("25 events done, 0 rejected, 0 requests repeated, "), "{stdout}");
    let requests = requests.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut ids = std::collections::BTreeSet::new();
    for request in &requests {
        let (head, body) = request.split_once("\r\n\r\n").expect("a body");
        assert!(head.contains("content-type: application/cloudevents-batch+json"), "{head}");
        let events: Vec<serde_json::Value> = serde_json::from_str(body).expect("a batch");
        ids.extend(events.iter().map(|event| event["id"].to_string()));
    }
    assert_eq!((requests.len(), ids.len()), (3, 25));
}

#[tokio::test]
async fn send_ends_with_a_code_that_says_whose_fault_it_is() {
    let directory = directory();
    directory.write("one.json", "{\"a\":1}");
    directory.write("bad.json", "{\"a\":1}\n{\"a\":\n");
    directory.write("token", "# ours\n\n secret-token\nanother\n");
    directory.write("empty", "# none\n");
    let rejected = r#"{"status":"rejected","count":1,"events":[{"index":0,"id":"e1","status":"rejected","reason":"invalid: no unit","stored":true}]}"#;
    let problem = r#"{"detail":"an event of 9 bytes; the limit is 5"}"#;
    for (status, body, code, told) in [
        ("422 Unprocessable Entity", rejected, DATA, "1 event was rejected: line 1: event e1: invalid: no unit"),
        ("413 Payload Too Large", problem, DATA, "413 Payload Too Large: an event of 9 bytes; the limit is 5"),
        (
            "401 Unauthorized",
            r#"{"detail":"no token"}"#,
            USAGE,
            "401 Unauthorized: no token; --token-file gives a token",
        ),
        (
            "404 Not Found",
            r#"{"detail":"nothing is at this path"}"#,
            USAGE,
            "404 Not Found: nothing is at this path; --url must end with the source's path, such as /events",
        ),
    ] {
        let (url, requests) = server(vec![answer(status, "", body)]).await;
        let (exit, stdout, stderr) =
            run(directory.path(), &["send", "one.json", "--url", &url, "--token-file", "token"]).await;
        assert_eq!((exit, stderr.as_str()), (Some(code), told), "{stdout}");
        let request = requests.lock().unwrap_or_else(PoisonError::into_inner)[0].to_lowercase();
        assert!(request.contains("authorization: bearer secret-token\r\n"), "{request}");
        assert!(!stdout.contains("secret-token") && !stderr.contains("secret-token"));
    }
    let (url, _) = server(vec![answer("200 OK", "", PUBLISHED)]).await;
    let (exit, stdout, stderr) = run(directory.path(), &["send", "bad.json", "--url", &url]).await;
    let told = "bad.json: the value of line 2 is not JSON: EOF while parsing a value at line 3 column 0";
    assert_eq!((exit, stderr.as_str()), (Some(DATA), told));
    assert!(stdout.starts_with("1 event done, 0 rejected, 0 requests repeated, "), "{stdout}");
    for (arguments, told) in [
        (
            &["send", "nowhere.json", "--url", "http://localhost:1/"][..],
            "nowhere.json: No such file or directory (os error 2)",
        ),
        (
            &["send", "one.json", "--url", "ftp://localhost:1/"],
            "--url ftp://localhost:1/: must begin with http:// or https://",
        ),
        (
            &["send", "one.json", "--url", "https://localhost:1/"],
            "https://localhost:1/: --ca FILE says who signs the server's certificate",
        ),
        (&["send", "one.json", "--url", "https://localhost:1/", "--ca", "empty"], "--ca empty: holds no certificate"),
        (
            &["send", "one.json", "--url", "http://localhost:1/", "--ca", "empty"],
            "http://localhost:1/: --ca is for https, and this is in plain text",
        ),
        (
            &["send", "one.json", "--token-file", "none", "--url", "http://localhost:1/"],
            "none: No such file or directory (os error 2)",
        ),
        (&["send", "one.json", "--token-file", "empty", "--url", "http://localhost:1/"], "empty: holds no token"),
    ] {
        let (exit, _, stderr) = run(directory.path(), arguments).await;
        assert_eq!((exit, stderr.as_str()), (Some(USAGE), told));
    }
}

/// The lines of the file, whatever request their events went in.
#[tokio::test]
async fn send_names_the_line_of_the_file_that_the_server_refuses() {
    let directory = directory();
    directory.write("events.ndjson", "{\"a\":1}\n\n{\"a\":2}\n\n\n{\"a\":3}\n{\"a\":4}\n");
    let rejected =
        r#"{"status":"partial","count":2,"events":[{"index":1,"id":"e4","status":"rejected","reason":"invalid: no"}]}"#;
    for (status, body, told) in [
        ("207 Multi-Status", rejected, "1 event was rejected: line 7: event e4: invalid: no"),
        ("400 Bad Request", r#"{"detail":"not so","index":0}"#, "400 Bad Request: line 6: not so"),
        ("413 Payload Too Large", r#"{"detail":"too much"}"#, "413 Payload Too Large: too much"),
    ] {
        let (url, _) = server(vec![answer("200 OK", "", PUBLISHED), answer(status, "", body)]).await;
        let (exit, _, stderr) = run(directory.path(), &["send", "events.ndjson", "--batch", "2", "--url", &url]).await;
        assert_eq!((exit, stderr.as_str()), (Some(DATA), told));
    }
}

#[tokio::test]
async fn send_gives_up_when_nobody_listens() {
    let directory = directory();
    directory.write("one.json", "1");
    let url = format!("http://127.0.0.1:{}/events", free_port());
    let (exit, _, stderr) = run(directory.path(), &["send", "one.json", "--retries", "1", "--url", &url]).await;
    assert_eq!(exit, Some(UNAVAILABLE));
    assert_eq!(stderr, format!("{url}: gave up after 1 repeat: Connection refused (os error 111)"));
}

#[tokio::test]
async fn send_and_tail_without_a_pipeline_file_say_how_to_do_without() {
    let directory = Directory::new("nothing");
    directory.write("one.json", "1");
    directory.write("no_http.yaml", &PIPELINE.replace("http: { listen: \"127.0.0.1:PORT\" }", "generate: { rate: 1 }"));
    let none =
        "pipeline.yaml: there is no such file, and no `jaiminho up` runs here; -f FILE or JAIMINHO_FILE names one, ";
    let missing = "other.yaml: there is no such file; -f FILE or JAIMINHO_FILE names one, ";
    let (url, broker) = ("--url URL says where to post", "--bootstrap-servers HOST:PORT a broker");
    for (arguments, exit, told) in [
        (&["send", "one.json"][..], CONFIG, format!("{none}{url}")),
        (&["send", "one.json", "-f", "other.yaml"], CONFIG, format!("{missing}{url}")),
        (&["send", "one.json", "-f", "no_http.yaml"], USAGE, format!("pipeline `commands` has no HTTP source; {url}")),
        (&["tail"], CONFIG, format!("{none}{broker}")),
        (&["tail", "-f", "other.yaml"], CONFIG, format!("{missing}{broker}")),
    ] {
        let (code, stdout, stderr) = run(directory.path(), arguments).await;
        assert_eq!((code, stderr), (Some(exit), told), "{arguments:?}: {stdout}");
    }
}

#[tokio::test]
async fn a_pipeline_of_the_same_name_from_another_file_is_not_taken_for_this_one() {
    let directory = Directory::new("same");
    let pipeline = PIPELINE.replace("commands", "same").replace("PORT", &free_port().to_string());
    let [_, theirs] = ["ours.yaml", "theirs.yaml"].map(|name| directory.write(name, &pipeline));
    directory.write("one.json", "{}");
    let up = Jaiminho::up(directory.path(), &theirs, &["--console", "off"]);
    up.ready().await;
    let (exit, stdout, stderr) = run(directory.path(), &["send", "one.json", "-f", "theirs.yaml"]).await;
    assert_eq!(exit, Some(0), "{stderr}");
    assert!(stdout.starts_with("1 event done") && stdout.contains(", to http://"), "{stdout}");
    let tail = ["tail", "--from", "beginning", "--no-follow"];
    let (exit, stdout, stderr) = run(directory.path(), &[&tail[..], &["-f", "theirs.yaml"]].concat()).await;
    assert!(exit == Some(0) && !stdout.is_empty(), "{stdout}{stderr}");

    let runs = format!("the pipeline `same` that runs here is that of {}; ", theirs.display());
    let (exit, _, stderr) = run(directory.path(), &["send", "one.json", "-f", "ours.yaml"]).await;
    assert_eq!((exit, stderr), (Some(USAGE), format!("{runs}--url URL says where to post")));
    let (exit, _, stderr) = run(directory.path(), &[&tail[..], &["-f", "ours.yaml"]].concat()).await;
    assert_eq!((exit, stderr), (Some(UNAVAILABLE), format!("{runs}--bootstrap-servers names a broker")));
}

#[tokio::test]
async fn tail_without_a_running_pipeline_says_what_to_start() {
    let directory = directory();
    let (exit, _, stderr) = run(directory.path(), &["tail"]).await;
    let told = "the broker of pipeline `commands` is inside `jaiminho up`, which does not run; start it, or name a broker by --bootstrap-servers";
    assert_eq!((exit, stderr.as_str()), (Some(UNAVAILABLE), told));
    let no_kafka = PIPELINE.replace("kafka: { bootstrap_servers: embedded, topic: t }", "blackhole: {}");
    directory.write("no_kafka.yaml", &no_kafka.replace("PORT", "0"));
    let (exit, _, stderr) = run(directory.path(), &["tail", "-f", "no_kafka.yaml"]).await;
    let told = "pipeline `commands` has no Kafka sink; --bootstrap-servers names a broker";
    assert_eq!((exit, stderr.as_str()), (Some(UNAVAILABLE), told));
}

#[tokio::test]
async fn init_writes_a_pipeline_that_passes_its_tests_and_replaces_nothing() {
    let directory = Directory::new("init");
    let (exit, stdout, stderr) = run(directory.path(), &["init", "demo"]).await;
    assert_eq!(exit, Some(0), "{stderr}");
    assert!(stdout.starts_with("wrote demo/pipeline.yaml\n") && stdout.contains("cd demo\n"), "{stdout}");
    for command in [&["validate", "-f", "demo/pipeline.yaml"][..], &["test", "-f", "demo/pipeline.yaml"]] {
        let (exit, stdout, stderr) = run(directory.path(), command).await;
        assert_eq!(exit, Some(0), "{stdout}{stderr}");
    }
    std::fs::write(directory.path().join("demo/pipeline.yaml"), "mine").expect("write");
    let (exit, _, stderr) = run(directory.path(), &["init", "demo"]).await;
    assert_eq!((exit, stderr.as_str()), (Some(USAGE), "demo/pipeline.yaml is there already; choose another folder"));
    assert_eq!(std::fs::read_to_string(directory.path().join("demo/pipeline.yaml")).expect("read"), "mine");
    directory.write("file", "");
    let (exit, _, stderr) = run(directory.path(), &["init", "file"]).await;
    assert_eq!((exit, stderr.as_str()), (Some(UNAVAILABLE), "file/pipeline.yaml: File exists (os error 17)"));
}

#[tokio::test]
async fn completions_schema_and_list_print_what_they_promise() {
    let directory = Directory::new("print");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (exit, stdout, stderr) = run(directory.path(), &["completions", shell]).await;
        assert_eq!(exit, Some(0), "{stderr}");
        assert!(stdout.contains("jaiminho") && stdout.contains("validate"), "{shell}: {stdout}");
    }
    let (exit, stdout, _) = run(directory.path(), &["schema"]).await;
    let schema: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!((exit, schema["properties"]["stages"].is_object()), (Some(0), true));
    let (exit, stdout, _) = run(directory.path(), &["list"]).await;
    for component in ["source.http", "transform.vrl", "transform.filter", "sink.kafka", "sink.stdout", "sink.file"] {
        assert!(stdout.contains(component), "{component} in {stdout}");
    }
    assert_eq!(exit, Some(0));
    let (exit, _, stderr) = run(directory.path(), &["list", "sink.kafak"]).await;
    assert_eq!(exit, Some(USAGE));
    assert!(stderr.contains("sink.kafka"), "{stderr}");
}

#[tokio::test]
async fn wrong_usage_is_told_with_its_code() {
    let directory = directory();
    for (arguments, code, told) in [
        (&["stage", "publish"][..], CONFIG, "embedded"),
        (&["stage", "ingst"], USAGE, "did you mean `ingest`?"),
        (&["validate", "--profile", "prod"], CONFIG, "there is no profile `prod`"),
        (&["validate", "--set", "stages"], CONFIG, "expected PATH=VALUE"),
        (&["validate", "--log-level", "loud"], USAGE, "log level `loud`"),
        (&["send"], USAGE, "Usage: jaiminho send"),
        (&["completions", "tcsh"], USAGE, "possible values"),
        (&["tops"], USAGE, "unrecognized subcommand"),
        (&["test", "nowhere"], DATA, "there are no tests in nowhere"),
    ] {
        let Output { status, stdout, stderr } = jaiminho(directory.path(), arguments).await;
        let all = text(&stderr);
        assert_eq!(status.code(), Some(code), "{arguments:?}: {}{all}", text(&stdout));
        assert!(all.contains(told), "{arguments:?}: {all}");
    }
    for arguments in [&["--help"][..], &["--version"], &["send", "--help"]] {
        let (exit, stdout, _) = run(directory.path(), arguments).await;
        assert_eq!((exit, stdout.is_empty()), (Some(0), false), "{arguments:?}");
    }
}
