//! SIGTERM and SIGINT: the first drains, the second aborts.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::Failure;

/// What ends the process.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Listens from now on.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::software(format!("signals: {error}")));
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// The next one; its number.
    pub(crate) async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.terminate.recv() => 15,
            _ = self.interrupt.recv() => 2,
        }
    }

    /// From now on one more signal ends the process at once.
    pub(crate) fn abort_on_next(mut self) -> tokio::task::JoinHandle<()> {
        tokio::spawn(async move {
            let number = self.next().await;
            tracing::warn!("second signal: leaving without draining; what is not settled is delivered again elsewhere");
            std::process::exit(128 + number);
        })
    }
}
