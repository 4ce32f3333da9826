//! How often a request is tried, and how long is waited in between: a moment's trouble is passed over here, an outage is left
//! to the queue of jobs, which does not hold a worker meanwhile.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};

use super::super::StorageError;

/// Requests after the first: with the waits below, a quarter of a minute at least, which a restart of a proxy takes.
const RETRIES: usize = 6;
/// The first wait: a connection that was cut can mostly be made again at once.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// A longer wait that the service asks for is the caller's: its limits count by the minute (`retry-after` of a 429).
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// Tries until it succeeds, fails for good, or has failed too often. Waits are doubled, with jitter, and never shorter than
/// the service asks.
///
/// # Errors
/// The last one.
pub(super) async fn retried<T, F>(request: impl FnMut() -> F) -> Result<T, StorageError>
where
    F: Future<Output = Result<T, StorageError>>,
{
    let waits = ExponentialBuilder::new()
        .with_min_delay(FIRST_WAIT)
        .with_max_delay(LONGEST_WAIT)
        .with_max_times(RETRIES)
        .with_jitter();
    request
        .retry(waits)
        .when(|error| matches!(error, StorageError::Unavailable { .. }))
        .adjust(|error, wait| match (wait, error.retry_after()) {
            (Some(_), Some(asked)) if asked > RETRY_AFTER_MAX => None,
            (Some(wait), Some(asked)) => Some(wait.max(asked)),
            (wait, _) => wait,
        })
        .await
}
