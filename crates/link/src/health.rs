//! grpc.health.v1 on the stage's port.

use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// What probes are told. `liveness` serves as long as the server runs; the others only while the stage is ready.
#[derive(Clone, Debug)]
pub struct Health(HealthReporter);

impl Health {
    pub(crate) fn new(reporter: HealthReporter) -> Self {
        Self(reporter)
    }

    /// Sets the services `""`, `readiness` and `jaiminho.v1.Stage`.
    pub async fn set_ready(&self, ready: bool) {
        for service in ["", "readiness", crate::service::NAME] {
            self.set(service, ready).await;
        }
    }

    /// Sets the service `liveness`.
    pub async fn set_live(&self, live: bool) {
        self.set("liveness", live).await;
    }

    async fn set(&self, service: &str, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        self.0.set_service_status(service, status).await;
    }
}
