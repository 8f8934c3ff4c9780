//! KEDA's external scaler (`proto/keda/externalscaler.proto`).

use std::{
    collections::HashMap,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::{Stream, StreamExt as _, future::ready};
use jaiminho_observe::View;
use jaiminho_proto::externalscaler::{
    GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, MetricSpec, MetricValue,
    ScaledObjectRef, external_scaler_server::ExternalScaler,
};
use jaiminho_scaling::Options;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{keeper::Ask, sight::sight};
use crate::config::nearest;

/// A look that is older tells nothing of now.
const LOOK_AGE_MAX: Duration = Duration::from_secs(15);
/// The option that names the stage.
const STAGE: &str = "stage";

/// See the module.
pub(super) struct Service {
    pub(super) views: watch::Receiver<Arc<View>>,
    pub(super) asks: mpsc::Sender<Ask>,
    /// Ends the streams.
    pub(super) stop: CancellationToken,
}

type ActiveStream = Pin<Box<dyn Stream<Item = Result<IsActiveResponse, Status>> + Send>>;

#[tonic::async_trait]
impl ExternalScaler for Service {
    async fn is_active(&self, request: Request<ScaledObjectRef>) -> Result<Response<IsActiveResponse>, Status> {
        let view = self.view()?;
        let (stage, _) = wanted(&view, &request.get_ref().scaler_metadata)?;
        let sight = sight(&view, &stage).map_err(Status::unavailable)?;
        Ok(Response::new(IsActiveResponse { result: sight.is_active() }))
    }

    type StreamIsActiveStream = ActiveStream;

    /// At once, and at each change; while the stage is seen in part, or was long ago, nothing.
    async fn stream_is_active(&self, request: Request<ScaledObjectRef>) -> Result<Response<ActiveStream>, Status> {
        let (stage, _) = wanted(&self.views.borrow(), &request.get_ref().scaler_metadata)?;
        let mut last = None;
        let changes = WatchStream::new(self.views.clone()).filter_map(move |view| {
            let active = recent(view).ok().and_then(|view| sight(&view, &stage).ok()).map(|sight| sight.is_active());
            let news = active.filter(|active| last.replace(*active) != Some(*active));
            ready(news.map(|result| Ok(IsActiveResponse { result })))
        });
        Ok(Response::new(Box::pin(changes.take_until(self.stop.clone().cancelled_owned()))))
    }

    async fn get_metric_spec(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<GetMetricSpecResponse>, Status> {
        let (stage, _) = wanted(&self.views.borrow(), &request.get_ref().scaler_metadata)?;
        // The metric is the number of instances: of each, one.
        let spec = MetricSpec { metric_name: metric_name(&stage), target_size: 1, target_size_float: 1.0 };
        Ok(Response::new(GetMetricSpecResponse { metric_specs: vec![spec] }))
    }

    async fn get_metrics(&self, request: Request<GetMetricsRequest>) -> Result<Response<GetMetricsResponse>, Status> {
        let GetMetricsRequest { scaled_object_ref, metric_name: asked } = request.into_inner();
        let view = self.view()?;
        let (stage, options) = wanted(&view, &scaled_object_ref.unwrap_or_default().scaler_metadata)?;
        let metric_name = if asked.is_empty() { metric_name(&stage) } else { asked };
        let (reply, told) = oneshot::channel();
        let gone = |_| Status::unavailable("the scaler stops");
        self.asks.send(Ask { stage, options, reply }).await.map_err(|_| gone(()))?;
        let decision = told.await.map_err(|_| gone(()))?.map_err(Status::unavailable)?;
        let needed = decision.needed;
        let value = MetricValue { metric_name, metric_value: needed.into(), metric_value_float: needed.into() };
        Ok(Response::new(GetMetricsResponse { metric_values: vec![value] }))
    }

    type StreamMetricSpecStream = Pin<Box<dyn Stream<Item = Result<GetMetricSpecResponse, Status>> + Send>>;

    async fn stream_metric_spec(
        &self,
        _: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamMetricSpecStream>, Status> {
        Err(Status::unimplemented("the target of a stage's metric never changes: it is 1"))
    }
}

impl Service {
    fn view(&self) -> Result<Arc<View>, Status> {
        recent(self.views.borrow().clone())
    }
}

/// The look, unless it is too old.
fn recent(view: Arc<View>) -> Result<Arc<View>, Status> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let age = now.saturating_sub(Duration::from_millis(view.unix_ms));
    if age > LOOK_AGE_MAX {
        return Err(Status::unavailable(format!("the last look at the pipeline is {} s old", age.as_secs())));
    }
    Ok(view)
}

fn metric_name(stage: &str) -> String {
    format!("jaiminho-{stage}")
}

/// The stage, and how it is to be scaled. What KEDA's own keys say is KEDA's matter.
fn wanted(view: &View, metadata: &HashMap<String, String>) -> Result<(String, Options), Status> {
    let stages: Vec<&str> = view.stages.iter().map(|stage| stage.name.as_str()).collect();
    let stage = metadata.get(STAGE).ok_or_else(|| {
        Status::invalid_argument(format!("the trigger's metadata lack `{STAGE}`: one of {}", stages.join(", ")))
    })?;
    if !stages.contains(&stage.as_str()) {
        let hint = nearest(stage, &stages).map_or(stages.join(", "), |near| format!("did you mean `{near}`?"));
        return Err(Status::invalid_argument(format!("pipeline `{}` has no stage `{stage}` ({hint})", view.pipeline)));
    }
    let options = options(metadata.iter().filter(|(key, _)| *key != STAGE)).map_err(Status::invalid_argument)?;
    Ok((stage.clone(), options))
}

/// The options among these; one that is nearly an option is refused.
fn options<'a>(given: impl IntoIterator<Item = (&'a String, &'a String)>) -> Result<Options, String> {
    let mut options = Options::default();
    for (key, value) in given {
        let is_known = options.set(key, value).map_err(|error| error.to_string())?;
        let near = nearest(key, &Options::KEYS).filter(|_| !is_known && !KEDA_KEYS.contains(&key.as_str()));
        if let Some(near) = near {
            return Err(format!("there is no option `{key}`; did you mean `{near}`?"));
        }
    }
    Ok(options)
}

/// Those of KEDA's external triggers.
const KEDA_KEYS: [&str; 6] = ["scalerAddress", "enableTLS", "unsafeSsl", "caCert", "tlsClientCert", "tlsClientKey"];

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use jaiminho_observe::{Plan, PlannedStage, Role, Watcher};

    use super::{super::sight::tests::three, *};

    fn view() -> View {
        let stage = |name: &str| PlannedStage {
            name: name.into(),
            role: Role::Transform,
            component: "vrl".into(),
            deadline_ms: None,
            subscribe_to: vec![],
            outputs: vec![],
        };
        Watcher::planned(&Plan { pipeline: "eugenio".into(), stages: vec![stage("convert"), stage("publish")] })
    }

    fn read(pairs: &[(&str, &str)]) -> Result<(String, Options), String> {
        let metadata = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        wanted(&view(), &metadata).map_err(|status| status.message().to_owned())
    }

    #[test]
    fn the_trigger_names_a_stage_and_may_have_options_and_keda_s_own_keys() {
        let (stage, options) =
            read(&[("stage", "convert"), ("scalerAddress", "scaler:7500"), ("enableTLS", "false"), ("target", "0.7")])
                .unwrap();
        assert_eq!((stage.as_str(), options), ("convert", Options { target: 0.7, ..Options::default() }));
    }

    /// Its last look was so long ago.
    fn service(age: Duration) -> Service {
        let seen = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() - age;
        let view = View { unix_ms: seen.as_millis() as u64, ..three() };
        Service { views: watch::channel(Arc::new(view)).1, asks: mpsc::channel(1).0, stop: CancellationToken::new() }
    }

    #[tokio::test]
    async fn a_look_of_long_ago_tells_nothing() {
        let of = || ScaledObjectRef {
            scaler_metadata: [("stage".to_owned(), "convert".to_owned())].into(),
            ..ScaledObjectRef::default()
        };
        let (new, old) = (service(Duration::from_secs(1)), service(LOOK_AGE_MAX + Duration::from_secs(1)));
        assert!(new.is_active(Request::new(of())).await.is_ok());
        let told = old.is_active(Request::new(of())).await.unwrap_err();
        let is_said = |told: &Status| {
            let seconds = told.message().strip_prefix("the last look at the pipeline is ");
            let seconds = seconds.and_then(|rest| rest.strip_suffix(" s old")?.parse::<u64>().ok());
            seconds.is_some_and(|seconds| (16..60).contains(&seconds))
        };
        assert!(is_said(&told), "{told}");
        let question = GetMetricsRequest { scaled_object_ref: Some(of()), metric_name: String::new() };
        assert!(is_said(&old.get_metrics(Request::new(question)).await.unwrap_err()));
        let mut pushed = Vec::new();
        for service in [new, old] {
            let mut stream = service.stream_is_active(Request::new(of())).await.unwrap().into_inner();
            pushed.push(stream.next().now_or_never().flatten().is_some());
        }
        assert_eq!(pushed, [true, false]);
    }

    #[test]
    fn what_is_wrong_with_a_trigger_is_said_with_what_is_right() {
        for (pairs, told) in [
            (&[][..], "the trigger's metadata lack `stage`: one of convert, publish"),
            (&[("stage", "convrt")], "pipeline `eugenio` has no stage `convrt` (did you mean `convert`?)"),
            (&[("stage", "x-y-z-1")], "pipeline `eugenio` has no stage `x-y-z-1` (convert, publish)"),
            (&[("stage", "convert"), ("targt", "0.7")], "there is no option `targt`; did you mean `target`?"),
            (&[("stage", "convert"), ("target", "70")], "`target` is `70`, and must be a number from 0.1 to 0.9"),
        ] {
            assert_eq!(read(pairs), Err(told.to_owned()));
        }
    }
}
