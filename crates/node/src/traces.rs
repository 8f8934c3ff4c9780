//! Traces of this process: what the pipeline file and OpenTelemetry's variables say, and the task that exports spans.
//!
//! A variable wins over the file, so that an operator need not change it; the file wins over the defaults.

use std::collections::HashMap;
use std::time::Duration;

use jaiminho_core::Instance;
use jaiminho_telemetry::Collector;
use jaiminho_telemetry::names::spans;
use jaiminho_telemetry::traces::{Batches, Exporter, KeyValue, Sampler, Tracer};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::model::Stage;
use crate::config::telemetry::Traces;
use crate::config::{Config, Setting};
use crate::exit::Failure;
use crate::telemetry::{Environment, Who, environment, service};

/// Most spans that wait to be exported.
const QUEUE_MAX: usize = 8_192;
const SLOW: Duration = Duration::from_secs(1);
/// Of a pipeline in one process, all traces; where stages run apart, one of a thousand.
const RATIO_TOGETHER: f64 = 1.0;
const RATIO_APART: f64 = 0.001;

/// How traces are made and where they go.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    collector: Collector,
    sampler: Sampler,
    slow: Duration,
    queue_max: usize,
    batches: Batches,
}

/// What holds for a pipeline whose file says `file`. None: there are no traces.
pub(crate) fn settings<F>(file: &Traces, setting: Setting, environment: &Environment<F>) -> Option<Settings>
where
    F: Fn(&str) -> Option<String>,
{
    let collector = environment.collector("TRACES", file.endpoint.as_deref())?;
    let names = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
    let _only_one = environment.read(&names, "`grpc`", |text| (text == "grpc").then_some(()));
    let ratio = file.ratio.unwrap_or(match setting {
        Setting::Together => RATIO_TOGETHER,
        Setting::Apart | Setting::Anywhere => RATIO_APART,
    });
    let count = |name: &str| {
        environment.read(&[name], "a whole number above 0", |text| text.parse().ok().filter(|count| *count > 0))
    };
    let batches = Batches {
        spans_max: count("OTEL_BSP_MAX_EXPORT_BATCH_SIZE").unwrap_or(Batches::default().spans_max),
        delay: environment.millis(&["OTEL_BSP_SCHEDULE_DELAY"]).unwrap_or(Batches::default().delay),
    };
    Some(Settings {
        collector,
        sampler: sampler(ratio, environment),
        slow: file.slow.map_or(SLOW, |slow| slow.0),
        queue_max: count("OTEL_BSP_MAX_QUEUE_SIZE").unwrap_or(QUEUE_MAX).min(QUEUE_MAX),
        batches,
    })
}

fn sampler<F: Fn(&str) -> Option<String>>(ratio: f64, environment: &Environment<F>) -> Sampler {
    let known = "`always_on`, `always_off`, `traceidratio` or one of these after `parentbased_`";
    let named = environment.read(&["OTEL_TRACES_SAMPLER"], known, |text| {
        let (follows_parent, kind) = match text.strip_prefix("parentbased_") {
            Some(kind) => (true, kind),
            None => (false, text),
        };
        let fixed = match kind {
            "always_on" => Some(1.0),
            "always_off" => Some(0.0),
            "traceidratio" => None,
            _ => return None,
        };
        Some((follows_parent, fixed))
    });
    let Some((follows_parent, fixed)) = named else { return Sampler { ratio, follows_parent: true } };
    let ratio = fixed.unwrap_or_else(|| {
        let argument = environment.read(&["OTEL_TRACES_SAMPLER_ARG"], "a ratio from 0 to 1", |text| {
            text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio))
        });
        // OpenTelemetry's default: whoever names the sampler means all.
        argument.unwrap_or(1.0)
    });
    Sampler { ratio, follows_parent }
}

/// Where the spans of each stage of this process go.
#[derive(Debug, Default)]
pub(crate) struct Tracers(HashMap<String, Tracer>);

impl Tracers {
    /// Of these stages; their spans are exported on `tasks` until `stop`, and what is left then.
    pub(crate) fn start<'a>(
        config: &Config,
        stages: impl IntoIterator<Item = (&'a str, &'a Stage, Instance)>,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<Self, Failure> {
        let Some(settings) = &config.traces else { return Ok(Self::default()) };
        let (tracer, recorded) = Tracer::new(settings.queue_max);
        let tracer = tracer.with_sampler(settings.sampler).with_slow(settings.slow);
        let environment = environment();
        let (mut tracers, mut resources) = (HashMap::new(), Vec::new());
        for (name, stage, instance) in stages {
            tracers.insert(name.to_owned(), tracer.of_resource(resources.len()));
            resources.push(resource(&config.pipeline.pipeline, name, stage, &instance.name, &environment));
        }
        let exporter = Exporter::new(recorded, resources, settings.collector.clone(), settings.batches);
        let exporter = exporter.map_err(|error| Failure::config(format!("traces: {error}")))?;
        tasks.spawn(exporter.run(stop));
        // What a handler says and does for a sampled event is told too.
        if let Some(logs) = jaiminho_telemetry::logs() {
            logs.join(tracers.clone());
        }
        let Sampler { ratio, follows_parent } = settings.sampler;
        tracing::info!(endpoint = settings.collector.endpoint, ratio, follows_parent, "events are traced");
        Ok(Self(tracers))
    }

