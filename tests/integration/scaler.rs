//! `jaiminho scaler`, asked as KEDA asks, over real stages that run apart; and `jaiminho autoscale --explain`.

use std::path::Path;
use std::time::Duration;

use jaiminho_proto::externalscaler::external_scaler_client::ExternalScalerClient;
use jaiminho_proto::externalscaler::{GetMetricsRequest, ScaledObjectRef};
use jaiminho_tests::exit::{UNAVAILABLE, USAGE};
use jaiminho_tests::{Child, Client, Cluster, Directory, eventually, free_port, jaiminho, jaiminho_started, within};
use serde_json::{Value, json};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// In which shares over ten seconds follow a change, and a little for a machine that does other things.
const SOON: Duration = Duration::from_secs(60);

/// A scaler, and KEDA's connection to it.
struct Scaler {
    process: Child,
    channel: Channel,
    keda: ExternalScalerClient<Channel>,
}

impl Scaler {
    async fn start(directory: &Path) -> Self {
        let at = format!("127.0.0.1:{}", free_port());
        let process = jaiminho_started(directory, &["scaler", "--listen", &at]);
        let channel = Channel::from_shared(format!("http://{at}")).expect("an address").connect_lazy();
        let keda = ExternalScalerClient::new(channel.clone());
        let scaler = Self { process, channel, keda };
        eventually("the scaler serves", SOON, || async {
            scaler.health("").await.map_err(|status| format!("{status}\n{}", scaler.process.log_tail()))
        })
        .await;
        scaler
    }

    async fn health(&self, service: &str) -> Result<ServingStatus, Status> {
        let question = HealthCheckRequest { service: service.to_owned() };
        let answer = HealthClient::new(self.channel.clone()).check(question).await?.into_inner();
        Ok(answer.status())
    }

    /// What KEDA asks when Kubernetes asks it: the metric, then whether the stage is active.
    async fn metric(&self, stage: &str) -> Result<(f64, bool), Status> {
        let mut keda = self.keda.clone();
        let of = object(&[("stage", stage), ("startup", "1s"), ("scalerAddress", "scaler:7500")]);
        let metric_name = format!("jaiminho-{stage}");
        let question = GetMetricsRequest { scaled_object_ref: Some(of.clone()), metric_name: metric_name.clone() };
        let values = keda.get_metrics(question).await?.into_inner().metric_values;
        assert_eq!((values.len(), &values[0].metric_name), (1, &metric_name));
        assert_eq!(values[0].metric_value as f64, values[0].metric_value_float, "the old field says the same");
        Ok((values[0].metric_value_float, keda.is_active(of).await?.into_inner().result))
    }

    async fn metric_is(&self, stage: &str, wanted: f64) {
        eventually(&format!("{stage} needs {wanted}"), SOON, || async {
            match self.metric(stage).await {
                Ok((needed, true)) if needed == wanted => Ok(()),
                other => Err(format!("{other:?}\n{}", self.process.log_tail())),
            }
        })
        .await;
    }

    async fn is_not_told(&self, stage: &str) -> String {
        eventually(&format!("of {stage} nothing is told"), SOON, || async {
            match self.metric(stage).await {
                Err(status) if status.code() == Code::Unavailable => Ok(status.message().to_owned()),
                other => Err(format!("{other:?}")),
            }
        })
        .await
    }
}

fn object(metadata: &[(&str, &str)]) -> ScaledObjectRef {
    let pairs = metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    ScaledObjectRef { name: "jaiminho".into(), namespace: "default".into(), scaler_metadata: pairs.collect() }
}

/// What `autoscale --explain` tells, once it is so: an instance that does not answer it in time is a `?`.
async fn explained(directory: &Path, is_so: impl Fn(&Value) -> bool) {
    eventually("the explanation", SOON, || async {
        let output = jaiminho(directory, &["autoscale", "--explain", "--json", "--option", "startup=1s"]).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        if is_so(&told) { Ok(()) } else { Err(told.to_string()) }
    })
    .await;
}

