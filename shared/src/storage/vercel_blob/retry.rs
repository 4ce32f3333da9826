//! How often a request is tried, and how long is waited in between: a moment's trouble is passed over here, an outage is left
//! to the queue of jobs, which does not hold a worker meanwhile. But for the parts of an upload, which nobody can go on with
//! later: an outage that ended it would take all that has arrived along.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};

use super::super::StorageError;

/// The first wait: a connection that was cut can mostly be made again at once.
const FIRST_WAIT: Duration = Duration::from_millis(250);

/// What is passed over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Endurance {
    /// Requests after the first.
    retries: usize,
    /// The longest wait.
    longest_wait: Duration,
    /// A longer wait that the service asks for is the caller's.
    asked_max: Duration,
}

/// A quarter of a minute at least, which a restart of a proxy takes. The service's limits count by the minute (`retry-after` of
/// a 429).
pub(super) const MOMENT: Endurance =
    Endurance { retries: 6, longest_wait: Duration::from_secs(10), asked_max: Duration::from_secs(60) };
/// Ten minutes at least, which most outages of a line or a service do not take.
pub(super) const OUTAGE: Endurance =
    Endurance { retries: 28, longest_wait: Duration::from_secs(30), asked_max: Duration::from_secs(600) };

/// Tries until it succeeds, fails for good, or has failed too often. Waits are doubled, with jitter, and never shorter than
/// the service asks.
///
/// # Errors
/// The last one.
pub(super) async fn retried<T, F>(endurance: Endurance, request: impl FnMut() -> F) -> Result<T, StorageError>
where
    F: Future<Output = Result<T, StorageError>>,
{
    request
        .retry(waits(endurance))
        .when(|error| matches!(error, StorageError::Unavailable { .. }))
        .adjust(|error, wait| match (wait, error.retry_after()) {
            (Some(_), Some(asked)) if asked > endurance.asked_max => None,
            (Some(wait), Some(asked)) => Some(wait.max(asked)),
            (wait, _) => wait,
        })
        .await
}

fn waits(endurance: Endurance) -> ExponentialBuilder {
    ExponentialBuilder::new()
        .with_min_delay(FIRST_WAIT)
        .with_max_delay(endurance.longest_wait)
        .with_max_times(endurance.retries)
        .with_jitter()
}

#[cfg(test)]
mod tests {
    use backon::BackoffBuilder;

    use super::*;

    #[test]
    fn an_upload_that_cannot_be_resumed_outlasts_ten_minutes() {
        let seconds = |endurance| waits(endurance).build().sum::<Duration>().as_secs();
        assert!((15..60).contains(&seconds(MOMENT)), "{}", seconds(MOMENT));
        assert!((600..3_600).contains(&seconds(OUTAGE)), "{}", seconds(OUTAGE));
    }
}
