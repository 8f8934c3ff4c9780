//! A real Apache Kafka.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::{Child, Directory, eventually, free_ports};

/// One broker, with its own ports and data. Dropping it ends the broker.
#[derive(Debug)]
pub struct Kafka {
    port: u16,
    child: Mutex<Option<Child>>,
    directory: Directory,
}

impl Kafka {
    /// A broker of one's own, to freeze and to kill.
    pub async fn start() -> Self {
        let kafka = Self { port: free_ports(2), child: Mutex::new(None), directory: Directory::new("kafka") };
        kafka.launch();
        kafka.ready().await;
        kafka
    }

    /// The broker that tests share who leave it alone: use topics of your own.
    pub async fn shared() -> Arc<Self> {
        static SHARED: tokio::sync::Mutex<Weak<Kafka>> = tokio::sync::Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        if let Some(kafka) = shared.upgrade() {
            return kafka;
        }
        let kafka = Arc::new(Self::start().await);
        *shared = Arc::downgrade(&kafka);
        kafka
    }

    /// `host:port`
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// SIGSTOP
    pub fn freeze(&self) {
        self.with(Child::freeze);
    }

    /// SIGCONT
    pub fn thaw(&self) {
        self.with(Child::thaw);
    }

    /// `kill -9`
    pub fn kill(&self) {
        self.child.lock().expect("kafka").take();
    }

    /// Starts it again on its data.
    pub async fn restart(&self) {
        self.kill();
        self.launch();
        self.ready().await;
    }

    fn launch(&self) {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("kafka/run");
        let mut command = Command::new("bash");
        command.arg(script).arg(self.directory.path()).arg(self.port.to_string());
        let child = Child::spawn("kafka", &command, &self.directory.path().join("run.log"));
        *self.child.lock().expect("kafka") = Some(child);
    }

    async fn ready(&self) {
        // The first time, its libraries are fetched.
        eventually("Kafka", Duration::from_secs(300), || async {
            let state = self.with(|child| child.exited().map(|status| (status, child.log_tail())));
            if let Some((status, log)) = state {
                panic!("Kafka ended with {status} (java, mvn and setpriv are needed): {log}");
            }
            let bootstrap = self.bootstrap();
            tokio::task::spawn_blocking(move || takes_clients(&bootstrap)).await.expect("probe")
        })
        .await;
    }

    fn with<T>(&self, act: impl FnOnce(&Child) -> T) -> T {
        act(self.child.lock().expect("kafka").as_ref().expect("a running Kafka"))
    }
}

/// The port opens before the broker takes clients: ask for the topics.
fn takes_clients(bootstrap: &str) -> Result<(), String> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "probe")
        .set("log_level", "0")
        .create()
        .map_err(|error| error.to_string())?;
    let metadata = consumer.fetch_metadata(None, Duration::from_secs(2)).map_err(|error| error.to_string())?;
    if metadata.brokers().is_empty() { Err("no broker in its metadata".to_owned()) } else { Ok(()) }
}
