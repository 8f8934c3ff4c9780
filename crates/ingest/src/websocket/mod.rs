//! stub
use crate::problem::Problem;
use http::StatusCode;
pub(crate) async fn upgrade() -> Problem { Problem::new(StatusCode::NOT_FOUND, "not-found", "nothing") }