/// Whether `why` of a stage has all of these.
fn says(told: &Value, stage: &str, words: &[&str]) -> bool {
    let why = of(told, stage)["why"].as_str().unwrap_or_default();
    words.iter().all(|words| why.contains(words))
}

fn of<'a>(explained: &'a Value, stage: &str) -> &'a Value {
    let stages = explained["stages"].as_array().expect("stages");
    stages.iter().find(|of| of["stage"] == stage).expect("the stage")
}

/// `convert` can do 200 events/s, of 500 that are made.
fn slow_convert(at: &dyn Fn(&str) -> String) -> String {
    format!(
        r#"version: 1
pipeline: scaled
stages:
  ingest: {{ at: {}, source: {{ generate: {{ rate: 500 }} }}, log: {{ events: 1000 }} }}
  convert: {{ at: {}, rate: 100, subscribe_to: [ingest], window: {{ max_demand: 50 }}, log: {{ events: 400 }}, transform: {{ vrl: ".data.x = 1" }} }}
  publish: {{ at: {}, subscribe_to: [convert], window: {{ max_demand: 50 }}, sink: {{ blackhole: {{}} }} }}
"#,
        at("ingest"),
        at("convert"),
        at("publish")
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn keda_is_told_what_the_limit_needs_and_nothing_while_an_instance_does_not_answer() {
    let stages = [("ingest", 1), ("convert", 2), ("publish", 1)];
    let mut cluster = Cluster::new("scaler", &stages, slow_convert);
    for (stage, count) in stages {
        (0..count).for_each(|index| cluster.start(stage, index));
    }
    cluster.ready().await;
    let directory = cluster.directory().to_owned();
    let scaler = Scaler::start(&directory).await;
    assert_eq!(scaler.health("externalscaler.ExternalScaler").await.expect("health"), ServingStatus::Serving);

    let mut keda = scaler.keda.clone();
    let spec = keda.get_metric_spec(object(&[("stage", "convert")])).await.expect("a spec").into_inner().metric_specs;
    let spec = spec.iter().map(|of| (of.metric_name.as_str(), of.target_size, of.target_size_float));
    assert_eq!(spec.collect::<Vec<_>>(), [("jaiminho-convert", 1, 1.0)]);

    // Twice as many at once are the most; what waits for it would need more.
    scaler.metric_is("convert", 4.0).await;
    // They would wait, too.
    scaler.metric_is("publish", 1.0).await;
    scaler.metric_is("ingest", 1.0).await;
    explained(&directory, |told| {
        let convert = of(told, "convert");
        let figures = (&convert["current"], &convert["needed"], &convert["problem"]);
        figures == (&json!(2), &json!(4), &Value::Null)
            && says(told, "convert", &["it is ", " % busy (target 60 %)", "events wait for it"])
            // More of what waits for others would wait, too.
            && says(told, "ingest", &["holds it up"])
    })
    .await;

    let mut active = keda.stream_is_active(object(&[("stage", "convert")])).await.expect("a stream").into_inner();
    let first = within("the present state", SOON, active.message()).await.expect("a message").expect("a state");
    assert!(first.result);

    cluster.kill("convert", 1);
    let why = scaler.is_not_told("convert").await;
    assert!(why.starts_with("`convert` at 127.0.0.1:") && why.contains("is not seen: "), "{why}");
    // It has what waits for `publish`.
    scaler.is_not_told("publish").await;
    scaler.metric_is("ingest", 1.0).await;
    let needed = |told: &Value, stage| of(told, stage)["needed"].clone();
    explained(&directory, |told| (needed(told, "convert"), needed(told, "ingest")) == (Value::Null, json!(1))).await;
    eventually("the table", SOON, || async {
        let table = jaiminho(&directory, &["autoscale", "--explain"]).await;
        let table = String::from_utf8_lossy(&table.stdout).into_owned();
        let is_so = table.starts_with("STAGE    NOW  NEEDED  WHY\ningest     1       1  ")
            && table.contains("convert    ?       ?  it is seen in part: `convert` at 127.0.0.1:");
        if is_so { Ok(()) } else { Err(table) }
    })
    .await;

    cluster.start("convert", 1);
    cluster.ready().await;
    scaler.metric_is("convert", 4.0).await;

    scaler.process.terminate();
    let end = within("the end of the stream", SOON, active.message()).await;
    assert!(!matches!(end, Ok(Some(_))), "{end:?}");
    assert!(scaler.process.exit(SOON).await.success(), "{}", scaler.process.log_tail());
    cluster.assert_running();
}

#[tokio::test(flavor = "multi_thread")]
async fn keda_is_pushed_that_a_stage_has_something_to_do() {
    let (port, stages) = (free_port(), [("ingest", 1), ("publish", 1)]);
    let mut cluster = Cluster::new("pushed", &stages, |at| {
        format!(
            r#"version: 1
pipeline: pushed
stages:
  ingest: {{ at: {}, source: {{ http: {{ listen: "127.0.0.1:{port}" }} }} }}
  publish: {{ at: {}, rate: 20, subscribe_to: [ingest], sink: {{ blackhole: {{}} }} }}
"#,
            at("ingest"),
            at("publish")
        )
    });
    for (stage, _) in stages {
        cluster.start(stage, 0);
    }
    cluster.ready().await;
    let scaler = Scaler::start(cluster.directory()).await;
    let mut keda = scaler.keda.clone();
    let mut active = keda.stream_is_active(object(&[("stage", "publish")])).await.expect("a stream").into_inner();
    let mut next =
        async || within("a state", SOON, active.message()).await.expect("a message").expect("a state").result;
    assert!(!next().await);
    let values: Vec<Value> = (0..100).map(|number| json!({ "number": number })).collect();
    let sent = tokio::spawn(async move { Client::new(port).json(&Value::Array(values)).await.status });
    assert!(next().await);
    assert!(!next().await, "once all is done");
    assert_eq!(sent.await.expect("the sender"), 200);
    explained(cluster.directory(), |told| says(told, "ingest", &[" % busy"])).await;
    // Senders could not reach it.
    assert!(keda.is_active(object(&[("stage", "ingest")])).await.expect("an answer").into_inner().result);

    for (metadata, told) in [
        (&[("scalerAddress", "here")][..], "the trigger's metadata lack `stage`: one of ingest, publish"),
        (&[("stage", "publsh")], "pipeline `pushed` has no stage `publsh` (did you mean `publish`?)"),
        (&[("stage", "publish"), ("target", "60")], "`target` is `60`, and must be a number from 0.1 to 0.9"),
    ] {
        let refused = keda.is_active(object(metadata)).await.expect_err("refused");
        assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, told));
    }
    let specs = keda.stream_metric_spec(object(&[("stage", "publish")])).await.map(|_| ());
    assert_eq!(specs.expect_err("not served").code(), Code::Unimplemented);
}

#[tokio::test]
async fn without_a_pipeline_the_scaler_tells_nothing_and_autoscale_says_so() {
    let directory = Directory::new("unscaled");
    let at = format!("{{ list: [\"127.0.0.1:{}\"] }}", free_port());
    directory.write("pipeline.yaml", &slow_convert(&|_| at.clone()));
    let scaler = Scaler::start(directory.path()).await;
    let why = scaler.is_not_told("convert").await;
    assert!(why.starts_with("`convert` at 127.0.0.1:"), "{why}");
    for (arguments, code) in [
        (&["autoscale", "--explain"][..], UNAVAILABLE),
        (&["autoscale"], USAGE),
        (&["autoscale", "--explain", "--option", "target=7"], USAGE),
    ] {
        assert_eq!(jaiminho(directory.path(), arguments).await.status.code(), Some(code), "{arguments:?}");
    }
}
