//! `jaiminho console`, and the console of `up`: a page that shows the pipeline live.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use jaiminho_observe::{About, Console};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{block_on, local};
use crate::cli::{Console as Arguments, Global};
use crate::exit::Failure;
use crate::http;
use crate::observed::{PipelineTaps, Reached, Seen, nothing_answers};
use crate::output::{line, note};
use crate::signals::Signals;

/// For what still runs when it is to end.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<(), Failure> {
    let reached = Reached::new(global)?;
    block_on(async {
        let mut signals = Signals::listen()?;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let place = Place::bind(&arguments.listen, "--listen").await?;
        let url = place.url();
        let pipeline = reached.plan.pipeline.clone();
        place.serve(reached, global.program.version(), arguments.jaeger.clone(), &tasks, stop.clone()).await;
        line(if global.json {
            json!({ "pipeline": pipeline, "console": url }).to_string()
        } else {
            format!("The console of pipeline {pipeline} is at {url}. Ctrl-C ends it.")
        })?;
        signals.next().await;
        stop.cancel();
        tasks.close();
        let _late = tokio::time::timeout(CLOSE_DEADLINE, tasks.wait()).await;
        Ok(())
    })
}

/// Where a console is to be served.
pub(crate) struct Place {
    listener: TcpListener,
    address: SocketAddr,
}

impl Place {
    /// Binds the address; where somebody else has it, a free port beside it, and says so.
    pub(crate) async fn bind(address: &str, option: &str) -> Result<Self, Failure> {
        let cant = |error: std::io::Error| {
            Failure::unavailable(format!("can't listen at {address}: {error}; {option} chooses another address"))
        };
        let listener = match TcpListener::bind(address).await {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
                let listener = TcpListener::bind(format!("{host}:0")).await.map_err(cant)?;
                tracing::warn!("{address} is taken: the console has a free port; {option} chooses another address");
                listener
            }
            bound => bound.map_err(cant)?,
        };
        let address = listener.local_addr().map_err(cant)?;
        if !address.ip().is_loopback() {
            tracing::warn!(
                "whoever reaches {address} sees this pipeline's events: the console asks nobody who they are"
            );
        }
        Ok(Self { listener, address })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", local(self.address))
    }

    /// Serves it until `stop`.
    pub(crate) async fn serve(
        self,
        mut reached: Reached,
        version: String,
        jaeger: Option<String>,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) {
        let (watcher, view) = reached.watcher().await;
        if let Some(failure) = nothing_answers(&view) {
            note(format!("{}; the console shows it once it does", failure.text));
        }
        let outputs = reached.plan.stages.iter().flat_map(|stage| stage.outputs.clone()).collect();
        let about = About { pipeline: reached.plan.pipeline.clone(), version, jaeger, outputs };
        let Seen { views, record, reached } = Seen::by(watcher, view, reached, tasks, stop.clone());
        let history = Box::new(move || record.json());
        // A tap holds nothing: nobody waits for the end of its links.
        let taps = Box::new(PipelineTaps { reached, tasks: TaskTracker::new() });
        let is_local = self.address.ip().is_loopback();
        let router = jaiminho_observe::router(Console { about, views, history, taps, is_local });
        tasks.spawn(async move {
            tokio::select! {
                () = http::serve(self.listener, None, router, http::Limits::default()) => {}
                () = stop.cancelled() => {}
            }
        });
    }
}

/// Where Jaeger is, to be put before `/trace/ID`.
pub(crate) fn jaeger(url: &str) -> Result<String, String> {
    let is_url = url.starts_with("http://") || url.starts_with("https://");
    if is_url { Ok(url.trim_end_matches('/').to_owned()) } else { Err("must begin with http:// or https://".into()) }
}
