//! What a job's error means for the job: the only thing that a handler tells the queue.

use std::time::Duration;

/// Why an attempt failed, and what happens next. `?` on an [`anyhow::Error`] means [`Failure::Retry`]; giving up is always
/// spelled out.
#[derive(Debug)]
pub enum Failure {
    /// Try again after the usual backoff (2 s, 4 s, … 10 min), until the attempts are used up; then the job is dead.
    Retry(anyhow::Error),
    /// Try again after this time, as when a server said `Retry-After`; it counts as an attempt.
    RetryIn(Duration, anyhow::Error),
    /// No attempt can succeed: the job is dead at once.
    GiveUp(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Retry(error)
    }
}
