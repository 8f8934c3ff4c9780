//! A pipeline whose stages run apart: some instances of each, that come and go.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{Directory, Jaiminho, Place, eventually};

/// How long a group may take until all of it is there.
const JOINED: Duration = Duration::from_secs(60);

/// The instances that may run: each has its address from the start, as in a fixed list.
#[derive(Debug)]
pub struct Cluster {
    directory: Directory,
    file: PathBuf,
    places: BTreeMap<String, Vec<Place>>,
    running: BTreeMap<(String, usize), Jaiminho>,
    memory_max: BTreeMap<String, u64>,
}

impl Cluster {
    /// `instances` a stage on this machine; `file` gives the pipeline file, from each stage's list of addresses.
    pub fn new(name: &str, instances: &[(&str, usize)], file: impl FnOnce(&dyn Fn(&str) -> String) -> String) -> Self {
        let places = instances.iter().map(|(stage, count)| {
            let places = (0..*count).map(|_| Place::local()).collect();
            ((*stage).to_owned(), places)
        });
        Self::at(name, places.collect(), file)
    }

    /// The same, at places of one's own.
    pub fn at(
        name: &str,
        places: BTreeMap<String, Vec<Place>>,
        file: impl FnOnce(&dyn Fn(&str) -> String) -> String,
    ) -> Self {
        let directory = Directory::new(name);
        let addresses = |stage: &str| {
            let listed: Vec<_> = places[stage].iter().map(|place| format!("\"{}\"", place.address())).collect();
            format!("{{ list: [{}] }}", listed.join(", "))
        };
        let file = directory.write("pipeline.yaml", &file(&addresses));
        Self { directory, file, places, running: BTreeMap::new(), memory_max: BTreeMap::new() }
    }

    /// Starts one instance, and does not wait.
    pub fn start(&mut self, stage: &str, index: usize) {
        let process = Jaiminho::stage(self.directory.path(), &self.file, stage, &self.places[stage][index]);
        let before = self.running.insert((stage.to_owned(), index), process);
        assert!(before.is_none(), "{stage} {index} runs already");
    }

    /// Waits until all that run are ready.
    pub async fn ready(&self) {
        for process in self.running.values() {
            process.ready().await;
        }
    }

    /// One that runs.
    pub fn instance(&self, stage: &str, index: usize) -> &Jaiminho {
        &self.running[&(stage.to_owned(), index)]
    }

    /// Waits until an instance's log has so many members of a group.
    pub async fn members(&self, stage: &str, index: usize, group: &str, count: f64) {
        let process = self.instance(stage, index);
        eventually(&format!("{count} of {group} at {}", process.name), JOINED, || async {
            let found = process.metric("jaiminho_group_members", &format!("group=\"{group}\"")).await;
            if found == count { Ok(()) } else { Err(format!("{found}\n{}", process.child.log_tail())) }
        })
        .await;
    }

    /// All that run.
    pub fn instances(&self) -> impl Iterator<Item = &Jaiminho> {
        self.running.values()
    }

    /// `kill -9`
    pub fn kill(&mut self, stage: &str, index: usize) {
        self.measure();
        self.take(stage, index).child.kill();
    }

    /// SIGTERM, and waits for its drain, which must succeed.
    pub async fn drain(&mut self, stage: &str, index: usize) {
        self.measure();
        self.instance(stage, index).child.terminate();
        self.drained(stage, index).await;
    }

    /// Waits for the end of one that drains.
    pub async fn drained(&mut self, stage: &str, index: usize) {
        let process = self.take(stage, index);
        let status = process.child.exit(Duration::from_secs(60)).await;
        assert!(status.success(), "{stage} {index} drained with {status}:\n{}", process.child.log_tail());
    }

    /// Notes the memory of all that run. Each `kill` and `drain` does so too.
    pub fn measure(&mut self) {
        for ((stage, _), process) in &self.running {
            let bytes = process.child.resident_bytes_max().unwrap_or_default();
            let most = self.memory_max.entry(stage.clone()).or_default();
            *most = bytes.max(*most);
        }
    }

    /// The most that any process of each stage had resident, in bytes.
    pub fn memory_max(&self) -> &BTreeMap<String, u64> {
        &self.memory_max
    }

    /// Every running process must still be the one that was started.
    pub fn assert_running(&self) {
        for process in self.running.values() {
            let ended = process.child.exited();
            assert!(ended.is_none(), "{} ended by itself with {ended:?}:\n{}", process.name, process.child.log_tail());
        }
    }

    /// Writes the metrics of all that run into the test's directory, for whoever reads a failed test.
    pub async fn keep_metrics(&self) {
        for process in self.running.values().filter(|process| process.child.exited().is_none()) {
            self.directory.write(&format!("{}.metrics", process.name), &process.metrics().await);
        }
    }

    /// Where the pipeline file is.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The test's directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn take(&mut self, stage: &str, index: usize) -> Jaiminho {
        self.running.remove(&(stage.to_owned(), index)).unwrap_or_else(|| panic!("{stage} {index} does not run"))
    }
}
