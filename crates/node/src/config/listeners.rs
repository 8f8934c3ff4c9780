//! The addresses that sources listen on: nobody can bind one of them twice.

use super::Setting;
use super::component::Source;
use super::model::Pipeline;
use super::problem::{Place, Problem};
use super::tree::Node;

/// One address of a source.
struct Listener<'a> {
    stage: &'a str,
    host: &'a str,
    port: u16,
    listen: &'a str,
    place: Place,
}

/// Addresses that stand twice: of two sources, which one process can't run both, or of the two endpoints of one.
pub(super) fn check(pipeline: &Pipeline, tree: &Node, setting: Setting) -> Vec<Problem> {
    let mut listeners = listeners(pipeline, tree);
    listeners.sort_by(|a, b| a.place.cmp(&b.place));
    let mut problems = Vec::new();
    for (index, listener) in listeners.iter().enumerate() {
        let Some(earlier) = listeners[..index].iter().find(|earlier| earlier.collides(listener)) else { continue };
        let Listener { stage, listen, place, .. } = listener;
        let other = earlier.stage;
        if other == *stage {
            let what = format!("`http` and `websocket` of source `{stage}` both listen on {listen}");
            let problem = Problem::error(place.clone(), what);
            problems.push(problem.hint("without `websocket.listen` they share `http`'s address"));
            continue;
        }
        match setting {
            // They may be on separate machines.
            Setting::Apart => {}
            Setting::Together | Setting::Anywhere => {
                let what = format!("source `{stage}` listens on {listen}, as `{other}` does: `up` can't run both");
                problems.push(Problem::warning(place.clone(), what).hint("apart they need a machine each"));
            }
        }
    }
    problems
}

fn listeners<'a>(pipeline: &'a Pipeline, tree: &Node) -> Vec<Listener<'a>> {
    let mut all = Vec::new();
    for (stage, source) in pipeline.stages.iter().filter_map(|(name, stage)| Some((name, stage.source.as_ref()?))) {
        let Source::Ingest(ingest) = source else { continue };
        let http = ingest.http.as_ref().map(|http| ("http", &http.listen));
        let websocket = ingest.websocket.as_ref().and_then(|socket| Some(("websocket", socket.listen.as_ref()?)));
        for (endpoint, listen) in http.into_iter().chain(websocket) {
            // Port 0 is a free one each time; what is no address the source says itself.
            let address = listen.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
            if let Some((host, port)) = address.filter(|(_, port)| *port > 0) {
                let place = tree.find(["stages", stage, "source", endpoint, "listen"]);
                all.push(Listener { stage, host, port, listen, place });
            }
        }
    }
    all
}

impl Listener<'_> {
    fn collides(&self, other: &Self) -> bool {
        let everywhere = |host: &str| matches!(host, "0.0.0.0" | "[::]");
        let plain = |host| if host == "localhost" { "127.0.0.1" } else { host };
        self.port == other.port
            && (everywhere(self.host) || everywhere(other.host) || plain(self.host) == plain(other.host))
    }
}
