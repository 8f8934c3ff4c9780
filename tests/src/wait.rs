//! Waiting for a condition, with a deadline.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// How much longer than the deadline one answer of a condition may take.
const ANSWER: Duration = Duration::from_secs(60);

/// Asks `condition` again until it gives a value; panics with `what` and the last reason at the deadline.
pub async fn eventually<T, F, Fut>(what: &str, deadline: Duration, condition: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, String>>,
{
    attempt(deadline, condition).await.unwrap_or_else(|reason| panic!("{what}: not within {deadline:?}: {reason}"))
}

/// The same for a caller who has something to do first when it fails: the last reason. What is asked and does not answer is no
/// reason to wait for ever.
pub async fn attempt<T, F, Fut>(deadline: Duration, mut condition: F) -> Result<T, String>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, String>>,
{
    let end = Instant::now() + deadline;
    loop {
        let asked = timeout(deadline + ANSWER, condition()).await;
        match asked.unwrap_or_else(|_| Err("no answer".to_owned())) {
            Ok(value) => return Ok(value),
            Err(reason) if Instant::now() >= end => return Err(reason),
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}

/// The result of `future`, which must be there within `deadline`.
pub async fn within<T>(what: &str, deadline: Duration, future: impl Future<Output = T>) -> T {
    match timeout(deadline, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {deadline:?}"),
    }
}
