//! The loop closed: the rule, KEDA and Kubernetes' autoscaler around a model of a pipeline. What comes of it is tested, and drawn for
//! `docs/scaling.md`: `UPDATE_DOCS=1 cargo test -p jaiminho-scaling` draws it anew.

mod hpa;
mod model;
mod plot;
mod stories;
