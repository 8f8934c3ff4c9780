//! How a handler fails.

use std::fmt;

/// A handler's failure, made from any error with `?`. It may pass: the call is tried again.
///
/// What is for good is not a failure: [`Turn::reject`](crate::Turn::reject).
pub struct Failure(String);

/// What handlers return.
pub type Result<T = (), E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// One of this text, for logs and rejections.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(crate) fn into_text(self) -> String {
        self.0
    }
}

// Not an `Error` itself: so that every error can be made one.
impl<E: Into<Box<dyn std::error::Error + Send + Sync>>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into().to_string())
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