    /// That of a stage; off where there are no traces.
    pub(crate) fn of(&self, stage: &str) -> Tracer {
        self.0.get(stage).cloned().unwrap_or_default()
    }
}

/// Who the spans of a stage are from.
fn resource<F>(pipeline: &str, name: &str, stage: &Stage, instance: &str, environment: &Environment<F>) -> Vec<KeyValue>
where
    F: Fn(&str) -> Option<String>,
{
    let who = environment.resource(&Who { service: service(stage), pipeline, instance });
    let stage = [(spans::STAGE.to_owned(), name.to_owned())];
    who.into_iter().chain(stage).map(|(name, value)| KeyValue::new(name, value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment<impl Fn(&str) -> Option<String>> {
        let variables: HashMap<String, String> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Environment(move |name: &str| variables.get(name).cloned())
    }

    fn with(file: &Traces, variables: &[(&str, &str)]) -> Option<Settings> {
        settings(file, Setting::Apart, &environment(variables))
    }

    fn file() -> Traces {
        Traces { endpoint: Some("http://file:4317".to_owned()), ratio: Some(0.5), slow: None }
    }

    #[test]
    fn without_an_endpoint_or_where_they_are_turned_off_there_are_no_traces() {
        assert!(with(&Traces::default(), &[]).is_none());
        for off in [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")] {
            assert!(with(&file(), &[off, ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://env:1")]).is_none(), "{off:?}");
        }
    }

    #[test]
    fn a_variable_wins_over_the_file_and_that_of_traces_over_that_of_all() {
        let endpoint = |variables: &[(&str, &str)]| with(&file(), variables).unwrap().collector.endpoint;
        assert_eq!(endpoint(&[]), "http://file:4317");
        let all = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:1");
        assert_eq!(endpoint(&[all]), "http://all:1");
        assert_eq!(endpoint(&[all, ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://traces:1")]), "https://traces:1");
    }

    #[test]
    fn samplers_are_those_of_opentelemetry_and_one_that_is_unknown_is_told() {
        let sampler = |variables: &[(&str, &str)]| with(&file(), variables).unwrap().sampler;
        let of = |ratio, follows_parent| Sampler { ratio, follows_parent };
        assert_eq!(sampler(&[]), of(0.5, true));
        for (name, argument, wanted) in [
            ("always_on", "", of(1.0, false)),
            ("parentbased_always_on", "", of(1.0, true)),
            ("always_off", "0.7", of(0.0, false)),
            ("parentbased_always_off", "", of(0.0, true)),
            ("traceidratio", "0.25", of(0.25, false)),
            ("parentbased_traceidratio", "0.25", of(0.25, true)),
            ("parentbased_traceidratio", "", of(1.0, true)),
            ("parentbased_traceidratio", "7", of(1.0, true)),
            ("jaeger_remote", "0.1", of(0.5, true)),
        ] {
            let variables = [("OTEL_TRACES_SAMPLER", name), ("OTEL_TRACES_SAMPLER_ARG", argument)];
            assert_eq!(sampler(&variables), wanted, "{name} {argument}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_ignored() {
        let settings = with(
            &file(),
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "nowhere"),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
                ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
                ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
                ("OTEL_EXPORTER_OTLP_HEADERS", "token=a%20b,secret"),
            ],
        );
        let settings = settings.unwrap();
        assert_eq!(settings.collector.endpoint, "http://file:4317");
        assert_eq!(settings.collector.timeout, Duration::from_secs(10));
        assert_eq!(settings.collector.headers, [("token".to_owned(), "a b".to_owned())]);
        assert_eq!(settings.queue_max, QUEUE_MAX);
    }

    #[test]
    fn a_stages_resource_says_what_it_is_and_the_environment_adds_to_it() {
        let stage: Stage = serde_json::from_value(serde_json::json!({ "sink": { "blackhole": {} } })).unwrap();
        let told = |variables: &[(&str, &str)]| {
            let resource = resource("p", "out", &stage, "out-0:7400", &environment(variables));
            resource.into_iter().map(|a| (a.key.to_string(), a.value.to_string())).collect::<HashMap<_, _>>()
        };
        let plain = told(&[]);
        for (name, value) in [
            ("service.name", "jaiminho-publish"),
            ("service.instance.id", "out-0:7400"),
            ("jaiminho.pipeline", "p"),
            ("jaiminho.stage", "out"),
        ] {
            assert_eq!(plain[name], value);
        }
        let variables = [("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=prod"), ("OTEL_SERVICE_NAME", "mine")];
        let more = told(&variables);
        assert_eq!((more["service.name"].as_str(), more["deployment.environment"].as_str()), ("mine", "prod"));
    }
}
