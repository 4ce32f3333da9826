//! How the queue waits for a database that does not answer: with limits, and never for ever on one call.

use std::time::Duration;

/// One call to the database. Long enough for a claim behind a checkpoint on a slow disk, short enough that a connection whose
/// other end vanished without a word is noticed within half a lease (20 s).
pub(super) const DB_CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// The first wait after a failed call: a killed connection is usually replaced at once.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest wait between two calls: after an outage, work goes on within this time.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Waits that double from [`FIRST_WAIT`] to [`LONGEST_WAIT`].
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST_WAIT, longest: LONGEST_WAIT }
    }
}

impl Backoff {
    /// Waits that also stay below `longest`.
    pub(super) fn up_to(longest: Duration) -> Self {
        Self { next: FIRST_WAIT.min(longest), longest: LONGEST_WAIT.min(longest) }
    }

    pub(super) async fn wait(&mut self) {
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).min(self.longest);
    }
}

/// Runs one database call within [`DB_CALL_TIMEOUT`].
pub(super) async fn limited<T>(call: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    match tokio::time::timeout(DB_CALL_TIMEOUT, call).await {
        Ok(result) => result,
        Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
    }
}
