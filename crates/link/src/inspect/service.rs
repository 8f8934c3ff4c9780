//! The `Inspect` service of a stage's port. Whoever asks, however often, costs the stage no more than is said here.

use std::{
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared, join_all},
};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use jaiminho_proto::v1::{
    self,
    inspect_server::{Inspect, InspectServer},
};
use jaiminho_runtime::{Inspection, StageHandle};
use jaiminho_telemetry::{Memory, cpu_time};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Status, body::Body, server::NamedService};
use tower::Service;

use super::messages::{self, STAGES_MAX};
use crate::streams::Peer;

/// Askers that are answered at once; others wait.
pub(crate) const ASKERS_MAX: usize = 2;
/// How long they wait at most.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// A stage's task is asked again after this time: until then all get the same answer.
const FRESH: Duration = Duration::from_millis(100);
/// Answers a second.
const ANSWERS_PER_SECOND_MAX: u32 = 50;
/// A stage that is slower is left out of the answer.
const STAGE_DEADLINE: Duration = Duration::from_secs(1);
/// From the question to the last byte of the answer, or the asker is cut off.
const ASKER_DEADLINE: Duration = Duration::from_secs(10);
/// A question says nothing.
const QUESTION_BYTES_MAX: usize = 1024;

/// What a process says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct About {
    /// Of the program.
    pub version: String,
    /// From which the program was built; may be empty.
    pub commit: String,
    /// What it may take in all beside the program itself, as `jaiminho validate` says; none: not known.
    pub memory_bytes_max: Option<u64>,
    /// So many processors it can put to use; none: not known.
    pub cpus: Option<f64>,
}

/// One look at all stages, which all who ask meanwhile wait for together.
type Look = Shared<BoxFuture<'static, Arc<Vec<Inspection>>>>;

/// What the stages of this port tell.
pub(crate) struct Board {
    stages: Vec<StageHandle>,
    about: About,
    last: Mutex<Option<(Instant, Look)>>,
    /// When the second began, and the answers in it.
    second: Mutex<(Instant, u32)>,
}

impl Board {
    pub(crate) fn server(stages: Vec<StageHandle>, about: About, tasks: TaskTracker) -> Placed<InspectServer<Self>> {
        let second = Mutex::new((Instant::now(), 0));
        let board = Self { stages, about, last: Mutex::new(None), second };
        let inner = InspectServer::new(board).max_decoding_message_size(QUESTION_BYTES_MAX);
        Placed { inner, places: Arc::new(Semaphore::new(ASKERS_MAX)), tasks }
    }

    fn look(&self) -> Look {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, look)) = last.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return look.clone();
        }
        let stages: Vec<_> = self.stages.iter().take(STAGES_MAX).cloned().collect();
        let ask = |stage: StageHandle| async move { timeout(STAGE_DEADLINE, stage.inspect()).await.ok().flatten() };
        let look = async move {
            let told = join_all(stages.into_iter().map(ask)).await;
            Arc::new(told.into_iter().flatten().map(|inspection| *inspection).collect())
        };
        let look = look.boxed().shared();
        *last = Some((Instant::now(), look.clone()));
        look
    }

    fn may_answer(&self) -> bool {
        let mut second = self.second.lock().unwrap_or_else(PoisonError::into_inner);
        if second.0.elapsed() >= Duration::from_secs(1) {
            *second = (Instant::now(), 0);
        }
        second.1 += 1;
        second.1 <= ANSWERS_PER_SECOND_MAX
    }

    fn process(&self) -> v1::Process {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let Memory { resident_bytes, program_bytes } = Memory::of_this_process().unwrap_or_default();
        v1::Process {
            version: self.about.version.clone(),
            commit: self.about.commit.clone(),
            unix_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            resident_bytes,
            program_bytes,
            memory_bytes_max: self.about.memory_bytes_max.unwrap_or_default(),
            cpu_ms: cpu_time().map_or(0, messages::ms),
            cpus: self.about.cpus.unwrap_or_default(),
        }
    }
}

#[tonic::async_trait]
impl Inspect for Board {
    async fn inspect(
        &self,
        _: tonic::Request<v1::InspectRequest>,
    ) -> Result<tonic::Response<v1::InspectResponse>, Status> {
        if !self.may_answer() {
            let text = format!("asked more than {ANSWERS_PER_SECOND_MAX} times in a second; ask again in a second");
            return Err(Status::resource_exhausted(text));
        }
        let told = self.look().await;
        if told.is_empty() {
            return Err(Status::unavailable("the stage does not answer"));
        }
        Ok(tonic::Response::new(messages::encode(self.process(), &told)))
    }
}

/// Serves so many at once, each until its answer has left.
#[derive(Clone)]
pub(crate) struct Placed<S> {
    inner: S,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl<S: NamedService> NamedService for Placed<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Placed<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Self { mut inner, places, tasks } = self.clone();
        std::mem::swap(&mut inner, &mut self.inner);
        async move {
            let Ok(Ok(place)) = timeout(WAIT_MAX, places.acquire_owned()).await else {
                let text = format!("more than {ASKERS_MAX} ask at once; ask again in a second");
                return Ok(Status::resource_exhausted(text).into_http());
            };
            let cut = Peer::of(request.extensions()).map(|peer| peer.cut.clone()).unwrap_or_default();
            let gone = CancellationToken::new();
            let until_gone = gone.clone().drop_guard();
            tasks.spawn(async move {
                // Who reads nothing would keep the place.
                if timeout(ASKER_DEADLINE, gone.cancelled()).await.is_err() {
                    cut.cancel();
                }
            });
            let response = inner.call(request).await?;
            Ok(response.map(|body| {
                Body::new(body.map_frame(move |frame| {
                    let _until_the_last = (&place, &until_gone);
                    frame
                }))
            }))
        }
        .boxed()
    }
}
