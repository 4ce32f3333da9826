//! What every job is given: the database, the clock, the folders, the storage, and the settings that shape its work.

use std::sync::Arc;
use std::time::Duration;

use shared::clock::{SharedClock, Timestamp};
use shared::settings::{MediaDefaults, Retention};
use shared::spool::Spool;
use shared::storage::{KeyTemplate, Storages};
use sqlx::PgPool;

use crate::metrics::Metrics;
use crate::scratch::Scratch;

/// Everything a job may use; cheap to clone.
#[derive(Clone)]
pub struct Ctx {
    /// Postgres.
    pub db: PgPool,
    /// The time.
    pub clock: SharedClock,
    /// Where captures and staged outputs wait.
    pub spool: Spool,
    /// Where finished files go.
    pub storage: Storages,
    /// How they are named there.
    pub keys: KeyTemplate,
    /// Where this process works.
    pub scratch: Arc<Scratch>,
    /// What outputs are when their owner did not say.
    pub media: MediaDefaults,
    /// When finished recordings are deleted.
    pub retention: Retention,
    /// How long a capture outlives its recording's completion.
    pub capture_keep: Duration,
    /// How long the sweeper waits, after a deadline and after this process' start, for an edge to act itself; and the cleanup,
    /// after an upload was begun, for a worker to note it.
    pub sweep_patience: Duration,
    /// When this process started.
    pub started_at: Timestamp,
    /// Threads that one encoding FFmpeg may use.
    pub ffmpeg_threads: usize,
    /// What Prometheus is told.
    pub metrics: Metrics,
}

impl Ctx {
    /// Now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Runs file work off the async threads.
    ///
    /// # Errors
    /// Those of the work itself, or when it panicked.
    pub async fn blocking<T, F>(&self, work: F) -> anyhow::Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> anyhow::Result<T> + Send + 'static,
    {
        tokio::task::spawn_blocking(work).await?
    }
}
