//! A running pipeline, as the commands see it that look at it: what it is to consist of, and where its instances are.

mod plan;
mod port;
mod seen;
mod taps;

use std::{net::SocketAddr, ops::RangeInclusive, path::Path, sync::Arc};

use jaiminho_convert::{Program, TransformConfig};
use jaiminho_core::Event;
use jaiminho_discovery::At;
use jaiminho_link::{Connector, ConnectorConfig, Tls};
use jaiminho_observe::{Filter, Plan, Tap, Target, View, Watcher, stage_of};
use jaiminho_runtime::{Address, Connect, Verdict};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::{
    cli::Global,
    commands::{Found, file_or_running, instance},
    config::{Config, nearest},
    exit::Failure,
    output::printable,
    running::Running,
};

pub(crate) use plan::plan;
pub(crate) use port::{Port, about};
pub(crate) use seen::Seen;
pub(crate) use taps::PipelineTaps;

/// Of what a command looks at.
pub(crate) struct Reached {
    pub(crate) plan: Plan,
    /// By stage; an address may be several's.
    places: Vec<Place>,
    /// The `jaiminho up` of this pipeline that runs here.
    up: Option<Running>,
    found: FoundBy,
}

/// How it was found, and so may be found again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FoundBy {
    /// Its file says where its stages are, or it is in this very process.
    Place,
    /// A `jaiminho up` on this machine is it, here; none: it does not run.
    Up(Option<SocketAddr>),
}

struct Place {
    stages: Vec<String>,
    at: At,
    tls: Option<Tls>,
}

impl Reached {
    /// The pipeline file's, or that of the only `jaiminho up` that runs here.
    pub(crate) fn new(global: &Global) -> Result<Self, Failure> {
        match file_or_running(global, "start `jaiminho up`, or look from where the file is")? {
            Found::Running(running) => Ok(Self::of_running(running)),
            Found::File(config) => {
                let up = Running::find(&config.pipeline.pipeline).filter(|running| running.inspect.is_some());
                // Of this very file: nobody else is meant.
                match up {
                    Some(running) if running.is_of(&global.file) => Ok(Self::of_running(running)),
                    up => {
                        let places = places(&config);
                        let found = if places.is_empty() { FoundBy::Up(None) } else { FoundBy::Place };
                        Ok(Self { plan: plan(&config), places, up, found })
                    }
                }
            }
        }
    }

    /// All of its stages are in one process.
    pub(crate) fn of_running(running: Running) -> Self {
        let plan = running.plan.clone().unwrap_or_default();
        let stages = plan.stages.iter().map(|stage| stage.name.clone()).collect();
        let at = running.inspect.map(|at| At::List(vec![Address(at.to_string())]));
        let places = at.map(|at| Place { stages, at, tls: None }).into_iter().collect();
        Self { plan, places, up: None, found: FoundBy::Up(running.inspect) }
    }

    /// The same, of this process.
    pub(crate) fn of_this(running: Running) -> Self {
        Self { found: FoundBy::Place, ..Self::of_running(running) }
    }

    /// Of a `jaiminho up` that is not there any more: the one that runs now.
    fn elsewhere(&self) -> Option<Self> {
        let FoundBy::Up(at) = self.found else { return None };
        let running = Running::find(&self.plan.pipeline)?;
        (running.inspect.is_some() && running.inspect != at).then(|| Self::of_running(running))
    }

    fn targets(&self) -> Vec<Target> {
        let target = |place: &Place| Target {
            stages: place.stages.clone(),
            discover: place.at.discover(),
            tls: place.tls.clone(),
        };
        self.places.iter().map(target).collect()
    }

    /// One that has looked once. Where nothing answers, it is the `jaiminho up` of this pipeline that runs here.
    pub(crate) async fn watcher(&mut self) -> (Watcher, View) {
        loop {
            let mut watcher = Watcher::new(self.plan.clone(), self.targets());
            watcher.discover().await;
            let view = watcher.look().await;
            match self.up.take() {
                Some(running) if view.is_unseen() => {
                    *self = Self::of_running(running);
                }
                Some(_) | None => return (watcher, view),
            }
        }
    }

    /// Whether it is where its file says, or in the `jaiminho up` of it that runs here.
    pub(crate) async fn find(&mut self) {
        if self.up.is_some() {
            let _looked = self.watcher().await;
        }
    }

    /// Two looks or more, so that there are rates: over so many seconds.
    pub(crate) async fn view(&mut self, seconds: u32) -> View {
        self.view_while(seconds..=seconds, |_| false).await
    }

