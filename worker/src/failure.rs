//! What a job's error means for the job: the only thing that a handler tells the queue.

use std::time::Duration;

use anyhow::anyhow;
use shared::storage::StorageError;

/// The longest that a server may ask to wait: that of the usual backoff.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10 * 60);

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
    /// What storage says is told with its code and its cure, and tried again when storage asks for it.
    fn from(error: anyhow::Error) -> Self {
        let Some(storage) = error.downcast_ref::<StorageError>() else { return Self::Retry(error) };
        let told = anyhow!("{}: {error:#}; cure: {}", storage.code(), storage.advice());
        match storage.retry_after() {
            Some(after) => Self::RetryIn(after.min(RETRY_AFTER_MAX), told),
            None => Self::Retry(told),
        }
    }
}

impl Failure {
    /// The same, but tried again within `limit` where the usual backoff of this attempt may be longer.
    #[must_use]
    pub fn within(self, limit: Duration, attempt: u32) -> Self {
        let usual = Duration::from_secs(1 << attempt.min(10)).min(RETRY_AFTER_MAX);
        match self {
            Self::Retry(error) if usual > limit => Self::RetryIn(limit, error),
            Self::RetryIn(wait, error) => Self::RetryIn(wait.min(limit), error),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn what_storage_says_comes_with_its_code_and_its_cure() {
        let of = |error: StorageError| Failure::from(anyhow::Error::from(error));
        let Failure::Retry(told) = of(StorageError::Full("quota".to_owned())) else { panic!("a retry") };
        assert_eq!(
            told.to_string(),
            "storage-full: storage is full: quota; cure: free space, raise the quota, or shorten RECORDING_RETENTION_DAYS"
        );
        for (asked_s, wait_s) in [(7, 7), (86_400, 600)] {
            let retry_after = Some(Duration::from_secs(asked_s));
            let slow_down = StorageError::Unavailable { reason: "SlowDown".to_owned(), retry_after };
            let Failure::RetryIn(wait, told) = of(slow_down) else { panic!("a wait") };
            assert_eq!(wait, Duration::from_secs(wait_s));
            assert!(told.to_string().starts_with("storage-unavailable: "), "{told}");
        }
        let soon = Duration::from_secs(3);
        assert!(
            matches!(Failure::Retry(anyhow!("x")).within(soon, 1), Failure::Retry(_)),
            "it is within anyway"
        );
        let Failure::RetryIn(wait, _) = Failure::Retry(anyhow!("x")).within(soon, 2) else {
            panic!("a wait")
        };
        assert_eq!(wait, soon);
        let other = Failure::from(anyhow!("no such table").context("look it up"));
        assert!(
            matches!(other, Failure::Retry(error) if format!("{error:#}") == "look it up: no such table")
        );
        let wrapped = Err::<(), _>(StorageError::NoBucket("b".to_owned())).context("abort").unwrap_err();
        let Failure::Retry(told) = Failure::from(wrapped) else { panic!("a retry") };
        assert!(
            told.to_string().starts_with("storage-no-bucket: abort: there is no bucket b; cure: "),
            "{told}"
        );
    }
}
