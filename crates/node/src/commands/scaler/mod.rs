//! `jaiminho scaler`: tells KEDA how many instances each stage needs.

mod keeper;
mod service;
mod sight;

use std::time::Duration;

use jaiminho_proto::externalscaler::{FILE_DESCRIPTOR_SET, external_scaler_server::ExternalScalerServer};
use serde_json::json;
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::transport::Server;

use self::{keeper::Keeper, service::Service};
use super::{block_on, local};
use crate::{
    admin,
    cli::{Global, Scaler},
    exit::Failure,
    observed::{Reached, Seen, nothing_answers},
    output::{line, note},
    signals::Signals,
};

pub(crate) use sight::sight;

/// A question is small.
const QUESTION_BYTES_MAX: usize = 64 << 10;
/// Questions on one connection at a time: KEDA has one for all of its ScaledObjects.
const STREAMS_MAX: u32 = 1_024;
/// Questions that wait.
const ASKS_MAX: usize = 256;
/// A connection that is gone is noticed after so long.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// For what still runs when it is to end.
const CLOSE_DEADLINE: Duration = Duration::from_secs(3);

pub(crate) fn run(global: &Global, arguments: &Scaler) -> Result<(), Failure> {
    let mut reached = Reached::new(global)?;
    block_on(async {
        let mut signals = Signals::listen()?;
        let (listener, address) = admin::bind(&arguments.listen, "--listen").await?;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let pipeline = reached.plan.pipeline.clone();
        let (watcher, view) = reached.watcher().await;
        if let Some(failure) = nothing_answers(&view) {
            note(format!("{}; until it does, nothing is told", failure.text));
        }
        let Seen { views, .. } = Seen::by(watcher, view, reached, &tasks, stop.clone());
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        tasks.spawn(Keeper::new().run(views.clone(), asked));
        let serving = serve(listener, Service { views, asks, stop: stop.clone() }, stop.clone());
        let mut serving = tasks.spawn(serving);
        line(if global.json {
            json!({ "pipeline": pipeline, "scaler": local(address) }).to_string()
        } else {
            format!("The scaler of pipeline {pipeline} listens at {}. Ctrl-C ends it.", local(address))
        })?;
        tokio::select! {
            _ = signals.next() => {}
            ended = &mut serving => return ended.map_err(Failure::software)?,
        }
        stop.cancel();
        tasks.close();
        let _late = tokio::time::timeout(CLOSE_DEADLINE, tasks.wait()).await;
        Ok(())
    })
}

/// Until `stop`.
async fn serve(listener: TcpListener, service: Service, stop: CancellationToken) -> Result<(), Failure> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<ExternalScalerServer<Service>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(Failure::software)?;
    Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .add_service(ExternalScalerServer::new(service).max_decoding_message_size(QUESTION_BYTES_MAX))
        .add_service(health_service.max_decoding_message_size(QUESTION_BYTES_MAX))
        .add_service(reflection.max_decoding_message_size(QUESTION_BYTES_MAX))
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop.cancelled_owned())
        .await
        .map_err(|error| Failure::unavailable(format!("the scaler's port: {error}")))
}