    /// Looks over so many seconds: after the least as long as the view asks for more, up to the most.
    pub(crate) async fn view_while(
        &mut self,
        seconds: RangeInclusive<u32>,
        mut asks_for_more: impl FnMut(&View) -> bool,
    ) -> View {
        let (mut watcher, mut view) = self.watcher().await;
        for second in 0..*seconds.end() {
            if view.is_unseen() || second >= *seconds.start() && !asks_for_more(&view) {
                break;
            }
            watcher.wait_until(Instant::now() + jaiminho_observe::INTERVAL).await;
            view = watcher.look().await;
        }
        view
    }

    /// A tap on an output, not opened yet.
    pub(crate) fn tap(&self, output: &str, filter: &str, rate: f64, tasks: TaskTracker) -> Result<Tap, Failure> {
        let outputs: Vec<&str> = self.plan.stages.iter().flat_map(|of| &of.outputs).map(String::as_str).collect();
        if !outputs.contains(&output) {
            let hint = nearest(output, &outputs).map_or(outputs.join(", "), |near| format!("did you mean `{near}`?"));
            let what = match self.plan.stage(output) {
                Some(_) => format!("stage `{output}` has no output of that name to tap"),
                None => format!("there is no output `{output}`"),
            };
            return Err(Failure::usage(format!("{what} ({hint})")));
        }
        let stage = stage_of(output);
        let place = self.places.iter().find(|place| place.stages.iter().any(|name| name == stage));
        let place = place.ok_or_else(|| {
            Failure::config(format!("stage `{stage}` has no `at` that says where its instances are, and no `jaiminho up` of this pipeline runs here"))
        })?;
        let config = ConnectorConfig { tls: place.tls.clone(), ..ConnectorConfig::default() };
        let connect: Arc<dyn Connect> = Arc::new(Connector::new(config, tasks));
        Ok(Tap {
            discover: place.at.discover(),
            connect,
            tls: place.tls.clone(),
            pipeline: self.plan.pipeline.clone(),
            output: output.to_owned(),
            name: format!("tap-{:x}", instance(String::new()).incarnation),
            rate,
            filter: condition(filter)?,
        })
    }
}

/// A condition in VRL, as a `filter` step has it; an empty one lets all pass.
pub(crate) fn condition(text: &str) -> Result<Option<Filter>, Failure> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let config: TransformConfig = serde_json::from_value(json!({ "filter": text })).map_err(Failure::software)?;
    let program = Program::compile(&config, Path::new("")).map_err(|errors| {
        let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
        Failure::usage(format!("the filter is no condition: {}", told.join("\n")))
    })?;
    Ok(Some(Arc::new(move |event: &Event| match program.run(event) {
        Verdict::Emit(outputs) => !outputs.is_empty(),
        Verdict::Reject { .. } => false,
    })))
}

/// Where the stages are of which the file says so.
fn places(config: &Config) -> Vec<Place> {
    let stages = config.pipeline.stages.iter();
    stages
        .filter_map(|(name, stage)| {
            let at = stage.at.clone()?;
            let tls = stage.tls.clone().filter(|tls| tls.cert.is_some()).map(|own| {
                // Who may connect to it trusts whom it has to trust; a stage that nobody connects to trusts itself.
                let consumers =
                    config.subscriptions().filter(|(_, of)| of.stage() == name).map(|(consumer, _)| consumer);
                let theirs = consumers.filter_map(|consumer| config.pipeline.stages.get(consumer)?.tls.clone());
                let tls = theirs.chain([own]).find(|tls| tls.ca.is_some()).unwrap_or_default();
                tls.to(stage.server_name())
            });
            Some(Place { stages: vec![name.clone()], at, tls })
        })
        .collect()
}

/// None of the addresses answers: which ones were asked, and what to do.
pub(crate) fn nothing_answers(view: &View) -> Option<Failure> {
    if !view.is_unseen() || view.stages.iter().any(|stage| stage.addresses.iter().any(|at| at.is_there)) {
        return None;
    }
    let asked = view.stages.iter().flat_map(|stage| {
        stage.addresses.iter().map(move |at| {
            let (address, why) = (printable(&at.address), printable(at.problem.as_deref().unwrap_or("not asked")));
            format!("\n  {} at {address}: {why}; is `jaiminho stage {}` running there?", stage.name, stage.name)
        })
    });
    let asked: String = asked.collect();
    let what = match (asked.is_empty(), view.stages.iter().any(|stage| stage.has_place)) {
        (false, _) => format!("nothing of pipeline `{}` answers:{asked}", view.pipeline),
        (true, true) => format!(
            "nothing of pipeline `{}` is found: the addresses that its file names (`at`) lead nowhere from here, and no `jaiminho up` of it runs here",
            view.pipeline
        ),
        (true, false) => format!(
            "pipeline `{}` is not found: its file does not say where its stages are (`at`), and no `jaiminho up` of it runs here",
            view.pipeline
        ),
    };
    Some(Failure::unavailable(what))
}
